"""Attacks that a study plans once for every seed although no seed changes the network or the attack."""

from collections.abc import Iterable, Mapping
from typing import Any

from secateur.config.cell import Cell
from secateur.errors import UserError
from secateur.hashing import digest
from secateur.registry import ATTACKS, CRITERIA, Registry, has_weights


def repeats(cells: Iterable[Cell]) -> dict[str, str]:
    """The attacks that repeat an earlier one on an equal network: their ids, each with that of the first.

    Seeds change a network only where something is drawn from them: initial weights, the order of images in
    training, random scores, images for a criterion. Published weights that are not trained further are the
    same under every seed, and so is what a deterministic criterion leaves of them. Whether the weights are
    equal is known when both networks are there; this says for which attacks it has to be looked up.

    Args:
        cells: of one study, parents before children.

    >>> from secateur.config import parse_study
    >>> from secateur.study import plan
    >>> study = parse_study('''
    ... name: doc
    ... data: {spec: "digits:split", sizes: [40, 20, 20]}
    ... models: {net: "shipped:digits-plain"}
    ... attacks: {ddn: {steps: 1}}
    ... sparsities: [0.5]
    ... criteria: [l1, random]
    ... seeds: [0, 1]
    ... images: 10
    ... ''')
    >>> planned = plan(study)
    >>> labels = {cell.id: cell.label for cell in planned.cells}
    >>> [(labels[id], labels[first]) for id, first in repeats(planned.cells).items()]
    [('attack net/1 ddn', 'attack net/0 ddn'), ('attack net/1 l1 0.5 ddn', 'attack net/0 l1 0.5 ddn')]
    """
    drawn: dict[str, str | None] = {}
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for cell in cells:
        key = drawn[cell.id] = _without_seed(cell, drawn)
        if cell.stage == "attack" and key is not None and first.setdefault(key, cell.id) != cell.id:
            found[cell.id] = first[key]
    return found


def _without_seed(cell: Cell, above: Mapping[str, str | None]) -> str | None:
    """A hash of everything a cell's numbers depend on but its seed; None where something is drawn."""
    parent = above.get(cell.parent) if cell.parent is not None else ""
    if parent is None or _draws(cell):
        return None
    settings = {name: value for name, value in cell.settings.items() if name != "seed" or cell.parent}
    return digest([parent, cell.stage, settings])


def _draws(cell: Cell) -> bool:
    settings = cell.settings
    match cell.stage:
        case "train":
            given = settings.get("weights") is not None or has_weights(str(settings.get("arch")))
            return not given or _trains(settings)
        case "tune":
            return _trains(settings)
        case "prune":
            facts = _facts(CRITERIA, settings.get("criterion"))
            return facts is None or bool(facts.get("draws") or facts.get("needs_batch"))
        case "attack":
            facts = _facts(ATTACKS, settings.get("attack"))
            return facts is None or bool(facts.get("random", True))


def _trains(settings: Mapping[str, Any]) -> bool:
    recipe = settings.get("recipe") or {}
    # Recalibration draws images.
    return bool(recipe.get("epochs", 1) or recipe.get("recalibrate"))


def _facts(registry: Registry, name: Any) -> Mapping[str, Any] | None:
    """What is known of an entry; None of a plug-in, whose code may draw whatever it likes."""
    try:
        entry = registry.entry(str(name))
    except UserError:  # a run of a plug-in can be read without the plug-in
        return None
    return entry.facts if entry.target.startswith("secateur.") else None
