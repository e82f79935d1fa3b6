"""Shared by all rooms. Its presence puts this folder on the path, so that any test can import ``toy``."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_toy_behaviour_leaks_in(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TOY_")]:
        monkeypatch.delenv(name)
