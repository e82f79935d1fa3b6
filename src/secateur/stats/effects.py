"""Claims about a method, or about two networks: mean differences with their intervals, and tests.

A claim about a method is tested over trainings, with one number per training on the same images. With fewer
than ``SEEDS_FOR_SPREAD`` trainings only claims about these very networks can be tested, over images. An
:class:`Effect` is either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, nctdtrinc, ndtr, ndtri, stdtr, stdtrit

from secateur.stats.samples import CONFIDENCE_LEVEL, Floats

SEEDS_FOR_SPREAD = 3
"""Fewest trainings for an interval over trainings: two leave one degree of freedom."""
POWER = 0.8
"""The probability with which a test shows its smallest detectable difference."""
SAME_RATIO = 1.1
"""Ratios between 1/1.1 and 1.1 are equivalent; changing an attack's steps usually changes more."""
SAME_SHARE = 0.05
"""Accuracies that differ by at most this are equivalent."""


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
    n = len(values)
    if n < SEEDS_FOR_SPREAD:
        count = "one training" if n == 1 else f"{n} trainings"
        return f"no interval over trainings: {count}, {SEEDS_FOR_SPREAD} are needed"
    if not all(map(math.isfinite, values)):
        return "no interval over trainings: the ratio of one is 0 or infinite"
    low, high = min(values), max(values)
    # Of so few numbers these two tell it nearly always: the deviation is at least their difference / √(2n).
    apart = n < 10_000 and high - low > 1e-9 * (1 + max(abs(low), abs(high)))
    if not apart and trainings_agree(np.asarray(values, dtype=np.float64)[None])[0]:
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
    raised = (min((len(judged) - rank) * value, 1.0) for rank, (value, _) in enumerate(judged))
    found = dict(zip((i for _, i in judged), accumulate(raised, max), strict=True))
    return [found.get(i) for i in range(len(p))]
