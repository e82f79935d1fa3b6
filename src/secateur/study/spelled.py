"""Defaults that a study spells out: an attack with them is the same, and its cells have the same ids."""

import inspect
from collections.abc import Mapping
from typing import Any

from secateur.config import Study
from secateur.config.sections import Attack
from secateur.hashing import canonical_json
from secateur.registry import ATTACKS
from secateur.study.cells import Facts


def without_defaults(study: Study, facts: Facts) -> Study:
    """``study`` without the settings of attacks that say what the attack does anyway.

    The form without them is that of every published cell. What a study takes where its file says nothing (the
    row ``study`` of an attack) is part of the ids either way, and stays.

    >>> from secateur.config import parse_study
    >>> text = "{name: small, data: digits, models: {net: resnet18}, attacks: {ddn: {gamma: 0.05, alpha: 2}}}"
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> without_defaults(parse_study(text), facts).attacks["ddn"].model_extra
    {'alpha': 2}
    """
    attacks = {label: _without_defaults(attack, facts) for label, attack in study.attacks.items()}
    changed = any(attacks[label] is not study.attacks[label] for label in attacks)
    return study.model_copy(update={"attacks": attacks}) if changed else study


def _without_defaults(attack: Attack, facts: Facts) -> Attack:
    kept = ATTACKS.entry(attack.attack).facts.get("study", {})
    said = {name: value for name, value in (attack.model_extra or {}).items() if name not in kept}
    if not said:  # and torch is not imported
        return attack
    known = _defaults(attack, facts)
    idle = {
        name for name in said if name in known and canonical_json(said[name]) == canonical_json(known[name])
    }
    if not idle:
        return attack
    given = attack.model_dump(exclude_unset=True)
    return Attack(**{name: value for name, value in given.items() if name not in idle})


def _defaults(attack: Attack, facts: Facts) -> Mapping[str, Any]:
    """What the attack takes for settings that nobody names, for images like those of the study."""
    from secateur.attacks.core.pixel_units import scaled_defaults

    function = ATTACKS.get(attack.attack)
    plain = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
        and isinstance(parameter.default, int | float | str | bool | None)
    }
    # Lengths grow with the range of the pixels, and grey levels are those of the images.
    levels = {"levels": facts.levels} if "levels" in plain else {}
    return {**plain, **scaled_defaults(function, attack.resolved_norm, facts.bounds), **levels}
