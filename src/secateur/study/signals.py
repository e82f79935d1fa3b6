"""Ctrl-C and SIGTERM: the first asks a run to stop, the second to do so at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether a run has been asked to stop, and by which signal."""

    signal: int | None = None
    at_once: bool = False

    @property
    def exit_code(self) -> int:
        """What a shell expects from a process that ended because of the signal: 130 or 143."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Note SIGINT and SIGTERM inside instead of dying of them; a second one asks to stop at once.

    Nothing is raised out of a handler, which could tear any line of ours apart. Outside the main thread,
    where signals cannot be caught, nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.at_once = stop.signal is not None
        stop.signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
