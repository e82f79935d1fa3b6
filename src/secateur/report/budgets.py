"""Accuracy, robust accuracy and multiply-adds at every sparsity, at a budget that the reader chooses."""

from dataclasses import dataclass

from secateur.report.aggregate import Grid, GridPoint, tuned_arms
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, percent
from secateur.report.headline import (
    Budget,
    clean_share,
    leading,
    macs_share,
    quantity,
    robust_share,
    stated,
)
from secateur.report.outcomes import AT_CHANCE, COLLAPSED


@dataclass(frozen=True)
class Cell:
    """Robust accuracy in whole percent at every stated budget.

    Empty where there is no result, and where a word takes its place: ``detail`` then begins with it.
    """

    robust: tuple[int, ...]
    detail: tuple[str, ...]
    grade: str


@dataclass(frozen=True)
class Row:
    """One model and criterion, a cell per column."""

    model: str
    criterion: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Budgets:
    """One attack and arm: the budgets to choose from, and ``start``, the index of the one shown first.

    ``quantity`` is robust accuracy, or target not reached; ``columns`` are the titles of the cells.
    """

    title: str
    quantity: str
    norm: str
    epsilon: tuple[str, ...]
    start: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def budgets(grid: Grid) -> list[Budgets]:
    """A table per attack and arm, at the stated budgets; see :func:`headline.leading` for the first one."""
    found = []
    for attack in grid.attacks:
        choices, first = stated(grid, attack), leading(grid, attack)
        for arm in tuned_arms(grid) if first else ():
            rows = tuple(
                Row(model, criterion, _cells(grid, GridPoint(model, criterion, 0.0, arm, attack), choices))
                for model in grid.models
                for criterion in grid.criteria or ("",)
                if any(where.model == model and where.arm == arm for where in grid.order)
            )
            if rows and first:
                norm = first.norm
                found.append(
                    Budgets(
                        title=f"{attack_label(attack, norm)}, {arm_label(arm)}",
                        quantity=quantity(grid, attack),
                        norm=NORM_LABELS[norm],
                        epsilon=tuple(budget.text for budget in choices),
                        start=choices.index(first),
                        columns=columns(grid, arm),
                        rows=rows,
                    )
                )
    return found


def columns(grid: Grid, arm: str) -> tuple[str, ...]:
    """Titles of a row's cells: the dense network, fine-tuned and not, and every sparsity."""
    pruned = tuple(f"{sparsity:g}" for sparsity in grid.sparsities if sparsity > 0)
    return (*(("dense, tuned", "dense, not tuned") if arm != "none" else ("dense",)), *pruned)


def grid_points(grid: Grid, row: GridPoint) -> tuple[GridPoint, ...]:
    """The grid points of a row's cells, in the order of :func:`columns`; ``row`` names the rest."""
    dense = tuple(dict.fromkeys(GridPoint(row.model, "", 0.0, arm, row.attack) for arm in (row.arm, "none")))
    pruned = (GridPoint(row.model, row.criterion, s, row.arm, row.attack) for s in grid.sparsities if s > 0)
    return (*dense, *pruned)


def _cells(grid: Grid, row: GridPoint, choices: tuple[Budget, ...]) -> tuple[Cell, ...]:
    cells = []
    for where in grid_points(grid, row):
        if where not in grid.points:
            cells.append(Cell((), (), "X" if where in grid.holes else ""))
            continue
        point = grid.points[where]
        shares = [robust_share(point, budget) for budget in choices]
        known = tuple(round(100 * share.mean) for share in shares if share is not None)
        macs = macs_share(grid, where)
        detail = (f"acc. {percent(clean_share(point).mean)}", *((f"MACs {percent(macs)}",) if macs else ()))
        # What a network near chance withstands is no robustness: it says one class to nearly everything.
        word = (point.state,) if point.state in (COLLAPSED, AT_CHANCE) else ()
        shown = known if len(known) == len(choices) and not word else ()
        cells.append(Cell(shown, (*word, *detail), point.grade))
    return tuple(cells)
