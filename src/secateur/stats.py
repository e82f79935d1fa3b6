"""Statistics of proportions and distances; no other module defines any.

Distances are those of adversarial examples: 0 where an image is wrong from the start, infinite where no
example was found. All intervals are two-sided at ``CONFIDENCE_LEVEL`` by default.

A claim about a method is tested over trainings, with one number per training on the same images. With fewer
than ``SEEDS_FOR_SPREAD`` trainings only claims about these very networks can be tested, over images. An
:class:`Effect` is either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc, nctdtrinc, ndtr, ndtri, stdtr, stdtrit

from secateur.errors import UserError

# scipy.stats agrees with ``wilson`` to 1e-16, but importing it takes three times as long as this module (1.7
# and 0.6 s), a call takes 300 times as long (8 ms), and counts have to be whole.
Floats = NDArray[np.float64]
CONFIDENCE_LEVEL = 0.95
"""Coverage of every interval, and one minus the error rate of every test."""
SEEDS_FOR_SPREAD = 3
"""Fewest trainings for an interval over trainings: two leave one degree of freedom."""
ENOUGH_IMAGES = 30
"""Fewest images for which a share of a distance is stated."""
POWER = 0.8
"""The probability with which a test shows its smallest detectable difference."""
SAME_RATIO = 1.1
"""Ratios between 1/1.1 and 1.1 are equivalent; changing an attack's steps usually changes more."""
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
    # Between equal infinite values the difference would be NaN.
    return lower if share == 0 or lower == upper else lower + share * (upper - lower)


def median(values: ArrayLike) -> float:
    """The median of ``values`` [N], NaN if there are none; infinite values count as larger than all others.

    >>> median([0.0, 1.0, math.inf, math.inf])
    inf
    """
    array = np.asarray(values, dtype=np.float64)
    return quantile(array, 0.5) if array.size else math.nan


def median_interval(values: ArrayLike, *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """Distribution-free interval of the median of ``values`` [N]; its ends may be infinite.

    Its ends are order statistics. Below six values no pair of them reaches 95 %: then it covers everything.

    >>> median_interval(range(1, 11))
    (2.0, 9.0)
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

    Near means below sqrt(1/K), which is closer to chance than to 1 in ratio (32 % of 10 classes, 10 % of
    100), and at most a quarter of the way from chance to 1 (62.5 % of 2). The whole 95 % interval has to lie
    there, so that few images raise no alarm.

    >>> near_chance(250, 1000, 10), near_chance(25, 100, 10)
    (True, False)
    """
    chance = 1 / classes
    return wilson(right, n)[1] < min(math.sqrt(chance), chance + (1 - chance) / 4)


def t_interval(values: Sequence[float], *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float] | None:
    """Student's interval of the mean of ``values``, one per training.

    None below three values, or if one is not finite.

    >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < SEEDS_FOR_SPREAD or not np.isfinite(array).all():
        return None
    low, high = t_intervals(array[None], level=level)
    return float(low[0]), float(high[0])


def t_intervals(values: Floats, *, level: float = CONFIDENCE_LEVEL) -> tuple[Floats, Floats]:
    """The ends of :func:`t_interval` for every row of finite numbers, [k, trainings].

    >>> low, high = t_intervals(np.array([[0.70, 0.72, 0.74]]))
    >>> round(low.item(), 2), round(high.item(), 2)
    (0.67, 0.77)
    """
    n = values.shape[1]
    half = stdtrit(n - 1, (1 + level) / 2) * values.std(axis=1, ddof=1) / math.sqrt(n)
    mean = values.mean(axis=1)
    return mean - half, mean + half


def security_curve(distances: ArrayLike, eps: ArrayLike) -> Floats:
    """Robust accuracy [k] at the budgets ``eps`` [k]: the share of ``distances`` [N] that exceed each.

    For minimum-norm attacks only: robust accuracy under an attack of fixed size follows from its outcomes.
    Images that are wrong from the start have distance 0 and are not robust at any ε ≥ 0. Images for which
    nothing was found have distance inf and count as robust, which makes the curve an upper bound.

    Raises:
        UserError: negative or unsorted budgets.

    >>> security_curve([0.0, 0.5, 1.0, math.inf], [0.1, 0.7]).tolist()
    [0.75, 0.5]
    """
    budgets = np.asarray(eps, dtype=np.float64)
    check_budgets(budgets)
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    robust = ordered.size - np.searchsorted(ordered, budgets, side="right")
    return np.asarray(robust / max(ordered.size, 1), dtype=np.float64)


def check_budgets(eps: ArrayLike) -> None:
    """Check the budgets of a security curve.

    Raises:
        UserError: they are negative or not in rising order.

    >>> check_budgets([0, 0.1, 0.2])
    """
    array = np.asarray(eps, dtype=np.float64)
    if not array.size or not bool((array >= 0).all()) or bool((np.diff(array) < 0).any()):
        raise UserError(
            f"the budgets {array.tolist()} are not a rising list", hint="give ε ≥ 0 in rising order"
        )


@dataclass(frozen=True)
class Effect:
    """A mean difference, its standard error and its degrees of freedom (inf: normal).

    Ratios are compared as logarithms: ``mean`` is then the logarithm of the geometric mean.

    >>> round(Effect(0.1, 0.04, math.inf).p, 4)
    0.0124
    """

    mean: float
    error: float
    freedom: float

    def interval(self, *, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
        """The two-sided interval of the mean."""
        half = self._quantile((1 + level) / 2) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Of the two-sided test that the mean is 0; 1 where there is neither a difference nor an error."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        t = -abs(self.mean) / self.error
        return 2 * float(ndtr(t) if math.isinf(self.freedom) else stdtr(self.freedom, t))

    def equivalent(self, margin: float, *, level: float = CONFIDENCE_LEVEL) -> bool:
        """Whether two one-sided tests show that the mean lies within ``margin`` of 0 (Schuirmann 1987).

        The error rate is 1 - ``level``: the interval at 2 ``level`` - 1 lies inside the margin.
        """
        low, high = self.interval(level=2 * level - 1)
        return -margin < low and high < margin

    def smallest_detectable(self, *, level: float = CONFIDENCE_LEVEL, power: float = POWER) -> float:
        """The difference that a test at ``level`` with this error shows with probability ``power``."""
        critical = self._quantile((1 + level) / 2)
        if math.isinf(self.freedom):
            return (critical + float(ndtri(power))) * self.error
        # The t of a true difference follows the noncentral t distribution.
        return float(nctdtrinc(self.freedom, 1 - power, critical)) * self.error

    def _quantile(self, p: float) -> float:
        return float(ndtri(p) if math.isinf(self.freedom) else stdtrit(self.freedom, p))


def over_trainings(values: Sequence[float]) -> Effect | None:
    """The effect over trainings of paired differences, or logarithms of ratios, one per training.

    None where :func:`why_not_over_trainings` gives a reason.

    >>> round(over_trainings([0.1, 0.2, 0.3]).mean, 3)
    0.2
    """
    if why_not_over_trainings(values):
        return None
    array = np.asarray(values, dtype=np.float64)
    return Effect(float(array.mean()), float(array.std(ddof=1)) / math.sqrt(array.size), array.size - 1)


def why_not_over_trainings(values: Sequence[float]) -> str:
    """Why these values give no interval over trainings; empty if they do.

    >>> why_not_over_trainings([0.1, 0.2])
    'no interval over trainings: 2 trainings, 3 are needed'
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < SEEDS_FOR_SPREAD:
        count = "one training" if array.size == 1 else f"{array.size} trainings"
        return f"no interval over trainings: {count}, {SEEDS_FOR_SPREAD} are needed"
    if not np.isfinite(array).all():
        return "no interval over trainings: the ratio of one is 0 or infinite"
    if trainings_agree(array[None])[0]:
        return "no interval over trainings: they agree to the last image"
    return ""


def trainings_agree(values: Floats) -> NDArray[np.bool_]:
    """Whether all trainings of a row agree, [k, trainings]; counts of images are too coarse to show it.

    >>> trainings_agree(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.6]])).tolist()
    [True, False]
    """
    return np.asarray(values.std(axis=1) <= 1e-12 * (1 + np.abs(values).max(axis=1)))


def share_effect(differences: ArrayLike) -> Effect:
    """The mean over images of ``differences`` [N] in [-1, 1] between two outcomes of the same images.

    The paired interval of Agresti and Min (2005), who add half an image to each of the four pairs of
    outcomes, so that no interval has width 0. A difference may be a mean over trainings or budgets.

    >>> [round(end, 2) for end in share_effect([-1, 0, 0, -1, 0, 0, 0, 0]).interval()]
    [-0.52, 0.12]
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
