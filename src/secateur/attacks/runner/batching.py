"""Batches that fit into memory, and a count of the work done for a progress bar."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from secateur.errors import ExitCode, UserError

Tick = Callable[[int, int], None]


def in_batches(indices: Tensor, size: int, work: Callable[[Tensor], None]) -> tuple[int, int]:
    """Do ``work`` on consecutive parts of ``indices``, at most ``size`` at a time.

    When memory runs out, the part is halved, and so are all that follow. ``work`` must leave nothing behind
    when it fails.

    Returns:
        The size that fitted, and how often memory ran out.

    Raises:
        UserError: a single image does not fit (code ENVIRONMENT).
    """
    left, shortages = indices, 0
    while len(left):
        part = left[:size]
        if _fits(part, work):
            left = left[size:]
            continue
        if len(part) == 1:
            raise UserError(
                "there is not enough memory for a batch of one image",
                hint="free memory, or choose a smaller model or image",
                code=ExitCode.ENVIRONMENT,
            )
        shortages += 1
        size = (len(part) + 1) // 2
    return size, shortages


def out_of_memory(error: Exception) -> bool:
    """Whether this is how a device says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # What the allocator of CPUs says; it has no type of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _fits(part: Tensor, work: Callable[[Tensor], None]) -> bool:
    try:
        work(part)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    # Outside the handler, whose exception keeps the failed batch alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


class Progress:
    """Counts queries of single images, at most ten reports a second."""

    def __init__(self, tick: Tick | None, images: int, steps: int | None) -> None:
        self._tick = tick
        self._steps = steps or 1
        self._images = images
        self._done = 0
        self._batch = 0
        self._query = 0
        self._last = -math.inf

    def start(self, images: int) -> None:
        """A batch of ``images`` begins, perhaps for the second time."""
        self._batch, self._query = images, 0

    def forward(self) -> None:
        """The batch has been queried once more."""
        self._query = min(self._query + 1, self._steps)
        if self._tick is not None and (now := time.monotonic()) - self._last > 0.1:
            self._last = now
            self._tick(self._done + self._batch * self._query, self._images * self._steps)

    def finish(self) -> None:
        """The batch is done."""
        self._done += self._batch * self._steps
        self._batch = self._query = 0
        if self._tick is not None:
            self._tick(self._done, self._images * self._steps)
