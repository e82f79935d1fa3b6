"""Measuring the networks of a run, for the verb report: what is shown meanwhile and after."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from secateur.cli.output import bar, note
from secateur.text import counted, duration, first_few

if TYPE_CHECKING:
    from secateur.study.latency import Measurement

# Times the asked seconds: warming up, loading, taking turns with the dense network.
_OVERHEAD = 2.7
SHOWN = 3
LINE_SECONDS = 10.0


def measure(folder: Path, *, again: bool, batch: int, threads: int | None, device: str, quiet: bool) -> None:
    """Measure what was not measured yet, with a bar; say what could not be. Raises UserError."""
    from secateur.study.latency import SECONDS, measure_latencies

    with bar("networks measured", quiet=quiet) as tick:
        # A terminal has the bar.
        lines = _lines(_OVERHEAD * SECONDS, every=float("inf") if sys.stderr.isatty() else LINE_SECONDS)

        def told(done: int, total: int) -> None:
            lines(done, total)
            tick(done, total)

        try:
            done = measure_latencies(
                folder, again=again, batch=batch, threads=threads, device=device, on_progress=told
            )
        except KeyboardInterrupt:
            note("interrupted: what is measured is kept, and the same command without --again goes on")
            raise
    for sentence in _told(done):
        note(sentence)


def _lines(expected: float, *, every: float) -> Callable[[int, int], None]:
    """Says what begins, with ``expected`` seconds for each network; later how far it is, now and then."""
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
        said.append(f"the clock was disturbed by what is being computed: {first_few(list(done.busy), SHOWN)}")
    return said
