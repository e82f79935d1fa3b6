import dataclasses
import math

import numpy as np
import pytest

from report.synthetic import Grid, write
from secateur import budgets as usual
from secateur.report.aggregate import GridPoint, aggregate, security_curve
from secateur.report.load import load
from secateur.report.paired_changes import changes, compare_points
from secateur.report.pairing import pair_trainings

DENSE = GridPoint("plain", "", 0.0, "none", "ddn")
PRUNED = GridPoint("plain", "l1", 0.5, "standard", "ddn")
GRID_POINTS = [(0.0, "none"), (0.0, "standard"), (0.5, "none"), (0.5, "standard")]
SMALL = {
    "models": {"plain": False},
    "criteria": ("l1",),
    "attacks": {"ddn": 2.0},
    "failed": (),
    "grade_c": (),
}


def images(distances):
    """Outcomes: nan is wrong from the start, inf is not found."""
    return [
        ("already_wrong", 0.0) if math.isnan(d) else ("not_found", None) if math.isinf(d) else ("found", d)
        for d in np.asarray(distances, dtype=float).tolist()
    ]


def study(tiny, dense, pruned, *, seeds=(0,), **settings):
    """A study whose dense and pruned networks have the given distances, one list per seed."""
    results = {
        (sparsity, arm, seed): images((pruned if sparsity else dense)[seed])
        for sparsity, arm in GRID_POINTS
        for seed in seeds
    }
    return aggregate(load(tiny(results, seeds=seeds, images=len(dense[seeds[0]]), **settings)))


def total(grid, where=PRUNED):
    return changes(grid)[where].total


def test_both_statistics_stand_side_by_side(tiny):
    """Every image is half as near and the nearest half is lost: 50 % left, and robust accuracy falls."""
    dense = np.linspace(0.1, 1.0, 100)
    pruned = np.where(dense > 0.45, dense / 2, math.nan)
    found = total(study(tiny, {0: dense}, {0: pruned}))
    assert found.share == pytest.approx(0.5)
    assert found.n == int((dense > 0.45).sum())
    stated = {each.eps: (each.before[0], each.after[0]) for each in found.robust}
    assert stated == {eps: ((dense > eps).mean(), (pruned > eps).mean()) for eps in usual.HEADLINE["l2"]}
    assert (found.clean.before, found.clean.after) == ((1.0,), (float((dense > 0.45).mean()),))
    assert found.accuracy_fell
    assert found.robust[0].over_images[1] < 0
    assert (
        found.left.no_interval
        == found.clean.no_interval
        == ("no interval over trainings: one training, 3 are needed")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "state"),
    [
        (lambda cell: cell["axes"]["sparsity"] > 0, "collapsed"),
        (lambda cell: cell["axes"]["sparsity"] == 0, "dense at chance"),
        (lambda cell: True, "dense at chance"),
    ],
)
def test_a_network_near_chance_is_grade_c_and_has_no_share(tmp_path, edit, state):
    def collapse(cell, science):
        if cell["stage"] != "attack":
            science["collapsed"] = edit(cell)
        return science

    grid = aggregate(load(write(tmp_path / "run", Grid(edit=collapse, **SMALL))))
    where = dataclasses.replace(PRUNED, sparsity=0.4)
    found = changes(grid)[where]
    assert (found.total.state, found.total.share, found.total_grade) == (state, None, "C")
    assert (grid.points[where].state, grid.points[where].grade) == (state, "C")
    assert grid.points[where].checked in "AB"
    assert any("near chance" in reason for reason in grid.points[where].reasons)


@pytest.mark.parametrize(("right", "state"), [(29, "too few images"), (30, "")])
def test_below_thirty_common_images_no_share_is_stated(tiny, right, state):
    dense = np.full(40, 1.0)
    pruned = np.where(np.arange(40) < right, 0.9, math.nan)
    grid = study(tiny, {0: dense}, {0: pruned})
    assert (total(grid).state, total(grid).share is None) == (state, bool(state))
    assert grid.points[PRUNED].state == state
    assert (grid.points[PRUNED].grade == "C") == bool(state)
    assert grid.points[DENSE].grade != "C"


def test_unreliable_by_checks_comes_last(grid, change):
    where = GridPoint("plain", "l1", 0.6, "standard", "ddn")
    assert (change[where].total.state, change[where].total.share) == ("unreliable", None)
    assert grid.points[where].checked == "C"


def with_weights(network, weights_hash):
    """The network of a record that names other weights."""
    return dataclasses.replace(
        network, science=network.science.model_copy(update={"weights_hash": weights_hash})
    )


def test_equal_weights_under_two_seeds_are_one_training(tiny):
    dense, pruned = np.full(40, 1.0), np.linspace(0.5, 0.9, 40)
    both = {"dense": {0: dense, 1: dense, 2: dense}, "pruned": {0: pruned, 1: pruned, 2: pruned}}
    settings = {"seeds": (0, 1, 2)}
    apart = study(tiny, *both.values(), **settings)
    assert (len(apart.points[PRUNED].attacks), total(apart).trainings) == (3, 3)

    attacks = [
        dataclasses.replace(a, network=with_weights(a.network, f"{a.network.axes.sparsity}"))
        for a in apart.study.attacks
    ]
    networks = [with_weights(n, f"{n.axes.sparsity} {n.axes.arm}") for n in apart.study.networks]
    same = aggregate(dataclasses.replace(apart.study, attacks=tuple(attacks), networks=tuple(networks)))
    point = same.points[PRUNED]
    assert (len(point.attacks), len(point.seeds), point.planned_seeds) == (1, 3, 3)
    assert not any("seeds have a result" in reason for reason in point.reasons)
    assert total(same).trainings == 1
    assert total(same).left.no_interval == "no interval over trainings: one training, 3 are needed"
    assert len(same.networks[dataclasses.replace(DENSE, attack="")].accuracy.values) == 1


def test_one_dense_network_and_three_prunings_are_three_trainings(tiny):
    dense, pruned = np.full(40, 1.0), np.linspace(0.5, 0.9, 40)
    grid = study(tiny, dict.fromkeys((0, 1, 2), dense), dict.fromkeys((0, 1, 2), pruned), seeds=(0, 1, 2))
    before = {
        seed: dataclasses.replace(a, network=with_weights(a.network, "published"))
        for seed, a in grid.points[DENSE].seeds.items()
    }
    assert len(pair_trainings(before, grid.points[PRUNED].seeds)) == 3
    assert len(pair_trainings(before, before)) == 1


def test_three_trainings_get_an_interval_over_trainings(tiny):
    dense = np.linspace(0.2, 2, 60)
    pruned = {seed: dense * factor for seed, factor in enumerate((0.5, 0.7, 0.6))}
    found = total(study(tiny, dict.fromkeys(range(3), dense), pruned, seeds=(0, 1, 2)))
    logs = np.log([0.5, 0.7, 0.6])
    half = 4.302652729749464 * logs.std(ddof=1) / 3**0.5
    assert np.log(found.interval) == pytest.approx((logs.mean() - half, logs.mean() + half))
    assert found.left.over_images == pytest.approx((np.exp(logs.mean()),) * 2)
    assert found.robust[0].over_trainings is not None


def fixed(tmp_path, *, sizes, seeds=(0,)):
    """A study of an attack of fixed size: at each ε, every image below that distance falls."""

    def edit(cell, science):
        if cell["stage"] == "attack":
            science["kind"] = "fixed-eps"
            reach = [d if o == "found" else math.inf for o, d in
                     zip(science["outcome"], science["distances"]["l2"], strict=True)]  # fmt: skip
            science["sizes"] = [{"eps": eps, "found": [d < eps for d in reach]} for eps in sizes]
            # The distance of an example at ε = 0.3 in float32 may be larger than 0.3: it must not matter.
            science["distances"] = {norm: [None if d is None else 9.0 if d else 0.0 for d in values]
                                    for norm, values in science["distances"].items()}  # fmt: skip
        return science

    return aggregate(load(write(tmp_path / "run", Grid(edit=edit, seeds=seeds, **SMALL))))


def test_an_attack_of_fixed_size_speaks_of_its_own_sizes_only(tmp_path):
    grid = fixed(tmp_path, sizes=(0.3, 0.6))
    point = grid.points[DENSE]
    (attack,) = point.attacks
    assert (point.fixed, point.sizes, grid.stated(point)) == (True, (0.3, 0.6), (0.3, 0.6))
    right = float((~attack.already_wrong).mean())
    for eps in (0.3, 0.6):
        fell = float(attack.sizes[eps].mean())
        assert fell > 0
        assert attack.robust_accuracy(eps) == pytest.approx(right - fell)
    assert attack.robust_accuracy(0.0) == right
    assert attack.robust_accuracy(0.4) is None
    assert attack.robust_accuracy(0.3 * (1 + 1e-12)) == attack.robust_accuracy(0.3)
    curve = security_curve(point, np.array([0.3, 0.4, 0.6]))
    assert curve.epsilon.tolist() == [0.3, 0.6]
    assert security_curve(point, np.array([0.2])).epsilon.size == 0


def test_an_attack_of_fixed_size_leaves_no_distance(tmp_path):
    grid = fixed(tmp_path, sizes=(0.3, 0.6))
    found = changes(grid)[dataclasses.replace(PRUNED, sparsity=0.4)].total
    assert (found.left, found.share, found.state) == (None, None, "")
    assert [each.eps for each in found.robust] == [0.3, 0.6]
    assert found.n == 100


def test_a_single_size_is_read_from_the_settings(tmp_path):
    def edit(cell, science):
        if cell["stage"] == "attack":
            science["kind"], science["settings"] = "fixed-eps", {"eps": 0.3}
        return science

    grid = aggregate(load(write(tmp_path / "run", Grid(edit=edit, **SMALL))))
    attack = grid.points[DENSE].attacks[0]
    assert attack.robust_accuracy(0.3) == 1 - (attack.found | attack.already_wrong).mean()


def test_sizes_of_other_images_are_a_damaged_record(tmp_path):
    def edit(cell, science):
        if cell["stage"] == "attack":
            science["sizes"] = [{"eps": 0.1, "found": [True]}]
        return science

    grid = aggregate(load(write(tmp_path / "run", Grid(edit=edit, **SMALL))))
    assert not grid.points
    assert {hole.kind for hole in grid.study.holes} == {"damaged"}


def test_attacks_of_other_kinds_are_not_compared(tmp_path, grid):
    other = fixed(tmp_path, sizes=(0.1,))
    assert compare_points(grid.points[DENSE], other.points[DENSE], budgets=[0.1]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epsilons", "l2", "linf"),
    [
        ([], usual.HEADLINE["l2"], usual.HEADLINE["linf"]),
        ([0.2, 0.1], usual.HEADLINE["l2"], (0.1, 0.2)),
        ({"l2": [0.5]}, (0.5,), usual.HEADLINE["linf"]),
    ],
)
def test_the_budgets_of_a_study_are_those_that_are_stated(tmp_path, epsilons, l2, linf):
    settings = {**SMALL, "attacks": {"ddn": 2.0, "fmn-linf": math.inf}, "sparsities": (0.0, 0.4)}
    grid = aggregate(load(write(tmp_path / "run", Grid(config={"epsilons": epsilons}, **settings))))
    assert (grid.budgets("l2"), grid.budgets("linf")) == (l2, linf)
    where = GridPoint("plain", "l1", 0.4, "standard", "fmn-linf")
    assert tuple(each.eps for each in changes(grid)[where].total.robust) == linf


def test_a_list_is_for_the_only_norm_where_none_is_linf(tmp_path):
    grid = aggregate(load(write(tmp_path / "run", Grid(config={"epsilons": [0.7]}, **SMALL))))
    assert grid.budgets("l2") == (0.7,)


def test_a_list_is_not_for_an_attack_that_has_its_own_sizes(tmp_path):
    def edit(cell, science):
        if cell["stage"] == "attack" and science["norm"] == "linf":
            return science | {"kind": "fixed-eps", "sizes": [{"eps": 0.1, "found": [True] * 20}]}
        return science

    settings = {**SMALL, "attacks": {"ddn": 2.0, "pgd": math.inf}, "images": 20}
    grid = aggregate(load(write(tmp_path / "run", Grid(config={"epsilons": [0.7]}, edit=edit, **settings))))
    assert grid.budgets("l2") == (0.7,)


def test_clean_accuracy_is_no_part_of_the_mean_over_budgets(tmp_path):
    grid = aggregate(load(write(tmp_path / "run", Grid(**SMALL))))
    before, after = grid.points[DENSE], grid.points[dataclasses.replace(PRUNED, sparsity=0.4)]
    with_zero, without = (compare_points(before, after, budgets=b) for b in ([0.0, 0.5], [0.5]))
    assert [share.eps for share in with_zero.robust] == [0.0, 0.5]
    assert with_zero.overall == without.overall


@pytest.mark.slow
def test_an_old_study_that_leaves_the_norm_open_is_read_all_the_same(tmp_path):
    settings = {**SMALL, "attacks": {"ddn": 2.0, "fmn-l1": 1.0}}
    grid = aggregate(load(write(tmp_path / "run", Grid(config={"epsilons": [0.7]}, **settings))))
    assert grid.budgets("l1") == usual.HEADLINE["l1"]


def test_the_usual_budgets_scale_with_the_bounds(grid):
    wide = dataclasses.replace(grid, study=dataclasses.replace(grid.study, bounds=(-1.0, 1.0)))
    assert wide.budgets("linf") == tuple(2 * eps for eps in usual.HEADLINE["linf"])
