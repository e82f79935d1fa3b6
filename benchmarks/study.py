"""CPU seconds of the demo study, and of the same study as a script with Torch-Pruning and adv-lib, by part.

    python benchmarks/study.py --rounds 2 --out results/study.json

runs `secateur run studies/demo.yaml` and benchmarks/study_by_hand.py in turn, each in a new process with one thread,
and writes user and system seconds, those of child processes included. ``--seeds 0 --sparsities 0.4 0.8`` makes both
smaller. The page docs/time.md is printed by

    python benchmarks/study.py --page results/study.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
PARTS = {
    "start": "start: interpreters and imports",
    "plan": "plan: import torch, read the images, check every model",
    "data": "read and split the images again, in the worker",
    "train": "train",
    "prune": "prune; ours with proof",
    "tune": "fine-tune",
    "evaluate": "accuracy and sizes on all splits",
    "attack": "attack; ours verified and graded",
    "save": "save, commit, hand out work",
    "report": "report",
}


def spent():
    """CPU seconds of this process and of the children that it has waited for."""
    times = os.times()
    return sum(times[:4])


def whole_study(out, seeds, sparsities):
    """In a process of its own: what `secateur run` does, with a clock between its parts."""
    from secateur.config import load_study
    from secateur.report import report
    from secateur.study import plan, run_plan

    found = {"start": spent()}
    study = load_study(
        ROOT / "studies" / "demo.yaml", overrides=[f"seeds={seeds}", f"sparsities={[0, *sparsities]}"]
    )
    laid = plan(study, out=out)
    found["plan"] = spent() - found["start"]
    os.environ["STUDY_PARTS"] = f"{out}.parts"
    before = spent()
    result = run_plan(laid, out, execute="study_parts:execute")
    running = spent() - before
    assert result.exit_code == 0, result.failed
    for line in Path(f"{out}.parts").read_text().splitlines():
        for name, seconds in json.loads(line).items():
            found[name] = found.get(name, 0.0) + seconds
            running -= seconds
    found["save"] = running
    before = spent()
    report(out)
    found["report"] = spent() - before
    counts = laid.counts
    print(json.dumps({"networks": counts["train"] + counts["prune"] + counts["tune"], "attacks": counts["attack"],
                      "seconds": found}))  # fmt: skip


def timed(command):
    """The last line that a command prints, as JSON, with its CPU and wall seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr[-2000:]}")
    cpu = sum(after[2:4]) - sum(before[2:4])
    found = json.loads(done.stdout.splitlines()[-1])
    # What no part holds: the end of the process.
    rest = cpu - sum(found["seconds"].values())
    found["seconds"]["save"] = found["seconds"].get("save", 0.0) + rest
    return {**found, "cpu": cpu, "wall": time.perf_counter() - began}


def measure(rounds, seeds, sparsities, out, *, first=0):
    """Ours and the script in turn, the other way round in every second round; written after every round."""
    digits = ROOT / "src" / "secateur" / "data" / "digits.npz"
    found = {"ours": [], "by hand": []}
    grid = ["--seeds", *map(str, seeds), "--sparsities", *map(str, sparsities)]
    for number in range(first, first + rounds):
        with tempfile.TemporaryDirectory() as folder:
            turns = [
                ("ours", [str(HERE / "study.py"), "--one", f"{folder}/ours", *grid]),
                (
                    "by hand",
                    [str(HERE / "study_by_hand.py"), f"{folder}/hand", "--digits", str(digits), *grid],
                ),
            ]
            for name, command in turns if number % 2 == 0 else reversed(turns):
                found[name].append(timed(command))
        print({name: round(runs[-1]["cpu"], 1) for name, runs in found.items()}, file=sys.stderr)
        out.write_text(
            json.dumps(
                {"seeds": seeds, "sparsities": sparsities, "machine": machine(), "runs": found}, indent=1
            )
            + "\n"
        )


def machine():
    import torch

    return (
        f"{platform.machine()}, {os.cpu_count()} cores shared with other processes, torch {torch.__version__}"
    )


def page(data):
    """docs/time.md"""
    ours, hand = (data["runs"][name] for name in ("ours", "by hand"))
    ratios = [a["cpu"] / b["cpu"] for a, b in zip(ours, hand, strict=True)]
    rounds, seeds = len(ours), data["seeds"]
    sizes = ", ".join(f"{value:g}" for value in data["sparsities"])
    counts = f"{ours[0]['networks']} networks and {ours[0]['attacks']} attacks"
    lines = [
        "# Time of a whole study",
        "",
        "Generated by `benchmarks/study.py`; do not edit.",
        "",
        f"`studies/demo.yaml` with seeds {seeds} and sparsities {sizes} ({counts}) as `secateur run` carries it out with one",
        "worker, and the same study as a script for once: `benchmarks/study_by_hand.py` prunes with Torch-Pruning, attacks with",
        "adv-lib's DDN and FMN, and trains in plain torch; the same network, images, epochs, sparsities, seeds and steps. CPU",
        f"seconds (user and system, child processes included), medians of {rounds} runs in turn, one thread;",
        f"{data['machine']}.",
        "",
        "| part | secateur | by hand |",
        "|---|---|---|",
    ]
    for key, title in PARTS.items():
        values = [_median(runs, key) for runs in (ours, hand)]
        lines.append(f"| {title} | {' | '.join('–' if v is None else f'{v:.1f}' for v in values)} |")
    totals = [statistics.median(run["cpu"] for run in runs) for runs in (ours, hand)]
    lines += [
        f"| **whole** | **{totals[0]:.1f}** | **{totals[1]:.1f}** |",
        "",
        f"Ratio of the wholes, round by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}.",
        "",
        "The script proves no pruning, verifies and grades no attack, cannot be interrupted and resumed, and its report is one table",
        "and eight figures. adv-lib imports torchvision. Parts of ours are those of the worker process and of the process that hands",
        "out work together; every second round runs the script first.",
        "",
        "We set out for 0.8 and are not there.",
        "",
    ]
    return "\n".join(lines)


def _median(runs, key):
    values = [run["seconds"][key] for run in runs if key in run["seconds"]]
    return statistics.median(values) if values else None


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--first", type=int, default=0, help="number of the first round")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options.add_argument("--sparsities", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8])
    options.add_argument("--out", type=Path, default=Path("study.json"))
    options.add_argument("--one", type=Path)
    options.add_argument("--page", type=Path)
    given = options.parse_args()
    if given.one:
        whole_study(given.one, given.seeds, given.sparsities)
    elif given.page:
        print(page(json.loads(given.page.read_text())), end="")
    else:
        measure(given.rounds, given.seeds, given.sparsities, given.out, first=given.first)


if __name__ == "__main__":
    main()
