"""A grid of panels with one row per criterion, and in each panel one line per model with its controls."""

import math
from collections.abc import Callable
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint, dense_of
from secateur.report.intervals import Estimate
from secateur.report.plots import Mark, Style, dense_mark, draw_line, legend, percent_axis
from secateur.report.theme import LEGEND_ROW, PALETTE, PANEL_HEIGHT, WIDTH, label


def styles(grid: Grid) -> dict[str, Style]:
    """One colour per model; the line tells robust from non-robust."""
    middle = (len(grid.models) - 1) / 2
    return {
        model: Style(PALETTE[i % len(PALETTE)], grid.robust.get(model, False), offset=0.012 * (i - middle))
        for i, model in enumerate(grid.models)
    }


def panels_of(grid: Grid, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure with a row per criterion, and room for its legend."""
    rows = max(len(grid.criteria), 1)
    legend_rows = 2 + len(grid.models) / 3
    figure = Figure(figsize=(WIDTH, 0.35 + rows * PANEL_HEIGHT + legend_rows * LEGEND_ROW))
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def finish(figure: Figure, grid: Grid, used: set[str]) -> None:
    """Add the legend: every model, and the signs in ``used``."""
    legend(figure, {label(model): style for model, style in styles(grid).items()}, used)


def lines(
    grid: Grid,
    axes: Axes,
    criterion: str,
    arm: str,
    mark: Callable[[GridPoint], Mark | None],
    *,
    ceiling: float = math.inf,
) -> set[str]:
    """One line per model: fine-tuned and, fainter, not fine-tuned; the dense control at sparsity 0."""
    used: set[str] = set()
    for model, style in styles(grid).items():
        if arm != "none":
            faint = Style(style.colour, style.robust, faint=True, offset=style.offset)
            marks = series(grid, model, criterion, "none", mark)
            used |= draw_line(axes, marks, faint, ceiling=ceiling)
            used |= {"untuned"} if len(marks) > 1 else set()
            if marks and marks[0].x == 0 and marks[0].estimate is not None:
                dense_mark(axes, marks[0].estimate.mean, style)
                used.add("dense")
        used |= draw_line(axes, series(grid, model, criterion, arm, mark), style, ceiling=ceiling)
    return used


def series(
    grid: Grid, model: str, criterion: str, arm: str, mark: Callable[[GridPoint], Mark | None]
) -> list[Mark]:
    """The marks of one line in order of sparsity; grid points outside the study are left out."""
    grid_points = [GridPoint(model, criterion if s > 0 else "", s, arm) for s in grid.sparsities]
    return [found for where in grid_points if (found := mark(where)) is not None]


def against_macs(
    grid: Grid, axes: Axes, criterion: str, arm: str, mark: Callable[[NetworkPoint], Mark | None]
) -> None:
    """One line per model, against the multiply-adds that are left (logarithmic); ``mark`` sets all but x."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    percent_axis(axes.xaxis)
    for model, style in styles(grid).items():
        dense = grid.networks.get(dense_of(GridPoint(model, "", 0.0, arm)))
        if dense is None:
            continue

        def at_macs(where: GridPoint, dense: NetworkPoint = dense) -> Mark | None:
            point = grid.networks.get(where)
            # A cell without a result has no MACs, so its gap shows as nan between its neighbours.
            if point is None:
                return Mark(math.nan, Estimate((), math.nan)) if where in grid.holes else None
            found = mark(point)
            return replace(found, x=point.macs.mean / dense.macs.mean) if found else None

        draw_line(axes, series(grid, model, criterion, arm, at_macs), style)
