"""The page of benchmarks/engine.py says what does not hold, and its run folders are what it says."""

import json
import sys
from pathlib import Path

import pytest

from secateur.store import Store
from secateur.study import status

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable():
    sys.path.append(str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_the_page_is_what_was_measured():
    import engine_page

    import engine

    results = json.loads(engine.RESULTS.read_text(encoding="utf-8"))
    assert engine.PAGE.read_text(encoding="utf-8") == engine_page.page(results)


def test_a_page_says_what_does_not_hold():
    import engine_page

    machine = {"machine": {"cores": 2, "load": 0.0}}
    for wall, word in ((0.99, "yes"), (1.01, "**no**")):
        rows = {"status again": {"wall": wall, "cpu": 1.0, "peak_mb": 1}}
        told = engine_page.large({"cells": 1, "bytes": 1, "rows": rows, **machine})
        assert f"| 1 s | {word} |" in "\n".join(told)
    for speed_up, word in ((1.86, "yes"), (1.84, "**no**")):
        told = engine_page.jobs({"cells": 1, "work": 1, "one": 1, "two": 1, "speed_up": speed_up, **machine})
        assert f"holds: {word}" in "\n".join(told)
    for wall, word in ((9.9, "yes"), (10.1, "**no**")):
        row = {"bytes": 1, "cells": 1, "wall_ms": wall, "cpu_ms": 1}
        told = engine_page.overhead({"small": row, "large": row, **machine})
        assert f"| 10 ms | {word} |" in "\n".join(told)


def test_the_lines_of_scale_say_what_does_not_hold():
    import engine_page

    import engine

    results = json.loads(engine.RESULTS.read_text(encoding="utf-8"))
    for speed_up, word in ((1.86, "yes"), (1.84, "**no**")):
        results["nodes"] = {"speed_up": speed_up}
        told = engine_page.in_short(results)
        assert f"| two Ray nodes against one | 1.85 × | {speed_up:.2f} × | {word} |" in told[-1]
    assert len(told) == 6


@pytest.mark.slow
def test_folders_are_finished_studies_with_records_of_the_size_that_is_said(tmp_path):
    from engine_folder import write_folder

    assert write_folder(tmp_path / "run", cells=1, size=20_000) == 114
    assert status(Store.open(tmp_path / "run")).counts == {"ok": 114}
    sizes = [path.stat().st_size for path in (tmp_path / "run").glob("cells/*/*/record.json")]
    assert 18_000 < min(sizes) <= max(sizes) < 22_000
