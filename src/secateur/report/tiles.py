"""The coloured tables of the page: robust accuracy, distance left and latency, a tile per network."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from secateur.report.aggregate import AttackPoint, Grid, GridPoint, dense_of, tuned_arms
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, percent, percent_range
from secateur.report.latency import latency_and_macs
from secateur.report.paired_changes import Change
from secateur.report.pairing import no_robustness
from secateur.report.robustness import (
    Budget,
    attack_points,
    clean_share,
    leading_budget,
    left_interval,
    left_percent,
    macs_share,
    models_of,
    overstated,
    quantity,
    robust_share,
)
from secateur.text import counted


@dataclass(frozen=True)
class Tile:
    """One network: its number or the word in place of it, lines in small print, and a grade.

    ``shade`` in [0, 1.2] sets the colour; None where colour would mislead. ``interval`` is the number's.
    ``where`` is the grid point of an attacked network, for the control of the page.
    """

    text: str
    details: tuple[str, ...] = ()
    shade: float | None = None
    grade: str = ""
    interval: str = ""
    where: GridPoint | None = None


@dataclass(frozen=True)
class TileRow:
    """One model and criterion, a tile per column of its table."""

    model: str
    criterion: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class TileTable:
    """Tiles of one attack and arm; ``budget`` is the one shown, ``images`` the usual sample size."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[TileRow, ...]
    attack: str
    arm: str
    quantity: str = ""
    budget: str = ""
    images: str = ""


def robust_tables(grid: Grid, arms: Sequence[str] | None = None) -> list[TileTable]:
    """Robust accuracy at the leading budget: a table per attack and arm (by default the fine-tuned)."""
    found = []
    for attack in grid.attacks:
        first = leading_budget(grid, attack)
        sizes = Counter(sample_size(point) for point in attack_points(grid, attack))
        usual = max(sizes, key=sizes.__getitem__, default="")
        for arm in (arms or tuned_arms(grid)) if first else ():
            rows = tuple(
                TileRow(row.model, row.criterion, tuple(_robust_tiles(grid, row, first, usual)))
                for row in _rows(grid, arm, attack)
            )
            if rows and first:
                found.append(
                    TileTable(
                        title=f"{attack_label(attack, first.norm)}, {arm_label(arm)}",
                        columns=tuple(_column_titles(grid, arm)),
                        rows=rows,
                        attack=attack,
                        arm=arm,
                        quantity=quantity(grid, attack),
                        budget=f"{NORM_LABELS[first.norm]} ≤ {first.text}",
                        images=usual,
                    )
                )
    return found


def sample_size(point: AttackPoint) -> str:
    """What the share of a point is over: "200 images, 3 trainings"."""
    images = counted(min(attack.n for attack in point.attacks), "image")
    return f"{images}, {counted(len(point.attacks), 'training')}"


def left_tables(
    grid: Grid, change: dict[GridPoint, Change], arms: Sequence[str] | None = None
) -> list[TileTable]:
    """The distance that is left: a table per minimum-norm attack and arm, without the dense network."""
    found = []
    for attack in grid.attacks:
        points = attack_points(grid, attack)
        # Without a criterion there is no pruned network to compare with its dense one.
        for arm in (arms or tuned_arms(grid)) if grid.criteria and points and not points[0].fixed else ():
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
                found.append(TileTable(title, tuple(titles), rows, attack, arm))
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
    return Tile("✕", grade="X", where=where) if where in grid.holes else Tile("")


def _robust_tiles(grid: Grid, row: GridPoint, budget: Budget | None, usual: str) -> Iterator[Tile]:
    """A tile says its sample size where it is not the ``usual`` one, which the heading says."""
    for where in _points_of(grid, row):
        if where not in grid.points:
            yield _no_result(grid, where)
            continue
        point = grid.points[where]
        share, macs, word = robust_share(point, budget), macs_share(grid, where), no_robustness(point.state)
        details = [word] if word else []
        details += [f"acc. {percent(clean_share(point).mean)}"]
        details += [f"MACs {percent(macs)}"] if macs else []
        details += [sample_size(point)] if sample_size(point) != usual else []
        if word or share is None:
            yield Tile("", tuple(details), grade=point.grade, where=where)
        else:
            number = percent(share.mean)
            yield Tile(number, tuple(details), share.mean, point.grade, share.interval, where)


def _left_tile(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> Tile:
    if where not in grid.points:
        return _no_result(grid, where)
    against = change[where].total
    if against is None:
        return Tile("–", ("no dense network",), grade=change[where].total_grade, where=where)
    accuracy = f"acc. {percent(against.accuracy[1])}"
    if against.share is None:
        return Tile(against.state or "–", (accuracy,), grade=against.grade, where=where)
    shade = None if overstated(against) or math.isinf(against.share) else min(against.share, 1.0)
    bounds = left_interval(against)
    interval = percent_range(*bounds[:2]) if bounds else ""
    details = (f"{against.n} images", accuracy)
    return Tile(left_percent(against), details, shade, against.grade, interval, where)
