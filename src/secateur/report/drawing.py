"""Save figures as files and as pictures of the page, several at a time where the platform allows it."""

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from secateur.report import theme
from secateur.report.page import Picture
from secateur.report.plots import Drawing

MOST = 4
"""Processes that draw."""
FEW = 3
"""Figures for which no process is worth its start."""
_shared: list[tuple[Drawing, Path]] = []


def save_all(drawings: Sequence[Drawing], folder: Path) -> tuple[list[Picture], list[Path]]:
    """Write every drawing as PNG and PDF into ``folder``; return pictures for the page, and the files.

    A figure takes about a second. Forked processes share them, because figures cannot be sent to a process;
    the bytes are the same as from one process.
    """
    workers = min(MOST, _cores(), len(drawings))
    if workers < 2 or len(drawings) < FEW or not _may_fork():
        done = [_saved(drawing, folder) for drawing in drawings]
    else:
        _shared[:] = [(drawing, folder) for drawing in drawings]
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
                done = list(pool.map(_saved_by_number, range(len(drawings))))
        finally:
            _shared.clear()
    return [picture for picture, _ in done], [path for _, paths in done for path in paths]


def _saved_by_number(number: int) -> tuple[Picture, tuple[Path, Path]]:
    return _saved(*_shared[number])


def _saved(drawing: Drawing, folder: Path) -> tuple[Picture, tuple[Path, Path]]:
    with theme.themed():
        paths = theme.save(drawing.figure, folder, drawing.stem)
        # Browsers count 96 CSS pixels per inch.
        width, height = (round(96 * inches) for inches in drawing.figure.get_size_inches())
        texts = drawing.stem, drawing.title, drawing.caption, drawing.alt
        return Picture(*texts, theme.svg(drawing.figure), width, height), paths


def _may_fork() -> bool:
    """Whether this process may be copied: on Linux, without other threads, and not in a pool already."""
    return sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
