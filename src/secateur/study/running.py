"""Run a plan in a run folder, alone or together with other runners of the same folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.durable import DISK
from secateur.engine import EXECUTE, Engine, Event
from secateur.engine.local import LocalEngine
from secateur.engine.perform import commit_failure, refuse_gone
from secateur.errors import ExitCode
from secateur.store import Leases, Store
from secateur.store.files import machine_errors
from secateur.study.cost import Clock
from secateur.study.dataset_facts import refuse_other_files
from secateur.study.footprint import refuse_small_disk
from secateur.study.loop import Listener, Run, Stop, stop_signals, work_through
from secateur.study.planning import StudyPlan, plan_of
from secateur.study.scheduler import make_board


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    >>> RunResult(store=None, exit_code=0, ok=18, failed={}, seconds=3.5).ok
    18

    Attributes:
        store: the run folder.
        exit_code: 0, 3 when cells failed, 129, 130 or 143 when interrupted (and resumable).
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
        return [record.to_json() for record in self.store.records()]


def run_plan(
    plan: StudyPlan,
    out: str | Path,
    *,
    jobs: int = 1,
    on_event: Listener | None = None,
    execute: str = EXECUTE,
    engine: Engine | None = None,
    retry_failed: bool = True,
    reuse: Sequence[str | Path] = (),
) -> RunResult:
    """Run the missing cells of ``plan`` in the folder ``out``; finished cells are kept.

    Several runners may work on one folder at a time, also from several machines: each cell is leased to one.

    Args:
        plan: the cells.
        out: a new folder, or the folder of an earlier run of the same study.
        jobs: how many cells run at a time on this machine.
        on_event: called with every :class:`~secateur.engine.Event`, on this thread.
        execute: the function that computes a cell, ``module:function``.
        engine: where cells run; by default ``jobs`` local processes. It is closed at the end.
        retry_failed: run cells again that failed in an earlier run.
        reuse: other run folders; cells that they share with this study are copied instead of computed.

    Returns:
        The result. Failed cells do not stop the others; a first SIGINT, SIGTERM or SIGHUP does.

    Raises:
        UserError: the folder belongs to another study, or the machine is in trouble (disk full, or too small
            for the estimate of a plan with a probe; the folder is gone).
        SystemExit: a second signal.

    >>> result = run_plan(plan(load_study("study.yaml")), "runs/small", jobs=4)  # doctest: +SKIP
    """
    # Also where this process itself reads and writes the folder: a disk that fails is no defect.
    with machine_errors(Path(out), which=DISK):
        started = time.perf_counter()
        refuse_small_disk(plan.disk_bytes, Path(out))
        # Before anything is deleted: create refuses the folder of another study.
        store = Store.create(out, plan.to_json())
        store.gc()
        notes = [*store.repair(), *_adopt(store, reuse)]
        run = _prepare(plan, store, on_event or _ignore, jobs)
        _leave_newer(run)
        with stop_signals() as stop:
            hands = engine or LocalEngine(store.root, slots=jobs, threads=plan.study.threads, execute=execute)
            try:
                done = len(plan.cells) - len(run.board.open)
                run.tell("begin", sentence=f"{done} of {len(plan.cells)} cells are done")
                for note in notes:
                    run.tell("note", sentence=note)
                if not retry_failed:
                    _keep_failures(run)
                work_through(run, hands, stop)
                if stop.signal is None:
                    _keep_index(store)
            except OSError as error:
                refuse_gone(store, error)
                raise
            finally:
                hands.close()
                run.leases.close()
            return _end(run, stop, time.perf_counter() - started)


def join(
    folder: str | Path,
    *,
    jobs: int = 1,
    on_event: Listener | None = None,
    execute: str = EXECUTE,
    retry_failed: bool = False,
    check_files: bool = True,
) -> RunResult:
    """Work on the study of an existing run folder until nothing is left.

    Any number of runners may join, on every machine that sees the folder and has the data at the paths of the
    study; ``check_files=False`` skips the check that they are the same.

    Raises:
        UserError: as :func:`run_plan`; or this machine has other data, or a version that computes other
            cells.

    >>> result = join("runs/small", jobs=4)  # doctest: +SKIP
    """
    store = Store.open(folder)
    plan = plan_of(store)
    if check_files:
        refuse_other_files(plan.study, store)
    return run_plan(plan, folder, jobs=jobs, on_event=on_event, execute=execute, retry_failed=retry_failed)


def _prepare(plan: StudyPlan, store: Store, listener: Listener, jobs: int) -> Run:
    # What repair has just read is not read again.
    looks = {cell.id: store.look(cell.id) for cell in store.cells}
    done = [cell_id for cell_id, look in looks.items() if look.ok]
    board = make_board(plan.cells, done, {cell_id: cost.units for cell_id, cost in plan.costs.items()})
    clock = Clock(plan.costs, plan.speeds)
    for cell_id in done:
        clock.learn(board.cells[cell_id], looks[cell_id].seconds)
    failures = {cell_id: look.self_hash for cell_id, look in looks.items() if look.state == "failed"}
    return Run(store, board, clock, Leases(store.root, by_progress=True), listener, jobs, failures)


def _adopt(store: Store, folders: Sequence[str | Path]) -> list[str]:
    notes = []
    for folder in folders:
        other = Store.open(folder)
        taken = [cell for cell in store.cells if not store.committed(cell.id) and store.adopt(other, cell)]
        notes.append(f"{len(taken)} cells are copied from {folder}")
    return notes


def _leave_newer(run: Run) -> None:
    """Leave alone what a newer version has recorded; its open descendants wait for that version, too."""
    board = run.board
    for cell in [board.cells[cell_id] for cell_id in board.open]:
        if cell.id in board.open and (look := run.store.look(cell.id)).state == "newer":
            board.fail(cell.id, f"left as it is: {look.sentence}")
    board.ready = [entry for entry in board.ready if entry[2] in board.open]


def _keep_index(store: Store) -> None:
    """Check what was committed, here or elsewhere, so that whoever asks for the status need not."""
    for cell in store.cells:
        store.look(cell.id)
    store.keep_index()


def _keep_failures(run: Run) -> None:
    """Keep the records of earlier failures; descendants without a record are skipped."""
    board = run.board
    for cell_id in run.old_failures:
        record = run.store.record(cell_id)
        if record is None or cell_id not in board.open:
            continue
        for child in board.fail(cell_id, record.reason):
            if child.id not in run.old_failures:
                commit_failure(run.store, child, board.failed[child.id])
    board.ready = [entry for entry in board.ready if entry[2] in board.open]


def _end(run: Run, stop: Stop, seconds: float) -> RunResult:
    ok = len(run.board.cells) - len(run.board.open) - len(run.board.failed)
    code = int(ExitCode.CELLS_FAILED if run.board.failed else ExitCode.OK)
    if stop.signal is not None and run.board.open:
        code = stop.exit_code
        run.tell("interrupted", seconds=seconds, sentence="run the same command again to go on")
    run.tell("end", seconds=seconds, sentence=_summary(ok, run))
    return RunResult(run.store, code, ok, dict(run.board.failed), seconds)


def _summary(ok: int, run: Run) -> str:
    parts = [f"{ok} of {len(run.board.cells)} cells are done"]
    if run.board.failed:
        parts.append(f"{len(run.board.failed)} failed")
    if run.board.open:
        parts.append(f"{len(run.board.open)} are left")
    return ", ".join(parts)


def _ignore(event: Event) -> None:
    """Ignore the event."""
