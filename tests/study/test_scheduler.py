from secateur.study.scheduler import make_board
from toy.study import SMALL, small_plan


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
