"""Measured latency of the networks of a study, each in turns with its dense ancestor."""

import copy
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote

import torch
from torch import nn

from secateur import measure, pruning
from secateur.config import Cell, study_of
from secateur.errors import ExitCode, UserError
from secateur.kinds import is_whole
from secateur.models import eval_mode, time_calls
from secateur.store import (
    LATENCIES,
    Conditions,
    Latencies,
    Leases,
    Measured,
    Spread,
    Store,
    architecture_cell,
    dense_cell,
    read_latencies,
    write_latencies,
)
from secateur.study.build_models import dense_network
from secateur.study.cells import Facts
from secateur.text import first_line

SECONDS = 1.0


@dataclass(frozen=True)
class Measurement:
    """The result of measuring a study.

    Attributes:
        path: the file with all measurements.
        conditions: under which it was measured.
        measured: networks that were measured now.
        kept: networks that had been measured before.
        unfinished: labels of the cells that have no network yet.
        without: labels of the cells whose network cannot be measured, and the reason.
        busy: labels of the cells that were running at the same time, which slows the measured networks.
    """

    path: Path
    conditions: Conditions
    measured: int
    kept: int
    unfinished: tuple[str, ...]
    without: Mapping[str, str]
    busy: tuple[str, ...]


def measure_latencies(
    folder: Path | str,
    *,
    batch: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    seconds: float = SECONDS,
    again: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Measure the networks of a run folder and store the times there as ``latency.json``.

    Every trained and pruned network runs in turns with its dense ancestor, a dense one with a copy of itself.
    Stored times are kept, so an interrupted measurement resumes. Needs no images and changes no cell.

    Args:
        folder: a run folder.
        batch: images per forward pass.
        threads: of torch on the CPU; by default torch's own number.
        device: where the networks run, such as cuda.
        seconds: the least time to run each network together with its ancestor.
        again: discard stored times.
        on_progress: called as ``on_progress(done, to_measure)``, also before the first network.

    Raises:
        UserError: no finished network, no such device, or stored times that are damaged or were measured
            under other conditions.
    """
    store = Store.open(folder)
    cells = {cell.id: cell for cell in store.cells}
    conditions = _conditions(batch, threads, device)
    wanted = _with_own_architecture(cells)
    finished = _finished(store, wanted)
    rows = {} if again else _stored(store, conditions)
    kept = len(rows)
    todo, without = _parted(store, cells, [cell for cell in finished if cell.id not in rows])
    tick = on_progress or (lambda done, total: None)
    tick(0, len(todo))
    for done, row in enumerate(_rows(store, cells, todo, conditions, seconds), start=1):
        # Written after every network, so that an interrupted measurement resumes.
        rows[row.cell] = row
        write_latencies(store.root, Latencies(conditions, rows))
        tick(done, len(todo))
    return Measurement(
        path=store.root / LATENCIES,
        conditions=conditions,
        measured=len(todo),
        kept=kept,
        unfinished=tuple(cell.label for cell in wanted if cell not in finished),
        without=without,
        busy=tuple(cells[held].label for held in Leases(store.root).holders() if held in cells),
    )


def _with_own_architecture(cells: Mapping[str, Cell]) -> list[Cell]:
    """The train and prune cells whose networks differ in architecture, in the order of the study."""
    shown = (cell for cell in cells.values() if cell.stage != "attack" and cell.role != "round")
    own = {architecture_cell(cells, cell).id for cell in shown}
    return [cell for cell in cells.values() if cell.id in own]


def _rows(
    store: Store, cells: Mapping[str, Cell], todo: Sequence[Cell], conditions: Conditions, seconds: float
) -> Iterator[Measured]:
    facts = Facts.from_json(store.study["facts"])
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(conditions.batch, *facts.shape, generator=generator).to(conditions.device)
    known: dict[str, nn.Module] = {}
    for cell in todo:
        ancestor = dense_cell(cells, cell)
        if ancestor.id not in known:
            # Cells of one model and seed follow each other, so one dense network is in memory at a time.
            known = {ancestor.id: _network(store, facts, ancestor).to(conditions.device)}
        dense = known[ancestor.id]
        own = copy.deepcopy(dense) if cell is ancestor else _network(store, facts, cell).to(conditions.device)
        with eval_mode(own), eval_mode(dense), torch.no_grad():
            before, after = time_calls(
                [partial(dense, images), partial(own, images)], seconds=seconds, threads=conditions.threads
            )
        yield Measured(
            cell=cell.id,
            weights=_weights(store, cell.id),
            dense=ancestor.id,
            dense_weights=_weights(store, ancestor.id),
            seconds=Spread(after.low, after.median, after.high),
            dense_seconds=Spread(before.low, before.median, before.high),
            share=Spread(*after.share_of(before)),
            turns=len(after.turns),
            peak_bytes=measure.peak_memory(own, images),
            dense_peak_bytes=measure.peak_memory(dense, images),
        )


def _network(store: Store, facts: Facts, cell: Cell) -> nn.Module:
    """The saved network of a finished cell."""
    study = study_of(store.study)
    folder = store.artefacts(cell.id)
    label = cell.axes["model"]
    return pruning.load(folder, lambda: dense_network(study, label, shape=facts.shape, classes=facts.classes))


def _lack(store: Store, cell: Cell, dense: Cell) -> str:
    """Why a finished network cannot be measured; empty where it can."""
    for each in (cell, dense):
        if not store.committed(each.id):
            return "its dense network is not finished"
        if why := store.damage(each.id):
            # A published study may hold records only, which is no damage.
            gone = why.endswith("it is missing")
            whose = "the network" if each is cell else "its dense network"
            return f"the weights of {whose} are not here, only the record" if gone else f"of {whose}, {why}"
    return ""


def _weights(store: Store, cell_id: str) -> str:
    return store.network_science(cell_id).weights_hash if store.committed(cell_id) else ""


def _is_of(row: Measured, store: Store) -> bool:
    """Whether a row was measured on the networks that are in the folder now."""
    return (row.weights, row.dense_weights) == (_weights(store, row.cell), _weights(store, row.dense))


def _finished(store: Store, wanted: Sequence[Cell]) -> list[Cell]:
    found = [cell for cell in wanted if store.committed(cell.id)]
    if not found:
        raise UserError(
            f"nothing to measure yet: no network of {store.root} is finished",
            hint=f"secateur status {quote(str(store.root))}",
        )
    return found


def _parted(
    store: Store, cells: Mapping[str, Cell], asked: Sequence[Cell]
) -> tuple[list[Cell], dict[str, str]]:
    """The cells whose network can be measured, and the labels of the others with the reason."""
    lacks = {cell.id: _lack(store, cell, dense_cell(cells, cell)) for cell in asked}
    able = [cell for cell in asked if not lacks[cell.id]]
    return able, {cell.label: lacks[cell.id] for cell in asked if lacks[cell.id]}


def _stored(store: Store, conditions: Conditions) -> dict[str, Measured]:
    """The stored rows of the networks that are in the folder now."""
    stored = read_latencies(store.root)
    if stored is None:
        return {}
    if stored.conditions != conditions:
        raise UserError(
            f"{store.root / LATENCIES} was measured with {stored.conditions}; this would be {conditions}",
            hint="ask for the same, or let again=True measure all networks afresh",
            command="ask for the same, or let --again measure all networks afresh",
        )
    return {cell: row for cell, row in stored.rows.items() if _is_of(row, store)}


def _conditions(batch: int, threads: int | None, device: str) -> Conditions:
    for what, number in (("the batch", batch), ("the number of threads", threads)):
        if number is not None and not is_whole(number, least=1):
            raise UserError(f"{what} must be a positive integer, got {number!r}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"there is no device {device} here: {first_line(error)}",
            hint="device='cpu'",
            command="--device cpu",
            code=ExitCode.ENVIRONMENT,
        ) from error
    return Conditions(
        batch=batch,
        threads=threads or torch.get_num_threads(),
        device=device,
        processor=_processor(torch.device(device)),
        torch=torch.__version__,
    )


def _processor(device: torch.device) -> str:
    """The name of the processor or GPU; the name of the machine is private and never stored."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
