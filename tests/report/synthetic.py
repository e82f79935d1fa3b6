"""Writes a run folder that looks like a real study, from numbers drawn with a fixed seed; no torch.

Every image has its own difficulty, shared by all networks, so that paired comparisons mean something.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from secateur.registry import ATTACKS
from secateur.store import Store

DIMENSION = 64
FRAME = {
    "timing": {"seconds": 1.5},
    "provenance": {
        "secateur": "0.1.0",
        "torch": "2.13.0",
        "numpy": "2.4.6",
        "python": "3.11.7",
        "host": "desk",
    },
}
SCALE = {"plain": 0.45, "robust": 1.15}


@dataclass
class Grid:
    """What the study is made of, and which of its cells go wrong."""

    name: str = "demo"
    models: dict[str, bool] = field(default_factory=lambda: {"plain": False, "robust": True})
    criteria: tuple[str, ...] = ("l1", "random")
    sparsities: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    arms: tuple[str, ...] = ("none", "standard")
    seeds: tuple[int, ...] = (0, 1)
    attacks: dict[str, float] = field(default_factory=lambda: {"ddn": 2.0, "fmn-linf": math.inf})
    images: int = 100
    failed: tuple[tuple, ...] = (("prune", "robust", 1, "random", 0.8, None, None),)
    grade_c: tuple[tuple, ...] = (("plain", "l1", 0.6, "standard", "ddn"),)
    absent: tuple[tuple, ...] = ()
    limited: int | None = None
    config: dict = field(default_factory=dict)
    edit: Callable = field(default=lambda cell, science: science)  # the last word on the numbers of a cell
    weakening: float = 1.0
    classes: int | None = None
    artefacts: Callable = field(default=lambda cell: {})  # the files beside the record of a cell


def cell_id(*axes):
    return hashlib.sha256(repr(axes).encode()).hexdigest()[:32]


def write(folder: Path, grid: Grid | None = None) -> Path:
    """Write study.json and every record below ``folder``; returns it."""
    grid = grid or Grid()
    cells, records = [], {}
    for model in grid.models:
        for seed in grid.seeds:
            chain(grid, model, seed, cells, records)
    broken = {c["id"] for c in cells if key(c) in grid.failed}
    gone = {c["id"] for c in cells if key(c) in grid.absent}
    for cell in cells:
        if cell["parent"] in broken | gone:
            gone.add(cell["id"])
    config = {"name": grid.name, "data": {"spec": "digits"}, "sparsities": list(grid.sparsities)}
    study = {
        "name": grid.name,
        "study_hash": cell_id(grid.name),
        "config": config | grid.config,
        "facts": {"test": grid.images} | ({"classes": grid.classes} if grid.classes else {}),
        "science": {},
        "labels": {"robust": grid.models},
        "limited": grid.limited,
        "cells": cells,
    }
    store = Store.create(folder, study)
    for cell in cells:
        if cell["id"] in broken:
            failed = {"status": "failed", "science": {}, "error": error(cell)}
            commit(store, {**cell, **FRAME, **failed})
        elif cell["id"] not in gone:
            science = grid.edit(cell, records[cell["id"]]())
            plain = {**cell, **FRAME, "status": "ok", "science": science, "error": None}
            commit(store, plain, grid.artefacts(cell))
    return folder


def commit(store, record, artefacts=None):
    """Commit a record as it is, even one that no stage could write."""
    store.commit(Raw(record["id"], record), artefacts)


@dataclass
class Raw:
    """What the store asks of a record, without its checks."""

    id: str
    plain: dict

    @property
    def ok(self):
        return self.plain["status"] == "ok"

    def to_json(self):
        return self.plain


def key(cell):
    axes = cell["axes"]
    criterion, arm = axes["criterion"], axes["arm"] if cell["stage"] in ("tune", "attack") else None
    return cell["stage"], axes["model"], axes["seed"], criterion, axes["sparsity"], arm, axes["attack"]


def error(cell):
    sentence = f"no group of {cell['axes']['model']} can lose 80 % of its channels"
    trace = f"Traceback (most recent call last):\n  ...\nUserError: {sentence}"
    return {"sentence": sentence, "traceback": trace}


def chain(grid, model, seed, cells, records):
    """All cells of one trained network, parents first; ``records`` gets a function per id."""

    def add(stage, parent, point, role, settings, science):
        criterion, sparsity, arm, attack = point
        axes = {"model": model, "seed": seed, "criterion": criterion, "sparsity": sparsity, "arm": arm}
        axes["attack"] = attack
        id_ = cell_id(grid.name, stage, *axes.values())
        cell = {"id": id_, "stage": stage, "parent": parent, "axes": axes, "role": role, "settings": settings}
        cells.append(cell)
        records[id_] = science
        return id_

    def network(stage, parent, point, role):
        return add(
            stage, parent, (*point, None), role, {}, lambda: network_science(grid, stage, model, seed, *point)
        )

    def attacked(parent, point, role):
        for attack, norm in grid.attacks.items():
            settings = {
                "attack": attack if attack in ATTACKS.names() else attack.split("-")[0],
                "norm": norm if norm < math.inf else "inf",
                "steps": 1000,
            }
            add("attack", parent, (*point, attack), role, settings,
                lambda attack=attack: attack_science(grid, model, seed, *point, attack))  # fmt: skip

    def arms(parent, criterion, sparsity, untouched, tuned):
        attacked(parent, (criterion, sparsity, "none"), untouched)
        for arm in grid.arms[1:]:
            point = (criterion, sparsity, arm)
            attacked(network("tune", parent, point, tuned), point, tuned)

    trained = network("train", None, (None, 0.0, "none"), "dense")
    arms(trained, None, 0.0, "dense", "dense_tuned")
    for criterion in grid.criteria:
        for sparsity in grid.sparsities:
            if sparsity > 0:
                pruned = network("prune", trained, (criterion, sparsity, "none"), "untuned")
                arms(pruned, criterion, sparsity, "untuned", "pruned")


def generator(*axes):
    return np.random.default_rng(int(cell_id(*axes)[:12], 16))


def accuracy(grid, model, seed, criterion, sparsity, arm):
    draw = generator("accuracy", model, seed, criterion, sparsity, arm).normal(0, 0.006)
    base = 0.94 if grid.models[model] else 0.975
    harm = {"l1": 0.10, "random": 0.16}.get(criterion, 0.12) * sparsity**3
    if arm == "none":
        harm = 0.85 * (1 - math.exp(-3 * sparsity**1.5)) if sparsity else 0.0
    return float(np.clip(base - harm + draw, 0.1, 1.0))


def network_science(grid, stage, model, seed, criterion, sparsity, arm):
    scale = 1 + list(grid.models).index(model) % 3
    kept = (1 - sparsity) ** 2
    parameters, macs = int(78_000 * scale * kept) + 650, int(2_400_000 * scale * kept) + 9_000
    test = accuracy(grid, model, seed, criterion, sparsity, arm)
    science = {
        "accuracy": {"test": test},
        "parameters": parameters,
        "macs": macs,
        "weights_hash": cell_id("weights", model, seed, criterion, sparsity, arm),
        "collapsed": test < 0.14,
    }
    if stage == "prune":
        proof = {"parameters_dense": 78_650 * scale, "macs_dense": 2_409_000 * scale, "groups": 7}
        science |= proof | {"sparsity_requested": sparsity, "sparsity_achieved": sparsity}
        science |= {"proof": {"max_error": 3e-15}}
    else:
        science["accuracy"] |= {"train": min(test + 0.02, 1.0), "validation": test}
        science |= {"best_epoch": 7, "history": [{"epoch": e, "loss": 1 / (e + 1)} for e in range(10)]}
    if stage == "train":
        science["robust"] = grid.models[model]
    return science


def outcomes(grid, model, seed, criterion, sparsity, arm, attack):
    """Outcome and L2 size of the perturbation of every image; the difficulty is the image's own."""
    n = grid.images
    difficulty = generator("images").normal(0, 0.45, n)
    order = generator("order").permutation(n)
    own = generator("own", model, seed, criterion, sparsity, arm, attack)
    wrong = np.zeros(n, bool)
    wrong[order[: round(n * (1 - accuracy(grid, model, seed, criterion, sparsity, arm)))]] = True
    spread = 0.25 if criterion == "random" else 0.0
    left = 1 - grid.weakening * (0.45 + spread) * sparsity
    if arm != "none" and grid.models[model]:
        left *= 0.82
    if arm == "none":
        left *= 1 - 0.5 * sparsity
    base = SCALE.get(model, (0.9 if grid.models[model] else 0.25) + 0.09 * list(grid.models).index(model))
    sizes = base * left * np.exp(difficulty + own.normal(0, 0.12, n)) * own.normal(1, 0.02)
    missed = ~wrong & (own.random(n) < (0.02 if grid.models[model] else 0.0))
    if (model, criterion, sparsity, arm, attack) in grid.grade_c:
        missed = ~wrong & (own.random(n) < 0.35)
    return wrong, missed, sizes


def attack_science(grid, model, seed, criterion, sparsity, arm, attack):
    wrong, missed, l2 = outcomes(grid, model, seed, criterion, sparsity, arm, attack)
    n, norm = grid.images, grid.attacks[attack]
    outcome = np.where(wrong, "already_wrong", np.where(missed, "not_found", "found")).tolist()
    shape = {"l0": 0 * l2 + 40, "l1": 5.5 * l2, "l2": l2, "linf": 0.28 * l2}
    if norm == math.inf:
        shape = {"l0": 0 * l2 + 61, "l1": 6.8 * l2, "l2": l2, "linf": 0.15 * l2}

    def listed(values):
        return [0.0 if w else None if m else float(v) for v, w, m in zip(values, wrong, missed, strict=True)]

    bad = bool(missed.sum() > 0.1 * n)
    checks = [
        {"id": "F09", "passed": not missed.any(), "severity": "fail" if bad else "warn",
         "sentence": f"{int(missed.sum())} of {n - int(wrong.sum())} correct images kept their label"},
        {"id": "F11", "passed": True, "severity": "fail", "sentence": "the security curve is monotone"},
    ]  # fmt: skip
    return {
        "hashes": [hashlib.sha512(f"image {i}".encode()).hexdigest() for i in range(n)],
        "targeted": False,
        "accuracy": float(1 - wrong.mean()),
        "ori_success": wrong.tolist(),
        "adv_success": (~missed).tolist(),
        "ASR": float(1 - missed.mean()),
        "num_forwards": [1000.0] * n,
        "num_backwards": [999.0] * n,
        "distances": {name: listed(values) for name, values in shape.items()},
        "best_optim_distances": {},
        "box_failures": [False] * n,
        "batch_failures": [],
        "outcome": outcome,
        "norm": "linf" if norm == math.inf else f"l{norm:g}",
        "n": n,
        "summary": {},
        "grade": "C" if bad else "B" if missed.any() else "A",
        "checks": checks,
    }
