import pytest

from secateur.study.cost import Clock, Speed
from toy.study import SMALL, small_plan


def cell(plan, stage, **axes):
    return next(c for c in plan.cells if c.stage == stage and all(c.axes[k] == v for k, v in axes.items()))


def test_training_counts_every_image_of_every_epoch():
    plan = small_plan(SMALL, overrides=["models.plain.recipe={epochs: 3}"])
    cost = plan.costs[cell(plan, "train").id]
    assert cost.backwards == 3 * 100
    assert cost.forwards == 3 * 100 + 3 * 20 + (100 + 20 + 50)


def test_adversarial_training_counts_its_inner_steps():
    text = "models.plain.recipe={epochs: 3, adversary: {epsilon: 0.1, step_size: 0.05, steps: 5}}"
    plan = small_plan(SMALL, overrides=[text])
    assert plan.costs[cell(plan, "train").id].backwards == 3 * 100 * 6


def test_an_attack_counts_steps_times_images():
    plan = small_plan(SMALL)
    assert plan.costs[cell(plan, "attack", sparsity=0.0, arm="none").id].backwards == 20 * 10
    everything = small_plan(SMALL, overrides=["images=null"])
    assert everything.costs[cell(everything, "attack", sparsity=0.0, arm="none").id].backwards == 50 * 10


def test_pruned_networks_are_cheaper():
    plan = small_plan(SMALL)
    dense, half = (plan.costs[cell(plan, "attack", sparsity=s, arm="none").id] for s in (0.0, 0.5))
    assert dense.forwards == half.forwards
    assert half.units == pytest.approx(0.55 * dense.units)


def test_the_clock_knows_nothing_until_it_has_seen_or_probed_something():
    plan = small_plan(SMALL)
    clock = Clock(plan.costs)
    assert clock.remaining(plan.cells, 1) is None
    clock.learn(plan.cells[0], 2.0)
    assert clock.remaining(plan.cells, 1) > 0


def test_the_clock_prefers_what_is_most_alike():
    plan = small_plan(SMALL, overrides=["seeds=[0, 1]"])
    clock = Clock(plan.costs, {"plain": Speed(1e-3, 1, 1)})
    train, attack = cell(plan, "train", seed=0), cell(plan, "attack", sparsity=0.0, arm="none", seed=0)
    clock.learn(train, 5.0)
    clock.learn(attack, 1.0)
    assert clock.seconds(cell(plan, "train", seed=1)) == pytest.approx(5.0)
    assert clock.seconds(cell(plan, "attack", sparsity=0.0, arm="none", seed=1)) == pytest.approx(1.0)


def test_a_probe_gives_an_estimate_before_anything_ran():
    plan = small_plan(SMALL)
    clock = Clock(plan.costs, {"plain": Speed(1e-3, 1, 1)})
    total = sum(plan.costs[c.id].units for c in plan.cells) * 1e-3
    assert clock.remaining(plan.cells, 1) == pytest.approx(total)
    assert clock.remaining(plan.cells, 2) == pytest.approx(
        max(total / 2, plan.costs[plan.cells[0].id].units * 1e-3)
    )


def test_nothing_left_takes_no_time():
    plan = small_plan(SMALL)
    assert Clock(plan.costs).remaining([], 2) == 0


def test_what_is_half_done_takes_half_the_time():
    plan = small_plan(SMALL)
    clock = Clock(plan.costs, {"plain": Speed(1e-3, 1, 1)})
    dense = plan.cells[0]
    whole = clock.remaining([dense], 1)
    assert clock.remaining([dense], 1, done={dense.id: 0.5}) == pytest.approx(whole / 2)


def test_a_network_of_almost_nothing_does_not_make_whole_ones_look_like_days():
    """An attack at sparsity 0.996 that takes a second says little about the dense network's."""
    plan = small_plan(SMALL, overrides=["sparsities=[0, 0.996]"])
    dense, tiny = (cell(plan, "attack", sparsity=s, arm="none") for s in (0.0, 0.996))
    clock = Clock(plan.costs)
    clock.learn(tiny, 1.0)
    assert clock.seconds(dense) < 30


def test_a_short_pruning_does_not_make_the_attacks_look_long():
    """The first cells of a run: a training, and prunings that take half a second for little work."""
    plan = small_plan(SMALL)
    train, prune, attack = (cell(plan, stage) for stage in ("train", "prune", "attack"))
    clock = Clock(plan.costs)
    clock.learn(train, plan.costs[train.id].units * 1e-4)
    alone = clock.seconds(attack)
    clock.learn(prune, plan.costs[prune.id].units * 1e-3)
    assert clock.seconds(attack) < 1.5 * alone
