"""Cells on this machine, in a few long-lived worker processes that are replaced when they die."""

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from secateur.engine import EXECUTE, Message
from secateur.engine.life import Pulse
from secateur.errors import ExitCode, UserError
from secateur.registry import PlugIn, loaded, version_of
from secateur.untrusted import own_folder

LAST_LINE = 400
LIFE_SECONDS = 5.0
"""After so long without a sign of life of its worker a cell is no longer reported as alive."""
HUNG_SECONDS = 120.0
"""After so long a worker without a sign of life is ended, and counts as dead."""
STEP_SECONDS = 3600.0
"""After so long, and longer than its steps before took in all, a cell without another step is reported."""
TAIL = 65_536
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[str]
    log: Path
    pulse: Pulse
    cell: str | None = None
    ready: bool = False
    hung: bool = False
    begun: float = 0.0
    stepped: float | None = None
    told: float = 0.0


@dataclass
class LocalEngine:
    """``slots`` worker processes for one run folder.

    Workers are kept, because importing torch takes longer than a small cell. A worker that dies or hangs is
    replaced and its cell computed once more; a cell on which two workers die is reported as lost.
    """

    folder: Path
    slots: int = 1
    threads: int = 1
    execute: str = EXECUTE
    plugins: tuple[PlugIn, ...] = field(default_factory=loaded)
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _queue: "queue.Queue[tuple[int, str]]" = field(default_factory=queue.Queue)
    _waiting: deque[str] = field(default_factory=deque)
    _deaths: Counter[str] = field(default_factory=Counter)
    _started: int = 0
    _stopping: bool = False

    def submit(self, cell: str) -> None:
        """Give the cell to an idle worker, or queue it until one is idle."""
        self._waiting.append(cell)
        self._dispatch()

    def poll(self, timeout: float) -> list[Message]:
        """New messages of the workers, waiting up to ``timeout`` seconds for the first."""
        found: list[Message] = []
        try:
            found += self._receive(*self._queue.get(timeout=timeout))
            while True:
                found += self._receive(*self._queue.get_nowait())
        except queue.Empty:
            signs = [_sign_of_life(worker) for worker in self._workers.values()]
            return [*found, *(sign for sign in signs if sign is not None)]

    def stop(self) -> None:
        """Ask the workers to end their cells at the next step; queued cells are dropped."""
        self._stopping = True
        self._waiting.clear()
        for worker in self._workers.values():
            _send(worker, "stop")

    def close(self) -> None:
        """End all workers now."""
        self._stopping = True
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.wait()
            _close(worker)
            _drop_if_empty(worker.log)
        self._workers.clear()

    def _dispatch(self) -> None:
        while self._waiting and not self._stopping:
            idle = next((worker for worker in self._workers.values() if worker.cell is None), None)
            if idle is None and len(self._workers) >= self.slots:
                return
            idle = idle or self._start()
            idle.cell = self._waiting.popleft()
            idle.stepped = None
            idle.pulse.beat()
            _send(idle, idle.cell)

    def _start(self) -> _Worker:
        self._started += 1
        # Threads are limited by the environment, which OpenMP reads before torch is imported. The path
        # is passed on, because a plug-in or a test may have extended it; but never the working directory as
        # such, which may be a folder of somebody else's, or hold a file called like a module of Python.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **dict.fromkeys(THREAD_VARIABLES, str(self.threads)),
        }
        for plugin in self.plugins:
            refuse_changed(plugin)
        arguments = [str(self.folder), self.execute, *(str(plugin.path) for plugin in self.plugins)]
        # A file, not a pipe: nobody reads it during the run, and a full pipe would block the worker.
        with _new_log(own_folder(self.folder, "logs"), self._started) as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "secateur.engine.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        worker = _Worker(self._started, process, Path(errors.name), Pulse(process.pid))
        self._workers[worker.number] = worker
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: _Worker) -> None:
        # An empty line marks the end of the stream; every other line is a message.
        output = worker.process.stdout
        try:
            for line in output or ():
                self._queue.put((worker.number, line))
        except ValueError:  # the pipe was closed by close()
            return
        self._queue.put((worker.number, ""))

    def _receive(self, number: int, line: str) -> list[Message]:
        worker = self._workers.get(number)
        if worker is None:
            return []
        if not line:
            return self._replace(worker)
        if not line.endswith("\n"):
            return []  # half a message of a worker that died; the next line reports its death
        message = Message(**json.loads(line))
        worker.pulse.beat()
        if message.kind == "start":
            worker.begun = time.monotonic()
        if message.kind == "tick":
            worker.stepped = time.monotonic()
        if message.kind == "ready":
            worker.ready = True
            return []
        if message.kind in ("ok", "failed", "paused", "stopped"):
            worker.cell = None
            self._dispatch()
        return [message]

    def _replace(self, worker: _Worker) -> list[Message]:
        """Replace a worker that has ended, and decide whether its cell is tried again."""
        status = worker.process.wait()
        del self._workers[worker.number]
        _close(worker)
        cell, words = worker.cell, _last_line(worker.log)
        _drop_if_empty(worker.log)
        if cell is None:
            return []
        if self._stopping:
            return [Message("stopped", cell)]
        if not worker.ready and status > 0:
            raise RuntimeError(f"worker processes cannot start: {words}")
        self._deaths[cell] += 1
        cause = (
            f"gave no sign of life for {HUNG_SECONDS:.0f} s" if worker.hung else f"died ({_cause(status)})"
        )
        sentence = f"its worker process {cause}{': ' + words if words else ''}"
        if self._deaths[cell] > 1:
            self._dispatch()
            return [Message("lost", cell, sentence=sentence)]
        self._waiting.appendleft(cell)
        self._dispatch()
        return [Message("retry", cell, sentence=sentence)]


def _sign_of_life(worker: _Worker) -> Message | None:
    """What can be said of a cell whose worker may have nothing to say; a worker that hangs is ended."""
    if worker.cell is None:
        return None
    now = time.monotonic()
    worker.pulse.look()
    quiet = now - worker.pulse.since
    if quiet > HUNG_SECONDS and not worker.hung:
        worker.hung = True
        worker.process.kill()  # its reader thread reports the end
    # It may wait for a device that never answers and be busy with that, or evaluate a network on very many
    # images: too little to end it, too much to keep its cell from others.
    stepped = worker.stepped
    if stepped is not None and now - stepped > max(STEP_SECONDS, stepped - worker.begun):
        told, worker.told = worker.told, now
        if told >= stepped:
            return None
        return Message("silent", worker.cell, sentence=f"no step for {round((now - stepped) / 60)} minutes")
    return Message("alive", worker.cell) if quiet < LIFE_SECONDS else None


def refuse_changed(plugin: PlugIn) -> None:
    """Refuse a plug-in whose file differs from what this process has loaded.

    Raises:
        UserError: the file has changed or is gone (code ENVIRONMENT).
    """
    if not plugin.path.is_file() or version_of(plugin.path) != plugin.version:
        raise UserError(
            f"the plug-in {plugin.path} has changed since the run began",
            hint="restore it, or plan the study anew with the changed file",
            code=ExitCode.ENVIRONMENT,
        )


def _send(worker: _Worker, line: str) -> None:
    pipe = worker.process.stdin
    # A worker that has died is reported by its reader thread.
    with suppress(OSError):
        if pipe and not pipe.closed:
            pipe.write(line + "\n")
            pipe.flush()


def _close(worker: _Worker) -> None:
    for pipe in (worker.process.stdin, worker.process.stdout):
        # The pipe of a dead process cannot be flushed.
        with suppress(OSError):
            if pipe:
                pipe.close()


def _cause(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _new_log(folder: Path, number: int) -> TextIO:
    """A new file for what a worker prints; the name of one that is there, or of a link, is passed over."""
    for free in itertools.count(number):
        with suppress(FileExistsError):
            return (folder / f"worker-{os.getpid()}-{free}.log").open("x", encoding="utf-8")
    raise AssertionError


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        tail = file.read(TAIL).decode(errors="replace")
    lines = [line for line in tail.splitlines() if line.strip()]
    return lines[-1][-LAST_LINE:] if lines else ""


def _drop_if_empty(log: Path) -> None:
    # Two engines in one process share log names, so the other one may have removed it.
    with suppress(FileNotFoundError):
        if log.stat().st_size == 0:
            log.unlink()
