"""Images of which an attack has no example after a quarter of its steps, and radii that get them one."""

import math

import torch
from torch import Tensor

LOST, WHOLE = 0.25, 0.5
"""Shares of the steps: an image without a success by the first is lost, and its ball is the whole box by the
second."""


def hours(steps: int) -> tuple[int, int]:
    """The step at which images without a success are lost, and the one at which their ball is the whole box.

    >>> hours(100)
    (25, 50)
    """
    return max(1, math.ceil(LOST * steps)), math.ceil(WHOLE * steps)


def grown(eps: Tensor, largest: Tensor, left: int) -> Tensor:
    """The radius [N] after ``eps`` of the geometric series that gets to ``largest`` [N] in ``left`` steps."""
    # An infinite gradient estimates a radius of zero, from which nothing grows.
    least = largest * torch.finfo(eps.dtype).eps
    eps = torch.maximum(eps, least).clamp_min(torch.finfo(eps.dtype).tiny)
    return eps * (largest / eps) ** (1 / max(left, 1))


def is_long(k: int, whole: int) -> bool:
    """Whether step ``k`` of a lost image crosses its ball: every second one does, the last included."""
    return k < whole and (whole - k) % 2 == 1
