"""Paired tests of two networks on the same images: verdicts, Holm's adjustment, and tables of both."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

from secateur.report.aggregate import AttackPoint, Grid, GridPoint, worst
from secateur.report.formatting import Column, Table, Value, named_columns, number, percent
from secateur.report.intervals import Left, Shares
from secateur.report.paired_changes import Against, compare_points
from secateur.stats import CONFIDENCE_LEVEL, SAME_RATIO, SAME_SHARE, holm

OTHER_IMAGES = "other images"
Judgement = Left | Shares


@dataclass(frozen=True)
class Difference:
    """One attacked network against another; ``against`` is None where they share no image or no attack.

    Two quantities are tested: the distance left on common images (minimum-norm attacks), and robust accuracy
    over all images, as a mean over the stated budgets. ``p_left`` and ``p_robust`` are adjusted for all valid
    tests of the table (Holm 1979); None where there is nothing to test. They are over trainings where there
    are three, otherwise over images.
    """

    where: GridPoint
    norm: str
    before: AttackPoint
    after: AttackPoint
    against: Against | None
    accuracy: tuple[float, float]
    grade: str
    p_left: float | None = None
    p_robust: float | None = None

    @property
    def judged(self) -> bool:
        """Whether the two can be compared: both reliable, with images in common."""
        return self.against is not None and not self.against.state and self.grade not in "CX"

    @property
    def p(self) -> float | None:
        """The smaller of the adjusted p-values."""
        return min((p for p in (self.p_left, self.p_robust) if p is not None), default=None)

    @property
    def unit(self) -> str:
        """What the intervals are over: trainings, or the images of these very networks."""
        found = main_of(self.against) if self.against else None
        return "" if found is None else "trainings" if found.trainings else "images"

    @property
    def verdict(self) -> str:
        """Better, worse, equivalent, undecided, or the reason why the two are not compared."""
        if self.against is None:
            return OTHER_IMAGES
        if not self.judged:
            return self.against.state or "unreliable"
        robust = _direction(self.against.overall, self.p_robust)
        distance = _direction(self.against.left, self.p_left)
        if robust * distance < 0:
            return "undecided"
        # Distances are over images that both classify correctly: those that were lost do not count.
        if robust == 0 and _contradicted(self.against, distance):
            return "undecided"
        if robust or distance:
            return "better" if robust + distance > 0 else "worse"
        return "equivalent" if equivalent(self.against) else "undecided"

    @property
    def directions(self) -> tuple[int, int]:
        """Of robust accuracy and distance: 1 where the second network is better, -1 worse, 0 undecided.

        Both are 0 unless the verdict is "better" or "worse".
        """
        if self.against is None or self.verdict not in ("better", "worse"):
            return 0, 0
        return _direction(self.against.overall, self.p_robust), _direction(self.against.left, self.p_left)

    @property
    def sentence(self) -> str:
        """The verdict, and for "undecided" the reason."""
        if self.verdict != "undecided" or self.against is None:
            return self.verdict
        robust = _direction(self.against.overall, self.p_robust)
        distance = _direction(self.against.left, self.p_left)
        if robust * distance < 0:
            return "undecided (distances on common images and robust accuracy disagree)"
        if distance:
            return "undecided (distances on common images and accuracy disagree)"
        least = detectable(self.against)
        parts = [f"{percent(least[0])} of the distance"] if least[0] is not None else []
        parts += [f"{number(100 * least[1])} points of robust accuracy"] if least[1] is not None else []
        if not parts:
            return "undecided"
        return f"undecided (the smallest detectable difference is {' or '.join(parts)})"


def main_of(against: Against) -> Judgement | None:
    """The main quantity of a comparison: the distance left, or robust accuracy for fixed-size attacks."""
    return against.left or against.overall


def _direction(found: Judgement | None, p: float | None) -> int:
    """1 where the second network is significantly more robust, -1 where it is less, otherwise 0."""
    if found is None or p is None or p >= 1 - CONFIDENCE_LEVEL:
        return 0
    if found.trainings is not None:
        return 1 if found.trainings.mean > 0 else -1
    more, less = (found.farther, found.nearer) if isinstance(found, Left) else (found.gained, found.lost)
    return 1 if more > less else -1


def _contradicted(against: Against, distance: int) -> bool:
    """Distances and accuracy move in opposite directions: the images that were lost explain the distances."""
    return (distance > 0 and against.accuracy_fell) or (distance < 0 and against.accuracy_rose)


def equivalent(against: Against) -> bool:
    """Whether equivalence tests show that no quantity changed by more than the margins of ``stats``.

    All of them must: the distance left within a factor ``SAME_RATIO``, accuracy and robust accuracy at every
    stated budget within ``SAME_SHARE``.
    """
    if not all(each.effect.equivalent(SAME_SHARE) for each in (against.clean, *against.robust)):
        return False
    if against.left is None:
        return bool(against.robust)
    return against.left.effect is not None and against.left.effect.equivalent(math.log(SAME_RATIO))


def detectable(against: Against) -> tuple[float | None, float | None]:
    """The smallest detectable differences: of the distance (a share), and of robust accuracy.

    Each at ``CONFIDENCE_LEVEL`` with ``POWER``, for a single comparison; after Holm's adjustment they are
    larger. None where nothing varies, as between a network and itself, because then nothing can be estimated.
    """
    effect = against.left.effect if against.left else None
    distance = math.exp(effect.smallest_detectable()) - 1 if effect and effect.error > 0 else None
    overall = against.overall
    return distance, overall.effect.smallest_detectable() if overall else None


def difference(
    where: GridPoint,
    before: AttackPoint,
    after: AttackPoint,
    *,
    accuracy: tuple[float, float],
    budgets: Sequence[float],
) -> Difference:
    """Compare ``after`` with ``before``, training by training, not yet adjusted for other comparisons.

    ``accuracy`` is that of all trainings of either side, for grid points that share none; otherwise accuracy
    is that of the trainings that both have, as everything else is.
    """
    against = compare_points(before, after, budgets=budgets)
    found = Difference(
        where=where,
        norm=before.norm,
        before=before,
        after=after,
        against=against,
        accuracy=against.accuracy if against else accuracy,
        grade=against.grade if against else worst([before.grade, after.grade]),
    )
    # Invalid tests get no p-value, so that they do not make Holm's adjustment stricter for the others.
    if against is None or not found.judged:
        return found
    return replace(
        found,
        p_left=against.left.p if against.left else None,
        p_robust=against.overall.p if against.overall else None,
    )


def adjusted(differences: Sequence[Difference]) -> Iterator[Difference]:
    """The differences in their order, with p-values adjusted over all their tests (Holm)."""
    p = holm([p for each in differences for p in (each.p_left, each.p_robust)])
    for each, p_left, p_robust in zip(differences, p[::2], p[1::2], strict=True):
        yield replace(each, p_left=p_left, p_robust=p_robust)


HEADS = (
    *named_columns("model"),
    Column("criterion", "pruned", "text"),
    *named_columns("sparsity", "plain"),
    Column("arm", "tuned", "text"),
    *named_columns("attack verdict grade norm"),
    *named_columns("images trainings", "plain"),
    Column("over", "intervals over", "text"),
    Column("accuracy_before", "accuracy before", "percent"),
    Column("accuracy_after", "accuracy after", "percent"),
    Column("robust_before", "robust before", "percent"),
    Column("robust_after", "robust after", "percent"),
    Column("robust_low", "robust change, low"),
    Column("robust_high", "robust change, high"),
    Column("robust_detectable", "detectable in robust"),
    *named_columns("before after", "number"),
    Column("ratio", "share", "percent"),
    Column("ratio_low", "low", "percent"),
    Column("ratio_high", "high", "percent"),
    Column("detectable", "detectable", "percent"),
    Column("p", "p (Holm)"),
)


def difference_row(each: Difference) -> tuple[Value, ...]:
    """The values of one difference under ``HEADS``; distances and shares are those on common images."""
    where, found = each.where, each.against
    return (
        *(where.model, where.criterion, where.sparsity, where.arm, where.attack),
        *(each.verdict, each.grade, each.norm),
        found.n if found else 0,
        found.trainings if found else 0,
        each.unit,
        *each.accuracy,
        *_robust_values(found),
        *_left_values(found),
        each.p,
    )


def _robust_values(against: Against | None) -> tuple[Value, ...]:
    overall = against.overall if against else None
    if against is None or overall is None:
        return (None,) * 5
    before, after = (sum(side) / len(side) for side in (overall.before, overall.after))
    return before, after, *(overall.over_trainings or overall.over_images), detectable(against)[1]


def _left_values(against: Against | None) -> tuple[Value, ...]:
    found = against.left if against else None
    if against is None or found is None:
        return (None,) * 6
    low, high = found.over_trainings or found.over_images or (None, None)
    return found.before, found.after, found.ratio, low, high, detectable(against)[0]


def criteria_table(grid: Grid) -> Table:
    """Each later criterion of the study against each earlier one, at every grid point that both reached.

    Both networks had the same fine-tuning and were attacked on the same images, so fine-tuning is no part of
    the difference. The p-values are adjusted for all valid tests of the table.
    """
    rows = [(first, *difference_row(each)) for first, each in criteria_differences(grid)]
    title = f"{grid.study.name}: criteria against each other, same images"
    return Table("criteria", title, (Column("against", "compared with", "text"), *HEADS), tuple(rows))


@lru_cache(maxsize=8)
def criteria_differences(grid: Grid) -> tuple[tuple[str, Difference], ...]:
    """The rows of :func:`criteria_table`: the earlier criterion, and the later one's difference from it."""
    pairs = list(_criterion_pairs(grid))
    found = adjusted([each for _, each in pairs])
    return tuple((first, each) for (first, _), each in zip(pairs, found, strict=True))


def _criterion_pairs(grid: Grid) -> Iterator[tuple[str, Difference]]:
    for first, second in combinations(grid.criteria, 2):
        for where, point in grid.points.items():
            other = replace(where, criterion=first)
            if where.criterion != second or other not in grid.points:
                continue
            networks = [grid.networks[replace(each, attack="")] for each in (other, where)]
            accuracy = networks[0].accuracy.mean, networks[1].accuracy.mean
            budgets = grid.budgets(point.norm)
            yield first, difference(where, grid.points[other], point, accuracy=accuracy, budgets=budgets)
