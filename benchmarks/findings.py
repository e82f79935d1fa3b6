"""Tables of docs/findings.md, from the records of a finished study.

    python benchmarks/findings.py RUN_FOLDER > tables.md

What it prints is what the page quotes: nothing in those tables was typed by hand.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np
from scipy.stats import spearmanr

from secateur.budgets import written
from secateur.report.aggregate import (
    AttackPoint,
    Curve,
    Grid,
    GridPoint,
    aggregate,
    dense_tuned_of,
    security_curve,
)
from secateur.report.load import load
from secateur.report.paired_changes import Against, Change, changes
from secateur.report.paired_tests import criteria_table

SPARSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Columns of the tables, where a study has more than these."""
TRAININGS = 3
"""From so many on, a mean has an interval over trainings beside it."""


def main() -> None:
    grid = aggregate(load(sys.argv[1]))
    change = changes(grid)
    for title, lines in (
        ("Networks", networks(grid)),
        ("What fine-tuning alone does to the dense networks", tuning(grid, change)),
        (
            "What pruning alone does, against the dense network after the same fine-tuning",
            pruning(grid, change),
        ),
        ("Robust accuracy, over all images", robust(grid)),
        ("Rank correlation with sparsity, networks above chance", trend(grid, change)),
        ("Random seen from L1, on the same images", contest(grid)),
        ("Changed values of the 3072 (median), dense and pruned", touched(grid)),
        ("Over-pruning", bottleneck(grid)),
    ):
        print(f"### {title}\n")
        print("\n".join(lines), end="\n\n")


def networks(grid: Grid) -> Iterator[str]:
    yield from head("model", "fine-tuned", "parameters", "test accuracy by seed")
    for where, point in grid.networks.items():
        if where.sparsity == 0:
            accuracy = ", ".join(f"{100 * value:.1f} %" for value in point.accuracy.values)
            yield row(where.model, where.arm, f"{point.parameters.mean:,.0f}", accuracy)


def tuning(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[str]:
    titles = "accuracy", "robust accuracy", "left", "images", "grade"
    yield from head("model", "fine-tuned", "attack", *titles)
    for where in attacked(grid):
        found = change[where].total
        if where.sparsity == 0 and where.arm != "none" and found:
            before, after = found.accuracy
            accuracy = f"{100 * before:.1f} → {100 * after:.1f} %"
            numbers = accuracy, moved(found), share(found), str(found.n)
            yield row(where.model, where.arm, where.attack, *numbers, change[where].total_grade)


def pruning(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[str]:
    yield from head("model", "fine-tuned", "attack", "criterion", *(f"{s:g}" for s in shown(grid)))
    for line in lines_of(grid):
        cells = [_cell(grid, change, replace(line, sparsity=s)) for s in shown(grid)]
        yield row(line.model, line.arm, line.attack, line.criterion, *cells)


def shown(grid: Grid) -> list[float]:
    pruned = [sparsity for sparsity in grid.sparsities if sparsity]
    return pruned if len(pruned) <= len(SPARSITIES) else [s for s in SPARSITIES if s in pruned]


def lines_of(grid: Grid) -> list[GridPoint]:
    """A line of the grid per model, arm, attack and criterion, fine-tuned."""
    return sorted({replace(p, sparsity=0.0) for p in attacked(grid) if p.criterion and p.arm != "none"})


def along(grid: Grid, line: GridPoint) -> list[GridPoint]:
    """The grid points of a line that have a result, the dense control first."""
    grid_points = [dense_tuned_of(line), *(replace(line, sparsity=s) for s in grid.sparsities if s)]
    return [where for where in grid_points if where in grid.points]


def robust(grid: Grid) -> Iterator[str]:
    """Accuracy on the attacked images, and robust accuracy at the budgets that mean something, in percent."""
    sparsities = (0.0, *shown(grid))
    yield from head("model", "fine-tuned", "attack", "criterion", "ε", *(f"{s:g}" for s in sparsities))
    for line in lines_of(grid):
        at = {where.sparsity: grid.points[where] for where in along(grid, line)}
        point = next(iter(at.values()))
        budgets = np.array([0.0, *grid.stated(point)])
        curves = {s: security_curve(point, budgets) for s, point in at.items()}
        for i, eps in enumerate(budgets):
            # Where next to nothing resists, a row says nothing about pruning.
            if max(curve.mean[i] for curve in curves.values()) < 0.1:
                continue
            cells = [percentage(at[s], curves[s], i) if s in at else "" for s in sparsities]
            yield row(line.model, line.arm, line.attack, line.criterion, eps_words(grid, point, eps), *cells)


def percentage(point: AttackPoint, curve: Curve, i: int) -> str:
    mean = f"{100 * curve.mean[i]:.1f}"
    if len(point.attacks) < TRAININGS:
        return mean
    return f"{mean} [{100 * curve.low[i]:.0f}, {100 * curve.high[i]:.0f}]"


def trend(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[str]:
    """Rank correlation of sparsity with robust accuracy, and with the distance left where one is stated."""
    titles = "ε", "sparsities", "robust accuracy", "distance left", "own images' median"
    yield from head("model", "fine-tuned", "attack", "criterion", *titles)
    for line in lines_of(grid):
        grid_points = [where for where in along(grid, line) if not collapsed(grid, where)]
        points = [grid.points[where] for where in grid_points]
        shares = {
            p: found.share for p in grid_points if (found := change[p].pruning) and found.share is not None
        }
        left = correlation(list(shares), list(shares.values()))
        medians = correlation(grid_points, [point.median(point.norm).mean for point in points])
        for eps in grid.stated(points[0]):
            at_eps = [float(security_curve(point, np.array([eps])).mean[0]) for point in points]
            # Where next to nothing resists, ranks are those of single images.
            if max(at_eps) >= 0.1:
                ranks = correlation(grid_points, at_eps), left, medians
                where = line.model, line.arm, line.attack, line.criterion, eps_words(grid, points[0], eps)
                yield row(*where, str(len(points)), *ranks)


def correlation(grid_points: list[GridPoint], values: list[float]) -> str:
    if len(grid_points) <= 3:
        return "too few"
    return f"{spearmanr([where.sparsity for where in grid_points], values).statistic:+.2f}"


def eps_words(grid: Grid, point: AttackPoint, eps: float) -> str:
    # Studies of older versions do not say how many grey levels their images have.
    levels = grid.study.levels or 256
    return "clean" if eps == 0 else written(eps, point.norm, levels=levels, bounds=grid.study.bounds)


def contest(grid: Grid) -> Iterator[str]:
    table = criteria_table(grid)
    at = {column.key: i for i, column in enumerate(table.heads)}
    verdicts = "random better", "worse", "equivalent", "undecided", "not judged"
    yield from head("model", "fine-tuned", "attack", *verdicts, "random more accurate", "less accurate")
    rows = [r for r in table.values if r[at["criterion"]] == "random" and not _chance(grid, r, at)]
    rows.sort(key=lambda r: _keys(r, at))
    for key, group in groupby(rows, key=lambda r: _keys(r, at)):
        same = list(group)
        said = Counter(r[at["verdict"]] for r in same)
        gains = [r[at["accuracy_after"]] - r[at["accuracy_before"]] for r in same]
        counts = [said[v] for v in ("better", "worse", "equivalent", "undecided")]
        counts.append(len(same) - sum(counts))
        yield row(
            *key, *map(str, counts), str(sum(g > 0.01 for g in gains)), str(sum(g < -0.01 for g in gains))
        )


def touched(grid: Grid) -> Iterator[str]:
    yield from head("model", "fine-tuned", "attack", "dense", "pruned, least", "pruned, most")
    lines = sorted({dense_tuned_of(p) for p in attacked(grid)})
    for line in lines:
        points = [p for p in grid.points.values() if dense_tuned_of(p.where) == line and p.where.sparsity
                  and not collapsed(grid, p.where)]  # fmt: skip
        if line in grid.points and points:
            pruned = [point.median("l0").mean for point in points]
            dense = grid.points[line].median("l0").mean
            yield row(
                line.model, line.arm, line.attack, f"{dense:.0f}", f"{min(pruned):.0f}", f"{max(pruned):.0f}"
            )


def bottleneck(grid: Grid) -> Iterator[str]:
    yield from head(
        "model", "fine-tuned", "criterion", "sparsity", "parameters", "test accuracy", "at chance"
    )
    for where, point in grid.networks.items():
        if where.sparsity >= 0.7 and where.arm != "none":
            numbers = f"{point.parameters.mean:,.0f}", f"{100 * point.accuracy.mean:.1f} %"
            chance = "yes" if point.collapsed else ""
            yield row(where.model, where.arm, where.criterion, f"{where.sparsity:g}", *numbers, chance)


def attacked(grid: Grid) -> list[GridPoint]:
    return list(grid.points)


def collapsed(grid: Grid, where: GridPoint) -> bool:
    return grid.networks[replace(where, attack="")].collapsed


def share(found: Against) -> str:
    """The distance left on common images with its interval, or why there is none."""
    if found.share is None:
        return found.state or "undefined"
    low, high = found.interval or (np.nan, np.nan)
    return f"{100 * found.share:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def moved(found: Against) -> str:
    """The mean robust accuracy over the stated budgets, before and after."""
    if found.overall is None:
        return ""
    before, after = np.mean(found.overall.before), np.mean(found.overall.after)
    return f"{100 * before:.1f} → {100 * after:.1f} %"


def head(*titles: str) -> tuple[str, str]:
    return row(*titles), row(*("---" for _ in titles))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> str:
    """The distance left, its images, and accuracy beside it: the one means little without the other."""
    found = change[where].pruning if where in grid.points else None
    if found is None:
        return ""
    images = "" if found.share is None else f" (n {found.n})"
    return f"{share(found)}{images}; acc. {100 * found.accuracy[1]:.0f} %"


def _chance(grid: Grid, values: tuple, at: dict[str, int]) -> bool:
    model, arm, attack = _keys(values, at)
    where = GridPoint(model, "random", values[at["sparsity"]], arm, attack)
    return collapsed(grid, where) and collapsed(grid, replace(where, criterion="l1"))


def _keys(values: tuple, at: dict[str, int]) -> tuple[str, str, str]:
    return values[at["model"]], values[at["arm"]], values[at["attack"]]


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
