"""Estimates over trainings, and paired changes on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.stats import (
    CONFIDENCE_LEVEL,
    SEEDS_FOR_SPREAD,
    Effect,
    Floats,
    median,
    over_trainings,
    share_effect,
    sign_test,
    t_interval,
    t_intervals,
    trainings_agree,
    why_not_over_trainings,
)

Counts = NDArray[np.signedinteger[Any]]
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """One number per seed and their mean; ``low`` and ``high`` only where there are enough seeds."""

    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None


def over_seeds(values: Sequence[float], *, highest: float = math.inf) -> Estimate:
    """Mean over seeds, with Student's interval from three finite values on, within 0 and ``highest``.

    There is no interval if all seeds agree: accuracies are coarse counts of images, and equal counts do not
    show that trainings do not differ.

    >>> over_seeds([0.5, 0.5])
    Estimate(values=(0.5, 0.5), mean=0.5, low=None, high=None)
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean()) if array.size else float("nan")
    found = None if why_not_over_trainings(values) else t_interval(values)
    if found is None:
        return Estimate(tuple(array.tolist()), mean)
    return Estimate(tuple(array.tolist()), mean, max(found[0], 0.0), min(found[1], highest))


def each_over_seeds(values: Floats, *, highest: float = math.inf) -> tuple[Floats, Floats, Floats]:
    """:func:`over_seeds` of every row of [k, seeds]: means and ends, nan where there is no interval.

    >>> each_over_seeds(np.array([[0.5, 0.5], [0.25, 0.75]]))[0].tolist()
    [0.5, 0.5]
    """
    mean = values.mean(axis=1)
    low, high = np.full((2, len(values)), np.nan)
    if values.shape[1] >= SEEDS_FOR_SPREAD:
        rows = np.flatnonzero(np.isfinite(values).all(axis=1))
        rows = rows[~trainings_agree(values[rows])]
        low[rows], high[rows] = t_intervals(values[rows])
    return mean, np.maximum(low, 0.0), np.minimum(high, highest)


@dataclass(frozen=True)
class Left:
    """What is left of the distance on the images that both networks classify correctly.

    ``ratios`` holds one number per training: the median over images of distance after / distance before. The
    ratio is 0 for an image with an example only after, and inf for one with an example only before; images
    without an example for either network have no ratio, and ``unreached`` counts them. ``ratio`` is the
    geometric mean over trainings, nan where it is undefined. ``before`` and ``after`` are median distances of
    the same images, means over trainings. ``n`` counts images with a ratio, of the training that has fewest.

    ``trainings`` and ``images`` are the effects on the logarithm over either; None where there is none, and
    ``no_interval`` says why trainings give none. ``over_images`` is the bootstrap interval of the ratio over
    images, trainings fixed: it says what other images would give, not what other trainings would.
    """

    ratios: tuple[float, ...]
    ratio: float
    before: float
    after: float
    n: int
    unreached: int
    farther: int
    nearer: int
    trainings: Effect | None
    no_interval: str
    images: Effect | None
    over_images: tuple[float, float] | None

    @property
    def over_trainings(self) -> tuple[float, float] | None:
        """The interval of the ratio over trainings."""
        if self.trainings is None:
            return None
        low, high = self.trainings.interval()
        return math.exp(low), math.exp(high)

    @property
    def effect(self) -> Effect | None:
        """Over trainings where there are enough, otherwise over images."""
        return self.trainings or self.images

    @property
    def p(self) -> float:
        """p-value of no change: over trainings, or by the sign test over images."""
        return self.trainings.p if self.trainings else sign_test(self.farther, self.nearer)


@dataclass(frozen=True)
class Shares:
    """Robust accuracy of two networks on the same images, wrong ones included, at the budget ``eps``.

    ``eps`` is None for the mean over several budgets. ``before`` and ``after`` hold one share per training.
    ``images`` is the effect over images, trainings fixed; ``trainings`` that over trainings, None with a
    reason in ``no_interval``. ``gained`` and ``lost`` count images that are robust after and not before, and
    the reverse; the majority of the trainings decides.
    """

    eps: float | None
    before: tuple[float, ...]
    after: tuple[float, ...]
    n: int
    gained: int
    lost: int
    trainings: Effect | None
    no_interval: str
    images: Effect

    @property
    def change(self) -> float:
        """Mean over trainings of after - before."""
        return float(np.mean(self.after) - np.mean(self.before))

    @property
    def over_trainings(self) -> tuple[float, float] | None:
        """The interval of the change over trainings, on these images."""
        return self.trainings.interval() if self.trainings else None

    @property
    def over_images(self) -> tuple[float, float]:
        """The interval of the change over images, for these trainings."""
        return self.images.interval()

    @property
    def effect(self) -> Effect:
        """Over trainings where there are enough, otherwise over images."""
        return self.trainings or self.images

    @property
    def p(self) -> float:
        """p-value of no change: over trainings, or by McNemar's exact test over images."""
        return self.trainings.p if self.trainings else sign_test(self.gained, self.lost)


def shares(eps: float | None, before: Sequence[Floats], after: Sequence[Floats]) -> Shares:
    """Compare robustness of the same images, float [n] in [0, 1] per training."""
    return each_shares([eps], np.array(before)[None], np.array(after)[None])[0]


def each_shares(epsilon: Sequence[float | None], before: Floats, after: Floats) -> tuple[Shares, ...]:
    """:func:`shares` at every budget: robustness [budgets, trainings, n]."""
    gains = after - before
    means = gains.mean(axis=2).tolist()
    votes = np.sign(gains).sum(axis=1)
    gained, lost = (votes > 0).sum(axis=1).tolist(), (votes < 0).sum(axis=1).tolist()
    sides = [map(tuple, each.mean(axis=2).tolist()) for each in (before, after)]
    rows = zip(epsilon, *sides, gained, lost, means, gains.mean(axis=1), strict=True)
    return tuple(
        Shares(
            eps=eps,
            before=old,
            after=new,
            n=before.shape[2],
            gained=more,
            lost=less,
            trainings=over_trainings(each),
            no_interval=why_not_over_trainings(each),
            images=share_effect(gain),
        )
        for eps, old, new, more, less, each, gain in rows
    )


def left(before: Sequence[Floats], after: Sequence[Floats]) -> Left:
    """Compare distances of the same images: float [n] per training, nan where a network is wrong.

    The bootstrap draws an image for every training and both networks together, so that what makes it easy or
    hard cancels out. The draws depend on n alone: the same records always give the same interval.
    """
    kept = [~(np.isnan(a) | np.isnan(b)) for a, b in zip(before, after, strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = [b / a for a, b in zip(before, after, strict=True)]
        per_training = [median(each[~np.isnan(each)]) for each in ratios]
        logs = np.log(per_training)
        ratio = float(np.exp(logs.mean()))
        votes = np.sum([np.nan_to_num(np.sign(each - 1)) for each in ratios], axis=0)
    bounds = _over_images(ratios)
    sound = bounds is not None and bounds[0] > 0 and bounds[1] < math.inf and 0 < ratio < math.inf
    return Left(
        ratios=tuple(per_training),
        ratio=ratio,
        before=float(np.mean([median(a[keep]) for a, keep in zip(before, kept, strict=True)])),
        after=float(np.mean([median(b[keep]) for b, keep in zip(after, kept, strict=True)])),
        n=min(int((~np.isnan(each)).sum()) for each in ratios),
        unreached=max(int((np.isinf(a) & np.isinf(b)).sum()) for a, b in zip(before, after, strict=True)),
        farther=int((votes > 0).sum()),
        nearer=int((votes < 0).sum()),
        trainings=over_trainings(logs.tolist()),
        no_interval=why_not_over_trainings(logs.tolist()),
        images=_log_effect(ratio, bounds) if bounds is not None and sound else None,
        over_images=bounds,
    )


def _log_effect(ratio: float, bounds: tuple[float, float]) -> Effect:
    """The effect whose 95 % interval is as wide as the bootstrap's, on the logarithm."""
    unit = Effect(0.0, 1.0, math.inf).interval()[1]
    return Effect(math.log(ratio), math.log(bounds[1] / bounds[0]) / (2 * unit), math.inf)


def _over_images(ratios: Sequence[Floats]) -> tuple[float, float] | None:
    weights = _image_weights(ratios[0].size)
    medians = np.stack([_weighted_medians(each, weights) for each in ratios])
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.exp(np.log(medians).mean(axis=0))
    if np.isnan(draws).any():
        return None
    low, high = np.quantile(
        draws, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2], method="inverted_cdf"
    )
    return float(low), float(high)


@lru_cache(maxsize=4)
def _image_weights(n: int) -> Counts:
    """How often each of n images is drawn, [n, RESAMPLES]."""
    generator = np.random.Generator(np.random.PCG64([n, 1]))
    drawn = generator.integers(0, n, size=(RESAMPLES, n))
    flat = (drawn + n * np.arange(RESAMPLES)[:, None]).ravel()
    counts = np.bincount(flat, minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    return np.ascontiguousarray(counts.T.astype(np.int16 if n < np.iinfo(np.int16).max else np.int32))


def _weighted_medians(values: Floats, weights: Counts) -> Floats:
    """Median of every resample: the middle value, or the mean of the two in the middle."""
    counted = np.flatnonzero(~np.isnan(values))
    if counted.size == 0:
        return np.full(RESAMPLES, np.nan)
    order = counted[np.argsort(values[counted], kind="stable")]
    ordered = np.append(values[order], np.nan)
    lower, upper = _middles(weights[order])
    return np.asarray((ordered[lower] + ordered[upper]) / 2, dtype=np.float64)


def _middles(drawn: Counts) -> tuple[Counts, Counts]:
    """Rows in the middle of every resample, given how often each row is drawn, [n, RESAMPLES].

    Where no row is drawn it is row n, which does not exist.
    """
    n = len(drawn)
    total = drawn.sum(axis=0, dtype=drawn.dtype)
    # The middle of a resample lies within 5 standard deviations of the middle row, but for one in a million.
    reach = math.ceil(2.5 * math.sqrt(n)) + 1
    lower, upper, inside = _middles_within(drawn, total, max(n // 2 - reach, 0), min(n // 2 + reach, n))
    if not inside:
        lower, upper, _ = _middles_within(drawn, total, 0, n)
    lower[total == 0] = n
    return lower, upper


def _middles_within(drawn: Counts, total: Counts, start: int, stop: int) -> tuple[Counts, Counts, bool]:
    """The middle rows, looked for from ``start`` to ``stop`` alone, and whether all of them are there."""
    below, half = total // 2, (total + 1) // 2
    before = drawn[:start].sum(axis=0, dtype=drawn.dtype)
    reached = drawn[start:stop].copy()
    reached[0] += before
    # np.cumsum along this axis takes twice as long.
    for row in range(1, stop - start):
        reached[row] += reached[row - 1]
    lower, upper = (
        each.sum(axis=0, dtype=drawn.dtype) + start for each in (reached < half, reached <= below)
    )
    ended = stop == len(drawn) or bool((reached[-1] > below).all())
    return lower, upper, ended and (start == 0 or bool((before < half).all()))
