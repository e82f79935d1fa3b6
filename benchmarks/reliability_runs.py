"""Runs that are disturbed: faults at named points, signals at random times, several runners on one folder."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress

from reliability_faulted import KINDS
from reliability_study import Tally, begin, children, end, resumed, undisturbed, unlike

from secateur.errors import ExitCode
from secateur.store.faults import POINTS

# What a run may end with after each fault: a disk that fails pauses the study, and never fails a cell.
ENDS = {
    "KILL": {0, -signal.SIGKILL},
    "TERM": {0, int(ExitCode.TERMINATED), -signal.SIGTERM},
    "ENOSPC": {int(ExitCode.ENVIRONMENT)},
    "EIO": {int(ExitCode.ENVIRONMENT)},
}
STARTS = ("study.",)
"""Points that a run reaches once."""
TURNS = 6
DAMAGED = 2
STOPPED_SECONDS = 1.0


def faults(n, seed, folder):
    """Every fault point with a kill, a termination, a full and a failing disk; then the run is resumed."""
    draw, tally = random.Random(seed), Tally()
    whole, _ = undisturbed(folder)
    pairs = [(point, kind) for point in sorted(POINTS) for kind in KINDS]
    chosen = draw.sample(pairs, n) if n < len(pairs) else [pairs[i % len(pairs)] for i in range(n)]
    for i, (point, kind) in enumerate(chosen):
        out = folder / f"try-{i}" / "run"
        out.parent.mkdir()
        turns = TURNS
        if point.startswith(STARTS):
            turns = 1
        elif point == "quarantine.moved":
            turns = DAMAGED
            _finished_but_damaged(folder / "run", out, draw)
        tally.add(kind, struck(out, point, draw.randint(1, turns), kind, whole))
        shutil.rmtree(out.parent)
    return tally


def struck(out, point, turn, kind, whole):
    """Run into one fault and resume; in words what went wrong."""
    marker = out.with_name("struck")
    code = end(begin(out, fault={"point": point, "turn": turn, "kind": kind, "marker": str(marker)}))
    where = f"{point}, turn {turn}"
    if not marker.exists():
        return f"{where}: no process came there"
    if code not in ENDS[kind]:
        return f"{where}: {'it hangs' if code is None else f'it ends with {code}'}"
    problem = resumed(out, whole)
    return f"{where}: {problem}" if problem else ""


def _finished_but_damaged(source, out, draw):
    shutil.copytree(source, out)
    for path in draw.sample(sorted(out.glob("cells/*/*/record.json")), DAMAGED):
        path.write_bytes(path.read_bytes()[: draw.randrange(100)])


def signals(n, seed, folder):
    """Signals at random times, to the run or to its worker, one run after another until the study is done."""
    draw, tally = random.Random(seed), Tally()
    whole, seconds = undisturbed(folder)
    done = 0
    while done < n:
        out = folder / f"series-{done}" / "run"
        out.parent.mkdir()
        sent, problem = [], ""
        while done + len(sent) < n and not problem:
            kind, problem = disturbed(out, draw, seconds)
            if not kind:
                break
            sent.append(kind)
        problem = problem or resumed(out, whole)
        for kind in sent:
            tally.add(kind, problem)
        done += len(sent)
        shutil.rmtree(out.parent)
    return tally


def disturbed(out, draw, seconds):
    """Run the study and send a signal; which, or nothing if it was over before, and what went wrong."""
    process, kind = begin(out), draw.choice(["KILL", "TERM", "INT", "STOP"])
    time.sleep(draw.uniform(0, seconds))
    workers = children(process.pid)
    # A worker that is asked to end by others than its parent has no reason to say why: it is killed or stopped.
    pid = draw.choice(workers) if workers and draw.random() < 0.5 else process.pid
    if pid != process.pid and kind == "INT":
        kind = "KILL"
    if not process.is_alive():
        return "", "" if process.exitcode == 0 else f"it ends with {process.exitcode}"
    send(pid, kind)
    if kind == "STOP":
        time.sleep(STOPPED_SECONDS)
        send(pid, "CONT")
    code = end(process)
    number = getattr(signal, f"SIG{kind}")
    allowed = {0} if kind == "STOP" else {0, -number, 128 + number}
    where = "the run" if pid == process.pid else "its worker"
    return kind, "" if code in allowed else f"{kind} to {where}: it ends with {code}"


def send(pid, kind):
    """Send a signal to a process, which may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, getattr(signal, f"SIG{kind}"))


def runners(n, seed, folder):
    """Two to five runs on one new folder at the same time; in every second try one of them is killed."""
    draw, tally = random.Random(seed), Tally()
    whole, seconds = undisturbed(folder)
    for i in range(n):
        out = folder / f"try-{i}" / "run"
        out.parent.mkdir()
        several = draw.randint(2, 5)
        started = []
        for _ in range(several):
            started.append(begin(out))
            time.sleep(draw.uniform(0, 0.5))
        victim = draw.choice(started) if i % 2 else None
        if victim:
            time.sleep(draw.uniform(0, seconds))
            send(victim.pid, "KILL")
        codes = [end(process) for process in started]
        wrong = [c for process, c in zip(started, codes, strict=True) if c != 0 and process is not victim]
        problem = f"one ends with {wrong[0]}" if wrong else unlike(out, whole)
        tally.add(f"{several} runs{', one killed' if victim else ''}", problem)
        shutil.rmtree(out.parent)
    return tally
