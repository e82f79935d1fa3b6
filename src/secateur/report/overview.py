"""Short tables of the results: in eight columns for papers, and for a terminal of 80 columns."""

from collections.abc import Iterator
from dataclasses import replace

from secateur.report.aggregate import Grid, GridPoint, tuned_arms
from secateur.report.formatting import PERCENT, arm_label, network_label, percent, percent_range
from secateur.report.paired_changes import Change
from secateur.report.pairing import AT_CHANCE, COLLAPSED, UNRELIABLE
from secateur.report.robustness import (
    ROBUST,
    attack_points,
    budget_label,
    clean_share,
    leading_budget,
    left_percent,
    left_text,
    quantity,
    robust_share,
    targeted,
)
from secateur.report.summary import attacked_points, summary_title
from secateur.report.tables import Column, Table, Value, named_columns

_PAPER = (
    *named_columns("model network"),
    Column("macs", "MACs", "count"),
    Column("test_accuracy", "accuracy", "percent"),
    *named_columns("attack"),
    Column("robust", "robust accuracy", "text"),
    Column("distance_left", "distance left", "text"),
    *named_columns("grade"),
)


def paper_table(grid: Grid, change: dict[GridPoint, Change]) -> Table:
    """The summary in eight columns, for Markdown and LaTeX: intervals and images are inside the entries."""
    rows = tuple(_paper_row(grid, change, where) for where in attacked_points(grid))
    return Table("summary", summary_title(grid), _PAPER, rows)


def _paper_row(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> tuple[Value, ...]:
    network = grid.networks.get(replace(where, attack=""))
    budget = leading_budget(grid, where.attack)
    tuned = "" if where.arm == "none" else f", {arm_label(where.arm)}"
    start = (where.model, f"{network_label(where.criterion, where.sparsity)}{tuned}")
    costs = (network.macs.mean, network.accuracy.mean) if network else (None, None)
    label = budget_label(grid, where.attack, budget)
    if where not in grid.points:
        return (*start, *costs, label, None, grid.holes[where][0].kind if where in grid.holes else None, "X")
    point = grid.points[where]
    robust = robust_share(point, budget)
    if robust:
        interval = percent_range(robust.low, robust.high, ", ").removesuffix(PERCENT)
        text = f"{percent(robust.mean)} [{interval}]"
        text = text if quantity(grid, where.attack) == ROBUST else f"{quantity(grid, where.attack)}: {text}"
    left = "–" if point.role == "dense" else left_text(change[where].total)
    return (*start, *costs, label, text if robust else None, left, point.grade)


def overview_table(grid: Grid, change: dict[GridPoint, Change]) -> Table:
    """For a terminal of 80 columns: one row per network that the study is about, one column per attack.

    An entry of an attack holds accuracy → robust accuracy on the attacked images, the distance that is left
    with its number of images, and the grade. Pruned networks without fine-tuning are left out where there are
    fine-tuned ones.
    """
    heads = (
        *named_columns("model"),
        Column("network", "pruned", "text"),
        Column("arm", "tuned", "text"),
        Column("accuracy", "acc.", "percent"),
        Column("macs", "MACs", "count"),
        *(Column(attack, _attack_title(grid, attack), "text") for attack in grid.attacks),
    )
    fixed = [bool((points := attack_points(grid, attack)) and points[0].fixed) for attack in grid.attacks]
    parts = ["accuracy → robust accuracy in %"]
    parts += ["distance left/common images"] if not all(fixed) else []
    parts += ["[95 % interval]"] if any(fixed) else []
    title = f"{grid.study.name}: {', '.join(parts)}, grade"
    if grid.study.limited:
        title += f" (partial: {grid.study.limited} images)"
    rows = tuple(_overview_row(grid, change, where) for where in _overview_points(grid))
    return Table("overview", title, heads, rows)


def _attack_title(grid: Grid, attack: str) -> str:
    # Without spaces around the sign, to fit into 80 columns.
    return budget_label(grid, attack, leading_budget(grid, attack)).replace(", ", " ").replace(" ≤ ", "≤")


def _overview_points(grid: Grid) -> Iterator[GridPoint]:
    arms = tuned_arms(grid)
    for where in dict.fromkeys(replace(p, attack="") for p in attacked_points(grid) if grid.points):
        if where.sparsity == 0 or where.arm in arms:
            yield where


def _overview_row(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> tuple[Value, ...]:
    network = grid.networks.get(where)
    return (
        where.model,
        network_label(where.criterion, where.sparsity),
        "–" if where.arm == "none" else where.arm,
        network.accuracy.mean if network else None,
        network.macs.mean if network else None,
        *(_overview_entry(grid, change, replace(where, attack=attack)) for attack in grid.attacks),
    )


def _overview_entry(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> str:
    if where not in grid.points:
        return f"X {grid.holes[where][0].kind}" if where in grid.holes else "–"
    point, total = grid.points[where], change[where].total
    grade = change[where].total_grade if total and point.role != "dense" else point.grade
    # A network near chance predicts one class for nearly everything: that it resists is no robustness.
    if point.state in (COLLAPSED, AT_CHANCE):
        return f"{point.state} {grade}"
    robust = robust_share(point, leading_budget(grid, where.attack))
    if targeted(point):
        return f"not reached {_whole(robust.mean)} {grade}" if robust else grade
    shares = f"{_whole(clean_share(point).mean)}→{_whole(robust.mean)}" if robust else "–"
    if point.fixed:
        interval = f" [{_whole(robust.low)}, {_whole(robust.high)}]" if robust else ""
        return f"{shares}{interval} {grade}"
    if total is None or point.role == "dense" or total.state == UNRELIABLE:
        return f"{shares} {grade}"
    left = total.state or f"{left_percent(total).replace(PERCENT, '%') or '–'}/{total.n}"
    return f"{shares} {left} {grade}"


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"
