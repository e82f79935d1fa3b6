"""The figure of measured latency: against sparsity, and against what the multiply-adds promise."""

from collections.abc import Callable

from matplotlib.axes import Axes

from secateur.report.aggregate import Grid, GridPoint
from secateur.report.axes import finish, panels_of, series, styles
from secateur.report.intervals import Estimate
from secateur.report.latency import Promise, promise, sentences
from secateur.report.plots import Drawing, Mark, draw_line, percent_axis, sparsity_axis
from secateur.report.theme import INK, SOFT, label


def draw_latency(grid: Grid, looks: str) -> Drawing | None:
    """Latency as a share of the dense network's; None where nothing was measured."""
    if grid.study.conditions is None or not any(network.latency for network in grid.study.networks):
        return None
    figure, panels = panels_of(grid, 2)
    used: set[str] = set()
    top = _top(grid)
    for row, criterion in zip(panels, grid.criteria or ("",), strict=True):
        last = row is panels[-1]
        row[0].axhline(1, color=INK, lw=0.6, zorder=1)
        row[1].plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=(0, (1, 1.5)), zorder=1)
        sparsity_axis(row[0], grid.sparsities, labelled=last)
        used |= _lines(grid, row[0], criterion, lambda p: p.sparsity, gaps=True)
        used |= _lines(grid, row[1], criterion, lambda p: p.macs, gaps=False)
        row[1].set_xlim(-0.03, 1.06)
        percent_axis(row[1].xaxis)
        row[1].tick_params(labelbottom=last)
        for axes in row:
            axes.set_ylim(0, top)
            percent_axis(axes.yaxis)
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    panels[0][0].set_title("measured latency, share of the dense network")
    panels[0][1].set_title("against the MACs (dotted: in proportion)")
    panels[-1][1].set_xlabel("MACs, share of the dense network")
    finish(figure, grid, used)
    told = " ".join(f"{model}: {sentence}" for model, sentence in sentences(grid))
    return Drawing(
        "latency",
        "Latency by a clock",
        "Time of one pass as a share of the dense network's, both measured in turns "
        f"({grid.study.conditions}); one row per criterion. On the dotted line a network would be faster "
        "by as much as it has fewer multiply-adds. At sparsity 0 the dense network against a copy of itself: "
        f"the noise of the clock. {looks}",
        f"Line charts of measured latency. {told}",
        figure,
    )


def _top(grid: Grid) -> float:
    """Where the axis of shares ends: medians fit on it, the quartiles of a busy machine need not."""
    shares = [network.latency.share.median for network in grid.study.networks if network.latency]
    return 1.18 * max([1.0, *shares])


def _lines(grid: Grid, axes: Axes, criterion: str, x: Callable[[Promise], float], *, gaps: bool) -> set[str]:
    """One line per model; ``gaps``: whether what was not measured has a place on this axis."""
    used: set[str] = set()
    for model, style in styles(grid).items():
        points: list[Promise] = []

        def mark(where: GridPoint, points: list[Promise] = points) -> Mark | None:
            found = promise(grid, where.model, where.criterion, where.sparsity)
            if found is None:
                planned = where in grid.networks or where in grid.holes
                return Mark(where.sparsity, None) if planned and gaps else None
            points.append(found)
            return Mark(x(found), Estimate((), found.latency.share))

        used |= draw_line(axes, series(grid, model, criterion, "none", mark), style)
        for point in points:
            ends = (point.latency.share_low, point.latency.share_high)
            axes.plot([x(point)] * 2, ends, color=style.colour, lw=0.9, alpha=0.55, zorder=3)
            used.add("quartiles")
    return used
