import dataclasses

import numpy as np
import pytest
import torch

from report.synthetic import Grid, write
from secateur import stats
from secateur.report import paired_changes as changing
from secateur.report.aggregate import GridPoint, aggregate, security_curve, tuned_arms, worst
from secateur.report.load import load
from secateur.report.paired_changes import changes

DENSE = [("found", 1.0), ("found", 2.0), ("found", 3.0), ("found", 4.0), ("already_wrong", 0.0)]
TUNED = [("found", 1.0), ("found", 1.0), ("found", 2.0), ("found", 4.0), ("found", 5.0)]
UNTUNED = [("already_wrong", 0.0)] * 4 + [("found", 0.5)]
PRUNED = [("found", 0.5), ("not_found", None), ("found", 1.5), ("already_wrong", 0.0), ("found", 2.5)]
RESULTS = {(0.0, "none", 0): DENSE, (0.0, "standard", 0): TUNED, (0.5, "none", 0): UNTUNED}
RESULTS[(0.5, "standard", 0)] = PRUNED
GRID_POINT = GridPoint("plain", "l1", 0.5, "standard", "ddn")


@pytest.fixture
def by_hand(tiny):
    return aggregate(load(tiny(RESULTS)))


def test_medians_over_correct_and_over_all_images_are_those_computed_by_hand(by_hand):
    dense = by_hand.points[GridPoint("plain", "", 0.0, "none", "ddn")]
    assert dense.median("l2").mean == 2.5  # of 1, 2, 3, 4
    assert dense.median("l2", "all").mean == 2.0  # of 0, 1, 2, 3, 4
    pruned = by_hand.points[GRID_POINT]
    assert pruned.median("l2").mean == 2.0  # of 0.5, 1.5, 2.5, inf
    assert pruned.median("l2", "all").mean == 1.5  # of 0, 0.5, 1.5, 2.5, inf


def test_what_pruning_alone_did_is_the_difference_to_the_equally_tuned_dense_network(by_hand):
    change = changes(by_hand)[GRID_POINT]
    assert change.total.left.ratio == pytest.approx(0.5)  # of 0.5/1, inf/2, 1.5/3
    assert change.pruning.left.ratio == pytest.approx(0.625)  # of 0.5/1, inf/1, 1.5/2, 2.5/5
    assert (change.total.left.n, change.pruning.left.n) == (3, 4)
    assert change.pruning.left.before == 1.5  # of 1, 1, 2, 5: the images that both get right
    assert change.pruning.clean.n == 5


def test_a_network_that_is_wrong_everywhere_has_no_median_and_no_share(tiny):
    results = {where: [("already_wrong", 0.0)] * 3 for where in RESULTS} | {(0.0, "none", 0): DENSE[:3]}
    grid = aggregate(load(tiny(results)))
    assert np.isnan(grid.points[GRID_POINT].median("l2").mean)
    assert changes(grid)[GRID_POINT].total.left.n == 0
    assert changes(grid)[GRID_POINT].total.share is None


def shuffled(attack, order):
    moved = {"outcome": [attack.science.outcome[i] for i in order]}
    return dataclasses.replace(
        attack,
        science=attack.science.model_copy(update=moved),
        recorded={norm: values[order] for norm, values in attack.recorded.items()},
        hashes=tuple(attack.hashes[i] for i in order),
    )


def check_that_images_are_paired_by_their_hash(grid):
    point = grid.points[GRID_POINT]
    attack = point.attacks[0]
    moved = shuffled(attack, [4, 2, 0, 1, 3])
    compare = changing.compare_attacks
    reference = grid.points[GridPoint("plain", "", 0.0, "none", "ddn")].attacks[0]
    # nan differs from itself, but not from how it is written.
    assert repr(compare([(reference, attack)])) == repr(compare([(reference, moved)]))


def test_images_are_paired_by_their_hash(by_hand):
    check_that_images_are_paired_by_their_hash(by_hand)


def test_pairing_by_position_is_caught(by_hand, monkeypatch):
    def by_position(attack, order, norm):
        return np.where(attack.already_wrong, np.nan, attack.distances[norm])

    monkeypatch.setattr(changing, "on_images", by_position)
    with pytest.raises(AssertionError):
        check_that_images_are_paired_by_their_hash(by_hand)


def test_only_images_that_both_saw_are_compared(by_hand):
    attack = by_hand.points[GRID_POINT].attacks[0]
    fewer = shuffled(attack, [0, 2])
    assert changing.compare_attacks([(attack, fewer)]).clean.n == 2
    stranger = dataclasses.replace(attack, hashes=tuple(f"other {i}" for i in range(attack.n)))
    assert changing.compare_attacks([(attack, stranger)]) is None


@pytest.mark.slow
def test_the_grade_of_a_point_is_that_of_its_worst_seed(grid):
    assert grid.points[GridPoint("plain", "l1", 0.6, "standard", "ddn")].grade == "C"
    assert worst(["A", "C", "B"]) == "C"
    assert worst([]) == "X"


def test_a_comparison_with_an_unreliable_control_is_unreliable(tmp_path):
    bad = (("plain", None, 0.0, "none", "ddn"),)
    settings = {"models": {"plain": False}, "seeds": (0,), "attacks": {"ddn": 2.0}, "failed": ()}
    grid = aggregate(load(write(tmp_path / "run", Grid(grade_c=bad, **settings))))
    assert {change.total_grade for change in changes(grid).values()} == {"C"}
    assert changes(grid)[GridPoint("plain", "l1", 0.4, "standard", "ddn")].pruning_grade == "A"


def test_a_point_that_lost_a_seed_says_so(grid):
    point = grid.points[GridPoint("robust", "random", 0.8, "standard", "ddn")]
    assert (len(point.attacks), point.planned_seeds) == (1, 2)
    assert "only 1 of 2 seeds have a result" in point.reasons
    assert point.grade in "BC"


def test_the_security_curve_is_the_share_of_images_beyond_the_budget(by_hand):
    curve = security_curve(by_hand.points[GRID_POINT], np.array([0.0, 0.5, 2.0, 100.0]))
    assert curve.mean.tolist() == [0.8, 0.6, 0.4, 0.2]
    assert (curve.low <= curve.mean).all()
    assert (curve.mean <= curve.high).all()


def test_report_and_statistics_agree(grid):
    for point in list(grid.points.values())[:8]:
        attack = point.attacks[0]
        values = torch.from_numpy(attack.distances["l2"])
        assert point.median("l2", "all").values[0] == stats.median(values)
        budgets = [0.0, 0.1, 0.4, 1.0]
        expected = stats.security_curve(torch.from_numpy(attack.distances[attack.norm]), budgets)
        assert security_curve(point, np.array(budgets)).per_seed[0].tolist() == expected.tolist()


@pytest.mark.slow
def test_seeds_make_the_interval_of_a_curve_from_three_on(tmp_path):
    settings = {"models": {"plain": False}, "attacks": {"ddn": 2.0}, "failed": (), "grade_c": ()}
    grid = aggregate(load(write(tmp_path / "run", Grid(seeds=(0, 1, 2), **settings))))
    point = grid.points[dataclasses.replace(GRID_POINT, sparsity=0.4)]
    estimate = point.median("l2")
    assert estimate.low < estimate.mean < estimate.high
    curve = security_curve(point, np.array([0.3]))
    seeds = np.array([values[0] for values in curve.per_seed])
    half = 4.302652729749464 * seeds.std(ddof=1) / 3**0.5
    assert curve.high[0] == pytest.approx(min(seeds.mean() + half, 1.0))


def test_the_study_is_about_its_fine_tuned_arms_unless_there_are_none(grid):
    assert tuned_arms(grid) == ("standard",)
    assert tuned_arms(dataclasses.replace(grid, arms=("none",))) == ("none",)
