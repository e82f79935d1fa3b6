"""The units of a study: the budgets that it states by norm, the bounds and grey levels of its images."""

from collections.abc import Mapping, Sequence
from typing import Any

from secateur.budgets import NORM_KEYS, norm_of
from secateur.config import Cell, epsilons_by_norm
from secateur.errors import UserError
from secateur.hashing import restore
from secateur.registry import ATTACKS
from secateur.report.records import Attack


def norms(cells: Sequence[Cell], attacks: Sequence[Attack]) -> tuple[str, ...]:
    """The norms of the attacks without sizes of their own, whether they have a result yet or not."""
    fixed = {attack.method for attack in attacks if attack.fixed}
    fixed |= {entry.name for entry in ATTACKS.entries() if entry.facts.get("kind") == "fixed-eps"}
    minimum = [cell for cell in cells if cell.stage == "attack" and cell.settings["attack"] not in fixed]
    planned = (restore(cell.settings.get("norm")) for cell in minimum)
    known = [key for norm in planned if (key := _norm_key(norm))]
    return tuple(dict.fromkeys([*known, *(attack.norm for attack in attacks if not attack.fixed)]))


def _norm_key(value: Any) -> str | None:
    """The name of a norm in records; None of what is none, which others may have written into a study."""
    try:
        return None if value is None else NORM_KEYS.get(norm_of(value))
    except UserError:
        return None


def units(study: Mapping[str, Any], attacked: tuple[str, ...], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Budgets that the study states, and the units of its images; ``pixels`` may name levels and bounds."""
    given = restore(study["config"].get("epsilons", ()))
    # A mapping names the norms itself; a plain list is for the norms of the study's attacks.
    listed = () if isinstance(given, Mapping) else attacked
    try:
        epsilons = epsilons_by_norm(given, listed)
    except ValueError:  # older studies may list budgets without naming a norm, and attack in several
        epsilons = {}
    low, high = pixels.get("bounds") or (0.0, 1.0)
    levels = pixels.get("levels")
    if "levels" not in pixels and _in_255ths(epsilons.get("linf", ())):
        levels = 256  # older records lack the grey levels, but budgets in 255ths imply them
    return {"epsilons": epsilons, "bounds": (float(low), float(high)), "levels": levels}


def _in_255ths(budgets: Sequence[float]) -> bool:
    """Whether all budgets are whole or half grey levels of 8-bit images."""
    return bool(budgets) and all(abs(510 * eps - round(510 * eps)) < 1e-9 for eps in budgets)
