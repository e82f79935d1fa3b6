"""One cell, from its id to its committed record: the same in every engine."""

import platform
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name
from typing import Any, Literal

from secateur.config import Cell, Study, study_of
from secateur.durable import DISK, disk_trouble
from secateur.errors import ExitCode, UserError
from secateur.store import Failure, Parts, Record, Store
from secateur.store.files import machine_errors

Tick = Callable[[int, int], None]
Execute = Callable[..., Parts]
TRACEBACK_CHARACTERS = 20_000


class Stopped(BaseException):
    """Raised by a progress callback to end a cell early; a BaseException, which no stage catches."""


def load_execute(target: str) -> Execute:
    """Import ``module:function``."""
    function: Execute = resolve_name(target)
    return function


def open_run(folder: str) -> tuple[Store, Study, dict[str, Cell]]:
    """A run folder with its study and its cells by id. Raises UserError."""
    store = Store.open(folder)
    return store, study_of(store.study), {cell.id: cell for cell in store.cells}


def perform(
    store: Store, study: Study, cell: Cell, execute: Execute, *, on_progress: Tick | None = None
) -> Literal["ok", "failed"]:
    """Compute a cell and commit its record, unless it is committed already.

    Raises:
        UserError: the machine has a problem (code ENVIRONMENT); no record is written, the study should pause.
        Stopped: ``on_progress`` ended the cell early; no record is written.
    """
    # A full or failing disk is no result of this cell: it pauses the study and leaves no record.
    with machine_errors(store.root, which=DISK):
        if store.committed(cell.id):
            return "ok"
        started = time.perf_counter()
        try:
            parts = execute(study, cell, store, on_progress=on_progress)
            store.commit(_record(store, cell, started, parts), parts.artefacts)
        except Exception as error:  # a stage may raise anything, and the study goes on without this cell
            if _of_the_machine(store, error):
                raise
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return _failed(store, cell, started, said)
        return "ok"


def reason(store: Store, cell_id: str) -> str:
    """Why a cell has no numbers, by its record; empty if it has some, or no record."""
    record = store.record(cell_id)
    return record.reason if record else ""


def _of_the_machine(store: Store, error: Exception) -> bool:
    if isinstance(error, UserError) and error.code is ExitCode.ENVIRONMENT:
        return True
    refuse_gone(store, error)
    return disk_trouble(error) is not None


def refuse_gone(store: Store, error: Exception) -> None:
    """Say that the run folder is gone, if it is, instead of ``error``. Raises UserError then."""
    if not store.present():
        raise UserError(
            f"{store.root} is gone, or its disk is no longer there",
            hint="bring it back, then run the same command again",
            code=ExitCode.ENVIRONMENT,
        ) from error


def commit_failure(store: Store, cell: Cell, sentence: str, *, seconds: float = 0.0, trace: str = "") -> None:
    """Commit a record that says why a cell has no numbers."""
    error = Failure(sentence=sentence, traceback=trace[-TRACEBACK_CHARACTERS:])
    store.commit(_record(store, cell, time.perf_counter() - seconds, error))


def _failed(store: Store, cell: Cell, started: float, sentence: str) -> Literal["ok", "failed"]:
    # Another runner may have finished this cell and removed its scratch folder, on which ours then failed.
    if store.committed(cell.id):
        return "ok"
    seconds = time.perf_counter() - started
    commit_failure(store, cell, sentence, seconds=seconds, trace=traceback.format_exc())
    return "failed"


def _record(store: Store, cell: Cell, started: float, result: Parts | Failure) -> Record:
    parts = result if isinstance(result, Parts) else None
    return Record.of(
        cell,
        status="ok" if parts else "failed",
        science=parts.science if parts else None,
        error=None if parts else result,
        timing={**(parts.timing if parts else {}), "seconds": round(time.perf_counter() - started, 6)},
        provenance={
            **_environment(),
            **(parts.provenance if parts else {}),
            "device": store.study.get("config", {}).get("device", "cpu"),
            "limited": store.study.get("limited"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


# The same for every cell; to look up a version takes longer than to write a small record.
@cache
def _environment() -> Mapping[str, Any]:
    packages = {}
    for package in ("secateur", "torch", "numpy"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        **packages,
    }
