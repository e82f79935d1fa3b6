"""Primal-dual proximal gradient descent, PDPGD (Matyasko & Chau 2021, arXiv:2106.01538): minimum norms."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.attacks.core.batch import Found, check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import INF, check_norm
from secateur.attacks.core.prox import shrink
from secateur.registry.settings import LEAST_RATIO, check

BETA_1, BETA_2 = 0.9, 0.999
LATE = 0.75
"""The share of the steps after which an image without an example is attacked without the norm."""


def pdpgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    steps: int = 1000,
    primal_lr: float = 0.1,
    primal_lr_decrease: float = 0.01,
    dual_ratio_init: float = 0.01,
    dual_lr: float = 0.1,
    dual_lr_decrease: float = 0.1,
    dual_ema: float = 0.9,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Found:
    """Find small perturbations in any of five norms as the equilibrium of a game of two players.

    The primal player lowers λ₀‖δ‖ + λ₁ log(1 + exp(logit difference)); the dual player chooses the weights,
    λ₀ + λ₁ = 1. The steps of the paper's PDPGD, by the names that the comments in the code use::

        start:               δ ← 0, λ₀/λ₁ ← the initial ratio; Adam's averages m ← 0, v ← 0
        for k = 0, …, K − 1:
            gradient:        g ← ∇ log(1 + exp(logit difference(x + δ)))
            metric:          m ← β₁m + (1 − β₁) g, v ← β₂v + (1 − β₂) g², H ← √v̂  (Adam)
            primal step:     δ ← clip(δ − η m̂ / H)
            proximal step:   δ ← argmin_z ½ (z − δ)ᵀH(z − δ) + η λ₀/λ₁ ‖z‖
            dual step:       log λ₁/λ₀ falls where x + δ was adversarial, else rises
            average:         λ ← moving average of the weights, which the primal player uses
        return the nearest adversarial x + δ

    Every iterate is evaluated: ``steps + 1`` forwards and ``steps`` backwards.

    Deviations from the authors' code (``cpgd``), whose schedules and simultaneous moves are kept:

    * One run from δ = 0. The authors' experiments start at random points, several times, and run once more
      from the best example, with smaller steps.
    * The last iterate is evaluated too.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * The logistic loss of the authors' experiments is not divided by log 2.
    * L2 has a proximal step, too. The authors' experiments follow the gradient of the norm there.
    * The proximal step is exact in Adam's own metric, and follows the clipping. The authors' code iterates
      towards it, five times at most, and clips after each.
    * L0 uses the sum of the square roots of the entries in place of their count, whose proximal step cannot
      move an entry that it keeps. The authors' experiments sum powers of 2/3.
    * ``norm="L0-pixels"`` counts pixels: the roots are those of the lengths of pixels in L2 over their
      channels, and the metric of a pixel is the mean over them. The authors' code counts pixels too, and
      applies its operator to the largest channel of each.
    * An image without an example after three quarters of the steps is attacked without the norm until it has
      one: λ₁ can be too small for too long.
    * log λ₁/λ₀ stays within ±log 10⁶, so that no weight rounds to zero. The authors bound each weight
      from below.
    * Lengths are relative to the width of the box, so that the bounds change nothing.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, 1, 2, inf or "L0-pixels".
        steps: K.
        primal_lr: the first η, of Adam, relative to the width of the box.
        primal_lr_decrease: the last η relative to the first, reached exponentially.
        dual_ratio_init: λ₀ / λ₁ at first. The authors' experiments take 0.1, their code 0.01 by default.
        dual_lr: by which log(λ₁ / λ₀) changes at first.
        dual_lr_decrease: the last such step relative to the first, reached linearly.
        dual_ema: share that the moving average of the weights keeps.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import pdpgd
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> found = pdpgd(model, torch.tensor([[0.2, 0.2]]), torch.tensor([0]), norm=1, steps=150)
    >>> round(found.distance.item(), 1)
    0.6
    """
    batch = check_batch(x, y, targets, bounds)
    p = check_norm(norm)
    check(
        "pdpgd", steps=steps, primal_lr=primal_lr, primal_lr_decrease=primal_lr_decrease, dual_lr=dual_lr,
        dual_ratio_init=dual_ratio_init, dual_lr_decrease=dual_lr_decrease, dual_ema=dual_ema,
    )  # fmt: skip
    x = batch.x
    width = batch.bounds[1] - batch.bounds[0]
    best = BestAdversarial(model, batch, p)
    δ, m, v = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)  # start
    log_ratio = torch.full_like(best.distance, -math.log(dual_ratio_init))
    λ_1 = log_ratio.sigmoid()
    largest = -math.log(LEAST_RATIO)

    for k in range(steps + 1):
        query, logits = best.query(batch.clip(x + width * δ), gradient=k < steps)
        if k == steps:
            break
        loss = F.softplus(logit_difference(batch, logits))
        g = width * input_gradient(loss, query)  # gradient
        m = BETA_1 * m + (1 - BETA_1) * g  # metric
        v = BETA_2 * v + (1 - BETA_2) * g.square()
        H = (v / (1 - BETA_2 ** (k + 1))).sqrt() + 1e-8
        η = primal_lr * primal_lr_decrease ** (k / steps)
        δ = δ - η / (1 - BETA_1 ** (k + 1)) * m / H  # primal step
        δ = (batch.clip(x + width * δ) - x) / width
        late = best.distance.isinf() & (k >= LATE * steps)
        δ = shrink(δ, H, η * torch.where(late, 0.0, (1 - λ_1) / λ_1), p=p)  # proximal step

        dual_step = dual_lr * (dual_lr_decrease + (1 - dual_lr_decrease) * (1 - k / steps))
        sign = torch.where(best.is_adversarial, -1.0, 1.0)
        log_ratio = (log_ratio + dual_step * sign).clamp(-largest, largest)  # dual step
        λ_1 = dual_ema * λ_1 + (1 - dual_ema) * log_ratio.sigmoid()  # average

    return best.found()
