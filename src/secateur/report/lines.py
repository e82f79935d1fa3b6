"""A grid of panels with one row per criterion, and in each panel one line per model with its controls."""

import math
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secateur.report.aggregate import Grid, Place
from secateur.report.panels import Mark, Style, dense_mark, draw_line, legend
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
    mark: Callable[[Place], Mark | None],
    *,
    ceiling: float = math.inf,
) -> set[str]:
    """One line per model: fine-tuned and, fainter, not fine-tuned; the dense control at sparsity 0."""
    used: set[str] = set()
    for model, style in styles(grid).items():
        if arm != "none":
            faint = Style(style.colour, style.robust, faint=True, offset=style.offset)
            marks = series(grid, model, criterion, "none", mark)
            used |= draw_line(axes, marks, faint, ceiling=ceiling) & {"inf", "chance", "beyond"}
            used |= {"untuned"} if len(marks) > 1 else set()
            if marks and marks[0].x == 0 and marks[0].estimate is not None:
                dense_mark(axes, marks[0].estimate.mean, style)
                used.add("dense")
        used |= draw_line(axes, series(grid, model, criterion, arm, mark), style, ceiling=ceiling)
    return used


def series(
    grid: Grid, model: str, criterion: str, arm: str, mark: Callable[[Place], Mark | None]
) -> list[Mark]:
    """The marks of one line in order of sparsity; places outside the study are left out."""
    places = [Place(model, criterion if s > 0 else "", s, arm) for s in grid.sparsities]
    return [found for place in places if (found := mark(place)) is not None]
