"""Statistics of one sample: quantiles, intervals, security curves.

Distances are those of adversarial examples: 0 where an image is wrong from the start, infinite where no
example was found. All intervals are two-sided at ``CONFIDENCE_LEVEL`` by default.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc, ndtri

from secateur.errors import UserError

# scipy.stats agrees with ``wilson`` to 1e-16, but importing it takes three times as long as this package (1.7
# and 0.6 s), a call takes 300 times as long (8 ms), and counts have to be whole.
Floats = NDArray[np.float64]
CONFIDENCE_LEVEL = 0.95
"""Coverage of every interval, and one minus the error rate of every test."""
ENOUGH_IMAGES = 30
"""Fewest images for which a share of a distance is stated."""


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


def exceeds(k: int, n: int, share: float, *, level: float = CONFIDENCE_LEVEL) -> bool:
    """Whether ``k`` of ``n`` is significantly more than ``share``: the exact one-sided binomial test.

    If the true proportion is ``share`` or less, the answer is true with a probability of at most 1 - level.

    >>> exceeds(7, 64, 0.05), exceeds(6, 64, 0.05)
    (True, False)
    """
    return k > 0 and bool(bdtrc(k - 1, n, share) <= 1 - level)
