"""How long calls take: medians over runs that take turns, with their spread."""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import timer

# Seconds of a turn, and how many turns at least: a machine that slows down for a while meets all calls alike.
_TURN, _TURNS = 0.005, 4
# Seconds of a run, at least, so that reading the clock costs no thousandth of it. Runs are as short as that
# allows: a machine that does something else in between then spoils single runs, which a median leaves out.
_RUN = 1e-4
# Runs in a turn, at least, unless one takes longer than so many seconds.
_RUNS, _LONG = 3, 0.05


@dataclass(frozen=True)
class Latency:
    """Seconds per call: the median and both quartiles over ``runs`` runs, on ``threads`` CPU threads.

    ``turns`` holds the median of each turn: calls that were measured together had the same turns.
    """

    median: float
    low: float
    high: float
    runs: int
    threads: int
    turns: tuple[float, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        scale, unit = (1, "s") if self.median >= 1 else (1e3, "ms")
        return f"{scale * self.median:.3g} {unit} ({scale * self.low:.3g}–{scale * self.high:.3g})"

    def to_json(self) -> dict[str, Any]:
        """Plain data; seconds."""
        return {
            "median": self.median,
            "quartiles": [self.low, self.high],
            "iqr": self.high - self.low,
            "runs": self.runs,
            "threads": self.threads,
        }

    def share_of(self, other: "Latency") -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of this latency as a share of another's, turn by turn.

        A machine that slows down for a while slows both down, and drops out of their share.

        Raises:
            ValueError: they were not measured together.
        """
        shares = [own / its for own, its in zip(self.turns, other.turns, strict=True)]
        if not shares:
            raise ValueError("these latencies have no turns in common")
        low, middle, high = np.percentile(shares, [25, 50, 75])
        return float(low), float(middle), float(high)


def time_calls(
    calls: Sequence[Callable[[], object]], *, seconds: float = 1.0, threads: int | None = None
) -> list[Latency]:
    """Measure how long each call takes, in turns, for ``seconds`` each at least.

    Args:
        calls: what to measure; each is called once before, to warm up. Work on an accelerator is waited for.
        seconds: how long to measure each, at least.
        threads: of torch on the CPU while measuring; torch's own number by default.
    """
    count = threads or torch.get_num_threads()
    with _measuring(count):
        paces = [_pace(call) for call in calls]
        found: list[list[float]] = [[] for _ in calls]
        turns: list[list[float]] = [[] for _ in calls]
        spent = [0.0 for _ in calls]
        while len(turns[0]) < _TURNS or min(spent) < seconds:
            for place, (call, (times, runs)) in enumerate(zip(calls, paces, strict=True)):
                call()  # the turn before has filled the caches with its own
                taken = [_run(call, times) for _ in range(runs)]
                found[place] += taken
                turns[place].append(float(np.median(taken)))
                spent[place] += times * sum(taken)
    quartiles = [np.percentile(taken, [25, 50, 75]) for taken in found]
    return [
        Latency(float(middle), float(low), float(high), times * len(taken), count, tuple(medians))
        for (low, middle, high), (times, _), taken, medians in zip(
            quartiles, paces, found, turns, strict=True
        )
    ]


@contextmanager
def _measuring(threads: int) -> Iterator[None]:
    """So many threads, and no garbage collection, which would come at any time."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def _pace(call: Callable[[], object]) -> tuple[int, int]:
    """How often to call in a run, and how many runs make a turn."""
    call()
    times, taken = 1, _quickest(call, 1)
    while times * taken < _RUN:
        times = max(times + 1, math.ceil(1.1 * _RUN / max(taken, 1e-9)))
        taken = _quickest(call, times)
    return times, max(round(_TURN / (times * taken)), 1 if taken > _LONG else _RUNS)


def _quickest(call: Callable[[], object], times: int) -> float:
    """Of a few runs, in case something else came in between; of one where it takes long."""
    taken = _run(call, times)
    return taken if taken > _LONG else min(taken, *(_run(call, times) for _ in range(_RUNS - 1)))


def _run(call: Callable[[], object], times: int) -> float:
    """Seconds per call."""
    started = timer()
    for _ in range(times):
        call()
    return float(timer() - started) / times
