"""Tables: what the figures show, as numbers, for people, spreadsheets and papers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from secateur.report.aggregate import Grid, GridPoint, distances, security_curve
from secateur.report.formatting import number, percent, plain, short
from secateur.report.headline import stated
from secateur.report.records import NORMS, Attack, Hole
from secateur.stats import median, median_interval

Value = str | float | None
Format = Literal["text", "number", "count", "percent", "plain"]
_WORDS: dict[Format, Callable[[float], str]] = {
    "number": number,
    "count": short,
    "percent": percent,
    "plain": plain,
}


@dataclass(frozen=True)
class Column:
    """A column: its key in files, its title for people, and how its numbers are written for them."""

    key: str
    title: str
    format: Format = "number"


@dataclass(frozen=True)
class Table:
    """A table of values; ``columns`` and ``rows`` are its text for people."""

    name: str
    title: str
    heads: tuple[Column, ...]
    values: tuple[tuple[Value, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(head.title for head in self.heads)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Every value as text."""
        return tuple(
            tuple(written(value, head.format) for value, head in zip(row, self.heads, strict=True))
            for row in self.values
        )

    def pick(self, name: str, title: str, keys: Sequence[str]) -> "Table":
        """Some of the columns, in the order of ``keys``."""
        at = [[head.key for head in self.heads].index(key) for key in keys]
        heads = tuple(self.heads[i] for i in at)
        return Table(name, title, heads, tuple(tuple(row[i] for i in at) for row in self.values))

    def beside(self, key: str, heads: Sequence[Column], values: Sequence[tuple[Value, ...]]) -> "Table":
        """With more columns after the one called ``key``."""
        at = [head.key for head in self.heads].index(key) + 1
        rows = zip(self.values, values, strict=True)
        wider = (*self.heads[:at], *heads, *self.heads[at:])
        return replace(self, heads=wider, values=tuple((*own[:at], *new, *own[at:]) for own, new in rows))


def written(value: Value, form: Format) -> str:
    """A value for people; "–" where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else _WORDS[form](value)


def _text(key: str, title: str = "") -> Column:
    return Column(key, title or key, "text")


def _plain(key: str, title: str = "") -> Column:
    return Column(key, title or key, "plain")


GRID_POINT = (
    _text("model"),
    _text("robust"),
    _text("criterion"),
    _plain("sparsity"),
    _text("arm", "fine-tuning"),
)
"""Columns that name a grid point; see :func:`grid_point_values`."""


def grid_point_values(grid: Grid, where: GridPoint) -> tuple[Value, ...]:
    """The values of a grid point under ``GRID_POINT``."""
    robust = "yes" if grid.robust.get(where.model) else "no"
    return where.model, robust, where.criterion, where.sparsity, where.arm


def per_seed(grid: Grid) -> Table:
    """One row per attacked network, every seed by itself; the interval is over its images."""
    heads = (
        *GRID_POINT[:1], _plain("seed"), *GRID_POINT[2:], _text("role"), _text("attack"),
        _text("norm"), _text("grade"), _plain("images"),
        _plain("already_wrong", "already wrong"), _plain("found"), _plain("not_found", "not found"),
        *(Column(f"median_correct_{norm}", f"median {norm}") for norm in NORMS),
        *(Column(f"median_all_{norm}", f"median {norm}, all images") for norm in NORMS),
        Column("median_low", "median, low"), Column("median_high", "median, high"),
        _text("cell"), _text("weights_hash", "weights"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for attack in grid.study.attacks:
        axes, wrong = attack.axes, int(attack.already_wrong.sum())
        rows.append((
            axes.model, axes.seed, axes.criterion or "", axes.sparsity, axes.arm, attack.role, attack.name,
            attack.norm, attack.grade, attack.n, wrong, int(attack.found.sum()),
            attack.n - wrong - int(attack.found.sum()),
            *_medians(attack),
            attack.id, attack.network.weights_hash,
        ))  # fmt: skip
    return Table("per_seed", f"{grid.study.name}: every attacked network", heads, tuple(rows))


def _medians(attack: Attack) -> tuple[Value, ...]:
    if attack.fixed:  # its examples are as large as it was told to make them
        return (None,) * (2 * len(NORMS) + 2)
    return (
        *(median(distances(attack, norm, "correct")) for norm in NORMS),
        *(median(distances(attack, norm, "all")) for norm in NORMS),
        *median_interval(distances(attack, attack.norm, "correct")),
    )


def networks(grid: Grid) -> Table:
    """One row per network and seed: what it costs and how accurate it is."""
    heads = (
        *GRID_POINT[:1], _plain("seed"), *GRID_POINT[2:], _text("role"),
        _plain("sparsity_achieved", "achieved"),
        Column("parameters", "parameters", "count"), Column("macs", "MACs", "count"),
        *(Column(f"{split}_accuracy", f"{split} accuracy", "percent")
          for split in ("train", "validation", "test")),
        _plain("best_epoch", "best epoch"), _text("collapsed"),
        _text("weights_hash", "weights"), _text("cell"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = [
        (
            row.axes.model, row.axes.seed, row.axes.criterion or "", row.axes.sparsity, row.axes.arm,
            row.role, row.sparsity_achieved, row.parameters, row.macs,
            *(row.accuracy.get(split) for split in ("train", "validation", "test")),
            row.best_epoch, "yes" if row.collapsed else "no", row.weights_hash, row.id,
        )
        for row in grid.study.networks
    ]  # fmt: skip
    return Table("networks", f"{grid.study.name}: networks", heads, tuple(rows))


def security_curves(grid: Grid, *, steps: int = 60) -> Table:
    """Robust accuracy at the stated budgets, and evenly up to each grid point's farthest finite distance.

    Of an attack of fixed size only the sizes that it tried.
    """
    heads = (
        *GRID_POINT[:1], *GRID_POINT[2:5], _text("attack"), _text("norm"),
        Column("epsilon", "ε"), _text("stated"), Column("robust_accuracy", "robust accuracy", "percent"),
        Column("low", "low", "percent"), Column("high", "high", "percent"), _text("grade"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for where, point in grid.points.items():
        chosen = [budget.epsilon for budget in stated(grid, where.attack)]
        values = np.concatenate([attack.distances[point.norm] for attack in point.attacks])
        top = float(values[np.isfinite(values)].max(initial=0.0))
        even = [] if point.fixed else np.linspace(0, top or 1.0, steps + 1).tolist()
        curve = security_curve(point, np.array(sorted({*even, *chosen})))
        for epsilon, mean, low, high in zip(curve.epsilon, curve.mean, curve.low, curve.high, strict=True):
            rows.append((
                where.model, where.criterion, where.sparsity, where.arm, where.attack, point.norm,
                float(epsilon), "yes" if float(epsilon) in chosen else "no", float(mean), float(low),
                float(high), point.grade,
            ))  # fmt: skip
    return Table("security_curves", f"{grid.study.name}: security curves", heads, tuple(rows))


def holes(grid: Grid) -> Table:
    """One row per cell without a usable result."""
    heads = (
        _text("stage"), *GRID_POINT[:1], _plain("seed"), *GRID_POINT[2:5],
        _text("attack"), _text("kind"),
        _text("reason"), _text("cell"),
    )  # fmt: skip
    return Table(
        "holes", f"{grid.study.name}: without result", heads, tuple(_hole_values(h) for h in grid.study.holes)
    )


def _hole_values(hole: Hole) -> tuple[Value, ...]:
    axes = hole.axes
    where = (axes.model, axes.seed, axes.criterion or "", axes.sparsity, axes.arm, axes.attack or "")
    return hole.stage, *where, hole.kind, hole.reason, hole.id
