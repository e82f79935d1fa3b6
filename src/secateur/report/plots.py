"""One line of a chart: means, seeds, intervals, unreliable points and gaps; and the legend of its signs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from secateur.report.intervals import Estimate
from secateur.report.pairing import COLLAPSED
from secateur.report.theme import INK, PAPER, SOFT

UNTUNED = "collapsed untuned"
"""The sign of a collapsed network that was not fine-tuned."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure with its title, caption and alternative text; ``stem`` is a safe file name."""

    stem: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Mark:
    """A point of a line; ``estimate`` is None where a cell has no result, ``grade`` is A, B or C.

    ``word`` is the reason why an existing number is not drawn: "collapsed", "too few images", "dense at
    chance", "unreliable", or "fell" (a share above 100 %, but accuracy fell). A sign at the edge marks it.
    """

    x: float
    estimate: Estimate | None
    grade: str = "A"
    word: str = ""

    def sign(self, ceiling: float) -> str:
        """The sign at the edge of the panel, or "" for a point that is on the axis (up to ``ceiling``)."""
        if self.word:
            return self.word
        if self.estimate is None or math.isnan(self.estimate.mean):
            return "X"
        if math.isinf(self.estimate.mean):
            return "inf"
        return "beyond" if self.estimate.mean > ceiling else ""


@dataclass(frozen=True)
class Style:
    """The look of a model's line; ``offset`` (in panel widths) separates the signs of missing points.

    ``tuned`` says whether its pruned networks are fine-tuned: the sign of a collapsed one tells it.
    """

    colour: str
    robust: bool
    faint: bool = False
    offset: float = 0.0
    tuned: bool = True

    @property
    def dashes(self) -> str | tuple[float, tuple[float, ...]]:
        """Solid for robust models, dotted for the others; thin dashes without fine-tuning."""
        if self.faint:
            return (0, (4, 2))
        return "-" if self.robust else (0, (1.2, 1.1))

    @property
    def marker(self) -> str:
        """Squares for robust models, discs for the others."""
        return "s" if self.robust else "o"


def draw_line(axes: Axes, marks: Sequence[Mark], style: Style, *, ceiling: float = math.inf) -> set[str]:
    """Draw the marks in order; the line breaks at marks that are not on the axis, which ends at ``ceiling``.

    Returns:
        The signs that the legend has to explain: "C", "X", "inf", "beyond", "seeds", "interval", or the
        words of marks.
    """
    on_axis = [mark for mark in marks if not mark.sign(ceiling)]
    used = set() if style.faint else _draw_spread(axes, on_axis, style)
    width, size, alpha = (0.8, 2.2, 0.65) if style.faint else (1.4, 3.6, 1.0)
    # A nan interrupts the line: nothing is interpolated over a missing result.
    ys = [_height(mark, ceiling) for mark in marks]
    axes.plot([m.x for m in marks], ys, color=style.colour, lw=width, ls=style.dashes, alpha=alpha, zorder=2)
    shown = [(mark, y) for mark, y in zip(marks, ys, strict=True) if not math.isnan(y)]
    for face, drawn in (
        (style.colour, [(mark.x, y) for mark, y in shown if mark.grade != "C"]),
        (PAPER, [(mark.x, y) for mark, y in shown if mark.grade == "C"]),
    ):
        if drawn:
            used |= {"C"} if face == PAPER else set()
            axes.plot(*zip(*drawn, strict=True), marker=style.marker, ms=size, mec=style.colour, mfc=face,
                      mew=0.9, ls="none", alpha=alpha, zorder=4)  # fmt: skip
    return used | _draw_edge(axes, marks, style, ceiling)


def _height(mark: Mark, ceiling: float) -> float:
    return math.nan if mark.estimate is None or mark.sign(ceiling) else mark.estimate.mean


def _draw_spread(axes: Axes, marks: Sequence[Mark], style: Style) -> set[str]:
    """Draw intervals, or single seeds where there are too few for an interval."""
    bars: list[tuple[float, float]] = []
    seeds: list[tuple[float, float]] = []
    for mark in marks:
        found = mark.estimate
        if found is None:
            continue
        if found.low is not None and found.high == math.inf:
            # Up to the edge of the panel and beyond it; an artist of its own does not stretch the axis.
            ends = [found.low, 1e6 * max(found.low, 1e-6)]
            axes.add_artist(Line2D([mark.x] * 2, ends, color=style.colour, lw=0.9, alpha=0.7, zorder=3))
        elif found.low is not None and found.high is not None and found.low < found.high:
            # All bars are one artist, separated by nan: drawing is faster and files are smaller.
            bars += [(mark.x, found.low), (mark.x, found.high), (mark.x, float("nan"))]
        elif len(set(found.values)) > 1:
            seeds += [(mark.x, value) for value in found.values]
    if bars:
        axes.plot(*zip(*bars, strict=True), color=style.colour, lw=0.9, alpha=0.7, zorder=3)
    if seeds:
        axes.plot(*zip(*seeds, strict=True), marker="_", ms=6.5, mew=0.8, ls="none", color=style.colour,
                  alpha=0.75, zorder=3)  # fmt: skip
    return ({"interval"} if bars else set()) | ({"seeds"} if seeds else set())


def _draw_edge(axes: Axes, marks: Sequence[Mark], style: Style, ceiling: float) -> set[str]:
    """Draw a sign at the edge of the panel for every point that is not on the axis; the signs used."""
    signs: dict[str, list[float]] = {}
    for mark in marks:
        if sign := mark.sign(ceiling):
            sign = UNTUNED if sign == COLLAPSED and not style.tuned else sign
            signs.setdefault(sign, []).append(mark.x)
            if axes.get_autoscalex_on():
                # Each sign widens such an axis, and so moves the next one.
                xs, ys, look = _at_edge(axes, [mark.x], sign, style)
                axes.plot(xs, ys, **look)
    if not axes.get_autoscalex_on():
        for sign, places in signs.items():
            # One artist for all of them, which does not ask for the limits of the axis again.
            xs, ys, look = _at_edge(axes, places, sign, style)
            axes.add_artist(Line2D(xs, ys, **look))
    return set(signs)


def _at_edge(
    axes: Axes, places: Sequence[float], sign: str, style: Style
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Where the signs of points stand that are not on the axis, and their look."""
    # Signs of several models at one sparsity would hide each other, hence the offset: a share of the axis as
    # it is drawn, because a share of a logarithmic one would lead below zero.
    scale = axes.xaxis.get_transform()
    left, right, *drawn = scale.transform([*axes.get_xlim(), *places])
    xs = scale.inverted().transform([x + style.offset * (right - left) for x in drawn]).tolist()
    look = {key: value for key, value in _SIGNS[sign][1].items() if key in ("marker", "ms", "mew", "mfc")}
    # Above the sign of the fine-tuned network, which may have collapsed at the same place.
    height = 0.97 if sign in ("inf", "beyond", "fell") else 0.085 if sign == UNTUNED else 0.025
    look |= {"ls": "none", "color": style.colour, "clip_on": False, "zorder": 5}
    return xs, [height] * len(xs), {**look, "transform": axes.get_xaxis_transform()}


def draw_dense(axes: Axes, y: float, style: Style) -> None:
    """Draw the dense control, not fine-tuned: a wide horizontal bar at sparsity 0."""
    if math.isfinite(y):
        axes.plot([0], [y], marker="_", ms=9, mew=2.0, ls="none", color=style.colour, zorder=5)


def _hollow(marker: str, size: float = 4) -> dict[str, Any]:
    """The look of a point without a share: an empty marker, no line."""
    return {"marker": marker, "ms": size, "mew": 0.9, "mfc": PAPER, "ls": "none", "color": SOFT}


_SIGNS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense, not fine-tuned", {"marker": "_", "ms": 9, "mew": 2.0, "ls": "none", "color": SOFT}),
    "untuned": ("pruned, not fine-tuned", {"ls": (0, (4, 2)), "lw": 0.8, "color": SOFT}),
    "seeds": ("single seeds", {"marker": "_", "ms": 6.5, "mew": 0.8, "ls": "none", "color": SOFT}),
    "interval": ("95 % interval", {"marker": "|", "ms": 7, "mew": 0.9, "ls": "none", "color": SOFT}),
    "quartiles": (
        "quartiles of the turns",
        {"marker": "|", "ms": 7, "mew": 0.9, "ls": "none", "color": SOFT},
    ),
    "C": (
        "grade C: unreliable",
        {"marker": "o", "ms": 3.8, "mfc": PAPER, "mec": SOFT, "mew": 0.9, "ls": "none"},
    ),
    "X": ("no result", {"marker": "x", "ms": 4, "mew": 1.1, "ls": "none", "color": SOFT}),
    COLLAPSED: ("collapsed though fine-tuned", _hollow("d")),
    UNTUNED: ("collapsed, not fine-tuned", _hollow("D", 3)),
    "dense at chance": ("dense network near chance", _hollow("P")),
    "too few images": ("too few common images", _hollow("v")),
    "unreliable": ("not stated: grade C", _hollow("o", 3.6)),
    "fell": ("over 100 %, but accuracy fell", _hollow("^")),
    "inf": ("infinite: half not found", {"marker": "^", "ms": 4, "ls": "none", "color": SOFT}),
    "beyond": ("beyond the axis", {"marker": "2", "ms": 5, "mew": 0.9, "ls": "none", "color": SOFT}),
}


def draw_legend(figure: Figure, styles: dict[str, Style], used: set[str]) -> None:
    """Add the legend: models on the first lines, then the signs in ``used``."""
    handles = [
        Line2D([], [], color=style.colour, lw=1.4, ls=style.dashes, marker=style.marker, ms=3.6,
               label=f"{name} ({'robust' if style.robust else 'non-robust'})")
        for name, style in styles.items()
    ]  # fmt: skip
    signs = [Line2D([], [], label=text, **look) for sign, (text, look) in _SIGNS.items() if sign in used]
    columns = 3 if len(handles) > 4 or max(map(len, styles), default=0) > 14 else 4
    # Only one legend can be outside the panels. Entries fill columns downwards, so blanks complete each row.
    rows = [handles[i : i + columns] for i in range(0, len(handles), columns)]
    rows += [signs[i : i + columns] for i in range(0, len(signs), columns)]
    blank = Line2D([], [], ls="none", label=" ")
    padded = [row + [blank] * (columns - len(row)) for row in rows]
    ordered = [row[i] for i in range(columns) for row in padded]
    figure.legend(
        handles=ordered, loc="outside lower center", ncols=columns, labelcolor=INK, handlelength=2.6,
        columnspacing=1.6,
    )  # fmt: skip
