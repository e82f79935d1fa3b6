"""Augmented Lagrangian attack ALMA (Rony et al. 2021, arXiv:2011.11857): minimum L2."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import attack_loss
from secateur.attacks.core.norms import distance, halvings, per_sample
from secateur.attacks.core.steps import unit_noise
from secateur.registry.settings import check

MU_MIN, MU_MAX = 1e-6, 1e12
TOLERANCE = 1e-4
"""How far beyond the boundary, in units of the logit ratio, the constraint requires an example to be."""


def alma(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    init_eps: float = 0.1,
    lr_reduction: float = 0.01,
    rho: float = 1.0,
    mu: float = 1.0,
    gamma: float = 1.2,
    tau: float = 0.95,
    check_steps: int = 10,
    alpha: float = 0.9,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small L2 perturbations by descending ‖δ‖ + P(c, ρ, μ), with c the logit difference ratio (DLR).

    P is the penalty P₂ of Birgin et al. 2005. The steps of the paper's ALMA, by the names that the comments
    in the code use::

        start:           δ ← 0, μ ← μ₀, ρ ← ρ₀; averages v ← 1, m ← 0
        for i = 0, …, N − 1:
            constraint:  c ← DLR(x + δ) + tolerance
            penalty:     every M iterations: if no example yet and c ≥ τ times the last such c: ρ ← γρ
            multiplier:  μ ← clip(αμ + (1 − α) ∂P/∂c, μ_min, μ_max)     (from the second iteration on)
            gradient:    g ← ∇‖δ‖ + ∂P/∂c ∇c
            RMSProp:     v ← αv + (1 − α) g²
            step size:   η, such that the first step has length ε; decays from the first success on
            momentum:    m ← αm + g / √v
            update:      δ ← clip(δ − ηm)
        return the nearest adversarial x + δ

    Every iterate is evaluated: ``steps + 1`` forwards and ``steps`` backwards.

    Deviations from the authors' code (in adversarial-library), whose penalty, settings and order are kept:

    * The last iterate is evaluated too.
    * The tolerance of 1e-4 is added to the ratio. The authors' code adds it to the logit difference, before
      the division.
    * DLR of a targeted attack has the same denominator as that of an untargeted one. With two classes DLR
      has no gradient, and the logit difference replaces it.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * ρ is checked at iterations M, 2M, …, in the authors' code one iteration earlier.
    * A random unit vector, the same for the whole batch, replaces the first gradient where it is zero: there
      no step would reach the length ε. Where the box is too small for ε, η moves as far as the box allows.
    * Lengths are relative to the width of the box, so that the bounds change nothing.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        steps: N.
        init_eps: ε, the L2 length of the first step, relative to the width of the box; sets η. The authors
            take 0.1 for L2.
        lr_reduction: the last η relative to the first.
        rho: ρ₀, the penalty parameter.
        mu: μ₀, the multiplier.
        gamma: γ, the factor by which ρ grows.
        tau: τ, c has fallen if it is below τ times its value at the last check.
        check_steps: M, iterations between checks.
        alpha: α, of the averages of the multiplier and the squared gradient, and the momentum. The authors
            take 0.9 for 1000 steps and 0.5 for 100.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the first direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import alma
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> found = alma(model, torch.tensor([[0.2, 0.2]]), torch.tensor([0]), steps=100)
    >>> round(found.distance.item(), 1)  # 0.6 / √2
    0.4
    """
    batch = check_batch(x, y, targets, bounds)
    check(
        "alma", steps=steps, init_eps=init_eps, lr_reduction=lr_reduction, rho=rho, mu=mu, gamma=gamma,
        tau=tau, check_steps=check_steps, alpha=alpha,
    )  # fmt: skip
    x = batch.x
    width = batch.bounds[1] - batch.bounds[0]
    generator = generator or torch.Generator().manual_seed(0)
    best = BestAdversarial(model, batch, 2.0)
    δ, m, v = torch.zeros_like(x), torch.zeros_like(x), torch.ones_like(x)  # start
    ρ, μ = torch.full_like(best.distance, rho), torch.full_like(best.distance, mu)
    η, c_last = torch.zeros_like(μ), torch.full_like(μ, torch.inf)
    first_success = torch.full_like(μ, steps)

    for i in range(steps + 1):
        query, logits = best.query(batch.clip(x + width * δ), gradient=i < steps)
        if i == steps:
            break
        first_success = torch.where(best.is_adversarial, first_success.clamp_max(i), first_success)
        constraint = attack_loss(batch, logits, "dlr") + TOLERANCE
        # Logits may have another precision than the images.
        c = constraint.detach().to(x.dtype)
        if i % check_steps == 0:  # penalty
            ρ = torch.where(best.distance.isinf() & (c >= tau * c_last), gamma * ρ, ρ)
            c_last = c
        if i:  # multiplier
            μ = (alpha * μ + (1 - alpha) * penalty_grad(c, ρ, μ)).clamp(MU_MIN, MU_MAX)
        g = width * input_gradient(constraint, query)
        g = g * per_sample(penalty_grad(c, ρ, μ), x)
        length = distance(δ, 2.0).clamp_min(torch.finfo(x.dtype).tiny)
        g = g + δ / per_sample(length, x)  # gradient
        if i == 0:
            flat = ~g.flatten(1).any(1)
            g = torch.where(per_sample(flat, x), unit_noise(x, generator), g)
        v = alpha * v + (1 - alpha) * g.square()  # RMSProp
        scaled = g / (v.sqrt() + 1e-8)
        if i == 0:
            η = _step_size(batch, scaled, init_eps)
        decay = (i - first_success).clamp_min(0.0) / (steps - first_success).clamp_min(1.0)
        η_i = η * lr_reduction**decay  # step size
        m = alpha * m + scaled  # momentum
        δ = δ - per_sample(η_i, x) * m  # update
        δ = (batch.clip(x + width * δ) - x) / width

    return best.found()


def penalty_grad(c: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """∂P₂/∂c [N], where P₂ is μc + μρc² + ρ²c³/6 for c ≥ 0 and μc / (1 − ρc) below."""
    outside = c.clamp_min(0.0)
    inside = c.clamp_max(0.0)
    above = mu + 2 * mu * rho * outside + rho.square() * outside.square() / 2
    return torch.where(c >= 0, above, mu / (1 - rho * inside).square())


def _step_size(batch: Batch, step: Tensor, length: float) -> Tensor:
    """The factor [N] with which ``step`` moves by ``length`` inside the box, or as far as the box allows."""
    width = batch.bounds[1] - batch.bounds[0]
    low = length / distance(step, 2.0).clamp_min(torch.finfo(step.dtype).tiny)
    high = low * 2.0**20
    # More than the resolution takes for an interval of one power of two: this one spans twenty.
    for _ in range(halvings(step.dtype) + 15):
        middle = (low * high).sqrt()
        moved = batch.clip(batch.x - width * per_sample(middle, step) * step) - batch.x
        short = distance(moved, 2.0) < width * length
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return low
