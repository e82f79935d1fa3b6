"""Directions and lengths of gradient steps, and projected gradient descent for attacks and training."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.norms import INF, distance, per_sample


def descend(
    direction: Callable[[Tensor], Tensor],
    delta: Tensor,
    *,
    steps: int,
    step: float,
    project: Callable[[Tensor], Tensor],
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018): steps of fixed length, each projected back.

    Args:
        direction: of a step at a perturbation [N, ...], which moves against it: for Linf the sign of the
            gradient of the loss to lower.
        delta: the perturbation to start from [N, ...].
        steps: number of steps.
        step: their length.
        project: onto the allowed perturbations.

    Returns:
        The last perturbation [N, ...].
    """
    for _ in range(steps):
        delta = project(delta - step * direction(delta))
    return delta


def steepest_direction(gradient: Tensor, p: float) -> Tensor:
    """The direction of steepest ascent inside a p-ball: the sign for inf, the unit vector in L2 for 2."""
    if p == INF:
        return gradient.sign()
    return gradient / per_sample(distance(gradient, 2.0).clamp_min(1e-12), gradient)


def random_start_in_ball(batch: Batch, eps: float, p: float, *, generator: Generator) -> Tensor:
    """A random perturbation [N, ...] in the p-ball (2 or inf) of radius ``eps`` and the bounds.

    All images get the same direction, so that results do not depend on batching.
    """
    x = batch.x
    drawn = torch.rand(x.shape[1:], generator=generator, dtype=x.dtype).to(x.device) * 2 - 1
    unit = drawn if p == INF else drawn / torch.linalg.vector_norm(drawn)
    return batch.project((eps * unit).expand_as(x), eps, p)


def descent_direction(
    gradient: Tensor,
    batch: Batch,
    query: Tensor,
    *,
    noise: Tensor,
    p: float = 2.0,
    is_adversarial: Tensor | None = None,
) -> Tensor:
    """``gradient`` [N, ...] at ``query`` scaled to L2 norm 1, or for p = inf its sign.

    ``noise`` [1, ...], a unit vector, replaces it where a step against it would not move: where it is zero,
    too long for its norm, or leads out of the box in every pixel. The last does not apply where
    ``is_adversarial`` [N]: there the radius shrinks, and the example returns into the box the way it came.
    """
    norms = torch.linalg.vector_norm(gradient, dim=tuple(range(1, gradient.ndim)))
    direction = gradient / per_sample(norms, gradient)
    # One sum of squares per image is several times cheaper than comparing every pixel with the box.
    free = distance((query - direction).clamp_(*batch.limits).sub_(query), 2.0) > 0
    if is_adversarial is not None:
        free = free | is_adversarial
    usable = norms.isfinite() & (norms > torch.finfo(gradient.dtype).tiny) & free
    direction = torch.where(per_sample(usable, gradient), direction, noise)
    return direction.sign() if p == INF else direction


def unit_noise(x: Tensor, generator: Generator) -> Tensor:
    """A random unit vector [1, ...], shared by the batch so that results do not depend on batching."""
    noise = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    unit: Tensor = noise / torch.linalg.vector_norm(noise)
    return unit.unsqueeze(0)


def cosine(first: float, last: float, k: int, steps: int) -> float:
    """Cosine annealing from ``first`` (step 0) to ``last`` (step ``steps``): h of FMN's Eq. 6."""
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * k / steps))
