"""Faster ways to compute the same numbers on CPUs. One switch turns all of them off.

Each file states its gain as measured: one thread of an x86 server CPU shared with other processes, torch
2.13, CPU time, medians of pairs of runs that take turns. ``python benchmarks/cpu.py`` measures each of them
on another machine. Set the environment variable ``SECATEUR_CPU_FAST=0``
or use ``switched(False)``, to compute everything the plain way, for instance to rule these files out as the
cause of a difference.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_switched: ContextVar[bool | None] = ContextVar("switched", default=None)


def enabled() -> bool:
    """Whether the optimisations of this folder are used: yes, unless ``SECATEUR_CPU_FAST`` is 0.

    >>> with switched(False):
    ...     enabled()
    False
    """
    chosen = _switched.get()
    return os.environ.get("SECATEUR_CPU_FAST") != "0" if chosen is None else chosen


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Turn all of them on or off inside, whatever the environment says.

    >>> with switched(False), switched(True):
    ...     enabled()
    True
    """
    token = _switched.set(on)
    try:
        yield
    finally:
        _switched.reset(token)
