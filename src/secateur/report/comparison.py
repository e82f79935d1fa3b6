"""Compare two studies at the grid points they share, on the same images; a gate for CI."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean as mean

from secateur.budgets import written
from secateur.errors import UserError
from secateur.report.aggregate import Grid, GridPoint, aggregate, worst
from secateur.report.formatting import NORM_LABELS, Table, named_columns, network_label, percent
from secateur.report.intervals import Shares
from secateur.report.load import load
from secateur.report.paired_changes import compare_points
from secateur.report.paired_tests import (
    HEADS,
    Difference,
    adjusted,
    detectable,
    difference,
    difference_row,
)
from secateur.report.pairing import AT_CHANCE, COLLAPSED
from secateur.report.robustness import stated_budgets

LIMIT = re.compile(
    r"\s*(median|accuracy|robust(?:@(?:(l0|l1|l2|linf):)?(\d+(?:\.\d+)?)(?:/(\d+))?)?)"
    r"\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*(%?)\s*"
)


@dataclass(frozen=True)
class Limit:
    """A limit of a gate; ``norm`` and ``eps`` are those of ``robust@linf:8/255``, None if not given."""

    quantity: str
    norm: str | None
    eps: float | None
    sign: str
    bound: float
    relative: bool
    text: str


@dataclass(frozen=True)
class Comparison:
    """Two studies: differences at the grid points of both, grid points of one only, settings that differ.

    ``budgets`` holds, by attack, the budgets over which robust accuracy is a mean: "L∞ ≤ 4/255, 8/255".
    ``levels`` and ``bounds`` are those of the first study's images: budgets are written in their units.

    >>> empty = Comparison("before", "after", (), (), (), (("pruning.rates", "l1", "erk"),), {})
    >>> empty.title
    'after against before: 0 common images'
    >>> empty.overview.columns
    ('verdict', 'model', 'pruned', 'tuned', 'attack', 'acc.%', 'robust%', 'left', 'least')
    """

    first: str
    second: str
    differences: tuple[Difference, ...]
    only_first: tuple[GridPoint, ...]
    only_second: tuple[GridPoint, ...]
    settings: tuple[tuple[str, str, str], ...]
    budgets: dict[str, str]
    levels: int | None = None
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def title(self) -> str:
        """The title of the tables."""
        means = "; ".join(f"{attack} {budgets}" for attack, budgets in self.budgets.items())
        robust = f"; robust accuracy is the mean over {means}" if means else ""
        return f"{self.second} against {self.first}: {self.images} common images{robust}"

    @property
    def images(self) -> str:
        """The number of images that both studies attacked: "100", or "80 to 100" over the grid points."""
        overall = [each.against.overall for each in self.differences if each.against]
        counts = sorted({shares.n for shares in overall if shares} or {0})
        return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    @property
    def table(self) -> Table:
        """One row per grid point, with every number."""
        return Table(
            "comparison", self.title, HEADS, tuple(difference_row(each) for each in self.differences)
        )

    @property
    def overview(self) -> Table:
        """The same in few columns, for a terminal of 80 columns.

        ``least`` is the smallest detectable difference: a share of the distance, or for fixed-size attacks
        points of robust accuracy.
        """
        heads = named_columns("verdict model pruned tuned attack acc.% robust% left least")
        return Table("comparison", self.title, heads, tuple(map(_overview_row, self.differences)))


def compare(first: Path | str, second: Path | str) -> Comparison:
    """Compare the second run folder with the first, grid point by grid point and seed by seed.

    Distances are in each attack's own norm, over the images that both networks classify correctly. Robust
    accuracy is over all images whose hashes are in both studies, at the first study's budgets.

    Raises:
        UserError: a folder holds no study, or the two have no attacked grid point in common.

    >>> from tempfile import mkdtemp
    >>> from secateur.errors import UserError
    >>> try:
    ...     compare(mkdtemp(), mkdtemp())
    ... except UserError as error:
    ...     print("error:", error)
    error: ...is not a run folder...
    """
    before, after = aggregate(load(first)), aggregate(load(second))
    common = [where for where in before.order if where in before.points and where in after.points]
    if not common:
        raise UserError(
            f"'{first}' and '{second}' have no attacked network in common",
            hint="models, criteria, fine-tuning and attacks are matched by their names in the studies",
        )
    return Comparison(
        first=before.study.name,
        second=after.study.name,
        differences=tuple(adjusted([_difference(before, after, where) for where in common])),
        only_first=tuple(where for where in before.points if where not in after.points),
        only_second=tuple(where for where in after.points if where not in before.points),
        settings=tuple(_settings(before, after)),
        budgets=dict(_budgets(before, dict.fromkeys(where.attack for where in common))),
        levels=before.study.levels,
        bounds=before.study.bounds,
    )


def violations(comparison: Comparison, limits: Sequence[str]) -> list[str]:
    """One sentence per grid point of the second study that breaks a limit; empty when all limits hold.

    A limit is ``median<-5%`` (the distance left on common images may fall by at most 5 %), ``accuracy<-0.01``
    (a hundredth), ``robust<-0.05`` (robust accuracy at every stated budget), ``robust@8/255<-0.05`` or
    ``robust@l2:0.5<-0.05`` (at that budget), or the same with ``>``. A budget without its norm is for the
    attacks of norm linf, or for the only norm. A grid point that cannot be compared, or has no result, breaks
    every limit.

    Raises:
        UserError: a limit that cannot be read, or a budget for a norm that no attack has.

    >>> lost = GridPoint("plain", "l1", 0.5, "standard", "ddn")
    >>> violations(Comparison("before", "after", (), (lost,), (), (), {}), ["robust<-0.05"])
    ['plain, l1 0.5, standard, ddn: no result in after']
    """
    sentences = []
    for limit in (_parse_limit(text, comparison) for text in limits):
        for each in comparison.differences:
            if limit.norm not in (None, each.norm):
                continue
            change = _change(each, limit)
            if change is None:
                reason = _why_not(each, limit, comparison)
                sentences.append(f"{_label(each.where)}: {limit.quantity} cannot be compared ({reason})")
            elif (change < limit.bound) if limit.sign == "<" else (change > limit.bound):
                shown = f"{100 * change:+.1f} %" if limit.relative else f"{change:+.4g}"
                sentences.append(f"{_label(each.where)}: {limit.quantity} changed by {shown} ({limit.text})")
    missing = comparison.only_first if limits else ()
    return sentences + [f"{_label(where)}: no result in {comparison.second}" for where in missing]


def _budgets(grid: Grid, attacks: Iterable[str]) -> Iterator[tuple[str, str]]:
    for attack in attacks:
        if above := [budget for budget in stated_budgets(grid, attack) if budget.epsilon > 0]:
            yield attack, f"{NORM_LABELS[above[0].norm]} ≤ {', '.join(budget.text for budget in above)}"


def _parse_limit(text: str, comparison: Comparison) -> Limit:
    match = LIMIT.fullmatch(text)
    if not match or (match[4] and float(match[4]) == 0):
        hint = "for example median<-5%, accuracy<-0.01 or robust@8/255<-0.05"
        raise UserError(f"invalid limit '{text}': expected QUANTITY<CHANGE or QUANTITY>CHANGE", hint=hint)
    eps = float(match[3]) / float(match[4] or 1) if match[3] else None
    norms = list(dict.fromkeys(each.norm for each in comparison.differences))
    norm = match[2]
    if eps is not None and norm is None:
        if "linf" not in norms and len(norms) > 1:
            raise UserError(
                f"the limit '{text}' needs the norm of its budget: the attacks have {', '.join(norms)}",
                hint=f"for example robust@{norms[0]}:{match[3]}",
            )
        norm = "linf" if "linf" in norms else norms[0]
    if norm is not None and norm not in norms:
        raise UserError(
            f"the limit '{text}' is for norm {norm}, which no attack has", hint=f"use {', '.join(norms)}"
        )
    return Limit(
        quantity=match[1],
        norm=norm,
        eps=eps,
        sign=match[5],
        bound=float(match[6]) / (100 if match[7] else 1),
        relative=bool(match[7]),
        text=text.strip(),
    )


def _why_not(each: Difference, limit: Limit, comparison: Comparison) -> str:
    """Why the quantity of a limit cannot be compared."""
    if not _judged(each, limit):
        # Too few common images rule out a share of the distance only, not robust accuracy.
        return "unreliable" if each.against and limit.quantity.startswith("robust") else each.verdict
    if limit.quantity == "median":
        return "a fixed-size attack has no distances" if each.before.fixed else "the ratio is undefined"
    units = partial(written, norm=each.norm, levels=comparison.levels, bounds=comparison.bounds)
    return f"this attack tried only {', '.join(map(units, each.before.sizes)) or 'no size'}"


def _judged(each: Difference, limit: Limit) -> bool:
    """Robust accuracy is over all images, so a collapse or few common images do not rule it out."""
    if limit.quantity == "median":
        return each.judged
    return each.against is not None and worst([each.before.checked, each.after.checked]) not in "CX"


def _change(each: Difference, limit: Limit) -> float | None:
    if limit.quantity == "accuracy":
        return _moved(*each.accuracy, relative=limit.relative)
    if each.against is None or not _judged(each, limit):
        return None
    if limit.quantity == "median":
        found = each.against.left
        if found is None:
            return None
        change = found.ratio - 1 if limit.relative else found.after - found.before
        return None if math.isnan(change) else change
    moved = [
        _moved(mean(found.before), mean(found.after), relative=limit.relative)
        for found in _robust(each, limit.eps)
    ]
    return (min if limit.sign == "<" else max)(moved, default=None)


def _overview_row(each: Difference) -> tuple[str, ...]:
    where, against = each.where, each.against
    pruned = network_label(where.criterion, where.sparsity)
    start = (each.verdict, where.model, pruned, "–" if where.arm == "none" else where.arm, where.attack)
    if against is None:
        return (*start, _arrow(*each.accuracy), "–", "–", "–")
    distance, robust = detectable(against)
    least = percent(distance) if against.left else f"{100 * robust:.0f} pt" if robust is not None else "–"
    overall = against.overall
    # A network near chance predicts one class for nearly everything: that it resists is no robustness.
    stated = overall if against.state not in (COLLAPSED, AT_CHANCE) else None
    shares = _arrow(mean(stated.before), mean(stated.after)) if stated else "–"
    return (*start, _arrow(*each.accuracy), shares, percent(against.share), least)


def _arrow(before: float, after: float) -> str:
    return f"{100 * before:.0f}→{100 * after:.0f}"


def _robust(each: Difference, eps: float | None) -> Sequence[Shares]:
    """Robust accuracy at the stated budgets, or at ``eps``."""
    if each.against is None or eps is None:
        return each.against.robust if each.against else ()
    found = compare_points(each.before, each.after, budgets=[eps])
    near = (share for share in found.robust if share.eps is not None) if found else ()
    return [share for share in near if share.eps is not None and math.isclose(share.eps, eps, rel_tol=1e-9)]


def _moved(before: float, after: float, *, relative: bool) -> float:
    return (after - before) / before if relative and before else after - before


def _difference(first: Grid, second: Grid, where: GridPoint) -> Difference:
    network = replace(where, attack="")
    accuracy = first.networks[network].accuracy.mean, second.networks[network].accuracy.mean
    before, after = first.points[where], second.points[where]
    budgets = first.budgets(before.norm)
    return difference(where, before, after, accuracy=accuracy, budgets=budgets)


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


def _label(where: GridPoint) -> str:
    return f"{where.model}, {network_label(where.criterion, where.sparsity)}, {where.arm}, {where.attack}"
