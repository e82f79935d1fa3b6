"""Pair the trainings and images of two grid points, and say when no share of a distance may be stated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.report.records import Attack
from secateur.stats import ENOUGH_IMAGES, Floats

Pair = tuple[Attack, Attack]
COLLAPSED, TOO_FEW, AT_CHANCE = "collapsed", "too few images", "dense at chance"
UNRELIABLE = "unreliable"


def pair_trainings(before: Mapping[int, Attack], after: Mapping[int, Attack]) -> list[Pair]:
    """Attacks (before, after) of the same seed; equal weights under two seeds are one training.

    A pair counts if the weights of either side are new: a published network that three seeds prune at random
    gives three pairs, but only one if all three prune the same channels.
    """
    distinct: dict[tuple[str, str], Pair] = {}
    for seed, attack in after.items():
        if seed in before:
            key = before[seed].network.science.weights_hash, attack.network.science.weights_hash
            distinct.setdefault(key, (before[seed], attack))
    return list(distinct.values())


def shared_images(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Hashes of the images that all attacks of the pairs have in common, in the order of the first attack."""
    if not pairs:
        return ()
    first = pairs[0][0].hashes
    common = set(first)
    # Attacks of one study share a tuple of hashes: each tuple is compared once.
    for other in {id(attack.hashes): attack.hashes for pair in pairs for attack in pair}.values():
        common &= set(other)
    return first if len(common) == len(first) else tuple(h for h in dict.fromkeys(first) if h in common)


def rows_of(attack: Attack, order: Sequence[str]) -> NDArray[np.intp]:
    """Indices, int [n], of the named images in an attack; of an image that occurs twice, the first."""
    if order is attack.hashes:
        return np.arange(attack.n)
    row = {image: i for i, image in reversed(list(enumerate(attack.hashes)))}
    return np.array([row[image] for image in order], dtype=np.intp)


def in_order(attack: Attack, order: Sequence[str], values: NDArray[Any]) -> NDArray[Any]:
    """The entries of the named images, of ``values`` [n] of an attack."""
    return values if order is attack.hashes else values[rows_of(attack, order)]


def on_images(attack: Attack, order: Sequence[str], norm: str) -> Floats:
    """Distances [n] of the named images; nan where the network is wrong without an attack."""
    values = attack.distances[norm].copy()
    values[attack.already_wrong] = np.nan
    return np.asarray(in_order(attack, order, values), dtype=np.float64)


def common_images(pairs: Sequence[Pair]) -> int:
    """Number of images that both networks of a pair classify correctly, in the pair that has the fewest."""
    order = shared_images(pairs)
    counts = [
        int((~(in_order(a, order, a.already_wrong) | in_order(b, order, b.already_wrong))).sum())
        for a, b in pairs
    ]
    return min(counts, default=0)


def state_of(pairs: Sequence[Pair], *, n: int) -> str:
    """Why no share of a distance may be stated for pairs (before, after), in words; empty if one may.

    "dense at chance", "collapsed" (near chance, no distance means anything), "too few images" (``n`` of them)
    or "unreliable" (by the checks of either attack). In each case the grade is C at best.
    """
    if any(before.network.collapsed for before, _ in pairs):
        return AT_CHANCE if pairs[0][0].axes.sparsity == 0 else COLLAPSED
    if any(after.network.collapsed for _, after in pairs):
        return COLLAPSED
    if n < ENOUGH_IMAGES:
        return TOO_FEW
    return UNRELIABLE if any(attack.grade in "CX" for pair in pairs for attack in pair) else ""


def no_robustness(state: str) -> str:
    """The state where a network near chance resists: no robustness; empty where the number means something.

    >>> no_robustness(COLLAPSED), no_robustness(TOO_FEW)
    ('collapsed', '')
    """
    return state if state in (COLLAPSED, AT_CHANCE) else ""


def why(state: str, n: int) -> str:
    """The remark that explains a state."""
    if state == TOO_FEW:
        return f"too few images: {n} that both networks get right, {ENOUGH_IMAGES} are needed"
    return "the dense network is near chance" if state == AT_CHANCE else "the network is near chance"
