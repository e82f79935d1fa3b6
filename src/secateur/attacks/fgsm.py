"""Perturbations made in one step: the steepest one inside a ball (FGSM and its kin), and random noise."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import (
    Batch,
    Found,
    check_batch,
    check_eps,
    check_logits,
    check_steps,
    conclude,
)
from secateur.attacks.core.losses import is_adversarial, logit_difference, reaches_goal
from secateur.attacks.core.norms import INF, check_norm, distance, keep_top, per_sample
from secateur.attacks.core.pixel_units import in_pixels


def steepest(gradient: Tensor, problem: Batch, eps: Tensor, p: float) -> Tensor:
    """The perturbation [N, ...] inside the p-ball of radius ``eps`` [N] and the box that lowers g·δ most.

    Exact for p = 0, 1 and inf; for p = 2 the unboxed optimum is clipped, as in the fast gradient method.
    """
    room = problem.distance_to_bounds(gradient)
    if p == INF:
        size = torch.minimum(room, per_sample(eps, room))
    elif p == 2:
        length = distance(gradient, 2.0).clamp_min(torch.finfo(gradient.dtype).tiny)
        size = torch.minimum(room, gradient.abs() * per_sample(eps / length, room))
    else:
        size = keep_top(room, room * gradient.abs(), eps) if p == 0 else _spend(room, gradient.abs(), eps)
    return -gradient.sign() * size


def _spend(room: Tensor, worth: Tensor, eps: Tensor) -> Tensor:
    """A budget of ``eps`` [N] spent on the entries of highest ``worth`` first, each up to its ``room``."""
    order = worth.flatten(1).argsort(dim=1, descending=True, stable=True)
    ordered = room.flatten(1).gather(1, order)
    left = eps.unsqueeze(1) - (ordered.cumsum(1) - ordered)
    spent = torch.minimum(left.clamp_min(0.0), ordered)
    return torch.zeros_like(spent).scatter_(1, order, spent).view(room.shape)


def random_perturbation(problem: Batch, eps: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Noise [N, ...] of p-norm ``eps`` [N], clipped to the box: signs for inf, Gaussian for 1 and 2.

    For p = 0 random pixels jump to a random end of the box. All images of a batch get the same noise, scaled
    and clipped, so that batching changes nothing.
    """
    x = problem.x
    shape = (1, *x.shape[1:])
    drawn = torch.randn(shape, generator=generator, dtype=x.dtype).to(x.device)
    if p == 0:
        score = torch.rand(shape, generator=generator, dtype=x.dtype).to(x.device).flatten(1)
        rank = score.argsort(1).argsort(1).view(shape)
        corner = torch.where(drawn > 0, problem.bounds[1], problem.bounds[0])
        return torch.where(rank < per_sample(eps, x), corner - x, torch.zeros_like(x))
    unit = drawn.sign() if p == INF else drawn / per_sample(distance(drawn, p), x)
    return problem.clip(x + unit * per_sample(eps, x)) - x


@in_pixels("eps")
def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Found:
    """One steepest step of size ``eps`` (Goodfellow et al. 2015, and its counterparts in the other norms).

    ``eps`` is by default 8/255 of the width of the ``bounds``; in L0 it counts values and must be given. Two
    forwards and one backward. A sample whose step does not fool the model is not found.
    """
    problem = check_batch(x, y, targets, bounds)
    norm = check_norm(norm)
    check_eps(eps, norm)
    query = problem.x.clone().requires_grad_(True)
    logits = model(query)
    check_logits(logits, problem, gradient=True)
    gradient = torch.autograd.grad(logit_difference(problem, logits).sum(), query)[0]
    radius = torch.full_like(problem.x.flatten(1)[:, 0], eps)
    adv = problem.clip(problem.x + steepest(gradient, problem, radius, norm))
    with torch.no_grad():
        fooled = is_adversarial(problem, model(adv))
    reached = torch.where(fooled, distance(adv - problem.x, norm), torch.inf)
    return conclude(problem, adv, reached, reaches_goal(problem, logits.detach()))


@in_pixels("eps")
def noise(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    steps: int = 100,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """The first of ``steps`` random perturbations of size ``eps`` that fools: a floor for attacks.

    ``eps`` is as in ``fgsm``. ``steps + 1`` forwards, no backward. Images are drawn for one after the other,
    so results depend on the batch.
    """
    problem = check_batch(x, y, targets, bounds)
    norm = check_norm(norm)
    check_eps(eps, norm)
    check_steps(steps)
    generator = generator or torch.Generator().manual_seed(0)
    radius = torch.full_like(problem.x.flatten(1)[:, 0], eps)
    best, reached = problem.x.clone(), torch.full_like(radius, torch.inf)
    with torch.no_grad():
        logits = model(problem.x)
        check_logits(logits, problem)
        for _ in range(steps):
            query = problem.clip(problem.x + random_perturbation(problem, radius, norm, generator))
            fooled = is_adversarial(problem, model(query)) & reached.isinf()
            best = torch.where(per_sample(fooled, best), query, best)
            reached = torch.where(fooled, distance(query - problem.x, norm), reached)
    return conclude(problem, best, reached, reaches_goal(problem, logits))
