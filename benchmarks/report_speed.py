"""What a report costs: CPU and wall seconds of its parts, and the bytes of its page, by number of records.

    python benchmarks/report_speed.py                   # 315, 1,575 and 10,500 records, from the published ones
    python benchmarks/report_speed.py --write           # the same, and the table of docs/reports.md from it
    python benchmarks/report_speed.py --parts           # the same, and the seconds of every part
    python benchmarks/report_speed.py runs/demo         # of a run folder, with its parts

The larger folders hold the 1,050 records of `results/cifar10-small` as further seeds and models: new ids, new
weights, and distances that differ by a few per cent. `whole` is `secateur report` as people start it, all of
its processes together. The parts are measured in one process, one after another, which takes as long again.
What it does is told on stderr.
"""

import argparse
import resource
import shutil
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
from secateur.store.seal import sealed_text
from secateur.store.study_file import sealed_study

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "reports.md"
BEGIN, END = "<!-- written by benchmarks/report_speed.py --write -->\n", "<!-- end -->\n"
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
    cells = {(copy, seed): [] for copy in range(models) for seed in range(seeds)}
    for number, cell in enumerate(study["cells"]):
        # Read once for all of its copies.
        raw = (source / "cells" / cell["id"][:2] / cell["id"] / "record.json").read_bytes()
        for copy, seed in cells:
            if cell["axes"]["seed"] == seed % own:
                cells[copy, seed].append(copied(strict_json(raw), target, cell, copy, seed))
        if number % 100 == 0:
            say(f"records of {target.name}: {100 * number // len(study['cells'])} %")
    listed = [cell for few in cells.values() for cell in few]
    study = {**study, "cells": listed, "study_hash": sha256_hex(f"{models} {seeds}")}
    write(target / "study.json", readable_json(sealed_study(study)))
    return target


def copied(record, target, cell, copy, seed):
    """Write the record of a cell under another id; the cell."""

    def renamed(id_):
        return sha256_hex(f"{id_} {copy} {seed}")[:32]

    axes = {**cell["axes"], "seed": seed}
    axes["model"] += f"-{copy + 1}" if copy else ""
    parent = renamed(cell["parent"]) if cell["parent"] else None
    new = {**cell, "id": renamed(cell["id"]), "parent": parent, "axes": axes}
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
    # Laid out as the store does it: in another spelling a record takes twice as long to check.
    write(target / "cells" / new["id"][:2] / new["id"] / "record.json", sealed_text({**record, **new}))
    return new


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def say(words):
    print(words, file=sys.stderr, flush=True)


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
    return seconds


def measured(folder, out, *, with_parts):
    """Print the costs of one folder; its row of the table."""
    records = sum(1 for _ in folder.glob("cells/*/*/record.json"))
    say(f"report of {records:,} records")
    cpu, wall, memory, page = whole(folder, out)
    # Every figure of a page has its place in it; one of them may stand at the top.
    figures_drawn = (out / "index.html").read_text(encoding="utf-8").count("<figure id=")
    print(f"{records:,} records of {folder.name}: page of {page / 1e6:.2f} MB, {memory:,.0f} MiB")
    print(f"  whole      {cpu:7.2f} s of CPU, {wall:7.2f} s", flush=True)
    if with_parts:
        say("its parts, in one process")
        for name, taken in parts(folder, out).items():
            print(f"  {name:10} {taken:7.2f} s of CPU")
    return {
        "records": records,
        "figures": figures_drawn,
        "cpu": cpu,
        "wall": wall,
        "page": page,
        "mib": memory,
    }


def table(rows):
    """The table of docs/reports.md."""
    lines = ["| records | figures | CPU | wall | page | memory |", "|---:|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {row['records']:,} | {row['figures']} | {row['cpu']:.1f} s | {row['wall']:.1f} s "
        f"| {row['page'] / 1e6:.2f} MB | {row['mib']:,.0f} MiB |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def rewritten(page, rows):
    """The text of docs/reports.md with the table of these rows."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}{table(rows)}{end}{after}"


def main():
    parser = argparse.ArgumentParser(description="What a report costs.")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        out = Path(root) / "report"
        if asked.folders:
            for folder in asked.folders:
                measured(folder, out, with_parts=True)
            return
        rows = []
        for study, sizes in SIZES.items():
            source = unpacked(study, Path(root) / study)
            for models, seeds in sizes:
                target = Path(root) / f"{study}-{models}-{seeds}"
                grown(source, target, models=models, seeds=seeds)
                rows.append(measured(target, out, with_parts=asked.parts))
                shutil.rmtree(target)
    if asked.write:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
