"""One line of a chart: means, seeds, intervals, unreliable points and gaps, drawn the same everywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from secateur.report.formatting import short
from secateur.report.intervals import Estimate
from secateur.report.theme import INK, PAPER, SOFT


@dataclass(frozen=True)
class Drawing:
    """A finished figure and its words; ``stem`` is a safe file name, unique in its report."""

    stem: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Mark:
    """A point of a line; ``estimate`` is None where a cell failed, and ``grade`` its letter.

    ``word`` says why a number that exists is not drawn: "collapsed", "too few images", "dense at chance",
    "unreliable", or "fell" (more than all is left, but accuracy fell). Its sign stands at the edge instead.
    """

    x: float
    estimate: Estimate | None
    grade: str = "A"
    word: str = ""

    def sign(self, ceiling: float) -> str:
        """The sign that stands at the edge in its place, or "" for a point on the axis up to ``ceiling``."""
        if self.word:
            return self.word
        if self.estimate is None or math.isnan(self.estimate.mean):
            return "X"
        if math.isinf(self.estimate.mean):
            return "inf"
        return "beyond" if self.estimate.mean > ceiling else ""


@dataclass(frozen=True)
class Style:
    """How the line of a model looks; ``offset`` keeps the signs of missing points apart, in axes widths."""

    colour: str
    robust: bool
    faint: bool = False
    offset: float = 0.0

    @property
    def dashes(self) -> str | tuple[float, tuple[float, ...]]:
        """Solid for robust models, dots for the others; thin dashes without fine-tuning."""
        if self.faint:
            return (0, (4, 2))
        return "-" if self.robust else (0, (1.2, 1.1))

    @property
    def marker(self) -> str:
        """Squares for robust models, discs for the others."""
        return "s" if self.robust else "o"


def draw_line(axes: Axes, marks: Sequence[Mark], style: Style, *, ceiling: float = math.inf) -> set[str]:
    """Draw the marks in order, broken wherever one has no place on the axis, which ends at ``ceiling``.

    Returns:
        Which signs the legend has to explain: "C", "X", "inf", "beyond", "seeds", "interval", or the
        words of marks.
    """
    placed = [mark for mark in marks if not mark.sign(ceiling)]
    used = set() if style.faint else _draw_spread(axes, placed, style)
    width, size, alpha = (0.8, 2.2, 0.65) if style.faint else (1.4, 3.6, 1.0)
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
    for mark in marks:
        if sign := mark.sign(ceiling):
            used.add(sign)
            _at_edge(axes, mark.x, sign, style)
    return used


def _height(mark: Mark, ceiling: float) -> float:
    return math.nan if mark.estimate is None or mark.sign(ceiling) else mark.estimate.mean


def _draw_spread(axes: Axes, marks: Sequence[Mark], style: Style) -> set[str]:
    """Intervals where there are any, single seeds where there are too few for one."""
    bars: list[tuple[float, float]] = []
    seeds: list[tuple[float, float]] = []
    for mark in marks:
        found = mark.estimate
        if found is None:
            continue
        if found.low is not None and found.high is not None and found.low < found.high:
            bars += [(mark.x, found.low), (mark.x, found.high), (mark.x, float("nan"))]
        elif len(set(found.values)) > 1:
            seeds += [(mark.x, value) for value in found.values]
    if bars:
        axes.plot(*zip(*bars, strict=True), color=style.colour, lw=0.9, alpha=0.7, zorder=3)
    if seeds:
        axes.plot(*zip(*seeds, strict=True), marker="_", ms=6.5, mew=0.8, ls="none", color=style.colour,
                  alpha=0.75, zorder=3)  # fmt: skip
    return ({"interval"} if bars else set()) | ({"seeds"} if seeds else set())


def _at_edge(axes: Axes, x: float, sign: str, style: Style) -> None:
    """A sign at the edge of the panel: the point has no place on the axis."""
    left, right = axes.get_xlim()
    look = {key: value for key, value in _SIGNS[sign][1].items() if key in ("marker", "ms", "mew", "mfc")}
    height = 0.97 if sign in ("inf", "beyond", "fell") else 0.025
    axes.plot([x + style.offset * (right - left)], [height], ls="none", color=style.colour, **look,
              transform=axes.get_xaxis_transform(), clip_on=False, zorder=5)  # fmt: skip


def dense_mark(axes: Axes, y: float, style: Style) -> None:
    """The dense control: a wide horizontal bar at sparsity 0."""
    if math.isfinite(y):
        axes.plot([0], [y], marker="_", ms=9, mew=2.0, ls="none", color=style.colour, zorder=5)


def sparsity_axis(axes: Axes, sparsities: Sequence[float], *, labelled: bool) -> None:
    """Ticks at the study's own sparsities, thinned out when they would collide."""
    extent = max(max(sparsities) - min(sparsities), 0.1)
    ticks = [sparsities[0]]
    for sparsity in sparsities[1:]:
        letters = len(f"{ticks[-1]:g}") + len(f"{sparsity:g}")
        if sparsity - ticks[-1] > (0.03 + 0.022 * letters) * extent:
            ticks.append(sparsity)
    axes.set_xlim(min(sparsities) - 0.07 * extent, max(sparsities) + 0.07 * extent)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelbottom=labelled)
    if labelled:
        axes.set_xlabel("sparsity")


def percent_axis(axis: Axis) -> None:
    """Write shares as percentages."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def count_axis(axes: Axes) -> None:
    """A logarithmic axis for counts of parameters and operations."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _hollow(marker: str, size: float = 4) -> dict[str, Any]:
    """How a grid point without a share is drawn: nothing filled, no line."""
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
    "collapsed": ("collapsed: near chance", _hollow("d")),
    "dense at chance": ("dense network near chance", _hollow("P")),
    "too few images": ("too few common images", _hollow("v")),
    "unreliable": ("not stated: grade C", _hollow("o", 3.6)),
    "fell": ("over 100 %, but accuracy fell", _hollow("^")),
    "inf": ("beyond reach: half not found", {"marker": "^", "ms": 4, "ls": "none", "color": SOFT}),
    "beyond": (
        "beyond the axis",
        {"marker": "2", "ms": 5, "mew": 0.9, "ls": "none", "color": SOFT},
    ),
}


def legend(figure: Figure, styles: dict[str, Style], used: set[str]) -> None:
    """Models on the first lines, then only the signs that the figure uses."""
    handles = [
        Line2D([], [], color=style.colour, lw=1.4, ls=style.dashes, marker=style.marker, ms=3.6,
               label=f"{name} ({'robust' if style.robust else 'non-robust'})")
        for name, style in styles.items()
    ]  # fmt: skip
    signs = [Line2D([], [], label=text, **look) for sign, (text, look) in _SIGNS.items() if sign in used]
    columns = 3 if len(handles) > 4 or max(map(len, styles), default=0) > 14 else 4
    # Two legends cannot both stand outside: blanks fill the models' last row instead. Columns fill downwards.
    rows = [handles[i : i + columns] for i in range(0, len(handles), columns)]
    rows += [signs[i : i + columns] for i in range(0, len(signs), columns)]
    blank = Line2D([], [], ls="none", label=" ")
    padded = [row + [blank] * (columns - len(row)) for row in rows]
    ordered = [row[i] for i in range(columns) for row in padded]
    figure.legend(
        handles=ordered, loc="outside lower center", ncols=columns, labelcolor=INK, handlelength=2.6,
        columnspacing=1.6,
    )  # fmt: skip
