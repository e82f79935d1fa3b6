"""The summary: one row per attacked grid point with every number that the figures and the page show."""

import numpy as np

from secateur.report.aggregate import AttackPoint, Grid, GridPoint
from secateur.report.formatting import Column, Format, Table, Value, named_columns
from secateur.report.paired_changes import Against, Change
from secateur.report.pairing import no_robustness
from secateur.report.records import NORMS, Attack
from secateur.report.robustness import (
    Budget,
    clean_share,
    leading_budget,
    left_interval,
    left_text,
    macs_share,
    quantity,
    robust_share,
)
from secateur.stats import wilson

_LEFT: tuple[tuple[str, str, Format], ...] = (
    ("", "", "percent"),
    ("_low", ", low", "percent"),
    ("_high", ", high", "percent"),
    ("_over", ", interval over", "text"),
    ("_images", ", images", "plain"),
    ("_state", ", not stated", "text"),
)
_CONTROLS = (("", "dense"), ("_to_tuned", "dense, equally fine-tuned"))
_HEADS = (
    *named_columns("model robust criterion"),
    *named_columns("sparsity", "plain"),
    Column("arm", "fine-tuning", "text"),
    *named_columns("role attack norm grade"),
    Column("test_accuracy", "accuracy", "percent"),
    *named_columns("quantity"),
    Column("epsilon", "ε", "plain"),
    *named_columns("budget"),
    Column("clean_accuracy", "accuracy, attacked images", "percent"),
    Column("robust_accuracy", "robust accuracy", "percent"),
    Column("remark", "no robustness", "text"),
    Column("robust_low", "robust accuracy, low", "percent"),
    Column("robust_high", "robust accuracy, high", "percent"),
    Column("interval_over", "interval over", "text"),
    *named_columns("parameters", "count"),
    Column("macs", "MACs", "count"),
    Column("macs_share", "MACs left", "percent"),
    *named_columns("seeds", "plain"),
    Column("seeds_planned", "seeds planned", "plain"),
    *named_columns("trainings images", "plain"),
    Column("distance_left", "distance left", "text"),
    *(
        Column(f"{key}{end}", f"{title}{ending}", form)
        for key, title in (("left", "left of dense"), ("left_of_tuned", "left of dense, equally fine-tuned"))
        for end, ending, form in _LEFT
    ),
    *(
        Column(f"robust_change{key}{end}", f"robust accuracy minus {title}{ending}", "percent")
        for key, title in _CONTROLS
        for end, ending, _ in _LEFT[:3]
    ),
    *named_columns("median", "number"),
    Column("median_low", "median, low"),
    Column("median_high", "median, high"),
    Column("median_all", "median, all images"),
    *(Column(f"median_correct_{norm}", f"median {norm}") for norm in NORMS),
    Column("correct", "attacked", "plain"),
    *named_columns("found", "plain"),
    Column("asr", "found rate", "percent"),
    Column("asr_low", "found rate, low", "percent"),
    Column("asr_high", "found rate, high", "percent"),
    *named_columns("forwards backwards", "number"),
    Column("reasons", "remarks", "text"),
)


def summary(grid: Grid, change: dict[GridPoint, Change]) -> Table:
    """One row per attacked grid point, over its seeds; a grid point without any result has grade X.

    Robust accuracy is at the leading budget of the attack. Fixed-size attacks have no medians.
    """
    rows = []
    for where in attacked_points(grid):
        values: dict[str, Value] = {
            "model": where.model,
            "robust": "yes" if grid.robust.get(where.model) else "no",
            "criterion": where.criterion,
            "sparsity": where.sparsity,
            "arm": where.arm,
            "attack": where.attack,
        }
        if where in grid.points:
            values |= _point_values(grid, grid.points[where], change[where])
        else:
            holes = grid.holes[where]
            reasons = "; ".join(dict.fromkeys(hole.reason for hole in holes))
            values |= {"role": holes[0].role, "grade": "X", "seeds": 0, "seeds_planned": len(holes)}
            values |= {"reasons": reasons}
        rows.append(tuple(values.get(head.key) for head in _HEADS))
    return Table("summary", summary_title(grid), _HEADS, tuple(rows))


def summary_title(grid: Grid) -> str:
    """The title of the summary, whole or short."""
    return f"{grid.study.name}: accuracy, robust accuracy and the share of the distances that is left"


def attacked_points(grid: Grid) -> list[GridPoint]:
    """The grid points with an attack, in the order of the study."""
    return [where for where in grid.order if where.attack]


def _point_values(grid: Grid, point: AttackPoint, change: Change) -> dict[str, Value]:
    network, budget = grid.networks[point.network_grid_point], leading_budget(grid, point.where.attack)
    return {
        "role": point.role,
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
        "quantity": quantity(grid, point.where.attack),
        "clean_accuracy": clean_share(point).mean,
        "remark": no_robustness(point.state),
        **_robust_values(point, budget),
        **_left_values("left", change.total),
        **_left_values("left_of_tuned", change.pruning),
        "distance_left": left_text(change.total),
        **_change_values("robust_change", change.total, budget),
        **_change_values("robust_change_to_tuned", change.pruning, budget),
        **_found_values(point, budget),
        **({} if point.fixed else _median_values(point)),
    }


def _robust_values(point: AttackPoint, budget: Budget | None) -> dict[str, Value]:
    robust = robust_share(point, budget)
    if budget is None or robust is None:
        return {}
    return {
        "epsilon": budget.epsilon,
        "budget": budget.label,
        "robust_accuracy": robust.mean,
        "robust_low": robust.low,
        "robust_high": robust.high,
        "interval_over": robust.over,
    }


def _left_values(key: str, against: Against | None) -> dict[str, Value]:
    if against is None or (against.left is None and not against.state):
        return {}
    low, high, over = left_interval(against) or (None, None, None)
    return {
        key: against.share,
        f"{key}_low": low,
        f"{key}_high": high,
        f"{key}_over": over,
        f"{key}_images": against.n,
        f"{key}_state": against.state or None,
    }


def _change_values(key: str, against: Against | None, budget: Budget | None) -> dict[str, Value]:
    # The leading budget is one of the stated ones, but a fixed-size attack may not have tried it.
    each = next((s for s in against.robust if budget and s.eps == budget.epsilon), None) if against else None
    if each is None:
        return {}
    low, high = each.over_trainings or each.over_images
    return {key: each.change, f"{key}_low": low, f"{key}_high": high}


def _found_values(point: AttackPoint, budget: Budget | None) -> dict[str, Value]:
    found = sum(_found(attack, budget) for attack in point.attacks)
    correct = sum(int((~attack.already_wrong).sum()) for attack in point.attacks)
    if not correct:
        return {"correct": correct, "found": found}
    # All seeds attack the same images, so together they are no larger a sample of images than one of them.
    low, high = wilson(found / len(point.attacks), correct / len(point.attacks))
    return {"correct": correct, "found": found, "asr": found / correct, "asr_low": low, "asr_high": high}


def _found(attack: Attack, budget: Budget | None) -> int:
    """Images with an adversarial example; for a fixed-size attack those found at the leading size."""
    robust = attack.robust_images(budget.epsilon) if attack.fixed and budget else None
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
