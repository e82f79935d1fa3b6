"""The change that pruning made: every attacked network against its controls, image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secateur.report.aggregate import (
    AttackPoint,
    Grid,
    GridPoint,
    dense_of,
    dense_tuned_of,
    worst,
)
from secateur.report.intervals import Left, Shares, each_shares, left
from secateur.report.pairing import Pair, in_order, on_images, pair_trainings, shared_images, state_of
from secateur.stats import Floats


@dataclass(frozen=True)
class Against:
    """One network compared with another, over the same trainings and images.

    ``left`` is the distance left on the images that both classify correctly; None for fixed-size attacks.
    ``clean`` and ``robust`` (one per stated budget) are over all attacked images; ``overall`` is the mean of
    ``robust`` at positive budgets, None without any. ``accuracy`` is that of the test set, (before, after), a
    mean over trainings. ``state`` is the reason why no share is stated, or "": see :func:`pairing.state_of`.
    """

    left: Left | None
    clean: Shares
    robust: tuple[Shares, ...]
    overall: Shares | None
    trainings: int
    accuracy: tuple[float, float]
    grade: str
    state: str

    @property
    def n(self) -> int:
        """The number of images: those of ``left``, otherwise all that both attacks saw."""
        return self.left.n if self.left else self.clean.n

    @property
    def share(self) -> float | None:
        """The share of the distance that is left; None where there is none to state."""
        known = self.left is not None and not math.isnan(self.left.ratio) and not self.state
        return self.left.ratio if self.left is not None and known else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of ``share``: over trainings if there are enough, otherwise over images; or None."""
        if self.left is None or self.share is None:
            return None
        return self.left.over_trainings or self.left.over_images

    @property
    def accuracy_fell(self) -> bool:
        """Whether accuracy on the attacked images fell significantly (95 % interval over images).

        Then the share of the distance must be read with the accuracy: the images that the network still
        classifies correctly are those far from the boundary.
        """
        return self.clean.over_images[1] < 0

    @property
    def accuracy_rose(self) -> bool:
        """Whether accuracy on the attacked images rose significantly (95 % interval over images)."""
        return self.clean.over_images[0] > 0


@dataclass(frozen=True)
class Change:
    """A network against its two controls; None where the control is absent or shares no image.

    ``total`` is against the dense network: pruning and fine-tuning together. ``pruning`` is against the dense
    network after the same fine-tuning: pruning alone. Each has the worse grade of the two sides.
    """

    total: Against | None
    total_grade: str
    pruning: Against | None
    pruning_grade: str


def changes(grid: Grid) -> dict[GridPoint, Change]:
    """The changes of every attacked grid point."""
    return {where: _change(grid, point) for where, point in grid.points.items()}


def _change(grid: Grid, point: AttackPoint) -> Change:
    controls = (dense_of(point.where), dense_tuned_of(point.where))
    # Without fine-tuning both are the same network.
    found = {
        where: compare_points(grid.points[where], point, budgets=grid.budgets(point.norm))
        for where in dict.fromkeys(controls)
        if where in grid.points
    }
    total, pruning = (found.get(where) for where in controls)
    return Change(total, total.grade if total else "X", pruning, pruning.grade if pruning else "X")


def compare_points(before: AttackPoint, after: AttackPoint, *, budgets: Sequence[float]) -> Against | None:
    """Compare ``after`` with ``before``, training by training, image by image, in the attack's own norm.

    None where they have no training or no image in common, or are not attacks of the same norm and kind.
    """
    # Distances in different norms, or sizes and distances, have no ratio.
    if (before.norm, before.fixed) != (after.norm, after.fixed):
        return None
    found = compare_attacks(pair_trainings(before.seeds, after.seeds), budgets=budgets)
    if found is None:
        return None
    return replace(found, grade=worst([found.grade, before.checked, after.checked]))


def compare_attacks(pairs: Sequence[Pair], *, budgets: Sequence[float] = ()) -> Against | None:
    """Compare pairs of attacks (before, after) on the images whose hashes they share; None without any.

    Fixed-size attacks are compared at the sizes that all of them tried; ``budgets`` do not apply to them.
    """
    order = shared_images(pairs)
    if not order:
        return None
    first = pairs[0][0]
    sizes = tuple(first.sizes) if first.fixed else budgets
    accurate, robust, overall = _compared(pairs, order, sizes)
    distance = None if first.fixed else left(*_both(pairs, order, first.norm))
    state = state_of(pairs, n=distance.n if distance else accurate.n)
    return Against(
        left=distance,
        clean=accurate,
        robust=robust,
        overall=overall,
        trainings=len(pairs),
        accuracy=_accuracy(pairs),
        grade=worst([*(attack.grade for pair in pairs for attack in pair), *("C" if state else "")]),
        state=state,
    )


def _both(pairs: Sequence[Pair], order: Sequence[str], norm: str) -> tuple[list[Floats], list[Floats]]:
    return [on_images(a, order, norm) for a, _ in pairs], [on_images(b, order, norm) for _, b in pairs]


def _accuracy(pairs: Sequence[Pair]) -> tuple[float, float]:
    before, after = ([pair[side].network.science.accuracy.test for pair in pairs] for side in (0, 1))
    return float(np.mean(before)), float(np.mean(after))


def _compared(
    pairs: Sequence[Pair], order: Sequence[str], sizes: Sequence[float]
) -> tuple[Shares, tuple[Shares, ...], Shares | None]:
    """Accuracy, robustness at each size that all have tried, and its mean over them; None without any."""
    robust = [(eps, both) for eps in (0.0, *sizes) if (both := _robust(pairs, order, eps)) is not None]
    before, after = (np.array([both[side] for _, both in robust], dtype=np.float64) for side in (0, 1))
    tried: list[float | None] = [eps for eps, _ in robust]
    # At 0 nothing is attacked: accuracy would pass for robust accuracy in the mean.
    attacked = [row for row, eps in enumerate(tried) if eps]
    if not attacked:
        clean, *others = each_shares(tried, before, after)
        return clean, tuple(others), None
    before, after = (np.concatenate([each, each[attacked].mean(axis=0)[None]]) for each in (before, after))
    clean, *others, overall = each_shares([*tried, None], before, after)
    return clean, tuple(others), overall


Sides = tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]


def _robust(pairs: Sequence[Pair], order: Sequence[str], eps: float) -> Sides | None:
    """The robust images [n] per side and training; None where a size was not tried."""
    sides: Sides = ([], [])
    for pair in pairs:
        for attack, side in zip(pair, sides, strict=True):
            found = attack.robust_images(eps)
            if found is None:
                return None
            side.append(in_order(attack, order, found))
    return sides
