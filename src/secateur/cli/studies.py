"""Verbs on studies: init, validate, plan, run, status, report."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.output import note, print_json, print_table
from secateur.errors import UserError

if TYPE_CHECKING:
    from secateur.study import Plan

Config = Annotated[Path, typer.Argument(help="A study file (YAML).", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a setting of the file, as in images=50. May be repeated."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Attack at most N images; marks the numbers as partial.")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Cells at a time on this machine.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The run folder; runs/NAME by default.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


class Progress(StrEnum):
    """How a run shows itself."""

    AUTO = "auto"
    RICH = "rich"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


def validate(config: Config, overrides: Overrides = None) -> None:
    """Check a study file: every problem at once, each with its line."""
    from secateur.config import load_study
    from secateur.study import plan as lay_out

    laid = lay_out(load_study(config, overrides=overrides or ()))
    typer.echo(f"{config} is a sound study of {len(laid.cells)} cells: {_counted(laid)}")


def plan(
    config: Config,
    out: Out = None,
    overrides: Overrides = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Show the cells of a study, what is already done, and what the rest will cost. Runs nothing."""
    from secateur.config import load_study
    from secateur.progress import duration
    from secateur.study import plan as lay_out

    study = load_study(config, overrides=overrides or ())
    laid = lay_out(study, out=out or Path("runs") / study.name, limit=limit, probe=True)
    seconds = laid.seconds(jobs)
    if as_json:
        print_json(
            {
                "name": study.name,
                "cells": len(laid.cells),
                "done": len(laid.done),
                "stages": laid.counts,
                "forwards": laid.forwards,
                "backwards": laid.backwards,
                "seconds": seconds,
                "jobs": jobs,
            }
        )
        return
    todo = Counter[str](cell.stage for cell in laid.todo)
    rows = [
        (stage, str(count), str(count - todo[stage]), str(todo[stage]))
        for stage, count in laid.counts.items()
    ]
    print_table(f"{study.name}: {len(laid.cells)} cells", ("stage", "cells", "done", "to run"), rows)
    typer.echo(
        f"{laid.forwards:,} forward and {laid.backwards:,} backward passes of one image at most; "
        f"about {duration(seconds)} with {jobs} job{'s' if jobs > 1 else ''} on this machine"
    )


def run(
    config: Config,
    out: Out = None,
    overrides: Overrides = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    progress: Annotated[Progress, typer.Option(help="How to show what goes on.")] = Progress.AUTO,
    as_json: Annotated[
        bool, typer.Option("--json", help="Events and the result as JSON lines on stdout.")
    ] = False,
) -> None:
    """Run a study, or what is left of it, and write its report. Safe to interrupt and to repeat."""
    import sys

    from secateur.config import load_study
    from secateur.progress import show
    from secateur.report import report as write_report
    from secateur.study import plan as lay_out
    from secateur.study import run_plan

    study = load_study(config, overrides=overrides or ())
    folder = out or Path("runs") / study.name
    mode, stream = (Progress.JSON, sys.stdout) if as_json else (progress, sys.stderr)
    with show(mode.value, stream=stream) as listener:
        outcome = run_plan(lay_out(study, out=folder, limit=limit), folder, jobs=jobs, on_event=listener)
    if outcome.exit_code < 128:
        paths = write_report(folder)
        if as_json:
            print_json(
                {"event": "report", "index": str(paths.index), "ok": outcome.ok, "failed": outcome.failed}
            )
        else:
            _tell(folder, paths)
            if limit is not None:
                note(f"these numbers are partial: --limit {limit}")
            if outcome.failed:
                note(f"{len(outcome.failed)} cells failed; see the report, or secateur status {folder}")
    raise typer.Exit(outcome.exit_code)


def status(folder: Folder, as_json: Json = False) -> None:
    """Show how far a run is, and what failed."""
    from secateur.store import Store

    store = Store.open(folder)
    records = {record["id"]: record for record in store.records()}
    counts: dict[str, Counter[str]] = {}
    for cell in store.cells:
        state = records[cell.id]["status"] if cell.id in records else "open"
        counts.setdefault(cell.stage, Counter())[state] += 1
    failed = [
        {"id": cell.id, "cell": cell.label, "sentence": records[cell.id]["error"]["sentence"]}
        for cell in store.cells
        if cell.id in records and records[cell.id]["status"] == "failed"
    ]
    if as_json:
        print_json(
            {"name": store.study["name"], "stages": {k: dict(v) for k, v in counts.items()}, "failed": failed}
        )
        return
    rows = [
        (stage, *(str(count[state]) for state in ("ok", "failed", "open"))) for stage, count in counts.items()
    ]
    print_table(f"{store.study['name']} in {folder}", ("stage", "done", "failed", "open"), rows)
    for failure in failed:
        typer.echo(f"failed: {failure['cell']}: {failure['sentence']}")
    for remark in store.notes():
        typer.echo(f"note: {remark['note']}")


def report(folder: Folder, as_json: Json = False) -> None:
    """Write figures, tables and the HTML page of a run again, from its records alone."""
    from secateur.report import report as write_report

    paths = write_report(folder)
    if as_json:
        print_json(
            {
                "index": str(paths.index),
                "figures": [str(p) for p in paths.figures],
                "tables": [str(p) for p in paths.tables],
            }
        )
    else:
        _tell(folder, paths)


COMMANDS = (validate, plan, run, status, report)


def _counted(laid: "Plan") -> str:
    return ", ".join(f"{count} {stage}" for stage, count in laid.counts.items())


def _tell(folder: Path, paths: Any) -> None:
    from secateur.report import terminal_table

    table = terminal_table(folder)
    if not table.rows:
        raise UserError(
            f"{folder} has no attacked network yet", hint=f"continue it with secateur run ... --out {folder}"
        )
    print_table(table.title, table.columns, table.rows)
    typer.echo(f"report:  {paths.index}")
    typer.echo(f"figures: {paths.index.parent / 'figures'} ({len(paths.figures)} files, PNG and PDF)")
    typer.echo(f"tables:  {paths.index.parent / 'tables'}")
    typer.echo(f"records: {folder / 'cells'}")
