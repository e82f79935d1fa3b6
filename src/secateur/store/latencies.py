"""Measured latencies of a run's networks: ``latency.json``, beside the cells, which stay as they are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateur.config import Cell
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.store.files import machine_errors, replace_json, strict_json
from secateur.store.record import CELL_ID
from secateur.text import counted
from secateur.untrusted import UNFIT, read_bounded

LATENCIES = "latency.json"
LATENCY_SCHEMA = 1
MAX_BYTES = 2**26


@dataclass(frozen=True)
class Conditions:
    """How a study's networks were measured; measurements under other conditions are never mixed.

    >>> str(Conditions(batch=1, threads=2, device="cpu", processor="", torch="2.9"))
    'batches of 1, 2 CPU threads, cpu, torch 2.9'
    """

    batch: int
    threads: int
    device: str
    processor: str
    torch: str

    def __str__(self) -> str:
        where = f"{self.device} ({self.processor})" if self.processor else self.device
        return f"batches of {self.batch}, {counted(self.threads, 'CPU thread')}, {where}, torch {self.torch}"


@dataclass(frozen=True)
class Spread:
    """A median of times with both quartiles.

    Raises:
        ValueError: they are not positive, finite and in rising order.

    >>> Spread(1.0, 1.5, 2.0).median
    1.5
    """

    low: float
    median: float
    high: float

    def __post_init__(self) -> None:
        if not 1e-30 < self.low <= self.median <= self.high < 1e30:
            raise ValueError(f"{self.low}, {self.median}, {self.high} are no quartiles of times")


@dataclass(frozen=True)
class Measured:
    """The latency of one network and of its dense ancestor, run in turns.

    Attributes:
        cell: the train or prune cell of the network.
        weights: the hash of its weights; after a new run of the cell with other weights the row is stale.
        dense: the train cell of its dense ancestor; a dense network is measured against a copy of itself.
        dense_weights: the hash of the ancestor's weights.
        seconds: per forward pass of one batch.
        dense_seconds: of the ancestor, in the same turns.
        share: seconds divided by the ancestor's, turn by turn.
        turns: number of turns.
        peak_bytes: memory at the peak of one pass, weights included.
        dense_peak_bytes: of the ancestor.
    """

    cell: str
    weights: str
    dense: str
    dense_weights: str
    seconds: Spread
    dense_seconds: Spread
    share: Spread
    turns: int
    peak_bytes: int
    dense_peak_bytes: int


@dataclass(frozen=True)
class Latencies:
    """All measurements of one run folder, ``rows`` by cell id."""

    conditions: Conditions
    rows: Mapping[str, Measured]


def read_latencies(root: Path) -> Latencies | None:
    """The measured latencies of the run folder ``root``; None when nothing was measured.

    Raises:
        UserError: the file is damaged, or a newer version of the software wrote it (code FOREIGN_FOLDER).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_latencies(Path(folder), Latencies(Conditions(1, 1, "cpu", "", "2.9"), {}))
    ...     read_latencies(Path(folder)).conditions.device
    'cpu'
    """
    path = root / LATENCIES
    try:
        data = strict_json(read_bounded(path, MAX_BYTES))
        # Files of older versions have no seal.
        seal = data.pop("self_hash", None)
        if seal is not None and seal != digest(data):
            raise ValueError("it was edited after it was measured")
        version = data["schema_version"]
        if isinstance(version, int) and version > LATENCY_SCHEMA:
            raise UserError(
                f"{path} was written by a newer secateur (schema {version}, this one knows {LATENCY_SCHEMA})",
                hint="update secateur",
                code=ExitCode.FOREIGN_FOLDER,
            )
        rows = {cell: _measured(cell, row) for cell, row in data["rows"].items()}
        return Latencies(_conditions(data["conditions"]), rows)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in UNFIT:
            raise
        raise UserError(
            f"{path} is damaged: {type(problem).__name__}: {problem}",
            hint="`secateur report RUN --latency --again` measures afresh",
        ) from None


def write_latencies(root: Path, measured: Latencies) -> None:
    """Replace ``latency.json`` in one step; an example is at :func:`read_latencies`.

    Raises:
        UserError: the disk is full, read-only or failing.

    >>> import tempfile
    >>> conditions = Conditions(batch=1, threads=2, device="cpu", processor="", torch="2.9")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_latencies(Path(folder), Latencies(conditions, {}))
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['latency.json']
    """
    rows = {
        cell: {k: v for k, v in asdict(row).items() if k != "cell"} for cell, row in measured.rows.items()
    }
    data = {"schema_version": LATENCY_SCHEMA, "conditions": asdict(measured.conditions), "rows": rows}
    with machine_errors(root):
        replace_json(root / LATENCIES, {**data, "self_hash": digest(data)})


def architecture_cell(cells: Mapping[str, Cell], cell: Cell) -> Cell:
    """The train or prune cell whose architecture this cell's network has: fine-tuning changes none.

    Raises:
        KeyError: the chain of parents is broken.

    >>> trained = Cell("aa", "train", None, {}, "dense", {})
    >>> tuned = Cell("bb", "tune", "aa", {}, "dense_tuned", {})
    >>> architecture_cell({"aa": trained, "bb": tuned}, tuned).id
    'aa'
    """
    while cell.stage not in ("train", "prune"):
        cell = cells[cell.parent or ""]
    return cell


def dense_cell(cells: Mapping[str, Cell], cell: Cell) -> Cell:
    """The train cell that this one descends from.

    Raises:
        KeyError: the chain of parents is broken.

    >>> trained = Cell("aa", "train", None, {}, "dense", {})
    >>> pruned = Cell("bb", "prune", "aa", {}, "untuned", {})
    >>> dense_cell({"aa": trained, "bb": pruned}, pruned).id
    'aa'
    """
    while cell.parent is not None:
        cell = cells[cell.parent]
    return cell


def _measured(cell: str, row: Mapping[str, Any]) -> Measured:
    if not all(CELL_ID.fullmatch(name) for name in (cell, row["dense"])):
        raise ValueError(f"{cell!r} or {row['dense']!r} is not the id of a cell")
    spreads = {name: Spread(**row[name]) for name in ("seconds", "dense_seconds", "share")}
    for name in ("turns", "peak_bytes", "dense_peak_bytes"):
        if type(row[name]) is not int or not 0 <= row[name] < 2**63:
            raise ValueError(f"{name} is {row[name]!r}")
    return Measured(cell=cell, **{**row, **spreads})


def _conditions(data: Mapping[str, Any]) -> Conditions:
    for name, kind in (("batch", int), ("threads", int), ("device", str), ("processor", str), ("torch", str)):
        if type(data[name]) is not kind:
            raise ValueError(f"{name} is {data[name]!r}")
    return Conditions(**data)
