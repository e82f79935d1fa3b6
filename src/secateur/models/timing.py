"""Latency of calls: medians and quartiles over runs that alternate between the calls."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

# The Timer of torch.utils.benchmark measures one call to the end before the next: on a shared machine two
# networks would then be timed under different load. Here they alternate in short turns, so that a slow phase
# hits all of them and cancels in ``share_of``. Seconds per turn, and the fewest turns.
_TURN, _TURNS = 0.005, 4
# Shortest run in seconds: reading the clock then costs under a thousandth. Not longer, so that an
# interruption spoils few runs, which the median ignores.
_RUN = 1e-4
# Fewest runs per turn, unless one takes longer than ``_LONG`` seconds.
_RUNS, _LONG = 3, 0.05


@dataclass(frozen=True)
class Latency:
    """Seconds per call: the median and both quartiles over ``runs`` runs, on ``threads`` CPU threads.

    ``turns`` holds the median of each turn; calls that were measured together share their turns.

    >>> str(Latency(0.0021, 0.0020, 0.0023, runs=100, threads=1))
    '2.1 ms (2–2.3)'
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
        """Plain data, in seconds."""
        return {
            "median": self.median,
            "quartiles": [self.low, self.high],
            "iqr": self.high - self.low,
            "runs": self.runs,
            "threads": self.threads,
        }

    def share_of(self, other: "Latency") -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of this latency divided by another's, turn by turn.

        A machine that slows down for a while slows both, which cancels in the ratio.

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
    """Measure how long each call takes, alternating between them, for at least ``seconds`` each.

    Args:
        calls: measured after one warm-up call each. Work on an accelerator is waited for.
        seconds: time to measure each call, at least.
        threads: of torch on the CPU while measuring; torch's current number by default.

    Returns:
        One latency per call, in order.

    >>> fast, slow = time_calls([lambda: None, lambda: sum(range(10_000))], seconds=0.01)
    >>> fast.median < slow.median
    True
    """
    count = threads or torch.get_num_threads()
    with _measuring(count):
        paces = [_pace(call) for call in calls]
        found: list[list[float]] = [[] for _ in calls]
        turns: list[list[float]] = [[] for _ in calls]
        spent = [0.0 for _ in calls]
        while len(turns[0]) < _TURNS or min(spent) < seconds:
            for number, (call, (times, runs)) in enumerate(zip(calls, paces, strict=True)):
                call()  # refills the caches after the other calls' turns
                taken = [_run(call, times) for _ in range(runs)]
                found[number] += taken
                turns[number].append(float(np.median(taken)))
                spent[number] += times * sum(taken)
    quartiles = [np.percentile(taken, [25, 50, 75]) for taken in found]
    return [
        Latency(float(middle), float(low), float(high), times * len(taken), count, tuple(medians))
        for (low, middle, high), (times, _), taken, medians in zip(
            quartiles, paces, found, turns, strict=True
        )
    ]


def timer() -> float:
    """Seconds of a clock, once an accelerator has done what it was given.

    The timer of torch.utils.benchmark is the same, but its package imports setuptools (0.14 s).

    >>> timer() <= timer()
    True
    """
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


@contextmanager
def _measuring(threads: int) -> Iterator[None]:
    """Set the number of threads and disable garbage collection, which would run at arbitrary times."""
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
    """Calls per run, and runs per turn."""
    call()
    times, taken = 1, _quickest(call, 1)
    while times * taken < _RUN:
        times = max(times + 1, math.ceil(1.1 * _RUN / max(taken, 1e-9)))
        taken = _quickest(call, times)
    return times, max(round(_TURN / (times * taken)), 1 if taken > _LONG else _RUNS)


def _quickest(call: Callable[[], object], times: int) -> float:
    """The fastest of a few runs, because another process may disturb one; of a single run if it is long."""
    taken = _run(call, times)
    return taken if taken > _LONG else min(taken, *(_run(call, times) for _ in range(_RUNS - 1)))


def _run(call: Callable[[], object], times: int) -> float:
    """Seconds per call."""
    started = timer()
    for _ in range(times):
        call()
    return (timer() - started) / times
