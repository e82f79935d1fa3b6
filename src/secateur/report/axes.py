"""Figures with a row of panels per criterion: their axes, and one line per model in each panel."""

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint, dense_of
from secateur.report.formatting import compact
from secateur.report.intervals import Estimate
from secateur.report.layout import PanelLayout
from secateur.report.pairing import COLLAPSED
from secateur.report.plots import UNTUNED, Mark, Style, draw_dense, draw_legend, draw_line
from secateur.report.robustness import models_of
from secateur.report.theme import LEGEND_ROW, PALETTE, PANEL_HEIGHT, WIDTH, label
from secateur.report.ticks import PanelAxes

MACS_LABEL = "MACs, share of the dense network"
GAPS = "Lines break where a cell has no result; nothing is interpolated."


def breaks(signs: set[str]) -> str:
    """Why lines break in a figure that uses these signs.

    >>> breaks({"interval"}) == GAPS
    True
    """
    lost = "They break at collapsed networks too, whose accuracy is near chance."
    return f"{GAPS} {lost}" if signs & {COLLAPSED, UNTUNED} else GAPS


def styles(grid: Grid, arm: str | None = None) -> dict[str, Style]:
    """A style per model that has ``arm`` (by default per model): colours by model, dashes by robustness."""
    models = _planned_models(grid)
    middle = (len(models) - 1) / 2
    shown = grid.models if arm is None else models_of(grid, arm)
    return {
        model: Style(PALETTE[i % len(PALETTE)], grid.robust.get(model, False), offset=0.012 * (i - middle))
        for i, model in enumerate(models)
        if model in shown
    }


@lru_cache(maxsize=32)
def _planned_models(grid: Grid) -> tuple[str, ...]:
    """All models: colours and offsets belong to one in every figure, also where others are left out."""
    return tuple(dict.fromkeys(axes.model for axes, _ in grid.study.planned))


def criterion_panels(grid: Grid, titles: Sequence[str]) -> tuple[Figure, list[tuple[str, list[Axes]]]]:
    """An empty figure, and its rows: a criterion with a panel per title. There is room for a legend below."""
    criteria = grid.criteria or ("",)
    # An estimate: the models in three columns, and two rows of signs.
    legend_rows = 2 + len(grid.models) / 3
    height = 0.35 + len(criteria) * PANEL_HEIGHT + legend_rows * LEGEND_ROW
    figure = Figure(figsize=(WIDTH, height), layout=PanelLayout())
    panels = figure.subplots(len(criteria), len(titles), squeeze=False, subplot_kw={"axes_class": PanelAxes})
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    for row, criterion in zip(panels, criteria, strict=True):
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    return figure, [(criterion, list(row)) for criterion, row in zip(criteria, panels, strict=True)]


def add_legend(figure: Figure, grid: Grid, signs: set[str], arm: str | None = None) -> None:
    """Add the legend: every model that has ``arm``, and the ``signs`` that the figure uses."""
    draw_legend(figure, {label(model): style for model, style in styles(grid, arm).items()}, signs)


def draw_models(
    grid: Grid,
    axes: Axes,
    criterion: str,
    arm: str,
    mark: Callable[[GridPoint], Mark | None],
    *,
    ceiling: float = math.inf,
) -> set[str]:
    """Draw a line per model, fine-tuned and (fainter) not, and the dense network; returns the signs used."""
    used: set[str] = set()
    for model, style in styles(grid, arm).items():
        if arm != "none":
            faint = replace(style, faint=True, tuned=False)
            marks = model_marks(grid, model, criterion, "none", mark)
            used |= draw_line(axes, marks, faint, ceiling=ceiling)
            used |= {"untuned"} if len(marks) > 1 else set()
            if marks and marks[0].x == 0 and marks[0].estimate is not None:
                draw_dense(axes, marks[0].estimate.mean, style)
                used.add("dense")
        own = replace(style, tuned=arm != "none")
        used |= draw_line(axes, model_marks(grid, model, criterion, arm, mark), own, ceiling=ceiling)
    return used


def model_marks(
    grid: Grid, model: str, criterion: str, arm: str, mark: Callable[[GridPoint], Mark | None]
) -> list[Mark]:
    """The marks of one model in order of sparsity; grid points outside the study are left out."""
    grid_points = [GridPoint(model, criterion if s > 0 else "", s, arm) for s in grid.sparsities]
    return [found for where in grid_points if (found := mark(where)) is not None]


def gap(grid: Grid, where: GridPoint) -> Mark | None:
    """The mark of a grid point without a value: a gap if it was planned, otherwise None."""
    return Mark(where.sparsity, None) if where in grid.holes else None


def draw_against_macs(
    grid: Grid, axes: Axes, criterion: str, arm: str, mark: Callable[[NetworkPoint], Mark | None]
) -> None:
    """Draw a line per model against the share of the multiply-adds (logarithmic); ``mark`` sets all but x."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    percent_axis(axes.xaxis)
    label_below(axes, MACS_LABEL)
    for model, style in styles(grid, arm).items():
        dense = grid.networks.get(dense_of(GridPoint(model, "", 0.0, arm)))
        if dense is None:
            continue

        def at_macs(where: GridPoint, dense: NetworkPoint = dense) -> Mark | None:
            point = grid.networks.get(where)
            # A cell without a result has no MACs, so its gap is a nan between its neighbours.
            if point is None:
                return Mark(math.nan, Estimate((), math.nan)) if where in grid.holes else None
            found = mark(point)
            return replace(found, x=point.macs.mean / dense.macs.mean) if found and dense.macs.mean else None

        own = replace(style, tuned=arm != "none")
        draw_line(axes, model_marks(grid, model, criterion, arm, at_macs), own)


def sparsity_axis(axes: Axes, sparsities: Sequence[float]) -> None:
    """Ticks at the study's own sparsities, without those that would collide."""
    span = max(max(sparsities) - min(sparsities), 0.1)
    ticks = [sparsities[0]]
    for sparsity in sparsities[1:]:
        # A label is centred on its tick, so its width, about 0.022 per letter, decides.
        letters = len(f"{ticks[-1]:g}") + len(f"{sparsity:g}")
        if sparsity - ticks[-1] > (0.03 + 0.022 * letters) * span:
            ticks.append(sparsity)
    axes.set_xlim(min(sparsities) - 0.07 * span, max(sparsities) + 0.07 * span)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    label_below(axes, "sparsity")


def label_below(axes: Axes, text: str) -> None:
    """Label the x axis, and its ticks, in the last row of panels only."""
    # Axes that a test made by hand belong to no grid of panels.
    spec = axes.get_subplotspec()
    last = spec is None or spec.is_last_row()
    axes.tick_params(labelbottom=last)
    if last:
        axes.set_xlabel(text)


def same_range(panels: Sequence[Axes]) -> None:
    """Give the axes of all panels the same ranges, so that rows can be compared."""
    wide, high = (
        [limits() for limits in each] for each in ([a.get_xlim for a in panels], [a.get_ylim for a in panels])
    )
    for axes in panels:
        axes.set_xlim(min(low for low, _ in wide), max(end for _, end in wide))
        axes.set_ylim(min(low for low, _ in high), max(end for _, end in high))


def percent_axis(axis: Axis) -> None:
    """Write shares as percentages."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def count_axis(axes: Axes) -> None:
    """A logarithmic axis for counts of parameters and operations."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def first_to_last(
    grid: Grid,
    arm: str,
    text: Callable[[GridPoint], str | None],
    known: Container[GridPoint],
    attack: str = "",
) -> str:
    """A value at the first and the last sparsity, per model, for readers who cannot see the figure.

    ``text`` writes the value of a grid point that is ``known``.
    """
    criterion = grid.criteria[0] if grid.criteria else ""

    def value(model: str, sparsity: float) -> str:
        where = GridPoint(model, criterion if sparsity > 0 else "", sparsity, arm, attack)
        return (text(where) if where in known else None) or "no result"

    first, last = grid.sparsities[0], grid.sparsities[-1]
    return "; ".join(
        f"{model} from {value(model, first)} at sparsity {first:g} to {value(model, last)} at {last:g}"
        for model in models_of(grid, arm)
    )
