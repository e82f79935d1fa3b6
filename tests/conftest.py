"""Shared by all rooms: any test can import ``toy``, and no toy behaviour leaks in from outside."""

import os
import sys
from pathlib import Path

import pytest

# The tests run side by side and small tensors gain nothing from threads; processes of tests inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Worker processes get the path of their parent, so this reaches them too.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_toy_behaviour_leaks_in(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TOY_")]:
        monkeypatch.delenv(name)
