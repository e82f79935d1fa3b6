"""The results in few columns, for a terminal of 80 columns."""

from collections.abc import Iterator
from dataclasses import replace

from secateur.report.aggregate import Grid, GridPoint, tuned_arms
from secateur.report.formatting import PERCENT
from secateur.report.headline import (
    budget_label,
    clean_share,
    leading,
    points_of,
    robust_share,
    targeted,
)
from secateur.report.left import left_share
from secateur.report.outcomes import UNRELIABLE
from secateur.report.paired_changes import Change
from secateur.report.tables import Column, Table, Value


def overview_table(grid: Grid, change: dict[GridPoint, Change]) -> Table:
    """One row per network that the study is about, controls first; one column per attack.

    A cell of an attack holds accuracy → robust accuracy on the attacked images, the distance that is left
    with the number of images it is computed on, and the grade. Pruned networks without fine-tuning are left
    out where there are fine-tuned ones.
    """
    heads = (
        Column("model", "model", "text"),
        Column("network", "pruned", "text"),
        Column("arm", "tuned", "text"),
        Column("accuracy", "acc.", "percent"),
        Column("macs", "MACs", "count"),
        *(Column(attack, _title(grid, attack), "text") for attack in grid.attacks),
    )
    fixed = [bool((points := points_of(grid, attack)) and points[0].fixed) for attack in grid.attacks]
    said = ["accuracy → robust accuracy in %"]
    said += ["distance left/common images"] if not all(fixed) else []
    said += ["[95 % interval]"] if any(fixed) else []
    title = f"{grid.study.name}: {', '.join(said)}, grade"
    if grid.study.limited:
        title += f" (partial: {grid.study.limited} images)"
    return Table("overview", title, heads, tuple(_row(grid, change, where) for where in _shown(grid)))


def _title(grid: Grid, attack: str) -> str:
    # Without spaces around the sign: at 80 columns every character counts.
    return budget_label(grid, attack, leading(grid, attack)).replace(", ", " ").replace(" ≤ ", "≤")


def _shown(grid: Grid) -> Iterator[GridPoint]:
    if not grid.points:
        return
    arms = tuned_arms(grid)
    for where in dict.fromkeys(replace(p, attack="") for p in grid.order if p.attack):
        if where.sparsity == 0 or where.arm in arms:
            yield where


def _row(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> tuple[Value, ...]:
    network = grid.networks.get(where)
    return (
        where.model,
        f"{where.criterion} {where.sparsity:g}" if where.criterion else "dense",
        "–" if where.arm == "none" else where.arm,
        network.accuracy.mean if network else None,
        network.macs.mean if network else None,
        *(_attacked(grid, change, replace(where, attack=attack)) for attack in grid.attacks),
    )


def _attacked(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> str:
    if where not in grid.points:
        return f"X {grid.holes[where][0].kind}" if where in grid.holes else "–"
    point, total = grid.points[where], change[where].total
    robust = robust_share(point, leading(grid, where.attack))
    grade = change[where].total_grade if total and point.role != "dense" else point.grade
    if targeted(point):
        return f"not reached {_whole(robust.mean)} {grade}" if robust else grade
    said = f"{_whole(clean_share(point).mean)}→{_whole(robust.mean)}" if robust else "–"
    if point.fixed:
        return (
            f"{said} [{_whole(robust.low)}, {_whole(robust.high)}] {grade}" if robust else f"{said} {grade}"
        )
    if total is None or point.role == "dense" or total.state == UNRELIABLE:
        return f"{said} {grade}"
    left = total.state or f"{left_share(total).replace(PERCENT, '%') or '–'}/{total.n}"
    return f"{said} {left} {grade}"


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"
