"""Measured latency, beside the multiply-adds and as a share of the dense network's: numbers, tables, text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint
from secateur.report.formatting import Column, Table, Value, named_columns, number, percent, percent_range
from secateur.report.records import Network
from secateur.report.repetitions import networks_once
from secateur.report.robustness import closest_to_half, macs_share
from secateur.text import listed

_MS = 1e3


@dataclass(frozen=True)
class Latency:
    """Latency and memory of one grid point: means over the measured seeds of medians over turns.

    ``low`` and ``high`` of seconds and shares are quartiles over turns, the outermost of any seed's.
    """

    seconds: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    dense_seconds: float
    peak_bytes: float
    dense_peak_bytes: float
    peak_share: float
    seeds: int


@dataclass(frozen=True)
class LatencyAndMacs:
    """One grid point: its multiply-adds as a share of the dense network's, and its measured latency."""

    criterion: str
    sparsity: float
    macs: float
    latency: Latency


def latency_of(point: NetworkPoint | None) -> Latency | None:
    """The latency of a grid point; None where nothing was measured."""
    rows = [each.latency for each in point.networks if each.latency] if point else []
    if not rows:
        return None

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    return Latency(
        seconds=mean(row.seconds.median for row in rows),
        low=min(row.seconds.low for row in rows),
        high=max(row.seconds.high for row in rows),
        share=mean(row.share.median for row in rows),
        share_low=min(row.share.low for row in rows),
        share_high=max(row.share.high for row in rows),
        dense_seconds=mean(row.dense_seconds.median for row in rows),
        peak_bytes=mean(row.peak_bytes for row in rows),
        dense_peak_bytes=mean(row.dense_peak_bytes for row in rows),
        peak_share=mean(row.peak_bytes / row.dense_peak_bytes for row in rows),
        seeds=len(rows),
    )


def _measured_point(grid: Grid, model: str, criterion: str, sparsity: float) -> GridPoint | None:
    """The measured grid point of an architecture: the one with the least fine-tuning."""
    # Fine-tuning does not change an architecture: all its networks share one measurement.
    for arm in ("none", *grid.arms):
        where = GridPoint(model, criterion if sparsity > 0 else "", sparsity, arm)
        if latency_of(grid.networks.get(where)):
            return where
    return None


def latency_and_macs(grid: Grid, model: str, criterion: str, sparsity: float) -> LatencyAndMacs | None:
    """Both costs of an architecture; None where either is unknown."""
    where = _measured_point(grid, model, criterion, sparsity)
    latency = latency_of(grid.networks[where]) if where else None
    share = macs_share(grid, where) if where else None
    return LatencyAndMacs(criterion, sparsity, share, latency) if latency and share is not None else None


_MILLISECONDS = Column("latency_ms", "latency [ms]")
_SHARE = (
    Column("latency_share", "latency left", "percent"),
    Column("latency_share_low", "latency left, lower quartile", "percent"),
    Column("latency_share_high", "latency left, upper quartile", "percent"),
)
_SUMMARY = (_MILLISECONDS, *_SHARE)
_NETWORK = (
    _MILLISECONDS,
    Column("latency_low_ms", "latency, lower quartile [ms]"),
    Column("latency_high_ms", "latency, upper quartile [ms]"),
    *_SHARE,
    Column("peak_bytes", "peak memory [bytes]", "plain"),
    Column("peak_share", "peak memory", "percent"),
)
# The columns of the latency table that a paper has room for.
PAPER_COLUMNS = (
    "model", "criterion", "sparsity", "macs_share", "latency_ms", "latency_share", "latency_share_low",
    "latency_share_high", "peak_share",
)  # fmt: skip


def in_summary(table: Table, grid: Grid) -> Table:
    """The summary with latency columns after its multiply-adds; unchanged where nothing was measured."""
    if grid.study.conditions is None:
        return table
    attacked = (where for where in grid.order if where.attack)
    networks = (grid.networks.get(GridPoint(p.model, p.criterion, p.sparsity, p.arm)) for p in attacked)
    rows: list[tuple[Value, ...]] = [
        (_MS * found.seconds, found.share, found.share_low, found.share_high)
        if (found := latency_of(point))
        else (None,) * len(_SUMMARY)
        for point in networks
    ]
    return table.insert_after("macs", _SUMMARY, rows)


def in_paper(table: Table, grid: Grid) -> Table:
    """The table for a paper with the latency share after its multiply-adds, where it was measured."""
    whole = in_summary(table, grid)
    dropped = {head.key for head in _SUMMARY} - {"latency_share"}
    return whole.select([head.key for head in whole.heads if head.key not in dropped])


def in_networks(table: Table, grid: Grid) -> Table:
    """The table of networks with latency and memory; unchanged where nothing was measured."""
    if grid.study.conditions is None:
        return table
    return table.insert_after("macs", _NETWORK, [_network_values(each) for each, _ in networks_once(grid)])


def _network_values(network: Network) -> tuple[Value, ...]:
    row = network.latency
    if row is None:
        return (None,) * len(_NETWORK)
    seconds, share = row.seconds, row.share
    return (
        _MS * seconds.median, _MS * seconds.low, _MS * seconds.high, share.median, share.low, share.high,
        row.peak_bytes, row.peak_bytes / row.dense_peak_bytes,
    )  # fmt: skip


def latency_table(grid: Grid) -> Table:
    """One row per measured architecture, over its seeds: each cost, and its share of the dense network's."""
    heads = (
        *named_columns("model criterion"), *named_columns("sparsity seeds", "plain"),
        Column("parameters", "parameters", "count"), Column("macs", "MACs", "count"),
        Column("macs_share", "MACs left", "percent"), _MILLISECONDS,
        Column("latency_low_ms", "lower quartile"), Column("latency_high_ms", "upper quartile"),
        _SHARE[0], Column("latency_share_low", "lower quartile", "percent"),
        Column("latency_share_high", "upper quartile", "percent"),
        Column("peak_mb", "peak memory [MB]"), Column("peak_share", "memory left", "percent"),
    )  # fmt: skip
    pruned = [(c, s) for c in grid.criteria for s in grid.sparsities if s > 0]
    found = (_measured_point(grid, model, *each) for model in grid.models for each in [("", 0.0), *pruned])
    conditions = f" ({grid.study.conditions})" if grid.study.conditions else ""
    title = f"{grid.study.name}: measured latency{conditions}"
    return Table("latency", title, heads, tuple(_row(grid, where) for where in found if where))


def _row(grid: Grid, where: GridPoint) -> tuple[Value, ...]:
    point = grid.networks[where]
    found = latency_of(point)
    assert found is not None
    return (
        where.model, where.criterion or "dense", where.sparsity, found.seeds, point.parameters.mean,
        point.macs.mean, macs_share(grid, where), _MS * found.seconds, _MS * found.low, _MS * found.high,
        found.share, found.share_low, found.share_high, found.peak_bytes / 1e6, found.peak_share,
    )  # fmt: skip


def latency_sentences(grid: Grid) -> tuple[tuple[str, str], ...]:
    """Model and sentence: multiply-adds and latency that are left, at the sparsity closest to one half."""
    found = []
    for model in grid.models:
        known = [
            each
            for criterion in grid.criteria
            for sparsity in grid.sparsities
            if sparsity > 0 and (each := latency_and_macs(grid, model, criterion, sparsity)) is not None
        ]
        if known:
            chosen = closest_to_half(each.sparsity for each in known)
            found.append((model, _sentence([each for each in known if each.sparsity == chosen])))
    return tuple(found)


def _sentence(costs: Sequence[LatencyAndMacs]) -> str:
    # Masked weights leave the shape of a network, and so its multiply-adds, as they are.
    cut, masked = [p for p in costs if p.macs < 1], [p for p in costs if p.macs >= 1]
    parts = []
    if cut:
        # "But" only where even the lower quartile is above the share of the multiply-adds.
        slower_than_macs = all(p.latency.share_low > p.macs for p in cut)
        parts.append(
            f"{_extent([p.macs for p in cut])} of the multiply-adds are left, "
            f"{'but' if slower_than_macs else 'and'} {_extent([p.latency.share for p in cut])} of the latency"
            f"{_milliseconds(cut)}"
        )
    if masked:
        parts.append(
            f"{listed([p.criterion for p in masked])} leave{'' if len(masked) > 1 else 's'} all "
            f"multiply-adds, and {_extent([p.latency.share for p in masked])} of the latency"
            f"{_milliseconds(masked)}"
        )
    return f"at sparsity {costs[0].sparsity:g}, {'; '.join(parts)}."


def _milliseconds(costs: Sequence[LatencyAndMacs]) -> str:
    own = [_MS * p.latency.seconds for p in costs]
    dense = number(float(np.mean([_MS * p.latency.dense_seconds for p in costs])))
    low, high = number(min(own)), number(max(own))
    return f" ({low if low == high else f'{low} to {high}'} ms; the dense network {dense} ms)"


def _extent(shares: Sequence[float]) -> str:
    low, high = min(shares), max(shares)
    return percent(low) if percent(low) == percent(high) else percent_range(low, high)


def measurement_noise(grid: Grid) -> str:
    """How far dense networks differ from copies of themselves, in words; empty where none was measured."""
    rows = [row.latency for row in grid.study.networks if row.stage == "train" and row.latency]
    if not rows:
        return ""
    middle = percent_range(min(row.share.low for row in rows), max(row.share.high for row in rows))
    return (
        f"The noise of the measurement: dense networks took {_extent([row.share.median for row in rows])} of "
        f"the time of a copy of themselves, {middle} in the middle half of the turns."
    )
