"""σ-zero (Cinà et al. 2025, arXiv:2402.01879, Algorithm 1): minimum L0."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import INF, check_norm, distance, per_sample, pooled
from secateur.attacks.core.steps import cosine
from secateur.budgets import L0_PIXELS
from secateur.registry.settings import check

BETA_1, BETA_2 = 0.9, 0.999


def sigma_zero(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = 0.0,
    steps: int = 1000,
    eta: float = 1.0,
    eta_final: float = 0.1,
    sigma: float = 1e-3,
    tau: float = 0.3,
    t: float = 0.01,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Found:
    """Find perturbations of few pixels by a smooth count of what changes and an adaptive threshold.

    The steps of Algorithm 1, by the names that the comments in the code use, in the order of the authors'
    code::

        start:           δ ← 0, τ ← τ₀, η ← η₀
        for i = 1, …, N:
            best:        keep δ where x + δ is adversarial and has fewer values than the best
            gradient:    g ← ∇ [max(logit difference(x + δ), 0) + Σⱼ δⱼ² / (δⱼ² + σ) / d]
            normalise:   g ← g / ‖g‖∞
            step size:   η ← cosine annealing
            step:        δ ← clip(x + δ − η g) − x
            threshold:   τ ← τ + tη where x + δ was adversarial, τ − tη elsewhere
            projection:  δ ← Π_τ(δ): entries smaller than τ become zero
        return the best

    Every iterate is evaluated: ``steps + 1`` forwards and ``steps`` backwards.

    Deviations from Algorithm 1 and the authors' code:

    * As in the authors' code, the step is one of Adam, η approaches a tenth of η₀ (``eta_final``), τ stays
      in [0, 1], and the first query is the clean image. It decides who is wrong from the start.
    * τ changes by t times the η of the step just taken, in the authors' code by that of the next.
    * The last iterate is evaluated too.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * Targeted attacks are allowed: the loss is that of the target.
    * Lengths are relative to the width of the box, so that the bounds change nothing.
    * ``norm="L0-pixels"`` counts pixels: the smooth count takes δⱼ² as the sum over the channels of a pixel,
      d is the number of pixels, and a pixel becomes zero where its largest entry is smaller than τ. The
      authors' code counts values.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, which counts values, or "L0-pixels".
        steps: N.
        eta: η₀, the first step of Adam, relative to the width of the box.
        eta_final: the last one, by cosine annealing.
        sigma: σ; the smaller, the closer the smooth count is to L0.
        tau: τ₀, relative to the width of the box.
        t: how fast τ changes.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import sigma_zero
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x @ torch.tensor([3.0, 1.0])], 1)
    >>> sigma_zero(model, torch.tensor([[0.2, 0.2]]), torch.tensor([0]), steps=50).distance
    tensor([1.])
    """
    batch = check_batch(x, y, targets, bounds)
    check("sigma-zero", steps=steps, eta=eta, eta_final=eta_final, sigma=sigma, tau=tau, t=t)
    x = batch.x
    p = check_norm(norm, (0.0, L0_PIXELS))
    d = pooled(x[:1], p).numel()
    width = batch.bounds[1] - batch.bounds[0]
    best = BestAdversarial(model, batch, p)
    δ, m, v = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)  # start
    τ = torch.full_like(best.distance, tau)

    for i in range(steps + 1):
        query, logits = best.query(batch.clip(x + width * δ), gradient=i < steps)  # best
        if i == steps:
            break

        loss = logit_difference(batch, logits).clamp_min(0.0)
        g = width * input_gradient(loss, query)
        count_grad = 2 * δ * sigma / (pooled(δ.square(), p) + sigma).square() / d
        g = g + count_grad  # gradient
        g = g / per_sample(distance(g, INF).clamp_min(1e-12), x)  # normalise
        η = cosine(eta, eta_final, i, steps)  # step size
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g.square()
        scale = (v / (1 - BETA_2 ** (i + 1))).sqrt() + 1e-8
        δ = δ - η * m / (1 - BETA_1 ** (i + 1)) / scale
        δ = (batch.clip(x + width * δ) - x) / width  # step
        τ = (τ + torch.where(best.is_adversarial, t, -t) * η).clamp(0.0, 1.0)  # threshold
        δ = torch.where(pooled(δ.abs(), p, largest=True) < per_sample(τ, x), 0.0, δ)  # projection

    return best.found()
