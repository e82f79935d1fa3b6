import errno
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from secateur import study as study_room
from secateur.config import parse_study
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.store import Store
from secateur.study import plan, run_plan
from toy.study import EXECUTE, FACTS, SMALL, run_toy, science, small_plan

TWO = SMALL.replace("[0, 0.5]", "[0, 0.25, 0.5]").replace("images: 20", "images: 20\nseeds: [0, 1]")


def kinds(events):
    return [event.kind for event in events]


@pytest.mark.slow
def test_a_study_runs_to_its_end(tmp_path):
    events = []
    outcome = run_toy(tmp_path / "run", on_event=events.append)
    assert (outcome.exit_code, outcome.ok, outcome.failed) == (0, 8, {})
    assert [record["status"] for record in outcome.records] == ["ok"] * 8
    assert kinds(events)[0] == "begin"
    assert kinds(events)[-1] == "end"
    assert kinds(events).count("ok") == 8
    assert events[-1].done == events[-1].total == 8


@pytest.mark.slow
def test_records_come_in_the_order_of_the_study(tmp_path):
    outcome = run_toy(tmp_path / "run", jobs=2)
    assert [record["id"] for record in outcome.records] == [cell.id for cell in small_plan().cells]


@pytest.mark.slow
def test_a_record_has_the_agreed_fields(tmp_path):
    record = run_toy(tmp_path / "run").records[-1]
    assert set(record) == {
        *("schema_version", "id", "stage", "status", "parent", "axes", "role", "settings", "science"),
        *("timing", "provenance", "artefacts", "error", "self_hash"),
    }
    assert set(record["axes"]) == {"model", "seed", "criterion", "sparsity", "arm", "attack"}
    assert record["timing"]["seconds"] > 0


@pytest.mark.slow
def test_one_worker_and_two_give_the_same_records(tmp_path):
    run_toy(tmp_path / "one", text=TWO, jobs=1)
    run_toy(tmp_path / "two", text=TWO, jobs=2)
    assert science(tmp_path / "one") == science(tmp_path / "two")
    assert len(science(tmp_path / "one")) == len(small_plan(TWO).cells)


def test_running_again_runs_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    outcome = run_toy(finished)
    assert (outcome.exit_code, outcome.ok) == (0, 8)
    assert not (tmp_path / "trace").exists()


@pytest.mark.slow
def test_a_failing_cell_stops_only_its_descendants(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    events = []
    outcome = run_toy(tmp_path / "run", on_event=events.append)
    assert outcome.exit_code == ExitCode.CELLS_FAILED
    failed = [record for record in outcome.records if record["status"] == "failed"]
    assert len(failed) == 4
    broken = failed[0]["error"]
    assert broken["sentence"] == "ArithmeticError: this toy breaks"
    assert "in execute" in broken["traceback"]
    assert all(record["error"]["sentence"].startswith("skipped, because") for record in failed[1:])
    assert kinds(events).count("skipped") == 3


@pytest.mark.slow
def test_failed_cells_are_tried_again_by_the_next_run(whole_run, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    run_toy(tmp_path / "run")
    monkeypatch.delenv("TOY_FAIL")
    assert run_toy(tmp_path / "run").exit_code == 0
    assert science(tmp_path / "run") == science(whole_run)


def test_another_study_in_the_folder_is_refused_with_the_difference(finished):
    with pytest.raises(UserError, match=r"attacks\.ddn\.steps: 10 in the folder, 11 now") as caught:
        run_toy(finished, overrides=["attacks.ddn.steps=11"])
    assert caught.value.code == ExitCode.FOREIGN_FOLDER


def test_settings_that_change_no_number_may_change_between_runs(finished):
    outcome = run_toy(finished, overrides=["name=renamed", "epsilons=[0.1]", "batch_size=3"])
    assert outcome.ok == 8
    assert Store.open(finished).study["name"] == "renamed"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncate", "edit", "empty", "artefact", "lost artefact"])
def test_a_damaged_cell_is_quarantined_and_computed_afresh(finished, damage):
    out = finished
    whole = science(out)
    cell = next(cell for cell in small_plan().cells if cell.stage == "prune")
    folder = out / "cells" / cell.id[:2] / cell.id
    record = folder / "record.json"
    match damage:
        case "truncate":
            record.write_bytes(record.read_bytes()[:-40])
        case "edit":
            record.write_text(record.read_text().replace('"value"', '"valve"'))
        case "empty":
            record.unlink()
        case "artefact":
            (folder / "state.json").write_text("123456")
        case "lost artefact":
            (folder / "state.json").unlink()
    events = []
    outcome = run_toy(out, on_event=events.append)
    assert outcome.exit_code == 0
    assert science(out) == whole
    assert "computed afresh" in next(event.sentence for event in events if event.kind == "note")
    assert len(list((out / "quarantine").iterdir())) == 1
    assert cell.id in Store.open(out).notes()[0]["note"]


@pytest.mark.slow
def test_a_cell_whose_worker_dies_once_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_DIE_ONCE", "prune")
    events = []
    outcome = run_toy(tmp_path / "run", on_event=events.append)
    assert outcome.exit_code == 0
    retried = [event for event in events if event.kind == "retry"]
    assert len(retried) == 1
    assert "signal 9" in retried[0].sentence


@pytest.mark.slow
def test_a_cell_that_kills_two_workers_is_lost_and_the_others_finish(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_DIE", "prune")
    outcome = run_toy(tmp_path / "run", jobs=2)
    assert outcome.exit_code == ExitCode.CELLS_FAILED
    assert outcome.ok == 4
    lost = next(record for record in outcome.records if record["status"] == "failed")
    assert lost["error"]["sentence"].startswith("worker_lost: its worker process died (exit code 7)")


@pytest.mark.slow
def test_a_full_disk_pauses_the_study_instead_of_failing_its_cells(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_DISK_FULL", "prune")
    with pytest.raises(UserError, match="No space left") as caught:
        run_toy(tmp_path / "run")
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert all(json.loads(text)["status"] == "ok" for text in science(tmp_path / "run").values())
    monkeypatch.delenv("TOY_DISK_FULL")
    assert run_toy(tmp_path / "run").exit_code == 0


@pytest.fixture
def file_limit():
    """Limit the size of files that this process and its children write, as ``ulimit -f`` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["runner", "worker"])
def test_a_limit_on_the_size_of_files_pauses_the_study_too(tmp_path, file_limit, writer):
    if writer == "runner":
        file_limit(1000)
    with pytest.raises(UserError, match="File too large") as caught:
        run_toy(tmp_path / "run", on_event=lambda event: file_limit(1000))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert not science(tmp_path / "run")


@pytest.mark.slow
def test_a_run_folder_that_is_removed_ends_the_run_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    out = tmp_path / "run"
    with pytest.raises(UserError, match="run is gone") as caught:
        run_toy(out, on_event=lambda event: shutil.rmtree(out) if event.kind == "ok" else None)
    assert caught.value.code == ExitCode.ENVIRONMENT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_one_signal_stops_the_run_and_it_can_go_on(whole_run, tmp_path, monkeypatch, number, code):
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    out = tmp_path / "run"
    events = []
    ours = signal.getsignal(number)
    if ours is signal.SIG_IGN:  # nohup starts us so, and a run leaves what is ignored ignored
        signal.signal(number, signal.SIG_DFL)
    handler = signal.getsignal(number)

    def interrupt(event):
        events.append(event)
        if event.kind == "ok" and kinds(events).count("ok") == 2:
            os.kill(os.getpid(), number)

    try:
        outcome = run_toy(out, on_event=interrupt)
        assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, ours)
    assert outcome.exit_code == code
    assert "interrupted" in kinds(events)
    assert 2 <= outcome.ok < 8
    monkeypatch.delenv("TOY_SLEEP")
    assert run_toy(out).exit_code == 0
    assert science(out) == science(whole_run)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_leaves_the_worker_to_its_runner(whole_run, tmp_path, monkeypatch, number):
    """As a terminal sends it, or a batch system at the end of a job: the runner decides what follows."""
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    out, events = tmp_path / "run", []

    def signal_the_worker(event):
        events.append(event.kind)
        if event.kind == "tick" and events.count("tick") == 2:
            for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
                os.kill(int(child), number)

    assert run_toy(out, on_event=signal_the_worker).exit_code == 0
    assert events.count("tick") >= 2
    assert "retry" not in events
    assert science(out) == science(whole_run)


@pytest.mark.slow
def test_a_run_under_nohup_is_not_stopped_by_its_terminal(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outcome = run_toy(tmp_path / "run", on_event=lambda event: os.kill(os.getpid(), signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome.exit_code == 0


@pytest.mark.slow
def test_a_run_folder_may_be_a_link_but_not_to_nothing(whole_run, tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "large disk")
    with pytest.raises(UserError, match="is a link to a folder that is not there"):
        run_toy(tmp_path / "run")
    (tmp_path / "large disk").mkdir()
    assert run_toy(tmp_path / "run").exit_code == 0
    assert science(tmp_path / "large disk") == science(whole_run)


def test_a_user_without_a_home_may_have_run_folders(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert Store.create(tmp_path / "run", small_plan().to_json()).records() == []


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "30")
    kinds_seen = []

    def interrupt_twice(event):
        kinds_seen.append(event.kind)
        if event.kind in ("start", "stopping"):
            os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        run_toy(tmp_path / "run", on_event=interrupt_twice)
    assert caught.value.code == 130
    assert kinds_seen == ["begin", "start", "stopping"]
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_a_moved_run_folder_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "attack")
    run_toy(tmp_path / "run")
    monkeypatch.delenv("TOY_FAIL")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    assert run_toy(tmp_path / "elsewhere").exit_code == 0
    assert len((tmp_path / "trace").read_text().split()) == 4


@pytest.mark.slow
def test_a_limit_is_another_study_and_says_so_in_every_record(tmp_path):
    limited = plan(parse_study(SMALL), facts=FACTS, limit=5)
    outcome = run_plan(limited, tmp_path / "run", execute=EXECUTE)
    assert outcome.store.study["limited"] == 5
    assert all(record["provenance"]["limited"] == 5 for record in outcome.records)
    assert {c.settings["images"] for c in limited.cells if c.stage == "attack"} == {5}
    with pytest.raises(UserError, match=r"images: 5 in the folder, 20 now"):
        run_toy(tmp_path / "run")


@pytest.mark.slow
def test_the_public_run_returns_records_and_uses_a_folder_named_after_the_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secateur.study.planning.read_facts", lambda study: FACTS)
    (tmp_path / "toy.yaml").write_text(SMALL)
    records = study_room.run("toy.yaml", execute=EXECUTE)
    assert len(records) == 8
    assert (tmp_path / "runs" / "toy" / "study.json").exists()


@pytest.mark.slow
def test_stages_that_cannot_be_imported_are_an_error_of_ours_not_of_every_cell(tmp_path):
    with pytest.raises(RuntimeError, match=r"cannot start.*No module named"):
        run_plan(small_plan(), tmp_path / "run", execute="no_such_room:execute")
    assert not science(tmp_path / "run")


@pytest.mark.slow
def test_a_record_of_a_newer_version_locks_no_study(finished):
    """It is left as it is, and so is what depends on it; everything else goes on."""
    store = Store.open(finished)
    pruned = next(cell for cell in store.cells if cell.stage == "prune")
    below = next(cell for cell in store.cells if cell.parent == pruned.id)
    other = next(cell for cell in store.cells if cell.stage == "attack" and cell.role == "dense")
    path = finished / "cells" / pruned.id[:2] / pruned.id / "record.json"
    newer = {**json.loads(path.read_text()), "schema_version": 9}
    newer["self_hash"] = digest({key: value for key, value in newer.items() if key != "self_hash"})
    path.write_text(json.dumps(newer))
    for cell in (below, other):
        shutil.rmtree(finished / "cells" / cell.id[:2] / cell.id)
    outcome = run_toy(finished)
    assert outcome.exit_code == ExitCode.CELLS_FAILED
    assert "newer secateur" in outcome.failed[pruned.id]
    assert outcome.failed.keys() >= {pruned.id, below.id}
    again = Store.open(finished)
    assert again.committed(other.id)
    assert again.record(below.id) is None
    assert json.loads(path.read_text()) == newer
    told = study_room.status(again)
    assert [label for label, sentence in told.failed if "newer secateur" in sentence] == [pruned.label]
    assert told.damaged == ()


@pytest.mark.slow
def test_a_lost_cell_goes_on_where_it_was(tmp_path, monkeypatch):
    """One worker dies after the second step, the next after the third; the next run does the fourth."""
    monkeypatch.setenv("TOY_DIE_AT", "train:2")
    outcome = run_toy(tmp_path / "run")
    assert next(iter(outcome.failed.values())).startswith("worker_lost")
    monkeypatch.delenv("TOY_DIE_AT")
    dense = outcome.store.cells[0].id
    assert json.loads((tmp_path / "run" / "scratch" / dense / "kept.json").read_text())[0] == 3
    assert run_toy(tmp_path / "run").exit_code == 0


@pytest.mark.parametrize("name", ["ESTALE", "ENOTCONN", "EIO"])
def test_a_folder_that_does_not_answer_pauses_the_runner_itself(finished, monkeypatch, name):
    def fail(self, cell_id):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(Store, "_read", fail)
    with pytest.raises(UserError) as caught:
        run_toy(finished)
    assert caught.value.code == ExitCode.ENVIRONMENT
