"""A worker process: reads cell ids on its standard input, carries them out, tells about them in JSON lines.

It ends when its input ends, which is also how it notices that its parent has died.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from secateur.engine.perform import Stopped, load_execute, open_run, perform
from secateur.errors import UserError
from secateur.registry import load_plugin

TICK_SECONDS = 0.1


def main(folder: str, execute_target: str, *plugins: str) -> None:
    """Serve one parent until it closes our input; ``plugins`` are the files that it has run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches us too, but the parent decides
    voice = _private_stdout()
    inbox: queue.Queue[str] = queue.Queue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(inbox, stop), daemon=True).start()
    for path in plugins:
        load_plugin(Path(path))
    execute = load_execute(execute_target)
    store, study, cells = open_run(folder)
    _say(voice, "", "ready")
    while True:
        cell_id = inbox.get()
        if stop.is_set():
            return
        cell = cells[cell_id]
        tick = _Ticker(voice, cell.id, stop)
        _say(voice, cell.id, "start")
        started = time.perf_counter()
        try:
            status = perform(store, study, cell, execute, on_progress=tick)
            _say(voice, cell.id, status, seconds=time.perf_counter() - started, sentence=_why(store, cell.id))
        except UserError as error:
            _say(voice, cell.id, "paused", sentence=str(error))
        except Stopped:
            _say(voice, cell.id, "stopped")


class _Ticker:
    """The progress callback of a cell: tells the parent, not too often, and ends the cell on request."""

    def __init__(self, voice: TextIO, cell: str, stop: threading.Event) -> None:
        self._voice, self._cell, self._stop, self._next = voice, cell, stop, 0.0

    def __call__(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + TICK_SECONDS
            _say(self._voice, self._cell, "tick", done=done, total=total)


def _why(store: Any, cell_id: str) -> str:
    record = store.record(cell_id)
    return record.reason if record else ""


def _say(voice: TextIO, cell: str, kind: str, **facts: Any) -> None:
    try:
        voice.write(json.dumps({"kind": kind, "cell": cell, **facts}) + "\n")
        voice.flush()
    except BrokenPipeError:
        os._exit(1)


def _listen(inbox: "queue.Queue[str]", stop: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == "stop":
            stop.set()
        inbox.put(line.strip())
    os._exit(0)  # the parent is gone: an orphan would compute for nobody


def _private_stdout() -> TextIO:
    """Our own copy of standard output; what libraries print goes to standard error, out of the protocol."""
    voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return voice


if __name__ == "__main__":
    main(*sys.argv[1:])
