"""Two studies side by side: the same places of the grid, on the same images, with their uncertainty."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import bdtr

from secateur.errors import UserError
from secateur.report.aggregate import AttackPoint, Grid, Place, aggregate, worst
from secateur.report.changes import compare_attacks, on_images, shared_images
from secateur.report.intervals import Paired
from secateur.report.load import load
from secateur.report.rows import Attack
from secateur.report.tables import Column, Table, Value

LEVEL = 0.05
GATE = re.compile(r"\s*(median|accuracy)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Difference:
    """One place in both studies; ``paired`` is None when they attacked no image in common.

    ``p`` is the exact two-sided sign test over images, adjusted for all places of the comparison (Holm 1979).
    """

    place: Place
    norm: str
    paired: Paired | None
    seeds: int
    accuracy: tuple[float, float]
    grade: str
    p: float

    @property
    def verdict(self) -> str:
        """What may be said: farther, nearer, within the noise, or why nothing may be said."""
        if self.paired is None:
            return "other images"
        if self.grade in "CX":
            return "unreliable"
        low, high = self.paired.difference_low, self.paired.difference_high
        if self.p < LEVEL and low > 0:
            return "farther"
        return "nearer" if self.p < LEVEL and high < 0 else "within the noise"


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
        return Table("comparison", title, _HEADS, tuple(_row(each) for each in self.differences))


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
        differences=tuple(_adjusted([_difference(before, after, place) for place in common])),
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
    return None if np.isnan(change) else change


def _difference(first: Grid, second: Grid, place: Place) -> Difference:
    before, after = first.points[place], second.points[place]
    pairs = _pairs(before, after)
    same = before.norm == after.norm
    network = replace(place, attack="")
    return Difference(
        place=place,
        norm=before.norm,
        paired=compare_attacks(pairs, norm=before.norm) if same else None,
        seeds=len(pairs),
        accuracy=(first.networks[network].accuracy.mean, second.networks[network].accuracy.mean),
        grade=worst([before.grade, after.grade]),
        p=_sign_test(pairs, before.norm) if same else 1.0,
    )


def _pairs(before: AttackPoint, after: AttackPoint) -> list[tuple[Attack, Attack]]:
    by_seed = {attack.axes.seed: attack for attack in before.attacks}
    return [(by_seed[a.axes.seed], a) for a in after.attacks if a.axes.seed in by_seed]


def _sign_test(pairs: Sequence[tuple[Attack, Attack]], norm: str) -> float:
    """Two-sided sign test over images that both get right; a seed's vote counts once per image."""
    images = shared_images(pairs)
    if not images:
        return 1.0
    votes = np.zeros(len(images))
    for before, after in pairs:
        a, b = (on_images(attack, images, norm, "correct") for attack in (before, after))
        votes += np.nan_to_num((b > a).astype(float) - (b < a).astype(float))
    farther, nearer = int((votes > 0).sum()), int((votes < 0).sum())
    return min(2 * float(bdtr(min(farther, nearer), farther + nearer, 0.5)), 1.0)


def _adjusted(differences: list[Difference]) -> Iterator[Difference]:
    """Holm's step-down adjustment over all places, in the order given."""
    ranked = sorted(range(len(differences)), key=lambda i: differences[i].p)
    adjusted, highest = [1.0] * len(differences), 0.0
    for rank, i in enumerate(ranked):
        highest = max(highest, min((len(ranked) - rank) * differences[i].p, 1.0))
        adjusted[i] = highest
    for each, p in zip(differences, adjusted, strict=True):
        yield replace(each, p=p)


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


_HEADS = (
    Column("model", "model", "text"),
    Column("criterion", "pruned", "text"),
    Column("sparsity", "sparsity", "plain"),
    Column("arm", "tuned", "text"),
    Column("attack", "attack", "text"),
    Column("verdict", "verdict", "text"),
    Column("grade", "grade", "text"),
    Column("norm", "norm", "text"),
    Column("images", "images", "plain"),
    Column("seeds", "seeds", "plain"),
    Column("before", "before"),
    Column("after", "after"),
    Column("ratio", "share", "percent"),
    Column("ratio_low", "low", "percent"),
    Column("ratio_high", "high", "percent"),
    Column("accuracy_before", "accuracy before", "percent"),
    Column("accuracy_after", "accuracy after", "percent"),
    Column("p", "p (Holm)"),
)


def _row(each: Difference) -> tuple[Value, ...]:
    place, found = each.place, each.paired
    numbers: tuple[Value, ...] = (None,) * 5
    if found is not None:
        numbers = found.before, found.after, found.ratio, found.ratio_low, found.ratio_high
    return (
        *(place.model, place.criterion, place.sparsity, place.arm, place.attack),
        *(each.verdict, each.grade, each.norm),
        found.n if found else 0,
        each.seeds,
        *numbers,
        *each.accuracy,
        each.p,
    )
