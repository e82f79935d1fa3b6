from dataclasses import replace
from types import SimpleNamespace

import pytest

from secateur.config import parse_study
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.store import Store
from secateur.study import footprint, plan, run_plan
from secateur.study.cost import Footprint, Speed
from secateur.study.planning import plan_of
from toy.study import EXECUTE, FACTS, SMALL, run_toy, small_plan


@pytest.mark.slow
def test_a_plan_counts_passes_of_what_is_left(tmp_path):
    laid = small_plan()
    assert laid.forwards == sum(cost.forwards for cost in laid.costs.values())
    assert laid.backwards > 0
    run_toy(tmp_path / "run")
    done = plan(parse_study(SMALL), facts=FACTS, out=tmp_path / "run")
    assert (done.forwards, done.backwards, done.todo) == (0, 0, ())
    assert done.seconds() == 0


def test_planning_writes_nothing(tmp_path):
    plan(parse_study(SMALL), facts=FACTS, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_planning_for_the_folder_of_another_study_is_refused(tmp_path):
    run_toy(tmp_path / "run")
    other = parse_study(SMALL, overrides=["attacks.ddn.steps=11"])
    with pytest.raises(UserError, match="another study"):
        plan(other, facts=FACTS, out=tmp_path / "run")


def test_a_limit_cuts_the_attacked_images_and_nothing_else():
    whole, limited = small_plan(), plan(parse_study(SMALL), facts=FACTS, limit=5)
    kept = {cell.id for cell in whole.cells if cell.stage != "attack"}
    assert kept == {cell.id for cell in whole.cells} & {cell.id for cell in limited.cells}
    assert plan(parse_study(SMALL), facts=FACTS, limit=500).study.images == 20
    with pytest.raises(UserError, match="must be at least 1"):
        plan(parse_study(SMALL), facts=FACTS, limit=0)


def test_study_json_says_what_the_report_needs():
    content = small_plan().to_json()
    assert content["labels"] == {"robust": {"plain": False}}
    assert {"id", "stage", "parent", "axes", "role", "settings"} == set(content["cells"][0])
    assert content["config"]["attacks"]["ddn"]["steps"] == 10


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    probed = replace(small_plan(), speeds={"plain": Speed(1e-3, 1, 10_000_000)})
    # Four networks of 40 MB or less, and while the largest is trained its checkpoints.
    assert 400_000_000 < probed.disk_bytes < 600_000_000
    assert small_plan().disk_bytes is None
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1_000_000))
    with pytest.raises(UserError, match="MB left") as caught:
        run_plan(probed, tmp_path / "a" / "run", execute=EXECUTE)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert run_plan(probed, tmp_path / "a" / "run", execute=EXECUTE).exit_code == 0


def test_a_folder_whose_cells_have_other_settings_than_their_ids_is_refused(tmp_path):
    """Whoever joins a run would compute what the settings say under the id of something else."""
    laid = small_plan()
    for change in (
        lambda cell: cell["settings"]["recipe"].update(epochs=7),
        lambda cell: cell["settings"].update(recipe={"surprise": 1}),
        lambda cell: cell["axes"].update(seed=5),
    ):
        study = laid.to_json()
        tuned = next(cell for cell in study["cells"] if cell["stage"] == "tune")
        change(tuned)
        store = Store.create(tmp_path / digest(study), study)
        with pytest.raises(UserError, match="holds other settings than its study"):
            plan_of(store)


def test_settings_that_an_older_version_did_not_have_make_no_difference(tmp_path):
    study = small_plan().to_json()
    for cell in study["cells"]:
        if "recipe" in cell["settings"]:
            del cell["settings"]["recipe"]["label_smoothing"]
    plan_of(Store.create(tmp_path / "run", study))


def test_the_memory_of_a_study_is_that_of_its_largest_cell_in_every_job():
    needs = Footprint(weights=40_000_000, gradient=2_000_000, forward=300_000)
    probed = replace(small_plan(), speeds={"plain": Speed(1e-3, 1, 10_000_000, needs)})
    one, none = probed.memory_bytes(1)
    batch = min(probed.cells[0].settings["recipe"]["batch_size"], FACTS.train)
    assert one > 7 * needs.weights + needs.gradient * batch
    assert one < 10 * needs.weights + needs.gradient * batch + 500_000_000
    assert (probed.memory_bytes(3), none) == ((3 * one, 0), 0)
    assert small_plan().memory_bytes(1) is None
    quarters = ["models={plain: {arch: resnet-tiny, recipe: {accumulate: 4}}}", "finetune={}"]
    halves = small_plan(overrides=quarters)
    halves = replace(halves, speeds=probed.speeds)
    assert halves.memory_bytes(1)[0] < one
    on_gpu = replace(probed, study=probed.study.model_copy(update={"device": "cuda"}))
    host, device = on_gpu.memory_bytes(2)
    assert host < device < 2 * one


def test_a_study_that_needs_more_memory_than_there_is_can_not_fit(monkeypatch):
    monkeypatch.setattr(footprint, "host_memory", lambda: 8_000_000_000)
    footprint.refuse_small_memory(7_900_000_000, 0, name="cpu", jobs=1)
    with pytest.raises(
        UserError, match=r"needs at least 8\.1 GB of memory, this machine has 8\.0 GB"
    ) as caught:
        footprint.refuse_small_memory(8_100_000_000, 0, name="cpu", jobs=2)
    assert (caught.value.code, caught.value.command) == (ExitCode.ENVIRONMENT, "choose fewer --jobs")
    monkeypatch.setattr(footprint, "host_memory", lambda: None)
    footprint.refuse_small_memory(10**15, 0, name="cpu", jobs=1)


def test_the_memory_of_this_machine_is_known_and_within_reason():
    assert footprint.host_memory() is None or 10**8 < footprint.host_memory() < 10**15
    assert footprint.device_memory("cpu") is None
