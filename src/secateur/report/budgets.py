"""Robust accuracy at a budget that the reader of the page chooses."""

from dataclasses import dataclass

import numpy as np

from secateur.report.aggregate import AttackPoint, Grid, Place, security_curve, tuned_arms
from secateur.report.words import NORM_LABELS, arm_label, attack_label
from secateur.stats import Floats

STEPS = 60


@dataclass(frozen=True)
class Cell:
    """Robust accuracy in whole percent at every budget; empty where there is no result."""

    curve: tuple[int, ...]
    grade: str


@dataclass(frozen=True)
class Row:
    """One model and criterion, a cell per sparsity."""

    model: str
    criterion: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Budgets:
    """One attack and arm: the budgets to choose from, and ``start``, the index of the one shown first."""

    title: str
    norm: str
    epsilon: tuple[str, ...]
    start: int
    rows: tuple[Row, ...]


def budgets(grid: Grid) -> list[Budgets]:
    """A table per attack and arm; the budget shown first is near the dense networks' median distance."""
    found = []
    for attack in grid.attacks:
        points = [point for point in grid.points.values() if point.place.attack == attack]
        epsilon = _epsilon(points)
        for arm in tuned_arms(grid) if epsilon.size else ():
            rows = tuple(
                Row(model, criterion, _cells(grid, Place(model, criterion, 0.0, arm, attack), epsilon))
                for model in grid.models
                for criterion in grid.criteria
                if any(place.model == model and place.arm == arm for place in grid.order)
            )
            norm = points[0].norm
            title = f"{attack_label(attack, norm)}, {arm_label(arm)}"
            said = tuple(f"{value:.3g}" for value in epsilon)
            if rows:
                found.append(Budgets(title, NORM_LABELS[norm], said, _start(points, epsilon), rows))
    return found


def _epsilon(points: list[AttackPoint]) -> Floats:
    """Budgets up to where nearly every network has fallen; empty when no distance is finite."""
    values = [attack.distances[attack.norm] for point in points for attack in point.attacks]
    finite = [value for each in values for value in each[np.isfinite(each)]]
    top = float(np.quantile(finite, 0.97)) if finite else 0.0
    if top == 0:
        return np.zeros(0)
    # Rounded as the page shows them, so that the numbers belong to the budget that is read.
    return np.array([float(f"{value:.3g}") for value in np.linspace(0, top, STEPS + 1)])


def _start(points: list[AttackPoint], epsilon: Floats) -> int:
    medians = [point.median(point.norm).mean for point in points if point.role == "dense"]
    centre = np.mean([value for value in medians if np.isfinite(value)] or [epsilon[-1] / 2])
    return int(np.abs(epsilon - centre).argmin())


def _cells(grid: Grid, row: Place, epsilon: Floats) -> tuple[Cell, ...]:
    cells = []
    for sparsity in grid.sparsities:
        place = Place(row.model, row.criterion if sparsity > 0 else "", sparsity, row.arm, row.attack)
        if place in grid.points:
            point = grid.points[place]
            curve = np.round(100 * security_curve(point, epsilon).mean).astype(int)
            cells.append(Cell(tuple(curve.tolist()), point.grade))
        else:
            cells.append(Cell((), "X" if place in grid.holes else ""))
    return tuple(cells)
