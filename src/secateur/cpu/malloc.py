"""Memory of one step kept for the next; the C library of Linux gives large blocks back at once."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Names and numbers of malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1
_LARGEST_TRIM, _DEFAULT_MAPS = 64 * 2**20, 65_536
"""What glibc arrives at by itself once it has seen large blocks freed."""

_lock = threading.Lock()
_users = 0


@contextmanager
def kept_heap() -> Iterator[None]:
    """Freed memory stays in this process inside, and goes back to the system afterwards.

    The same activations are asked for and freed in every step of an attack. glibc returns them each time, and
    the system hands out zeroed pages again, one fault for every 4 KiB: up to a third of a step of a small
    network on a CPU. Changes no number; elsewhere than on Linux with glibc it does nothing. The setting holds
    for the whole process: where several are inside, the last one to leave ends it.
    """
    global _users
    glibc = _glibc()
    if glibc is None:
        yield
        return
    option, trim = glibc
    with _lock:
        _users += 1
        option(_TRIM_THRESHOLD, _NEVER)
        option(_MMAP_MAX, 0)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                option(_TRIM_THRESHOLD, _LARGEST_TRIM)
                option(_MMAP_MAX, _DEFAULT_MAPS)
                trim(0)


def give_back() -> None:
    """Let the system have freed memory that this process still holds; elsewhere than with glibc, nothing."""
    if (glibc := _glibc()) is not None:
        glibc[1](0)


def _glibc() -> tuple[Callable[[int, int], int], Callable[[int], int]] | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    try:
        return library.mallopt, library.malloc_trim
    except AttributeError:
        return None  # another C library
