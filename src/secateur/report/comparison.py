"""Compare two studies at the grid points they share, on the same images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean as mean

from secateur.errors import UserError
from secateur.report.aggregate import Grid, GridPoint, aggregate
from secateur.report.formatting import NORM_LABELS, Table, named_columns, network_label, percent
from secateur.report.load import load
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


def _budgets(grid: Grid, attacks: Iterable[str]) -> Iterator[tuple[str, str]]:
    for attack in attacks:
        if above := [budget for budget in stated_budgets(grid, attack) if budget.epsilon > 0]:
            yield attack, f"{NORM_LABELS[above[0].norm]} ≤ {', '.join(budget.text for budget in above)}"


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
