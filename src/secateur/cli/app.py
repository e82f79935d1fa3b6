"""The application object, its verbs, and the boundary where errors become one sentence and an exit code."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from secateur.cli import attacking, exporting, folders, info, network, studies, transferring
from secateur.cli.output import complain
from secateur.errors import ExitCode, UserError

app = typer.Typer(
    name="secateur",
    help="Prune a trained network, and measure what is left of its robustness.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, room in (
    ("Studies", studies),
    ("Studies", folders),
    ("Studies", transferring),
    ("Single networks", network),
    ("Single networks", attacking),
    ("Single networks", exporting),
    ("Information", info),
):
    for command in room.COMMANDS:
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
    try:
        app(args=arguments)
    except UserError as error:
        complain(error)
        sys.exit(error.code)
    except OSError as error:
        # A full disk or a forbidden path; wrong content has become a UserError where it was read.
        place = f"{error.filename}: " if error.filename else ""
        complain(
            UserError(
                f"{place}{error.strerror or error}", hint="check the path, its permissions and the disk"
            )
        )
        sys.exit(ExitCode.ENVIRONMENT)
