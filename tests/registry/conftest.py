import pytest

from secateur.registry.plugins import REGISTRIES


@pytest.fixture(autouse=True)
def _names_stay_as_they_were(monkeypatch):
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
