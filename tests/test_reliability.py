"""docs/reliability.md says what was counted; every section counts, and notices what it is there to notice."""

import contextlib
import json
import random
import sys
from pathlib import Path

import pytest

from secateur.store import record, study_file
from secateur.study import running
from secateur.train import loop

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
# The fewest tries in which every kind of a section has its turn once.
FEW = {"bits": 8, "trainings": 2, "inputs": 12, "soak": 4}
SLOW = {"faults": 2, "signals": 2, "runners": 1}


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable():
    sys.path.append(str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def count(tmp_path, monkeypatch):
    def tried(name, n):
        import reliability

        tally = reliability.SECTIONS[name][0](n, 0, tmp_path)
        assert sum(tally.tried.values()) >= n
        return tally

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tried


def test_the_page_is_what_was_counted():
    import reliability

    results = json.loads(reliability.RESULTS.read_text(encoding="utf-8"))
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(results)
    assert set(results["sections"]) <= set(reliability.SECTIONS)
    for found in results["sections"].values():
        lost = sum(found["tried"].values()) - sum(found["survived"].values())
        assert bool(lost) == bool(found["lost"])
        assert sum(found["tried"].values()) >= found["n"]


@pytest.mark.parametrize(
    ("name", "n"), [*FEW.items(), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW.items())]
)
def test_every_section_counts(count, name, n):
    tally = count(name, n)
    assert tally.lost == []
    assert tally.survived == tally.tried


@pytest.mark.slow
def test_a_store_that_looks_at_no_seal_is_caught(count, monkeypatch):
    read = record.strict_json
    monkeypatch.setattr(record, "strict_json", lambda raw: record.sealed(read(raw)))
    lost = count("bits", 800).lost
    assert lost
    assert all(told.startswith("record") and "other content is read" in told for told in lost)


def test_a_run_that_ends_with_a_traceback_on_a_failing_disk_is_caught(tmp_path, monkeypatch):
    from reliability_runs import struck

    monkeypatch.setattr(running, "machine_errors", lambda *_, **__: contextlib.nullcontext())
    assert struck(tmp_path / "run", "lease.taken", 1, "EIO", {}) == "lease.taken, turn 1: it ends with 1"


@pytest.mark.slow
def test_a_checkpoint_without_momentum_is_caught(count, monkeypatch):
    real = loop.generation

    def forgetful(*arguments):
        tensors, meta = real(*arguments)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("momentum")}, meta

    monkeypatch.setattr(loop, "generation", forgetful)
    assert count("trainings", 6).lost


@pytest.mark.slow
def test_a_reader_that_trusts_a_strangers_study_is_caught(tmp_path, monkeypatch):
    import reliability_bad_files
    from reliability_inputs import refused, sandbox

    made = reliability_bad_files.records(tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("written before")
    draw = random.Random(0)
    monkeypatch.setattr(study_file.StudyShape, "from_json", lambda study: study)
    with sandbox(tmp_path / "outside", tmp_path / "tmp"):
        told = [refused(*made(draw), tmp_path / "outside") for _ in range(30)]
    assert any("Error" in each for each in told)


def test_a_process_that_keeps_what_it_attacked_is_caught(count, monkeypatch):
    import reliability_soak

    kept, once = [], reliability_soak.once

    def keeping(*arguments, **options):
        kept.append(bytearray(20 * 2**20))
        return once(*arguments, **options)

    monkeypatch.setattr(reliability_soak, "once", keeping)
    assert "memory grew" in count("soak", 4).lost[0]
