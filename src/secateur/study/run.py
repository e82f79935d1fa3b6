"""Carry out a plan: hand ready cells to an engine until all are done, failed, or a signal says stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur.config import Cell
from secateur.engine import EXECUTE, Engine, Event, Message
from secateur.engine.local import GRACE_SECONDS, LocalEngine
from secateur.engine.perform import commit_failure
from secateur.errors import ExitCode, UserError
from secateur.store import Store
from secateur.study.board import Board, make_board
from secateur.study.cost import Clock
from secateur.study.planning import Plan
from secateur.study.signals import Stop, stop_signals

POLL_SECONDS = 0.2
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        store: the run folder.
        exit_code: 0, 3 when cells failed, 130 or 143 when interrupted (and resumable).
        ok: cells that are done, earlier runs included.
        failed: the sentence of every failed or skipped cell, by id.
        seconds: wall time of this run.
    """

    store: Store
    exit_code: int
    ok: int
    failed: dict[str, str]
    seconds: float

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record of the study, in the study's order."""
        return self.store.records()


@dataclass
class _Run:
    """What a run keeps track of while it goes on."""

    plan: Plan
    store: Store
    board: Board
    clock: Clock
    listener: Listener
    jobs: int
    running: dict[str, Cell] = field(default_factory=dict)
    stopping: bool = False
    started: float = field(default_factory=time.perf_counter)

    def tell(self, kind: Any, cell: Cell | None = None, **facts: Any) -> None:
        """Send an event; unless it is a tick, ``done`` and ``total`` count cells."""
        total = len(self.plan.cells)
        counts = {"done": total - len(self.board.open), "total": total}
        self.listener(Event(kind, cell, **{**counts, "eta": self.eta(), **facts}))

    def eta(self) -> float | None:
        """Seconds until the run ends, from the cells that have finished."""
        left = [self.plan_cell(cell_id) for cell_id in self.board.open]
        return self.clock.remaining(left, self.jobs) if left else 0.0

    def plan_cell(self, cell_id: str) -> Cell:
        """The cell with this id."""
        return self.board.cells[cell_id]


def run_plan(
    plan: Plan,
    out: str | Path,
    *,
    jobs: int = 1,
    on_event: Listener | None = None,
    execute: str = EXECUTE,
    engine: Engine | None = None,
) -> Outcome:
    """Run what is missing of ``plan`` in the folder ``out``; whatever is there already is kept.

    Args:
        plan: the cells.
        out: a new folder, or the folder of an earlier run of the same study.
        jobs: cells at a time on this machine.
        on_event: called with everything that happens, on this thread.
        execute: the function that carries out a cell, ``module:function``.
        engine: where cells run; by default ``jobs`` local processes. It is closed at the end.

    Returns:
        How it ended. Failed cells do not stop the others, a first SIGINT or SIGTERM does.

    Raises:
        UserError: the folder belongs to another study, or the machine is in trouble (disk full).
        SystemExit: a second signal.
    """
    store = Store.create(out, plan.to_json())
    store.gc()
    notes = store.repair()
    done = {cell.id for cell in plan.cells if store.committed(cell.id)}
    units = {cell_id: cost.units for cell_id, cost in plan.costs.items()}
    board = make_board(plan.cells, done, units)
    run = _Run(plan, store, board, Clock(plan.costs, plan.speeds), on_event or _nobody, jobs)
    for cell_id in done:
        run.clock.learn(run.plan_cell(cell_id), _seconds_of(store, cell_id))
    with stop_signals() as stop:
        worker = engine or LocalEngine(store.root, slots=jobs, threads=plan.study.threads, execute=execute)
        try:
            run.tell("begin", sentence=f"{len(done)} of {len(plan.cells)} cells are done")
            for note in notes:
                run.tell("note", sentence=note)
            _loop(run, worker, stop)
        finally:
            worker.close()
        return _end(run, stop)


def _loop(run: _Run, engine: Engine, stop: Stop) -> None:
    deadline = float("inf")
    while run.board.open and (run.running or run.board.ready) and time.monotonic() < deadline:
        if stop.signal is not None and not run.stopping:
            run.stopping, deadline = True, time.monotonic() + GRACE_SECONDS
            engine.stop()
            run.tell("stopping", sentence="stopping; a second signal stops at once")
        while not run.stopping and len(run.running) < engine.slots and (cell := run.board.take()):
            run.running[cell.id] = cell
            engine.submit(cell.id)
        if run.stopping and not run.running:
            return
        for message in engine.poll(POLL_SECONDS):
            _settle(run, message)
        if stop.at_once:
            raise SystemExit(stop.exit_code)


def _settle(run: _Run, message: Message) -> None:
    cell = run.plan_cell(message.cell)
    match message.kind:
        case "start":
            run.tell("start", cell)
        case "tick":
            run.tell("tick", cell, done=message.done, total=message.total)
        case "retry":
            run.tell("retry", cell, sentence=f"{message.sentence}; trying once more")
        case "paused":
            raise UserError(message.sentence, code=ExitCode.ENVIRONMENT)
        case "stopped":
            run.running.pop(cell.id, None)
        case "ok":
            run.running.pop(cell.id, None)
            run.board.succeed(cell.id)
            run.clock.learn(cell, message.seconds)
            run.tell("ok", cell, seconds=message.seconds)
        case "failed" | "lost":
            run.running.pop(cell.id, None)
            _fail(run, cell, message)


def _fail(run: _Run, cell: Cell, message: Message) -> None:
    sentence = message.sentence
    if message.kind == "lost":
        sentence = f"worker_lost: {sentence}"
        commit_failure(run.store, cell, sentence)
    skipped = run.board.fail(cell.id, sentence)
    run.tell("failed", cell, seconds=message.seconds, sentence=sentence)
    for child in skipped:
        commit_failure(run.store, child, run.board.failed[child.id])
        run.tell("skipped", child, sentence=run.board.failed[child.id])


def _end(run: _Run, stop: Stop) -> Outcome:
    seconds = time.perf_counter() - run.started
    ok = len(run.plan.cells) - len(run.board.open) - len(run.board.failed)
    code = int(ExitCode.CELLS_FAILED if run.board.failed else ExitCode.OK)
    if stop.signal is not None and run.board.open:
        code = stop.exit_code
        run.tell("interrupted", seconds=seconds, sentence="run the same command again to go on")
    run.tell("end", seconds=seconds, sentence=_summary(ok, run))
    return Outcome(run.store, code, ok, dict(run.board.failed), seconds)


def _summary(ok: int, run: _Run) -> str:
    parts = [f"{ok} of {len(run.plan.cells)} cells are done"]
    if run.board.failed:
        parts.append(f"{len(run.board.failed)} failed")
    if run.board.open:
        parts.append(f"{len(run.board.open)} are left")
    return ", ".join(parts)


def _seconds_of(store: Store, cell_id: str) -> float:
    return float((store.record(cell_id) or {"timing": {"seconds": 0.0}})["timing"]["seconds"])


def _nobody(event: Event) -> None:
    """Nobody listens."""
