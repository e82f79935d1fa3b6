"""Our own minimum-norm attack for L1, L2 and Linf: FMN's radius, steepest steps, exact projections."""

import torch
from torch import Tensor, nn

from secateur.attacks.nearest import Nearest
from secateur.attacks.norms import INF, check_norm, distance, dual, per_sample, project_boxed
from secateur.attacks.problem import (
    Found,
    check_steps,
    cosine,
    pose,
    unit_direction,
    unit_noise,
)
from secateur.errors import UserError

STEP = {1.0: 0.5, 2.0: 1.5, INF: 1.0}
"""First step by norm: a length in L2 for L1, multiples of the radius for L2 and Linf."""
INERTIA = {1.0: 0.0, 2.0: 0.0, INF: 0.25}


def steep(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = 2.0,
    steps: int = 100,
    step: float | None = None,
    decay: float = 0.01,
    inertia: float | None = None,
    gamma: float = 0.05,
    gamma_final: float = 0.001,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small perturbations with few queries.

    The radius ε follows FMN (Pintor et al. 2021): a linear estimate, growing at least by 1 + γ, until the
    first success, then a factor 1 ± γ. What differs: a step is the steepest descent in the attack's own
    norm (signs for Linf, the gradient otherwise) and, for L2 and Linf, its length is a multiple of ε, so
    that it fits every image; the projection is the exact one onto the ball and the box together, where
    clipping after projecting lands strictly inside the ball and away from the nearest point; and Linf keeps
    a part of its last movement (Croce & Hein 2020). Every iterate is evaluated: ``steps + 1`` forwards and
    ``steps`` backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 1, 2 or inf.
        steps: number of iterations.
        step: the first step: a multiple of ε for L2 (1.5) and Linf (1), an L2 length for L1 (0.5).
        decay: the last step relative to the first, reached by cosine annealing.
        inertia: the share of a step taken from the previous movement: 0.25 for Linf, else 0.
        gamma: relative change of the radius at first.
        gamma_final: the same at last, by cosine annealing.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = pose(x, y, targets, bounds)
    check_steps(steps)
    norm = check_norm(norm)
    if norm not in STEP:
        raise UserError("this attack has no norm 0", hint="sigma-zero and fmn do")
    first = STEP[norm] if step is None else step
    inertia = INERTIA[norm] if inertia is None else inertia
    _check_settings(first, decay, inertia, gamma, gamma_final)
    x = problem.x
    generator = generator or torch.Generator().manual_seed(0)
    largest = distance(problem.reach(), norm)
    low, high = problem.bounds[0] - x, problem.bounds[1] - x
    delta, previous = torch.zeros_like(x), torch.zeros_like(x)
    eps = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    nearest = Nearest(model, problem, norm)

    for k in range(steps + 1):
        query = problem.clip(x + delta)
        delta = query - x
        query, logits = nearest.ask(query, gradient=k < steps)
        fooled, gap, best_norm = nearest.fooled, nearest.gap, nearest.reached
        if k == steps:
            break

        loss = problem.margin(logits)
        gradient = torch.autograd.grad(loss.sum(), query)[0]
        rate = cosine(gamma, gamma_final, k, steps)
        boundary = gap + loss.detach().abs() / distance(gradient, dual(norm)).clamp_min(1e-12)
        missed = torch.where(
            best_norm.isfinite(), eps * (1 + rate), torch.maximum(boundary, eps * (1 + rate))
        )
        eps = torch.where(fooled, torch.minimum(eps * (1 - rate), best_norm), missed)
        eps = torch.minimum(eps, largest)
        noise = unit_noise(x, generator)
        direction = unit_direction(gradient, problem, query.detach(), noise, fooled=fooled)
        if norm == INF:
            direction = direction.sign()
        length = cosine(first, decay * first, k, steps)
        size = torch.full_like(eps, length) if norm == 1 else length * eps
        moved = project_boxed(delta - per_sample(size, x) * direction, eps, norm, low, high)
        if inertia:
            moved = delta + (1 - inertia) * (moved - delta) + inertia * (delta - previous)
            moved = project_boxed(moved, eps, norm, low, high)
        previous, delta = delta.detach(), moved.detach()

    return nearest.found()


def _check_settings(step: float, decay: float, inertia: float, gamma: float, gamma_final: float) -> None:
    if not (step > 0 and 0 < decay <= 1):
        raise UserError(f"step is {step}, decay {decay}", hint="step is positive, decay in (0, 1]")
    if not 0 <= inertia < 1:
        raise UserError(f"inertia is {inertia}", hint="give a share in [0, 1)")
    if not (0 < gamma < 1 and 0 < gamma_final < 1):
        raise UserError(f"gamma is {gamma}, gamma_final {gamma_final}", hint="both lie between 0 and 1")
