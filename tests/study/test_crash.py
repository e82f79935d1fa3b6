"""Kill a run anywhere, run it again, and compare with one that was never killed."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from secateur.store import Store
from secateur.store.faults import POINTS
from toy.numbers import record_of
from toy.study import run_toy, science

RUNNER = "import sys; from toy.study import run_toy; sys.exit(run_toy(sys.argv[1], jobs=2).exit_code)"


def start(out, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stderr=subprocess.DEVNULL,
    )


# The smallest study in which each of two workers has a second cell to die at.
FEW = ["finetune={}"]


@pytest.fixture(scope="module")
def whole(whole_run):
    return science(whole_run)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    out = tmp_path_factory.mktemp("few") / "run"
    assert run_toy(out, overrides=FEW).exit_code == 0
    return science(out)


def assert_completes(out, whole, overrides=()):
    outcome = run_toy(out, overrides=overrides)
    assert outcome.exit_code == 0
    assert science(out) == whole
    outcome.store.gc()
    assert not list((out / "tmp").iterdir())
    assert not list(out.glob("*.tmp"))
    assert not list((out / "scratch").iterdir())


def workers_of(out):
    listing = subprocess.run(
        ["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in listing.splitlines() if str(out) in line and "engine.worker" in line]


@pytest.mark.parametrize("round_", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_at_a_random_moment_completes_with_the_same_records(tmp_path, whole, round_):
    out = tmp_path / "run"
    draw = random.Random(round_)
    process = start(out, TOY_SLEEP="0.02")
    deadline = time.monotonic() + 10
    while not (out / "study.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(draw.uniform(0.1, 0.9))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_completes(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("point", sorted(point for point in POINTS if point.startswith("commit.")))
def test_a_worker_killed_while_it_writes_changes_nothing(tmp_path, few, point, monkeypatch):
    out, died = tmp_path / "run", []
    monkeypatch.setenv("TOY_FAULT", f"{point}:2")
    run_toy(out, jobs=2, overrides=FEW, on_event=lambda event: died.append(event.kind == "retry"))
    monkeypatch.delenv("TOY_FAULT")
    assert any(died)
    assert_completes(out, few, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["study.written", "study.replaced", "lease.taken"])
def test_a_runner_killed_while_it_begins_can_begin_again(tmp_path, whole, point):
    out = tmp_path / "run"
    runner = f"import toy.stages; {RUNNER}"
    process = subprocess.run(
        [sys.executable, "-c", runner, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TOY_FAULT": f"{point}:1"},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    assert_completes(out, whole)


@pytest.mark.slow
def test_every_fault_point_is_reached(tmp_path, monkeypatch):
    from secateur.store import faults

    reached = set()
    end = faults.listen(reached.add)
    out = tmp_path / "run"
    run_toy(out)
    store = Store.open(out)
    victim = store.cells[-1].id
    (out / "cells" / victim[:2] / victim / "record.json").write_text("{")
    store.repair()
    store.commit(record_of(store.cells[-1]), {"state.json": b"1"})
    end()
    assert reached == set(POINTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stopped",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="no such signal"))],
)
def test_no_worker_outlives_its_runner(tmp_path, stopped):
    out = tmp_path / "run"
    process = start(out, TOY_SLEEP="0.5")
    deadline = time.monotonic() + 10
    while not workers_of(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(out)
    if stopped:  # as a process is that a debugger holds, or a file system that does not answer
        while not list(out.glob("scratch/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for line in workers_of(out):
            os.kill(int(line.split()[0]), signal.SIGSTOP)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while workers_of(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers_of(out)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_asked_to_stop_says_so_with_its_exit_code(tmp_path, whole, number, code):
    out = tmp_path / "run"
    process = start(out, TOY_SLEEP="0.2")
    deadline = time.monotonic() + 10
    while not list(out.glob("cells/*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=10) == code
    assert not workers_of(out)
    assert_completes(out, whole)


@pytest.mark.slow
def test_the_comparison_notices_a_wrong_record(tmp_path, whole, monkeypatch):
    """The broken variant: a resumed cell that forgets the step at which it was interrupted."""
    out = tmp_path / "run"
    monkeypatch.setenv("TOY_FORGETS", "1")
    run_toy(out)
    assert science(out).keys() == whole.keys()
    assert science(out) != whole
