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

from secateur.report.aggregate import AttackPoint, Grid, Place, aggregate, dense_tuned_of
from secateur.report.changes import Change, changes
from secateur.report.criteria import criteria
from secateur.report.intervals import Paired
from secateur.report.load import load

SPARSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)


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
        ("Robustness against sparsity, networks above chance", trend(grid)),
        ("Random seen from L1, on the same images", contest(grid)),
        ("Changed values of the 3072 (median), dense and pruned", touched(grid)),
        ("Over-pruning", bottleneck(grid)),
    ):
        print(f"### {title}\n")
        print("\n".join(lines), end="\n\n")


def networks(grid: Grid) -> Iterator[str]:
    yield from head("model", "fine-tuned", "parameters", "test accuracy by seed")
    for place, point in grid.networks.items():
        if place.sparsity == 0:
            accuracy = ", ".join(f"{100 * value:.1f} %" for value in point.accuracy.values)
            yield row(place.model, place.arm, f"{point.parameters.mean:,.0f}", accuracy)


def tuning(grid: Grid, change: dict[Place, Change]) -> Iterator[str]:
    yield from head("model", "fine-tuned", "attack", "median before", "after", "left", "grade")
    for place in attacked(grid):
        found = change[place].total
        if place.sparsity == 0 and place.arm != "none" and found:
            numbers = f"{found.before:.4g}", f"{found.after:.4g}", share(found)
            yield row(place.model, place.arm, place.attack, *numbers, change[place].total_grade)


def pruning(grid: Grid, change: dict[Place, Change]) -> Iterator[str]:
    yield from head("model", "fine-tuned", "attack", "criterion", *(f"{s:g}" for s in SPARSITIES))
    lines = sorted({replace(p, sparsity=0.0) for p in attacked(grid) if p.criterion and p.arm != "none"})
    for line in lines:
        cells = [_cell(grid, change, replace(line, sparsity=s)) for s in SPARSITIES]
        yield row(line.model, line.arm, line.attack, line.criterion, *cells)


def trend(grid: Grid) -> Iterator[str]:
    """Rank correlation of sparsity and median distance, the dense control included."""
    yield from head("model", "fine-tuned", "attack", "criterion", "sparsities", "rank correlation")
    lines = sorted({replace(p, sparsity=0.0) for p in attacked(grid) if p.criterion and p.arm != "none"})
    for line in lines:
        places = [dense_tuned_of(line), *(replace(line, sparsity=s) for s in grid.sparsities if s)]
        points = [grid.points[p] for p in places if p in grid.points and not collapsed(grid, p)]
        medians = [point.median(point.norm).mean for point in points]
        rank = spearmanr([point.place.sparsity for point in points], medians).statistic
        words = f"{rank:+.2f}" if len(points) > 3 else "too few"
        yield row(line.model, line.arm, line.attack, line.criterion, str(len(points)), words)


def contest(grid: Grid) -> Iterator[str]:
    table = criteria(grid)
    at = {column.key: i for i, column in enumerate(table.heads)}
    verdicts = "random farther", "nearer", "within the noise", "unreliable"
    yield from head("model", "fine-tuned", "attack", *verdicts, "random more accurate", "less accurate")
    rows = [r for r in table.values if r[at["criterion"]] == "random" and not _chance(grid, r, at)]
    rows.sort(key=lambda r: _keys(r, at))
    for key, group in groupby(rows, key=lambda r: _keys(r, at)):
        same = list(group)
        said = Counter(r[at["verdict"]] for r in same)
        gains = [r[at["accuracy_after"]] - r[at["accuracy_before"]] for r in same]
        counts = [said[v] for v in ("farther", "nearer", "within the noise", "unreliable")]
        yield row(
            *key, *map(str, counts), str(sum(g > 0.01 for g in gains)), str(sum(g < -0.01 for g in gains))
        )


def touched(grid: Grid) -> Iterator[str]:
    yield from head("model", "fine-tuned", "attack", "dense", "pruned, least", "pruned, most")
    lines = sorted({dense_tuned_of(p) for p in attacked(grid)})
    for line in lines:
        points = [p for p in grid.points.values() if dense_tuned_of(p.place) == line and p.place.sparsity
                  and not collapsed(grid, p.place)]  # fmt: skip
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
    for place, point in grid.networks.items():
        if place.sparsity >= 0.7 and place.arm != "none":
            numbers = f"{point.parameters.mean:,.0f}", f"{100 * point.accuracy.mean:.1f} %"
            chance = "yes" if point.collapsed else ""
            yield row(place.model, place.arm, place.criterion, f"{place.sparsity:g}", *numbers, chance)


def attacked(grid: Grid) -> list[Place]:
    return list(grid.points)


def collapsed(grid: Grid, place: Place) -> bool:
    return grid.networks[replace(place, attack="")].collapsed


def share(found: Paired) -> str:
    return f"{100 * found.ratio:.0f} % [{100 * found.ratio_low:.0f}, {100 * found.ratio_high:.0f}]"


def head(*titles: str) -> tuple[str, str]:
    return row(*titles), row(*("---" for _ in titles))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(grid: Grid, change: dict[Place, Change], place: Place) -> str:
    point: AttackPoint | None = grid.points.get(place)
    found = change[place].pruning if point else None
    if found is None:
        return ""
    if collapsed(grid, place):
        return "at chance"
    grade = change[place].pruning_grade
    return share(found) + (f" {grade}" if grade in "CX" else "")


def _chance(grid: Grid, values: tuple, at: dict[str, int]) -> bool:
    model, arm, attack = _keys(values, at)
    place = Place(model, "random", values[at["sparsity"]], arm, attack)
    return collapsed(grid, place) and collapsed(grid, replace(place, criterion="l1"))


def _keys(values: tuple, at: dict[str, int]) -> tuple[str, str, str]:
    return values[at["model"]], values[at["arm"]], values[at["attack"]]


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
