"""What the engine itself costs: large run folders, the overhead of a cell, two jobs against one.

    python benchmarks/engine.py                     # measures all (ten minutes), writes results/scale/engine.json
    python benchmarks/engine.py --only overhead     # one part of it; the others stay as they were
    python benchmarks/engine.py --page              # writes docs/scale.md, and its lines in docs/reliability.md

Every command runs in a process of its own. CPU seconds are those of the process and of its children, and say
the same on a busy machine, within what caches and hyper-threads make of it; wall times and the speed-up of
two jobs need a machine with nothing else to do, and the page says how busy it was.
"""

import argparse
import compileall
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import engine_page
from engine_folder import study_of

from secateur.config import load_study
from secateur.study import facts_to_price, forecast, plan

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "scale" / "engine.json"
PAGE = ROOT / "docs" / "scale.md"
RELIABILITY = Path(__file__).parent / "reliability.py"
SIZE, CELLS = 73_000, 10_000
FEW, MANY = 100, 500
WORK_SECONDS = 0.4
# Assumed, as there was no GPU to measure: float32 without TF32, networks for images of 32 x 32.
TFLOPS, PRICE, DEVICES = 20.0, 2.5, (1, 8, 64)

WRITE = "from engine_folder import write_folder; import sys; print(write_folder(sys.argv[1], cells=int(sys.argv[2]), size=int(sys.argv[3])))"
LOAD = "from secateur.report.load import load; import sys; print(len(load(sys.argv[1]).attacks))"
RUN = """
import sys
from secateur.config import load_study
from secateur.study import plan, run_plan
result = run_plan(plan(load_study(sys.argv[1])), sys.argv[2], jobs=int(sys.argv[3]), execute=sys.argv[4])
assert result.ok == len(result.store.cells), result.failed
print(result.ok, result.seconds)
"""


def measured(arguments, **environment):
    """Run a command; its output, wall and CPU seconds, and the peak memory of its largest process in MB."""
    path = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    settings = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, env=settings)
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: exit code {process.returncode}")
    # Of this kernel's units; macOS counts bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return output, {
        "wall": round(time.perf_counter() - begun, 2),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / unit),
    }


def large_folder(folder, cells):
    """Status, plan and the loading of a report of a large folder: the first look, and every one after."""
    # In a process of its own: a child has the peak of the process that it was forked from.
    output, _ = measured(["-c", WRITE, str(folder / "large"), str(cells), str(SIZE)])
    return {**looked_at(folder / "large", folder / "cache"), "cells": int(output)}


def looked_at(root, cache):
    """What looks at a large folder take; the cache is empty at first."""
    sizes = [path.stat().st_size for path in root.glob("cells/*/*/record.json")]
    status = ["-m", "secateur", "status", str(root)]
    plan_again = ["-m", "secateur", "plan", str(root / "study.yaml"), "--out", str(root)]
    commands = {
        "status first": status,
        "status again": status,
        "plan again": plan_again,
        "load": ["-c", LOAD, str(root)],
    }
    shutil.rmtree(cache, ignore_errors=True)
    rows = {name: measured(command, SECATEUR_CACHE=str(cache))[1] for name, command in commands.items()}
    return {"bytes": sum(sizes) // len(sizes), "rows": rows}


def run_of(folder, cells, stage, *, jobs=1, **environment):
    """Run a study of at least ``cells`` cells; their number, the seconds of the run, and what it took."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    (folder / "study.yaml").write_text(study_of(cells))
    arguments = [str(folder / "study.yaml"), str(folder / "run"), str(jobs), f"engine_stages:{stage}"]
    output, row = measured(["-c", RUN, *arguments], **environment)
    count, seconds = output.split()
    return int(count), {**row, "run": round(float(seconds), 3)}


def overhead(folder, cells):
    """Seconds of a cell that does nothing: what many cells take more than few, so without the start."""
    rows = {}
    for name, size in (("small", 2_000), ("large", SIZE)):
        (few, one), (many, two) = (run_of(folder, n, "nothing", ENGINE_BYTES=str(size)) for n in (FEW, MANY))
        rows[name] = {
            "bytes": size,
            "cells": many - few,
            "wall_ms": round(1e3 * (two["run"] - one["run"]) / (many - few), 2),
            "cpu_ms": round(1e3 * (two["cpu"] - one["cpu"]) / (many - few), 2),
        }
    return rows


def two_jobs(folder, cells):
    """The same work by one job and by two."""
    settings = {"ENGINE_BYTES": "2000", "ENGINE_SECONDS": str(WORK_SECONDS)}
    (count, one), (_, two) = (run_of(folder, FEW, "busy", jobs=jobs, **settings) for jobs in (1, 2))
    return {
        "cells": count,
        "work": WORK_SECONDS,
        "one": one["run"],
        "two": two["run"],
        "speed_up": round(one["run"] / two["run"], 3),
    }


def two_nodes(folder, cells):
    """The same work on one Ray node of one core and on two; nothing where Ray is not installed."""
    if find_spec("ray") is None:
        print("nodes: Ray is not installed, what was measured before stays", file=sys.stderr)
        return None
    (folder / "study.yaml").write_text(study_of(FEW))
    settings = {"ENGINE_BYTES": "2000", "ENGINE_SECONDS": str(WORK_SECONDS)}
    script = str(Path(__file__).parent / "engine_nodes.py")
    found = {}
    for nodes in (1, 2):
        arguments = [script, str(folder / "study.yaml"), str(folder), str(nodes)]
        output, _ = measured(arguments, **settings)
        count, took = output.split()[-2:]
        found[nodes] = float(took)
    return {
        "cells": int(count),
        "work": WORK_SECONDS,
        "one": round(found[1], 3),
        "two": round(found[2], 3),
        "speed_up": round(found[1] / found[2], 3),
    }


def thesis(folder, cells):
    """The thesis' study on 1, 8 and 64 devices, from passes, multiply-adds and sizes; the speed is assumed."""
    study = load_study(ROOT / "studies" / "thesis.yaml")
    laid = plan(study, facts=facts_to_price(study)[0], probe=True)
    found = [forecast(laid, devices, tflops=TFLOPS) for devices in DEVICES]
    one = found[0]
    costs = [cost for cost in laid.costs.values() if cost.units]
    units = {
        cell.id: laid.costs[cell.id].units * 2 * laid.speeds[cell.axes["model"]].macs for cell in laid.cells
    }
    return {
        "cells": len(laid.cells),
        "repeats": len(laid.cells) - len(costs),
        "forwards": laid.forwards,
        "backwards": laid.backwards,
        "flop": sum(units.values()),
        "tflops": TFLOPS,
        "price": PRICE,
        "disk_bytes": laid.disk_bytes,
        "forecasts": [each.to_json() for each in found],
        "even": round(one.seconds / one.chain_seconds),
        "shortest": min(each for each in units.values() if each) / (TFLOPS * 1e12),
        "write_mb_s": sum(stage.bytes for stage in one.stages.values()) / 1e6 / found[-1].seconds,
    }


PARTS = {"large": large_folder, "overhead": overhead, "jobs": two_jobs, "nodes": two_nodes, "thesis": thesis}


def main():
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--page", action="store_true")
    chosen = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    # As an installation does: where Python is told to write no bytecode, every process would compile all anew.
    compileall.compile_dir(ROOT / "src", quiet=1)
    for name in () if chosen.page else chosen.only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found = PARTS[name](Path(folder), chosen.cells)
        if found is None:
            continue
        results[name] = found
        # Other processes that wanted a core, on the average of the last minute.
        results[name]["machine"] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
        results["python"] = platform.python_version()
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(results[name]), flush=True)
    if PARTS.keys() - {"nodes"} <= results.keys():
        PAGE.write_text(engine_page.page(results), encoding="utf-8")
        # That page has these numbers in short.
        subprocess.run([sys.executable, RELIABILITY, "--no-run", "--write"], check=True)


if __name__ == "__main__":
    main()
