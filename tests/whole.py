"""A real study in small: every stage, both attacks, run through the command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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


def start(study: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """`secateur run` in a process group of its own, so that it can be killed with its workers."""
    command = [sys.executable, "-m", "secateur", "run", str(study), "--out", str(out), "--progress", "plain"]
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
