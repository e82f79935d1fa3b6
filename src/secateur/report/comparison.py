"""Two studies side by side: the same places of the grid, on the same images, with their uncertainty."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from secateur.errors import UserError
from secateur.report.aggregate import Grid, Place, aggregate
from secateur.report.differences import HEADS, Difference, adjusted, difference, row
from secateur.report.load import load
from secateur.report.tables import Table

GATE = re.compile(r"\s*(median|accuracy)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Comparison:
    """Two studies: what both have, what only one has, and which settings differ."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    only_first: tuple[Place, ...]
    only_second: tuple[Place, ...]
    settings: tuple[tuple[str, str, str], ...]

    @property
    def table(self) -> Table:
        """One row per place, for people and files."""
        title = f"{self.second} against {self.first}: median distances"
        return Table("comparison", title, HEADS, tuple(row(each) for each in self.differences))


def compare(first: Path | str, second: Path | str) -> Comparison:
    """Compare two run folders, place by place and seed by seed; the second is seen from the first.

    Distances are in each attack's own norm, over the images that each network gets right, on images whose
    hashes both studies hold.

    Raises:
        UserError: a folder holds no study, or the two have no place in common.
    """
    before, after = aggregate(load(first)), aggregate(load(second))
    common = [place for place in before.order if place in before.points and place in after.points]
    if not common:
        raise UserError(
            f"'{first}' and '{second}' have no attacked network in common",
            hint="models, criteria, fine-tuning and attacks are matched by their names in the studies",
        )
    return Comparison(
        first=before.study.name,
        second=after.study.name,
        differences=tuple(adjusted([_difference(before, after, place) for place in common])),
        only_first=tuple(place for place in before.points if place not in after.points),
        only_second=tuple(place for place in after.points if place not in before.points),
        settings=tuple(_settings(before, after)),
    )


def violations(comparison: Comparison, limits: Sequence[str]) -> list[str]:
    """Sentences for every place of the second study that breaks a limit; for a gate in CI.

    A limit is ``median<-5%`` (the median may fall by at most 5 % of the first study's) or ``accuracy<-0.01``
    (a hundredth), or the same with ``>``. What cannot be judged, or has no result, breaks every limit.

    Raises:
        UserError: a limit that cannot be read.
    """
    said = []
    for limit in limits:
        match = GATE.fullmatch(limit)
        if not match:
            raise UserError(f"'{limit}' is no limit", hint="for example median<-5% or accuracy<-0.01")
        quantity, sign, number, percent = match.groups()
        bound = float(number) / (100 if percent else 1)
        for each in comparison.differences:
            change = _change(each, quantity, relative=bool(percent))
            if change is None:
                said.append(f"{_words(each.place)}: {quantity} cannot be judged ({each.verdict})")
            elif (change < bound) if sign == "<" else (change > bound):
                shown = f"{100 * change:+.1f} %" if percent else f"{change:+.4g}"
                said.append(f"{_words(each.place)}: {quantity} changed by {shown} ({limit.strip()})")
    missing = comparison.only_first if limits else ()
    return said + [f"{_words(place)}: no result in {comparison.second}" for place in missing]


def _change(each: Difference, quantity: str, *, relative: bool) -> float | None:
    if quantity == "accuracy":
        before, after = each.accuracy
        return (after - before) / before if relative and before else after - before
    if each.paired is None or each.grade in "CX":
        return None
    change = each.paired.ratio - 1 if relative else each.paired.difference
    return None if math.isnan(change) else change


def _difference(first: Grid, second: Grid, place: Place) -> Difference:
    network = replace(place, attack="")
    accuracy = first.networks[network].accuracy.mean, second.networks[network].accuracy.mean
    return difference(place, first.points[place], second.points[place], accuracy)


def _settings(first: Grid, second: Grid) -> Iterator[tuple[str, str, str]]:
    sides = [dict(_flat(grid.study.config)) for grid in (first, second)]
    for key in sorted(sides[0].keys() | sides[1].keys()):
        values = [side.get(key, "not set") for side in sides]
        if values[0] != values[1]:
            yield key, values[0], values[1]


def _flat(value: object, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(value)


def _words(place: Place) -> str:
    pruned = f"{place.criterion} {place.sparsity:g}" if place.criterion else "dense"
    return f"{place.model}, {pruned}, {place.arm}, {place.attack}"
