"""Stages that do arithmetic instead of training, for tests of everything around the stages.

The behaviour of a cell is chosen by environment variables, so that it reaches worker processes. TOY_FAIL,
TOY_DIE, TOY_DIE_ONCE and TOY_DISK_FULL hold a text that occurs in a cell's label. TOY_SLEEP: seconds a step.
TOY_FORGETS: a broken variant that counts a step twice. TOY_FAULT="point:n": die at the n-th time that a
process reaches this fault point. TOY_BUSY: seconds that it computes before its first step. TOY_TRACE: a
file that gets a line per executed cell. TOY_PRINTS: what a cell prints. TOY_WORDS: what it says before it
dies. TOY_DIE_AT="stage:n": die after step n of a cell of this stage, or a later one.
"""

import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from secateur.store import Parts, faults
from toy.numbers import numbers_of

STEPS = 4
_reached: Counter[str] = Counter()


def _die_at(point: str) -> None:
    _reached[point] += 1
    wanted = os.environ.get("TOY_FAULT", "")
    if wanted == f"{point}:{_reached[point]}":
        os.kill(os.getpid(), signal.SIGKILL)


faults.listen(_die_at)


def _switch(store, name):
    """The switch from the environment, or from a file in the run folder, which reaches other machines."""
    file = store.root / "logs" / name
    return os.environ.get(name) or (file.read_text() if file.exists() else "")


def execute(study, cell, store, *, on_progress):
    if trace := os.environ.get("TOY_TRACE"):
        with Path(trace).open("a") as file:
            file.write(f"{cell.id}\n")
    if "TOY_PRINTS" in os.environ:
        print(os.environ["TOY_PRINTS"], flush=True)
    if (text := _switch(store, "TOY_FAIL")) and text in cell.label:
        raise ArithmeticError("this toy breaks")
    if (text := _switch(store, "TOY_DIE")) and text in cell.label:
        print(os.environ.get("TOY_WORDS", ""), file=sys.stderr, flush=True)
        os._exit(7)
    if (text := os.environ.get("TOY_DISK_FULL")) and text in cell.label:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if (text := os.environ.get("TOY_DIE_ONCE")) and text in cell.label:
        marker = store.root / "logs" / f"died-{cell.id}"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + float(os.environ.get("TOY_BUSY", 0))
    while time.monotonic() < end:
        pass
    above = json.loads(store.artefact(cell.parent, "state.json").read_text()) if cell.parent else 0
    state = _work(cell, store, above, on_progress)
    test = (state % 100) / 100
    accuracy = test if cell.stage == "attack" else {"test": test}
    threads = os.environ["OMP_NUM_THREADS"]
    numbers = numbers_of(cell.stage, value=state / 7, accuracy=accuracy, threads=threads)
    return Parts(numbers, {"state.json": json.dumps(state).encode()}, {"toy": time.time()})


def _work(cell, store, above, on_progress):
    """A sum that is kept after every step and taken up again, as a training is."""
    kept = store.scratch(cell.id) / "kept.json"
    step, state = json.loads(kept.read_text()) if kept.exists() else (0, above)
    while step < STEPS:
        time.sleep(float(_switch(store, "TOY_SLEEP") or 0))
        step, state = step + 1, (state * 31 + cell.seed + step) % 1_000_003
        if step == 2 and "TOY_FORGETS" in os.environ:
            state = (state * 31 + cell.seed + step) % 1_000_003
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps([step, state]))
        fresh.replace(kept)
        stage, _, last = os.environ.get("TOY_DIE_AT", ":0").partition(":")
        if stage == cell.stage and step >= int(last):
            os._exit(7)
        if on_progress:
            on_progress(step, STEPS)
    return state
