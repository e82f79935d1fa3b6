"""The lines of a check: one quantity of two networks on the same images, with the interval of its change."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from secateur.budgets import written
from secateur.report.formatting import NORM_LABELS, PERCENT, compact, number, percent, percent_range
from secateur.report.intervals import left
from secateur.report.pairing import COLLAPSED, TOO_FEW, UNRELIABLE
from secateur.stats import ENOUGH_IMAGES, SAME_RATIO, SAME_SHARE, Effect, Floats, share_effect

Kind = Literal["share", "distance", "count", "seconds", "bytes"]


@dataclass(frozen=True)
class Line:
    """One quantity of the dense and of the pruned network.

    Attributes:
        key: its name in JSON, such as ``robust linf 0.0314``.
        label: its name for people.
        kind: what the numbers are.
        dense: of the dense network; None where there is none.
        pruned: of the pruned network.
        change: pruned - dense for shares, pruned / dense for everything else.
        low, high: the 95 % interval of the change over images; None where there is none.
        n: images behind it.
        finding: ``better``, ``worse``, ``same`` (equivalent within a margin), ``undecided``, or why nothing
            can be said; empty for what is no matter of chance.
        detectable: the smallest change that these images would show with probability 0.8.

    >>> Line("parameters", "parameters", "count", 200, 100, change=0.5).cells()
    ('parameters', '200', '100', '50 %')
    """

    key: str
    label: str
    kind: Kind
    dense: float | None
    pruned: float | None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    finding: str = ""
    detectable: float | None = None

    @property
    def name(self) -> str:
        """The label without what follows its comma, such as the number of images."""
        return self.label.partition(",")[0]

    def cells(self) -> tuple[str, str, str, str]:
        """Label, dense, pruned and change as text."""
        before, after = (_shown(value, self.kind) for value in (self.dense, self.pruned))
        return self.label, before, after, self._change().replace(PERCENT, " %")

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite number is null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def _change(self) -> str:
        if self.change is None:
            return self.finding
        if self.kind == "share":
            span = f" ({points(self.low)} to {points(self.high)})" if self.low is not None else ""
            text = f"{points(self.change)} points{span}"
        else:
            inside = self.low is not None and self.high is not None
            span = f" ({percent_range(self.low or 0.0, self.high or 0.0)})" if inside else ""
            # The median of the ratios per image is not the ratio of the medians beside it.
            text = f"{percent(self.change)}{' per image' if self.kind == 'distance' else ''}{span}"
        return f"{text}, {self.finding}" if self.finding else text


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign.

    >>> points(-0.0125)
    '−1.2'
    """
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def share_line(key: str, label: str, before: Floats, after: Floats) -> Line:
    """A share of images, from 0 or 1 per image [n] for both networks."""
    effect = share_effect(after - before)
    low, high = effect.interval()
    return Line(
        key,
        f"{label}, {len(before)} images",
        "share",
        float(before.mean()),
        float(after.mean()),
        change=float((after - before).mean()),
        low=low,
        high=high,
        n=len(before),
        finding=finding_of(effect, SAME_SHARE),
        detectable=effect.smallest_detectable(),
    )


def finding_of(effect: Effect, margin: float) -> str:
    """What an effect shows: better, worse, the same within ``margin``, or nothing.

    >>> finding_of(Effect(-0.1, 0.01, math.inf), 0.05), finding_of(Effect(0.0, 0.1, math.inf), 0.05)
    ('worse', 'undecided')
    """
    low, high = effect.interval()
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "same" if effect.equivalent(margin) else "undecided"


def right(record: Mapping[str, Any]) -> Floats:
    """1 for every image of an attack's record that the network classifies correctly, else 0."""
    return np.asarray(np.array(record["outcome"]) != "already_wrong", dtype=np.float64)


def robust(record: Mapping[str, Any], eps: float) -> Floats:
    """1 for every image of an attack's record that withstands ``eps``, else 0; wrong images never do."""
    return np.asarray(np.nan_to_num(_distances(record), nan=0.0) > eps, dtype=np.float64)


def robust_line(before: Mapping[str, Any], after: Mapping[str, Any], eps: float) -> Line:
    """Robust accuracy at a budget, from the records of one attack on both networks."""
    return share_line(*robust_names(before, eps), robust(before, eps), robust(after, eps))


def robust_names(record: Mapping[str, Any], eps: float) -> tuple[str, str]:
    """Key and label of the robust accuracy at a budget, in the units of an attack's record."""
    norm = record["norm"]
    size = written(eps, norm, levels=record["levels"], bounds=tuple(record["bounds"]))
    return f"robust {norm} {eps:.4g}", f"robust accuracy at {NORM_LABELS[norm]} {size}"


def distance_line(before: Mapping[str, Any], after: Mapping[str, Any], *, collapsed: bool) -> Line:
    """The median distance on the images that both networks classify correctly.

    No share is stated for a ``collapsed`` network, for few common images, or for an attack that failed its
    checks.
    """
    norm, pair = before["norm"], (_distances(before), _distances(after))
    key, label = f"distance {norm}", f"median {NORM_LABELS[norm]} distance"
    common = ~(np.isnan(pair[0]) | np.isnan(pair[1]))
    n = int(common.sum())
    if not n:
        return Line(key, label, "distance", None, None, n=0, finding=TOO_FEW)
    found = left([pair[0][common]], [pair[1][common]])
    unreliable = {before["grade"], after["grade"]} & {"C", "X"}
    state = COLLAPSED if collapsed else TOO_FEW if n < ENOUGH_IMAGES else UNRELIABLE if unreliable else ""
    line = Line(key, f"{label}, {n} common images", "distance", found.before, found.after, n=n, finding=state)
    if state or not math.isfinite(found.ratio):
        return line if state else replace(line, finding="no ratio")
    effect, (low, high) = found.images, found.over_images or (None, None)
    line = replace(line, change=found.ratio, low=low, high=high, finding="undecided")
    if effect is None:
        return line
    sure = finding_of(effect, math.log(SAME_RATIO))
    return replace(line, finding=sure, detectable=math.exp(effect.smallest_detectable()))


def cost_line(key: str, label: str, kind: Kind, dense: float, pruned: float) -> Line:
    """A count, a time or a size of memory; its change is a ratio."""
    return Line(key, label, kind, dense, pruned, change=pruned / dense if dense else None)


def _distances(record: Mapping[str, Any]) -> Floats:
    """Distances [n] in the attack's norm: inf where nothing was found, nan where the network is wrong."""
    raw = record["distances"][record["norm"]]
    values = np.array([math.inf if value is None else value for value in raw], dtype=np.float64)
    values[np.array(record["outcome"]) == "not_found"] = math.inf
    values[np.array(record["outcome"]) == "already_wrong"] = math.nan
    return values


def _shown(value: float | None, kind: Kind) -> str:
    if value is None:
        return "–"
    if kind == "share":
        return f"{100 * value:.1f} %"
    if kind == "count":
        return compact(value)
    if kind == "bytes":
        return f"{number(value / 1e6)} MB"
    return f"{number(1e3 * value)} ms" if kind == "seconds" else number(value)
