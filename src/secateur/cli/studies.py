"""Verbs on studies: validate, plan, run, report."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.latency import measure
from secateur.cli.options import (
    Address,
    Config,
    EngineName,
    EngineOption,
    Folder,
    Jobs,
    Json,
    Limit,
    Out,
    Overrides,
    PlugIns,
    Progress,
    ProgressOption,
    Reuse,
    Trusted,
    plug_in,
)
from secateur.cli.output import note, print_json, print_table
from secateur.errors import UserError

if TYPE_CHECKING:
    from secateur.report import ReportPaths
    from secateur.study import Plan


def validate(config: Config, overrides: Overrides = None, plugin: PlugIns = None) -> None:
    """Check a study file: every problem at once, each with its line; and say what its images are used for.

    Settings of attacks, recipes and criteria are checked as they will be when they are used.
    """
    from secateur.config import load_study
    from secateur.study import check

    plug_in(plugin)
    laid = check(load_study(config, overrides=overrides or ()))
    typer.echo(f"{config} is a sound study of {len(laid.cells)} cells: {_counted(laid)}")
    _remark(laid)


def plan(
    config: Config,
    out: Out = None,
    overrides: Overrides = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Show the cells of a study, what is already done, and what the rest will cost. Runs nothing."""
    from secateur.config import load_study
    from secateur.study import facts_to_price
    from secateur.study import plan as lay_out
    from secateur.text import counted, duration

    plug_in(plugin)
    study = load_study(config, overrides=overrides or ())
    facts, missing = facts_to_price(study)
    folder = None if missing else out or Path("runs") / study.name
    laid = lay_out(study, out=folder, limit=limit, facts=facts, probe=True)
    if not missing:
        _remark(laid)
    if missing:
        counts = " + ".join(f"{count:,}" for count in (facts.train, facts.validation, facts.test))
        note(f"priced for {counts} images, as the official dataset has them: {missing}")
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
                "missing": missing or None,
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
        f"about {duration(seconds)} with {counted(jobs, 'job')} on this machine"
    )


def _remark(laid: "Plan") -> None:
    """Say what a study does with its images and networks, where its file and their names do not."""
    from secateur.registry import DATASETS, comes_with_weights

    study = laid.study
    official = "images" in DATASETS.entry(study.data.spec.partition(":")[0]).facts
    archs = [model.arch for model in study.models.values()]
    known = not any(arch.startswith(("timm:", "torchvision:")) or comes_with_weights(arch) for arch in archs)
    if official and known:
        return
    # What is left needs torch.
    from secateur.study.build_models import remarks

    for remark in remarks(study, laid.facts):
        note(remark)


def run(
    config: Config,
    out: Out = None,
    overrides: Overrides = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    progress: ProgressOption = Progress.AUTO,
    reuse: Reuse = None,
    plugin: PlugIns = None,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    trusted: Trusted = False,
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

    plug_in(plugin)
    study = load_study(config, overrides=overrides or ())
    folder = out or Path("runs") / study.name
    mode, stream = (Progress.JSON, sys.stdout) if as_json else (progress, sys.stderr)
    laid = lay_out(study, out=folder, limit=limit)
    ray = None
    if engine is EngineName.RAY:
        from secateur.engine.ray import RayEngine

        # Without a GPU of its own, Ray hides all of them from a task.
        gpus = 0 if study.device == "cpu" else 1
        ray = RayEngine(folder, threads=study.threads, gpus=gpus, address=address, trusted=trusted)
    with show(mode.value, stream=stream) as listener:
        outcome = run_plan(laid, folder, jobs=jobs, on_event=listener, engine=ray, reuse=reuse or ())
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


def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write here; by default into FOLDER/report.")
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="First measure, by a clock, the networks that were not yet.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --latency: forget what was measured, and measure all.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="With --latency: images per pass; 1 by default.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="With --latency: CPU threads; torch's own number by default.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --latency: where the networks run, such as cuda; cpu by default.")
    ] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Write figures, tables and the HTML page of a run again, from its records alone.

    With --latency every pruned network first runs in turns with its dense one.
    FOLDER/latency.json keeps what the clock said, and later reports show it too.
    """
    from secateur.report import report as write_report

    plug_in(plugin)
    if latency:
        measure(folder, again=again, batch=batch or 1, threads=threads, device=device or "cpu", quiet=as_json)
    elif again or batch or threads or device:
        raise UserError(
            "--again, --batch, --threads and --device are about --latency, which is not asked for",
            hint=f"secateur report {folder} --latency",
        )
    paths = write_report(folder, out=out)
    if as_json:
        print_json(
            {
                "index": str(paths.index),
                "figures": [str(p) for p in paths.figures],
                "tables": [str(p) for p in paths.tables],
                "warnings": [{"model": model, "sentence": sentence} for model, sentence in paths.warnings],
                "latency": [{"model": model, "sentence": sentence} for model, sentence in paths.latency],
            }
        )
    else:
        _tell(folder, paths)


COMMANDS = (validate, plan, run, report)


def _counted(laid: "Plan") -> str:
    return ", ".join(f"{count} {stage}" for stage, count in laid.counts.items())


def _tell(folder: Path, paths: "ReportPaths") -> None:
    table = paths.overview
    if table.rows:
        print_table(table.title, table.columns, table.rows)
    else:
        note(f"no network in {folder} has been attacked yet: there is nothing to tabulate")
    for model, sentence in paths.warnings:
        typer.echo(f"{model} {sentence}")
    for model, sentence in paths.latency:
        typer.echo(f"latency: {model}, {sentence}")
    typer.echo(f"report:  {paths.index}")
    typer.echo(f"figures: {paths.index.parent / 'figures'} ({len(paths.figures)} files, PNG and PDF)")
    typer.echo(f"tables:  {paths.index.parent / 'tables'}")
    typer.echo(f"records: {folder / 'cells'}")
