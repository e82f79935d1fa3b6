"""How long calls take: medians over runs that take turns, with their spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer

# Seconds of a turn, and how many turns at least: a machine that slows down for a while meets all calls alike.
_TURN, _TURNS = 0.02, 4


@dataclass(frozen=True)
class Latency:
    """Seconds per call: the median and both quartiles over ``runs`` runs, on ``threads`` CPU threads."""

    median: float
    low: float
    high: float
    runs: int
    threads: int

    def __str__(self) -> str:
        return f"{1e3 * self.median:.3g} ms ({1e3 * self.low:.3g}–{1e3 * self.high:.3g})"

    def to_json(self) -> dict[str, Any]:
        """Plain data; seconds."""
        return {
            "median": self.median,
            "quartiles": [self.low, self.high],
            "iqr": self.high - self.low,
            "runs": self.runs,
            "threads": self.threads,
        }


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
    timers = [Timer("call()", globals={"call": call}, num_threads=count) for call in calls]
    found: list[list[float]] = [[] for _ in calls]
    runs = [0 for _ in calls]
    spent = [0.0 for _ in calls]
    for timer in timers:
        timer.timeit(1)
    turns = 0
    while turns < _TURNS or min(spent) < seconds:
        turns += 1
        for place, timer in enumerate(timers):
            measured = timer.blocked_autorange(min_run_time=_TURN)
            found[place] += measured.times
            runs[place] += measured.number_per_run * len(measured.times)
            spent[place] += sum(measured.raw_times)
    quartiles = [np.percentile(times, [25, 50, 75]) for times in found]
    return [
        Latency(float(middle), float(low), float(high), number, count)
        for (low, middle, high), number in zip(quartiles, runs, strict=True)
    ]
