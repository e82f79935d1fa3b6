"""status --watch, show and gc: what one reads of a run folder, and what may be deleted from it."""

import json
import shutil
import time

import pytest

from secateur.cli import folder as commands
from secateur.store import Store
from toy.study import SMALL, run_toy, science, small_plan

TWO_SEEDS = SMALL.replace("images: 20", "images: 20\nseeds: [0, 1]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("folder") / "run"
    return run_toy(out, text=TWO_SEEDS).store


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "prune", "tune", "attack"])
def test_a_cell_is_shown_by_its_id_the_beginning_of_it_and_its_label(secateur, finished, stage):
    cell = next(cell for cell in finished.cells if cell.stage == stage)
    told = secateur("show", finished.root, cell.id)
    assert told.code == 0
    assert told.out.startswith(f"{cell.label}: done\n")
    assert cell.id in told.out
    assert secateur("show", finished.root, cell.id[:10]).out == told.out
    assert secateur("show", finished.root, cell.label).out == told.out
    shown = secateur("show", finished.root, cell.id, "--json").json
    assert shown["record"] == finished.record(cell.id).to_json()
    assert (shown["state"], shown["damage"], shown["label"]) == ("ok", None, cell.label)


def test_the_numbers_of_a_cell_are_those_of_its_record(secateur, finished):
    pruned = next(cell for cell in finished.cells if cell.stage == "prune")
    numbers = finished.record(pruned.id).science
    told = " ".join(secateur("show", finished.root, pruned.id).out.split())
    assert f"test accuracy {100 * numbers.accuracy.test:.1f} %" in told
    assert ("near chance" in told) == numbers.collapsed
    assert f"parameters {numbers.parameters:,} multiply-adds {numbers.macs:,}" in told
    parent = next(cell for cell in finished.cells if cell.id == pruned.parent)
    assert f"starts from {parent.label}" in told
    attack = next(cell for cell in finished.cells if cell.stage == "attack")
    outcome = finished.record(attack.id).science.outcome
    told = secateur("show", finished.root, attack.id).out
    assert f"{len(outcome)}: {outcome.count('found')} found, {outcome.count('not_found')} not found" in told


def test_words_that_fit_several_cells_or_none_are_one_sentence(secateur, finished):
    several = secateur("show", finished.root, "train")
    assert several.code == 2
    assert "2 cells match 'train': train plain/0 (" in several.err
    none = secateur("show", finished.root, "train plain/7")
    assert none.code == 2
    assert "no cell of" in none.err
    # Three digits are too few for an id, whatever they fit.
    assert secateur("show", finished.root, finished.cells[0].id[:3]).code == 2
    assert secateur("show", finished.root, " ").code == 2


@pytest.mark.slow
def test_a_failed_a_damaged_and_an_open_cell_say_why(secateur, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    store = run_toy(tmp_path / "run").store
    failed = next(cell for cell in store.cells if cell.stage == "prune")
    told = secateur("show", store.root, failed.id)
    assert told.code == 0
    assert told.out.startswith(f"{failed.label}: failed\n")
    assert "ArithmeticError: this toy breaks" in told.out
    ok = next(cell for cell in store.cells if cell.stage == "train")
    (store.root / "cells" / ok.id[:2] / ok.id / "record.json").write_text("{")
    told = secateur("show", store.root, ok.id)
    assert told.out.startswith(f"{ok.label}: damaged\n")
    assert "the next run computes it afresh" in told.out
    assert secateur("show", store.root, ok.id, "--json").json["record"] is None
    new = Store.create(tmp_path / "new", small_plan().to_json())
    assert secateur("show", new.root, "train plain/0").out.startswith("train plain/0: open\n")


@pytest.mark.slow
def test_nothing_in_a_record_reaches_the_terminal_as_an_escape(secateur, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    store = run_toy(tmp_path / "run").store
    failed = next(cell for cell in store.cells if cell.stage == "prune")
    record = store.record(failed.id)
    hostile = record.model_copy(update={"provenance": {"host": "\x1b]0;owned\x07"}})
    monkeypatch.setattr(Store, "record", lambda *_: hostile)
    assert "\x1b" not in secateur("show", store.root, failed.id).out


def test_leftovers_go_and_finished_cells_stay(secateur, tmp_path, finished):
    root = tmp_path / "run"
    shutil.copytree(finished.root, root)
    store = Store.open(root)
    done, before = store.cells[0].id, science(root)
    (root / "scratch" / done).mkdir(parents=True)
    (root / "scratch" / done / "step.bin").write_bytes(b"x" * 1000)
    (root / "quarantine" / f"{done}.host.1.abc").mkdir(parents=True)
    (root / "quarantine" / "mine").mkdir()
    (root / "thesis.tex").write_text("years of work")
    told = secateur("gc", root, "--dry-run", "--json").json
    assert told == {"schema_version": 1, "deleted": False, "bytes": {f"scratch/{done}": 1000}}
    assert (root / "scratch" / done).exists()
    assert "1 leftover deleted" in secateur("gc", root).out
    assert not (root / "scratch" / done).exists()
    assert (root / "quarantine" / f"{done}.host.1.abc").exists()
    assert secateur("gc", root, "--quarantine").code == 0
    assert sorted(path.name for path in (root / "quarantine").iterdir()) == ["mine"]
    assert science(root) == before
    assert (root / "thesis.tex").read_text() == "years of work"
    assert secateur("gc", root).out == "0 leftovers deleted, 0.0 MB\n"


@pytest.mark.slow
def test_a_watch_ends_when_no_cell_is_left(secateur, tmp_path, monkeypatch, finished):
    assert "done" in secateur("status", finished.root, "--watch").out
    store, looks = Store.create(tmp_path / "run", small_plan().to_json()), []

    def meanwhile(seconds):
        looks.append(seconds)
        run_toy(store.root)

    monkeypatch.setattr(time, "sleep", meanwhile)
    said = secateur("status", store.root, "--watch", "--every", "0.5", "--json")
    assert looks == [0.5]
    counts = [json.loads(line)["counts"] for line in said.out.splitlines() if line.startswith('{"name')]
    assert counts == [{"open": 8}, {"ok": 8}]


def test_a_watched_folder_that_is_taken_away_is_one_sentence(secateur, tmp_path, monkeypatch):
    store = Store.create(tmp_path / "run", small_plan().to_json())
    monkeypatch.setattr(time, "sleep", lambda _: shutil.rmtree(store.root))
    said = secateur("status", store.root, "--watch")
    assert said.code == 2
    assert "is no longer there" in said.err


def test_links_are_not_followed_when_sizes_are_added_up(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a").write_bytes(b"12345")
    (inside / "loop").symlink_to(inside)
    assert commands.size_of(inside) == 5 + (inside / "loop").lstat().st_size
