"""Studies that prune and fine-tune in rounds."""

import pytest

from secateur.config import parse_study
from secateur.engine.perform import perform
from secateur.errors import UserError
from secateur.report.load import load
from secateur.stages import execute, network
from secateur.store import Store
from secateur.study import plan
from whole import TINY, run_here

ROUNDS = "pruning={schedule: iterative, rounds: 3}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_here(TINY, tmp_path_factory.mktemp("rounds") / "run", ROUNDS, "sparsities=[0, 0.6]")


def of(records, stage, **wanted):
    return [
        record
        for record in records
        if record["stage"] == stage
        and all(record["axes"].get(axis, record.get(axis)) == value for axis, value in wanted.items())
    ]


@pytest.mark.slow
def test_every_round_is_pruned_to_its_share_and_fine_tuned(run):
    _, records = run
    assert {record["status"] for record in records} == {"ok"}
    steps = [
        (record["stage"], record["axes"]["sparsity"])
        for record in records
        if record["role"] == "round" and record["axes"]["criterion"]
    ]
    assert steps == [("prune", 0.2), ("tune", 0.2), ("prune", 0.4), ("tune", 0.4), ("prune", 0.6)]


def test_rounds_end_with_the_channels_of_one_shot(run):
    store, records = run
    study = parse_study(TINY, overrides=[ROUNDS, "sparsities=[0, 0.6]"])
    (untuned,) = of(records, "prune", role="untuned")
    (pruned,) = of(records, "tune", role="pruned")
    assert pruned["science"]["parameters"] == untuned["science"]["parameters"]
    shapes = [
        {name: tuple(p.shape) for name, p in network(study, record["id"], store).named_parameters()}
        for record in (untuned, pruned)
    ]
    assert shapes[0] == shapes[1]
    last = of(records, "prune", round=3)[0]["science"]
    assert last["sparsity_achieved"] == pytest.approx(untuned["science"]["sparsity_achieved"])
    assert last["parameters_dense"] == of(records, "train")[0]["science"]["parameters"]


def test_counting_from_the_round_before_would_remove_too_little(run, monkeypatch):
    """The broken variant: sparsities of later rounds relative to what is left, or to nothing at all."""
    store, records = run
    study = parse_study(TINY, overrides=[ROUNDS, "sparsities=[0, 0.6]"])
    (last,) = [cell for cell in store.cells if cell.stage == "prune" and cell.axes.get("round") == 3]
    monkeypatch.setattr("secateur.stages.prune_stage.dense_ancestor", lambda cell, store: cell.parent)
    broken = execute(study, last, store).science
    assert broken.parameters < of(records, "prune", round=3)[0]["science"]["parameters"]


def test_the_dense_control_is_fine_tuned_as_often(run):
    _, records = run
    (control,) = of(records, "tune", role="dense_tuned")
    lineage = [control]
    parents = {record["id"]: record for record in records}
    while lineage[-1]["parent"]:
        lineage.append(parents[lineage[-1]["parent"]])
    assert [record["stage"] for record in lineage] == ["tune", "tune", "tune", "train"]
    recipes = [record["settings"]["recipe"] for record in lineage[:3]]
    assert recipes[0] == recipes[1] == recipes[2]


def test_only_ends_are_attacked_and_reported(run):
    store, records = run
    roles = [record["role"] for record in records if record["stage"] == "attack"]
    assert roles == ["dense", "dense_tuned", "untuned", "pruned"]
    study = load(store.root)
    assert {item.role for item in (*study.networks, *study.attacks)} == set(roles)
    assert len(study.planned) == len([record for record in records if record["role"] != "round"])
    assert study.holes == ()
    (end,) = [item for item in study.networks if item.role == "pruned"]
    (untuned,) = [item for item in study.networks if item.role == "untuned"]
    assert end.sparsity_achieved == pytest.approx(untuned.sparsity_achieved)


@pytest.mark.slow
def test_an_interrupted_study_goes_on_between_rounds(run, tmp_path):
    laid = plan(parse_study(TINY, overrides=[ROUNDS, "sparsities=[0, 0.6]"]))
    store = Store.create(tmp_path / "again", laid.to_json())
    for cell in laid.cells[: len(laid.cells) // 2]:
        perform(store, laid.study, cell, execute)
    reopened = Store.open(tmp_path / "again")
    for cell in laid.cells:
        perform(reopened, laid.study, cell, execute)
    again = [record.to_json()["science"] for record in reopened.records()]
    assert again == [record["science"] for record in run[1]]


def test_a_step_that_is_a_point_of_the_grid_is_computed_once_and_compared():
    overrides = ["pruning={schedule: iterative, rounds: 2}", "sparsities=[0.4, 0.2]"]
    cells = plan(parse_study(TINY, overrides=overrides)).cells
    first = [cell for cell in cells if cell.stage == "prune" and cell.settings["sparsity"] == 0.2]
    assert [cell.role for cell in first if cell.axes["arm"] == "none"] == ["untuned"]
    assert len({cell.id for cell in cells}) == len(cells)
    places = {cell.id: number for number, cell in enumerate(cells)}
    assert all(places[cell.parent] < places[cell.id] for cell in cells if cell.parent)


def test_geometric_rounds_take_the_same_share_of_what_is_left():
    overrides = [
        "pruning={schedule: iterative, rounds: 2, spacing: geometric, rates: {layer1: 0.51}}",
        "sparsities=[0.75]",
    ]
    cells = plan(parse_study(TINY, overrides=overrides)).cells
    steps = [cell for cell in cells if cell.stage == "prune" and cell.role == "round"]
    assert [cell.settings["sparsity"] for cell in steps] == [0.5, 0.75]
    assert [cell.settings["rates"] for cell in steps] == [{"layer1": 0.3}, {"layer1": 0.51}]


@pytest.mark.parametrize(
    ("pruning", "sentence"),
    [
        ("{schedule: iterative}", "needs rounds"),
        ("{rounds: 3}", "belong to schedule: iterative"),
        ("{spacing: linear}", "belong to schedule: iterative"),
        ("{schedule: iterative, rounds: 1}", "greater than or equal to 2"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(pruning, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_study(TINY, overrides=[f"pruning={pruning}"])


@pytest.mark.slow
def test_masks_are_made_in_rounds_too(tmp_path):
    _, records = run_here(TINY, tmp_path / "run", "criteria=[weight_magnitude]", ROUNDS, "sparsities=[0.9]")
    assert {record["status"] for record in records} == {"ok"}
    (untuned,) = of(records, "prune", role="untuned")
    (pruned,) = of(records, "tune", role="pruned")
    assert pruned["science"]["parameters_nonzero"] == untuned["science"]["parameters_nonzero"]
    achieved = [record["science"]["sparsity_achieved"] for record in of(records, "prune", role="round")]
    assert achieved == pytest.approx([0.3, 0.6, 0.9], abs=0.01)
