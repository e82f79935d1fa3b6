"""The application, its commands, and the place where errors become one sentence and an exit code."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from secateur.cli import (
    attack,
    check,
    compare,
    doctor,
    evaluate,
    export,
    finetune,
    folder,
    graph,
    init,
    ls,
    plan,
    prune,
    report,
    run,
    transfer,
)
from secateur.cli.completion import in_words_of_bash
from secateur.cli.output import complain, results, results_alone
from secateur.errors import ExitCode, UserError

# Messages of torch and safetensors about the machine; these errors have no type of their own.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_NO_SPACE = "No space left on device"

app = typer.Typer(
    name="secateur",
    help="Prune a trained network, and measure what is left of its robustness.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, home in (
    ("Studies", plan),
    ("Studies", run),
    ("Studies", folder),
    ("Studies", report),
    ("Studies", compare),
    ("Studies", transfer),
    ("Studies", init),
    ("Single networks", check),
    ("Single networks", graph),
    ("Single networks", prune),
    ("Single networks", finetune),
    ("Single networks", evaluate),
    ("Single networks", attack),
    ("Single networks", export),
    ("Information", ls),
    ("Information", doctor),
):
    for command in home.COMMANDS:
        app.command(rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("secateur"))
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Prune a trained network, and measure what is left of its robustness."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with an exit code of ``secateur.errors.ExitCode``."""
    _make_writable()
    try:
        wants_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
        with in_words_of_bash(), results_alone() if wants_json else nullcontext():
            _run(arguments)
    except UserError as error:
        complain(error)
        sys.exit(error.code)
    except BrokenPipeError:
        _drop_stdout()
        sys.exit(ExitCode.READER_GONE)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        trouble = _environment(error)
        if trouble is None:
            raise
        complain(trouble)
        sys.exit(trouble.code)


def _run(arguments: Sequence[str] | None) -> None:
    """Run the command. Typer ends with code 1 on its own errors; here 1 is reserved for defects."""
    try:
        app(args=arguments)
    except SystemExit as end:
        # A full disk or a closed pipe only shows when the buffer is flushed.
        results().flush()
        if end.code != ExitCode.INTERNAL:
            raise
        for cause in _chain(end):
            if isinstance(cause, BrokenPipeError):
                raise BrokenPipeError from None
            if isinstance(cause, EOFError):
                raise cause from None
        sys.exit(ExitCode.BAD_INPUT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _make_writable() -> None:
    """Let every text be printed: to streams that are closed, and in encodings that lack a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Open until the process ends, as the stream itself would be.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Redirect the rest of the buffer to nowhere; the interpreter would fail on it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _environment(error: Exception) -> UserError | None:
    """The error as a problem of the machine, in words; None if it is a defect."""
    said = str(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "secateur").split(".")[0] != "secateur":
        sentence, hint = f"the package {error.name} is missing", "pip install secateur, or secateur doctor"
    elif isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY):
        sentence = f"memory ran out: {said.splitlines()[0]}" if said else "memory ran out"
        hint = "use fewer or smaller images, or a smaller batch"
    elif isinstance(error, OSError) or _NO_SPACE in said:
        # A full disk or a forbidden path; wrong content became a UserError where it was read.
        named, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
        sentence = f"{f'{named}: ' if named else ''}{reason or said}"
        hint = "check the path, its permissions and the disk"
    else:
        return None
    return UserError(sentence, hint=hint, code=ExitCode.ENVIRONMENT)
