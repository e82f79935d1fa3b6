"""Run a study while a fault waits for the process that reaches it.

The environment names the fault, as JSON in RELIABILITY_FAULT: at which point of the store, at which turn of a
process there, which kind, and a marker, the file that makes it strike once in all processes of the run. Worker
processes import this module for :func:`execute`, and so listen as well.
"""

import errno
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from secateur.store import faults

SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}
KINDS = (*SIGNALS, "ENOSPC", "EIO")
ENTRY = "reliability_faulted:execute"
VARIABLE = "RELIABILITY_FAULT"


def listen():
    """Let the fault of the environment strike in this process, if there is one."""
    fault, reached = json.loads(os.environ.get(VARIABLE) or "null"), Counter()

    def strike(point):
        reached[point] += 1
        if (point, reached[point]) != (fault["point"], fault["turn"]):
            return
        try:
            Path(fault["marker"]).touch(exist_ok=False)
        except FileExistsError:
            return
        kind = fault["kind"]
        if kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[kind])
        else:
            number = getattr(errno, kind)
            raise OSError(number, os.strerror(number), point)

    if fault:
        faults.listen(strike)


listen()


def execute(study, cell, store, *, on_progress=None):
    """What computes a cell: the stages themselves."""
    from secateur import stages

    return stages.execute(study, cell, store, on_progress=on_progress)


def main(config, out, jobs):
    """Run the study as the command line does, without writing its report."""
    from secateur.config import load_study
    from secateur.errors import UserError
    from secateur.study import plan, run_plan

    try:
        laid = plan(load_study(config), out=out)
        outcome = run_plan(laid, out, jobs=int(jobs), execute=ENTRY)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
    sys.exit(outcome.exit_code)
