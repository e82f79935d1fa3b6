"""All tables besides the summary: short ones for papers and terminals, and detailed ones for files."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from secateur.report.aggregate import Grid, GridPoint, distances, security_curve, tuned_arms
from secateur.report.formatting import (
    PERCENT,
    Column,
    Table,
    Value,
    arm_label,
    named_columns,
    network_label,
)
from secateur.report.paired_changes import Change
from secateur.report.pairing import COLLAPSED, UNRELIABLE, no_robustness
from secateur.report.records import NORMS, Attack, Hole
from secateur.report.repetitions import attacks_once, networks_once
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
    share_text,
    stated_budgets,
    targeted,
)
from secateur.report.summary import attacked_points, summary_title
from secateur.stats import median, median_interval
from secateur.store import TuneScience

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
    if remark := no_robustness(point.state):
        text = remark
    elif robust:
        text = share_text(robust)
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
    if remark := no_robustness(point.state):
        return f"{remark} {grade}"
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


_MODEL = named_columns("model")
_SEED, _SPARSITY = named_columns("seed sparsity", "plain")
_SETTING = (*named_columns("criterion"), _SPARSITY, Column("arm", "fine-tuning", "text"))
_ATTACK_NORM = named_columns("attack norm")
_INTERVAL = (Column("low", "low", "percent"), Column("high", "high", "percent"))
_ALSO = Column("also_seeds", "seeds with the same network", "text")
_HASH_AND_CELL = (Column("weights_hash", "weights", "text"), *named_columns("cell"))


def per_seed(grid: Grid) -> Table:
    """One row per attacked network, each seed by itself; the interval is over its images.

    Seeds that gave the same network share a row: ``also_seeds`` names the others.
    """
    heads = (
        *_MODEL, _SEED, *_SETTING, *named_columns("role"), *_ATTACK_NORM, *named_columns("grade remark"),
        *named_columns("images", "plain"), Column("already_wrong", "already wrong", "plain"),
        *named_columns("found", "plain"), Column("not_found", "not found", "plain"),
        *(Column(f"median_correct_{norm}", f"median {norm}") for norm in NORMS),
        *(Column(f"median_all_{norm}", f"median {norm}, all images") for norm in NORMS),
        Column("median_low", "median, low"), Column("median_high", "median, high"),
        *reversed(_HASH_AND_CELL), _ALSO,
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for attack, also in attacks_once(grid):
        axes, wrong, found = attack.axes, int(attack.already_wrong.sum()), int(attack.found.sum())
        rows.append((
            axes.model, axes.seed, axes.criterion or "", axes.sparsity, axes.arm, attack.role, attack.name,
            attack.norm, attack.grade, COLLAPSED if attack.network.collapsed else "",
            attack.n, wrong, found, attack.n - wrong - found, *_medians(attack), attack.id,
            attack.network.science.weights_hash, also,
        ))  # fmt: skip
    return Table("per_seed", f"{grid.study.name}: every attacked network", heads, tuple(rows))


def _medians(attack: Attack) -> tuple[Value, ...]:
    if attack.fixed:  # the size of its perturbations is a setting, not a measurement
        return (None,) * (2 * len(NORMS) + 2)
    return (
        *(median(distances(attack, norm, "correct")) for norm in NORMS),
        *(median(distances(attack, norm, "all")) for norm in NORMS),
        *median_interval(distances(attack, attack.norm, "correct")),
    )


def networks(grid: Grid) -> Table:
    """One row per network and seed: its size, multiply-adds and accuracy; ``also_seeds`` as above."""
    splits = ("train", "validation", "test")
    heads = (
        *_MODEL, _SEED, *_SETTING, *named_columns("role"), Column("sparsity_achieved", "achieved", "plain"),
        Column("parameters", "parameters", "count"), Column("macs", "MACs", "count"),
        *(Column(f"{split}_accuracy", f"{split} accuracy", "percent") for split in splits),
        Column("best_epoch", "best epoch", "plain"), *named_columns("collapsed"), *_HASH_AND_CELL, _ALSO,
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = [
        (
            row.axes.model, row.axes.seed, row.axes.criterion or "", row.axes.sparsity, row.axes.arm,
            row.role, row.sparsity_achieved, row.science.parameters, row.science.macs,
            *(getattr(row.science.accuracy, split) for split in splits),
            row.science.best_epoch if isinstance(row.science, TuneScience) else None,
            "yes" if row.collapsed else "no", row.science.weights_hash, row.id, also,
        )
        for row, also in networks_once(grid)
    ]  # fmt: skip
    return Table("networks", f"{grid.study.name}: networks", heads, tuple(rows))


def security_curves(grid: Grid, *, steps: int = 60) -> Table:
    """Robust accuracy at the stated budgets and at ``steps`` + 1 others, up to the largest finite distance.

    Fixed-size attacks have rows for the sizes that they tried only.
    """
    heads = (
        *_MODEL, *_SETTING, *_ATTACK_NORM, Column("epsilon", "ε"), *named_columns("stated"),
        Column("robust_accuracy", "robust accuracy", "percent"), *_INTERVAL, *named_columns("grade remark"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for where, point in grid.points.items():
        chosen = [budget.epsilon for budget in stated_budgets(grid, where.attack)]
        # The curve ends where the last image falls; without any distance it covers [0, 1].
        values = np.concatenate([attack.distances[point.norm] for attack in point.attacks])
        top = float(values[np.isfinite(values)].max(initial=0.0))
        even = [] if point.fixed else np.linspace(0, top or 1.0, steps + 1).tolist()
        curve = security_curve(point, np.array(sorted({*even, *chosen})))
        for epsilon, mean, low, high in zip(curve.epsilon, curve.mean, curve.low, curve.high, strict=True):
            stated = "yes" if float(epsilon) in chosen else "no"
            shares = (float(mean), float(low), float(high))
            judged = (point.grade, no_robustness(point.state))
            rows.append((*_grid_values(where), point.norm, float(epsilon), stated, *shares, *judged))
    return Table("security_curves", f"{grid.study.name}: security curves", heads, tuple(rows))


def robust_accuracy(grid: Grid) -> Table:
    """One row per attacked grid point and stated budget: accuracy and robust accuracy, attacked images."""
    heads = (
        *_MODEL, *_SETTING, *_ATTACK_NORM, Column("epsilon", "ε", "plain"),
        *named_columns("budget leads quantity"), *named_columns("images", "plain"),
        Column("clean_accuracy", "accuracy", "percent"),
        Column("robust_accuracy", "robust accuracy", "percent"), *_INTERVAL,
        Column("interval_over", "interval over", "text"), *named_columns("grade remark"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for where, point in grid.points.items():
        images, clean = min(attack.n for attack in point.attacks), clean_share(point).mean
        for budget in stated_budgets(grid, where.attack):
            if (share := robust_share(point, budget)) is not None:
                leads = "yes" if budget == leading_budget(grid, where.attack) else "no"
                rows.append((
                    *_grid_values(where), point.norm, budget.epsilon, budget.label, leads,
                    quantity(grid, where.attack), images, clean,
                    share.mean, share.low, share.high, share.over, point.grade, no_robustness(point.state),
                ))  # fmt: skip
    title = f"{grid.study.name}: robust accuracy at stated budgets"
    return Table("robust_accuracy", title, heads, tuple(rows))


def holes(grid: Grid) -> Table:
    """One row per cell without a usable result."""
    heads = (
        *named_columns("stage"), *_MODEL, _SEED, *_SETTING, *named_columns("attack kind reason cell")
    )  # fmt: skip
    rows = tuple(_hole_values(hole) for hole in grid.study.holes)
    return Table("holes", f"{grid.study.name}: without result", heads, rows)


def _hole_values(hole: Hole) -> tuple[Value, ...]:
    axes = hole.axes
    where = (axes.model, axes.seed, axes.criterion or "", axes.sparsity, axes.arm, axes.attack or "")
    return hole.stage, *where, hole.kind, hole.reason, hole.id


def _grid_values(where: GridPoint) -> tuple[Value, ...]:
    return where.model, where.criterion, where.sparsity, where.arm, where.attack
