"""Shares of images with their 95 % Wilson intervals: as bars on points, or as a band around a curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from secateur.stats import Floats, wilson


def bounds(shares: Floats, n: Sequence[int]) -> Floats:
    """Low and high ends [K, 2] of shares [K] of ``n`` [K] images.

    >>> bounds(np.array([0.5]), [100]).round(3).tolist()
    [[0.404, 0.596]]
    """
    ends = [wilson(round(share * images), images) for share, images in zip(shares, n, strict=True)]
    return np.array(ends, dtype=np.float64).reshape(-1, 2)


def draw_bars(axes: Axes, x: Floats, shares: Floats, n: Sequence[int], *, colour: str, **look: Any) -> None:
    """A bar at every share; ``look`` is that of the points."""
    ends = bounds(shares, n)
    axes.errorbar(x, shares, yerr=np.abs(ends.T - shares), lw=1, capsize=2, color=colour, **look)


def draw_band(axes: Axes, x: Floats, shares: Floats, n: int, *, colour: str, dash: str, label: str) -> None:
    """A curve of shares of the same ``n`` images, and its band."""
    ends = bounds(shares, [n] * len(shares))
    axes.plot(x, shares, color=colour, ls=dash, lw=1.4, label=label)
    axes.fill_between(x, ends[:, 0], ends[:, 1], color=colour, alpha=0.15, lw=0)
