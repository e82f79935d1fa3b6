"""The coloured tables of the page: robust accuracy, distance left and latency, a tile per network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from secateur.report.aggregate import Grid, GridPoint, dense_of, tuned_arms
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, percent
from secateur.report.latency import latency_and_macs
from secateur.report.paired_changes import Change
from secateur.report.pairing import AT_CHANCE, COLLAPSED
from secateur.report.robustness import (
    Budget,
    attack_points,
    clean_share,
    leading_budget,
    left_percent,
    macs_share,
    models_of,
    overstated,
    quantity,
    robust_share,
    stated_budgets,
)


@dataclass(frozen=True)
class Tile:
    """One network: its number or the word in place of it, lines in small print, and a grade.

    ``shade`` in [0, 1.2] sets the colour; None where colour would mislead. ``curve`` holds robust accuracy in
    whole percent at every stated budget, where the reader can choose one.
    """

    text: str
    details: tuple[str, ...] = ()
    shade: float | None = None
    grade: str = ""
    curve: tuple[int, ...] = ()


@dataclass(frozen=True)
class TileRow:
    """One model and criterion, a tile per column of its table."""

    model: str
    criterion: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class TileTable:
    """A table of tiles. ``quantity``, ``norm``, ``epsilon`` and ``start`` say what the reader can choose.

    ``epsilon`` holds the stated budgets, of which the one at index ``start`` is shown first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[TileRow, ...]
    quantity: str = ""
    norm: str = ""
    epsilon: tuple[str, ...] = ()
    start: int = 0


def robust_tables(grid: Grid) -> list[TileTable]:
    """Robust accuracy at the stated budgets: a table per attack and arm."""
    found = []
    for attack in grid.attacks:
        budgets, first = stated_budgets(grid, attack), leading_budget(grid, attack)
        for arm in tuned_arms(grid) if first else ():
            rows = tuple(
                TileRow(row.model, row.criterion, tuple(_robust_tiles(grid, row, budgets)))
                for row in _rows(grid, arm, attack)
            )
            if rows and first:
                found.append(
                    TileTable(
                        title=f"{attack_label(attack, first.norm)}, {arm_label(arm)}",
                        columns=tuple(_column_titles(grid, arm)),
                        rows=rows,
                        quantity=quantity(grid, attack),
                        norm=NORM_LABELS[first.norm],
                        epsilon=tuple(budget.text for budget in budgets),
                        start=budgets.index(first),
                    )
                )
    return found


def left_tables(grid: Grid, change: dict[GridPoint, Change]) -> list[TileTable]:
    """The distance that is left: a table per minimum-norm attack and arm, without the dense network."""
    found = []
    for attack in grid.attacks:
        points = attack_points(grid, attack)
        # Without a criterion there is no pruned network to compare with its dense one.
        for arm in tuned_arms(grid) if grid.criteria and points and not points[0].fixed else ():
            rows = tuple(
                TileRow(
                    row.model,
                    row.criterion,
                    tuple(_left_tile(grid, change, p) for p in _points_of(grid, row) if p != dense_of(row)),
                )
                for row in _rows(grid, arm, attack)
            )
            if rows:
                title = f"{attack_label(attack, points[0].norm)}, {arm_label(arm)}"
                titles = [t for t in _column_titles(grid, arm) if t not in ("dense", "dense, not tuned")]
                found.append(TileTable(title, tuple(titles), rows))
    return found


def latency_rows(grid: Grid) -> list[TileRow]:
    """Latency as a share of the dense network's, a tile per sparsity; no row without a measurement."""
    rows = []
    for model in grid.models:
        for criterion in grid.criteria or ("",):
            found = [latency_and_macs(grid, model, criterion, sparsity) for sparsity in grid.sparsities]
            if any(found):
                tiles = (
                    Tile(percent(p.latency.share), (f"MACs {percent(p.macs)}",), min(p.latency.share, 1.2))
                    if p
                    else Tile("–")
                    for p in found
                )
                rows.append(TileRow(model, criterion or "dense", tuple(tiles)))
    return rows


def _rows(grid: Grid, arm: str, attack: str) -> Iterator[GridPoint]:
    """A grid point per row, at sparsity 0: models without this arm have none."""
    for model in models_of(grid, arm):
        for criterion in grid.criteria or ("",):
            yield GridPoint(model, criterion, 0.0, arm, attack)


def _column_titles(grid: Grid, arm: str) -> Iterator[str]:
    yield from ("dense, tuned", "dense, not tuned") if arm != "none" else ("dense",)
    yield from (f"{sparsity:g}" for sparsity in grid.sparsities if sparsity > 0)


def _points_of(grid: Grid, row: GridPoint) -> Iterator[GridPoint]:
    """The grid points of a row, in the order of :func:`_column_titles`."""
    yield from dict.fromkeys(GridPoint(row.model, "", 0.0, arm, row.attack) for arm in (row.arm, "none"))
    for sparsity in grid.sparsities:
        if sparsity > 0:
            yield GridPoint(row.model, row.criterion, sparsity, row.arm, row.attack)


def _no_result(grid: Grid, where: GridPoint) -> Tile:
    return Tile("✕", grade="X") if where in grid.holes else Tile("")


def _robust_tiles(grid: Grid, row: GridPoint, budgets: tuple[Budget, ...]) -> Iterator[Tile]:
    # The tile shows one budget; the slider of the page reads the others from ``curve``.
    start = budgets.index(leading_budget(grid, row.attack) or budgets[0])
    for where in _points_of(grid, row):
        if where not in grid.points:
            yield _no_result(grid, where)
            continue
        point = grid.points[where]
        shares = [robust_share(point, budget) for budget in budgets]
        curve = tuple(round(100 * share.mean) for share in shares if share is not None)
        macs = macs_share(grid, where)
        details = (f"acc. {percent(clean_share(point).mean)}", *((f"MACs {percent(macs)}",) if macs else ()))
        # A network near chance predicts one class for nearly everything: that it resists is no robustness.
        if point.state in (COLLAPSED, AT_CHANCE):
            yield Tile("", (point.state, *details), grade=point.grade)
        elif len(curve) < len(budgets):
            yield Tile("", details, grade=point.grade)
        else:
            yield Tile(f"{curve[start]} %", details, curve[start] / 100, point.grade, curve)


def _left_tile(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> Tile:
    if where not in grid.points:
        return _no_result(grid, where)
    against = change[where].total
    if against is None:
        return Tile("–", ("no dense network",), grade=change[where].total_grade)
    accuracy = f"acc. {percent(against.accuracy[1])}"
    if against.share is None:
        return Tile(against.state or "–", (accuracy,), grade=against.grade)
    shade = None if overstated(against) or math.isinf(against.share) else min(against.share, 1.0)
    return Tile(left_percent(against), (f"{against.n} images", accuracy), shade, against.grade)
