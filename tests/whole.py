"""A real study in small: every stage, both attacks, run through the command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from secateur.config import parse_study
from secateur.engine.perform import perform
from secateur.stages import execute
from secateur.store import Store
from secateur.study import plan

STUDY = """
name: whole
data: {spec: digits}
models:
  plain: {arch: resnet-tiny, recipe: {epochs: 2, batch_size: 64, checkpoint_every: 1}}
criteria: [l1, random]
sparsities: [0, 0.5]
finetune:
  standard: {epochs: 1, batch_size: 64, learning_rate: 0.02}
attacks:
  ddn: {norm: 2, steps: 10}
  fmn-linf: {attack: fmn, norm: inf, steps: 10}
images: 20
"""


# Small enough to run inside a test: a second per study and cell at most.
TINY = """
name: tiny
data: {spec: digits, sizes: [200, 40, 100]}
models:
  net: {arch: resnet-tiny, settings: {widths: [6, 8]}, recipe: {epochs: 1, batch_size: 50}}
criteria: [l1]
sparsities: [0, 0.5]
finetune: {standard: {epochs: 1, batch_size: 50, learning_rate: 0.02}}
attacks: {ddn: {steps: 2}}
images: 4
"""


def run_here(text: str, out: Path, *overrides: str) -> tuple[Store, list[dict[str, Any]]]:
    """Carry out a study in this process, cell by cell; its folder and its records."""
    laid = plan(parse_study(text, overrides=overrides))
    store = Store.create(out, laid.to_json())
    for cell in laid.cells:
        perform(store, laid.study, cell, execute)
    return store, [record.to_json() for record in store.records()]


# The command line with reports that hold no figures: these take a third of the time of a small study.
UNDRAWN = (
    "from secateur.report import figures; figures.plans = lambda *_: [];from secateur.cli import main; main()"
)


def start(study: Path, out: Path, *options: str, drawn: bool = False) -> subprocess.Popen[bytes]:
    """`secateur run` in a process group of its own, so that it can be killed with its workers."""
    program = ["-m", "secateur"] if drawn else ["-c", UNDRAWN]
    command = [sys.executable, *program, "run", str(study), "--out", str(out), "--progress", "plain"]
    return subprocess.Popen(
        [*command, *options], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a run; its exit code and everything it said."""
    out, err = process.communicate(timeout=300)
    return process.returncode, (out + err).decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the run and its workers, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
