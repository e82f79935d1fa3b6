"""The same networks measured twice: medians on the same images, and what may be said of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtr

from secateur.report.aggregate import AttackPoint, Place, worst
from secateur.report.changes import compare_attacks, on_images, shared_images
from secateur.report.intervals import Paired
from secateur.report.rows import Attack
from secateur.report.tables import Column, Value

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """A place and its counterpart; ``paired`` is None when they attacked no image in common.

    ``p`` is the exact two-sided sign test over images, adjusted for all differences of the table (Holm 1979).
    """

    place: Place
    norm: str
    paired: Paired | None
    seeds: int
    accuracy: tuple[float, float]
    grade: str
    p: float

    @property
    def verdict(self) -> str:
        """What may be said: farther, nearer, within the noise, or why nothing may be said."""
        if self.paired is None:
            return "other images"
        if self.grade in "CX":
            return "unreliable"
        low, high = self.paired.difference_low, self.paired.difference_high
        if self.p < LEVEL and low > 0:
            return "farther"
        return "nearer" if self.p < LEVEL and high < 0 else "within the noise"


def difference(
    place: Place, before: AttackPoint, after: AttackPoint, accuracy: tuple[float, float]
) -> Difference:
    """``after`` seen from ``before``, seed by seed, not yet adjusted for other differences."""
    pairs = _pairs(before, after)
    same = before.norm == after.norm
    return Difference(
        place=place,
        norm=before.norm,
        paired=compare_attacks(pairs, norm=before.norm) if same else None,
        seeds=len(pairs),
        accuracy=accuracy,
        grade=worst([before.grade, after.grade]),
        p=_sign_test(pairs, before.norm) if same else 1.0,
    )


def _pairs(before: AttackPoint, after: AttackPoint) -> list[tuple[Attack, Attack]]:
    by_seed = {attack.axes.seed: attack for attack in before.attacks}
    return [(by_seed[a.axes.seed], a) for a in after.attacks if a.axes.seed in by_seed]


def _sign_test(pairs: Sequence[tuple[Attack, Attack]], norm: str) -> float:
    """Two-sided sign test over images that both get right; a seed's vote counts once per image."""
    images = shared_images(pairs)
    if not images:
        return 1.0
    votes = np.zeros(len(images))
    for before, after in pairs:
        a, b = (on_images(attack, images, norm, "correct") for attack in (before, after))
        votes += np.nan_to_num((b > a).astype(float) - (b < a).astype(float))
    farther, nearer = int((votes > 0).sum()), int((votes < 0).sum())
    return min(2 * float(bdtr(min(farther, nearer), farther + nearer, 0.5)), 1.0)


def adjusted(differences: list[Difference]) -> Iterator[Difference]:
    """Holm's step-down adjustment over all differences, in the order given."""
    ranked = sorted(range(len(differences)), key=lambda i: differences[i].p)
    holm, highest = [1.0] * len(differences), 0.0
    for rank, i in enumerate(ranked):
        highest = max(highest, min((len(ranked) - rank) * differences[i].p, 1.0))
        holm[i] = highest
    for each, p in zip(differences, holm, strict=True):
        yield replace(each, p=p)


HEADS = (
    Column("model", "model", "text"),
    Column("criterion", "pruned", "text"),
    Column("sparsity", "sparsity", "plain"),
    Column("arm", "tuned", "text"),
    Column("attack", "attack", "text"),
    Column("verdict", "verdict", "text"),
    Column("grade", "grade", "text"),
    Column("norm", "norm", "text"),
    Column("images", "images", "plain"),
    Column("seeds", "seeds", "plain"),
    Column("before", "before"),
    Column("after", "after"),
    Column("ratio", "share", "percent"),
    Column("ratio_low", "low", "percent"),
    Column("ratio_high", "high", "percent"),
    Column("accuracy_before", "accuracy before", "percent"),
    Column("accuracy_after", "accuracy after", "percent"),
    Column("p", "p (Holm)"),
)


def row(each: Difference) -> tuple[Value, ...]:
    """The values of one difference, under ``HEADS``."""
    place, found = each.place, each.paired
    numbers: tuple[Value, ...] = (None,) * 5
    if found is not None:
        numbers = found.before, found.after, found.ratio, found.ratio_low, found.ratio_high
    return (
        *(place.model, place.criterion, place.sparsity, place.arm, place.attack),
        *(each.verdict, each.grade, each.norm),
        found.n if found else 0,
        each.seeds,
        *numbers,
        *each.accuracy,
        each.p,
    )
