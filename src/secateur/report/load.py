"""Read the records of a run folder into rows; no other module of the report opens a run folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.config import Cell, epsilons_by_norm
from secateur.errors import ExitCode, UserError
from secateur.hashing import restore
from secateur.registry import ATTACKS
from secateur.report.records import Attack, Axes, Hole, HoleKind, Network, Study
from secateur.stats import near_chance
from secateur.store import (
    AttackScience,
    Latencies,
    NetworkScience,
    PruneScience,
    Record,
    Store,
    TrainScience,
    architecture_cell,
    read_latencies,
)

ENVIRONMENT = ("secateur", "torch", "numpy", "python", "platform")


def load(folder: Path | str) -> Study:
    """Read the run folder, finished or not; unusable cells become holes instead of stopping the report.

    Raises:
        UserError: there is no study in the folder, or a newer version of secateur wrote it.
    """
    store = Store.open(folder)
    networks: dict[str, Network] = {}
    attacks: list[Attack] = []
    holes: dict[str, Hole] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    pixels: Mapping[str, Any] = store.study["facts"]
    environments: Counter[str] = Counter()
    told: dict[str, None] = {}
    seconds = 0.0
    for cell in store.cells:
        record = store.record(cell.id)
        science = record.science if record else None
        if isinstance(science, AttackScience):
            if cell.parent in networks:
                attacks.append(_attack(cell, science, networks[cell.parent], shared))
                pixels = pixels if "levels" in pixels else science.pixels()
            else:
                holes[cell.id] = _as_hole(cell, "damaged", "the network that it attacked has no record")
        elif isinstance(science, NetworkScience):
            networks[cell.id] = _network(cell, science, networks, store.study)
            told |= dict.fromkeys(_remarks(cell, science))
        else:
            holes[cell.id] = _hole(cell, record, store.damage(cell.id), holes)
        if record:
            environments[_environment(record)] += 1
            seconds += record.timing.seconds
    latencies, trouble = _latencies(store)
    clocked = _clocked(store, networks, latencies)
    return Study(
        name=str(store.study["name"]),
        study_hash=str(store.study["study_hash"]),
        config=store.study["config"],
        # Steps of the iterative schedule are compared with nothing.
        networks=tuple(network for network in clocked if network.role != "round"),
        attacks=tuple(attacks),
        holes=tuple(hole for hole in holes.values() if hole.role != "round"),
        planned=tuple((_axes(cell), cell.stage) for cell in store.cells if cell.role != "round"),
        environments=tuple(sorted(environments.items())),
        seconds=seconds,
        limited=store.study.get("limited"),
        notes=(*told, *(str(note["note"]) for note in store.notes()), *trouble),
        robust=_declared_robust(store.study),
        plugins=tuple(str(plugin["file"]) for plugin in store.study.get("plugins", ())),
        conditions=latencies.conditions if latencies and any(each.latency for each in clocked) else None,
        **_units(store.study, _norms(store.cells, attacks), pixels),
    )


def _norms(cells: Sequence[Cell], attacks: Sequence[Attack]) -> tuple[str, ...]:
    """The norms of the attacks without sizes of their own, whether they have a result yet or not."""
    fixed = {attack.method for attack in attacks if attack.fixed}
    fixed |= {entry.name for entry in ATTACKS.entries() if entry.facts.get("kind") == "fixed-eps"}
    minimum = [cell for cell in cells if cell.stage == "attack" and cell.settings["attack"] not in fixed]
    planned = (restore(cell.settings.get("norm")) for cell in minimum)
    known = [f"l{norm:g}" for norm in planned if isinstance(norm, int | float)]
    return tuple(dict.fromkeys([*known, *(attack.norm for attack in attacks if not attack.fixed)]))


def _units(study: Mapping[str, Any], norms: tuple[str, ...], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Budgets that the study states, and the units of its images; ``pixels`` may name levels and bounds."""
    given = restore(study["config"].get("epsilons", ()))
    # Lists by norm say themselves what they are for.
    listed = () if isinstance(given, Mapping) else norms
    try:
        epsilons = epsilons_by_norm(given, listed)
    except ValueError:  # a study of an older version may leave open which norm they are for
        epsilons = {}
    low, high = pixels.get("bounds") or (0.0, 1.0)
    levels = pixels.get("levels")
    if "levels" not in pixels and _in_255ths(epsilons.get("linf", ())):
        levels = 256  # records of older versions do not say it, but whoever wrote the study did
    return {"epsilons": epsilons, "bounds": (float(low), float(high)), "levels": levels}


def _in_255ths(budgets: Sequence[float]) -> bool:
    """Whether all budgets are whole or half grey levels of 8-bit images."""
    return bool(budgets) and all(abs(510 * eps - round(510 * eps)) < 1e-9 for eps in budgets)


def _latencies(store: Store) -> tuple[Latencies | None, tuple[str, ...]]:
    """What a clock said, and what is wrong with it: a damaged file takes nothing else from the report."""
    try:
        return read_latencies(store.root), ()
    except UserError as error:
        if error.code is ExitCode.FOREIGN_FOLDER:
            raise
        return None, ("latency.json is damaged, so no latency is shown: measure again.",)


def _clocked(store: Store, networks: Mapping[str, Network], latencies: Latencies | None) -> list[Network]:
    """The networks with their latencies: a fine-tuned one has that of the network it was tuned from."""
    if latencies is None:
        return list(networks.values())
    cells = {cell.id: cell for cell in store.cells}
    hashes = {id_: network.science.weights_hash for id_, network in networks.items()}
    # A row of other weights is of another network: the cell was computed afresh since.
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
        science=science,
    )


def _remarks(cell: Cell, science: NetworkScience) -> list[str]:
    """What was seen of a dense network and its images, such as images that it was trained on."""
    notes = science.notes if isinstance(science, TrainScience) else ()
    return [f"{cell.axes['model']}: {note}" for note in notes]


def _near_chance(accuracy: float, study: Mapping[str, Any]) -> bool:
    """As check F24 of an attack, but on all test images; records of older versions have no such check."""
    n, classes = int(study["facts"].get("test") or 0), int(study["facts"].get("classes") or 0)
    return bool(n and classes) and near_chance(round(accuracy * n), n, classes)


def _declared_robust(study: Mapping[str, Any]) -> Mapping[str, bool]:
    robust: Mapping[str, bool] = study.get("labels", {}).get("robust", {})
    return robust


def _attack(
    cell: Cell, science: AttackScience, network: Network, shared: dict[tuple[str, ...], tuple[str, ...]]
) -> Attack:
    hashes = tuple(science.hashes)
    fixed, sizes = _sizes(cell, science)
    return Attack(
        id=cell.id,
        axes=_axes(cell),
        role=cell.role,
        network=network,
        method=str(cell.settings["attack"]),
        settings=cell.settings,
        science=science,
        # Every attack of a study sees the same images: one tuple serves them all.
        hashes=shared.setdefault(hashes, hashes),
        fixed=fixed,
        sizes=sizes,
    )


def _sizes(cell: Cell, science: AttackScience) -> tuple[bool, dict[float, NDArray[np.bool_]]]:
    """Whether the attack looks for examples of a given size, and what it found at each size it tried."""
    sizes = {size.eps: np.array(size.found, dtype=bool) for size in science.sizes or ()}
    name = str(cell.settings["attack"])
    # A plug-in need not be loaded to read its records: then what it was given tells.
    kind = science.kind or (ATTACKS.entry(name).facts.get("kind") if name in ATTACKS.names() else None)
    eps = {**cell.settings, **science.settings}.get("eps")
    fixed = kind == "fixed-eps" or (kind is None and bool(sizes or eps is not None))
    if fixed and not sizes and isinstance(eps, int | float):
        sizes = {float(eps): np.array([outcome == "found" for outcome in science.outcome], dtype=bool)}
    return fixed, dict(sorted(sizes.items())) if fixed else {}


def _environment(record: Record) -> str:
    """The versions that computed a cell; hosts and times are left out, as they are nobody's business."""
    facts = record.provenance
    return ", ".join(f"{name} {facts[name]}" for name in ENVIRONMENT if name in facts)
