"""ALMA (Rony et al. 2021, Algorithm 1): minimum L2 by an augmented Lagrangian with smoothed multipliers."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_steps
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import attack_loss
from secateur.attacks.core.norms import distance, halvings, per_sample
from secateur.attacks.core.steps import unit_noise
from secateur.registry.settings import check

MULTIPLIERS = (1e-6, 1e12)
TOLERANCE = 1e-4
"""How far beyond the boundary, in units of the logit ratio, the constraint asks an example to be."""


def alma(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    first: float = 0.1,
    decay: float = 0.01,
    rho: float = 1.0,
    mu: float = 1.0,
    gamma: float = 1.2,
    tau: float = 0.95,
    every: int = 10,
    average: float = 0.9,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small L2 perturbations by descending ‖δ‖ + P(c(δ), ρ, μ), with c the logit difference ratio.

    P is the penalty P₂ of Birgin et al. 2005. Its multiplier μ follows a moving average of ∂P/∂c; ρ grows
    while no example is found and c does not fall. Steps are RMSProp's with momentum, inside the box, and
    shrink from the first success on. Every iterate is evaluated: ``steps + 1`` forwards and ``steps``
    backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        steps: N of Algorithm 1.
        first: ε, the L2 length of the first step, relative to the width of the box; sets the learning rate.
        decay: the last learning rate relative to the first.
        rho: ρ₀, the penalty parameter.
        mu: μ₀, the multiplier.
        gamma: factor by which ρ grows.
        tau: c has fallen if it is below τ times its value at the last check.
        every: M, iterations between checks.
        average: α, of the averages of the multiplier and the squared gradient, and the momentum.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.
        generator: draws the first direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    _check_settings(first, decay, rho, mu, gamma, tau, every, average)
    x = problem.x
    width = problem.bounds[1] - problem.bounds[0]
    generator = generator or torch.Generator().manual_seed(0)
    delta, speed, square = torch.zeros_like(x), torch.zeros_like(x), torch.ones_like(x)
    best = BestAdversarial(model, problem, 2.0)
    penalty = torch.full_like(best.delta_norm, rho)
    multiplier = torch.full_like(best.delta_norm, mu)
    rate, last = torch.zeros_like(best.delta_norm), torch.full_like(best.delta_norm, torch.inf)
    success = torch.full_like(best.delta_norm, steps)

    for k in range(steps + 1):
        query, logits = best.query(problem.clip(x + width * delta), gradient=k < steps)
        if k == steps:
            break
        success = torch.where(best.is_adversarial, success.clamp_max(k), success)
        value = attack_loss(problem, logits, "dlr") + TOLERANCE
        # Logits may have another precision than the images.
        seen = value.detach().to(x.dtype)
        if k % every == 0:
            stalled = best.distance.isinf() & (seen >= tau * last)
            penalty = torch.where(stalled, gamma * penalty, penalty)
            last = seen
        if k:
            wanted = slope(seen, penalty, multiplier)
            multiplier = (average * multiplier + (1 - average) * wanted).clamp(*MULTIPLIERS)
        gradient = width * torch.autograd.grad(value.sum(), query)[0]
        gradient = gradient * per_sample(slope(seen, penalty, multiplier), x)
        length = distance(delta, 2.0).clamp_min(torch.finfo(x.dtype).tiny)
        gradient = gradient + delta / per_sample(length, x)
        if k == 0:
            flat = ~gradient.flatten(1).any(1)
            gradient = torch.where(per_sample(flat, x), unit_noise(x, generator), gradient)
        square = average * square + (1 - average) * gradient.square()
        step = gradient / (square.sqrt() + 1e-8)
        if k == 0:
            rate = _rate(problem, step, first)
        speed = average * speed + step
        share = (k - success).clamp_min(0.0) / (steps - success).clamp_min(1.0)
        delta = delta - per_sample(rate * decay**share, x) * speed
        delta = (problem.clip(x + width * delta) - x) / width

    return best.found()


def slope(value: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """∂P₂/∂c [N] at c = ``value``, where P₂ is μc + μρc² + ρ²c³/6 for c ≥ 0 and μc / (1 − ρc) below."""
    outside = value.clamp_min(0.0)
    inside = value.clamp_max(0.0)
    above = mu + 2 * mu * rho * outside + rho.square() * outside.square() / 2
    return torch.where(value >= 0, above, mu / (1 - rho * inside).square())


def _rate(problem: Batch, step: Tensor, length: float) -> Tensor:
    """The factor [N] with which ``step`` moves by ``length`` inside the box, or as far as the box allows."""
    width = problem.bounds[1] - problem.bounds[0]
    low = length / distance(step, 2.0).clamp_min(torch.finfo(step.dtype).tiny)
    high = low * 2.0**20
    # More than the resolution takes for an interval of one power of two: this one spans twenty.
    for _ in range(halvings(step.dtype) + 15):
        middle = (low * high).sqrt()
        moved = problem.clip(problem.x - width * per_sample(middle, step) * step) - problem.x
        short = distance(moved, 2.0) < width * length
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return low


def _check_settings(
    first: float, decay: float, rho: float, mu: float, gamma: float, tau: float, every: int, average: float
) -> None:
    check(
        "alma", first=first, decay=decay, rho=rho, mu=mu, gamma=gamma, tau=tau, every=every, average=average
    )
