"""Which papers a study stands on: BibTeX of the networks, attacks, criteria, trainings, data it uses.

What belongs to a name stands at its registration (the facts ``bibtex`` and ``paper``), what belongs to a part
of a recipe in ``recipes.BIBTEX``; the entries themselves are in templates/references.bib.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from secateur.recipes import BIBTEX
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES, Registry
from secateur.report.aggregate import Grid

# The dependency graph, on which every pruning stands.
_PRUNING = "fang2023"


def bibliography(grid: Grid) -> str:
    """BibTeX entries in the order of their keys; what has no known reference is named in a comment."""
    known, keys, own, unknown = _entries(), set[str](), list[str](), list[str]()
    for registry, name in dict.fromkeys(_named(grid)):
        facts, what = _facts(registry, name)
        if "bibtex" not in facts:
            unknown.append(what)
        for entry in facts.get("bibtex", ()):
            (keys.add if entry in known else own.append)(entry)
    keys |= set(_trainings(grid.study.config)) | ({_PRUNING} if grid.criteria else set())
    notes = "".join(f"% No reference is known here for: {' '.join(text.split())}\n" for text in unknown)
    return notes + "\n".join([*(known[key] for key in sorted(keys)), *dict.fromkeys(own)])


def _facts(registry: Registry, name: str) -> tuple[Mapping[str, Any], str]:
    """What is known about a name, and a line about it: its registration often names the paper."""
    found = [entry for entry in registry.entries() if entry.name == name]
    said = [part for entry in found for part in (entry.summary, entry.facts.get("paper")) if part]
    return found[0].facts if found else {}, ": ".join([f"{registry.kind} {name}", *said])


def _named(grid: Grid) -> Iterator[tuple[Registry, str]]:
    """Every registered name that the study uses. A plug-in of the study need not be here any more."""
    config = grid.study.config
    for model in config.get("models", {}).values():
        yield from _network(str(model.get("arch", "")) if isinstance(model, Mapping) else "")
    for attack in grid.study.attacks:
        yield ATTACKS, attack.method
    for criterion in grid.criteria:
        yield CRITERIA, criterion
    if isinstance(rates := config.get("pruning", {}).get("rates"), str):
        yield RATES, rates
    if spec := config.get("data", {}).get("spec"):
        yield DATASETS, str(spec).split(":")[0]


def _network(arch: str) -> Iterator[tuple[Registry, str]]:
    source, _, name = arch.rpartition(":")
    if source == "robustbench":
        full = [name, f"Linf/{name}", f"L2/{name}"]
        published = next((entry for entry in CHECKPOINTS.entries() if entry.name in full), None)
        if published is not None:
            yield CHECKPOINTS, published.name
            yield MODELS, published.facts["arch"]
    elif arch:
        yield MODELS, arch


def _trainings(value: Any) -> Iterator[str]:
    """Whatever the recipes of a study, wherever they stand in it, build on."""
    if not isinstance(value, Mapping):
        return
    for key, item in value.items():
        if isinstance(item, Mapping):
            if key in BIBTEX:
                default = {"adversary": "madry", "distillation": "distillation"}.get(key, "")
                kind = item.get("method" if key == "adversary" else "kind", default)
                if kind in BIBTEX[key]:
                    yield BIBTEX[key][kind]
            yield from _trainings(item)


def _entries() -> dict[str, str]:
    text = files("secateur.report").joinpath("templates", "references.bib").read_text(encoding="utf-8")
    found = (entry.strip() + "\n" for entry in text.split("\n\n"))
    return {re.split(r"[{,]", entry, maxsplit=2)[1]: entry for entry in found}
