"""Run folders for ``engine.py``: a study of any number of cells, with records of any size and no training.

The study is planned as users plan theirs, so that ``secateur plan`` finds its cells; only the numbers in the
records are made up.
"""

import hashlib
import os
import random
from pathlib import Path

from secateur.config import parse_study
from secateur.store import AttackScience, PruneScience, Record, Store, TrainScience, TuneScience
from secateur.study import plan

# With one seed 114 cells: dense, tuned, and two criteria at nine sparsities, each pruned, tuned and attacked.
STUDY = """
name: engine
data: digits
models: {plain: resnet-tiny}
criteria: [l1, random]
sparsities: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
finetune: {standard: {epochs: 2}}
attacks: {ddn: {steps: 10}, fmn-linf: {attack: fmn, norm: inf, steps: 10}}
images: 100
"""
KINDS = {"train": TrainScience, "prune": PruneScience, "tune": TuneScience, "attack": AttackScience}
NETWORK = {"parameters": 120_000, "macs": 3_000_000, "accuracy": {"test": 0.9}, "collapsed": False}
PRUNED = {
    "parameters_dense": 240_000,
    "macs_dense": 6_000_000,
    "sparsity_requested": 0.5,
    "sparsity_achieved": 0.5,
    "groups": 9,
    "proof": {"max_error": 1e-15},
}
IMAGE_BYTES, EPOCH_BYTES = 330, 171


def study_of(cells):
    """The settings of a study of at least ``cells`` cells, as text: as many seeds as it takes."""
    seeds = list(range(-(-cells // 114)))
    return f"{STUDY}seeds: {seeds}\n"


def write_folder(folder, *, cells, size):
    """Write a run folder of at least ``cells`` cells, all with a record of about ``size`` bytes; their number.

    Nothing waits for the disk.
    """
    text = study_of(cells)
    laid = plan(parse_study(text))
    store = Store.create(folder, laid.to_json())
    (Path(folder) / "study.yaml").write_text(text)
    draw, sync = random.Random(0), os.fsync
    os.fsync = lambda handle: None
    try:
        for cell in laid.cells:
            store.commit(_record(cell, size, draw))
    finally:
        os.fsync = sync
    return len(laid.cells)


def science_of(cell, size, draw):
    """Made-up numbers of the cell's stage, of about ``size`` bytes in a record."""
    if cell.stage == "attack":
        science = _attacked(max(1, (size - 1_500) // IMAGE_BYTES), draw)
    else:
        science = {**NETWORK, "weights_hash": cell.id * 2, **(PRUNED if cell.stage == "prune" else {})}
        science["history"] = [_epoch(draw) for _ in range(max(1, (size - 1_500) // EPOCH_BYTES))]
    return KINDS[cell.stage].from_json(science)


def _record(cell, size, draw):
    return Record.of(
        cell,
        status="ok",
        error=None,
        science=science_of(cell, size, draw),
        timing={"seconds": draw.uniform(1, 2)},
        provenance={"secateur": "0", "torch": "2", "numpy": "2", "python": "3", "host": "made up"},
    )


def _epoch(draw):
    return {name: draw.random() for name in ("loss", "accuracy", "validation", "rate")}


def _attacked(images, draw):
    distances = [draw.random() for _ in range(images)]
    norms = {name: [scale * each for each in distances] for name, scale in SCALES.items()}
    passes, yes = [100] * images, [True] * images
    return {
        "hashes": [hashlib.sha512(f"{image}".encode()).hexdigest() for image in range(images)],
        "outcome": ["found"] * images,
        "distances": norms,
        "best_optim_distances": norms,
        "norm": "l2",
        "grade": "A",
        "checks": [{"id": "F09", "passed": True, "severity": "warn", "sentence": "every image has one"}],
        "targeted": False,
        "accuracy": 1.0,
        "ori_success": [False] * images,
        "adv_success": yes,
        "box_failures": [False] * images,
        "ASR": 1.0,
        "num_forwards": passes,
        "num_backwards": passes,
        "attack": "ddn",
        "kind": "minimum-norm",
    }


SCALES = {"l0": 64.0, "l1": 8.0, "l2": 1.0, "linf": 0.25}
