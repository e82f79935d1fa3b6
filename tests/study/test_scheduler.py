from dataclasses import replace

from secateur.config import repeats
from secateur.study.scheduler import make_board
from toy.study import FACTS, SMALL, small_plan

GIVEN = """
name: given
data: digits
models: {net: {arch: resnet-tiny, weights: somewhere.th}}
sparsities: [0]
attacks: {ddn: {steps: 10}}
seeds: [0, 1]
images: 20
"""


def board_of(plan, done=()):
    return make_board(plan.cells, done, {cell_id: cost.units for cell_id, cost in plan.costs.items()})


def drain(board):
    taken = []
    while cell := board.take():
        taken.append(cell)
        board.succeed(cell.id)
    return taken


def test_every_cell_is_taken_once_and_after_its_parent():
    plan = small_plan(SMALL)
    taken = drain(board_of(plan))
    assert sorted(c.id for c in taken) == sorted(c.id for c in plan.cells)
    place = {cell.id: i for i, cell in enumerate(taken)}
    assert all(place[c.parent] < place[c.id] for c in taken if c.parent)


def test_only_what_is_missing_is_taken():
    plan = small_plan(SMALL)
    done = [plan.cells[0].id, plan.cells[1].id]
    assert {c.id for c in drain(board_of(plan, done))} == {c.id for c in plan.cells} - set(done)


def test_a_child_is_ready_when_its_done_parent_was_never_on_the_board():
    plan = small_plan(SMALL)
    done = [cell.id for cell in plan.cells if cell.stage != "attack"]
    assert {c.stage for c in drain(board_of(plan, done))} == {"attack"}


def test_the_longest_chain_of_work_goes_first():
    plan = small_plan(SMALL, overrides=["models.big={arch: resnet-tiny, recipe: {epochs: 900}}"])
    assert board_of(plan).take().axes["model"] == "big"


def test_a_failure_skips_all_descendants_and_nothing_else():
    plan = small_plan(SMALL)
    board = board_of(plan)
    dense = board.take()
    board.succeed(dense.id)
    pruned = next(cell for cell in plan.cells if cell.stage == "prune")
    skipped = board.fail(pruned.id, "broken")
    assert {c.id for c in skipped} == {c.id for c in plan.cells if c.axes["criterion"] and c.id != pruned.id}
    assert all("skipped, because" in board.failed[c.id] for c in skipped)
    left = board.open
    assert all(board.cells[cell_id].axes["criterion"] is None for cell_id in left)


def given():
    """A plan of two equal networks, its attacks, and its board with both networks done."""
    plan = small_plan(GIVEN, facts=replace(FACTS, weights={"net": "ab" * 32}))
    dense = [cell.id for cell in plan.cells if cell.stage == "train"]
    first, second = (cell for cell in plan.cells if cell.stage == "attack")
    assert repeats(plan.cells) == {second.id: first.id}
    return plan, first, second, board_of(plan, dense)


def test_an_attack_that_repeats_another_waits_for_it_and_costs_nothing():
    plan, first, second, board = given()
    assert board.take() == first
    assert board.take() is None
    board.succeed(first.id)
    assert board.take() == second
    assert plan.costs[second.id].units == 0 < plan.costs[first.id].units
    assert plan.forwards == plan.costs[first.id].forwards + sum(
        plan.costs[cell.id].forwards for cell in plan.cells if cell.stage == "train"
    )


def test_a_repetition_is_computed_where_the_first_attack_fails():
    _, first, second, board = given()
    board.take()
    assert board.fail(first.id, "broken") == []
    assert board.take() == second


def test_a_repetition_waits_for_its_own_network_as_well():
    plan = small_plan(GIVEN, facts=replace(FACTS, weights={"net": "ab" * 32}))
    board = board_of(plan)
    networks = [board.take(), board.take()]
    assert board.take() is None
    board.succeed(networks[0].id)
    first = board.take()
    board.succeed(first.id)
    assert board.take() is None
    board.succeed(networks[1].id)
    assert board.take().parent == networks[1].id
    assert board.take() is None
