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

    P is the penalty P₂ of Birgin et al. 2005. The algorithm, in the paper's symbols and the numbering used
    in the code::

        1: δ ← 0, μ ← μ₀, ρ ← ρ₀; averages v ← 1, m ← 0
        2: for i = 0, …, N − 1 do
        3:     c ← DLR(x + δ) + tolerance
        4:     every M iterations: if no example yet and c ≥ τ times the last such c: ρ ← γρ
        5:     μ ← clip(αμ + (1 − α) ∂P/∂c, μ_min, μ_max)      (from the second iteration on)
        6:     g ← ∇‖δ‖ + ∂P/∂c ∇c
        7:     v ← αv + (1 − α) g²                             (RMSProp)
        8:     η ← such that the first step has length ε; decays to a share of it from the first success on
        9:     m ← αm + g / √v                                 (momentum)
        10:    δ ← clip(δ − ηm)
        11: return the nearest adversarial x + δ

    Every iterate is evaluated: ``steps + 1`` forwards and ``steps`` backwards.

    Deviations from the paper and the authors' code, whose tolerance of 1e-4 on c (line 3) is kept:

    * The last iterate is evaluated too.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * Line 4 checks at iterations 0, M, 2M, …, the authors' code one iteration earlier.
    * A random unit vector, the same for the whole batch, replaces the first gradient where it is zero: there
      no step would reach the length ε. Where the box is too small for ε, η moves as far as the box allows.
    * Lengths are relative to the width of the box, so that the bounds change nothing.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        steps: N.
        init_eps: ε, the L2 length of the first step, relative to the width of the box; sets η.
        lr_reduction: the last η relative to the first.
        rho: ρ₀, the penalty parameter.
        mu: μ₀, the multiplier.
        gamma: γ, the factor by which ρ grows.
        tau: τ, c has fallen if it is below τ times its value at the last check.
        check_steps: M, iterations between checks.
        alpha: α, of the averages of the multiplier and the squared gradient, and the momentum.
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
    δ, m, v = torch.zeros_like(x), torch.zeros_like(x), torch.ones_like(x)  # line 1
    ρ, μ = torch.full_like(best.distance, rho), torch.full_like(best.distance, mu)
    η, c_last = torch.zeros_like(μ), torch.full_like(μ, torch.inf)
    first_success = torch.full_like(μ, steps)

    for i in range(steps + 1):  # line 2
        query, logits = best.query(batch.clip(x + width * δ), gradient=i < steps)
        if i == steps:
            break
        first_success = torch.where(best.is_adversarial, first_success.clamp_max(i), first_success)
        constraint = attack_loss(batch, logits, "dlr") + TOLERANCE  # line 3
        # Logits may have another precision than the images.
        c = constraint.detach().to(x.dtype)
        if i % check_steps == 0:  # line 4
            ρ = torch.where(best.distance.isinf() & (c >= tau * c_last), gamma * ρ, ρ)
            c_last = c
        if i:  # line 5
            μ = (alpha * μ + (1 - alpha) * penalty_grad(c, ρ, μ)).clamp(MU_MIN, MU_MAX)
        g = width * input_gradient(constraint, query)
        g = g * per_sample(penalty_grad(c, ρ, μ), x)
        length = distance(δ, 2.0).clamp_min(torch.finfo(x.dtype).tiny)
        g = g + δ / per_sample(length, x)  # line 6
        if i == 0:
            flat = ~g.flatten(1).any(1)
            g = torch.where(per_sample(flat, x), unit_noise(x, generator), g)
        v = alpha * v + (1 - alpha) * g.square()  # line 7
        scaled = g / (v.sqrt() + 1e-8)
        if i == 0:
            η = _step_size(batch, scaled, init_eps)
        decay = (i - first_success).clamp_min(0.0) / (steps - first_success).clamp_min(1.0)
        η_i = η * lr_reduction**decay  # line 8
        m = alpha * m + scaled  # line 9
        δ = δ - per_sample(η_i, x) * m  # line 10
        δ = (batch.clip(x + width * δ) - x) / width

    return best.found()  # line 11


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
