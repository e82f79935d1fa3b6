"""The command compare: two studies, two attacks or two evaluations on the same images."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.cli.options import Json
from secateur.cli.output import note, print_json, print_table, say
from secateur.errors import ExitCode, UserError


def compare(
    first: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or a JSON of attack or evaluate; the reference.", show_default=False
        ),
    ],
    second: Annotated[
        Path,
        typer.Argument(help="The run folder or JSON to compare with it.", show_default=False),
    ],
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
    """Compare two studies, attacks or evaluations on the images of both, with intervals; a gate for CI."""
    for path in (first, second):
        if not path.exists():
            raise UserError(
                f"there is no file or folder '{path}'", hint="name two run folders, or two JSON files"
            )
    if first.is_file() and second.is_file():
        _results(first, second, fail_if, out, as_json=as_json)
        return
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


def _results(
    first: Path, second: Path, fail_if: list[str] | None, out: Path | None, *, as_json: bool
) -> None:
    """Compare two files of ``attack --out`` or ``evaluate --out``."""
    from secateur.decision import compare as compare_results

    if fail_if or out is not None:
        raise UserError("--fail-if and --out are for run folders", hint="read the JSON of --json instead")
    found = compare_results(read_json(first), read_json(second))
    if as_json:
        print_json(found.to_json())
    else:
        print_table(f"{found.n} images of both", ("", first.name, second.name, "change"), found.cells())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: the file is damaged, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON of attack or evaluate", hint="write it with --out")
    return value
