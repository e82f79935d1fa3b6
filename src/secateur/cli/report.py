"""The command report: figures, tables and the page of a run, with measured latency on request."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.options import Folder, Json, PlugIns, plug_in, refuse_file
from secateur.cli.output import bar, note, print_json, print_table, say
from secateur.errors import UserError
from secateur.text import counted, duration, first_few, listed

if TYPE_CHECKING:
    from secateur.report import ReportPaths
    from secateur.study.latency import Measurement

# Factor on the seconds per network: warm-up, loading, taking turns with the dense network.
_OVERHEAD = 2.7
SHOWN = 3
LINE_SECONDS = 10.0


def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder; FOLDER/report by default.")
    ] = None,
    figures: Annotated[
        str | None,
        typer.Option(
            help="Write the figures of the page as files too: pdf, png, svg, or several with commas. By "
            "default the kinds that the output folder already holds."
        ),
    ] = None,
    no_pictures: Annotated[
        bool,
        typer.Option("--no-pictures", help="Leave out adversarial pictures: they show images of the data."),
    ] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="First measure the latency of networks that have none yet.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --latency: measure all networks again.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="With --latency: batch size; 1 by default.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="With --latency: CPU threads; torch's default otherwise.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --latency: device, such as cuda; cpu by default.")
    ] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Write the HTML page, tables and figures of a run from its records.

    With --latency, first time every pruned network in turns with its dense network.
    The timings are kept in FOLDER/latency.json and shown by later reports.
    """
    from secateur.report import report as write_report

    refuse_file(out)
    plug_in(plugin)
    if latency:
        measure(folder, again=again, batch=batch or 1, threads=threads, device=device or "cpu", quiet=as_json)
    # A forgotten --latency would otherwise be a silent no-op.
    elif again or batch or threads or device:
        raise UserError(
            "--again, --batch, --threads and --device need --latency",
            hint=f"secateur report {quote(str(folder))} --latency",
        )
    kinds = [kind.strip() for kind in figures.split(",")] if figures is not None else []
    paths = write_report(folder, out=out, figures=kinds, pictures=not no_pictures)
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
        print_report(folder, paths)


COMMANDS = (report,)


def print_report(folder: Path, paths: "ReportPaths") -> None:
    """Print the overview and where the files of a report are."""
    table = paths.overview
    if table.rows:
        print_table(table.title, table.columns, table.rows)
    else:
        note(f"no network in {folder} has been attacked yet: there is nothing to tabulate")
    for model, sentence in paths.warnings:
        say(f"{model} {sentence}")
    for model, sentence in paths.latency:
        say(f"latency: {model}, {sentence}")
    say(f"report:  {paths.index}")
    say(f"figures: {_figures(folder, paths)}")
    say(f"tables:  {paths.index.parent / 'tables'}")
    say(f"records: {folder / 'cells'}")


def _figures(folder: Path, paths: "ReportPaths") -> str:
    target = paths.index.parent
    if paths.figures:
        kinds = listed([kind.upper() for kind in dict.fromkeys(path.suffix[1:] for path in paths.figures)])
        return f"{target / 'figures'} ({len(paths.figures)} files, {kinds})"
    elsewhere = "" if target == folder / "report" else f" --out {quote(str(target))}"
    return f"on the page; as files: secateur report {quote(str(folder))}{elsewhere} --figures pdf"


def measure(folder: Path, *, again: bool, batch: int, threads: int | None, device: str, quiet: bool) -> None:
    """Measure networks without a latency, with a progress bar and notes. Raises UserError."""
    from secateur.study.latency import SECONDS, measure_latencies

    with bar("networks measured", quiet=quiet) as tick:
        # A terminal shows the bar instead.
        lines = _lines(_OVERHEAD * SECONDS, every=float("inf") if sys.stderr.isatty() else LINE_SECONDS)

        def told(done: int, total: int) -> None:
            lines(done, total)
            tick(done, total)

        try:
            done = measure_latencies(
                folder, again=again, batch=batch, threads=threads, device=device, on_progress=told
            )
        except KeyboardInterrupt:
            note("interrupted: finished measurements are kept; the same command without --again continues")
            raise
    note(*_told(done))


def _lines(expected: float, *, every: float) -> Callable[[int, int], None]:
    """Notes for a log file: the expected time at the start, the progress every few seconds."""
    started = due = 0.0

    def tick(done: int, total: int) -> None:
        nonlocal started, due
        now = time.monotonic()
        if done == 0:
            started, due = now, now + every
            if total:
                takes = duration(expected * total)
                note(f"measuring {counted(total, 'network')} in turns with the dense ones: about {takes}")
        elif now >= due and done < total:
            due = now + every
            left = duration((now - started) / done * (total - done))
            note(f"{done} of {total} networks measured, {left} left")

    return tick


def _told(done: "Measurement") -> list[str]:
    said = []
    if done.measured or done.kept:
        said.append(
            f"measured {done.measured} and kept {done.kept} networks in {done.path}: {done.conditions}"
        )
    if done.unfinished:
        said.append(f"not finished yet, so not measured: {first_few(list(done.unfinished), SHOWN)}")
    if done.without:
        reasons = "; ".join(dict.fromkeys(done.without.values()))
        said.append(f"not measured: {first_few(list(done.without), SHOWN)} ({reasons})")
    if done.busy:
        said.append(f"timings disturbed by other work on this machine: {first_few(list(done.busy), SHOWN)}")
    return said
