import dataclasses
import math

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from report.synthetic import Grid, write
from secateur.report import plots, theme
from secateur.report.aggregate import GridPoint, aggregate, distances
from secateur.report.curve_figures import draw_curves
from secateur.report.figures import draw, draw_distances
from secateur.report.intervals import Estimate
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.plots import Mark, Style, draw_line
from secateur.stats import median_interval

STYLE = Style("#0072b2", robust=True)


def line(marks):
    axes = Figure().subplots()
    axes.set_xlim(0, 1)
    used = draw_line(axes, marks, STYLE)
    return axes, used


def mark(x, y, grade="A", values=()):
    return Mark(x, None if y is None else Estimate(values, y), grade)


def check_that_a_gap_is_a_gap():
    axes, used = line([mark(0.0, 3.0), mark(0.2, None), mark(0.4, 1.0)])
    heights = axes.lines[0].get_ydata()
    assert math.isnan(heights[1])
    assert (heights[0], heights[2]) == (3.0, 1.0)
    assert "X" in used
    assert [drawn.get_marker() for drawn in axes.lines].count("x") == 1


def test_a_missing_result_breaks_the_line_and_is_marked():
    check_that_a_gap_is_a_gap()


def test_interpolating_over_a_gap_is_caught(monkeypatch):
    monkeypatch.setattr(plots, "_height", lambda m, top: 2.0 if m.estimate is None else m.estimate.mean)
    with pytest.raises(AssertionError):
        check_that_a_gap_is_a_gap()


def test_an_infinite_median_stands_at_the_upper_edge_and_not_on_the_axis():
    axes, used = line([mark(0.0, 3.0), mark(0.2, math.inf)])
    assert math.isnan(axes.lines[0].get_ydata()[1])
    (sign,) = [drawn for drawn in axes.lines if drawn.get_marker() == "^"]
    assert sign.get_ydata()[0] == 0.97
    assert sign.get_transform() != axes.transData
    assert "inf" in used


@pytest.mark.parametrize("distance", [90.0, math.inf])
def test_a_network_at_chance_stands_below_the_axis_however_far_it_seems(distance):
    axes, used = line([mark(0.0, 3.0), Mark(0.2, Estimate((), distance, 50.0, 100.0), "A", "collapsed")])
    assert math.isnan(axes.lines[0].get_ydata()[1])
    assert used == {"collapsed"}
    assert axes.get_ylim()[1] < 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (("standard",), {"collapsed though fine-tuned"}),
        (("none",), {"collapsed, not fine-tuned"}),
        (("none", "standard"), {"collapsed though fine-tuned", "collapsed, not fine-tuned"}),
        ((), set()),
    ],
)
def test_a_figure_says_whether_a_collapsed_network_was_fine_tuned(tmp_path, lost, said):
    def edit(cell, science):
        axes = cell["axes"]
        if axes["sparsity"] == 0.8 and cell["stage"] in ("prune", "tune"):
            science = science | {"collapsed": axes["arm"] in lost}
        return science

    made = Grid(edit=edit, models={"plain": False}, attacks={"ddn": 2.0}, failed=(), grade_c=())
    grid = aggregate(load(write(tmp_path / "run", made)))
    drawn = {drawing.stem: drawing for drawing in draw(grid, changes(grid))}
    for stem in ("robust-ddn-standard", "left-ddn-standard", "distances-ddn-standard"):
        figure = drawn[stem].figure
        legend = {text.get_text() for text in figure.legends[0].get_texts()}
        assert {text for text in legend if "collapsed" in text} == said
        assert ("whose accuracy is near chance" in drawn[stem].caption) == bool(said)
        # Both signs of one place are seen.
        places = {
            (round(x, 6), y)
            for axes in figure.axes for line in axes.lines if line.get_marker() in ("d", "D")
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        }  # fmt: skip
        assert len({y for _, y in places}) == len(said)


@pytest.mark.slow
def test_in_a_figure_without_fine_tuning_no_collapsed_network_is_called_fine_tuned(tmp_path):
    def edit(cell, science):
        return science | {"collapsed": True} if cell["stage"] == "prune" else science

    made = Grid(
        edit=edit, models={"plain": False}, attacks={"ddn": 2.0}, arms=("none",), failed=(), grade_c=()
    )
    grid = aggregate(load(write(tmp_path / "run", made)))
    for drawing in draw(grid, changes(grid)):
        texts = [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]
        assert "collapsed though fine-tuned" not in texts
        if drawing.stem.startswith(("robust", "left", "distances")):
            assert "collapsed, not fine-tuned" in texts


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_signs_of_several_models_stand_beside_each_other_on_every_axis(scale, tmp_path):
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_xscale(scale)
    axes.set_xlim(0.002, 1.3)
    for offset in (-0.02, 0.0, 0.02):
        collapsed = Mark(0.003, Estimate((0.1,), 0.1), word="collapsed")
        draw_line(axes, [collapsed, mark(0.9, 1.0)], Style("C0", robust=False, offset=offset))
    signs = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "d"]
    places = axes.transAxes.inverted().transform(axes.transData.transform([(x, 1.0) for x in signs]))[:, 0]
    assert places[1] - places[0] == pytest.approx(0.02, abs=1e-3)
    assert places[2] - places[1] == pytest.approx(0.02, abs=1e-3)
    # A sign far outside takes the room of everything else: the layout is then given up with a warning.
    with theme.themed():
        theme.save(figure, tmp_path, "signs")
    assert figure.axes[0].get_position().height > 0.5


def test_what_lies_beyond_the_axis_is_said_and_does_not_stretch_it():
    axes = Figure().subplots()
    used = draw_line(axes, [mark(0.0, 1.0), mark(0.2, 30.0, "C")], STYLE, ceiling=1.4)
    assert math.isnan(axes.lines[0].get_ydata()[1])
    assert used == {"beyond"}


@pytest.mark.slow
def test_shares_end_where_belief_does(tmp_path):
    """The axis of what is left is set by networks above chance with a grade above C."""

    def far(cell, science):
        if cell["axes"]["sparsity"] == 0.8 and "distances" in science:
            away = [None if d is None else 100 * d for d in science["distances"]["l2"]]
            science = {**science, "grade": "C", "distances": {**science["distances"], "l2": away}}
        return science

    settings = {"models": {"robust": True}, "attacks": {"ddn": 2.0}, "failed": (), "grade_c": ()}
    grid = aggregate(load(write(tmp_path / "run", Grid(name="far", edit=far, **settings))))
    (drawing,) = [d for d in draw(grid, changes(grid)) if d.stem == "left-ddn-standard"]
    assert all(axes.get_ylim()[1] < 3 for axes in drawing.figure.axes)


def test_an_unreliable_point_is_hollow():
    axes, used = line([mark(0.0, 3.0), mark(0.2, 2.0, "C")])
    sure, unsure = [drawn for drawn in axes.lines if drawn.get_marker() == "s"]
    assert (list(sure.get_xdata()), list(unsure.get_xdata())) == ([0.0], [0.2])
    assert to_hex(unsure.get_markerfacecolor()) == theme.PAPER
    assert to_hex(sure.get_markerfacecolor()) == STYLE.colour
    assert used == {"C"}


def test_two_seeds_are_shown_one_by_one_and_three_as_an_interval():
    axes, used = line([mark(0.0, 3.0, values=(2.0, 4.0))])
    (seeds,) = [drawn for drawn in axes.lines if drawn.get_marker() == "_"]
    assert list(seeds.get_ydata()) == [2.0, 4.0]
    assert used == {"seeds"}
    _, used = line([Mark(0.0, Estimate((1.0, 2.0, 3.0), 2.0, 0.5, 3.5))])
    assert used == {"interval"}


@pytest.fixture(scope="module")
def drawings(grid, change):
    with theme.themed():
        yield list(draw(grid, change))


@pytest.mark.slow
def test_the_figures_of_the_thesis_are_there(drawings):
    """Robust and non-robust networks apart, as in its figures 4.1 to 4.8."""
    kinds = ("non-robust", "robust")
    attacked = [
        f"{what}-{attack}-standard-{kind}"
        for attack in ("ddn", "fmn-linf")
        for kind in kinds
        for what in ("robust", "curves", "left")
    ]
    costs = [f"{what}-{kind}" for what in ("cost", "accuracy-standard") for kind in kinds]
    distances = [f"distances-{attack}-standard-{kind}" for attack in ("ddn", "fmn-linf") for kind in kinds]
    assert [drawing.stem for drawing in drawings] == attacked + costs + distances
    for drawing in drawings:
        labels = {text.get_text() for text in drawing.figure.legends[0].get_texts()}
        words = {name for name in ("plain (non-robust)", "robust (robust)") if name in labels}
        titles = {text.get_text() for axes in drawing.figure.axes for text in axes.texts}
        words |= {text.replace("\n", " ") for text in titles}
        assert words == {"plain (non-robust)" if drawing.stem.endswith("non-robust") else "robust (robust)"}


def test_the_rows_of_a_figure_share_one_axis(grid, change, drawings):
    """Budgets have one axis per norm over all models; distances one per norm over all criteria."""
    both = dataclasses.replace(grid, robust=dict.fromkeys(grid.models, True))
    with theme.themed():
        drawn = [
            draw_curves(both, "ddn", "standard"),
            *(d for d in drawings if d.stem.startswith("distances")),
        ]
    curves, *distances = (drawing.figure.axes for drawing in drawn)
    assert len(curves) == 4
    assert len({axes.get_xlim() for axes in curves}) == 1
    for panels in distances:
        assert len(panels) == 8
        for column in range(4):
            assert panels[column].get_ylim() == panels[column + 4].get_ylim()
            assert panels[column].get_xlim() == panels[column + 4].get_xlim()


def test_the_median_of_one_training_has_the_interval_over_its_images(tmp_path):
    settings = {"models": {"m": False}, "seeds": (0,), "sparsities": (0, 0.5), "attacks": {"ddn": 2.0}}
    grid = aggregate(load(write(tmp_path / "run", Grid(failed=(), grade_c=(), **settings))))
    point = grid.points[GridPoint("m", "l1", 0.5, "standard", "ddn")]
    low, high = median_interval(distances(point.attacks[0], "l2", "correct"))
    with theme.themed():
        panel = draw_distances(grid, "ddn", "standard").figure.axes[2]
    drawn = [list(line.get_ydata()) for line in panel.lines if line.get_linewidth() == 0.9]
    assert any([low, high] == ys[3:5] for ys in drawn)


def test_an_interval_without_an_end_reaches_the_edge_and_does_not_stretch_the_axis():
    axes, _ = line([Mark(0.0, Estimate((3.0,), 3.0, 2.0, math.inf)), mark(0.2, 4.0)])
    (bar,) = [drawn for drawn in axes.lines if list(drawn.get_xdata()) == [0.0, 0.0]]
    assert bar.get_ydata()[0] == 2.0
    assert bar.get_ydata()[1] > axes.get_ylim()[1]
    assert axes.get_ylim()[1] < 10


def test_distances_have_a_row_per_criterion_and_a_column_per_norm(drawings):
    figure = next(d.figure for d in drawings if d.stem == "distances-ddn-standard-non-robust")
    assert [axes.get_title() for axes in figure.axes[:4]] == ["L₀", "L₁", "L₂ (minimised)", "L∞"]
    assert [axes.get_ylabel() for axes in figure.axes[::4]] == ["l1", "random"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "plain (non-robust)" in labels
    assert "grade C: unreliable" in labels
    dashes = {drawn.get_linestyle() for drawn in figure.axes[2].lines} - {"None"}
    robust = next(d.figure for d in drawings if d.stem == "distances-ddn-standard-robust")
    solid = {drawn.get_linestyle() for drawn in robust.axes[2].lines} - {"None"}
    assert "-" not in dashes
    assert "-" in solid


@pytest.mark.slow
def test_a_failed_pruning_leaves_a_gap_in_every_figure(tmp_path):
    failed = (("prune", "plain", 0, "l1", 0.4, None, None),)
    settings = {"models": {"plain": False}, "seeds": (0,), "criteria": ("l1",), "attacks": {"ddn": 2.0}}
    grid = aggregate(load(write(tmp_path / "run", Grid(failed=failed, grade_c=(), **settings))))
    with theme.themed():
        for drawing in draw(grid, changes(grid)):
            if drawing.stem.startswith("curves"):
                assert len(drawing.figure.axes[0].lines) == 4 + 1 + 1  # the dense network, the leading budget
                continue
            long = [drawn for drawn in drawing.figure.axes[0].lines if len(drawn.get_xdata()) == 5]
            assert long
            assert all(math.isnan(drawn.get_ydata()[2]) for drawn in long)
            beside = [d for d in drawing.figure.axes[1].lines if len(d.get_xdata()) == 5]
            assert all(math.isnan(drawn.get_ydata()[2]) for drawn in beside)
            assert "no result" in [text.get_text() for text in drawing.figure.legends[0].get_texts()]


def test_every_figure_says_in_words_what_it_shows(drawings):
    for drawing in drawings:
        assert len(drawing.alt) > 40
        assert drawing.caption.endswith(".")


@pytest.mark.slow
def test_a_figure_is_the_same_to_the_byte_when_made_again(grid, change, tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with theme.themed():
            drawing = next(draw(grid, change))
            paths = theme.save(drawing.figure, tmp_path / name, drawing.stem)
            made.append([*(path.read_bytes() for path in paths), theme.svg(drawing.figure)])
    assert made[0] == made[1]


def test_a_figure_with_a_date_in_it_is_caught(tmp_path):
    with theme.themed():
        figure = Figure()
        figure.savefig(tmp_path / "dated.pdf")
        _, clean = theme.save(figure, tmp_path, "clean")
    assert b"CreationDate" in (tmp_path / "dated.pdf").read_bytes()
    assert b"CreationDate" not in clean.read_bytes()


HOSTILE = ["<script>", r"$\frac{$", "a$b$c", "=cmd()", "模型\x00🦊", "x" * 300]


@pytest.mark.slow
def test_hostile_names_are_drawn_as_text(tmp_path):
    settings = {"seeds": (0,), "criteria": HOSTILE[:1], "attacks": {HOSTILE[1]: 2.0}, "failed": ()}
    models = dict.fromkeys(HOSTILE, False)
    grid = aggregate(load(write(tmp_path / "run", Grid(models=models, sparsities=(0, 0.5), **settings))))
    with theme.themed():
        for drawing in draw(grid, changes(grid)):
            assert "<script>" not in theme.svg(drawing.figure)
            assert set(drawing.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert theme.label(HOSTILE[4]) == "模型".translate(dict.fromkeys(map(ord, "模型"), "\ufffd")) + " \ufffd"


def test_the_dark_figure_keeps_the_scale_of_its_letters(drawings):
    svg = theme.svg(drawings[0].figure)
    assert "prefers-color-scheme: dark" in svg
    assert "scale(0.015625)" in svg


@pytest.mark.slow
def test_figures_whose_names_collide_get_files_of_their_own(tmp_path):
    settings = {"models": {"m": False}, "seeds": (0,), "criteria": ("l1",), "failed": (), "grade_c": ()}
    attacks = {"ddn_1": 2.0, "ddn-1": 2.0}
    grid = aggregate(load(write(tmp_path / "run", Grid(attacks=attacks, sparsities=(0, 0.5), **settings))))
    with theme.themed():
        stems = [drawing.stem for drawing in draw(grid, changes(grid))]
    assert len(set(stems)) == len(stems) == 10


@pytest.mark.slow
def test_a_model_without_the_arm_of_a_figure_has_no_row_and_no_line(tmp_path):
    """Of two models only one is fine-tuned adversarially: its figure would show the other dense alone."""
    settings = {"criteria": ("l1",), "sparsities": (0.0, 0.5), "seeds": (0,), "attacks": {"ddn": 2.0}}
    arms = ("none", "standard", "adversarial")
    study = load(write(tmp_path / "run", Grid(arms=arms, failed=(), grade_c=(), **settings)))

    def kept(axes):
        return axes.model == "robust" or axes.arm != "adversarial"

    study = dataclasses.replace(
        study,
        robust={"plain": True, "robust": True},
        networks=tuple(each for each in study.networks if kept(each.axes)),
        attacks=tuple(each for each in study.attacks if kept(each.axes)),
        planned=tuple((axes, stage) for axes, stage in study.planned if kept(axes)),
    )
    grid = aggregate(study)
    with theme.themed():
        drawn = {drawing.stem: drawing for drawing in draw(grid, changes(grid))}
    for arm, models in (("standard", 2), ("adversarial", 1)):
        assert len(drawn[f"curves-ddn-{arm}"].figure.axes) == models
        for stem in (f"robust-ddn-{arm}", f"left-ddn-{arm}", f"accuracy-{arm}", f"distances-ddn-{arm}"):
            labels = [text.get_text() for text in drawn[stem].figure.legends[0].get_texts()]
            assert ("plain (robust)" in labels) == (models == 2)
            assert "robust (robust)" in labels
        assert ("plain from" in drawn[f"robust-ddn-{arm}"].alt) == (models == 2)
    assert "plain from no result" not in drawn["cost"].alt


@pytest.mark.slow
def test_a_figure_is_not_written_through_a_link(tmp_path, grid, change):
    (tmp_path / "mine").write_text("mine")
    for suffix in ("png", "pdf"):
        (tmp_path / f"a.{suffix}").symlink_to(tmp_path / "mine")
    theme.save(next(iter(draw(grid, change))).figure, tmp_path, "a")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "a.png").is_symlink()
