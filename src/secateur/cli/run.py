"""The commands run and worker: carry a study out, and help with it."""

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from secateur.cli.options import (
    Address,
    Config,
    EngineName,
    EngineOption,
    Folder,
    Jobs,
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
from secateur.cli.output import note, print_json, results
from secateur.cli.report import print_report
from secateur.cli.tracking import LogTo, refuse_absent, tracked


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
    log_to: LogTo = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Events and the result as JSON lines on stdout.")
    ] = False,
) -> None:
    """Run a study, or the rest of it, and write its report. Can be interrupted and repeated."""
    from secateur.cli.tracked_values import listening
    from secateur.config import load_study
    from secateur.progress import show
    from secateur.report import report as write_report
    from secateur.study import plan as lay_out
    from secateur.study import run_plan

    plug_in(plugin)
    refuse_absent(log_to)
    study = load_study(config, overrides=overrides or ())
    folder = out or Path("runs") / study.name
    mode, stream = (Progress.JSON, results()) if as_json else (progress, sys.stderr)
    laid = lay_out(study, out=folder, limit=limit)
    ray = None
    if engine is EngineName.RAY:
        from secateur.engine.ray import RayEngine

        # Ray hides all GPUs from a task that does not ask for one.
        gpus = 0 if study.device == "cpu" else 1
        ray = RayEngine(folder, threads=study.threads, gpus=gpus, address=address, trusted=trusted)
    with tracked(log_to, study.name) as log, show(mode.value, stream=stream) as listener:
        told = listening(listener, log, folder) if log_to else listener
        outcome = run_plan(laid, folder, jobs=jobs, on_event=told, engine=ray, reuse=reuse or ())
    # An interrupted run (128 and above) must end at once; its report can be written later.
    if outcome.exit_code < 128:
        paths = write_report(folder)
        if as_json:
            print_json(
                {"event": "report", "index": str(paths.index), "ok": outcome.ok, "failed": outcome.failed}
            )
        else:
            print_report(folder, paths)
            if limit is not None:
                note(f"these numbers are partial: --limit {limit}")
            if outcome.failed:
                more = f"see the report, or secateur status {quote(str(folder))}"
                note(f"{len(outcome.failed)} cells failed; {more}")
    raise typer.Exit(outcome.exit_code)


def worker(
    folder: Folder,
    jobs: Jobs = 1,
    progress: ProgressOption = Progress.AUTO,
    plugin: PlugIns = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry cells that failed earlier.")
    ] = False,
) -> None:
    """Work on the study of an existing run folder until it is finished.

    Start any number of workers, on any machine that sees the folder; each cell is done by one of them.
    """
    from secateur.progress import show
    from secateur.study import join

    plug_in(plugin)
    with show(progress.value) as listener:
        outcome = join(folder, jobs=jobs, on_event=listener, retry_failed=retry_failed)
    if outcome.failed:
        note(f"{len(outcome.failed)} cells failed; see secateur status {quote(str(folder))}")
    raise typer.Exit(outcome.exit_code)


COMMANDS = (run, worker)
