"""One flipped bit in every kind of file of a run folder: noticed, or without any effect on a number."""

import json
import random
import shutil

import torch
from reliability_study import Tally, undisturbed

from secateur.errors import UserError
from secateur.store import (
    Conditions,
    Latencies,
    Leases,
    Measured,
    Spread,
    Store,
    read_latencies,
    write_latencies,
)
from secateur.train import Checkpoints

NOTES = 3


def bits(n, seed, folder):
    """Flip one bit, read everything that is read of such a file, and put the bit back."""
    draw, tally = random.Random(seed), Tally()
    undisturbed(folder)
    out = folder / "run"
    for kind, paths, look in kinds(out):
        before = {path: look(out, path) for path in paths}
        for _ in range(max(1, n // 8)):
            path = draw.choice(paths)
            content = path.read_bytes()
            place, bit = draw.randrange(len(content)), draw.randrange(8)
            flipped = bytes([content[place] ^ (1 << bit)])
            path.write_bytes(content[:place] + flipped + content[place + 1 :])
            tally.add(kind, seen(look, out, path, before[path], place, bit))
            path.write_bytes(content)
    return tally


def seen(look, out, path, before, place, bit):
    """In words what a reader takes from the damaged file that was not in it; empty if nothing."""
    where = f"bit {bit} of byte {place} of {path.name}"
    try:
        after = look(out, path)
    except UserError:
        return ""
    except Exception as error:
        return f"{where}: {type(error).__name__}: {error}"
    return "" if after in (before, None) else f"{where}: other content is read"


def kinds(out):
    """What a folder consists of: the kind of file, those of this kind, and what is read of one of them."""
    store = Store.open(out)
    last, above = store.cells[-1].id, store.cells[-1].parent
    shutil.rmtree(out / "cells" / last[:2] / last)  # so that it has checkpoints and a lease
    unfinished(store, last, above)
    cells = [path for path in sorted(out.glob("cells/*/*/*")) if path.is_file()]
    records = [path for path in cells if path.name == "record.json"]
    saved = sorted(out.glob("scratch/*/*/*/*"))
    return [
        ("study.json", [out / "study.json"], read_study),
        ("record", records, read_record),
        ("weights", [path for path in cells if path.suffix == ".safetensors"], read_artefact),
        (
            "other artefact",
            [p for p in cells if p not in records and p.suffix != ".safetensors"],
            read_artefact,
        ),
        ("checkpoint", saved, read_checkpoint),
        ("lease", sorted(out.glob("leases/*")), read_lease),
        ("notes", [out / "notes.jsonl"], read_notes),
        ("latency.json", [out / "latency.json"], lambda out, path: read_latencies(out)),
    ]


def unfinished(store, cell, above):
    """Write what a run folder has beside finished cells."""
    checkpoints = Checkpoints(store.scratch(cell) / "checkpoints")
    for epoch in (1, 2):
        state = {"model/a": torch.full((4, 3), 0.5 * epoch), "momentum/0": torch.ones(4)}
        checkpoints.save(epoch, state, {"identity": "ab", "best_epoch": epoch})
    Leases(store.root).claim(cell)
    for number in range(NOTES):
        store.note(f"remark {number}", cell=cell)
    spread, three = Spread(0.001, 0.002, 0.003), Spread(0.4, 0.5, 0.6)
    row = Measured(above, "w", store.cells[0].id, "v", spread, spread, three, 12, 1000, 4000)
    write_latencies(store.root, Latencies(Conditions(1, 1, "cpu", "", torch.__version__), {above: row}))


def read_study(out, path):
    """The whole content that a reader gets."""
    return json.dumps(Store.open(out).study, sort_keys=True)


def read_record(out, path):
    """The record; None, and the cell is computed again, where it is damaged."""
    record = Store.open(out).record(path.parent.name)
    return record and json.dumps(record.to_json(), sort_keys=True)


def read_artefact(out, path):
    """The bytes of an artefact, which the store hands out only if they are those that were committed."""
    return Store.open(out).artefact(path.parent.name, path.name).read_bytes()


def read_checkpoint(out, path):
    """The checkpoint from which a training goes on, by the step; its content is that of this step."""
    saved = Checkpoints(path.parent.parent).latest()
    if saved is None or saved.epoch == 1 or saved.skipped:
        whole = saved is None or saved.tensors["model/a"].eq(0.5 * saved.epoch).all()
        return (
            None if whole and (saved is None or saved.meta["best_epoch"] == saved.epoch) else "another state"
        )
    return saved.epoch, json.dumps(saved.meta), {k: v.tolist() for k, v in saved.tensors.items()}


def read_lease(out, path):
    """Nothing: a lease holds no number, and must only be readable or not."""
    Leases(out).holders()
    Leases(out).claim(path.name.partition(".")[0])


def read_notes(out, path):
    """Nothing but that every other remark is there: a remark holds no number."""
    left = [note["note"] for note in Store.open(out).notes()]
    # A bit may make one line of two, or two of one.
    return None if len({f"remark {i}" for i in range(NOTES)} - set(left)) <= 2 else left
