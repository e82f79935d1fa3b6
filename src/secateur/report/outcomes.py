"""What the outcomes of attacks say at a budget, and when they say too little for a share to be stated."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.report.pairing import Pair
from secateur.report.records import Attack
from secateur.stats import ENOUGH_IMAGES

COLLAPSED, TOO_FEW, AT_CHANCE = "collapsed", "too few images", "dense at chance"
UNRELIABLE = "unreliable"


def robust_images(attack: Attack, eps: float) -> NDArray[np.bool_] | None:
    """Which images, bool [n], are classified correctly and resist ``eps``; None at sizes nobody tried.

    An attack of fixed size decides by outcome, at the sizes it was run with. At 0 nothing needs to be tried.
    """
    if eps == 0:
        return ~attack.already_wrong
    if not attack.fixed:
        return np.asarray(attack.distances[attack.norm] > eps)
    # A size in a record and the same size in a study file may differ by the last digit.
    found = [hits for size, hits in attack.sizes.items() if math.isclose(size, eps, rel_tol=1e-9)]
    return ~attack.already_wrong & ~found[0] if found else None


def robust_accuracy(attack: Attack, eps: float) -> float | None:
    """The share of all attacked images that are right and resist ``eps``; None at sizes nobody tried."""
    robust = robust_images(attack, eps)
    return None if robust is None else float(robust.mean())


def state_of(pairs: Sequence[Pair], *, n: int) -> str:
    """Why no share of a distance may be stated for networks (before, after), in words; empty if one may.

    "dense at chance", "collapsed" (a network near chance answers whatever it answers), "too few
    images" (``n`` of them), "unreliable" (by the checks). In each case the grade is C at best.
    """
    if any(before.network.collapsed for before, _ in pairs):
        return AT_CHANCE if pairs[0][0].axes.sparsity == 0 else COLLAPSED
    if any(after.network.collapsed for _, after in pairs):
        return COLLAPSED
    if n < ENOUGH_IMAGES:
        return TOO_FEW
    return UNRELIABLE if any(attack.grade in "CX" for pair in pairs for attack in pair) else ""


def why(state: str, n: int) -> str:
    """The remark that goes with a state."""
    if state == TOO_FEW:
        return f"too few images: {n} that both networks get right, {ENOUGH_IMAGES} are needed"
    return "the dense network is near chance" if state == AT_CHANCE else "the network is near chance"
