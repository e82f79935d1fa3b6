"""What a test registers is gone after it: the next test of the same process sees the names as they were."""

import contextlib

from secateur.graph.rules import RULES
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES, plugins

REGISTRIES = (ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES)


@contextlib.contextmanager
def names_as_they_were():
    """Every registry, every rule and the loaded plug-in files are the same at the end as at the start."""
    kept = [RULES, plugins._LOADED]
    kept += [names for registry in REGISTRIES for names in (registry._entries, registry._objects)]
    before = [dict(names) for names in kept]
    discovered = [registry._discovered for registry in REGISTRIES]
    try:
        yield
    finally:
        for names, were in zip(kept, before, strict=True):
            names.clear()
            names.update(were)
        for registry, was in zip(REGISTRIES, discovered, strict=True):
            registry._discovered = was
