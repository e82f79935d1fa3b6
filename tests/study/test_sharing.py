"""Several runners on one folder."""

import functools
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from secateur.config import parse_study
from secateur.errors import ExitCode, UserError
from secateur.store import Leases, Store
from secateur.study import cells as cells_module
from secateur.study import join, plan, plan_of, run_plan
from toy.study import EXECUTE, FACTS, SMALL, run_toy, science, small_plan

MANY = SMALL.replace("images: 20", "images: 20\nseeds: [0, 1, 2]")


def together(*functions):
    results = []
    threads = [threading.Thread(target=lambda f=f: results.append(f())) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.slow
def test_two_runners_share_the_work_and_do_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("TOY_SLEEP", "0.02")
    out = tmp_path / "run"
    Store.create(out, small_plan(MANY).to_json())
    outcomes = together(
        lambda: run_toy(out, text=MANY), lambda: join(out, execute=EXECUTE, check_files=False)
    )
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert [outcome.ok for outcome in outcomes] == [24, 24]
    counts = Counter((tmp_path / "trace").read_text().split())
    assert set(counts.values()) == {1}
    assert len(counts) == 24
    monkeypatch.delenv("TOY_SLEEP")
    run_toy(tmp_path / "whole", text=MANY)
    assert science(out) == science(tmp_path / "whole")
    assert not list((out / "leases").iterdir())


@pytest.mark.slow
def test_without_leases_work_would_be_done_twice(tmp_path, monkeypatch):
    """The broken variant: everybody gets every lease."""
    monkeypatch.setattr(Leases, "claim", lambda self, cell_id: True)
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    out = tmp_path / "run"
    outcomes = together(*[lambda: run_toy(out)] * 2)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert max(Counter((tmp_path / "trace").read_text().split()).values()) == 2


@pytest.mark.slow
def test_the_cells_of_a_killed_runner_are_taken_over(whole_run, tmp_path, monkeypatch):
    out = tmp_path / "run"
    code = "import sys; from toy.study import run_toy; run_toy(sys.argv[1], jobs=2)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TOY_SLEEP": "20"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not list(out.glob("leases/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    outcomes = []
    helper = threading.Thread(target=lambda: outcomes.append(join(out, execute=EXECUTE, check_files=False)))
    helper.start()
    time.sleep(0.5)
    assert not outcomes
    process.send_signal(signal.SIGKILL)
    process.wait()
    helper.join(timeout=30)
    assert outcomes[0].exit_code == 0
    assert science(out) == science(whole_run)


@pytest.mark.slow
def test_a_failure_elsewhere_is_noticed_and_skips_the_descendants(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    out = tmp_path / "run"
    outcomes = together(*[lambda: run_toy(out)] * 2)
    assert [outcome.exit_code for outcome in outcomes] == [ExitCode.CELLS_FAILED] * 2
    assert [(outcome.ok, len(outcome.failed)) for outcome in outcomes] == [(4, 4)] * 2


@pytest.mark.slow
def test_a_worker_lets_earlier_failures_stand_unless_told_otherwise(tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setenv("TOY_FAIL", "prune")
    run_toy(out)
    monkeypatch.delenv("TOY_FAIL")
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    outcome = join(out, execute=EXECUTE, check_files=False)
    assert (outcome.exit_code, len(outcome.failed)) == (ExitCode.CELLS_FAILED, 4)
    assert not (tmp_path / "trace").exists()
    assert join(out, execute=EXECUTE, check_files=False, retry_failed=True).exit_code == 0


def test_a_worker_needs_a_run_folder(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        join(tmp_path, execute=EXECUTE)


def test_a_worker_of_another_version_is_refused_before_it_works(tmp_path, monkeypatch):
    out = tmp_path / "run"
    Store.create(out, small_plan().to_json())
    before = (out / "study.json").read_bytes()
    monkeypatch.setattr(cells_module, "SCIENCE", {**cells_module.SCIENCE, "tune": 2})
    with pytest.raises(UserError, match="planned by another version") as caught:
        join(out, execute=EXECUTE, check_files=False)
    assert caught.value.code == ExitCode.FOREIGN_FOLDER
    assert (out / "study.json").read_bytes() == before


def test_a_worker_with_other_data_is_refused_before_it_works(tmp_path):
    Store.create(tmp_path / "run", small_plan().to_json())  # of the toy's data, which no machine has
    with pytest.raises(UserError, match="the data on this machine are not those") as caught:
        join(tmp_path / "run", execute=EXECUTE)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert not science(tmp_path / "run")


def test_a_worker_without_the_data_is_refused_before_it_works(tmp_path):
    absent = small_plan(overrides=[f"data=idx:{tmp_path / 'absent'}"])
    Store.create(tmp_path / "run", absent.to_json())
    with pytest.raises(UserError, match="absent") as caught:
        join(tmp_path / "run", execute=EXECUTE)
    assert caught.value.code == ExitCode.ENVIRONMENT


@pytest.mark.slow
def test_a_worker_with_the_same_data_is_welcome(tmp_path):
    Store.create(tmp_path / "run", plan(parse_study(SMALL)).to_json())
    assert join(tmp_path / "run", execute=EXECUTE).exit_code == 0


@pytest.mark.slow
def test_the_order_of_labels_in_the_file_makes_no_other_study(tmp_path):
    text = SMALL.replace("{standard: {epochs: 2}}", "{z: {epochs: 2}, a: {epochs: 3}}")
    text = text.replace(
        "{plain: resnet-tiny}", "{y: resnet-tiny, b: {arch: resnet-tiny, recipe: {epochs: 1}}}"
    )
    laid = small_plan(text)
    store = Store.create(tmp_path / "run", laid.to_json())
    before = (tmp_path / "run" / "study.json").read_bytes()
    assert [cell.id for cell in plan_of(store).cells] == [cell.id for cell in laid.cells]
    outcome = join(tmp_path / "run", execute=EXECUTE, check_files=False)
    assert (outcome.exit_code, outcome.ok) == (0, len(laid.cells))
    assert (tmp_path / "run" / "study.json").read_bytes() == before


@pytest.mark.slow
def test_a_limited_study_stays_limited_for_its_workers(tmp_path):
    out = tmp_path / "run"
    Store.create(out, plan(parse_study(SMALL), facts=FACTS, limit=5).to_json())
    outcome = join(out, execute=EXECUTE, check_files=False)
    assert outcome.ok == 8
    assert outcome.store.study["limited"] == 5


@pytest.mark.slow
def test_cells_in_common_are_taken_over_from_another_study(whole_run, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    text = SMALL.replace("plain:", "renamed:")
    changed = plan(parse_study(text, overrides=["attacks.fmn={norm: 2, steps: 5}"]), facts=FACTS)
    events = []
    outcome = run_plan(changed, tmp_path / "two", execute=EXECUTE, reuse=[whole_run], on_event=events.append)
    assert outcome.exit_code == 0
    assert len((tmp_path / "trace").read_text().split()) == 4
    assert {record["axes"]["model"] for record in outcome.records} == {"renamed"}
    assert "8 cells are copied" in next(event.sentence for event in events if event.kind == "note")
    monkeypatch.delenv("TOY_TRACE")
    run_plan(changed, tmp_path / "afresh", execute=EXECUTE)
    assert science(tmp_path / "two") == science(tmp_path / "afresh")


@pytest.mark.slow
def test_damaged_and_failed_cells_are_not_taken_over(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    store = run_toy(tmp_path / "one").store
    dense = store.cells[0]
    (tmp_path / "one" / "cells" / dense.id[:2] / dense.id / "state.json").write_text("7")
    new = Store.create(tmp_path / "two", small_plan().to_json())
    taken = [cell for cell in new.cells if new.adopt(Store.open(tmp_path / "one"), cell)]
    assert len(taken) == 3
    assert dense not in taken


FROZEN = """
import functools, importlib, sys
from toy.study import run_toy
module = importlib.import_module("secateur.study.running")
module.Leases = functools.partial(module.Leases, beat_seconds=0.05)
sys.exit(run_toy(sys.argv[1], jobs=2).exit_code)
"""


@pytest.mark.slow
def test_a_frozen_runner_is_overtaken_and_does_no_harm_when_it_wakes(whole_run, tmp_path, monkeypatch):
    out = tmp_path / "run"
    frozen = subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TOY_SLEEP": "0.3"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not list(out.glob("leases/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    frozen.send_signal(signal.SIGSTOP)
    module = importlib.import_module("secateur.study.running")
    monkeypatch.setattr(module, "Leases", functools.partial(Leases, beat_seconds=0.05))
    outcome = join(out, execute=EXECUTE, check_files=False)
    assert outcome.exit_code == 0
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(timeout=30) == 0
    assert science(out) == science(whole_run)
