"""The stage that prunes: removes channels, or masks single weights."""

import time
from typing import Any

from torch import nn

from secateur import pruning
from secateur.config import Cell, Study
from secateur.data import Splits
from secateur.graph import trace
from secateur.hashing import canonical, derive_seed
from secateur.stages.calibration_batch import evidence
from secateur.stages.shared import (
    Tick,
    architecture,
    dense_ancestor,
    generator,
    network,
    parent_of,
    quality,
    saved,
    size,
    splits_of,
)
from secateur.store import Parts, Store


def prune(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    """Prune the parent's network; sparsities count from the dense one, also in later rounds.

    Raises:
        RuntimeError: the network has more parameters than a less sparse one of the same study.
    """
    start = time.perf_counter()
    splits = splits_of(study)
    model = network(study, parent_of(cell), store)
    dense = (store.record(dense_ancestor(cell, store)) or {})["science"]
    settings = {key: value for key, value in cell.settings.items() if key != "criterion_version"}
    carried_out = _mask(model, cell, settings) if cell.masked else _cut(study, cell, model, splits, settings)
    science = {
        **size(model, splits.test, cell),
        "parameters_dense": dense["parameters"],
        "macs_dense": dense["macs"],
        "sparsity_requested": settings["sparsity"],
        **carried_out,
        **quality(study, model, {"test": splits.test}),
    }
    _refuse_growth(cell, store, science)
    return Parts(science, saved(model, store, cell), {"seconds": time.perf_counter() - start})


def _cut(
    study: Study, cell: Cell, model: nn.Module, splits: Splits, settings: dict[str, Any]
) -> dict[str, Any]:
    example = splits.validation.x[:2]
    graph = trace(model, example)
    if history := pruning.history(model):
        whole = trace(architecture(study, cell.axes["model"], splits.test).eval(), example)
        settings = settings | {"dense_sizes": {group.name: group.size for group in whole.groups}}
    batch = evidence(
        settings["criterion"],
        model,
        splits.train,
        generator=generator(derive_seed(cell.seed, "evidence")),
        adversary=study.recipe(cell.axes["model"]).adversary,
    )
    plan = pruning.plan(graph, seed=cell.seed, batch=batch, **settings)
    report = pruning.apply(model, plan, example_inputs=example)
    channels = sum(settings["dense_sizes"].values()) if history else report.channels_before
    return {
        "sparsity_achieved": 1 - report.channels / channels if history else report.sparsity_achieved,
        "groups": report.groups_pruned,
        "proof": {
            "max_error": report.max_error,
            "gradient_error": report.gradient_error,
            "changed_by_design": list(report.changed_by_design),
        },
        "notes": list(report.notes),
    }


def _mask(model: nn.Module, cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    report = pruning.mask(model, seed=cell.seed, **settings)
    return {
        "sparsity_achieved": report.sparsity_achieved,
        "groups": len(report.layers),
        # A masked network is the masked network: there is nothing to prove.
        "proof": {"max_error": None, "gradient_error": None, "changed_by_design": []},
        "notes": list(report.notes),
    }


def _refuse_growth(cell: Cell, store: Store, science: dict[str, Any]) -> None:
    """Parameters never rise with sparsity: compared with every sibling that is finished.

    Under global scope channels compete, so a random criterion may take them from wider layers; there only the
    dense network is an upper bound.
    """
    counted = "parameters_nonzero" if cell.masked else "parameters"
    points = [(0.0, science["parameters_dense"], "the dense network")]
    if cell.settings["scope"] == "local":
        for other in store.cells:
            if other.stage != "prune" or other.parent != cell.parent or not _differ_in_sparsity(cell, other):
                continue
            if (record := store.record(other.id)) is not None and record["status"] == "ok":
                points.append((other.settings["sparsity"], record["science"][counted], other.label))
    own, mine = cell.settings["sparsity"], science[counted]
    for sparsity, parameters, label in points:
        if (sparsity < own and parameters < mine) or (sparsity > own and parameters > mine):
            raise RuntimeError(f"parameters rise with sparsity: {parameters:,} in {label}, {mine:,} here")


def _differ_in_sparsity(cell: Cell, other: Cell) -> bool:
    same = canonical({**other.settings, "sparsity": 0}) == canonical({**cell.settings, "sparsity": 0})
    return same and other.id != cell.id
