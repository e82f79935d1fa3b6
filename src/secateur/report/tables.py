"""Tables: what the figures show, as numbers, for people, spreadsheets and papers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from secateur.report.aggregate import AttackPoint, Grid, Place, distances, security_curve
from secateur.report.changes import Change
from secateur.report.intervals import Paired
from secateur.report.rows import NORMS, Hole
from secateur.report.words import number, percent, plain, short
from secateur.stats import median, median_interval, wilson

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


_PLACE = (
    _text("model"),
    _text("robust"),
    _text("criterion"),
    _plain("sparsity"),
    _text("arm", "fine-tuning"),
    _text("role"),
)
_SUMMARY = (
    *_PLACE,
    _text("attack"),
    _text("norm"),
    _text("grade"),
    _plain("seeds"),
    _plain("seeds_planned", "seeds planned"),
    _plain("images"),
    Column("test_accuracy", "accuracy", "percent"),
    Column("parameters", "parameters", "count"),
    Column("macs", "MACs", "count"),
    _plain("correct", "attacked"),
    _plain("found"),
    Column("asr", "found rate", "percent"),
    Column("asr_low", "found rate, low", "percent"),
    Column("asr_high", "found rate, high", "percent"),
    *(Column(f"median_correct_{norm}", f"median {norm}") for norm in NORMS),
    Column("median", "median"),
    Column("median_low", "median, low"),
    Column("median_high", "median, high"),
    Column("median_all", "median, all images"),
    Column("left", "left of dense", "percent"),
    Column("left_low", "left of dense, low", "percent"),
    Column("left_high", "left of dense, high", "percent"),
    Column("left_of_tuned", "left of dense, equally fine-tuned", "percent"),
    Column("left_of_tuned_low", "left of dense, equally fine-tuned, low", "percent"),
    Column("left_of_tuned_high", "left of dense, equally fine-tuned, high", "percent"),
    Column("difference_to_tuned", "minus dense, equally fine-tuned"),
    Column("difference_to_tuned_low", "minus dense, equally fine-tuned, low"),
    Column("difference_to_tuned_high", "minus dense, equally fine-tuned, high"),
    Column("forwards", "forwards"),
    Column("backwards", "backwards"),
    _text("reasons", "remarks"),
)


def summary(grid: Grid, change: dict[Place, Change]) -> Table:
    """One row per attacked place, over its seeds; a place without any result has a row of grade X."""
    places = [place for place in grid.order if place.attack]
    rows = tuple(
        _summary_row(grid, grid.points[place], change[place])
        if place in grid.points
        else _hole_row(grid, place)
        for place in places
    )
    return Table("summary", f"{grid.study.name}: median distances", _SUMMARY, rows)


def _summary_row(grid: Grid, point: AttackPoint, change: Change) -> tuple[Value, ...]:
    attacks, norm = point.attacks, point.norm
    own, everything = point.median(norm), point.median(norm, "all")
    found = sum(int(attack.found.sum()) for attack in attacks)
    correct = sum(int((~attack.already_wrong).sum()) for attack in attacks)
    total, pruning = change.total, change.pruning
    network = grid.networks[point.network_place]
    return (
        *_place_values(grid, point.place),
        point.role,
        point.place.attack,
        norm,
        point.grade,
        len(attacks),
        point.planned_seeds,
        min(attack.n for attack in attacks),
        network.accuracy.mean,
        network.parameters.mean,
        network.macs.mean,
        correct,
        found,
        found / correct if correct else None,
        *_found_interval(found, correct, len(attacks)),
        *(point.median(each).mean for each in NORMS),
        own.mean,
        own.low,
        own.high,
        everything.mean,
        *_ratio(total),
        *_ratio(pruning),
        *((pruning.difference, pruning.difference_low, pruning.difference_high) if pruning else (None,) * 3),
        float(np.mean([attack.forwards for attack in attacks])),
        float(np.mean([attack.backwards for attack in attacks])),
        "; ".join(point.reasons),
    )


def _found_interval(found: int, correct: int, seeds: int) -> tuple[Value, ...]:
    if not correct:
        return None, None
    # The seeds share their images: together they are no larger a sample of images than one of them.
    return wilson(found / seeds, correct / seeds)


def _ratio(change: Paired | None) -> tuple[Value, ...]:
    return (change.ratio, change.ratio_low, change.ratio_high) if change else (None, None, None)


def _hole_row(grid: Grid, place: Place) -> tuple[Value, ...]:
    holes = grid.holes[place]
    known = {
        **dict(zip((head.key for head in _PLACE), _place_values(grid, place), strict=False)),
        "role": holes[0].role,
        "attack": place.attack,
        "grade": "X",
        "seeds": 0,
        "seeds_planned": len(holes),
        "reasons": "; ".join(dict.fromkeys(hole.reason for hole in holes)),
    }
    return tuple(known.get(head.key) for head in _SUMMARY)


def _place_values(grid: Grid, place: Place) -> tuple[Value, ...]:
    robust = "yes" if grid.robust.get(place.model) else "no"
    return place.model, robust, place.criterion, place.sparsity, place.arm


def per_seed(grid: Grid) -> Table:
    """One row per attacked network, every seed by itself; the interval is over its images."""
    heads = (
        *_PLACE[:1], _plain("seed"), *_PLACE[2:], _text("attack"),
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
            *(median(distances(attack, norm, "correct")) for norm in NORMS),
            *(median(distances(attack, norm, "all")) for norm in NORMS),
            *median_interval(distances(attack, attack.norm, "correct")),
            attack.id, attack.network.weights_hash,
        ))  # fmt: skip
    return Table("per_seed", f"{grid.study.name}: every attacked network", heads, tuple(rows))


def networks(grid: Grid) -> Table:
    """One row per network and seed: what it costs and how accurate it is."""
    heads = (
        *_PLACE[:1], _plain("seed"), *_PLACE[2:], _plain("sparsity_achieved", "achieved"),
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
    """Robust accuracy at evenly spaced budgets up to the farthest finite distance of each place."""
    heads = (
        *_PLACE[:1], *_PLACE[2:5], _text("attack"), _text("norm"),
        Column("epsilon", "ε"), Column("robust_accuracy", "robust accuracy", "percent"),
        Column("low", "low", "percent"), Column("high", "high", "percent"), _text("grade"),
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = []
    for place, point in grid.points.items():
        values = np.concatenate([attack.distances[point.norm] for attack in point.attacks])
        top = float(values[np.isfinite(values)].max(initial=0.0))
        curve = security_curve(point, np.linspace(0, top or 1.0, steps + 1))
        for epsilon, mean, low, high in zip(curve.epsilon, curve.mean, curve.low, curve.high, strict=True):
            rows.append((
                place.model, place.criterion, place.sparsity, place.arm, place.attack, point.norm,
                float(epsilon), float(mean), float(low), float(high), point.grade,
            ))  # fmt: skip
    return Table("security_curves", f"{grid.study.name}: security curves", heads, tuple(rows))


def holes(grid: Grid) -> Table:
    """One row per cell without a usable result."""
    heads = (
        _text("stage"), *_PLACE[:1], _plain("seed"), *_PLACE[2:5],
        _text("attack"), _text("kind"),
        _text("reason"), _text("cell"),
    )  # fmt: skip
    return Table(
        "holes", f"{grid.study.name}: without result", heads, tuple(_hole_values(h) for h in grid.study.holes)
    )


def _hole_values(hole: Hole) -> tuple[Value, ...]:
    axes = hole.axes
    place = (axes.model, axes.seed, axes.criterion or "", axes.sparsity, axes.arm, axes.attack or "")
    return hole.stage, *place, hole.kind, hole.reason, hole.id
