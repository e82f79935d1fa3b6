"""Read the records of a run folder into rows; no other module of the report opens a run folder."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.config import Cell
from secateur.errors import ExitCode, UserError
from secateur.registry import ATTACKS
from secateur.report.arrays import mean_passes, recorded_distances, without_long_lists
from secateur.report.records import Attack, Axes, Hole, HoleKind, Network, Study
from secateur.report.units import norms, units
from secateur.stats import near_chance
from secateur.store import (
    AttackScience,
    Damaged,
    Latencies,
    NetworkScience,
    PruneScience,
    Record,
    Store,
    TrainScience,
    architecture_cell,
    read_latencies,
)
from secateur.store.examples import EXAMPLES, Examples
from secateur.untrusted import read_bounded

ENVIRONMENT = ("secateur", "torch", "numpy", "python", "platform")
PICTURES_BYTES = 2**22
Hashes = tuple[str, ...]


@dataclass
class _Rows:
    """What the records of a run folder say, collected cell by cell."""

    networks: dict[str, Network] = field(default_factory=dict)
    attacks: list[Attack] = field(default_factory=list)
    holes: dict[str, Hole] = field(default_factory=dict)
    environments: Counter[str] = field(default_factory=Counter)
    remarks: dict[str, None] = field(default_factory=dict)
    seconds: float = 0.0
    hashes: dict[Hashes, Hashes] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)


def load(folder: Path | str) -> Study:
    """Read a run folder, finished or not; a cell without a usable record becomes a hole.

    Raises:
        UserError: there is no study in the folder, or a newer version of secateur wrote it.
    """
    return _study(Store.open(folder))


def load_with_examples(folder: Path | str) -> tuple[Study, Callable[[str], Examples | None]]:
    """The rows of a run folder as :func:`load` reads them, and what :func:`examples_of` gives."""
    store = Store.open(folder)
    return _study(store), _examples(store)


def _study(store: Store) -> Study:
    rows = _Rows(pixels=store.study["facts"])
    for cell in store.cells:
        _read(cell, store, rows)
    latencies, trouble = _latencies(store)
    networks = _with_latencies(store, rows.networks, latencies)
    return Study(
        name=str(store.study["name"]),
        study_hash=str(store.study["study_hash"]),
        config=store.study["config"],
        # Steps of the iterative schedule are compared with nothing.
        networks=tuple(network for network in networks if network.role != "round"),
        attacks=tuple(rows.attacks),
        holes=tuple(hole for hole in rows.holes.values() if hole.role != "round"),
        planned=tuple((_axes(cell), cell.stage) for cell in store.cells if cell.role != "round"),
        environments=tuple(sorted(rows.environments.items())),
        seconds=rows.seconds,
        limited=store.study.get("limited"),
        notes=(*rows.remarks, *(str(note["note"]) for note in store.notes()), *trouble),
        robust=_declared_robust(store.study),
        plugins=tuple(str(plugin["file"]) for plugin in store.study.get("plugins", ())),
        conditions=latencies.conditions if latencies and any(each.latency for each in networks) else None,
        **units(store.study, norms(store.cells, rows.attacks), rows.pixels),
    )


def examples_of(folder: Path | str) -> Callable[[str], Examples | None]:
    """Opens the pictures that an attack cell of a run folder kept; None where it kept none, or damaged ones.

    Raises:
        UserError: as :func:`load`.
    """
    return _examples(Store.open(folder))


def _examples(store: Store) -> Callable[[str], Examples | None]:
    def read(cell_id: str) -> Examples | None:
        record = store.record(cell_id)
        if record is None or EXAMPLES not in record.artefacts:
            return None
        try:
            return Examples.from_bytes(read_bounded(store.artefact(cell_id, EXAMPLES), PICTURES_BYTES))
        # Archives of published studies hold the records alone.
        except (UserError, OSError, Damaged):
            return None

    return read


def _read(cell: Cell, store: Store, rows: _Rows) -> None:
    record = store.record(cell.id)
    science = record.science if record else None
    if isinstance(science, AttackScience):
        if network := rows.networks.get(cell.parent or ""):
            rows.attacks.append(_attack(cell, science, network, rows.hashes))
            # The facts of older studies do not say which pixels the images have; their attacks may.
            rows.pixels = rows.pixels if "levels" in rows.pixels else science.pixels()
        else:
            rows.holes[cell.id] = _as_hole(cell, "damaged", "the network that it attacked has no record")
    elif isinstance(science, NetworkScience):
        rows.networks[cell.id] = _network(cell, science, rows.networks, store.study)
        rows.remarks |= dict.fromkeys(_remarks(cell, science))
    else:
        rows.holes[cell.id] = _hole(cell, record, store.damage(cell.id), rows.holes)
    if record:
        rows.environments[_environment(record)] += 1
        rows.seconds += record.timing.seconds


def _latencies(store: Store) -> tuple[Latencies | None, tuple[str, ...]]:
    """Measured latencies, and a note where their file is damaged: the report is written without them then."""
    try:
        return read_latencies(store.root), ()
    except UserError as error:
        if error.code is ExitCode.FOREIGN_FOLDER:
            raise
        return None, ("latency.json is damaged, so no latency is shown: measure again.",)


def _with_latencies(
    store: Store, networks: Mapping[str, Network], latencies: Latencies | None
) -> list[Network]:
    """The networks with their latencies: fine-tuning does not change the architecture, nor its latency."""
    if latencies is None:
        return list(networks.values())
    cells = {cell.id: cell for cell in store.cells}
    hashes = {id_: network.science.weights_hash for id_, network in networks.items()}
    # A row with other weights is of an earlier network: the cell was computed again since.
    rows = {
        row.cell: row
        for row in latencies.rows.values()
        if (hashes.get(row.cell), hashes.get(row.dense)) == (row.weights, row.dense_weights)
    }
    own = {id_: architecture_cell(cells, cells[id_]).id for id_ in networks}
    return [replace(network, latency=rows.get(own[id_])) for id_, network in networks.items()]


def _axes(cell: Cell) -> Axes:
    axes = cell.axes
    return Axes(
        model=str(axes["model"]),
        seed=int(axes["seed"]),
        criterion=axes.get("criterion"),
        sparsity=float(axes.get("sparsity") or 0.0),
        arm=str(axes.get("arm") or "none"),
        attack=axes.get("attack"),
    )


def _as_hole(cell: Cell, kind: HoleKind, reason: str, detail: str = "") -> Hole:
    return Hole(cell.id, cell.stage, _axes(cell), cell.role, kind, reason, detail)


def _hole(cell: Cell, record: Record | None, damage: str, holes: Mapping[str, Hole]) -> Hole:
    if record:
        detail = record.error.traceback if record.error else ""
        return _as_hole(cell, "failed", record.reason or "no reason was recorded", detail)
    if damage:
        return _as_hole(cell, "damaged", damage)
    if cell.parent is not None and cell.parent in holes:
        return _as_hole(cell, "blocked", f"not run: its {holes[cell.parent].stage} cell has no result")
    return _as_hole(cell, "missing", "not run yet")


def _network(
    cell: Cell, science: NetworkScience, networks: Mapping[str, Network], study: Mapping[str, Any]
) -> Network:
    axes, parent = _axes(cell), networks.get(cell.parent or "")
    achieved = parent.sparsity_achieved if parent else axes.sparsity
    robust = isinstance(science, TrainScience) and science.robust
    return Network(
        id=cell.id,
        stage=cell.stage,
        axes=axes,
        role=cell.role,
        robust=_declared_robust(study).get(axes.model, robust),
        sparsity_achieved=science.sparsity_achieved if isinstance(science, PruneScience) else achieved,
        collapsed=science.collapsed or _near_chance(science.accuracy.test, study),
        science=without_long_lists(science),
    )


def _remarks(cell: Cell, science: NetworkScience) -> list[str]:
    """Notes about a dense network and its images, for example that it was trained on them."""
    notes = science.notes if isinstance(science, TrainScience) else ()
    return [f"{cell.axes['model']}: {note}" for note in notes]


def _near_chance(accuracy: float, study: Mapping[str, Any]) -> bool:
    """The rule of check F24, applied to all test images: older records have no such check."""
    n, classes = int(study["facts"].get("test") or 0), int(study["facts"].get("classes") or 0)
    return bool(n and classes) and near_chance(round(accuracy * n), n, classes)


def _declared_robust(study: Mapping[str, Any]) -> Mapping[str, bool]:
    robust: Mapping[str, bool] = study.get("labels", {}).get("robust", {})
    return robust


def _attack(cell: Cell, science: AttackScience, network: Network, shared: dict[Hashes, Hashes]) -> Attack:
    hashes, (fixed, sizes) = tuple(science.hashes), _sizes(cell, science)
    return Attack(
        id=cell.id,
        axes=_axes(cell),
        role=cell.role,
        network=network,
        method=str(cell.settings["attack"]),
        settings=cell.settings,
        science=without_long_lists(science),
        recorded=recorded_distances(science),
        passes=mean_passes(science),
        # All attacks of a study see the same images: they share one tuple, which also makes comparing fast.
        hashes=shared.setdefault(hashes, hashes),
        fixed=fixed,
        sizes=sizes,
    )


def _sizes(cell: Cell, science: AttackScience) -> tuple[bool, dict[float, NDArray[np.bool_]]]:
    """Whether the attack is of fixed size, and which images it found an example for at each size."""
    sizes = {size.eps: np.array(size.found, dtype=bool) for size in science.sizes or ()}
    name = str(cell.settings["attack"])
    # The plug-in of an attack need not be loaded to read its records: a setting ``eps`` tells its kind.
    kind = science.kind or (ATTACKS.entry(name).facts.get("kind") if name in ATTACKS.names() else None)
    eps = {**cell.settings, **science.settings}.get("eps")
    fixed = kind == "fixed-eps" or (kind is None and bool(sizes or eps is not None))
    if fixed and not sizes and isinstance(eps, int | float):
        sizes = {float(eps): np.array([outcome == "found" for outcome in science.outcome], dtype=bool)}
    return fixed, dict(sorted(sizes.items())) if fixed else {}


def _environment(record: Record) -> str:
    """The versions that computed a cell, without hosts and times: reports are published."""
    return ", ".join(f"{name} {record.provenance[name]}" for name in ENVIRONMENT if name in record.provenance)
