"""A run folder of somebody else: nothing is written outside it, nothing blocks or fills the memory."""

import json
import os
import socket

import pytest

from secateur.errors import UserError
from secateur.hashing import digest
from secateur.store import Leases, Store
from secateur.store.files import strict_json
from secateur.store.study_file import read_study
from secateur.study import status
from toy.numbers import numbers_of, record_of
from toy.study import small_plan

STUDY = small_plan().to_json()
CELL = small_plan().cells[0]


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "run", STUDY)


@pytest.fixture
def outside(tmp_path):
    """A folder with a file, of which nothing may change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("mine\n")
    yield tmp_path / "outside"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["mine"]
    assert (tmp_path / "outside" / "mine").read_text() == "mine\n"


def record(**changes):
    return record_of(CELL, **{"science": numbers_of(CELL.stage, value=1)} | changes)


def place(store):
    return store.root / "cells" / CELL.id[:2] / CELL.id


def replaced(path, target):
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.old"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


WRITES = {
    "tmp": lambda store: store.commit(record()),
    "cells": lambda store: store.commit(record()),
    f"cells/{CELL.id[:2]}": lambda store: store.commit(record()),
    "scratch": lambda store: store.scratch(CELL.id),
    f"scratch/{CELL.id}": lambda store: store.scratch(CELL.id),
    "leases": lambda store: Leases(store.root).claim(CELL.id),
    "notes.jsonl": lambda store: store.note("a remark"),
}


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_through_a_link(store, outside, name):
    replaced(store.root / name, outside / "mine" if name.endswith("jsonl") else outside)
    with pytest.raises(UserError, match="is a link, through which nothing is written"):
        WRITES[name](store)


def test_a_damaged_cell_is_not_moved_through_a_link(store, outside):
    store.commit(record())
    (place(store) / "record.json").write_text("{")
    replaced(store.root / "quarantine", outside)
    with pytest.raises(UserError, match="is a link"):
        store.repair()


def test_a_cell_that_is_a_link_is_damaged_and_the_link_is_moved(store, outside):
    replaced(place(store), outside)
    assert store.damage(CELL.id) == "its folder is a link"
    assert "is a link" in store.repair()[0]
    assert store.commit(record())
    assert Store.open(store.root).committed(CELL.id)


@pytest.mark.parametrize("name", ["tmp", "scratch", "leases"])
def test_nothing_is_swept_away_behind_a_link(tmp_path, store, name):
    store.commit(record())
    for left in (f"{CELL.id}", f"{CELL.id}.json", f"{CELL.id}.{'x' * 8}.1.2"):
        (tmp_path / "elsewhere" / left).mkdir(parents=True)
    replaced(store.root / name, tmp_path / "elsewhere")
    store.gc()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3


def test_a_note_is_not_appended_to_a_file_of_another_name(store, outside):
    (store.root / "notes.jsonl").hardlink_to(outside / "mine")
    store.note("a remark")
    assert [note["note"] for note in store.notes()] == ["a remark"]


def blocked(path):
    """A pipe that nobody writes to: whoever opens it to read waits for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def test_a_pipe_is_never_waited_for(store):
    store.commit(record(), {"a.bin": b"1"})
    blocked(place(store) / "a.bin")
    assert store.damage(CELL.id) == "a.bin: it is not a regular file"
    blocked(place(store) / "record.json")
    assert "it is not a regular file" in Store.open(store.root).damage(CELL.id)
    blocked(store.root / "notes.jsonl")
    blocked(store.root / "leases" / f"{CELL.id}.json")
    told = status(Store.open(store.root))
    assert told.notes == ()
    with pytest.raises(UserError, match="not a regular file"):
        store.note("a remark")
    blocked(store.root / "study.json")
    with pytest.raises(UserError, match=r"study\.json is damaged: it is not a regular file"):
        Store.open(store.root)


@pytest.mark.parametrize("what", ["pipe", "folder", "link", "link to nothing"])
def test_a_lease_that_no_runner_wrote_stops_nobody(store, outside, what):
    """Its content would never become old: that of a pipe is never read, that of /proc/uptime always new."""
    path = store.root / "leases" / f"{CELL.id}.json"
    if what == "pipe":
        blocked(path)
    elif what == "folder":
        (path / "inside").mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.symlink_to("/proc/uptime" if what == "link" else outside / "none")
    leases = Leases(store.root)
    assert leases.claim(CELL.id)
    assert not Leases(store.root).claim(CELL.id)
    leases.close()


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/urandom", "."])
def test_a_device_is_never_read(store, target):
    store.commit(record())
    for name in ("record.json", "a.bin"):
        (place(store) / name).unlink(missing_ok=True)
        (place(store) / name).symlink_to(target)
    assert "its record.json cannot be used: " in store.damage(CELL.id)
    (store.root / "study.json").unlink()
    (store.root / "study.json").symlink_to(target)
    with pytest.raises(UserError, match=r"study\.json is damaged: "):
        Store.open(store.root)


def test_a_socket_is_no_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind("study.json")
        with pytest.raises(UserError, match="not a regular file"):
            Store.open(tmp_path)


@pytest.mark.parametrize("name", ["study.json", "record.json"])
def test_a_file_without_end_is_not_read(store, name):
    store.commit(record())
    path = store.root / name if name == "study.json" else place(store) / name
    os.truncate(path, 2**40)  # takes no room on the disk
    if name == "study.json":
        with pytest.raises(UserError, match="damaged: it has more than 256 MiB"):
            read_study(store.root)
    else:
        assert "it has more than 64 MiB" in store.damage(CELL.id)


@pytest.mark.parametrize(
    "raw",
    [b'"\\ud800"', b'["a\\udfffb"]', b'"\xed\xa0\x80"', b"\xff\xfe[]", b"NaN", b"[-Infinity]", b"1" * 5000],
)
def test_what_json_does_not_allow_is_not_json(raw):
    with pytest.raises(ValueError):  # noqa: PT011  (each has a type of its own)
        strict_json(raw)


def test_an_escaped_pair_is_a_character():
    assert strict_json(b'"\\ud83d\\ude00 \\\\ud800"') == "\N{GRINNING FACE} \\ud800"


def resealed(path, change):
    data = json.loads(path.read_text())
    change(data)
    data.pop("self_hash")
    path.write_text(json.dumps({**data, "self_hash": digest(data)}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda study: study["cells"].append(study["cells"][0]), "is there twice"),
        (lambda study: study["cells"].reverse(), "is not above it"),
        (lambda study: study["cells"][0].update(parent=study["cells"][1]["id"]), "has a parent unless"),
        (lambda study: study["cells"][1].update(parent="f" * 32), "is not above it"),
        (lambda study: study["cells"][0]["axes"].update(criterion="l1", sparsity=None), "needs a sparsity"),
        (lambda study: study["cells"][0]["axes"].update(round=1), "a round needs"),
        (lambda study: study["cells"][0]["axes"].update(seed=2**63), "seed"),
        (lambda study: study["cells"][0]["settings"].update(recipe=5), "recipe"),
        (lambda study: study.update(labels=[1]), "labels"),
        (lambda study: study.update(plugins=[{"file": 1}]), "plugins"),
        (lambda study: study["facts"].update(test="many"), "facts.test"),
        (lambda study: study["config"].update(epsilons={"linf": [-1]}), "config.epsilons"),
    ],
)
def test_a_study_that_could_not_be_walked_through_is_damaged(store, change, said):
    resealed(store.root / "study.json", change)
    with pytest.raises(UserError, match=rf"study\.json is damaged: .*{said}"):
        Store.open(store.root)


def test_deep_lists_are_damage_in_a_record_and_in_a_study(store):
    store.commit(record())
    deep = "[" * 300 + "]" * 300
    for path in (place(store) / "record.json", store.root / "study.json"):
        path.write_text('{"deep": ' + deep + "," + path.read_text().lstrip()[1:])
    assert "not JSON" in store.damage(CELL.id)
    with pytest.raises(UserError, match="damaged"):
        Store.open(store.root)


def test_the_record_of_a_cell_is_of_its_stage(store):
    store.commit(record())
    path = place(store) / "record.json"
    resealed(path, lambda data: data.update(stage="attack", status="failed", science={}))
    fresh = Store.open(store.root)
    assert fresh.damage(CELL.id) == "its record is that of another stage, attack"
    assert len(fresh.repair()) == 1
    assert fresh.commit(record())


def test_the_id_in_a_record_is_an_id_or_damage(store):
    store.commit(record())
    resealed(place(store) / "record.json", lambda data: data.update(id="$(touch owned)"))
    assert store.damage(CELL.id).startswith("its record.json cannot be used: id:")
