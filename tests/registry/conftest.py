import pytest

from secateur.registry import plugins


@pytest.fixture(autouse=True)
def _names_stay_as_they_were(monkeypatch):
    monkeypatch.setattr(plugins, "_LOADED", {})
    for registry in plugins.REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
