"""Pictures of one attack: what they show is what the record says."""

import numpy as np
import pytest

from secateur.errors import UserError
from secateur.report.attack_figures import COLUMNS, draw_attack, save_attack
from secateur.stats import wilson

CLASSES = ("a", "<b>", "$c$")


def record(n=12, **changed):
    outcome = ["found"] * (n - 2) + ["already_wrong", "not_found"]
    distance = [float(n - i) / n for i in range(n - 2)] + [0.0, None]
    return {
        "attack": "fmn",
        "norm": "linf",
        "grade": "A",
        "outcome": outcome,
        "distances": {"linf": distance},
        "adv_preds": [1] * n,
        **changed,
    }


def images(n=12, channels=1):
    clean = np.full((n, channels, 4, 4), 0.5, dtype=np.float32)
    adv = clean.copy()
    adv[:, :, 0, 0] = 0.75
    return clean, adv


def drawn(plain, channels=1):
    clean, adv = images(len(plain["outcome"]), channels)
    return {d.stem: d for d in draw_attack(plain, clean, adv, [0] * len(clean), CLASSES)}


def curve(plain):
    """The curve alone: images of two channels have no grid, which is what drawing takes its time for."""
    return drawn(plain, channels=2)["curve"]


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_goes_from_the_nearest_to_the_farthest_example(channels):
    figure = drawn(record(), channels)["examples"].figure
    titles = [axes.get_title() for axes in figure.axes]
    sizes = [float(title.split()[1]) for title in titles if title.startswith("L∞")]
    assert sizes == sorted(sizes)
    assert len(sizes) == COLUMNS
    assert (sizes[0], sizes[-1]) == (0.25, 1.0)
    assert "→ <b>" in titles


@pytest.mark.slow
def test_the_perturbation_is_magnified_around_middle_grey_by_the_factor_it_states():
    figure = drawn(record())["examples"].figure
    below = figure.axes[2 * COLUMNS]
    pixels = below.images[0].get_array()
    assert pixels[0, 0] == pytest.approx(1.0)
    assert pixels[1, 1] == pytest.approx(0.5)
    assert below.get_xlabel() == "×4"


@pytest.mark.slow
def test_fewer_examples_than_columns_leave_the_rest_empty():
    plain = record()
    plain["outcome"] = ["found"] * 2 + ["not_found"] * 10
    figure = drawn(plain)["examples"].figure
    assert sum(bool(axes.images) for axes in figure.axes) == 6


def test_where_nothing_was_found_there_is_only_a_curve():
    plain = record()
    plain["outcome"] = ["not_found"] * 12
    plain["distances"] = {"linf": [None] * 12}
    assert set(drawn(plain)) == {"curve"}


def test_the_curve_starts_at_the_clean_accuracy_and_lies_inside_its_interval():
    axes = curve(record()).figure.axes[0]
    (line,) = axes.lines
    robust = line.get_ydata()
    assert robust[0] == pytest.approx(11 / 12)
    assert (np.diff(robust) <= 0).all()
    (band,) = axes.collections
    low, high = band.get_paths()[0].get_extents().intervaly
    assert low <= robust.min()
    assert high >= robust.max()


def test_an_attack_of_fixed_size_is_drawn_at_the_sizes_that_it_tried_and_decided_by_outcome():
    one = record(kind="fixed-eps", settings={"eps": 0.3})
    drawing = curve(one)
    (line, *_) = drawing.figure.axes[0].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.3], [pytest.approx(1 / 12)])
    assert "no other size was tried" in drawing.caption
    found = [[True] * k + [False] * (12 - k) for k in (4, 10)]
    sizes = [{"eps": eps, "found": hits} for eps, hits in zip((0.1, 0.3), found, strict=True)]
    several = record(kind="fixed-eps", settings={"eps": [0.1, 0.3]}, sizes=sizes)
    (line, *_) = curve(several).figure.axes[0].lines
    assert list(line.get_xdata()) == [0.1, 0.3]
    assert list(line.get_ydata()) == [pytest.approx(7 / 12), pytest.approx(1 / 12)]


def test_a_targeted_attack_does_not_draw_robust_accuracy():
    drawing = curve(record(targeted=True))
    assert drawing.figure.axes[0].get_ylabel() == "target not reached"
    assert "obust accuracy" not in drawing.caption + drawing.alt + drawing.title


def test_an_unreliable_result_says_so():
    assert "unreliable" in curve(record(grade="C")).figure.axes[0].get_title()
    assert "unreliable" not in curve(record()).figure.axes[0].get_title()


@pytest.mark.slow
def test_the_files_are_the_same_bytes_every_time(tmp_path):
    clean, adv = images(4)
    for folder in ("one", "two"):
        paths = save_attack(draw_attack(record(4), clean, adv, [0] * 4, CLASSES), tmp_path / folder)
        assert {path.name for path in paths} == {"examples.png", "examples.svg", "curve.png", "curve.svg"}
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


SIZES = [
    {"eps": 1 / 255, "found": [True] * 2 + [False] * 10},
    {"eps": 8 / 255, "found": [True] * 10 + [False] * 2},
]
FIXED = {"attack": "pgd", "kind": "fixed-eps", "levels": 256, "bounds": [0.0, 1.0]}


def points(plain):
    drawing = curve(plain)
    (container,) = drawing.figure.axes[0].containers
    x, y = container.lines[0].get_data()
    return drawing, np.asarray(x).tolist(), np.asarray(y).tolist(), container.lines[0].get_linestyle()


def test_an_attack_of_fixed_size_is_drawn_at_the_sizes_it_tried_and_nowhere_else():
    drawing, eps, shares, _ = points(record(**FIXED, sizes=SIZES))
    assert eps == [1 / 255, 8 / 255]
    assert shares == pytest.approx([9 / 12, 1 / 12])
    assert "1/255, 8/255" in drawing.caption


def test_a_single_size_is_a_point_with_its_interval_and_no_line():
    drawing, eps, shares, line = points(record(**FIXED, sizes=SIZES[1:]))
    assert (eps, line) == ([8 / 255], "None")
    assert shares == pytest.approx([1 / 12])
    (bars,) = drawing.figure.axes[0].collections
    assert bars.get_segments()[0][:, 1] == pytest.approx(wilson(1, 12))


def test_an_older_record_of_a_fixed_size_is_read_by_its_outcomes():
    _, eps, shares, _ = points(record(attack="apgd", kind="fixed-eps", settings={"eps": 0.3}))
    assert eps == [0.3]
    assert shares == pytest.approx([1 / 12])


def test_a_record_that_does_not_say_its_size_is_refused_in_words():
    with pytest.raises(UserError, match="does not hold the size"):
        drawn(record(attack="mine", kind="fixed-eps", settings={}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, {**FIXED, "sizes": SIZES}])
def test_a_targeted_attack_is_not_drawn_as_robust_accuracy(kind):
    plain = record(**kind, targeted=True, summary={"targeted": "a sentence"})
    drawing = curve(plain)
    assert drawing.figure.axes[0].get_ylabel() == "target not reached"
    assert "robust accuracy" not in f"{drawing.title} {drawing.caption} {drawing.alt}".lower()
    assert "A sentence." in drawing.caption


def test_few_attacked_images_are_said_to_be_few():
    assert "too few images" in curve(record()).figure.axes[0].get_title()
    assert "too few" not in curve(record(40)).figure.axes[0].get_title()


@pytest.mark.slow
def test_images_of_other_bounds_are_shown_as_they_look():
    clean, adv = images()
    wide = {
        d.stem: d for d in draw_attack(record(bounds=[0, 255]), 255 * clean, 255 * adv, [0] * 12, CLASSES)
    }
    shown, same = (d["examples"].figure.axes for d in (wide, drawn(record())))
    for one, other in zip(shown, same, strict=True):
        for image, expected in zip(one.images, other.images, strict=True):
            np.testing.assert_allclose(image.get_array(), expected.get_array(), atol=1e-6)


def test_ticks_of_8_bit_images_are_grey_levels():
    axes = curve(record(**FIXED, sizes=SIZES)).figure.axes[0]
    assert {text.get_text() for text in axes.get_xticklabels()} >= {"0/255", "2/255", "8/255"}
