"""Accuracy and robust accuracy lead; a network that has lost its accuracy never looks robust."""

import dataclasses
import re

import pytest
from matplotlib.figure import Figure

from report.surfaces import data_of, only, plain, show
from report.synthetic import Grid, write
from secateur.report import curve_figures, report, theme
from secateur.report.aggregate import aggregate
from secateur.report.figures import draw
from secateur.report.load import load
from secateur.report.page import render
from secateur.report.paired_changes import changes
from secateur.report.robustness import (
    Budget,
    leading_budget,
    left_text,
    robust_share,
    stated_budgets,
)
from secateur.report.summary import summary
from secateur.stats import wilson

SMALL = {
    "models": {"m": False},
    "criteria": ("l1",),
    "seeds": (0,),
    "sparsities": (0, 0.5),
    "attacks": {"ddn": 2.0},
    "failed": (),
    "grade_c": (),
}


def study(path, edit=None, **settings):
    changed = {"edit": edit} if edit else {}
    return show(write(path / "run", Grid(**SMALL | settings | changed)))


def lost(accuracy, factor, *, collapsed=False):
    """The pruned network keeps this accuracy, and its examples are ``factor`` as far away."""

    def edit(cell, science):
        if cell["axes"]["sparsity"] == 0:
            return science
        if cell["stage"] != "attack":
            return science | {"accuracy": {"test": accuracy}, "collapsed": collapsed}
        kept = round(accuracy * len(science["outcome"]))
        right = [i for i, outcome in enumerate(science["outcome"]) if outcome != "already_wrong"][:kept]
        outcome = ["already_wrong"] * len(science["outcome"])
        distances = {norm: [0.0] * len(outcome) for norm in science["distances"]}
        for i in right:
            outcome[i] = "found"
            for norm, values in science["distances"].items():
                distances[norm][i] = factor * (values[i] or 1.0)
        return science | {"outcome": outcome, "distances": distances, "grade": "A"}

    return edit


def fixed(sizes, found):
    """An attack of fixed size that finds the first ``found[i]`` images at its i-th size."""

    def edit(cell, science):
        if cell["stage"] != "attack":
            return science
        n = len(science["outcome"])
        hits = [[i < count for i in range(n)] for count in found]
        outcome = ["found" if hit else "not_found" for hit in hits[-1]]
        # As a float32 attack returns them: a little more than the size that it was given.
        values = [1.0000001 * sizes[-1] if hit else None for hit in hits[-1]]
        science |= {
            "kind": "fixed-eps",
            "outcome": outcome,
            "distances": dict.fromkeys(science["distances"], values),
        }
        science["settings"] = {"eps": sizes[0] if len(sizes) == 1 else list(sizes)}
        if len(sizes) > 1:
            science["sizes"] = [{"eps": e, "found": h} for e, h in zip(sizes, hits, strict=True)]
        return science

    return edit


def test_a_wrong_image_is_not_robust_on_any_surface(tiny):
    images = [("already_wrong", 0.0)] * 2 + [
        ("found", 0.1),
        ("found", 0.6),
        ("found", 2.0),
        ("not_found", None),
    ]
    shown = show(
        tiny(dict.fromkeys([(s, arm, 0) for s in (0.0, 0.5) for arm in ("none", "standard")], images))
    )
    at = {
        float(row["epsilon"]): row
        for row in shown.robust
        if row["arm"] == "standard" and row["sparsity"] == "0.5"
    }
    assert {eps: float(row["robust_accuracy"]) for eps, row in at.items()} == {
        0.25: 0.5,
        0.5: 0.5,
        1.0: pytest.approx(2 / 6),
    }
    assert [float(row["clean_accuracy"]) for row in at.values()] == [pytest.approx(4 / 6)] * 3
    low, high = wilson(3, 6)
    assert (float(at[0.5]["low"]), float(at[0.5]["high"])) == (low, high)
    assert all("67→" in row[-1] for row in shown.terminal)


@pytest.mark.slow
def test_budgets_are_those_of_the_study_in_every_place(tmp_path):
    asked = study(tmp_path, config={"epsilons": {"l2": [0.2, 0.35]}})
    assert sorted({float(row["epsilon"]) for row in asked.robust}) == [0.2, 0.35]
    (attack,) = data_of(asked.html)["attacks"]
    assert attack["budgets"] == [[0.2, "0.2"], [0.35, "0.35"]]
    usual = study(tmp_path / "other")
    assert sorted({float(row["epsilon"]) for row in usual.robust}) == [0.25, 0.5, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distances", "budget"), [([0.3] * 3 + [9.0] * 3, 0.5), ([0.1] * 3 + [9.0] * 3, 0.25), ([9.0] * 6, 0.25)]
)
def test_the_leading_budget_halves_the_accuracy_of_the_dense_network_and_the_smaller_wins(
    tiny, distances, budget
):
    results = {(s, arm, 0): [("found", 0.01)] * 6 for s in (0.0, 0.5) for arm in ("none", "standard")}
    results[0.0, "none", 0] = [("found", d) for d in distances]
    grid = show(tiny(results)).grid
    assert leading_budget(grid, "ddn") == Budget(budget, "l2", f"{budget:g}")


@pytest.mark.slow
def test_eight_bit_images_have_budgets_in_255ths(tmp_path):
    def edit(cell, science):
        return science | {"levels": 256, "bounds": [0.0, 1.0]} if cell["stage"] == "attack" else science

    shown = study(tmp_path, edit, attacks={"fmn-linf": float("inf")})
    assert [budget.text for budget in stated_budgets(shown.grid, "fmn-linf")] == [
        "1/255",
        "2/255",
        "4/255",
        "8/255",
    ]
    assert re.fullmatch(r"FMN L∞≤[1248]/255", shown.heads[-1])
    assert "/255" in shown.markdown
    assert r"$\leq$ " in shown.latex
    with theme.themed():
        (drawn,) = [d.figure for d in draw(shown.grid, shown.change) if d.stem.startswith("curves")]
        drawn.draw_without_rendering()
    assert any(text.get_text().endswith("/255") for text in drawn.axes[0].get_xticklabels())


def test_every_surface_leads_with_accuracy_and_robust_accuracy_beside_the_multiply_adds(tmp_path):
    shown = study(tmp_path)
    said = (
        r"m at sparsity 0\.5 \(fine-tuned\): accuracy goes from \d+ % to \d+ % \(l1\)\. Robust accuracy at "
        r"L₂ ≤ [\d.]+ \(DDN\) goes from [\d.]+ % to [\d.]+ % \(l1\)\. 25 % of the multiply-adds are left\."
    )
    assert re.search(said, shown.page)
    assert shown.page.index("Robust accuracy at") < shown.page.index("distance")
    keys = list(shown.rows[0])
    assert (
        keys.index("test_accuracy") < keys.index("robust_accuracy") < keys.index("macs") < keys.index("left")
    )
    assert shown.heads[3:5] == ("acc.", "MACs")
    assert "| robust accuracy (95 % interval) |" in shown.cards["m-l1-0.5-standard.md"]
    assert shown.markdown.splitlines()[0].count("|") - 1 == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lost(0.10, 3.0, collapsed=True), "collapsed"),
        (lost(0.22, 3.0), "too few images"),
        (lambda c, s: s | {"collapsed": True} if c["stage"] == "train" else s, "dense at chance"),
    ],
)
def test_no_share_of_a_distance_where_the_network_has_lost_its_accuracy(tmp_path, edit, word):
    shown = study(tmp_path, edit)
    for row in (row for row in shown.rows if row["sparsity"] == "0.5"):
        assert (row["grade"], row["left"], row["left_state"]) == ("C", "", word)
        assert re.fullmatch(rf"{word} \(accuracy \d+ %\)", plain(row["distance_left"]))
    # Files with every number say it in a column, short tables in place of the percentage.
    remark = "" if word == "too few images" else word
    for row in (*shown.rows, *shown.robust):
        near = row["sparsity"] == "0.5" or word == "dense at chance"
        assert row["remark"] == (remark if near else "")
    for line in shown.markdown.splitlines():
        if "l1 0.5" in line:
            assert (line.split(" | ")[5] == remark) == bool(remark)
    pruned = [row for row in shown.terminal if row[1] == "l1 0.5"]
    assert all(row[-1].endswith(f"{word} C") for row in pruned)
    # No number of a network near chance stands beside its word.
    assert all((row[-1] == f"{word} C") == (word != "too few images") for row in pruned)
    for text in (shown.markdown, shown.latex.replace("\\", ""), *shown.cards.values()):
        assert f"{word} (accuracy" in text
    section = shown.html[shown.html.index('<section id="left">') : shown.html.index('<section id="table">')]
    assert re.search(rf'class="tile grade-C" data-at="\d+"><b>{word}</b>', section)
    assert f", {word})" in shown.page
    # What is robust of a network near chance is no robustness either: the word stands in place of it.
    tile = re.search(rf'class="tile grade-C" data-at="\d+"><small>{word}</small>', shown.html)
    assert (tile is not None) == (word != "too few images")
    # Nor does the data of the page hold a share that its control could show.
    pruned = [point for point in data_of(shown.html)["points"] if point["sparsity"]]
    assert all(
        ("curve" in point, bool(point["robust"])) == (word == "too few images",) * 2 for point in pruned
    )
    for text in (shown.page, shown.markdown, *shown.cards.values()):
        assert not re.search(r"[23]\d\d %", text)
    with theme.themed():
        (drawing,) = [d for d in draw(shown.grid, shown.change) if d.stem.startswith("left")]
    heights = [y for axes in drawing.figure.axes for line in axes.lines for y in line.get_ydata()]
    assert max(y for y in heights if y == y) <= 1.05


@pytest.mark.slow
def test_more_than_all_of_the_distance_is_no_gain_where_accuracy_fell(tmp_path):
    shown = study(tmp_path, lost(0.6, 1.5))
    row = only(shown.rows, sparsity="0.5", arm="standard")
    assert float(row["left"]) > 1.1
    assert re.fullmatch(r"\d{3} % \(\d+ images, accuracy 60 %\)", plain(row["distance_left"]))
    (tile,) = re.findall(
        r'<td class="tile ([^>]*)><b>\d{3}.%</b><small class="interval">[^<]* to [^<]*%</small>'
        r"<small>\d+ images</small><small>acc. 60.%</small>",
        shown.html,
    )
    assert "--share" not in tile
    with theme.themed():
        (drawing,) = [d for d in draw(shown.grid, shown.change) if d.stem.startswith("left")]
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert "over 100 %, but accuracy fell" in labels
    lines = [xy for axes in drawing.figure.axes for line in axes.lines for xy in line.get_xydata()]
    assert max(y for x, y in lines if x == 0.5 and y == y) <= 1.0
    clean = dataclasses.replace(row_against(shown), state="")
    assert left_text(clean).endswith("accuracy 60\N{NO-BREAK SPACE}%)")


def row_against(shown):
    (found,) = [c.total for p, c in shown.change.items() if p.sparsity == 0.5 and p.arm == "standard"]
    return found


def test_an_attack_of_one_size_gives_one_number_with_its_interval_and_no_curve(tmp_path):
    shown = study(tmp_path, fixed([0.1], [88]))
    low, high = wilson(12, 100)
    assert [
        (float(r["epsilon"]), float(r["robust_accuracy"]), float(r["low"]), float(r["high"]))
        for r in shown.robust
    ] == [(0.1, pytest.approx(0.12), low, high)] * 4
    assert {row[-1] for row in shown.terminal} == {"100→12 [7, 20] A"}
    assert shown.heads[-1] == "DDN L₂≤0.1"
    assert "DDN, L₂ ≤ 0.1 | 100 % | 12 % (7.0 to 20 %)" in shown.cards["m-l1-0.5-standard.md"]
    assert {row["median"] for row in shown.rows} == {""}
    assert "∞" not in shown.page.replace("L∞", "")
    data = data_of(shown.html)
    assert data["attacks"][0]["budgets"] == [[0.1, "0.1"]]
    assert data["attacks"][0]["eps"] == [0.0, 0.1]
    with theme.themed():
        stems = {drawing.stem.split("-")[0] for drawing in draw(shown.grid, shown.change)}
    assert stems == {"robust", "cost", "accuracy"}


def test_a_list_of_sizes_gives_a_curve_through_the_sizes_that_were_tried(tmp_path):
    shown = study(tmp_path, fixed([0.1, 0.2, 0.4], [20, 50, 90]))
    assert [float(r["robust_accuracy"]) for r in shown.robust[:3]] == [
        pytest.approx(s) for s in (0.8, 0.5, 0.1)
    ]
    assert leading_budget(shown.grid, "ddn").epsilon == 0.2
    with theme.themed():
        (drawing,) = [d for d in draw(shown.grid, shown.change) if d.stem.startswith("curves")]
    (line, *_) = drawing.figure.axes[0].lines
    assert list(line.get_xdata()) == [0, 0.1, 0.2, 0.4]
    assert list(line.get_ydata()) == [pytest.approx(s) for s in (1, 0.8, 0.5, 0.1)]
    assert len(line.get_markevery()) == 3
    assert "at the marked sizes (0.1, 0.2, 0.4) and at no other" in drawing.caption


def test_what_a_targeted_attack_leaves_is_never_called_robust_accuracy(tmp_path):
    def edit(cell, science):
        return science | {"targeted": True} if cell["stage"] == "attack" else science

    shown = study(tmp_path, edit)
    assert {row["quantity"] for row in shown.rows + shown.robust} == {"target not reached"}
    assert all(row[-1].startswith("not reached ") for row in shown.terminal)
    assert "Target not reached at L₂ ≤" in shown.page
    assert "It says nothing about other classes" in shown.page
    assert "target not reached" in shown.markdown
    said = re.findall(r"robust accuracy [\d.]+ %|Robust accuracy at L", shown.page)
    assert said == []
    with theme.themed():
        drawn = [d for d in draw(shown.grid, shown.change) if d.stem.startswith(("robust", "curves"))]
    assert {axes.get_ylabel() for d in drawn for axes in d.figure.axes} & {"robust accuracy"} == set()
    assert all("target not reached" in drawing.title + drawing.alt for drawing in drawn)


@pytest.mark.slow
def test_two_trainings_claim_nothing_about_others_and_three_give_students_interval(tmp_path):
    two, three = (study(tmp_path / str(n), seeds=tuple(range(n))) for n in (2, 3))
    for text in (two.page, *two.cards.values()):
        assert "2 trainings per network: no interval over trainings" in text
    assert {row["interval_over"] for row in two.robust} == {"images"}
    assert {row["interval_over"] for row in three.rows} == {"trainings"}
    assert "Intervals are over 3 trainings (Student's t)" in three.page
    assert re.search(r"95 % interval [\d.]+ to \d+ %, over images; 100 images, 2 trainings", two.page)


@pytest.mark.slow
def test_the_terminal_fits_eighty_columns(run_folder, monkeypatch, capsys):
    from secateur.cli.output import print_table

    shown = show(run_folder)
    widths = [max(map(len, column)) for column in zip(shown.heads, *shown.terminal, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    monkeypatch.setenv("COLUMNS", "80")
    print_table(shown.title, shown.heads, shown.terminal)
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(shown.terminal)


def test_ticks_of_an_axis_in_grey_levels_do_not_collide():
    for top in (0.5 / 255, 3 / 255, 8 / 255, 64 / 255, 1.0):
        axes = Figure().subplots()
        axes.set_xlim(0, top)
        curve_figures.budget_axis(axes, top, "linf", levels=256)
        assert 2 <= len([tick for tick in axes.get_xticks() if 0 <= tick <= top]) <= 9


def test_a_size_that_was_not_tried_has_no_share(tmp_path):
    shown = study(tmp_path, fixed([0.1], [88]))
    point = next(iter(shown.grid.points.values()))
    assert robust_share(point, Budget(0.2, "l2", "0.2")) is None
    assert robust_share(point, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("collapsed", [False, True])
def test_a_dense_network_at_chance_is_said_first(tmp_path, collapsed):
    def edit(cell, science):
        dense = cell["stage"] == "train"
        return science | {"accuracy": {"test": 0.1}, "collapsed": collapsed} if dense else science

    paths = report(write(tmp_path / "run", Grid(**SMALL | {"edit": edit})))
    page = paths.index.read_text(encoding="utf-8")
    assert [model for model, _ in paths.warnings] == ["m"] * collapsed
    assert ("<strong>m</strong> is near chance before it is pruned (accuracy 10" in page) == collapsed


def test_the_command_that_repeats_a_study_names_its_plug_ins(tmp_path):
    folder = write(tmp_path / "run", Grid(**SMALL))
    grid = aggregate(load(folder))
    assert "--plugin" not in page_of(grid)
    named = dataclasses.replace(grid, study=dataclasses.replace(grid.study, plugins=("mine.py",)))
    assert "secateur run study.yaml --plugin mine.py --out run" in page_of(named)


def page_of(grid):
    change = changes(grid)
    return render(grid, change, [], summary(grid, change), run_folder="run")
