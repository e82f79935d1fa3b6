"""Estimates over seeds, and paired changes of medians."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.stats import LEVEL, SEEDS_FOR_SPREAD, Floats, median, t_interval

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
    """Mean over seeds; Student's interval from three seeds on, none below and none around infinity.

    The interval ends at 0 and at ``highest``, where the quantity does.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean()) if array.size else float("nan")
    found = t_interval(values)
    if found is None:
        return Estimate(tuple(array.tolist()), mean)
    return Estimate(tuple(array.tolist()), mean, max(found[0], 0.0), min(found[1], highest))


@dataclass(frozen=True)
class Paired:
    """A change between two networks measured on the same images; nan where it is undefined.

    ``ratio`` is after/before and ``difference`` after-before, of the mean over seeds of the medians. The
    intervals resample images, and seeds too when there are three or more (``seeds_resampled``).
    """

    before: float
    after: float
    ratio: float
    ratio_low: float
    ratio_high: float
    difference: float
    difference_low: float
    difference_high: float
    n: int
    seeds: int
    seeds_resampled: bool


def paired(before: Sequence[Floats], after: Sequence[Floats]) -> Paired:
    """Compare medians on identical images: one array [n] per seed, nan where an image does not count.

    An image is drawn for both networks and for every seed together, so that what makes it easy or hard
    cancels out. The draws depend on n alone: the same records always give the same interval.
    """
    n, seeds = before[0].size, len(before)
    plain = [float(np.mean([median(v[~np.isnan(v)]) for v in arm])) for arm in (before, after)]
    weights = _image_weights(n)
    seed_weights = _seed_weights(seeds)
    draws = [_mean_of_medians(arm, weights, seed_weights) for arm in (before, after)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio_low, ratio_high = _percentiles(draws[1] / draws[0])
        difference_low, difference_high = _percentiles(draws[1] - draws[0])
    defined = np.isfinite(plain[0])
    return Paired(
        before=plain[0],
        after=plain[1],
        ratio=plain[1] / plain[0] if defined and plain[0] > 0 else float("nan"),
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        difference=plain[1] - plain[0] if defined else float("nan"),
        difference_low=difference_low,
        difference_high=difference_high,
        n=n,
        seeds=seeds,
        seeds_resampled=seeds >= SEEDS_FOR_SPREAD,
    )


@lru_cache(maxsize=4)
def _image_weights(n: int) -> Counts:
    """How often each of n images is drawn, [n, RESAMPLES]."""
    generator = np.random.Generator(np.random.PCG64([n, 1]))
    drawn = generator.integers(0, n, size=(RESAMPLES, n))
    flat = (drawn + n * np.arange(RESAMPLES)[:, None]).ravel()
    counts = np.bincount(flat, minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    return np.ascontiguousarray(counts.T.astype(np.int16 if n < np.iinfo(np.int16).max else np.int32))


@lru_cache(maxsize=4)
def _seed_weights(seeds: int) -> Floats:
    """The share of each seed in every resample, [RESAMPLES, seeds]; equal where seeds are too few."""
    if seeds < SEEDS_FOR_SPREAD:
        return np.full((RESAMPLES, seeds), 1.0 / seeds)
    generator = np.random.Generator(np.random.PCG64([seeds, 2]))
    return generator.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=RESAMPLES) / seeds


def _mean_of_medians(arm: Sequence[Floats], weights: Counts, seed_weights: Floats) -> Floats:
    medians = np.stack([_weighted_medians(values, weights) for values in arm], axis=1)
    with np.errstate(invalid="ignore"):
        terms = np.where(seed_weights > 0, medians * seed_weights, 0.0)
    return np.asarray(terms.sum(axis=1), dtype=np.float64)


def _weighted_medians(values: Floats, weights: Counts) -> Floats:
    """Median of every resample: the middle value, or the mean of the two in the middle."""
    counted = np.flatnonzero(~np.isnan(values))
    if counted.size == 0:
        return np.full(RESAMPLES, np.nan)
    order = counted[np.argsort(values[counted], kind="stable")]
    ordered = np.append(values[order], np.nan)
    reached = np.cumsum(weights[order], axis=0, dtype=weights.dtype)
    total = reached[-1]
    lower = np.count_nonzero(reached < (total + 1) // 2, axis=0)
    upper = np.count_nonzero(reached <= total // 2, axis=0)
    lower[total == 0] = order.size
    return np.asarray((ordered[lower] + ordered[upper]) / 2, dtype=np.float64)


def _percentiles(draws: Floats) -> tuple[float, float]:
    if np.isnan(draws).any():
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return float(low), float(high)
