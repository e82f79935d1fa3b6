"""The results in few columns, for a terminal."""

import math
from collections.abc import Iterator
from dataclasses import replace

from secateur.report.aggregate import Grid, Place, tuned_arms
from secateur.report.changes import Change
from secateur.report.tables import Column, Table, Value
from secateur.report.words import attack_label, number


def overview_table(grid: Grid, change: dict[Place, Change]) -> Table:
    """One row per network that the study is about, controls first; one column per attack.

    Pruned networks without fine-tuning are left out where there are fine-tuned ones.
    """
    heads = (
        Column("model", "model", "text"),
        Column("criterion", "pruned", "text"),
        Column("sparsity", "sparsity", "plain"),
        Column("arm", "tuned", "text"),
        Column("accuracy", "acc.", "percent"),
        Column("macs", "MACs", "count"),
        *(Column(attack, _title(grid, attack), "text") for attack in grid.attacks),
    )
    title = f"{grid.study.name}: median distance, share of the dense network's, grade; found if not all"
    if grid.study.limited:
        title += f" (partial: {grid.study.limited} images)"
    return Table("overview", title, heads, tuple(_row(grid, change, place) for place in _shown(grid)))


def _title(grid: Grid, attack: str) -> str:
    norms = {point.norm for point in grid.points.values() if point.place.attack == attack}
    return attack_label(attack, norms.pop()) if norms else attack


def _shown(grid: Grid) -> Iterator[Place]:
    if not grid.points:
        return
    arms = tuned_arms(grid)
    for place in dict.fromkeys(replace(p, attack="") for p in grid.order if p.attack):
        if place.sparsity == 0 or place.arm in arms:
            yield place


def _row(grid: Grid, change: dict[Place, Change], place: Place) -> tuple[Value, ...]:
    network = grid.networks.get(place)
    return (
        place.model,
        place.criterion or "dense",
        place.sparsity,
        "–" if place.arm == "none" else place.arm,
        network.accuracy.mean if network else None,
        network.macs.mean if network else None,
        *(_attacked(grid, change, replace(place, attack=attack)) for attack in grid.attacks),
    )


def _attacked(grid: Grid, change: dict[Place, Change], place: Place) -> str:
    if place not in grid.points:
        return f"X {grid.holes[place][0].kind}" if place in grid.holes else "–"
    point, total = grid.points[place], change[place].total
    hits = sum(int(attack.found.sum()) for attack in point.attacks)
    attacked = sum(int((~attack.already_wrong).sum()) for attack in point.attacks)
    # Without the space before the sign: at 80 columns every character counts.
    share = total.share if total else None
    left = f" {100 * share:.0f}%" if share is not None and math.isfinite(share) else ""
    if total and total.state and total.state != "unreliable":
        left = f" {total.state}"
    missed = "" if hits == attacked else f" {hits}/{attacked}"
    return f"{number(point.median(point.norm).mean)}{left} {point.grade}{missed}"
