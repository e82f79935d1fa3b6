"""Every registered attack in every norm it has, with settings for a short call."""

import math

from secateur.budgets import L0_PIXELS
from secateur.registry import ATTACKS, takes_steps

INF = math.inf
CASES = [(name, norm) for name in sorted(ATTACKS.names()) for norm in ATTACKS.entry(name).facts["norms"]]
STEPS = 12


def call(name, norm, model, x, y, steps=STEPS):
    """A short attack by its registered name, with a size where it needs one."""
    attack = ATTACKS.get(name)
    facts = ATTACKS.entry(name).facts
    settings = {"norm": norm} if len(facts["norms"]) > 1 else {}
    if facts["kind"] == "fixed-eps":
        settings["eps"] = {0.0: 4, L0_PIXELS: 4, 1.0: 2.0, 2.0: 1.0, INF: 0.4}[norm]
    if takes_steps(name):
        settings["steps"] = steps
    return attack(model, x, y, **settings)
