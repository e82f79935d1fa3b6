"""Cells on this machine: a few long-lived worker processes, replaced when they die."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from secateur.engine import EXECUTE, Message
from secateur.errors import ExitCode, UserError
from secateur.registry import PlugIn, loaded, version_of

LAST_WORDS = 400
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[str]
    log: Path
    cell: str | None = None
    ready: bool = False


@dataclass
class LocalEngine:
    """``slots`` worker processes for one run folder.

    Importing torch takes seconds and a small cell less, so workers stay. A worker that dies is replaced and
    its cell handed out once more; a cell that kills two workers is reported as lost.
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
        """Give the cell to an idle worker, or keep it until there is one."""
        self._waiting.append(cell)
        self._dispatch()

    def poll(self, timeout: float) -> list[Message]:
        """What the workers said, waiting up to ``timeout`` seconds for the first word."""
        found: list[Message] = []
        try:
            found += self._hear(*self._queue.get(timeout=timeout))
            while True:
                found += self._hear(*self._queue.get_nowait())
        except queue.Empty:
            return found

    def stop(self) -> None:
        """Ask the workers to end their cells at the next step; nothing more is handed out."""
        self._stopping = True
        self._waiting.clear()
        for worker in self._workers.values():
            _tell(worker, "stop")

    def close(self) -> None:
        """End all workers now."""
        self._stopping = True
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.wait()
            for pipe in (worker.process.stdin, worker.process.stdout):
                _close(pipe)
            _drop_if_empty(worker.log)
        self._workers.clear()

    def _dispatch(self) -> None:
        while self._waiting and not self._stopping:
            idle = next((worker for worker in self._workers.values() if worker.cell is None), None)
            if idle is None and len(self._workers) >= self.slots:
                return
            idle = idle or self._start()
            idle.cell = self._waiting.popleft()
            _tell(idle, idle.cell)

    def _start(self) -> _Worker:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        self._started += 1
        log = logs / f"worker-{os.getpid()}-{self._started}.log"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
            **dict.fromkeys(
                ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads)
            ),
        }
        for plugin in self.plugins:
            refuse_changed(plugin)
        arguments = [str(self.folder), self.execute, *(str(plugin.path) for plugin in self.plugins)]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "secateur.engine.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        worker = _Worker(self._started, process, log)
        self._workers[worker.number] = worker
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: _Worker) -> None:
        # An empty line stands for the end: a real line always holds a message.
        output = worker.process.stdout
        try:
            for line in output or ():
                self._queue.put((worker.number, line))
        except ValueError:  # the pipe was closed by close()
            return
        self._queue.put((worker.number, ""))

    def _hear(self, number: int, line: str) -> list[Message]:
        worker = self._workers.get(number)
        if worker is None:
            return []
        if not line:
            return self._bury(worker)
        if not line.endswith("\n"):
            return []  # cut short by the death that the next message reports
        message = Message(**json.loads(line))
        if message.kind == "ready":
            worker.ready = True
            return []
        if message.kind in ("ok", "failed", "paused", "stopped"):
            worker.cell = None
            self._dispatch()
        return [message]

    def _bury(self, worker: _Worker) -> list[Message]:
        """A worker has ended: replace it, and decide about the cell it was on."""
        status = worker.process.wait()
        del self._workers[worker.number]
        for pipe in (worker.process.stdin, worker.process.stdout):
            _close(pipe)
        cell, words = worker.cell, _last_words(worker.log)
        _drop_if_empty(worker.log)
        if cell is None:
            return []
        if self._stopping:
            return [Message("stopped", cell)]
        if not worker.ready and status > 0:
            raise RuntimeError(f"worker processes cannot start: {words}")
        self._deaths[cell] += 1
        sentence = f"its worker process died ({_cause(status)}){': ' + words if words else ''}"
        if self._deaths[cell] > 1:
            self._dispatch()
            return [Message("lost", cell, sentence=sentence)]
        self._waiting.appendleft(cell)
        self._dispatch()
        return [Message("retry", cell, sentence=sentence)]


def refuse_changed(plugin: PlugIn) -> None:
    """Refuse a plug-in whose file is no longer what this process has run.

    Raises:
        UserError: it has changed, or is gone (code ENVIRONMENT).
    """
    if not plugin.path.is_file() or version_of(plugin.path) != plugin.version:
        raise UserError(
            f"the plug-in {plugin.path} has changed since the run began",
            hint="put it back, or plan the study anew with the changed file",
            code=ExitCode.ENVIRONMENT,
        )


def _tell(worker: _Worker, line: str) -> None:
    pipe = worker.process.stdin
    try:
        if pipe and not pipe.closed:
            pipe.write(line + "\n")
            pipe.flush()
    except OSError:
        return  # it has died; its reader says so in a moment


def _close(pipe: IO[str] | None) -> None:
    try:
        if pipe:
            pipe.close()
    except OSError:
        return  # unsent words to a dead process


def _cause(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-LAST_WORDS:] if lines else ""


def _drop_if_empty(log: Path) -> None:
    # Two engines of one process share names, and the other one may be faster.
    with suppress(FileNotFoundError):
        if log.stat().st_size == 0:
            log.unlink()
