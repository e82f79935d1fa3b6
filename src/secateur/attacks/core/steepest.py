"""Steepest perturbations: those inside a ball and the box that lower a linear function most."""

import torch
from torch import Tensor

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.gradients import mended
from secateur.attacks.core.norms import INF, distance, halvings, keep_top, per_sample
from secateur.budgets import counts

LARGEST_POWER = 126
"""Of two, in float32: the scales at which ``reaching`` looks for the length of a step."""


def steepest(gradient: Tensor, batch: Batch, eps: Tensor, *, p: float) -> Tensor:
    """The perturbation [N, ...] inside the p-ball of radius ``eps`` [N] and the box that lowers g·δ most.

    Exact for counts, 1 and inf; for p = 2 the unboxed optimum is clipped, as in the fast gradient method.
    Entries of ``gradient`` that are not finite are mended.
    """
    gradient = mended(gradient)
    room = batch.distance_to_bounds(gradient)
    if p == INF:
        size = torch.minimum(room, per_sample(eps, room))
    elif p == 2:
        length = distance(gradient, 2.0).clamp_min(torch.finfo(gradient.dtype).tiny)
        size = torch.minimum(room, gradient.abs() * per_sample(eps / length, room))
    else:
        gain = gradient.abs()
        size = keep_top(room, room * gain, eps, p=p) if counts(p) else _spend(room, gain, eps)
    return -gradient.sign() * size


def reaching(direction: Tensor, batch: Batch, eps: Tensor, *, p: float) -> Tensor:
    """The perturbation [N, ...] against ``direction`` of p-norm ``eps`` [N], or as far as the box allows.

    ``steepest``, but exact for p = 2 too: what the box takes from one pixel, others use, however small their
    share of the direction is.
    """
    if p != 2:
        return steepest(direction, batch, eps, p=p)
    size = direction.abs()
    room = torch.where(size > 0, batch.distance_to_bounds(direction), 0.0)
    width = batch.bounds[1] - batch.bounds[0]
    size = width * size / per_sample(distance(size, INF).clamp_min(torch.finfo(size.dtype).tiny), size)
    low = torch.full_like(eps, -LARGEST_POWER)
    high = -low
    # More than the resolution takes for an interval of one power of two: this one spans 252.
    for _ in range(halvings(size.dtype) + 8):
        middle = (low + high) / 2
        short = distance(torch.minimum(room, size * per_sample(middle.exp2(), size)), 2.0) <= eps
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return -direction.sign() * torch.minimum(room, size * per_sample(low.exp2(), size))


def _spend(room: Tensor, gain: Tensor, eps: Tensor) -> Tensor:
    """A budget of ``eps`` [N] spent on the entries of highest ``gain`` first, each up to its ``room``."""
    order = gain.flatten(1).argsort(dim=1, descending=True, stable=True)
    ordered = room.flatten(1).gather(1, order)
    left = eps.unsqueeze(1) - (ordered.cumsum(1) - ordered)
    spent = torch.minimum(left.clamp_min(0.0), ordered)
    return torch.zeros_like(spent).scatter_(1, order, spent).view(room.shape)
