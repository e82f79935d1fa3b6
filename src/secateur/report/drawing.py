"""Draw figures as pictures of the page and as files, several at a time where the platform allows it."""

import gc
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from secateur.report import theme
from secateur.report.figures import Plan
from secateur.report.formatting import unique_stem
from secateur.report.page import Picture
from secateur.untrusted import cleared

MOST = 4
"""Processes that draw."""
FEW = 3
"""Figures for which no process is worth its start."""
_shared: list[tuple[Plan, Sequence[str]]] = []


def save_all(plans: Sequence[Plan], folder: Path, kinds: Sequence[str]) -> tuple[list[Picture], list[Path]]:
    """Draw all figures: pictures for the page, and a file of each of the ``kinds`` in ``folder``."""
    with started(plans, kinds) as drawn:
        return named(drawn, folder)


@contextmanager
def started(plans: Sequence[Plan], kinds: Sequence[str]) -> Iterator[Iterable["Drawn | None"]]:
    """Begin to draw all figures, for :func:`named`; this process may do other things meanwhile.

    Forked processes share the plans, because figures cannot be sent to a process; the bytes are the same as
    from one process, which draws when they are asked for.
    """
    workers = min(MOST, _cores(), len(plans))
    if workers < 2 or len(plans) < FEW or not _may_fork():
        yield (_drawn(plan, kinds) for plan in plans)
        return
    _shared[:] = [(plan, kinds) for plan in plans]
    # The collector of garbage leaves marks on all that it looks at, which copies what processes share, and
    # what a few figures leave behind is not worth its time.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=gc.disable)
    try:
        # The last figures take longest: begun last, they would leave a process without work.
        begun = [pool.submit(_drawn_by_number, number) for number in reversed(range(len(plans)))]
        yield (each.result() for each in reversed(begun))
    finally:
        # Nobody waits for what is not drawn yet when something else has failed.
        pool.shutdown(cancel_futures=True)
        _shared.clear()


Drawn = tuple[Picture, dict[str, bytes]]


def named(drawn: Iterable[Drawn | None], folder: Path) -> tuple[list[Picture], list[Path]]:
    """The figures that were :func:`started`, each with a name of its own; their files are written."""
    pictures, paths, stems = list[Picture](), list[Path](), set[str]()
    for each in drawn:
        if each is None:
            continue
        picture, files = each
        stem = unique_stem(picture.stem, stems)
        pictures.append(replace(picture, stem=stem))
        for kind, content in files.items():
            paths.append(cleared(folder / f"{stem}.{kind}"))
            paths[-1].write_bytes(content)
    return pictures, paths


def _drawn_by_number(number: int) -> Drawn | None:
    return _drawn(*_shared[number])


def _drawn(plan: Plan, kinds: Sequence[str]) -> Drawn | None:
    with theme.themed():
        drawing = plan()
        if drawing is None:
            return None
        files = theme.written(drawing.figure, [kind for kind in kinds if kind != "svg"])
        svg = theme.svg(drawing.figure)
        # Browsers count 96 CSS pixels per inch.
        width, height = (round(96 * inches) for inches in drawing.figure.get_size_inches())
        texts = drawing.stem, drawing.title, drawing.caption, drawing.alt
    return Picture(*texts, svg, width, height), files | ({"svg": svg.encode()} if "svg" in kinds else {})


def _may_fork() -> bool:
    """Whether this process may be copied: on Linux, without other threads, and not in a pool already."""
    return sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
