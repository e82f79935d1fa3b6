"""Records of a run folder, read into typed rows: the only place where a report meets the store."""

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
from secateur.report.records import NORMS, OUTCOMES, Attack, Axes, Hole, HoleKind, Network, Study
from secateur.stats import near_chance
from secateur.store import Latencies, Store, architecture_cell, read_latencies

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
        try:
            if record is None or record["status"] != "ok":
                holes[cell.id] = _hole(cell, record, store.damage(cell.id), holes)
            elif cell.stage == "attack":
                attacks.append(_attack(cell, record, networks, shared))
                pixels = pixels if "levels" in pixels else record["science"]
            else:
                networks[cell.id] = _network(cell, record, networks, store.study)
                told |= dict.fromkeys(_remarks(cell, record))
        except (KeyError, TypeError, ValueError) as problem:
            reason = f"the record cannot be used: {type(problem).__name__}: {problem}"
            holes[cell.id] = _as_hole(cell, "damaged", reason)
        if record:
            environments[_environment(record)] += 1
            seconds += record["timing"]["seconds"]
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
    hashes = {id_: network.weights_hash for id_, network in networks.items()}
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


def _hole(cell: Cell, record: Mapping[str, Any] | None, damage: str, holes: Mapping[str, Hole]) -> Hole:
    if record:
        error = record.get("error") or {}
        sentence = error.get("sentence") or "no reason was recorded"
        return _as_hole(cell, "failed", sentence, error.get("traceback", ""))
    if damage:
        return _as_hole(cell, "damaged", damage)
    if cell.parent is not None and cell.parent in holes:
        return _as_hole(cell, "blocked", f"not run: its {holes[cell.parent].stage} cell has no result")
    return _as_hole(cell, "missing", "not run yet")


def _network(
    cell: Cell, record: Mapping[str, Any], networks: Mapping[str, Network], study: Mapping[str, Any]
) -> Network:
    science, axes = record["science"], _axes(cell)
    parent = networks.get(cell.parent or "")
    achieved = science.get("sparsity_achieved", parent.sparsity_achieved if parent else axes.sparsity)
    return Network(
        id=cell.id,
        stage=cell.stage,
        axes=axes,
        role=cell.role,
        robust=_declared_robust(study).get(axes.model, bool(science.get("robust"))),
        parameters=int(science["parameters"]),
        macs=int(science["macs"]),
        accuracy={"test": float(science["accuracy"]["test"]), **_numbers(science["accuracy"])},
        sparsity_achieved=float(achieved),
        collapsed=bool(science["collapsed"]) or _near_chance(float(science["accuracy"]["test"]), study),
        weights_hash=str(science["weights_hash"]),
        best_epoch=science.get("best_epoch"),
    )


def _remarks(cell: Cell, record: Mapping[str, Any]) -> list[str]:
    """What was seen of a dense network and its images, such as images that it was trained on."""
    notes = record["science"].get("notes", ()) if cell.stage == "train" else ()
    return [f"{cell.axes['model']}: {note}" for note in notes]


def _near_chance(accuracy: float, study: Mapping[str, Any]) -> bool:
    """As check F24 of an attack, but on all test images; records of older versions have no such check."""
    n, classes = int(study["facts"].get("test") or 0), int(study["facts"].get("classes") or 0)
    return bool(n and classes) and near_chance(round(accuracy * n), n, classes)


def _declared_robust(study: Mapping[str, Any]) -> Mapping[str, bool]:
    robust: Mapping[str, bool] = study.get("labels", {}).get("robust", {})
    return robust


def _attack(
    cell: Cell,
    record: Mapping[str, Any],
    networks: Mapping[str, Network],
    shared: dict[tuple[str, ...], tuple[str, ...]],
) -> Attack:
    science, axes = record["science"], _axes(cell)
    outcome = science["outcome"]
    if unknown := set(outcome) - set(OUTCOMES):
        raise ValueError(f"unknown outcome {sorted(unknown)[0]!r}")
    found = np.array([o == "found" for o in outcome], dtype=bool)
    wrong = np.array([o == "already_wrong" for o in outcome], dtype=bool)
    hashes = tuple(science["hashes"])
    if len(hashes) != len(outcome):
        raise ValueError(f"{len(hashes)} images but {len(outcome)} outcomes")
    failed = (check for check in science["checks"] if not check["passed"])
    return Attack(
        id=cell.id,
        axes=axes,
        role=cell.role,
        network=networks[cell.parent or ""],
        name=str(axes.attack),
        method=str(cell.settings["attack"]),
        norm=_norm(science["norm"]),
        found=found,
        already_wrong=wrong,
        distances={norm: _distances(science["distances"][norm], found, wrong) for norm in NORMS},
        # Every attack of a study sees the same images: one tuple serves them all.
        hashes=shared.setdefault(hashes, hashes),
        grade=_grade(science["grade"]),
        reasons=tuple(f"{check['id']}: {check['sentence']}" for check in failed),
        forwards=_mean(science["num_forwards"], ~wrong),
        backwards=_mean(science["num_backwards"], ~wrong),
        settings=cell.settings,
        targeted=bool(science["targeted"]),
        **_sizes(cell, science, found),
    )


def _sizes(cell: Cell, science: Mapping[str, Any], found: NDArray[np.bool_]) -> dict[str, Any]:
    """Whether the attack looks for examples of a given size, and what it found at each size it tried."""
    given = science.get("sizes") or ()
    sizes = {float(size["eps"]): np.array(size["found"], dtype=bool) for size in given}
    if any(each.shape != found.shape for each in sizes.values()):
        raise ValueError("a size tells of other images than the outcomes")
    name = str(cell.settings["attack"])
    # A plug-in need not be loaded to read its records: then what it was given tells.
    kind = science.get("kind") or (ATTACKS.entry(name).facts.get("kind") if name in ATTACKS.names() else None)
    eps = {**cell.settings, **science.get("settings", {})}.get("eps")
    fixed = kind == "fixed-eps" or (kind is None and bool(sizes or eps is not None))
    if fixed and not sizes and isinstance(eps, int | float):
        sizes = {float(eps): found}
    return {"fixed": fixed, "sizes": dict(sorted(sizes.items())) if fixed else {}}


def _distances(
    values: list[float | None], found: NDArray[np.bool_], wrong: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The outcome decides, never the number: a clean image returned by a failed attack has distance 0."""
    if len(values) != len(found):
        raise ValueError(f"{len(values)} distances but {len(found)} outcomes")
    distances = np.array([np.inf if value is None else value for value in values], dtype=np.float64)
    distances[wrong] = 0.0
    distances[~found & ~wrong] = np.inf
    if not np.isfinite(distances[found]).all() or (distances < 0).any():
        raise ValueError("an adversarial example counts as found but has no distance")
    return distances


def _grade(letter: str) -> str:
    if letter not in {"A", "B", "C", "X"}:
        raise ValueError(f"unknown grade {letter!r}")
    return letter


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}


def _norm(name: str) -> str:
    if name not in NORMS:
        raise ValueError(f"unknown norm {name!r}")
    return name


def _mean(counts: list[float], where: NDArray[np.bool_]) -> float:
    return float(np.asarray(counts, dtype=np.float64)[where].mean()) if where.any() else 0.0


def _environment(record: Mapping[str, Any]) -> str:
    """The versions that computed a cell; hosts and times are left out, as they are nobody's business."""
    facts = record["provenance"]
    return ", ".join(f"{name} {facts[name]}" for name in ENVIRONMENT if name in facts)
