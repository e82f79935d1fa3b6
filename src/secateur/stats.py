"""Statistics of proportions and distances; a distance may be infinite. No other file defines any.

Distances are those of adversarial examples: 0 where an image is wrong from the start, infinite where no
example was found. All intervals are two-sided at ``LEVEL`` unless told otherwise.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, ndtri, stdtrit

from secateur.errors import UserError

Floats = NDArray[np.float64]
LEVEL = 0.95
"""Coverage of every interval, and one minus the error rate of every test."""
SEEDS_FOR_SPREAD = 3
"""Trainings from which on an interval over trainings is given: two leave one degree of freedom."""


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


def median_interval(values: ArrayLike, *, level: float = LEVEL) -> tuple[float, float]:
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


def wilson(k: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
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


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[Floats], float] = median,
    *,
    generator: np.random.Generator,
    draws: int = 1000,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic`` over samples of ``values`` [N]."""
    array = np.asarray(values, dtype=np.float64)
    rows = generator.integers(0, array.size, size=(draws, array.size))
    drawn = [statistic(array[row]) for row in rows]
    return quantile(drawn, (1 - level) / 2), quantile(drawn, (1 + level) / 2)


def t_interval(values: Sequence[float], *, level: float = LEVEL) -> tuple[float, float] | None:
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
