"""docs/time.md is what benchmarks/study.py writes about its measurement."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("study")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        sys.modules.pop("study", None)


@pytest.fixture(scope="module")
def measured():
    return json.loads((ROOT / "benchmarks" / "study.json").read_text(encoding="utf-8"))


def test_the_page_is_that_of_the_measurement(study, measured):
    assert (ROOT / "docs" / "time.md").read_text(encoding="utf-8") == study.page(measured)


def test_both_sides_did_the_same_work_and_their_parts_add_up(measured):
    runs = measured["runs"]
    assert len(runs["ours"]) == len(runs["by hand"]) >= 2
    counts = {(run["networks"], run["attacks"]) for side in runs.values() for run in side}
    assert len(counts) == 1
    for side in runs.values():
        for run in side:
            assert sum(run["seconds"].values()) == pytest.approx(run["cpu"])
