"""What a report costs: CPU and wall seconds of its parts, and the bytes of its page, by the number of records.

    python benchmarks/report.py                   # 315, 1,575 and 10,500 records, from the published ones
    python benchmarks/report.py runs/demo         # of a run folder

The larger folders hold the 1,050 records of `results/cifar10-small` as further seeds and models: new ids, new
weights, and distances that differ by a few per cent. `whole` is `secateur report` as people start it, all of
its processes together. The parts are measured in one process, one after another.
"""

import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from secateur.hashing import sha256_hex
from secateur.report import figures
from secateur.report.aggregate import aggregate
from secateur.report.drawing import save_all
from secateur.report.load import load
from secateur.report.page import render
from secateur.report.paired_changes import changes
from secateur.report.summary import summary
from secateur.store.files import readable_json, strict_json
from secateur.store.record import sealed
from secateur.store.study_file import sealed_study

RESULTS = Path(__file__).parents[1] / "results"
SIZES = {"cifar10-seeds": [(1, 3)], "cifar10-small": [(1, 3), (4, 5)]}
"""Published studies, and (copies of their models, seeds) of the folders that are made of them."""


def unpacked(study, root):
    """The run folder of a published study."""
    with tarfile.open(RESULTS / study / "records.tar.xz") as archive:
        archive.extractall(root, filter="data")
    return root


def grown(source, target, *, models, seeds):
    """A run folder with copies of the models of ``source``, and with so many seeds."""
    study = strict_json((source / "study.json").read_bytes())
    own = len({cell["axes"]["seed"] for cell in study["cells"]})
    cells = []
    for copy in range(models):
        for seed in range(seeds):
            for cell in study["cells"]:
                if cell["axes"]["seed"] == seed % own:
                    cells.append(copied(source, target, cell, copy, seed))
    study = {**study, "cells": cells, "study_hash": sha256_hex(f"{models} {seeds}")}
    write(target / "study.json", sealed_study(study))
    return target


def copied(source, target, cell, copy, seed):
    """Write the record of a cell under another id; the cell."""

    def renamed(id_):
        return sha256_hex(f"{id_} {copy} {seed}")[:32]

    axes = {**cell["axes"], "seed": seed}
    axes["model"] += f"-{copy + 1}" if copy else ""
    parent = renamed(cell["parent"]) if cell["parent"] else None
    new = {**cell, "id": renamed(cell["id"]), "parent": parent, "axes": axes}
    record = strict_json((source / "cells" / cell["id"][:2] / cell["id"] / "record.json").read_bytes())
    science = record["science"]
    if "weights_hash" in science:
        science["weights_hash"] = renamed(science["weights_hash"])
    if "distances" in science:
        generator = np.random.default_rng(int(new["id"][:12], 16))
        factors = generator.normal(1, 0.03, len(science["outcome"])).clip(0.5, 1.5).tolist()
        science["distances"] = {
            norm: [value and value * factor for value, factor in zip(values, factors, strict=True)]
            for norm, values in science["distances"].items()
        }
    write(target / "cells" / new["id"][:2] / new["id"] / "record.json", sealed({**record, **new}))
    return new


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(readable_json(data), encoding="utf-8")


def whole(folder, out):
    """CPU and wall seconds of the command, MiB that its largest process held, and the bytes of the page."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "secateur", "report", str(folder), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - start, after.ru_maxrss / 2**10, (out / "index.html").stat().st_size


def parts(folder, out):
    """CPU seconds of every part of a report, in one process."""
    seconds = {}

    def timed(name, do, *given, **named):
        start = time.process_time()
        found = do(*given, **named)
        seconds[name] = time.process_time() - start
        return found

    study = timed("load", load, folder)
    grid = timed("aggregate", aggregate, study)
    change = timed("changes", changes, grid)
    table = timed("summary", summary, grid, change)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    # A process of its own would hide what drawing costs.
    plans = figures.plans(grid, change)
    drawn = timed("figures", lambda: [save_all([plan], out / "figures", ())[0] for plan in plans])
    pictures = [picture for few in drawn for picture in few]
    timed("page", render, grid, change, pictures, table, run_folder=folder.name)
    return seconds, len(pictures)


def told(folder, out):
    """Print the costs of one folder."""
    records = sum(1 for _ in folder.glob("cells/*/*/record.json"))
    cpu, wall, memory, page = whole(folder, out)
    print(f"{records:,} records of {folder.name}: page of {page / 1e6:.2f} MB, {memory:,.0f} MiB")
    print(f"  whole      {cpu:7.2f} s of CPU, {wall:7.2f} s")
    seconds, count = parts(folder, out)
    for name, taken in seconds.items():
        print(f"  {name:10} {taken:7.2f} s of CPU{f', {count} figures' if name == 'figures' else ''}")


def main():
    with tempfile.TemporaryDirectory() as root:
        out = Path(root) / "report"
        if len(sys.argv) > 1:
            for folder in sys.argv[1:]:
                told(Path(folder), out)
            return
        for study, sizes in SIZES.items():
            source = unpacked(study, Path(root) / study)
            for models, seeds in sizes:
                target = Path(root) / f"{study}-{models}-{seeds}"
                told(grown(source, target, models=models, seeds=seeds), out)


if __name__ == "__main__":
    main()
