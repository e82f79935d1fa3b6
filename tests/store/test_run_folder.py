import errno
import json
import os
import re
import stat
import threading
from pathlib import Path

import pytest

from secateur.durable import write_durably
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.store import Leases, Store, faults, files
from secateur.store.files import append_line, read_lines, readable_json, writer_mark
from secateur.store.record import sealed
from toy.numbers import numbers_of, record_of
from toy.study import small_plan

STUDY = small_plan().to_json()
CELL = small_plan().cells[0]


def record(value=1 / 3, **changes):
    return record_of(CELL, **{"science": numbers_of(CELL.stage, value=value)} | changes)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "run", STUDY)


def place(store, name="record.json"):
    return store.root / "cells" / CELL.id[:2] / CELL.id / name


def test_what_is_committed_can_be_read_back(store, tmp_path):
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(3_000_000))
    assert store.commit(record(), {"a.bin": source, "b.txt": b"hello"})
    again = Store.open(store.root)
    assert again.committed(CELL.id)
    assert again.record(CELL.id).science.value == 1 / 3
    assert again.artefact(CELL.id, "a.bin").read_bytes() == source.read_bytes()
    assert again.artefact(CELL.id, "b.txt").read_bytes() == b"hello"
    assert source.exists()
    assert [r.id for r in again.records()] == [CELL.id]


def test_nothing_is_there_before_a_commit(store):
    assert store.record(CELL.id) is None
    assert not store.committed(CELL.id)
    assert store.records() == []
    with pytest.raises(UserError, match="no artefact"):
        store.artefact(CELL.id, "a.bin")


def test_the_first_writer_wins(store):
    assert store.commit(record(1))
    assert not Store.open(store.root).commit(record(2))
    assert store.record(CELL.id).science.value == 1
    assert not list((store.root / "tmp").iterdir())


def test_twenty_writers_at_once_leave_one_whole_cell(store):
    wins = []

    def write(number):
        wins.append(Store.open(store.root).commit(record(number), {"n": b"%d" % number}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins.count(True) == 1
    value = store.record(CELL.id).science.value
    assert store.artefact(CELL.id, "n").read_bytes() == b"%d" % value
    assert store.damage(CELL.id) == ""


def test_a_failed_record_gives_way_and_an_ok_record_does_not(store):
    failed = record(status="failed", science=None, error={"sentence": "broken", "traceback": ""})
    store.commit(failed)
    assert store.record(CELL.id).status == "failed"
    assert not store.committed(CELL.id)
    assert store.commit(record())
    assert not store.commit(failed)
    assert store.committed(CELL.id)


@pytest.mark.parametrize("keep", [0, 1, 50, -1])
def test_a_truncated_record_counts_as_absent_until_it_is_repaired(store, keep):
    store.commit(record())
    place(store).write_bytes(place(store).read_bytes()[:keep])
    if keep == -1:  # without its last newline it is still whole JSON, so nothing was lost
        assert store.committed(CELL.id)
        return
    assert not store.committed(CELL.id)
    assert place(store).exists()
    assert "truncated" in store.repair()[0]
    assert not place(store).exists()
    assert store.commit(record())


def test_a_number_that_is_none_is_damage(store):
    store.commit(record())
    place(store).write_bytes(re.sub(rb'"value": [0-9.]+', b'"value": NaN', place(store).read_bytes()))
    assert not store.committed(CELL.id)
    assert "not JSON" in store.repair()[0]
    (store.root / "study.json").write_bytes(
        (store.root / "study.json").read_bytes().replace(b'"train": 100', b'"train": NaN')
    )
    with pytest.raises(UserError, match="damaged: it is not JSON"):
        Store.open(store.root)


def test_lines_that_are_no_objects_are_left_out(tmp_path):
    (tmp_path / "notes.jsonl").write_bytes(b'5\n{"note": "one"}\n["a"]\n{"note": NaN}\n{"no')
    assert read_lines(tmp_path / "notes.jsonl") == [{"note": "one"}]


def test_any_flipped_bit_is_noticed(store):
    store.commit(record(), {"a.bin": b"some bytes that matter"})
    for path in (place(store), place(store, "a.bin")):
        whole = path.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 60)):
            broken = bytearray(whole)
            broken[position] ^= 1
            path.write_bytes(broken)
            fresh = Store.open(store.root)
            same = path.name == "record.json" and _same_content(broken, whole)
            assert same or fresh.damage(CELL.id), f"{path.name} byte {position}"
        path.write_bytes(whole)
    assert not Store.open(store.root).damage(CELL.id)


def _same_content(broken, whole):
    """White space may change without any loss."""
    try:
        return json.loads(broken) == json.loads(whole)
    except ValueError:
        return False


def test_a_check_that_trusts_the_record_would_miss_an_edit(store, monkeypatch):
    """The broken variant: a store that does not compare the seal."""
    store.commit(record())
    edited = json.loads(place(store).read_text())
    edited["science"]["value"] = 2
    place(store).write_text(readable_json(edited))
    assert "edited" in Store.open(store.root).damage(CELL.id)
    monkeypatch.setattr("secateur.store.seal.digest", lambda body: edited["self_hash"])
    assert not Store.open(store.root).damage(CELL.id)


def test_a_record_of_another_cell_is_damage(store):
    other = small_plan().cells[1]
    store.commit(record())
    target = store.root / "cells" / other.id[:2] / other.id
    target.mkdir(parents=True)
    (target / "record.json").write_bytes(place(store).read_bytes())
    assert f"belongs to cell {CELL.id}" in store.damage(other.id)


def test_a_forged_record_cannot_name_files_elsewhere(store):
    store.commit(record(), {"a.bin": b"1"})
    forged = json.loads(place(store).read_text())
    forged["artefacts"] = {"../../../../etc/passwd": forged["artefacts"]["a.bin"]}
    place(store).write_text(json.dumps(sealed(forged)))
    fresh = Store.open(store.root)
    assert "outside its folder" in fresh.damage(CELL.id)
    with pytest.raises(UserError, match="no artefact"):
        fresh.artefact(CELL.id, "../../../../etc/passwd")


def test_a_damaged_artefact_is_never_handed_out(store):
    store.commit(record(), {"a.bin": b"right"})
    place(store, "a.bin").write_bytes(b"wrong")
    with pytest.raises(UserError, match="its bytes have changed"):
        Store.open(store.root).artefact(CELL.id, "a.bin")


def test_a_record_of_a_newer_version_is_left_alone_and_locks_nothing(store):
    store.commit(record())
    newer = seal_again({**json.loads(place(store).read_text()), "schema_version": 99})
    place(store).write_text(json.dumps(newer))
    fresh = Store.open(store.root)
    assert "newer secateur (schema 99, this one knows 1): update secateur" in fresh.newer(CELL.id)
    assert fresh.record(CELL.id) is None
    assert fresh.repair() == []
    assert not fresh.commit(record())
    assert json.loads(place(store).read_text()) == newer


def test_a_flipped_bit_in_the_version_is_damage_and_no_newer_record(store):
    store.commit(record())
    text = place(store).read_text()
    assert '"schema_version": 1' in text
    place(store).write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    fresh = Store.open(store.root)
    assert fresh.newer(CELL.id) == ""
    assert "edited" in fresh.repair()[0]
    assert fresh.commit(record())


def seal_again(data):
    """The seal of a version that seals as this one does, and knows more."""
    body = {key: value for key, value in data.items() if key != "self_hash"}
    return {**body, "self_hash": digest(body)}


def test_nan_is_refused_and_leaves_nothing(store):
    with pytest.raises(ValueError, match="NaN"):
        store.commit(record(float("nan")))
    assert not store.committed(CELL.id)
    assert not list((store.root / "tmp").iterdir())


@pytest.mark.parametrize("name", ["../x", "record.json", "a/b", "", ".hidden", "a\0b", "x" * 65])
def test_artefact_names_stay_inside_the_cell(store, name):
    with pytest.raises(ValueError, match="is no name"):
        store.commit(record(), {name: b""})


def test_cell_ids_stay_inside_the_folder(store):
    for cell_id in ("../../../etc", "x", ""):
        with pytest.raises(ValueError, match="is no name"):
            store.scratch(cell_id)


TROUBLE = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EREMOTEIO")
NUMBERS = [getattr(errno, name) for name in (*TROUBLE, "EACCES") if hasattr(errno, name)]


@pytest.mark.parametrize("number", NUMBERS)
def test_trouble_with_the_disk_pauses_and_leaves_nothing_behind(store, monkeypatch, number):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(UserError, match=os.strerror(number)) as caught:
        store.commit(record(), {"a.bin": b"1"})
    assert caught.value.code == ExitCode.ENVIRONMENT
    monkeypatch.undo()
    assert not list((store.root / "tmp").iterdir())
    assert store.commit(record(), {"a.bin": b"1"})


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")
def test_everything_is_synced_before_the_cell_gets_its_place(store, monkeypatch):
    synced, real = [], os.fsync

    def note(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(files.os, "fsync", note)
    before = []
    end = faults.listen(lambda point: before.extend(synced) if point == "commit.cleared" else None)
    store.commit(record(), {"a.bin": b"1"})
    end()
    content = [path for path in before if "tmp" in path.parts[-3:]]
    assert [path.name for path in content[:2]] == ["a.bin", "record.json"]
    assert content[2].name.startswith(CELL.id)
    assert synced[-1].name == CELL.id[:2]


def test_scratch_survives_until_the_commit(store):
    (store.scratch(CELL.id) / "epoch-5").write_text("half")
    assert (Store.open(store.root).scratch(CELL.id) / "epoch-5").read_text() == "half"
    store.commit(record())
    assert not (store.root / "scratch" / CELL.id).exists()


def test_a_failed_cell_keeps_its_checkpoints(store):
    (store.scratch(CELL.id) / "epoch-5").write_text("half")
    store.commit(record(status="failed", science=None, error={"sentence": "out of memory", "traceback": ""}))
    store.gc()
    assert (store.scratch(CELL.id) / "epoch-5").exists()
    store.commit(record())
    assert not (store.root / "scratch" / CELL.id).exists()


STRAY = (".DS_Store", ".nfs000000000123", "Thumbs.db", "desktop.ini", "notes.txt~", ".record.json.swp")


@pytest.mark.parametrize("name", STRAY)
def test_stray_files_are_ignored_everywhere(tmp_path, store, name):
    new = tmp_path / "new"
    new.mkdir()
    (new / name).touch()
    Store.create(new, STUDY)
    store.commit(record(), {"a.bin": b"1"})
    for folder in (
        "",
        "tmp",
        "scratch",
        "leases",
        "cells",
        f"cells/{CELL.id[:2]}",
        f"cells/{CELL.id[:2]}/{CELL.id}",
    ):
        (store.root / folder).mkdir(exist_ok=True)
        (store.root / folder / name).touch()
    again = Store.create(store.root, STUDY)
    assert again.gc() == []
    assert again.repair() == []
    assert Leases(store.root).holders() == {}
    assert again.artefact(CELL.id, "a.bin").read_bytes() == b"1"


@pytest.mark.slow
def test_a_reader_beside_a_rename_never_sees_damage(store):
    """A failed record gives way to another one; meanwhile others look at the cell."""
    ended, seen = threading.Event(), set()

    def look():
        while not ended.is_set():
            seen.add(Store.open(store.root).damage(CELL.id))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(40):
        failed = record(status="failed", science=None, error={"sentence": f"{number}", "traceback": ""})
        store.commit(failed, {"a.bin": b"%d" % number})
    ended.set()
    for reader in readers:
        reader.join()
    assert seen == {""}


def test_a_cell_that_comes_and_goes_between_two_looks_is_not_damaged(store, monkeypatch, tmp_path):
    """Its record is read, and its artefact is gone when it is looked for; twice, as on a busy machine."""
    failed = record(status="failed", science=None, error={"sentence": "broken", "traceback": ""})
    store.commit(failed, {"a.bin": b"1"})
    folder, aside, looks, read = place(store).parent, tmp_path / "aside", [], Store._read
    folder.rename(aside)

    def passing(self, cell_id):
        aside.rename(folder)
        found = read(self, cell_id)
        looks.append(found)
        if len(looks) < 4:
            folder.rename(aside)
        return found

    monkeypatch.setattr(Store, "_read", passing)
    assert Store.open(store.root).damage(CELL.id) == ""
    assert len(looks) == 4


def test_a_cell_that_was_repaired_meanwhile_is_not_moved_away(store, monkeypatch):
    """Between the look at a damaged cell and its removal, another runner puts a sound one there."""
    store.commit(record(1))
    place(store).write_text("{")
    look = Store.damage

    def meanwhile(self, cell_id):
        why = look(self, cell_id)
        if why and self is store:
            other = Store.open(store.root)
            other._quarantine(cell_id, why)
            other.commit(record(2))
        return why

    monkeypatch.setattr(Store, "damage", meanwhile)
    assert store.repair() == []
    monkeypatch.undo()
    assert Store.open(store.root).record(CELL.id).science.value == 2
    assert len(list((store.root / "quarantine").iterdir())) == 1


def test_a_cell_that_was_finished_meanwhile_is_not_replaced_by_a_failure(store, monkeypatch):
    failed = record(status="failed", science=None, error={"sentence": "broken", "traceback": ""})
    store.commit(failed)
    read = Store._read

    def meanwhile(self, cell_id):
        monkeypatch.undo()
        seen = read(self, cell_id)
        Store.open(store.root).commit(record(2))
        return seen

    monkeypatch.setattr(Store, "_read", meanwhile)
    assert not store.commit(failed)
    assert Store.open(store.root).record(CELL.id).science.value == 2


def test_gc_removes_what_the_dead_left_and_nothing_else(store, monkeypatch):
    store.commit(record(), {"a.bin": b"1"})
    other = small_plan().cells[1]
    (store.scratch(other.id) / "epoch-5").write_text("half")
    dead = writer_mark().replace(f".{os.getpid()}.", ".999999999.")
    for name in (f"{CELL.id}.{dead}", f"{CELL.id}.{writer_mark()}", f"{CELL.id}.otherhost.1.abcd"):
        (store.root / "tmp" / name).mkdir(parents=True)
    (store.root / f"study.json.{dead}.tmp").write_text("half")
    gone = store.gc()
    assert sorted(path.name for path in gone) == sorted([f"{CELL.id}.{dead}", f"study.json.{dead}.tmp"])
    assert len(list((store.root / "tmp").iterdir())) == 2
    assert (store.root / "scratch" / other.id / "epoch-5").exists()
    assert store.damage(CELL.id) == ""
    assert store.committed(CELL.id)


def test_what_is_committed_follows_the_umask(store):
    old = os.umask(0o022)
    try:
        store.commit(record(), {"a.bin": b"1"})
    finally:
        os.umask(old)
    for path in (place(store), place(store, "a.bin"), place(store).parent):
        assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044


def test_notes_survive_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "notes.jsonl"
    append_line(path, {"note": "one"})
    with path.open("a") as file:
        file.write('{"note": "tw')
    assert read_lines(path) == [{"note": "one"}]
    assert read_lines(tmp_path / "absent") == []


def test_a_file_is_never_overwritten(tmp_path):
    write_durably(tmp_path / "a", b"1")
    with pytest.raises(FileExistsError):
        write_durably(tmp_path / "a", b"2")


def test_records_are_laid_out_for_people():
    text = readable_json({"b": [1, 2, 3], "a": {"x": float("inf")}, "c": [{"d": []}]})
    assert json.loads(text) == {"a": {"x": "inf"}, "b": [1, 2, 3], "c": [{"d": []}]}
    assert '  "b": [1, 2, 3],\n' in text
    assert text.index('"a"') < text.index('"b"')


def test_an_unregistered_fault_point_is_an_error():
    with pytest.raises(KeyError):
        faults.reach("nowhere")


def test_cells_are_found_by_id_and_by_parent(store):
    for cell in store.cells:
        assert store.cell(cell.id) is cell
        assert list(store.children(cell.id)) == [each for each in store.cells if each.parent == cell.id]
    assert sum(len(store.children(cell.id)) for cell in store.cells) == len(store.cells) - 1
