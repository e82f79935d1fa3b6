"""Which criterion leaves more robustness: the same network, pruned as much by one and by another."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from secateur.report.aggregate import Grid
from secateur.report.paired_tests import HEADS, Difference, adjusted, difference, row
from secateur.report.tables import Column, Table


def criteria(grid: Grid) -> Table:
    """Every later criterion of the study seen from every earlier one, at each grid point that both reached.

    Both networks were fine-tuned alike and attacked on the same images, so fine-tuning is no part of the
    difference. The p-values are adjusted for all rows of the table that can be judged.
    """
    pairs = list(_pairs(grid))
    found = list(adjusted([each for _, each in pairs]))
    rows = [(against, *row(each)) for (against, _), each in zip(pairs, found, strict=True)]
    title = f"{grid.study.name}: criteria against each other, same images"
    return Table("criteria", title, (Column("against", "seen from", "text"), *HEADS), tuple(rows))


def _pairs(grid: Grid) -> Iterator[tuple[str, Difference]]:
    for first, second in combinations(grid.criteria, 2):
        for where, point in grid.points.items():
            if where.criterion != second or replace(where, criterion=first) not in grid.points:
                continue
            before = replace(where, criterion=first)
            networks = [grid.networks[replace(each, attack="")] for each in (before, where)]
            accuracy = networks[0].accuracy.mean, networks[1].accuracy.mean
            budgets = grid.budgets(point.norm)
            yield (
                first,
                difference(where, grid.points[before], point, accuracy=accuracy, budgets=budgets),
            )
