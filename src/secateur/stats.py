"""Statistics of proportions and distances; a distance may be infinite. No other file defines any.

Distances are those of adversarial examples: 0 where an image is wrong from the start, infinite where no
example was found. All intervals are two-sided at ``CONFIDENCE_LEVEL`` unless told otherwise.

A claim about a method is a claim over trainings: its interval and its test take one number per training, on
the same images. With fewer than ``SEEDS_FOR_SPREAD`` trainings only a claim about these very networks is
left: its interval and its test are over images. An :class:`Effect` is either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc, nctdtrinc, ndtr, ndtri, stdtr, stdtrit

from secateur.errors import UserError

Floats = NDArray[np.float64]
CONFIDENCE_LEVEL = 0.95
"""Coverage of every interval, and one minus the error rate of every test."""
SEEDS_FOR_SPREAD = 3
"""Trainings from which on an interval over trainings is given: two leave one degree of freedom."""
ENOUGH_IMAGES = 30
"""Images below which a share of a distance is not stated."""
POWER = 0.8
"""Chance of being shown that a smallest detectable difference has."""
SAME_RATIO = 1.1
"""Ratios between 1/1.1 and 1.1 are equivalent: below what a change of the attack's steps usually makes."""
SAME_SHARE = 0.05
"""Accuracies that differ by at most this are equivalent."""


def quantile(values: ArrayLike, q: float) -> float:
    """The q-quantile of ``values`` [N] with linear interpolation; inf where it reaches into infinite values.

    Raises:
        UserError: no values, NaN among them, or q outside [0, 1].

    >>> quantile([1.0, 2.0, math.inf], 0.5)
    2.0
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not ordered.size or bool(np.isnan(ordered).any()) or not 0 <= q <= 1:
        raise UserError(f"no {q}-quantile of {ordered.size} values", hint="give numbers and a q in [0, 1]")
    position = q * (ordered.size - 1)
    below, share = math.floor(position), position - math.floor(position)
    lower, upper = float(ordered[below]), float(ordered[min(below + 1, ordered.size - 1)])
    return lower if share == 0 or lower == upper else lower + share * (upper - lower)


def median(values: ArrayLike) -> float:
    """The median of ``values`` [N]; infinite values count as larger than all others, NaN if there are none.

    >>> median([0.0, 1.0, math.inf, math.inf])
    inf
    """
    array = np.asarray(values, dtype=np.float64)
    return quantile(array, 0.5) if array.size else math.nan


def median_interval(values: ArrayLike, *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """Distribution-free interval of the median of ``values`` [N]; its ends may be infinite.

    Its ends are order statistics. Below six values no pair of them reaches 95 %: then it covers everything.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = ordered.size
    if n == 0:
        return math.nan, math.nan
    below = bdtr(np.arange(n), n, 0.5)
    rank = int(np.searchsorted(below, (1 - level) / 2, side="right"))
    return (float(ordered[rank - 1]), float(ordered[n - rank])) if rank else (0.0, math.inf)


def wilson(k: float, n: float, *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion of ``k`` in ``n`` (Wilson 1927); [0, 1] where ``n`` is 0.

    ``k`` and ``n`` need not be whole: counts of several trainings may be averaged.

    Raises:
        UserError: ``k`` is negative or exceeds ``n``.

    >>> wilson(0, 10)[0]
    0.0
    """
    if n < 0 or not 0 <= k <= n:
        raise UserError(f"{k} of {n} is not a proportion")
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri((1 + level) / 2))
    p, shrink = k / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are exact in theory but off by a rounding error in floating point.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def near_chance(right: int, n: int, classes: int) -> bool:
    """Whether an accuracy of ``right`` in ``n`` is near that of guessing one of K ``classes``.

    It is nearer to chance than to 1 in ratio, below sqrt(1/K) (32 % of 10 classes, 10 % of 100), and no more
    than a quarter of the way from chance to 1 (62.5 % of 2). The whole 95 % interval has to lie there, so
    that few images raise no alarm.

    >>> near_chance(25, 100, 10), near_chance(2, 10, 10)
    (False, False)
    >>> near_chance(250, 1000, 10)
    True
    """
    chance = 1 / classes
    return wilson(right, n)[1] < min(math.sqrt(chance), chance + (1 - chance) / 4)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[Floats], float] = median,
    *,
    generator: np.random.Generator,
    draws: int = 1000,
    level: float = CONFIDENCE_LEVEL,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic`` over samples of ``values`` [N]."""
    array = np.asarray(values, dtype=np.float64)
    rows = generator.integers(0, array.size, size=(draws, array.size))
    drawn = [statistic(array[row]) for row in rows]
    return quantile(drawn, (1 - level) / 2), quantile(drawn, (1 + level) / 2)


def t_interval(values: Sequence[float], *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float] | None:
    """Student's interval of the mean of ``values``, one per training.

    None below three values, or where one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < SEEDS_FOR_SPREAD or not np.isfinite(array).all():
        return None
    half = float(stdtrit(array.size - 1, (1 + level) / 2) * array.std(ddof=1) / math.sqrt(array.size))
    return float(array.mean()) - half, float(array.mean()) + half


def security_curve(distances: ArrayLike, eps: ArrayLike) -> Floats:
    """Robust accuracy [k] at the budgets ``eps`` [k]: the share of ``distances`` [N] that exceed each.

    For minimum-norm attacks only. An attack of fixed size says nothing about other sizes, and at its own size
    the rounding of its distances would decide: there robust accuracy follows from outcomes. Images that are
    wrong from the start have distance 0 and are not robust at any ε ≥ 0. Images for which nothing was found
    have distance inf and count as robust, which makes the curve an upper bound.

    Raises:
        UserError: negative or unsorted budgets.
    """
    budgets = np.asarray(eps, dtype=np.float64)
    check_budgets(budgets)
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    robust = ordered.size - np.searchsorted(ordered, budgets, side="right")
    return np.asarray(robust / max(ordered.size, 1), dtype=np.float64)


def check_budgets(eps: ArrayLike) -> None:
    """``eps`` are budgets of a security curve: not negative, in rising order; else a UserError."""
    array: NDArray[Any] = np.asarray(eps, dtype=np.float64)
    if not array.size or not bool((array >= 0).all()) or bool((np.diff(array) < 0).any()):
        raise UserError(
            f"the budgets {array.tolist()} are not a rising list", hint="give ε ≥ 0 in rising order"
        )


@dataclass(frozen=True)
class Effect:
    """A mean difference, its standard error and its degrees of freedom (inf: normal).

    Ratios are compared as logarithms: ``mean`` is then the logarithm of the geometric mean.
    """

    mean: float
    error: float
    freedom: float

    def interval(self, *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
        """The two-sided interval of the mean."""
        half = _t_quantile((1 + level) / 2, self.freedom) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Of the two-sided test that the mean is 0; 1 where there is neither a difference nor an error."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return 2 * _t_share(-abs(self.mean) / self.error, self.freedom)

    def equivalent(self, margin: float, *, level: float = CONFIDENCE_LEVEL) -> bool:
        """Whether two one-sided tests show that the mean lies within ``margin`` of 0 (Schuirmann 1987).

        The error rate is 1 - ``level``: the interval at 2 ``level`` - 1 lies inside the margin.
        """
        low, high = self.interval(level=2 * level - 1)
        return -margin < low and high < margin

    def smallest_detectable(self, *, level: float = CONFIDENCE_LEVEL, power: float = POWER) -> float:
        """The difference that a test at ``level`` would show with probability ``power``, were this the error.

        Over trainings it follows from the noncentral t distribution.
        """
        critical = _t_quantile((1 + level) / 2, self.freedom)
        if math.isinf(self.freedom):
            return (critical + float(ndtri(power))) * self.error
        return float(nctdtrinc(self.freedom, 1 - power, critical)) * self.error


def _t_quantile(p: float, freedom: float) -> float:
    return float(ndtri(p) if math.isinf(freedom) else stdtrit(freedom, p))


def _t_share(t: float, freedom: float) -> float:
    return float(ndtr(t) if math.isinf(freedom) else stdtr(freedom, t))


def over_trainings(values: Sequence[float]) -> Effect | None:
    """The effect over trainings of paired differences, or logarithms of ratios, one per training.

    None where it cannot be had; :func:`why_not_over_trainings` says why.
    """
    if why_not_over_trainings(values):
        return None
    array = np.asarray(values, dtype=np.float64)
    return Effect(float(array.mean()), float(array.std(ddof=1)) / math.sqrt(array.size), array.size - 1)


def why_not_over_trainings(values: Sequence[float]) -> str:
    """Why these values give no interval over trainings; empty if they do."""
    array = np.asarray(values, dtype=np.float64)
    if array.size < SEEDS_FOR_SPREAD:
        count = "one training" if array.size == 1 else f"{array.size} trainings"
        return f"no interval over trainings: {count}, {SEEDS_FOR_SPREAD} are needed"
    if not np.isfinite(array).all():
        return "no interval over trainings: the ratio of one is 0 or infinite"
    # Counts of images are coarse: equal ones do not show that trainings do not differ.
    if float(array.std()) <= 1e-12 * (1 + float(np.abs(array).max())):
        return "no interval over trainings: they agree to the last image"
    return ""


def share_effect(differences: ArrayLike) -> Effect:
    """The mean over images of ``differences`` [N] in [-1, 1] between two outcomes of the same images.

    The paired interval of Agresti and Min (2005), who add half an image to each of the four pairs of
    outcomes, so that no interval has width 0. A difference may be a mean over trainings or budgets.
    """
    array = np.asarray(differences, dtype=np.float64)
    n = array.size + 2
    mean = float(array.sum()) / n
    variance = (float((array**2).sum()) + 1) / n - mean**2
    return Effect(mean, math.sqrt(max(variance, 0.0) / n), math.inf)


def sign_test(gained: int, lost: int) -> float:
    """Exact two-sided p that gains and losses are equally likely; ties are left out before.

    On pairs of outcomes this is McNemar's exact test.

    >>> sign_test(0, 5)
    0.0625
    """
    return min(2 * float(bdtr(min(gained, lost), gained + lost, 0.5)), 1.0) if gained + lost else 1.0


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (Holm 1979); None stands for what cannot be judged and counts for nothing.

    >>> [round(value, 6) if value else value for value in holm([0.01, None, 0.04, 0.03])]
    [0.03, None, 0.06, 0.06]
    """
    judged = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, i) in enumerate(judged):
        highest = max(highest, min((len(judged) - rank) * value, 1.0))
        adjusted[i] = highest
    return adjusted


def exceeds(k: int, n: int, share: float, *, level: float = CONFIDENCE_LEVEL) -> bool:
    """Whether ``k`` of ``n`` is significantly more than ``share``: the exact one-sided binomial test.

    If the true proportion is ``share`` or less, the answer is true with a probability of at most 1 - level.

    >>> exceeds(7, 64, 0.05), exceeds(6, 64, 0.05)
    (True, False)
    """
    return k > 0 and bool(bdtrc(k - 1, n, share) <= 1 - level)
