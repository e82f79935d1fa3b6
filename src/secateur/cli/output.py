"""Printing: results to stdout, everything else to stderr."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, Literal, TextIO

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from secateur.errors import UserError
from secateur.text import json_line, shown, shown_in_line

_STDOUT: ContextVar[TextIO | None] = ContextVar("stdout", default=None)


def complain(error: UserError) -> None:
    """Print an error and its hint on stderr."""
    console = _messages()
    console.print(f"error: {shown(error.message)}", style="bold red", markup=False)
    if error.command:
        console.print(f"  hint: {shown(error.command)}", markup=False)


def note(*texts: str) -> None:
    """Print notes on stderr, a line for each."""
    for text in texts:
        _messages().print(shown(text), style="dim", markup=False)


def _messages() -> Console:
    # Made for each message: standard error may be another stream by then.
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print a part of the result on stdout."""
    typer.echo(shown(text))


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document on one line of stdout."""
    results().write(json_line(value) + "\n")


def results() -> TextIO:
    """Where results go: stdout as it was before :func:`results_alone`."""
    return _STDOUT.get() or sys.stdout


@contextmanager
def results_alone() -> Iterator[None]:
    """Within the context stdout is for JSON alone; what code of users prints there goes to stderr."""
    token = _STDOUT.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _STDOUT.reset(token)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; columns of numbers, already formatted, are right-aligned."""
    look: dict[str, Any] = {
        "box": SIMPLE_HEAD,
        "show_edge": False,
        "padding": (0, 1, 0, 0),
        "header_style": "bold",
    }
    console = Console(highlight=False, emoji=False)
    console.print(escape(shown_in_line(title)), style="bold")
    table = Table(**look)
    for index, column in enumerate(columns):
        numeric = all(row[index][:1].isdigit() for row in rows if row[index])
        justify: Literal["left", "right"] = "right" if numeric and index else "left"
        table.add_column(escape(shown_in_line(column)), justify=justify, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(escape(shown_in_line(cell)) for cell in row))
    console.print(table)


@contextmanager
def bar(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with an ETA on stderr; the value is the callback ``(done, total)`` that moves it."""
    console = Console(stderr=True, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=quiet or not console.is_terminal
    ) as progress:
        task = progress.add_task(label, total=None)

        def tick(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield tick
