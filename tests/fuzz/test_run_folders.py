"""Run folders with a changed study or record, sealed again: every command works or answers in a sentence."""

import json
import os
import random

import pytest

from fuzz.mutate import changed, damaged, sealed, written
from report.synthetic import Grid, write
from report.test_build import SMALL
from secateur.errors import UserError
from secateur.report import compare, figures, report
from secateur.store import Store
from secateur.study import status
from secateur.study.planning import plan_of
from toy.study import FACTS

ROUNDS = 400 if os.environ.keys() & {"CI", "SLOW"} else 25


def looked_at(folder):
    """What all commands that read a run folder do with it; drawing apart."""
    for look in (
        lambda: status(Store.open(folder)).to_json(),
        lambda: [Store.open(folder).damage(cell.id) for cell in Store.open(folder).cells],
        lambda: plan_of(Store.open(folder)),
        lambda: report(folder),
        lambda: compare(folder, folder),
    ):
        said = "nothing"
        try:
            look()
        except UserError as refused:
            said = refused.message
        lines = said.splitlines()
        # All problems of the settings are told at once.
        assert len(lines) == 1 or all(line.startswith("study.json:") for line in lines)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("fuzz") / "run", Grid(**SMALL))
    study = json.loads((folder / "study.json").read_text())
    # Whole facts, from which the time left is estimated.
    facts = {**FACTS.to_json(), **study["facts"]}
    (folder / "study.json").write_bytes(written(sealed({**study, "facts": facts})))
    assert status(Store.open(folder)).counts["ok"]
    return folder


@pytest.mark.slow
def test_odd_studies_and_records_are_read_or_refused(pristine, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "plans", lambda grid, change: [])
    monkeypatch.chdir(tmp_path)
    files = [pristine / "study.json", *sorted(pristine.glob("cells/*/*/record.json"))]
    before = {path: path.read_bytes() for path in files}
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        path = draw.choice([files[0], draw.choice(files)])
        if seed % 5:
            path.write_bytes(written(sealed(changed(json.loads(before[path]), draw, draw.choice([1, 1, 2])))))
        else:
            path.write_bytes(damaged(before[path], draw))
        try:
            looked_at(pristine)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {path.name}: {type(error).__name__}: {error}") from error
        finally:
            path.write_bytes(before[path])
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in pristine.parent.iterdir()] == ["run"]


NOTES = [
    b'{"note": 5}',
    b'{"note": "\\ud800"}',
    b"[" * 3000,
    b'{"note": "a\x1b[2J"}',
    b'{"other": 1}',
    b"\xff",
    b"{",
]


def test_odd_notes_are_left_out(pristine):
    path = pristine / "notes.jsonl"
    path.write_bytes(b"\n".join(NOTES))
    try:
        assert Store.open(pristine).notes() == []
        path.write_bytes(b"\n".join([*NOTES, b'{"note": "a\\u001b[2J"}']))
        assert [note["note"] for note in Store.open(pristine).notes()] == ["a\x1b[2J"]
    finally:
        path.unlink()


def test_networks_without_any_work_have_no_share_of_it(pristine, tmp_path, monkeypatch):
    """A share of nothing; and numbers of which squares and sums are still numbers."""
    monkeypatch.setattr(figures, "plans", lambda grid, change: [])
    files = sorted(pristine.glob("cells/*/*/record.json"))
    before = {path: path.read_bytes() for path in files}
    for path in files:
        record = json.loads(before[path])
        record["science"] |= {
            key: 0 for key in ("macs", "parameters", "macs_dense") if key in record["science"]
        }
        for distances in record["science"].get("distances", {}).values():
            distances[:] = [value and 1e30 for value in distances]
        path.write_bytes(written(sealed(record)))
    assert report(pristine, out=tmp_path / "out").index.is_file()
    for path in files:
        path.write_bytes(before[path])
