"""Signs of life of a process: whether it, or a process that it started, computes, reads or writes.

A process that is stopped, that waits for a file system which does not answer, or whose threads wait for one
another does none of these, however long one looks.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
# Far less than the least share of a processor that a loaded machine gives, and more than what threads that
# wait wake up for.
BUSY_SHARE = 0.002
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """What a process and its descendants have done: seconds of processor time, and bytes and pages moved."""

    seconds: float
    moved: int


def work_of(pid: int) -> Work | None:
    """The work of a process; None on systems that do not tell.

    >>> work = work_of(os.getpid())
    >>> work is None or work.seconds > 0
    True
    """
    if not (PROC / "self" / "stat").exists():
        return None
    seconds, moved = 0.0, 0
    for each in _family(pid):
        # One of them may end while it is looked at.
        with suppress(OSError, ValueError, IndexError):
            fields = (PROC / str(each) / "stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            # Pages of files that are mapped into memory, as libraries are, are read without a call.
            moved += int(fields[9])
            lines = (PROC / str(each) / "io").read_text().splitlines()
            moved += sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))
    return Work(seconds, moved)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for listing in (PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            for child in listing.read_text().split():
                yield from _family(int(child))


@dataclass
class Pulse:
    """When a process last gave a sign of life, by this process's clock.

    Attributes:
        pid: the process.
        since: the time of its last sign of life.
    """

    pid: int
    since: float = field(default_factory=time.monotonic)
    _seen: Work | None = None
    _looked: float = 0.0

    def beat(self) -> None:
        """Note a sign of life: the process has said something."""
        self.since, self._seen = time.monotonic(), None

    def look(self) -> None:
        """Look for a sign of life, at most once a second."""
        now = time.monotonic()
        # If this process was itself stopped, or its machine asleep, nothing can be said about the other one.
        if self._looked and now - self._looked > 10 * LOOK_SECONDS:
            self.beat()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        work = work_of(self.pid)
        if self._seen is None:
            self._seen = work
        if work is None or self._seen is None:  # a system that does not tell
            self.since = now
        elif work.moved != self._seen.moved or _busy(work.seconds - self._seen.seconds, now - self.since):
            self.since, self._seen = now, work


def _busy(seconds: float, elapsed: float) -> bool:
    return seconds > 0 and seconds >= BUSY_SHARE * elapsed
