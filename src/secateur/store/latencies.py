"""What a clock said of a run's networks: ``latency.json``, beside the cells and no part of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateur.config import Cell
from secateur.errors import ExitCode, UserError
from secateur.store.files import machine_errors, replace_json
from secateur.store.record import CELL_ID
from secateur.text import counted

LATENCIES = "latency.json"
LATENCY_SCHEMA = 1


@dataclass(frozen=True)
class Conditions:
    """Under what a study's networks were measured; rows of different conditions are never mixed."""

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
    """A median with both quartiles."""

    low: float
    median: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.median <= self.high < float("inf"):
            raise ValueError(f"{self.low}, {self.median}, {self.high} are no quartiles of times")


@dataclass(frozen=True)
class Measured:
    """One network and its dense ancestor, run in turns.

    Attributes:
        cell: the train or prune cell that left the network behind.
        weights: the hash of its weights; another hash is another network.
        dense: the train cell of its dense ancestor; a dense network is measured against a copy of itself.
        dense_weights: the hash of the ancestor's weights.
        seconds: per pass of one batch.
        dense_seconds: of the ancestor, in the same turns.
        share: seconds over the ancestor's, turn by turn.
        turns: how many turns each took.
        peak_bytes: of memory in one pass, weights included.
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
    """Everything that was measured in one run folder, by cell."""

    conditions: Conditions
    rows: Mapping[str, Measured]


def read_latencies(root: Path) -> Latencies | None:
    """What was measured in the run folder ``root``; None when nothing was.

    Raises:
        UserError: the file is damaged, or a newer version of the software wrote it (code FOREIGN_FOLDER).
    """
    path = root / LATENCIES
    try:
        data = json.loads(path.read_bytes())
        version = data["schema_version"]
        if isinstance(version, int) and version > LATENCY_SCHEMA:
            raise UserError(
                f"{path} was written by a newer secateur (schema {version}, this one knows {LATENCY_SCHEMA})",
                hint="update secateur",
                code=ExitCode.FOREIGN_FOLDER,
            )
        rows = {cell: _measured(cell, row) for cell, row in data["rows"].items()}
        return Latencies(Conditions(**data["conditions"]), rows)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise UserError(
            f"{path} is damaged: {type(problem).__name__}: {problem}",
            hint="`secateur report RUN --latency --again` measures afresh",
        ) from None


def write_latencies(root: Path, measured: Latencies) -> None:
    """Replace what was measured, in one step. Raises UserError where the disk does not let it."""
    rows = {
        cell: {k: v for k, v in asdict(row).items() if k != "cell"} for cell, row in measured.rows.items()
    }
    data = {"schema_version": LATENCY_SCHEMA, "conditions": asdict(measured.conditions), "rows": rows}
    with machine_errors(root):
        replace_json(root / LATENCIES, data)


def architecture_cell(cells: Mapping[str, Cell], cell: Cell) -> Cell:
    """The train or prune cell whose architecture this cell's network has: fine-tuning changes none.

    Raises:
        KeyError: the chain of parents is broken.
    """
    while cell.stage not in ("train", "prune"):
        cell = cells[cell.parent or ""]
    return cell


def dense_cell(cells: Mapping[str, Cell], cell: Cell) -> Cell:
    """The train cell that this one descends from. Raises KeyError when the chain of parents is broken."""
    while cell.parent is not None:
        cell = cells[cell.parent]
    return cell


def _measured(cell: str, row: Mapping[str, Any]) -> Measured:
    if not all(CELL_ID.fullmatch(name) for name in (cell, row["dense"])):
        raise ValueError(f"{cell!r} or {row['dense']!r} names no cell")
    spreads = {name: Spread(**row[name]) for name in ("seconds", "dense_seconds", "share")}
    return Measured(cell=cell, **{**row, **spreads})
