"""The figure that leads: accuracy and robust accuracy, against sparsity and multiply-adds."""

from collections.abc import Callable

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint
from secateur.report.axes import against_macs, finish, lines, panels_of
from secateur.report.formatting import arm_label, percent, slug
from secateur.report.headline import (
    Share,
    clean_share,
    leading,
    meaning,
    points_of,
    quantity,
    robust_share,
    short_label,
)
from secateur.report.intervals import Estimate
from secateur.report.plots import Drawing, Mark, percent_axis, sparsity_axis
from secateur.report.theme import label


def draw_robust(grid: Grid, attack: str, arm: str, looks: str) -> Drawing | None:
    """Accuracy and robust accuracy of one attack and arm; None without a result."""
    budget, points = leading(grid, attack), points_of(grid, attack)
    if budget is None:
        return None
    figure, panels = panels_of(grid, 3)
    used: set[str] = set()
    clean, robust = _share_mark(grid, attack, robust=False), _share_mark(grid, attack, robust=True)
    for row, criterion in zip(panels, grid.criteria or ("",), strict=True):
        last = row is panels[-1]
        for axes, mark in zip(row, (clean, robust), strict=False):
            sparsity_axis(axes, grid.sparsities, labelled=last)
            used |= lines(grid, axes, criterion, arm, mark)
        against_macs(grid, row[2], criterion, arm, _of_network(grid, attack))
        row[2].tick_params(labelbottom=last)
        for axes in row:
            axes.set_ylim(-0.02, 1.02)
            percent_axis(axes.yaxis)
            axes.tick_params(labelleft=axes is row[0])
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    what, name = quantity(grid, attack), short_label(grid, attack)
    panels[0][0].set_title("accuracy")
    panels[0][1].set_title(f"{what}, {budget.label}")
    panels[0][2].set_title("the same against MACs")
    panels[-1][2].set_xlabel("MACs, share of the dense network")
    finish(figure, grid, used)
    n = min(attack.n for point in points for attack in point.attacks)
    return Drawing(
        f"robust-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: accuracy and {what}, {arm_label(arm)}",
        f"Left: accuracy on the {n} attacked images. Middle and right: {what} at {budget.label} under "
        f"{name}: "
        f"{meaning(grid, attack)} One row per criterion. Bars: 95 % intervals, over trainings from three on, "
        f"otherwise over images. {looks}",
        f"Line charts of accuracy and {what} at {budget.label}, {name}, {arm_label(arm)}: "
        f"{_words(grid, attack, arm)}.",
        figure,
    )


def _share(grid: Grid, where: GridPoint, *, robust: bool) -> Share | None:
    point = grid.points[where]
    return robust_share(point, leading(grid, where.attack)) if robust else clean_share(point)


def _share_mark(grid: Grid, attack: str, *, robust: bool) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        where = GridPoint(where.model, where.criterion, where.sparsity, where.arm, attack)
        if where not in grid.points:
            return Mark(where.sparsity, None) if where in grid.holes else None
        share = _share(grid, where, robust=robust)
        estimate = Estimate((), share.mean, share.low, share.high) if share else None
        return Mark(where.sparsity, estimate, grid.points[where].grade)

    return mark


def _of_network(grid: Grid, attack: str) -> Callable[[NetworkPoint], Mark | None]:
    """The mark of a network, at a place on the axis that the caller knows."""
    of_grid_point = _share_mark(grid, attack, robust=True)
    return lambda network: of_grid_point(network.where)


def _words(grid: Grid, attack: str, arm: str) -> str:
    said = []
    for model in grid.models:
        ends = []
        for sparsity in (grid.sparsities[0], grid.sparsities[-1]):
            criterion = grid.criteria[0] if grid.criteria and sparsity > 0 else ""
            where = GridPoint(model, criterion, sparsity, arm, attack)
            share = _share(grid, where, robust=True) if where in grid.points else None
            ends.append(f"{percent(share.mean) if share else 'no result'} at sparsity {sparsity:g}")
        said.append(f"{model} from {' to '.join(ends)}")
    return "; ".join(said)
