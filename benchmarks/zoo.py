"""Prune a whole zoo with secateur and its peers: one row per model and tool.

    python benchmarks/zoo.py torchvision timm hf --tools ours torch-pruning torch-kirigami --out zoo.json
    python benchmarks/zoo.py torchvision timm hf --tools ours-afterwards --limit 300 --out zoo.json
    python benchmarks/zoo_report.py zoo.json > docs/zoo.md

Rows are written as they come, and rows that are there are not run again. Every model runs in a process of its
own that is ended after --limit seconds of CPU time, so that a busy machine changes nothing; the process is
forked, so that libraries are imported once.
"""

import argparse
import gc
import io
import json
import multiprocessing
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
import zoo_models
import zoo_tools


def attempt(library, name, tool, sparsity, limit, pipe):
    """Run one tool on one model and send the row; the system ends a process that computes too long."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = io.StringIO()
    try:
        model, inputs = zoo_models.build(library, name)
    except Exception as error:
        pipe.send({"status": "not built", "reason": f"{type(error).__name__}: {error}"[:300]})
        return
    pipe.send("built")
    spent = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + int(limit), spent + int(limit) + 5))
    try:
        row = zoo_tools.TOOLS[tool](model, inputs, sparsity)
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        row = {"status": "failed", "reason": f"{type(error).__name__}: {text}"[:300]}
    pipe.send(row)


def run(library, name, tool, sparsity, limit):
    """One row; a process that computes longer than ``limit`` seconds after building is ended."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=attempt, args=(library, name, tool, sparsity, limit, there))
    process.start()
    there.close()
    row = {"status": "failed", "reason": "the process died"}
    try:
        if here.poll(300) and (first := here.recv()) == "built":
            # A process that waits and does not compute would never reach its limit.
            row = here.recv() if here.poll(20 * limit) else {"status": "failed", "reason": "it hangs"}
        elif isinstance(first, dict):
            row = first
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            row = {"status": "too slow", "reason": f"over {limit:g} s"}
    process.kill()
    process.join()
    return row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("libraries", nargs="+", choices=zoo_models.LIBRARIES)
    parser.add_argument("--tools", nargs="+", default=["ours"], choices=sorted(zoo_tools.TOOLS))
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--budget", type=float, default=float("inf"), help="stop after this many seconds")
    parser.add_argument("--only", nargs="*", help="names; all by default")
    parser.add_argument("--out", type=Path, default=Path("zoo.json"))
    options = parser.parse_args()
    multiprocessing.set_start_method("fork")
    for library in options.libraries:
        zoo_models.names(library)
    # What is imported by now would be looked through again by every collection in every process.
    gc.collect()
    gc.freeze()
    rows = json.loads(options.out.read_text()) if options.out.exists() else {}
    start = time.perf_counter()
    for library in options.libraries:
        for name in options.only or zoo_models.names(library):
            for tool in options.tools:
                key = f"{library}:{name}:{tool}:{options.sparsity:g}"
                if key in rows or time.perf_counter() - start > options.budget:
                    continue
                rows[key] = run(library, name, tool, options.sparsity, options.limit)
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
                brief = {
                    k: round(v, 3) if isinstance(v, float) and v > 1e-3 else v for k, v in rows[key].items()
                }
                print(key, brief, flush=True)


if __name__ == "__main__":
    main()
