"""The data behind the page's control: every attacked network at every stated budget, as JSON for its script.

The texts are those of the tables, so the script formats no number that a table states. A network whose
number is replaced by a word has no share in the data at all.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from secateur.budgets import written
from secateur.report.aggregate import AttackPoint, Grid, GridPoint, security_curve, tuned_arms
from secateur.report.conclusions import sparsity_of_sentences
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, percent
from secateur.report.paired_changes import Change
from secateur.report.pairing import no_robustness
from secateur.report.robustness import (
    Share,
    attack_points,
    budgets_top,
    clean_share,
    leading_budget,
    left_interval_text,
    left_text,
    macs_share,
    method_label,
    quantity,
    robust_share,
    stated_budgets,
)
from secateur.report.summary import attacked_points
from secateur.report.tiles import sample_size
from secateur.stats import Floats

CURVE_POINTS = 41
_GREY_STEPS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def linked_data(grid: Grid, change: dict[GridPoint, Change]) -> dict[str, Any]:
    """What the control chooses from, and the numbers of every choice.

    ``points`` are in the order of :func:`point_numbers`. Shares are [mean, low, high, text, interval text];
    ``robust`` holds one per stated budget of the attack. ``curve`` is [means, lows, highs] in thousandths
    at the ``eps`` of the attack.
    """
    attacks = [name for name in grid.attacks if attack_points(grid, name)]
    axes = {name: curve_axis(grid, name) for name in attacks}
    sparsity = sparsity_of_sentences(grid)
    return {
        "models": [{"name": name, "robust": grid.robust.get(name, False)} for name in grid.models],
        "criteria": list(grid.criteria),
        "sparsities": list(grid.sparsities),
        "arms": [{"name": arm, "label": arm_label(arm)} for arm in page_arms(grid)],
        "attacks": [_attack(grid, name, axes[name]) for name in attacks],
        "start": {"sparsity": sparsity},
        "points": [
            _point(grid, change, where, axes.get(where.attack, np.zeros(0)))
            for where in attacked_points(grid)
        ],
    }


def page_arms(grid: Grid) -> tuple[str, ...]:
    """The arms in the order of the page: fine-tuned ones first."""
    return tuple(dict.fromkeys((*tuned_arms(grid), *grid.arms)))


def point_numbers(grid: Grid) -> dict[GridPoint, int]:
    """The index of every attacked grid point in ``points``."""
    return {where: i for i, where in enumerate(attacked_points(grid))}


def script_json(data: Any) -> str:
    r"""JSON that ends no script element and opens none, whatever names it holds.

    >>> script_json({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def curve_axis(grid: Grid, attack: str) -> Floats:
    """The budgets of an attack's curves, stated ones included, up to the end that its norm has everywhere.

    A fixed-size attack has only the sizes that it tried, and 0.
    """
    budgets, points = stated_budgets(grid, attack), attack_points(grid, attack)
    stated = [budget.epsilon for budget in budgets]
    if points[0].fixed:
        return np.array(sorted({0.0, *stated}))
    top = budgets_top(grid, points[0].norm)
    # Denser towards 0: networks that are not robust fall there.
    spread = (top * np.linspace(0, 1, CURVE_POINTS) ** 1.5).tolist()
    return np.array(sorted({*spread, *(eps for eps in stated if eps <= top)}))


def _attack(grid: Grid, name: str, axis: Floats) -> dict[str, Any]:
    points, budgets, first = attack_points(grid, name), stated_budgets(grid, name), leading_budget(grid, name)
    norm = points[0].norm
    return {
        "name": name,
        "label": attack_label(name, norm),
        "method": method_label(grid, name),
        "norm": NORM_LABELS[norm],
        "quantity": quantity(grid, name),
        "budgets": [[budget.epsilon, budget.text] for budget in budgets],
        "start": budgets.index(first) if first else 0,
        "eps": [float(f"{eps:.6g}") for eps in axis],
        "ticks": _ticks(grid, norm, float(axis[-1])),
    }


def _ticks(grid: Grid, norm: str, top: float) -> list[tuple[float, str]]:
    """Round budgets up to ``top`` with their texts: in grey levels for L∞ and images of 256 levels."""
    in_grey = norm == "linf" and grid.study.levels == 256
    if in_grey:
        step = next((s for s in _GREY_STEPS if 255 * top / s <= 6), _GREY_STEPS[-1]) / 255
    else:
        size = 10.0 ** math.floor(math.log10(top / 5)) if top > 0 else 1.0
        step = next(size * factor for factor in (1, 2, 5, 10) if top / (size * factor) <= 6)
    values = [i * step for i in range(int(top / step + 1e-9) + 1)]
    if not in_grey:
        return [(value, f"{value:.4g}") for value in values]
    levels, bounds = grid.study.levels, grid.study.bounds
    return [(value, written(value, norm, levels=levels, bounds=bounds)) for value in values]


def _point(grid: Grid, change: dict[GridPoint, Change], where: GridPoint, axis: Floats) -> dict[str, Any]:
    place: dict[str, Any] = {
        "model": grid.models.index(where.model),
        "criterion": grid.criteria.index(where.criterion) if where.criterion else None,
        "sparsity": where.sparsity,
        "arm": page_arms(grid).index(where.arm),
        "attack": where.attack,
    }
    macs = macs_share(grid, where)
    place |= {"macs": [float(f"{macs:.4g}"), percent(macs)] if macs else None}
    if where not in grid.points:
        holes = grid.holes.get(where, ())
        return place | {
            "word": "; ".join(dict.fromkeys(f"{h.kind}: {h.reason}" for h in holes)),
            "grade": "X",
        }
    point = grid.points[where]
    return place | _numbers(grid, point) | _curve(point, axis) | {"left": _left(change[where])}


def _numbers(grid: Grid, point: AttackPoint) -> dict[str, Any]:
    word, clean = no_robustness(point.state), clean_share(point)
    shares = [robust_share(point, budget) for budget in stated_budgets(grid, point.where.attack)]
    network = grid.networks[point.network_grid_point]
    return {
        "grade": point.grade,
        "word": word,
        "n": sample_size(point),
        "images": min(attack.n for attack in point.attacks),
        "test": percent(network.accuracy.mean),
        "clean": _share(clean),
        "over": clean.over,
        "robust": [] if word else [_share(share) if share else None for share in shares],
    }


def _share(share: Share) -> list[Any]:
    numbers: list[Any] = [float(f"{value:.4f}") for value in (share.mean, share.low, share.high)]
    return [*numbers, percent(share.mean), share.interval]


def _curve(point: AttackPoint, axis: Floats) -> dict[str, Any]:
    if no_robustness(point.state):
        return {}
    curve = security_curve(point, axis)
    at = {float(eps): i for i, eps in enumerate(curve.epsilon)}

    def thousandths(values: Floats) -> Sequence[int | None]:
        return [round(1000 * float(values[at[eps]])) if eps in at else None for eps in axis.tolist()]

    return {"curve": [thousandths(values) for values in (curve.mean, curve.low, curve.high)]}


def _left(change: Change) -> list[str]:
    """The distance that is left as the tables say it, and its interval."""
    return [left_text(change.total), left_interval_text(change.total)]
