"""What a clock said of the networks: beside the multiply-adds, and as a share of the dense network's."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint
from secateur.report.formatting import number, percent
from secateur.report.headline import macs_share
from secateur.report.records import Network
from secateur.report.tables import Column, Table, Value
from secateur.text import listed


@dataclass(frozen=True)
class Latency:
    """Of the networks of one grid point: means over the measured seeds of medians over turns.

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
class Promise:
    """The share of latency that the multiply-adds of a grid point promise, and the one measured."""

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


def architecture_grid_point(grid: Grid, model: str, criterion: str, sparsity: float) -> GridPoint | None:
    """The measured grid point that stands for this architecture: the one with the least fine-tuning."""
    grid_points = (
        GridPoint(model, criterion if sparsity > 0 else "", sparsity, arm) for arm in ("none", *grid.arms)
    )
    return next((where for where in grid_points if latency_of(grid.networks.get(where))), None)


def promise(grid: Grid, model: str, criterion: str, sparsity: float) -> Promise | None:
    """What was promised and measured at one grid point; None where either is unknown."""
    where = architecture_grid_point(grid, model, criterion, sparsity)
    latency = latency_of(grid.networks[where]) if where else None
    share = macs_share(grid, where) if where else None
    return Promise(criterion, sparsity, share, latency) if latency and share is not None else None


_MS = 1e3
_PERCENT = "\N{NO-BREAK SPACE}%"
_IN_SUMMARY = (
    Column("latency_ms", "latency [ms]"),
    Column("latency_share", "latency left", "percent"),
    Column("latency_share_low", "latency left, lower quartile", "percent"),
    Column("latency_share_high", "latency left, upper quartile", "percent"),
)
_OF_NETWORKS = (
    Column("latency_ms", "latency [ms]"),
    Column("latency_low_ms", "latency, lower quartile [ms]"),
    Column("latency_high_ms", "latency, upper quartile [ms]"),
    *_IN_SUMMARY[1:],
    Column("peak_bytes", "peak memory [bytes]", "plain"),
    Column("peak_share", "peak memory", "percent"),
)


def in_summary(table: Table, grid: Grid) -> Table:
    """The summary with latencies beside its multiply-adds; as it is where nothing was measured."""
    if grid.study.conditions is None:
        return table
    grid_points = (where for where in grid.order if where.attack)
    networks = (grid.networks.get(GridPoint(p.model, p.criterion, p.sparsity, p.arm)) for p in grid_points)
    return table.beside("macs", _IN_SUMMARY, [_summarised(latency_of(point)) for point in networks])


def in_paper(table: Table, grid: Grid) -> Table:
    """The table for a paper with the share of the latency beside its multiply-adds, where it was measured."""
    whole = in_summary(table, grid)
    dropped = {head.key for head in _IN_SUMMARY} - {"latency_share"}
    return whole.pick(table.name, table.title, [h.key for h in whole.heads if h.key not in dropped])


# What of the table of latencies fits into a paper.
LATENCY_COLUMNS = (
    "model", "criterion", "sparsity", "macs_share", "latency_ms", "latency_share", "latency_share_low",
    "latency_share_high", "peak_share",
)  # fmt: skip


def with_latency(columns: Sequence[str], table: Table) -> tuple[str, ...]:
    """Columns to show, and after the multiply-adds the share of the latency where the table has it."""
    known = any(head.key == "latency_share" for head in table.heads)
    at = columns.index("macs") + 1
    return (*columns[:at], *(("latency_share",) if known else ()), *columns[at:])


def _summarised(found: Latency | None) -> tuple[Value, ...]:
    if found is None:
        return (None,) * len(_IN_SUMMARY)
    return _MS * found.seconds, found.share, found.share_low, found.share_high


def in_networks(table: Table, grid: Grid) -> Table:
    """The table of networks with latencies and memory; as it is where nothing was measured."""
    if grid.study.conditions is None:
        return table
    return table.beside("macs", _OF_NETWORKS, [_of_network(each) for each in grid.study.networks])


def _of_network(network: Network) -> tuple[Value, ...]:
    row = network.latency
    if row is None:
        return (None,) * len(_OF_NETWORKS)
    seconds, share = row.seconds, row.share
    return (
        _MS * seconds.median, _MS * seconds.low, _MS * seconds.high, share.median, share.low, share.high,
        row.peak_bytes, row.peak_bytes / row.dense_peak_bytes,
    )  # fmt: skip


def latency_table(grid: Grid) -> Table:
    """One row per measured architecture, over its seeds: what is left of each cost."""
    heads = (
        Column("model", "model", "text"), Column("criterion", "criterion", "text"),
        Column("sparsity", "sparsity", "plain"), Column("seeds", "seeds", "plain"),
        Column("parameters", "parameters", "count"), Column("macs", "MACs", "count"),
        Column("macs_share", "MACs left", "percent"),
        Column("latency_ms", "latency [ms]"), Column("latency_low_ms", "lower quartile"),
        Column("latency_high_ms", "upper quartile"),
        Column("latency_share", "latency left", "percent"),
        Column("latency_share_low", "lower quartile", "percent"),
        Column("latency_share_high", "upper quartile", "percent"),
        Column("peak_mb", "peak memory [MB]"), Column("peak_share", "memory left", "percent"),
    )  # fmt: skip
    asked = [
        (model, criterion, sparsity)
        for model in grid.models
        for criterion, sparsity in [
            ("", 0.0),
            *((c, s) for c in grid.criteria for s in grid.sparsities if s > 0),
        ]
    ]
    grid_points = [where for each in asked if (where := architecture_grid_point(grid, *each)) is not None]
    conditions = f" ({grid.study.conditions})" if grid.study.conditions else ""
    return Table(
        "latency",
        f"{grid.study.name}: measured latency{conditions}",
        heads,
        tuple(_row(grid, where) for where in grid_points),
    )


def _row(grid: Grid, where: GridPoint) -> tuple[Value, ...]:
    point = grid.networks[where]
    found = latency_of(point)
    assert found is not None
    return (
        where.model, where.criterion or "dense", where.sparsity, found.seeds, point.parameters.mean,
        point.macs.mean, macs_share(grid, where), _MS * found.seconds, _MS * found.low, _MS * found.high,
        found.share, found.share_low, found.share_high, found.peak_bytes / 1e6, found.peak_share,
    )  # fmt: skip


def sentences(grid: Grid) -> tuple[tuple[str, str], ...]:
    """Model and sentence: what multiply-adds promise and a clock gives at the sparsity nearest to half."""
    found = []
    for model in grid.models:
        known = [
            each
            for criterion in grid.criteria
            for sparsity in grid.sparsities
            if sparsity > 0 and (each := promise(grid, model, criterion, sparsity)) is not None
        ]
        if known:
            nearest = min({each.sparsity for each in known}, key=lambda s: (round(abs(s - 0.5), 6), s))
            found.append((model, _sentence([each for each in known if each.sparsity == nearest])))
    return tuple(found)


def _sentence(promises: Sequence[Promise]) -> str:
    cut, masked = [p for p in promises if p.macs < 1], [p for p in promises if p.macs >= 1]
    parts = []
    if cut:
        disappointing = all(p.latency.share_low > p.macs for p in cut)
        parts.append(
            f"{_range(cut, lambda p: p.macs)} of the multiply-adds are left, "
            f"{'but' if disappointing else 'and'} {_range(cut, lambda p: p.latency.share)} of the latency"
            f"{_times(cut)}"
        )
    if masked:
        names = listed([p.criterion for p in masked])
        parts.append(
            f"{names} leave{'' if len(masked) > 1 else 's'} all multiply-adds, and "
            f"{_range(masked, lambda p: p.latency.share)} of the latency{_times(masked)}"
        )
    return f"at sparsity {promises[0].sparsity:g}, {'; '.join(parts)}."


def _times(promises: Sequence[Promise]) -> str:
    own = [_MS * p.latency.seconds for p in promises]
    dense = number(float(np.mean([_MS * p.latency.dense_seconds for p in promises])))
    low, high = number(min(own)), number(max(own))
    return f" ({low if low == high else f'{low} to {high}'} ms; the dense network {dense} ms)"


def _range(promises: Sequence[Promise], value: Callable[[Promise], float]) -> str:
    low, high = percent(min(map(value, promises))), percent(max(map(value, promises)))
    return low if low == high else f"{low.removesuffix(_PERCENT)} to {high}"


def noise(grid: Grid) -> str:
    """How far dense networks differ from copies of themselves, in words; empty where none was measured."""
    rows = [row.latency for row in grid.study.networks if row.stage == "train" and row.latency]
    if not rows:
        return ""
    low, high = (percent(end(row.share.median for row in rows)) for end in (min, max))
    inner = f"{percent(min(row.share.low for row in rows))} to {percent(max(row.share.high for row in rows))}"
    medians = low if low == high else f"{low} to {high}"
    return (
        f"The clock's own noise: dense networks took {medians} of the time that copies of themselves took, "
        f"{inner} in the middle half of the turns."
    )
