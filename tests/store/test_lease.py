import json
import os
import threading
import time

import pytest

from secateur.store import Leases, Store
from secateur.store.lease import STALE_BEATS
from toy.numbers import record_of
from toy.study import small_plan

CELL = small_plan().cells[0].id
BEAT = 0.05


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "run", small_plan().to_json())


@pytest.fixture
def runner(store):
    """A function that makes a runner's leases, as if it were on a machine of its own."""
    made = []

    def make(machine="one", **settings):
        leases = Leases(store.root, **{"beat_seconds": BEAT, **settings})
        leases._mark = f"{machine}.1.abcd"
        made.append(leases)
        return leases

    yield make
    for leases in made:
        leases.close()


def lease_file(store):
    return store.root / "leases" / f"{CELL}.json"


def claim_within(leases, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if leases.claim(CELL):
            return True
        time.sleep(BEAT / 2)
    return False


def test_one_runner_holds_a_cell_and_gives_it_back(runner):
    one, two = runner("one"), runner("two")
    assert one.claim(CELL)
    assert not two.claim(CELL)
    one.release(CELL)
    assert two.claim(CELL)


def test_of_many_at_once_one_gets_it(runner):
    runners = [runner(f"m{i}") for i in range(20)]
    got = []
    threads = [threading.Thread(target=lambda r=r: got.append(r.claim(CELL))) for r in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(True) == 1


def test_a_holder_that_beats_keeps_its_lease(runner):
    one, two = runner("one"), runner("two")
    assert one.claim(CELL)
    assert not claim_within(two, 3 * STALE_BEATS * BEAT)


def test_a_frozen_holder_loses_its_lease_and_does_not_take_it_back(store, runner):
    frozen, two = runner("one", beat_seconds=1000.0), runner("two")
    assert frozen.claim(CELL)
    assert claim_within(two, 10 * STALE_BEATS * BEAT)
    frozen.release(CELL)
    assert "two" in lease_file(store).read_text()
    assert not frozen.claim(CELL)


def test_a_lease_by_progress_is_lost_when_the_cell_makes_none(runner):
    """The holder lives and beats, but the worker that computes the cell hangs."""
    one, two = runner("one", by_progress=True), runner("two")
    assert one.claim(CELL)
    for _ in range(3 * STALE_BEATS):
        one.alive(CELL)
        assert not claim_within(two, BEAT)
    assert claim_within(two, 10 * STALE_BEATS * BEAT)


def test_a_lease_without_beats_would_be_stolen_from_a_living_holder(runner, monkeypatch):
    """The broken variant: a holder that never beats."""
    monkeypatch.setattr(Leases, "_beat", lambda self: None)
    one, two = runner("one"), runner("two")
    assert one.claim(CELL)
    assert claim_within(two, 10 * STALE_BEATS * BEAT)


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(store):
    dead = Leases(store.root)
    dead._mark = dead._mark.replace(f".{os.getpid()}.", ".999999999.")
    assert dead.claim(CELL)
    living = Leases(store.root)
    assert living.claim(CELL)
    for leases in (dead, living):
        leases.close()


def test_clocks_of_other_machines_do_not_matter(store, runner):
    one, two = runner("one"), runner("two")
    assert one.claim(CELL)
    for offset in (-86_400, 86_400):
        os.utime(lease_file(store), (time.time() + offset,) * 2)
        assert not two.claim(CELL)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nonce": 3}', "\0" * 100])
def test_a_garbled_lease_grows_stale_like_any_other(store, runner, content):
    lease_file(store).parent.mkdir()
    lease_file(store).write_text(content)
    two = runner("two")
    assert not two.claim(CELL)
    assert claim_within(two, 10 * STALE_BEATS * BEAT)


def test_a_lease_is_never_written_through_a_link(store, runner, tmp_path):
    target = tmp_path / "precious"
    target.write_text("keep me")
    lease_file(store).parent.mkdir()
    lease_file(store).symlink_to(target)
    two = runner("two")
    two.claim(CELL)
    two.claim(CELL)
    assert target.read_text() == "keep me"


def test_a_beat_changes_the_file_and_leaves_it_whole(store, runner):
    one = runner("one")
    one.claim(CELL)
    seen = set()
    for _ in range(20):
        seen.add(json.loads(lease_file(store).read_text() or "{}").get("beat"))
        time.sleep(BEAT / 2)
    assert len(seen) > 2


def test_closing_gives_everything_back(store, runner):
    one = runner("one")
    one.claim(CELL)
    one.close()
    assert not list(lease_file(store).parent.iterdir())


def test_gc_removes_leases_of_finished_cells(store, runner):
    runner("one").claim(CELL)
    store.gc()
    assert lease_file(store).exists()
    store.commit(record_of(small_plan().cells[0]))
    store.gc()
    assert not lease_file(store).exists()
