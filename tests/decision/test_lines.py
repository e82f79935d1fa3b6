"""The lines of a check against counts by hand, and the cases in which no share of a distance is stated."""

import math

import numpy as np
import pytest

from secateur.decision.lines import cost_line, distance_line, finding_of, robust, robust_line, share_line
from secateur.decision.verdict import sentences
from secateur.stats import Effect


def record(distances, *, grade="A", norm="linf"):
    """An attack's record; None: already wrong, inf: not found."""
    outcome = ["already_wrong" if d is None else "not_found" if d == math.inf else "found" for d in distances]
    stored = [0.0 if d is None else None if d == math.inf else d for d in distances]
    return {
        "norm": norm,
        "distances": {norm: stored},
        "outcome": outcome,
        "grade": grade,
        "levels": 256,
        "bounds": [0.0, 1.0],
    }


def test_an_image_is_robust_beyond_its_distance_or_without_an_example():
    attack = record([None, 0.1, 0.2, math.inf])
    assert robust(attack, 0.0).tolist() == [0, 1, 1, 1]
    assert robust(attack, 0.1).tolist() == [0, 0, 1, 1]
    assert robust(attack, 5.0).tolist() == [0, 0, 0, 1]


def test_robust_accuracy_is_over_all_images_with_its_budget_in_grey_levels():
    line = robust_line(record([None, 0.1, 0.2, math.inf]), record([None, None, 0.01, 0.2]), 8 / 255)
    assert (line.dense, line.pruned, line.n) == (0.75, 0.25, 4)
    assert line.change == -0.5
    assert "L∞ 8/255, 4 images" in line.label


@pytest.mark.parametrize(
    ("effect", "finding"),
    [
        (Effect(-0.1, 0.01, math.inf), "worse"),
        (Effect(0.1, 0.01, math.inf), "better"),
        (Effect(0.0, 0.01, math.inf), "same"),
        (Effect(0.0, 0.10, math.inf), "undecided"),
    ],
)
def test_findings_follow_the_interval(effect, finding):
    assert finding_of(effect, 0.05) == finding


def test_a_halved_distance_is_worse_and_stated_as_a_ratio():
    near = [0.1 + 0.001 * i for i in range(40)]
    line = distance_line(record(near), record([d / 2 for d in near]), collapsed=False)
    assert line.change == pytest.approx(0.5)
    assert line.finding == "worse"
    assert "40 common images" in line.label


@pytest.mark.parametrize(
    ("n", "grade", "collapsed", "word"),
    [(40, "A", True, "collapsed"), (29, "A", False, "too few images"), (40, "C", False, "unreliable")],
)
def test_no_share_of_a_distance_without_a_sound_comparison(n, grade, collapsed, word):
    before, after = record([0.1] * n), record([0.09] * n, grade=grade)
    line = distance_line(before, after, collapsed=collapsed)
    assert (line.change, line.low, line.finding) == (None, None, word)
    assert line.cells()[3] == word


def test_only_images_that_both_networks_get_right_have_a_common_distance():
    line = distance_line(record([0.1] * 35 + [None] * 5), record([None] * 5 + [0.1] * 35), collapsed=False)
    assert line.n == 30


def test_networks_without_common_images_have_no_distance():
    line = distance_line(record([0.1, None]), record([None, 0.1]), collapsed=False)
    assert (line.dense, line.pruned, line.finding) == (None, None, "too few images")


def test_a_difference_of_a_share_has_a_paired_interval():
    before, after = np.ones(100), np.ones(100)
    after[:10] = 0
    line = share_line("accuracy", "accuracy", before, after)
    assert line.change == pytest.approx(-0.1)
    assert line.low < line.change < line.high < 0
    assert line.finding == "worse"


def test_costs_are_ratios_and_json_has_no_infinity():
    assert cost_line("macs", "multiply-adds", "count", 200, 50).cells()[3] == "25 %"
    line = distance_line(record([math.inf] * 40), record([0.1] * 40), collapsed=False)
    assert all(value is None or value == value for value in line.to_json().values())
    assert line.to_json()["dense"] is None


def test_a_gain_is_said_with_the_control_that_is_missing():
    more = share_line("robust linf 0.1", "robust accuracy at L∞ 0.1", np.zeros(100), np.ones(100))
    floor = share_line("robust linf 0.9", "robust accuracy at L∞ 0.9", np.zeros(100), np.zeros(100))
    accuracy = share_line("accuracy", "accuracy", np.ones(100), np.ones(100))
    said = sentences([accuracy, more, floor], (), collapsed=False)
    assert (
        "Robust accuracy is better at L∞ 0.1, maybe by the fine-tuning, which the dense network had not."
        in said
    )
    assert "Hardly any image withstands L∞ 0.9 in either network." in said
