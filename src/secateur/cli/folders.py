"""Verbs around studies: init, schema, and on run folders status and worker."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.options import Folder, Jobs, Json, PlugIns, Progress, ProgressOption, plug_in
from secateur.cli.output import note, print_json, print_table
from secateur.errors import ExitCode, UserError

if TYPE_CHECKING:
    from secateur.study import Status

# What fits into 80 columns; --json and --out give all of them.
STATES = {"ok": "done", "failed": "failed", "damaged": "damaged", "running": "running", "open": "open"}


def status(folder: Folder, as_json: Json = False) -> None:
    """Show how far a run is, what runs now, what failed, and how long the rest will take."""
    from secateur.store import Store
    from secateur.study import status as look

    told = look(Store.open(folder))
    if as_json:
        failed = [{"cell": cell, "sentence": sentence} for cell, sentence in told.failed]
        print_json({**told.to_json(), "failed": failed})
        return
    rows = [
        (stage, *(str(states.get(state, 0)) for state in STATES)) for stage, states in told.stages.items()
    ]
    print_table(f"{told.name} in {folder}", ("stage", *STATES.values()), rows)
    for line in _remarks(told):
        typer.echo(line)


def worker(
    folder: Folder,
    jobs: Jobs = 1,
    progress: ProgressOption = Progress.AUTO,
    plugin: PlugIns = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try cells again that failed earlier.")
    ] = False,
) -> None:
    """Help with the study of an existing run folder until nothing is left.

    Start as many as you like, from any machine that sees the folder: each cell is done by one of them.
    """
    from secateur.progress import show
    from secateur.study import join

    plug_in(plugin)
    with show(progress.value) as listener:
        outcome = join(folder, jobs=jobs, on_event=listener, retry_failed=retry_failed)
    if outcome.failed:
        note(f"{len(outcome.failed)} cells failed; see secateur status {folder}")
    raise typer.Exit(outcome.exit_code)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.yaml"),
    preset: Annotated[str, typer.Option(help="digits, thesis or thesis-literal.")] = "digits",
) -> None:
    """Write a study file with comments to begin with."""
    from secateur.config import preset as preset_text

    text = preset_text(preset).replace("THIS", str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already", hint="name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"{path}: {text.splitlines()[0].removeprefix('# ')}")
    typer.echo(f"next: secateur plan {path}")


def schema(plugin: PlugIns = None) -> None:
    """Print the JSON Schema of study files, for editors."""
    from secateur.config import study_schema

    plug_in(plugin)
    print_json(study_schema())


def compare(
    first: Annotated[Path, typer.Argument(help="The run folder to start from.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The run folder seen from it.", show_default=False)],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="A limit, as in 'robust@8/255<-0.05', 'median<-5%' or 'accuracy<-0.01'; "
            "exit code 6 if broken.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write page and tables into this folder.")
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
            typer.echo(f"limit broken: {sentence}")
    if broken:
        raise typer.Exit(ExitCode.LIMIT_BROKEN)


COMMANDS = (init, status, compare, worker, schema)


def _remarks(told: "Status") -> list[str]:
    from secateur.text import duration

    lines = [f"running: {label}" for label in told.running]
    lines += [f"failed: {label}: {sentence}" for label, sentence in told.failed]
    lines += [
        f"damaged: {label}: {sentence}; the next run computes it afresh" for label, sentence in told.damaged
    ]
    lines += [f"note: {sentence}" for sentence in told.notes]
    if told.limited is not None:
        lines.append(f"these numbers are partial: --limit {told.limited}")
    if told.remaining:
        lines.append(f"about {duration(told.remaining)} of work are left for one job")
    return lines
