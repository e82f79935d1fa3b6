"""Shared by all rooms: any test can import ``toy``, and no toy behaviour leaks in from outside."""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The tests run side by side and small tensors gain nothing from threads; processes of tests inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Worker processes get the path of their parent, so this reaches them too.
sys.path.insert(0, str(Path(__file__).parent))


# The same examples in every run, so that no test passes today and fails tomorrow; more of them in CI.
settings.register_profile(
    "tests", derandomize=True, deadline=None, max_examples=100 if os.environ.keys() & {"CI", "SLOW"} else 40
)
settings.load_profile("tests")


def pytest_collection_finish():
    """What was collected lives to the end: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _no_name_of_a_module_leaks_out():
    from registered import names_as_they_were

    with names_as_they_were():
        yield


@pytest.fixture(autouse=True)
def _no_name_leaks_out(_no_name_of_a_module_leaks_out):
    from registered import names_as_they_were

    with names_as_they_were():
        yield


@pytest.fixture(autouse=True)
def _no_toy_behaviour_leaks_in(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TOY_")]:
        monkeypatch.delenv(name)
