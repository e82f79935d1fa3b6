"""Measuring the networks of a run for the verb report: what it shows while it goes on, and after."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from secateur.cli.output import bar, note

if TYPE_CHECKING:
    from secateur.study.latency import Measurement

# Times the asked seconds: warming up, loading, taking turns with the dense network.
_OVERHEAD = 2.7
SHOWN = 3


def measure(folder: Path, *, again: bool, batch: int, threads: int | None, device: str, quiet: bool) -> None:
    """Measure what was not measured yet, with a bar; say what could not be. Raises UserError."""
    from secateur.progress import duration
    from secateur.study.latency import SECONDS, measure_latencies

    with bar("networks measured", quiet=quiet) as tick:

        def begin(done: int, total: int) -> None:
            if done == 0 and total:
                takes = duration(_OVERHEAD * SECONDS * total)
                networks = "1 network" if total == 1 else f"{total} networks"
                note(f"measuring {networks} in turns with the dense ones: about {takes}")
            tick(done, total)

        done = measure_latencies(
            folder, again=again, batch=batch, threads=threads, device=device, on_progress=begin
        )
    for sentence in _told(folder, done):
        note(sentence)


def _told(folder: Path, done: "Measurement") -> list[str]:
    said = [f"measured {done.measured} and kept {done.kept} networks in {done.path}: {done.conditions}"]
    if done.unfinished:
        said.append(f"not finished yet, so not measured: {_listed(done.unfinished)}")
    if done.without:
        reasons = "; ".join(dict.fromkeys(done.without.values()))
        said.append(
            f"not measured, as their weights are not in {folder}: {_listed(done.without)} ({reasons})"
        )
    if done.busy:
        said.append(f"the clock was disturbed by what is being computed: {_listed(done.busy)}")
    return said


def _listed(labels: Collection[str]) -> str:
    shown = ", ".join(list(labels)[:SHOWN])
    return shown if len(labels) <= SHOWN else f"{shown} and {len(labels) - SHOWN} more"
