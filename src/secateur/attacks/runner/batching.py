"""Batches that fit into memory, on the model's device and in its precision, and the progress over them."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, select
from secateur.attacks.core.box import Box
from secateur.errors import ExitCode, UserError
from secateur.models import place_of

Tick = Callable[[int, int], None]


def in_batches(indices: Tensor, size: int, work: Callable[[Tensor], None]) -> tuple[int, int]:
    """Do ``work`` on consecutive parts of ``indices``, at most ``size`` at a time.

    When memory runs out, the part is halved, and so are all that follow. ``work`` must be repeatable: it may
    record nothing before it has succeeded.

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
            raise no_room()
        shortages += 1
        size = (len(part) + 1) // 2
    return size, shortages


def no_room() -> UserError:
    """The sentence about a single image that does not fit into memory."""
    return UserError(
        "there is not enough memory for a batch of one image",
        hint="free memory, or choose a smaller model or image",
        code=ExitCode.ENVIRONMENT,
    )


def out_of_memory(error: Exception) -> bool:
    """Whether ``error`` means that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The allocator of CPUs raises a plain RuntimeError.
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


def batch_of(whole: Batch, part: Tensor, model: nn.Module) -> Batch:
    """The images ``part`` on the model's device and in its precision."""
    device, dtype = place_of(model, whole.x)
    rows = select(whole, part.to(whole.x.device))
    return Batch(
        rows.x.to(device, dtype),
        rows.y.to(device),
        None if rows.targets is None else rows.targets.to(device),
        rows.bounds.to(rows.x.to(device, dtype)) if isinstance(rows.bounds, Box) else rows.bounds,
        None if rows.start is None else rows.start.to(device, dtype),
    )


def tick_of_run(tick: Tick | None, number: int, count: int, each: int) -> Tick | None:
    """``tick`` for run ``number`` of ``count`` runs, each worth ``each`` queries at most."""
    if tick is None or count == 1:
        return tick

    def part(done: int, total: int) -> None:
        tick(number * each + round(each * done / max(total, 1)), count * each)

    return part


class Progress:
    """Counts queries of single images; reports at most ten times a second."""

    def __init__(self, tick: Tick | None, images: int, steps: int | None) -> None:
        self._tick = tick
        self._steps = steps or 1
        self._images = images
        self._done = 0
        self._batch = 0
        self._query = 0
        self._last = -math.inf

    def start(self, images: int) -> None:
        """Begin a batch of ``images``, perhaps for the second time."""
        self._batch, self._query = images, 0

    def forward(self) -> None:
        """Count one more query of the batch."""
        self._query = min(self._query + 1, self._steps)
        if self._tick is not None and (now := time.monotonic()) - self._last > 0.1:
            self._last = now
            self._tick(self._done + self._batch * self._query, self._images * self._steps)

    def finish(self) -> None:
        """End the batch."""
        self._done += self._batch * self._steps
        self._batch = self._query = 0
        if self._tick is not None:
            self._tick(self._done, self._images * self._steps)
