"""The index of records that were found whole: it saves reading them again, and never hides damage."""

import json
import os
import re
import shutil
import subprocess
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from secateur.store import Store, folder, index, reading, record
from secateur.store.files import stamp
from secateur.store.index import Index, read_index, settled, write_index
from secateur.study import status
from toy.numbers import record_of
from toy.study import run_toy, small_plan

pytestmark = pytest.mark.skipif(not index.AVAILABLE, reason="there is no index on this system")
PLAN = small_plan()
CELL = PLAN.cells[0]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, in which small studies leave an index too, and records count as settled at once."""
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder, "FEW", 0)
    monkeypatch.setattr(index, "TICK_NS", 0)
    return tmp_path / "cache" / "index"


@pytest.fixture
def run(tmp_path):
    """A run folder with a record of every cell, at which somebody has looked."""
    root = tmp_path / "run"
    store = Store.create(root, PLAN.to_json())
    for cell in PLAN.cells:
        store.commit(record_of(cell))
    assert status(Store.open(root)).counts == {"ok": 8}
    return root


def index_of(cache):
    (path,) = cache.iterdir()
    return path


def place(root, cell=CELL):
    return root / "cells" / cell.id[:2] / cell.id / "record.json"


def flip(path):
    """Change a bit of a number in place and give the file back the time at which it was written."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[content.index(b'"parameters": 12') + 15] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def counts(root):
    return status(Store.open(root)).counts


def read_again(root, monkeypatch):
    """How many records are read to tell the status."""
    found, read = [], record.read_record

    def note(*arguments):
        found.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(reading, "read_record", note)
    counts(root)
    monkeypatch.setattr(reading, "read_record", read)
    return len(found)


def test_what_was_found_whole_is_not_read_again(run, monkeypatch):
    before = status(Store.open(run)).to_json()
    assert read_again(run, monkeypatch) == 0
    assert status(Store.open(run)).to_json() == before
    assert before["seconds"] == 8


def test_a_new_record_is_the_only_one_that_is_read(run, monkeypatch):
    shutil.rmtree(place(run).parent)
    assert counts(run) == {"ok": 7, "open": 1}
    Store.open(run).commit(record_of(CELL))
    assert read_again(run, monkeypatch) == 1
    assert read_again(run, monkeypatch) == 0


def test_to_plan_what_is_done_reads_nothing_either(run, monkeypatch):
    monkeypatch.setattr(reading, "read_record", None)
    store = Store.matching(run, PLAN.to_json, study_hash=PLAN.study_hash)
    assert all(store.look(cell.id).ok for cell in PLAN.cells)


def test_failed_and_absent_cells_are_told_as_before(tmp_path):
    root = tmp_path / "run"
    store = Store.create(root, PLAN.to_json())
    broken = {"status": "failed", "science": None, "error": {"sentence": "broken", "traceback": ""}}
    store.commit(record_of(CELL, **broken))
    for _ in range(2):
        told = status(Store.open(root))
        assert told.counts == {"failed": 1, "open": 7}
        assert told.failed == ((CELL.label, "broken"),)


def test_a_flipped_bit_is_noticed_although_the_time_of_writing_is_restored(run):
    flip(place(run))
    assert counts(run) == {"damaged": 1, "ok": 7}
    # Seen once, it stays seen.
    assert counts(run) == {"damaged": 1, "ok": 7}


def test_without_the_time_of_change_it_would_not_be_noticed(run, monkeypatch):
    """The broken variant: what programs can set tells nothing."""
    monkeypatch.setattr(reading, "stamp", lambda path: stamp(path)[:4] + stamp(path)[3:4])
    counts(run)
    flip(place(run))
    assert counts(run) == {"ok": 8}


def coarse(path):
    """The stamp that a file system would give whose clock ticks once a second."""
    *rest, written, changed = stamp(path)
    second = 1_000_000_000
    return (*rest, written // second * second + 1, changed // second * second + 1)


@pytest.mark.parametrize("careful", [True, False])
def test_a_change_in_the_same_tick_of_the_clock_is_noticed(tmp_path, monkeypatch, careful):
    monkeypatch.setattr(index, "TICK_NS", 2_000_000_000)
    monkeypatch.setattr(reading, "stamp", coarse)
    if not careful:  # the broken variant
        monkeypatch.setattr(reading, "settled", lambda stamp, now: True)
    seen = set()
    for attempt in range(5):  # the second may end between the two
        root = tmp_path / f"run-{attempt}"
        store = Store.create(root, PLAN.to_json())
        store.commit(record_of(CELL))
        assert counts(root) == {"ok": 1, "open": 7}
        flip(place(root))
        seen.add(counts(root).get("damaged", 0))
    assert (0 in seen) is not careful


def test_what_has_no_time_of_change_of_its_own_is_never_settled():
    now = 10**18
    assert settled((1, 2, 3, 4, now - 3_000_000_001), now)
    assert not settled((1, 2, 3, 4, now - 3_000_000_000), now)
    assert not settled((1, 2, 3, 4, now + 1), now)


def test_bits_that_a_disk_loses_silently_are_noticed_by_whoever_reads(run, monkeypatch):
    """The stamp stays the same: a look cannot know, but whatever uses the record does, and says so."""
    stamps = {str(place(run, cell)): stamp(place(run, cell)) for cell in PLAN.cells}
    monkeypatch.setattr(reading, "stamp", lambda path: stamps.get(str(path)) or stamp(path))
    flip(place(run))
    store = Store.open(run)
    assert store.look(CELL.id).ok
    assert store.record(CELL.id) is None
    assert not store.committed(CELL.id)
    assert store.damage(CELL.id) == "its record was edited after it was committed"
    assert store.look(CELL.id).state == "damaged"
    store.keep_index()
    assert counts(run) == {"damaged": 1, "ok": 7}


def test_a_run_reads_every_record_whatever_the_index_says(run, monkeypatch):
    stamps = {str(place(run, cell)): stamp(place(run, cell)) for cell in PLAN.cells}
    flip(place(run))
    monkeypatch.setattr(reading, "stamp", lambda path: stamps.get(str(path)) or stamp(path))
    assert Store.create(run, PLAN.to_json()).look(CELL.id).state == "damaged"
    assert "edited" in Store.open(run).repair()[0]


def test_an_index_that_is_lost_is_made_again(run, cache, monkeypatch):
    whole = index_of(cache).read_bytes()
    shutil.rmtree(cache)
    assert read_again(run, monkeypatch) == 8
    assert index_of(cache).read_bytes() == whole
    assert read_again(run, monkeypatch) == 0


@pytest.mark.parametrize("keep", [0, 1, 63, 64, 65, 0.5, -1])
def test_an_index_that_is_cut_short_is_none(run, cache, keep):
    path = index_of(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert read_index(run) == Index()
    assert counts(run) == {"ok": 8}
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_an_index_with_a_flipped_bit_is_none(run, cache):
    path = index_of(cache)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        for bit in range(8):
            broken = bytearray(whole)
            broken[position] ^= 1 << bit
            path.write_bytes(broken)
            assert read_index(run) == Index(), (position, bit)


def test_an_index_without_its_hash_would_be_believed(run, cache, monkeypatch):
    """The broken variant of the two tests above."""
    path = index_of(cache)
    monkeypatch.setattr(index, "_body", lambda raw: raw[64:])
    path.write_bytes(re.sub(rb"1\.0\]", b"9.0]", path.read_bytes(), count=1))
    assert status(Store.open(run)).seconds == 16


def resealed(path, change):
    data = json.loads(path.read_bytes()[64:])
    body = json.dumps(change(data)).encode()
    path.write_bytes(sha256(body).hexdigest().encode() + body)


def with_row(row):
    return lambda data: {**data, "cells": {**data["cells"], CELL.id: row}}


ODD = {
    "a list": lambda data: [data],
    "nothing": lambda data: None,
    "another version": lambda data: {**data, "version": 2},
    "other software": lambda data: {**data, "software": "9.9"},
    "no root": lambda data: {**data, "root": []},
    "another root": lambda data: {**data, "root": ["/", *data["root"][1:]]},
    "cells in a list": lambda data: {**data, "cells": list(data["cells"].values())},
    "a short row": with_row([[1, 2, 3], 1.0]),
    "a row of words": with_row([["1"] * 5, 1.0]),
    "no seconds": with_row([[1, 2, 3, 4, 5], None]),
    "seconds before 0": with_row([[1, 2, 3, 4, 5], -1.0]),
    "endless seconds": with_row([[1, 2, 3, 4, 5], float("inf")]),
    "no number": with_row([[1, 2, 3, 4, 5], float("nan")]),
    "a deep row": with_row([[[[[[1]]]]]]),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ODD)
def test_an_index_of_another_shape_is_none(run, cache, what):
    resealed(index_of(cache), lambda data: data)
    assert len(read_index(run).cells) == 8
    resealed(index_of(cache), ODD[what])
    assert read_index(run) == Index()
    assert counts(run) == {"ok": 8}


def test_cells_that_the_study_does_not_have_are_forgotten(run, cache):
    resealed(index_of(cache), lambda data: {**data, "cells": {"../../etc": [[1, 2, 3, 4, 5], 6.0]}})
    assert counts(run) == {"ok": 8}
    assert set(read_index(run).cells) == {cell.id for cell in PLAN.cells}


def foreign_user(path, monkeypatch):
    monkeypatch.setattr(index.os, "geteuid", lambda: os.getuid() + 1)


def writable_by_all(path, monkeypatch):
    path.chmod(0o606)


def writable_by_the_group(path, monkeypatch):
    path.chmod(0o660)


def a_link(path, monkeypatch):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe(path, monkeypatch):
    path.unlink()
    os.mkfifo(path)


def a_folder(path, monkeypatch):
    path.unlink()
    path.mkdir()


STRANGE = (foreign_user, writable_by_all, writable_by_the_group, a_link, a_pipe, a_folder)


@pytest.mark.parametrize("stranger", STRANGE)
def test_an_index_that_somebody_else_could_have_written_is_none(run, cache, monkeypatch, stranger):
    stranger(index_of(cache), monkeypatch)
    assert read_index(run) == Index()
    assert counts(run) == {"ok": 8}


def test_the_index_is_for_its_owner_alone(run, cache):
    old = os.umask(0)
    try:
        shutil.rmtree(cache)
        counts(run)
    finally:
        os.umask(old)
    assert (cache.stat().st_mode & 0o777, index_of(cache).stat().st_mode & 0o777) == (0o700, 0o600)


def test_nothing_in_a_run_folder_is_taken_for_an_index(run, cache):
    """Whatever somebody else puts into the folder, also a true index of it."""
    flip(place(run))
    for name in (index_of(cache).name, "index.json"):
        shutil.copy(index_of(cache), run / name)
    shutil.copytree(cache, run / "index")
    shutil.rmtree(cache)
    assert counts(run) == {"damaged": 1, "ok": 7}


@pytest.mark.skipif(shutil.which("cp") is None, reason="needs cp")
def test_a_copied_folder_is_checked_anew(run, cache, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(run), str(copy)], check=True)
    assert read_index(copy) == Index()
    # Even if the index is copied with it, and made to name the copy: its files are other files.
    own = index_of(cache)
    other = index._place(copy)
    shutil.copy(own, other)
    assert read_index(copy) == Index()
    resealed(other, lambda data: {**data, "root": list(index._identity(copy))})
    assert len(read_index(copy).cells) == 8
    flip(place(copy))
    assert read_again(copy, monkeypatch) == 8
    assert counts(copy) == {"damaged": 1, "ok": 7}
    assert counts(run) == {"ok": 8}


def test_a_cell_that_became_a_link_is_damaged(run, tmp_path):
    inside = place(run).parent
    inside.rename(tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere")
    assert counts(run) == {"damaged": 1, "ok": 7}


def test_an_index_of_other_cells_is_not_used(run, monkeypatch):
    """The same folder, planned anew with another study.json."""
    assert read_again(run, monkeypatch) == 0
    Store.create(run, small_plan(overrides=["threads=2"]).to_json())
    assert read_again(run, monkeypatch) == 8
    assert read_again(run, monkeypatch) == 0


def test_a_changed_study_is_checked_whatever_the_index_says(run):
    text = (run / "study.json").read_bytes()
    (run / "study.json").write_bytes(text.replace(b'"toy"', b'"tox"', 1))
    with pytest.raises(Exception, match="it was edited after the study began"):
        Store.open(run)


@pytest.mark.slow
def test_two_writers_leave_the_index_of_one_of_them(run):
    rows = {f"{number:032x}": ((1, 2, 3, 4, number), 1.0) for number in range(500)}
    both = [Index("a" * 64, rows), Index("b" * 64, {**rows, "c": ((1, 2, 3, 4, 5), 2.0)})]
    ended, seen = threading.Event(), []

    def look():
        while not ended.is_set():
            seen.append(read_index(run))

    def write(which):
        for _ in range(100):
            write_index(run, which)

    reader, writers = threading.Thread(target=look), [threading.Thread(target=write, args=(e,)) for e in both]
    write_index(run, both[0])
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    reader.join()
    assert seen
    assert all(each in both for each in seen)
    assert read_index(run) in both


def test_a_cache_that_cannot_be_written_is_no_error(run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "file"))
    assert counts(run) == {"ok": 8}
    monkeypatch.delenv("SECATEUR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert counts(run) == {"ok": 8}


def test_old_indices_are_deleted(run, cache):
    old = cache / f"{'0' * 32}.json"
    old.touch()
    os.utime(old, (0, 0))
    resealed(index_of_run(run), lambda data: {**data, "cells": {}})
    counts(run)
    assert not old.exists()
    assert len(read_index(run).cells) == 8


def index_of_run(root):
    return index._place(root)


def test_a_small_study_leaves_no_index(run, cache, monkeypatch):
    shutil.rmtree(cache)
    monkeypatch.setattr(folder, "FEW", 9)
    assert counts(run) == {"ok": 8}
    assert not cache.exists()


def test_few_records_are_kept_in_memory(run, monkeypatch):
    monkeypatch.setattr(reading, "KEPT", 3)
    store = Store.open(run)
    assert [record.id for record in store.records()] == [cell.id for cell in PLAN.cells]
    assert list(store._reader._records) == [cell.id for cell in PLAN.cells[-3:]]


@pytest.mark.slow
def test_a_run_leaves_an_index(tmp_path, monkeypatch, cache):
    root = tmp_path / "toy"
    assert run_toy(root).exit_code == 0
    assert read_again(root, monkeypatch) == 0
