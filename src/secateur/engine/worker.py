"""A worker process: reads cell ids from standard input, computes them, and reports in JSON lines.

It ends when its input ends, which also happens when its parent dies.
"""

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from secateur.engine.perform import Stopped, load_execute, open_run, perform, reason
from secateur.errors import UserError
from secateur.registry import load_plugin
from secateur.store.files import machine_errors

TICK_SECONDS = 0.1


def main(folder: str, execute_target: str, *plugins: str) -> None:
    """Work until the parent closes the input; ``plugins`` are the files of plug-ins that it has loaded."""
    _end_with_parent()
    # Ctrl-C, a terminal that closes and a batch system reach this process too, but the parent decides: it
    # asks for a checkpoint first.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    output = _private_output()
    inbox: queue.Queue[str] = queue.Queue()
    stop = threading.Event()
    # A thread reads the input, so that a request to stop arrives while a cell is computed.
    threading.Thread(target=_listen, args=(inbox, stop), daemon=True).start()
    for path in plugins:
        load_plugin(Path(path))
    execute = load_execute(execute_target)
    try:
        with machine_errors(Path(folder)):
            store, study, cells = open_run(folder)
    except UserError as error:  # the folder was sound a moment ago, when the parent opened it
        cell_id = inbox.get()
        if not stop.is_set():
            _report(output, cell_id, "paused", sentence=str(error))
        return
    _report(output, "", "ready")
    while True:
        cell_id = inbox.get()
        if stop.is_set():
            return
        cell = cells[cell_id]
        tick = _Ticker(output, cell.id, stop)
        _report(output, cell.id, "start")
        started = time.perf_counter()
        try:
            status = perform(store, study, cell, execute, on_progress=tick)
            seconds = time.perf_counter() - started
            with machine_errors(store.root):
                why = "" if status == "ok" else reason(store, cell.id)
            _report(output, cell.id, status, seconds=seconds, sentence=why)
        except UserError as error:
            _report(output, cell.id, "paused", sentence=str(error))
        except Stopped:
            _report(output, cell.id, "stopped")


class _Ticker:
    """The progress callback of a cell: reports at most ten times a second, and ends the cell on request."""

    def __init__(self, output: TextIO, cell: str, stop: threading.Event) -> None:
        self._output, self._cell, self._stop, self._next = output, cell, stop, 0.0

    def __call__(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + TICK_SECONDS
            _report(self._output, self._cell, "tick", done=done, total=total)


def _report(output: TextIO, cell: str, kind: str, **facts: Any) -> None:
    try:
        output.write(json.dumps({"kind": kind, "cell": cell, **facts}) + "\n")
        output.flush()
    except BrokenPipeError:
        os._exit(1)


def _listen(inbox: "queue.Queue[str]", stop: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == "stop":
            stop.set()
        inbox.put(line.strip())
    os._exit(0)  # the parent is gone, and with it the use of the result


def _end_with_parent() -> None:
    """Let the system end this process with its parent, where it can: a stopped or stuck one reads no end."""
    with suppress(OSError, AttributeError):
        # PR_SET_PDEATHSIG of Linux; the function is absent elsewhere.
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)


def _private_output() -> TextIO:
    """A private copy of standard output; what libraries print goes to standard error instead."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


if __name__ == "__main__":
    main(*sys.argv[1:])
