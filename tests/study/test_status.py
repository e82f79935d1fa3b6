import json

import pytest

from secateur.store import Leases, Store
from secateur.study import status
from toy.study import SMALL, run_toy, small_plan


@pytest.mark.slow
def test_a_finished_run(tmp_path):
    told = status(run_toy(tmp_path / "run").store)
    assert told.counts == {"ok": 8}
    assert told.stages["attack"] == {"ok": 4}
    assert told.remaining == 0
    assert told.seconds > 0
    assert json.loads(json.dumps(told.to_json()))["counts"] == {"ok": 8}


def test_a_run_that_has_not_begun(tmp_path):
    told = status(Store.create(tmp_path / "run", small_plan().to_json()))
    assert told.counts == {"open": 8}
    assert told.remaining is None


@pytest.mark.slow
def test_failed_damaged_running_and_open_cells_are_told_apart(tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setenv("TOY_FAIL", "prune")
    store = run_toy(out, text=SMALL).store
    dense_attack = next(cell for cell in store.cells if cell.stage == "attack")
    (out / "cells" / dense_attack.id[:2] / dense_attack.id / "record.json").write_text("{")
    tuned_attack = next(cell for cell in store.cells if cell.role == "dense_tuned" and cell.stage == "attack")
    gone = out / "cells" / tuned_attack.id[:2] / tuned_attack.id
    gone.rename(tmp_path / "gone")
    leases = Leases(out)
    leases.claim(tuned_attack.id)
    told = status(Store.open(out))
    assert told.counts == {"ok": 2, "failed": 4, "damaged": 1, "running": 1}
    assert told.running == (tuned_attack.label,)
    assert told.damaged == ((dense_attack.label, "its record is not JSON (truncated?)"),)
    assert told.failed[0] == ("prune plain/0 l1 0.5", "ArithmeticError: this toy breaks")
    assert told.remaining > 0
    leases.close()
    assert status(Store.open(out)).counts["open"] == 1


@pytest.mark.slow
def test_looking_changes_nothing(tmp_path):
    out = tmp_path / "run"
    store = run_toy(out).store
    victim = store.cells[-1]
    (out / "cells" / victim.id[:2] / victim.id / "record.json").write_text("{")
    before = sorted(str(path) for path in out.rglob("*"))
    status(Store.open(out))
    assert sorted(str(path) for path in out.rglob("*")) == before
