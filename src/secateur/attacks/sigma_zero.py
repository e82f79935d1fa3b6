"""σ-zero (Cinà et al. 2025): minimum L0 by a smooth surrogate of the norm and an adaptive threshold."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch, check_steps
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import INF, distance, per_sample
from secateur.attacks.core.steps import cosine
from secateur.registry.settings import check

BETAS = (0.9, 0.999)


def sigma_zero(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    step: float = 1.0,
    step_final: float = 0.1,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Found:
    """Find perturbations of few pixels.

    Each step of Adam lowers the logit difference, where it is still positive, plus the smooth count Σ
    δ²/(δ² + σ) divided by the number of pixels; the gradient is scaled to an Linf norm of 1. Then
    components below a threshold are set to zero; it rises while the sample is fooled and falls while it is
    not. Every iterate is evaluated: ``steps + 1`` forwards and ``steps`` backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        steps: number of iterations.
        step: η₀, the first step of Adam, relative to the width of the box.
        step_final: the last one, by cosine annealing.
        sigma: σ, how sharply the surrogate counts.
        threshold: τ₀, relative to the width of the box.
        threshold_step: t, how fast the threshold moves.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    check("sigma-zero", step=step, step_final=step_final, sigma=sigma)
    check("sigma-zero", threshold=threshold, threshold_step=threshold_step)
    x = problem.x
    low, high = problem.bounds
    width = high - low
    delta, first, second = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    level = torch.full((len(x),), threshold, dtype=x.dtype, device=x.device)
    best = BestAdversarial(model, problem, 0.0)

    for k in range(steps + 1):
        query, logits = best.query(problem.clip(x + width * delta), gradient=k < steps)
        if k == steps:
            break

        loss = logit_difference(problem, logits).clamp_min(0.0)
        gradient = width * torch.autograd.grad(loss.sum(), query)[0]
        count = 2 * delta * sigma / (delta.square() + sigma).square() / x[0].numel()
        gradient = gradient + count
        gradient = gradient / per_sample(distance(gradient, INF).clamp_min(1e-12), x)
        rate = cosine(step, step_final, k, steps)
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
        scale = (second / (1 - BETAS[1] ** (k + 1))).sqrt() + 1e-8
        delta = delta - rate * first / (1 - BETAS[0] ** (k + 1)) / scale
        delta = (problem.clip(x + width * delta) - x) / width
        level = (level + torch.where(best.is_adversarial, threshold_step, -threshold_step) * rate).clamp(
            0.0, 1.0
        )
        delta = torch.where(delta.abs() < per_sample(level, x), torch.zeros_like(delta), delta)

    return best.found()
