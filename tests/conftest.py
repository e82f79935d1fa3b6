"""Shared by all rooms: any test can import ``toy``, and no toy behaviour leaks in from outside."""

import os
import sys
from pathlib import Path

import pytest

# Worker processes get the path of their parent, so this reaches them too.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_toy_behaviour_leaks_in(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TOY_")]:
        monkeypatch.delenv(name)
