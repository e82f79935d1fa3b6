"""The command compare: two studies on the same images."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.options import Json
from secateur.cli.output import note, print_json, print_table, say
from secateur.errors import ExitCode


def compare(
    first: Annotated[Path, typer.Argument(help="The run folder of reference.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The run folder to compare with it.", show_default=False)],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="A limit, as in 'robust@8/255<-0.05', 'median<-5%' or 'accuracy<-0.01'; "
            "exit code 6 if broken.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the page and tables to this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two studies on the images that both attacked, with intervals; a gate for CI."""
    from secateur.report import compare as compare_runs
    from secateur.report import violations, write_comparison

    comparison = compare_runs(first, second)
    table, broken = comparison.table, violations(comparison, fail_if or ())
    if out is not None:
        write_comparison(comparison, out)
        note(f"wrote {out}")
    if as_json:
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        print_json({"title": table.title, "rows": rows, "broken": broken})
    else:
        shown = comparison.overview
        print_table(shown.title, shown.columns, shown.rows)
        for sentence in broken:
            say(f"limit broken: {sentence}")
    # The exit code is the gate for CI; it comes last so that the table is always printed.
    if broken:
        raise typer.Exit(ExitCode.LIMIT_BROKEN)


COMMANDS = (compare,)
