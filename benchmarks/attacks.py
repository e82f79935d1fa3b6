"""Our attacks and those of three libraries on the same images, machine and models; writes docs/attacks.md.

usage: python benchmarks/attacks.py DIR --numbers FILE.json [--models mnist ...] [--norms 0 1 2 inf]
           [--steps 100 300 1000] [--only NAME ...] [--images 48] [--speed] [--out docs/attacks.md]

DIR holds mnist/ (the test set as IDX and smallcnn-ddn-trained.pth), resnet20-12fca82f.th, cifar10.npz,
resnet20-robust.safetensors, the weights of the cell of that name, seed 0, of studies/cifar10-small.yaml, and
what benchmarks/attack_networks.py DIR writes there.
Every row is measured once and kept in FILE.json, so that the table is built in pieces: delete a row to
measure it again. Peers are those of requirements-peers.txt; one that is not installed is left out. Every
attack goes through `secateur.attacks.run`: its passes are counted per image, and only examples that fool the
untouched model count.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path

import torch
from attack_cases import ENTRIES, INF, MODELS, Entry, case, import_peers
from attack_report import page, version_of
from attack_speed import TIMED, overheads, ratios
from torch import nn

from secateur.attacks import run
from secateur.data import Dataset
from secateur.errors import ExitCode, UserError

KEY = ("model", "norm", "attack", "steps", "images")


def measured(model: nn.Module, images: Dataset, norm: float, entry: Entry, steps: int) -> dict | None:
    """One row of the table, or nothing where the peer is not installed."""
    start = time.process_time()
    try:
        result = run(model, images, entry.name, norm=norm, **entry.settings(steps))
    except UserError as problem:
        if problem.code is not ExitCode.ENVIRONMENT:
            raise
        return None
    correct = result.correct
    own = {} if ":" in entry.name else {"version": version_of(entry.name)}
    return {
        **own,
        "distances": [float(f"{value:.6g}") for value in result.distance[correct].tolist()],
        "forwards": result.forwards[correct].mean().item(),
        "backwards": result.backwards[correct].mean().item(),
        "seconds": round(time.process_time() - start, 2),
    }


def fill(report: dict, chosen: argparse.Namespace) -> None:
    known = {tuple(row[key] for key in KEY) for row in report["rows"]}
    for name in chosen.models:
        model, images = case(name, chosen.folder, chosen.images)
        for steps in chosen.steps:
            for norm in chosen.norms:
                for entry in ENTRIES[norm]:
                    key = (name, f"{norm:g}", entry.shown, steps, images.n)
                    wanted = not chosen.only or any(part in entry.shown for part in chosen.only)
                    if key in known or not wanted:
                        continue
                    row = measured(model, images, norm, entry, steps)
                    if row is not None:
                        report["rows"].append(dict(zip(KEY, key, strict=True)) | row)
                        keep(report, chosen.numbers)
                        print(*key, f"{row['seconds']} s", flush=True)


def keep(report: dict, path: Path) -> None:
    path.write_text(json.dumps(report).replace("Infinity", "1e999"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--numbers", type=Path, required=True, help="measurements, added to")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--norms", type=float, nargs="+", default=[2.0, INF, 1.0, 0.0])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--only", nargs="+", default=[], help="attacks whose name contains one of these")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument(
        "--speed", nargs="*", choices=TIMED, metavar="MODEL", help="measure times as well, of these or of all"
    )
    parser.add_argument("--note", default="", help="what the page should say of the machine")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    # Other libraries warn of what has nothing to do with the measurement.
    warnings.filterwarnings("ignore")
    import_peers()
    report = {"rows": [], "ratios": [], "overhead": {}}
    if chosen.numbers.exists():
        report = json.loads(chosen.numbers.read_text())
    report["machine"] = (
        f"{platform.machine()}, torch {torch.__version__}, one thread{chosen.note and '; ' + chosen.note}"
    )
    fill(report, chosen)
    if chosen.speed is not None:
        timed = chosen.speed or list(TIMED)
        report["ratios"] = [row for row in report["ratios"] if row["model"] not in timed]
        for row in ratios(chosen.folder, timed):
            report["ratios"].append(row)
            keep(report, chosen.numbers)
            print(row, flush=True)
        for name, ratio in overheads():
            report["overhead"][name] = ratio
            keep(report, chosen.numbers)
            print(name, ratio, flush=True)
    if chosen.out:
        chosen.out.write_text(page(report))


if __name__ == "__main__":
    main()
