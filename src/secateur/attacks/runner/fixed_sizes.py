"""The sizes ε at which an attack of fixed size is run, and how far its examples may lie."""

import math
from collections.abc import Callable, Sequence

import torch

from secateur.attacks.core.norms import INF

SLACK = 1e-6
"""By which an example may exceed its size, relative to it, beyond the rounding of its pixels."""


def allowed(eps: float, norm: float, shape: Sequence[int], bounds: tuple[float, float]) -> float:
    """The largest distance, computed in float64, of an example within ``eps``.

    Images are float32. A perturbation of exactly ε is rounded when it is added to a pixel, at most twice by
    half a unit in the last place of the largest value.

    Args:
        eps: the size.
        norm: 0, 1, 2 or inf.
        shape: of one image.
        bounds: of its pixels.
    """
    each = torch.finfo(torch.float32).eps * max(abs(bound) for bound in bounds)
    values = float(math.prod(shape))
    count = {0.0: 0.0, 1.0: values, 2.0: math.sqrt(values), INF: 1.0}[norm]
    return eps * (1 + SLACK) + count * each


def part_of(
    tick: Callable[[int, int], None] | None, number: int, count: int, each: int
) -> Callable[[int, int], None] | None:
    """``tick`` for run ``number`` of ``count`` runs, each worth ``each`` queries at most."""
    if tick is None or count == 1:
        return tick

    def part(done: int, total: int) -> None:
        tick(number * each + round(each * done / max(total, 1)), count * each)

    return part
