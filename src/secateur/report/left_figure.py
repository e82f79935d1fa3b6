"""The figure of the distance that is left; it shows no gain where accuracy fell."""

from collections.abc import Callable, Iterator

import numpy as np

from secateur.report.aggregate import Grid, GridPoint
from secateur.report.axes import finish, lines, panels_of
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, slug
from secateur.report.headline import points_of
from secateur.report.intervals import Estimate
from secateur.report.left import left_ends, overstated
from secateur.report.paired_changes import Against, Change
from secateur.report.plots import Drawing, Mark, percent_axis, sparsity_axis
from secateur.report.theme import INK, label


def draw_left(
    grid: Grid, change: dict[GridPoint, Change], attack: str, arm: str, looks: str
) -> Drawing | None:
    """What is left of the distance, as a share; None for attacks of fixed size and without any comparison."""
    points = points_of(grid, attack)
    if not any(_both(change[point.where]) for point in points) or points[0].fixed:
        return None
    name = attack_label(attack, points[0].norm)
    figure, panels = panels_of(grid, 2)
    used: set[str] = set()
    top = _ceiling(change, attack, arm)
    for row, criterion in zip(panels, grid.criteria or ("",), strict=True):
        for axes, pruning in zip(row, (False, True), strict=True):
            axes.axhline(1, color=INK, lw=0.6, zorder=1)
            sparsity_axis(axes, grid.sparsities, labelled=row is panels[-1])
            used |= lines(grid, axes, criterion, arm, _mark(grid, change, attack, pruning), ceiling=top)
            axes.set_ylim(bottom=0, top=top)
            percent_axis(axes.yaxis)
        row[1].sharey(row[0])
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    panels[0][0].set_title("of the dense network")
    panels[0][1].set_title("of the dense network, equally fine-tuned")
    finish(figure, grid, used)
    return Drawing(
        f"left-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: distance left on common images, {arm_label(arm)}",
        f"{NORM_LABELS[points[0].norm]} distance to the nearest adversarial example, as a share of the "
        "control's: the median ratio over the images that both networks classify correctly. Left: pruning "
        "and "
        "fine-tuning together. Right: pruning alone, both sides with the same fine-tuning. Read it beside "
        "the "
        "accuracy. The line is cut where more than 100 % is left but accuracy fell: that is no gain. Bars: "
        f"95 % intervals, over trainings from three on, otherwise over images. {looks}",
        f"Line chart of the share of the distance that is left, {name}, {arm_label(arm)}.",
        figure,
    )


def _both(change: Change) -> list[Against]:
    return [each for each in (change.total, change.pruning) if each is not None and each.left is not None]


def _mark(
    grid: Grid, change: dict[GridPoint, Change], attack: str, pruning: bool
) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        where = GridPoint(where.model, where.criterion, where.sparsity, where.arm, attack)
        if where not in change:
            return Mark(where.sparsity, None) if where in grid.holes else None
        found = change[where].pruning if pruning else change[where].total
        if found is None or found.left is None:
            return Mark(where.sparsity, None)
        if found.share is None or overstated(found):
            return Mark(where.sparsity, None, found.grade, found.state or "fell")
        low, high, _ = left_ends(found) or (np.nan, np.nan, "")
        ends = (low, high) if np.isfinite([low, high]).all() else (None, None)
        return Mark(where.sparsity, Estimate((), found.share, *ends), found.grade)

    return mark


def _ceiling(change: dict[GridPoint, Change], attack: str, arm: str) -> float:
    """Where the axis of shares ends: what cannot be believed does not stretch it."""
    return max([1.0, *_shown(change, attack, arm)]) * 1.15


def _shown(change: dict[GridPoint, Change], attack: str, arm: str) -> Iterator[float]:
    for where, each in change.items():
        if where.attack == attack and where.arm == arm:
            for found in _both(each):
                if found.share is not None and np.isfinite(found.share) and not overstated(found):
                    yield found.share
