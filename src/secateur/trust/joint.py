"""The minimum over an attack and its rivals, image by image."""

import math
from dataclasses import dataclass, field
from typing import Any

from secateur.budgets import HEADLINE, scaled, written
from secateur.stats import median, wilson
from secateur.text import listed


@dataclass(frozen=True)
class Joint:
    """Distances of an attack and of its rivals on a sample of n attacked images.

    ``own`` [n] and ``best`` [n] are the attack's distances and the least ones of all, in the norm ``norm``
    (``"l2"``), inf where nothing was found; of an attack of fixed size, ``eps``, 0 where found. ``index`` [n]
    numbers the images in the data set, ``attacked`` is the share of the data set that was attacked.
    ``rivals`` are the other attacks, ``failed`` maps those that could not run to the error.
    """

    attack: str
    rivals: tuple[str, ...]
    norm: str
    index: list[int]
    own: list[float]
    best: list[float]
    attacked: float
    targeted: bool
    bounds: tuple[float, float]
    levels: int | None
    eps: float | None = None
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """The fraction by which the joint median is below the attack's own."""
        own, best = median(self.own), median(self.best)
        return 0.0 if own == best or own == 0 else 1 - best / own

    def to_json(self) -> dict[str, Any]:
        """The minimum as plain data: medians, robust accuracy at the usual budgets, distances per image.

        Robust accuracy counts images that are wrong from the start as not robust. It is the share of the
        sample times the share of images that were attacked; ``low`` and ``high`` are the interval of the
        former. Of a targeted attack it is called ``target_not_reached``. Infinite distances are null.
        """
        fixed, n = self.eps is not None, len(self.best)
        if self.eps is None:
            eps = list(scaled(HEADLINE[self.norm], self.norm, self.bounds))
            left, own = ([sum(x > size for x in column) for size in eps] for column in (self.best, self.own))
        else:
            # Examples lie at eps but for rounding errors, so only found or not found is compared.
            eps = [self.eps]
            left, own = ([sum(map(math.isinf, column))] for column in (self.best, self.own))
        between = [wilson(k, n) for k in left]
        return {
            "attacks": [self.attack, *self.rivals],
            "could_not_run": self.failed,
            "norm": self.norm,
            "n": n,
            "index": self.index,
            "distances": None if fixed else [_finite(value) for value in self.best],
            "median": None if fixed else _finite(median(self.best)),
            "median_of_attack": None if fixed else _finite(median(self.own)),
            "eps": eps,
            "written": [written(x, self.norm, levels=self.levels, bounds=self.bounds) for x in eps],
            "target_not_reached" if self.targeted else "robust_accuracy": self._of_all(left),
            "of_attack": self._of_all(own),
            "low": [self.attacked * low for low, _ in between],
            "high": [self.attacked * high for _, high in between],
        }

    def _of_all(self, counts: list[int]) -> list[float]:
        return [self.attacked * k / max(1, len(self.best)) for k in counts]


def joint_summary(joint: Joint | None) -> dict[str, Any] | None:
    """As ``Joint.to_json`` without the values per image; None without an audit.

    >>> joint = Joint("ddn", ("fmn",), "l2", [0, 1], [0.5, 2.0], [0.25, 2.0], 1.0, False, (0.0, 1.0), None)
    >>> joint_summary(joint)["median"], joint_summary(joint)["median_of_attack"]
    (1.125, 1.25)
    """
    if joint is None:
        return None
    return {key: value for key, value in joint.to_json().items() if key not in ("index", "distances")}


def joint_lines(summary: dict[str, Any] | None) -> list[str]:
    """A ``joint_summary`` in lines for people; none without an audit.

    >>> joint = Joint("ddn", ("fmn",), "l2", [0, 1], [0.5, 2.0], [0.25, 2.0], 1.0, False, (0.0, 1.0), None)
    >>> joint_lines(joint_summary(joint))[0]
    'minimum over ddn and fmn on 2 attacked images:'
    """
    if summary is None:
        return []
    lines = [f"minimum over {listed(summary['attacks'])} on {summary['n']} attacked images:"]
    own, best, alone = summary["attacks"][0], summary["median"], summary["median_of_attack"]
    if summary["could_not_run"]:
        lines.append(f"  could not run: {listed(list(summary['could_not_run']))}")
    if (best, alone) != (None, None):
        lines.append(f"  median {_number(best)} ({own} alone {_number(alone)})")
    key = "target_not_reached" if "target_not_reached" in summary else "robust_accuracy"
    columns = (summary[name] for name in ("written", key, "low", "high", "of_attack"))
    for eps, share, low, high, single in zip(*columns, strict=True):
        lines.append(
            f"  {key.replace('_', ' ')} at ε = {eps}: {share:.1%} [{low:.1%}, {high:.1%}] "
            f"({own} alone {single:.1%})"
        )
    return lines


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> str:
    return "not found" if value is None else f"{value:.4g}"
