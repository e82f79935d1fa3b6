"""Figures of robustness against sparsity: accuracy and robust accuracy, and the distance that is left."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from secateur.report.aggregate import Grid, GridPoint
from secateur.report.axes import (
    add_legend,
    breaks,
    criterion_panels,
    draw_against_macs,
    draw_models,
    first_to_last,
    gap,
    percent_axis,
    same_range,
    sparsity_axis,
)
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, percent, slug
from secateur.report.intervals import Estimate
from secateur.report.paired_changes import Against, Change
from secateur.report.pairing import no_robustness
from secateur.report.plots import Drawing, Mark
from secateur.report.robustness import (
    attack_points,
    clean_share,
    definition,
    leading_budget,
    left_interval,
    method_label,
    overstated,
    quantity,
    robust_share,
)
from secateur.report.theme import INK, label

INTERVALS = "Bars: 95 % intervals, over trainings from three on, otherwise over images."


def draw_robust(grid: Grid, attack: str, arm: str) -> Drawing | None:
    """Accuracy and robust accuracy of one attack and arm; None without a result."""
    budget, points = leading_budget(grid, attack), attack_points(grid, attack)
    if budget is None:
        return None
    what, name = quantity(grid, attack), method_label(grid, attack)
    titles = ("accuracy", f"{what}, {budget.label}", "the same against MACs")
    figure, rows = criterion_panels(grid, titles)
    signs: set[str] = set()
    robust = _share_mark(grid, attack, robust=True)
    for criterion, row in rows:
        for axes, mark in zip(row[:2], (_share_mark(grid, attack, robust=False), robust), strict=True):
            sparsity_axis(axes, grid.sparsities)
            signs |= draw_models(grid, axes, criterion, arm, mark)
        draw_against_macs(grid, row[2], criterion, arm, lambda network: robust(network.where))
        for axes in row:
            axes.set_ylim(-0.02, 1.02)
            percent_axis(axes.yaxis)
            axes.tick_params(labelleft=axes is row[0])
    same_range([row[2] for _, row in rows])
    add_legend(figure, grid, signs, arm)

    def text(where: GridPoint) -> str | None:
        share = robust_share(grid.points[where], budget)
        return percent(share.mean) if share else None

    n = min(attack.n for point in points for attack in point.attacks)
    return Drawing(
        f"robust-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: accuracy and {what}, {arm_label(arm)}",
        f"Left: accuracy on the {n} attacked images. Middle and right: {what} at {budget.label} under "
        f"{name}: {definition(grid, attack)} One row per criterion. {INTERVALS} {breaks(signs)}",
        f"Line charts of accuracy and {what} at {budget.label}, {name}, {arm_label(arm)}: "
        f"{first_to_last(grid, arm, text, known=grid.points, attack=attack)}.",
        figure,
    )


def _share_mark(grid: Grid, attack: str, *, robust: bool) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        where = replace(where, attack=attack)
        point = grid.points.get(where)
        if point is None:
            return gap(grid, where)
        share = robust_share(point, leading_budget(grid, attack)) if robust else clean_share(point)
        estimate = Estimate((), share.mean, share.low, share.high) if share else None
        return Mark(where.sparsity, estimate, point.grade, no_robustness(point.state) if robust else "")

    return mark


def draw_left(grid: Grid, change: dict[GridPoint, Change], attack: str, arm: str) -> Drawing | None:
    """The share of the distance that is left; None for fixed-size attacks and without any comparison."""
    points = attack_points(grid, attack)
    if not any(_with_left(change[point.where]) for point in points) or points[0].fixed:
        return None
    name = attack_label(attack, points[0].norm)
    titles = ("of the dense network", "of the dense network, equally fine-tuned")
    figure, rows = criterion_panels(grid, titles)
    signs: set[str] = set()
    # Shares that are not to be believed do not stretch the axis.
    shown = [
        against.share
        for where, each in change.items()
        for against in (_with_left(each) if (where.attack, where.arm) == (attack, arm) else ())
        if where.model in grid.models
        and against.share is not None
        and np.isfinite(against.share)
        and not overstated(against)
    ]
    top = max([1.0, *shown]) * 1.15
    for criterion, row in rows:
        for axes, pruning in zip(row, (False, True), strict=True):
            axes.axhline(1, color=INK, lw=0.6, zorder=1)
            sparsity_axis(axes, grid.sparsities)
            mark = _left_mark(grid, change, attack, pruning)
            signs |= draw_models(grid, axes, criterion, arm, mark, ceiling=top)
            axes.set_ylim(bottom=0, top=top)
            percent_axis(axes.yaxis)
        row[1].sharey(row[0])
    add_legend(figure, grid, signs, arm)
    return Drawing(
        f"left-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: distance left on common images, {arm_label(arm)}",
        f"{NORM_LABELS[points[0].norm]} distance to the nearest adversarial example found, as a share of the "
        "control's: the median ratio over the images that both networks classify correctly. Left: pruning "
        "and fine-tuning together. Right: pruning alone, both networks with the same fine-tuning. Read it "
        "together with the accuracy. The line breaks where the share is above 100 % but accuracy fell: this "
        f"is no gain. {INTERVALS} {breaks(signs)}",
        f"Line chart of the share of the distance that is left, {name}, {arm_label(arm)}.",
        figure,
    )


def _with_left(change: Change) -> list[Against]:
    return [each for each in (change.total, change.pruning) if each is not None and each.left is not None]


def _left_mark(
    grid: Grid, change: dict[GridPoint, Change], attack: str, pruning: bool
) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        where = replace(where, attack=attack)
        if where not in change:
            return gap(grid, where)
        found = change[where].pruning if pruning else change[where].total
        if found is None or found.left is None:
            return Mark(where.sparsity, None)
        if found.share is None or overstated(found):
            return Mark(where.sparsity, None, found.grade, found.state or "fell")
        low, high, _ = left_interval(found) or (np.nan, np.nan, "")
        ends = (low, high) if np.isfinite([low, high]).all() else (None, None)
        return Mark(where.sparsity, Estimate((), found.share, *ends), found.grade)

    return mark
