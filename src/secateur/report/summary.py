"""The tables that lead: accuracy, robust accuracy, multiply-adds, and the distance that is left."""

from dataclasses import replace

import numpy as np

from secateur.report.aggregate import AttackPoint, Grid, GridPoint
from secateur.report.formatting import PERCENT, arm_label, percent
from secateur.report.headline import (
    ROBUST,
    Budget,
    Share,
    budget_label,
    clean_share,
    leading,
    macs_share,
    quantity,
    robust_share,
    stated,
)
from secateur.report.left import left_ends, left_text
from secateur.report.outcomes import robust_images
from secateur.report.paired_changes import Against, Change
from secateur.report.records import NORMS, Attack
from secateur.report.tables import GRID_POINT, Column, Format, Table, Value, grid_point_values
from secateur.stats import wilson

_ENDS: tuple[tuple[str, str, Format], ...] = (
    ("", "", "percent"),
    ("_low", ", low", "percent"),
    ("_high", ", high", "percent"),
    ("_over", ", interval over", "text"),
    ("_images", ", images", "plain"),
    ("_state", ", not stated", "text"),
)
_HEADS = (
    *GRID_POINT,
    Column("role", "role", "text"),
    Column("attack", "attack", "text"),
    Column("norm", "norm", "text"),
    Column("grade", "grade", "text"),
    Column("test_accuracy", "accuracy", "percent"),
    Column("quantity", "quantity", "text"),
    Column("epsilon", "ε", "plain"),
    Column("budget", "budget", "text"),
    Column("clean_accuracy", "accuracy, attacked images", "percent"),
    Column("robust_accuracy", "robust accuracy", "percent"),
    Column("robust_low", "robust accuracy, low", "percent"),
    Column("robust_high", "robust accuracy, high", "percent"),
    Column("interval_over", "interval over", "text"),
    Column("parameters", "parameters", "count"),
    Column("macs", "MACs", "count"),
    Column("macs_share", "MACs left", "percent"),
    Column("seeds", "seeds", "plain"),
    Column("seeds_planned", "seeds planned", "plain"),
    Column("trainings", "trainings", "plain"),
    Column("images", "images", "plain"),
    Column("distance_left", "distance left", "text"),
    *(
        Column(f"{key}{end}", f"{title}{words}", form)
        for key, title in (("left", "left of dense"), ("left_of_tuned", "left of dense, equally fine-tuned"))
        for end, words, form in _ENDS
    ),
    *(
        Column(f"robust_change{key}{end}", f"robust accuracy minus {title}{words}", "percent")
        for key, title in (("", "dense"), ("_to_tuned", "dense, equally fine-tuned"))
        for end, words in (("", ""), ("_low", ", low"), ("_high", ", high"))
    ),
    Column("median", "median"),
    Column("median_low", "median, low"),
    Column("median_high", "median, high"),
    Column("median_all", "median, all images"),
    *(Column(f"median_correct_{norm}", f"median {norm}") for norm in NORMS),
    Column("correct", "attacked", "plain"),
    Column("found", "found", "plain"),
    Column("asr", "found rate", "percent"),
    Column("asr_low", "found rate, low", "percent"),
    Column("asr_high", "found rate, high", "percent"),
    Column("forwards", "forwards"),
    Column("backwards", "backwards"),
    Column("reasons", "remarks", "text"),
)


def summary(grid: Grid, change: dict[GridPoint, Change]) -> Table:
    """One row per attacked grid point, over its seeds; a grid point without any result has a row of grade X.

    Robust accuracy is at the leading budget of the attack. An attack of fixed size has no distances: its
    medians are empty.
    """
    rows = []
    for where in _attacked(grid):
        known = (
            _point_values(grid, grid.points[where], change[where])
            if where in grid.points
            else _hole_values(grid, where)
        )
        own = dict(zip((head.key for head in GRID_POINT), grid_point_values(grid, where), strict=True))
        rows.append(tuple({**own, **known}.get(head.key) for head in _HEADS))
    title = f"{grid.study.name}: accuracy, robust accuracy and what is left of the distances"
    return Table("summary", title, _HEADS, tuple(rows))


def _attacked(grid: Grid) -> list[GridPoint]:
    return [where for where in grid.order if where.attack]


def _point_values(grid: Grid, point: AttackPoint, change: Change) -> dict[str, Value]:
    network = grid.networks[point.network_grid_point]
    return {
        "role": point.role,
        "attack": point.where.attack,
        "norm": point.norm,
        "grade": point.grade,
        "test_accuracy": network.accuracy.mean,
        "parameters": network.parameters.mean,
        "macs": network.macs.mean,
        "macs_share": macs_share(grid, point.where),
        "seeds": len(point.seeds),
        "seeds_planned": point.planned_seeds,
        "trainings": len(point.attacks),
        "images": min(attack.n for attack in point.attacks),
        "forwards": float(np.mean([attack.forwards for attack in point.attacks])),
        "backwards": float(np.mean([attack.backwards for attack in point.attacks])),
        "reasons": "; ".join(point.reasons),
        **_robust_values(grid, point),
        **_left_values("left", change.total),
        **_left_values("left_of_tuned", change.pruning),
        "distance_left": left_text(change.total),
        **_change_values("robust_change", change.total, leading(grid, point.where.attack)),
        **_change_values("robust_change_to_tuned", change.pruning, leading(grid, point.where.attack)),
        **_found_values(point, leading(grid, point.where.attack)),
        **({} if point.fixed else _median_values(point)),
    }


def _robust_values(grid: Grid, point: AttackPoint) -> dict[str, Value]:
    budget = leading(grid, point.where.attack)
    robust = robust_share(point, budget)
    found: dict[str, Value] = {
        "quantity": quantity(grid, point.where.attack),
        "clean_accuracy": clean_share(point).mean,
    }
    if budget and robust:
        found |= {"epsilon": budget.epsilon, "budget": budget.label, "robust_accuracy": robust.mean}
        found |= {"robust_low": robust.low, "robust_high": robust.high, "interval_over": robust.over}
    return found


def _left_values(key: str, against: Against | None) -> dict[str, Value]:
    if against is None or (against.left is None and not against.state):
        return {}
    found: dict[str, Value] = {
        key: against.share,
        f"{key}_images": against.n,
        f"{key}_state": against.state or None,
    }
    ends = left_ends(against)
    if ends:
        found |= {f"{key}_low": ends[0], f"{key}_high": ends[1], f"{key}_over": ends[2]}
    return found


def _change_values(key: str, against: Against | None, budget: Budget | None) -> dict[str, Value]:
    each = next((s for s in against.robust if budget and s.eps == budget.epsilon), None) if against else None
    if each is None:
        return {}
    low, high = each.over_trainings or each.over_images
    return {key: each.change, f"{key}_low": low, f"{key}_high": high}


def _found_values(point: AttackPoint, budget: Budget | None) -> dict[str, Value]:
    found = sum(_hits(attack, budget) for attack in point.attacks)
    correct = sum(int((~attack.already_wrong).sum()) for attack in point.attacks)
    values: dict[str, Value] = {"correct": correct, "found": found}
    if correct:
        # The seeds share their images: together they are no larger a sample of images than one of them.
        low, high = wilson(found / len(point.attacks), correct / len(point.attacks))
        values |= {"asr": found / correct, "asr_low": low, "asr_high": high}
    return values


def _hits(attack: Attack, budget: Budget | None) -> int:
    """Images with an example; of an attack of fixed size at the size that leads the row."""
    robust = robust_images(attack, budget.epsilon) if attack.fixed and budget else None
    return int(attack.found.sum() if robust is None else (~robust & ~attack.already_wrong).sum())


def _median_values(point: AttackPoint) -> dict[str, Value]:
    own = point.median(point.norm)
    return {
        "median": own.mean,
        "median_low": own.low,
        "median_high": own.high,
        "median_all": point.median(point.norm, "all").mean,
        **{f"median_correct_{norm}": point.median(norm).mean for norm in NORMS},
    }


def _hole_values(grid: Grid, where: GridPoint) -> dict[str, Value]:
    holes = grid.holes[where]
    return {
        "role": holes[0].role,
        "attack": where.attack,
        "grade": "X",
        "seeds": 0,
        "seeds_planned": len(holes),
        "reasons": "; ".join(dict.fromkeys(hole.reason for hole in holes)),
    }


_PAPER = (
    Column("model", "model", "text"),
    Column("network", "network", "text"),
    Column("macs", "MACs", "count"),
    Column("test_accuracy", "accuracy", "percent"),
    Column("attack", "attack", "text"),
    Column("robust", "robust accuracy", "text"),
    Column("distance_left", "distance left", "text"),
    Column("grade", "grade", "text"),
)


def paper(grid: Grid, change: dict[GridPoint, Change]) -> Table:
    """The summary in eight columns, for Markdown and LaTeX: intervals and images stand inside the cells."""
    rows = tuple(_paper_row(grid, change, where) for where in _attacked(grid))
    title = f"{grid.study.name}: accuracy, robust accuracy and what is left of the distances"
    return Table("summary", title, _PAPER, rows)


def _paper_row(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> tuple[Value, ...]:
    network = grid.networks.get(replace(where, attack=""))
    budget = leading(grid, where.attack)
    pruned = f"{where.criterion} {where.sparsity:g}" if where.criterion else "dense"
    tuned = "" if where.arm == "none" else f", {arm_label(where.arm)}"
    start = (where.model, f"{pruned}{tuned}")
    costs = (network.macs.mean, network.accuracy.mean) if network else (None, None)
    label = budget_label(grid, where.attack, budget)
    if where not in grid.points:
        return (*start, *costs, label, None, grid.holes[where][0].kind if where in grid.holes else None, "X")
    point = grid.points[where]
    robust = robust_share(point, budget)
    said = f"{percent(robust.mean)} [{_ends(robust)}]" if robust else None
    if said and quantity(grid, where.attack) != ROBUST:
        said = f"{quantity(grid, where.attack)}: {said}"
    left = "–" if point.role == "dense" else left_text(change[where].total)
    return (*start, *costs, label, said, left, point.grade)


def _ends(share: Share) -> str:
    return f"{percent(share.low).removesuffix(PERCENT)}, {percent(share.high).removesuffix(PERCENT)}"


def robust_table(grid: Grid) -> Table:
    """One row per attacked grid point and stated budget: clean and robust accuracy on its images."""
    heads = (
        *GRID_POINT[:1], *GRID_POINT[2:5],
        Column("attack", "attack", "text"), Column("norm", "norm", "text"),
        Column("epsilon", "ε", "plain"), Column("budget", "budget", "text"), Column("leads", "leads", "text"),
        Column("quantity", "quantity", "text"), Column("images", "images", "plain"),
        Column("clean_accuracy", "accuracy", "percent"),
        Column("robust_accuracy", "robust accuracy", "percent"), Column("low", "low", "percent"),
        Column("high", "high", "percent"), Column("interval_over", "interval over", "text"),
        Column("grade", "grade", "text"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for where, point in grid.points.items():
        first = leading(grid, where.attack)
        for budget in stated(grid, where.attack):
            share = robust_share(point, budget)
            if share is not None:
                rows.append((
                    where.model, where.criterion, where.sparsity, where.arm, where.attack, point.norm,
                    budget.epsilon, budget.label, "yes" if budget == first else "no",
                    quantity(grid, where.attack), min(attack.n for attack in point.attacks),
                    clean_share(point).mean, share.mean, share.low, share.high, share.over, point.grade,
                ))  # fmt: skip
    return Table(
        "robust_accuracy", f"{grid.study.name}: robust accuracy at stated budgets", heads, tuple(rows)
    )
