"""What a run shows while it goes on: a live bar, plain lines, JSON lines, or nothing."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import Any, Literal, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from secateur.engine import Event
from secateur.text import duration, json_line, shown, shown_in_line

Mode = Literal["auto", "rich", "plain", "json", "none"]
Listener = Callable[[Event], None]
Tell = Callable[..., None]
PLAIN_SECONDS = 10.0
JSON_SECONDS = 1.0
# Worth a line of their own, whatever the mode.
TOLD = {"note", "failed", "skipped", "retry", "stopping", "interrupted", "end"}


@contextmanager
def show(mode: Mode = "auto", *, stream: TextIO | None = None) -> Iterator[Listener]:
    """Show a run's events; the value is the listener to pass as ``on_event``.

    Args:
        mode: ``rich`` is a live bar over the cells and inside the running ones, ``plain`` a line every few
            seconds, ``json`` one JSON object per event, ``auto`` rich on a terminal and plain elsewhere.
        stream: where to; by default standard error, so that standard output stays free for results.
    """
    stream = cast("TextIO", _Lasting(stream or sys.stderr))
    if mode == "auto":
        mode = "rich" if stream.isatty() else "plain"
    if mode == "rich":
        with _bars(stream) as listener:
            yield listener
    else:
        yield {"plain": _plain(stream), "json": _json(stream), "none": _silent}[mode]


@contextmanager
def bar(label: str = "done", *, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Tell]:
    """Show how far one call is: a bar with the time left on a terminal and in a notebook, lines elsewhere.

    The value goes to ``on_progress`` of ``secateur.check``, ``finetune`` and ``attack``: it takes
    ``(part, done, total)`` or ``(done, total)``.

    Args:
        label: what is said where the call names no part.
        quiet: show nothing.
        stream: where to; by default standard error, or the cell of a notebook.

    >>> with bar("attack", stream=sys.stdout) as tell:
    ...     tell(1, 4)
    ...     tell(2, 4)
    attack (25 % done)
    attack (50 % done)
    """
    cells = None if quiet or stream is not None or "ipykernel" not in sys.modules else _cells()
    console = Console(file=stream, stderr=stream is None, emoji=False, highlight=False)
    live = console.is_terminal and not quiet and cells is None
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not live) as progress:
        draw = _silent_part if quiet else _on_a_terminal(progress) if live else _in_lines(console)
        if cells is not None:
            draw = _in_a_cell(cells)

        def tell(*what: Any) -> None:
            part, done, total = what if len(what) == 3 else (label, *what)
            draw(part, done, total)

        yield tell


def _silent_part(part: str, done: int, total: int) -> None:
    """Show nothing."""


def _on_a_terminal(progress: Progress) -> Tell:
    task = progress.add_task("starting", total=None)
    return lambda part, done, total: progress.update(task, description=part, completed=done, total=total)


def _in_lines(console: Console) -> Tell:
    """A line for every part, when it begins, and for every tenth of the whole."""
    last: tuple[str, int] | None = None

    def draw(part: str, done: int, total: int) -> None:
        nonlocal last
        percent = 100 * done // max(total, 1)
        if last is None or part != last[0] or percent // 10 > last[1]:
            console.print(f"{shown(part)} ({percent} % done)", style="dim", markup=False, soft_wrap=True)
            last = (part, percent // 10)

    return draw


def _cells() -> Any:
    """The display of the notebook that runs this process. rich would need a package of widgets for it."""
    try:
        return import_module("IPython.display")
    except ImportError:
        return None


def _in_a_cell(cells: Any) -> Tell:
    """One line of the notebook's cell, written again at most five times a second."""
    handle = cells.display(cells.HTML("starting"), display_id=True)
    began = time.monotonic()
    due = began

    def draw(part: str, done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due and done < total:
            return
        due = now + 0.2
        left = f", {duration((now - began) * (total - done) / done)} left" if 0 < done < total else ""
        drawn = f'<progress value="{done}" max="{max(total, 1)}"></progress>'
        handle.update(cells.HTML(f"{drawn} {escape(shown(part))}{left}"))

    return draw


class _Lasting:
    """A stream that says nothing more once it cannot be written: a run outlives its terminal.

    A closed pipe is an error still, as its reader has ended the program on purpose.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lost = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, write: Callable[[], Any]) -> None:
        if self._lost:
            return
        try:
            write()
        except BrokenPipeError:
            raise
        except OSError:
            self._lost = True


def sentence(event: Event) -> str:
    """One line about an event, safe to print."""
    said = shown(event.sentence)
    if event.cell is None:
        return said
    label = shown_in_line(event.cell.label)
    if event.kind == "tick":
        return f"{label}: {100 * event.done // max(event.total, 1)} %"
    took = f" in {duration(event.seconds)}" if event.seconds is not None and event.kind == "ok" else ""
    return f"{event.kind} {label}{took}{f': {said}' if said else ''}"


def _silent(event: Event) -> None:
    """Show nothing."""


def _json(stream: TextIO) -> Listener:
    due: dict[str, float] = {}

    def listener(event: Event) -> None:
        if event.kind == "tick" and event.cell is not None:
            if time.monotonic() < due.get(event.cell.id, 0.0):
                return
            due[event.cell.id] = time.monotonic() + JSON_SECONDS
        stream.write(json_line(event.to_json()) + "\n")
        stream.flush()

    return listener


def _plain(stream: TextIO) -> Listener:
    due, cells = 0.0, (0, 0)

    def listener(event: Event) -> None:
        nonlocal due, cells
        if event.kind != "tick":
            cells = (event.done, event.total)
        if event.kind in TOLD or event.kind == "begin":
            stream.write(sentence(event) + "\n")
        elif event.kind in ("ok", "tick") and time.monotonic() >= due:
            due = time.monotonic() + PLAIN_SECONDS
            left = f", {duration(event.eta)} left" if event.eta is not None else ""
            stream.write(f"{cells[0]} of {cells[1]} cells{left} ({sentence(event)})\n")
        stream.flush()

    return listener


class _Count(ProgressColumn):
    """``3/18`` for the cells, a percentage inside a cell."""

    def render(self, task: Task) -> Text:
        if task.fields.get("cells"):
            return Text(f"{task.completed:.0f}/{task.total or 0:.0f} cells")
        return Text(f"{task.percentage:3.0f} %")


@contextmanager
def _bars(stream: TextIO) -> Iterator[Listener]:
    console = Console(file=stream, highlight=False, emoji=False)
    # A label is no markup: square brackets in it are its own.
    texts = [TextColumn(what, markup=False) for what in ("{task.description}", "{task.fields[eta]}")]
    columns = (texts[0], BarColumn(), _Count(), texts[1])
    with Progress(*columns, console=console, transient=False) as progress:
        yield _live(progress)


def _live(progress: Progress) -> Listener:
    whole = progress.add_task("study", total=None, cells=True, eta="")
    inner: dict[str, TaskID] = {}

    def listener(event: Event) -> None:
        if event.kind in TOLD:
            progress.console.print(sentence(event), markup=False, soft_wrap=True)
        if event.cell is not None and event.kind == "start":
            label = shown_in_line(event.cell.label)
            inner[event.cell.id] = progress.add_task(f"  {label}", total=None, cells=False, eta="")
        elif event.cell is not None and event.kind == "tick" and event.cell.id in inner:
            progress.update(inner[event.cell.id], completed=event.done, total=event.total)
        elif event.cell is not None and (task := inner.pop(event.cell.id, None)) is not None:
            progress.remove_task(task)
        left = f"{duration(event.eta)} left" if event.eta else ""
        if event.kind == "tick":
            progress.update(whole, eta=left)
        else:
            progress.update(whole, completed=event.done, total=event.total, eta=left)

    return listener
