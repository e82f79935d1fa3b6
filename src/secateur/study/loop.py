"""The loop of a run: lease ready cells, submit them to the engine, and act on its messages and on signals."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from secateur.config import Cell
from secateur.engine import Engine, Event, Kind, Message
from secateur.engine.perform import commit_failure
from secateur.errors import ExitCode, UserError
from secateur.store import Leases, Store
from secateur.study.cost import Clock
from secateur.study.scheduler import Board

POLL_SECONDS = 0.2
LOOK_SECONDS = 1.0
# Long enough for a step and a checkpoint of it; Slurm and Kubernetes grant 30 seconds and more.
GRACE_SECONDS = 20.0
ETA_SECONDS = 0.5
Listener = Callable[[Event], None]


@dataclass
class Stop:
    """Whether a run has been asked to stop, and by which signal."""

    signal: int | None = None
    at_once: bool = False

    @property
    def exit_code(self) -> int:
        """What a shell expects from a process that ended because of the signal: 129, 130 or 143."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Inside the ``with`` block, SIGINT, SIGTERM and SIGHUP set the value instead of ending the process.

    SIGHUP, which a terminal that closes sends, stays ignored where it is, as under ``nohup``.
    A second signal asks to stop at once. The handler raises nothing, because an exception could interrupt any
    statement, a commit among them. Only the main thread can catch signals; in others this does nothing.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.at_once = stop.signal is not None
        stop.signal = number

    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Run:
    """The state of a run.

    Attributes:
        old_failures: hashes of failed records from before this run, by cell; such cells are tried again.
        running: cells that were submitted to the engine.
        elsewhere: ready cells that another runner of the same folder has leased.
        shares: the finished share of running cells, by id.
        estimate: when the remaining time was last computed, and its value.
        looked: when the records of other runners were last read.
        deadline: when running cells are given up, after a signal.
    """

    store: Store
    board: Board
    clock: Clock
    leases: Leases
    listener: Listener
    jobs: int
    old_failures: Mapping[str, str] = field(default_factory=dict)
    running: dict[str, Cell] = field(default_factory=dict)
    elsewhere: dict[str, Cell] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    estimate: tuple[float, float | None] = (float("-inf"), None)
    looked: float = 0.0
    deadline: float | None = None

    def tell(self, kind: Kind, cell: Cell | None = None, **facts: Any) -> None:
        """Send an event; unless it is a tick, ``done`` and ``total`` count cells."""
        total = len(self.board.cells)
        counts = {"done": total - len(self.board.open), "total": total}
        self.listener(Event(kind, cell, **{**counts, "eta": self.eta(), **facts}))

    def eta(self) -> float | None:
        """Estimated seconds until the run ends; computed at most twice a second."""
        if not self.board.open:
            return 0.0
        asked, eta = self.estimate
        if time.monotonic() - asked > ETA_SECONDS:
            left = [self.board.cells[cell_id] for cell_id in self.board.open]
            eta = self.clock.remaining(left, self.jobs, done=self.shares)
            self.estimate = (time.monotonic(), eta)
        return eta


def work_through(run: Run, engine: Engine, stop: Stop) -> None:
    """Run until every cell has succeeded or failed, or until a signal.

    Raises:
        UserError: the machine is in trouble.
        SystemExit: a second signal.
    """
    while run.board.open and (run.running or run.board.ready or run.elsewhere):
        if stop.signal is not None and run.deadline is None:
            run.deadline = time.monotonic() + GRACE_SECONDS
            engine.stop()
            run.tell("stopping", sentence="stopping; a second signal stops at once")
        if run.deadline is not None and (not run.running or time.monotonic() > run.deadline):
            return
        if run.deadline is None:
            _look_elsewhere(run, engine)
            _hand_out(run, engine)
        for message in engine.poll(POLL_SECONDS):
            _settle(run, message)
        # Only here, between two messages: the store and the leases are consistent.
        if stop.at_once:
            raise SystemExit(stop.exit_code)


def _skip_below(run: Run, cell: Cell, sentence: str) -> None:
    """Note that a cell has failed, and record that its descendants are skipped."""
    for child in run.board.fail(cell.id, sentence):
        commit_failure(run.store, child, run.board.failed[child.id])
        run.tell("skipped", child, sentence=run.board.failed[child.id])


def _hand_out(run: Run, engine: Engine) -> None:
    while len(run.running) < engine.slots and (cell := run.board.take()):
        if run.leases.claim(cell.id):
            _begin(run, engine, cell)
        else:
            run.elsewhere[cell.id] = cell


def _begin(run: Run, engine: Engine, cell: Cell) -> None:
    # Another runner may have committed it between reading the store and taking the lease.
    if not _settled_elsewhere(run, cell):
        run.running[cell.id] = cell
        engine.submit(cell.id)
    else:
        run.leases.release(cell.id)


def _look_elsewhere(run: Run, engine: Engine) -> None:
    if not run.elsewhere or time.monotonic() - run.looked < LOOK_SECONDS:
        return
    run.looked = time.monotonic()
    for cell in list(run.elsewhere.values()):
        if _settled_elsewhere(run, cell):
            del run.elsewhere[cell.id]
        elif len(run.running) < engine.slots and run.leases.claim(cell.id):
            del run.elsewhere[cell.id]
            _begin(run, engine, cell)


def _settled_elsewhere(run: Run, cell: Cell) -> bool:
    record = run.store.record(cell.id)
    if record is None or record.self_hash == run.old_failures.get(cell.id):
        return False
    if record.ok:
        run.board.succeed(cell.id)
        run.tell("ok", cell, sentence="by another runner")
    else:
        _skip_below(run, cell, record.reason)
        run.tell("failed", cell, sentence=f"by another runner: {record.reason}")
    return True


def _settle(run: Run, message: Message) -> None:
    cell = run.board.cells[message.cell]
    if message.kind != "silent":
        run.leases.alive(cell.id)
    match message.kind:
        case "start":
            run.tell("start", cell)
        case "tick":
            run.shares[cell.id] = message.done / max(message.total, 1)
            run.tell("tick", cell, done=message.done, total=message.total)
        case "silent":
            run.tell("note", cell, sentence=f"{cell.label}: {message.sentence}; its device may hang")
        case "retry":
            run.tell("retry", cell, sentence=f"{message.sentence}; trying once more")
        case "paused":
            raise UserError(message.sentence, code=ExitCode.ENVIRONMENT)
        case "stopped":
            _let_go(run, cell)
        case "ok":
            _let_go(run, cell)
            run.board.succeed(cell.id)
            run.clock.learn(cell, message.seconds)
            run.tell("ok", cell, seconds=message.seconds)
        case "failed" | "lost":
            _fail(run, cell, message)


def _fail(run: Run, cell: Cell, message: Message) -> None:
    sentence = message.sentence
    if message.kind == "lost":
        sentence = f"worker_lost: {sentence}"
        commit_failure(run.store, cell, sentence)
    _let_go(run, cell)
    run.board.open.discard(cell.id)
    run.tell("failed", cell, seconds=message.seconds, sentence=sentence)
    _skip_below(run, cell, sentence)


def _let_go(run: Run, cell: Cell) -> None:
    run.running.pop(cell.id, None)
    run.shares.pop(cell.id, None)
    run.leases.release(cell.id)
