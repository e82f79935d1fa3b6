"""The two tables of the page in eight columns, and the rest of each row on demand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.report.aggregate import Grid, GridPoint
from secateur.report.formatting import (
    PERCENT,
    Format,
    Table,
    Value,
    arm_label,
    network_label,
    number,
    percent,
    percent_range,
    value_text,
)
from secateur.report.linked import point_numbers
from secateur.report.paired_changes import Against, Change
from secateur.report.paired_tests import Difference, criteria_differences
from secateur.report.pairing import no_robustness
from secateur.report.robustness import (
    ROBUST,
    budget_label,
    leading_budget,
    left_interval,
    left_percent,
    macs_share,
    quantity,
    robust_share,
    share_text,
)
from secateur.report.summary import attacked_points

NARROW = ("model", "network", "attack", "accuracy", "robust accuracy [95 %], images", "MACs left",
          "distance left [95 %], common images", "grade")  # fmt: skip
CRITERIA = ("model", "network", "compared with", "attack", "robust accuracy [change, points]",
            "share of the other's distance [95 %], common images", "p (Holm)", "verdict")  # fmt: skip
MORE = (
    "parameters", "macs", "latency_share", "clean_accuracy", "images", "trainings", "interval_over",
    "left_of_tuned", "left_of_tuned_low", "left_of_tuned_high", "median", "median_low", "median_high",
    "correct", "found",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A cell of a table: its text, the number to sort it by ("" for none, None for a text), its role."""

    text: str
    key: str | None = None
    role: str = ""


@dataclass(frozen=True)
class Row:
    """A row: eight cells, those shown on demand, its grade, and its number in the data of the page."""

    entries: tuple[Entry, ...]
    more: tuple[Entry, ...]
    grade: str
    at: int


@dataclass(frozen=True)
class PageTable:
    """A table of the page: titles of the eight columns and of the others, and its rows."""

    columns: tuple[str, ...]
    more: tuple[str, ...]
    rows: tuple[Row, ...]


def result_table(grid: Grid, change: dict[GridPoint, Change], summary: Table) -> PageTable:
    """One row per attacked network, in the order of ``summary``, which has the values shown on demand."""
    keys = {head.key for head in summary.heads}
    rest = summary.select([key for key in MORE if key in keys])
    numbers = point_numbers(grid)
    rows = []
    for where, values in zip(attacked_points(grid), rest.values, strict=True):
        entries = tuple(_entries(grid, change, where))
        fixed = where in grid.points and grid.points[where].fixed
        # What a fixed-size attack found depends on the budget, which the reader chooses.
        more = tuple(
            table_entry(None if fixed and head.key in ("found", "correct") else value, head.format)
            for value, head in zip(values, rest.heads, strict=True)
        )
        grade = grid.points[where].grade if where in grid.points else "X"
        rows.append(Row(entries, more, grade, numbers[where]))
    return PageTable(NARROW, rest.columns, tuple(rows))


def _entries(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> Sequence[Entry]:
    network = grid.networks.get(GridPoint(where.model, where.criterion, where.sparsity, where.arm))
    budget, macs = leading_budget(grid, where.attack), macs_share(grid, where)
    tuned = "" if where.arm == "none" else f", {arm_label(where.arm)}"
    start = (
        Entry(where.model),
        Entry(f"{network_label(where.criterion, where.sparsity)}{tuned}"),
        Entry(budget_label(grid, where.attack, budget), role="budget"),
        table_entry(network.accuracy.mean if network else None, "percent"),
    )
    cost = table_entry(macs, "percent")
    if where not in grid.points:
        kind = grid.holes[where][0].kind if where in grid.holes else "no result"
        return (*start, Entry(kind, ""), cost, Entry("–", ""), Entry("X"))
    point = grid.points[where]
    share, word, n = robust_share(point, budget), no_robustness(point.state), min(a.n for a in point.attacks)
    if word or share is None:
        robust = Entry(word or "–", "")
    else:
        what = quantity(grid, where.attack)
        start_text = "" if what == ROBUST else f"{what}: "
        robust = Entry(f"{start_text}{share_text(share)}, {n}", _key(share.mean), "robust")
    left = Entry("–", "") if point.role == "dense" else _left_entry(change[where].total)
    return (*start, robust, cost, left, Entry(point.grade))


def _left_entry(against: Against | None) -> Entry:
    if against is None or (against.left is None and not against.state):
        return Entry("–", "")
    if against.share is None:
        return Entry(against.state or "–", "")
    bounds = left_interval(against)
    interval = f" [{percent_range(*bounds[:2], ', ').removesuffix(PERCENT)}]" if bounds else ""
    return Entry(f"{left_percent(against)}{interval}, {against.n}", _key(against.share))


def criteria_rows(grid: Grid) -> PageTable:
    """Each criterion against each earlier one, at the same sparsity with the same fine-tuning."""
    numbers = point_numbers(grid)
    rows = tuple(
        Row(tuple(_compared(grid, first, each)), (), each.grade, numbers[each.where])
        for first, each in criteria_differences(grid)
    )
    return PageTable(CRITERIA, (), rows)


def _compared(grid: Grid, first: str, each: Difference) -> Sequence[Entry]:
    where, against = each.where, each.against
    tuned = "" if where.arm == "none" else f", {arm_label(where.arm)}"
    robust, left = (Entry("–", ""), Entry("–", ""))
    if against is not None and each.judged:
        if (overall := against.overall) is not None:
            before, after = (sum(side) / len(side) for side in (overall.before, overall.after))
            low, high = overall.over_trainings or overall.over_images
            text = f"{percent(before)} → {percent(after)} [{100 * low:+.1f}, {100 * high:+.1f}]"
            robust = Entry(text.replace("-", "−"), _key(overall.change))
        left = _left_entry(against)
    return (
        Entry(where.model),
        Entry(f"{network_label(where.criterion, where.sparsity)}{tuned}"),
        Entry(network_label(first, where.sparsity)),
        Entry(where.attack),
        robust,
        left,
        Entry(number(each.p), _key(each.p)),
        Entry(each.verdict),
    )


def table_entry(value: Value, form: Format) -> Entry:
    """A value as a cell."""
    return Entry(value_text(value, form), None if form == "text" else _key(value))


def _key(value: Value) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return ""
    return "Infinity" if value == math.inf else repr(value)
