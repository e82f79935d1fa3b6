"""A small study of the digits, runs of it in processes of their own, and what they must leave behind."""

import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = str(HERE.parent / "tests")
# Scripts beside this file are called like folders of the tests, and would be imported in their place.
sys.path[:] = [TESTS, *(each for each in sys.path if each != TESTS and Path(each or ".").resolve() != HERE)]
import report.synthetic  # noqa: E402, F401

sys.path.append(str(HERE))

from reliability_faulted import listen, main  # noqa: E402

from secateur.store import Store  # noqa: E402
from toy.study import science  # noqa: E402

STUDY = """\
name: tiny
data: {spec: digits, sizes: [120, 40, 40]}
models:
  net: {arch: resnet-tiny, settings: {widths: [4, 4]}, recipe: {epochs: 3, batch_size: 64, checkpoint_every: 1}}
criteria: [l1]
sparsities: [0, 0.5]
finetune:
  std: {epochs: 2, batch_size: 64, learning_rate: 0.02, checkpoint_every: 1}
seeds: [0]
images: 8
attacks:
  ddn: {steps: 4}
"""
CELLS = 8
FORK = multiprocessing.get_context("fork")
LIMIT = 300
"""Seconds after which a run that should have ended hangs."""


@dataclass
class Tally:
    """How many tries survived, by kind, and what became of the others."""

    tried: dict[str, int] = field(default_factory=dict)
    survived: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def add(self, kind, problem, times=1):
        """Count a try; ``problem`` says in words what went wrong, and is empty if nothing did."""
        self.tried[kind] = self.tried.get(kind, 0) + times
        self.survived[kind] = self.survived.get(kind, 0) + (0 if problem else times)
        if problem:
            self.lost.append(f"{kind}: {problem}")


def begin(out, *, fault=None, jobs=1):
    """Start a run of the study in the folder ``out``; its standard error goes to a file beside it.

    The process is forked, so that it need not import everything again; its workers are new processes.
    """
    study = out.with_name("study.yaml")
    study.write_text(STUDY, encoding="utf-8")
    process = FORK.Process(target=_run, args=(study, out, jobs, fault))
    process.start()
    return process


def _run(study, out, jobs, fault):
    with out.with_name("stderr.txt").open("ab") as errors:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    os.environ["RELIABILITY_FAULT"] = json.dumps(fault)
    listen()
    main(study, out, jobs)


def end(process, limit=LIMIT):
    """The exit code of a run; None, and the run is killed, when it hangs."""
    process.join(limit)
    if process.exitcode is None:
        for child in children(process.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.join()
        return None
    return process.exitcode


def children(pid):
    """The processes that a process has started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def undisturbed(folder):
    """The science of a run that nothing disturbs, by cell, and how long it took."""
    started = time.monotonic()
    code = end(begin(folder / "run"))
    records = science(folder / "run")
    if code != 0 or len(records) != CELLS:
        raise SystemExit(f"the undisturbed run ends with {code} and {len(records)} records")
    return records, time.monotonic() - started


def resumed(out, whole):
    """Run the study to its end; in words what is not as after the run that nothing disturbed."""
    code = end(begin(out))
    if code != 0:
        return "the resumed run hangs" if code is None else f"the resumed run ends with {code}"
    return unlike(out, whole)


def unlike(out, whole):
    """In words what in a finished folder is not as after a run that nothing disturbed; empty if all is."""
    found = science(out)
    wrong = [cell for cell in whole if found.get(cell) != whole[cell]]
    if wrong or len(found) != len(whole):
        return f"{len(wrong)} of {len(whole)} records differ"
    store = Store.open(out)
    damaged = [why for cell in store.cells if (why := store.damage(cell.id))]
    if damaged:
        return f"damaged at the end: {damaged[0]}"
    store.gc()
    left = [path.name for name in ("tmp", "scratch", "leases") for path in (out / name).glob("*")]
    return f"left behind: {left[0]}" if left else ""
