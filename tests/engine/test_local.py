import os
import signal
import time
from types import SimpleNamespace

import pytest

from secateur.engine import life, local
from secateur.engine.life import work_of
from secateur.engine.local import LocalEngine
from secateur.errors import UserError
from secateur.store import Store
from toy.study import EXECUTE, small_plan

DENSE = small_plan().cells[0]


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "run", small_plan().to_json())


@pytest.fixture
def start(store):
    engines = []

    def make(**settings):
        engines.append(LocalEngine(store.root, execute=EXECUTE, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def listen(engine, until, seconds=20):
    """Everything that the engine says until a message of kind ``until``, or until it is too late."""
    found, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline and until not in [message.kind for message in found]:
        found += engine.poll(0.1)
    return found


@pytest.mark.slow
def test_a_cell_is_started_reports_its_steps_and_is_committed(store, start):
    engine = start()
    engine.submit(DENSE.id)
    messages = [message for message in listen(engine, "ok") if message.kind != "alive"]
    kinds = [message.kind for message in messages]
    assert kinds[0] == "start"
    assert kinds[-1] == "ok"
    ticks = [(message.done, message.total) for message in messages if message.kind == "tick"]
    assert ticks[-1] == (4, 4)
    assert store.committed(DENSE.id)


def test_polling_an_idle_engine_returns_after_its_timeout(start):
    started = time.monotonic()
    assert start().poll(0.1) == []
    assert 0.05 < time.monotonic() - started < 2


@pytest.mark.slow
def test_more_cells_than_slots_wait_for_their_turn(store, start, monkeypatch):
    engine = start(slots=2)
    engine.submit(DENSE.id)
    listen(engine, "ok")
    children = [cell.id for cell in small_plan().cells if cell.parent == DENSE.id]
    assert len(children) == 3
    for child in children:
        engine.submit(child)
    done = []
    while len(done) < 3:
        done += [message.cell for message in listen(engine, "ok") if message.kind == "ok"]
    assert sorted(done) == sorted(children)


@pytest.mark.slow
def test_workers_stay_for_the_next_cell(store, start):
    engine = start()
    engine.submit(DENSE.id)
    listen(engine, "ok")
    before = [worker.process.pid for worker in engine._workers.values()]
    engine.submit(next(cell.id for cell in small_plan().cells if cell.parent == DENSE.id))
    listen(engine, "ok")
    assert [worker.process.pid for worker in engine._workers.values()] == before


@pytest.mark.slow
def test_threads_reach_the_workers(store, start, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    engine = start(threads=3)
    engine.submit(DENSE.id)
    listen(engine, "ok")
    assert store.record(DENSE.id).science.threads == "3"


@pytest.mark.slow
def test_a_worker_that_dies_twice_on_a_cell_loses_it_and_others_still_run(store, start, monkeypatch):
    monkeypatch.setenv("TOY_DIE", "prune")
    engine = start()
    engine.submit(DENSE.id)
    listen(engine, "ok")
    pruned = next(cell.id for cell in small_plan().cells if cell.stage == "prune")
    tuned = next(cell.id for cell in small_plan().cells if cell.stage == "tune")
    engine.submit(pruned)
    engine.submit(tuned)
    messages = listen(engine, "ok")
    assert [m.kind for m in messages if m.cell == pruned and m.kind not in ("start", "alive")] == [
        "retry",
        "lost",
    ]
    assert messages[-1].cell == tuned


def family(engine):
    return [worker.process.pid for worker in engine._workers.values()]


@pytest.mark.slow
@pytest.mark.skipif(work_of(os.getpid()) is None, reason="the system does not tell")
def test_a_worker_that_hangs_is_no_longer_alive_and_is_replaced(store, start, monkeypatch):
    monkeypatch.setattr(local, "LIFE_SECONDS", 1.5)
    monkeypatch.setattr(local, "HUNG_SECONDS", 3.0)
    monkeypatch.setenv("TOY_SLEEP", "0.3")
    engine = start()
    engine.submit(DENSE.id)
    listen(engine, "tick")
    (pid,) = family(engine)
    os.kill(pid, signal.SIGSTOP)
    messages = listen(engine, "retry")
    (retry,) = (message for message in messages if message.kind == "retry")
    assert "no sign of life" in retry.sentence
    # In the second half of the three seconds it was no longer said to be alive.
    assert [message.kind for message in messages[: messages.index(retry)]].count("alive") < 15
    assert listen(engine, "ok")[-1].kind == "ok"


@pytest.mark.slow
@pytest.mark.skipif(work_of(os.getpid()) is None, reason="the system does not tell")
def test_a_worker_that_computes_without_a_word_is_alive(store, start, monkeypatch):
    monkeypatch.setattr(local, "LIFE_SECONDS", 1.5)
    monkeypatch.setattr(local, "HUNG_SECONDS", 2.0)
    monkeypatch.setenv("TOY_BUSY", "4")
    engine = start()
    engine.submit(DENSE.id)
    kinds = [message.kind for message in listen(engine, "ok")]
    assert kinds.count("alive") > 3
    assert "retry" not in kinds


def test_a_cell_that_makes_no_step_for_very_long_is_reported_once(monkeypatch):
    """Its worker may spin, waiting for a device that never answers; it is not ended for that."""
    now, process = [10_000.0], SimpleNamespace(pid=os.getpid())
    monkeypatch.setattr(local.time, "monotonic", lambda: now[0])
    worker = local._Worker(
        1, process, None, life.Pulse(process.pid), cell="a", begun=9_000.0, stepped=9_990.0
    )

    def said(seconds):
        now[0] += seconds
        worker.pulse.beat()
        sign = local._sign_of_life(worker)
        return sign and sign.kind

    assert [said(3000), said(500), said(200), said(200)] == ["alive", "alive", "silent", None]
    worker.stepped = now[0]
    assert said(3000) == "alive"
    # A cell whose steps took two hours may well take another hour and a half for what comes after them.
    worker.begun = worker.stepped - 7200
    assert said(2400) == "alive"


def test_a_pause_of_ones_own_says_nothing_about_a_worker(monkeypatch):
    """Ctrl-Z stops the runner and its workers together; after fg the clock has gone on."""
    now = [100.0]
    monkeypatch.setattr(life.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(life, "work_of", lambda pid: life.Work(1.0, 1))
    pulse = life.Pulse(1, since=100.0)
    pulse.look()
    now[0] += 3
    pulse.look()
    assert now[0] - pulse.since == 3
    now[0] += 1000
    pulse.look()
    assert now[0] - pulse.since == 0


@pytest.mark.slow
def test_the_last_words_of_a_dead_worker_are_passed_on(store, start, monkeypatch):
    monkeypatch.setenv("TOY_DIE", "train")
    monkeypatch.setenv("TOY_WORDS", "out of luck")
    engine = start()
    engine.submit(DENSE.id)
    assert "out of luck" in listen(engine, "lost")[-1].sentence


@pytest.mark.slow
def test_what_a_stage_prints_does_not_disturb_the_messages(store, start, monkeypatch):
    monkeypatch.setenv("TOY_PRINTS", '{"kind": "lost"}')
    engine = start()
    engine.submit(DENSE.id)
    assert {message.kind for message in listen(engine, "ok")} - {"alive"} == {"start", "tick", "ok"}


@pytest.mark.slow
def test_stopping_ends_a_cell_at_its_next_step_without_a_record(store, start, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "0.3")
    engine = start()
    engine.submit(DENSE.id)
    listen(engine, "tick")
    engine.stop()
    assert listen(engine, "stopped", seconds=5)[-1].kind == "stopped"
    assert store.record(DENSE.id) is None


@pytest.mark.slow
def test_closing_leaves_no_process_and_no_empty_log(store, start, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "30")
    engine = start(slots=2)
    engine.submit(DENSE.id)
    listen(engine, "start")
    processes = [worker.process for worker in engine._workers.values()]
    engine.close()
    assert all(process.poll() is not None for process in processes)
    assert not list((store.root / "logs").iterdir())


@pytest.mark.slow
def test_workers_import_nothing_from_the_working_directory(store, start, tmp_path, monkeypatch):
    """It may be a folder of somebody else's, or hold one's own file called like a module of Python."""
    place = tmp_path / "here"
    place.mkdir()
    for name in ("queue", "toy", "numpy", "secateur"):
        (place / f"{name}.py").write_text("open('ran', 'a').close(); raise ImportError('not this one')\n")
    monkeypatch.chdir(place)
    # As in an interactive session, where the working directory can be imported from.
    monkeypatch.syspath_prepend("")
    engine = start()
    engine.submit(DENSE.id)
    assert listen(engine, "ok")[-1].kind == "ok"
    assert not (place / "ran").exists()


@pytest.mark.slow
def test_a_log_is_not_written_through_a_link(store, start, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (store.root / "logs").mkdir()
    for number in range(1, 4):
        (store.root / "logs" / f"worker-{os.getpid()}-{number}.log").symlink_to(tmp_path / "mine")
    engine = start()
    engine.submit(DENSE.id)
    assert listen(engine, "ok")[-1].kind == "ok"
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_of_logs_that_is_a_link_is_refused(store, start, tmp_path):
    (store.root / "logs").symlink_to(tmp_path)
    with pytest.raises(UserError, match="is a link"):
        start().submit(DENSE.id)
