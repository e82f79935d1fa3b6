"""PDPGD (Matyasko & Chau 2021): minimum norms by a primal-dual game with proximal steps."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.attacks.core.batch import Found, check_batch, check_steps
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import INF, check_norm
from secateur.attacks.core.prox import shrink
from secateur.registry.settings import LEAST_RATIO, check

BETAS = (0.9, 0.999)
LATE = 0.75
"""The share of the steps after which an image without an example goes without the norm."""


def pdpgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    steps: int = 1000,
    step: float = 0.1,
    decay: float = 0.01,
    ratio: float = 0.01,
    dual_step: float = 0.1,
    dual_decay: float = 0.1,
    average: float = 0.9,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Found:
    """Find small perturbations in any of four norms as the equilibrium of a game of two players.

    The first lowers λ₀‖δ‖ + λ₁ log(1 + exp(logit difference)) by a step of Adam on the smooth part, clipped
    to the box, and the proximal operator of the norm in Adam's own metric, exactly (other implementations
    iterate towards it). The second raises λ₁ against λ₀ while the model is not fooled and lowers it while it
    is; the first sees a moving average of the weights. L0 uses the roots of the entries in place of their
    count. Not in the paper: an image without an example after three quarters of the steps goes without the
    norm until it has one. Every iterate is evaluated: ``steps + 1`` forwards and ``steps`` backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, 1, 2 or inf.
        steps: number of iterations.
        step: of Adam at first, relative to the width of the box.
        decay: the last step relative to the first, reached exponentially.
        ratio: λ₀ / λ₁ at first.
        dual_step: by which log(λ₁ / λ₀) changes at first.
        dual_decay: the last such step relative to the first, reached linearly.
        average: share that the moving average of the weights keeps.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    norm = check_norm(norm)
    _check_settings(step, decay, ratio, dual_step, dual_decay, average)
    x = problem.x
    width = problem.bounds[1] - problem.bounds[0]
    delta, first, second = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    best = BestAdversarial(model, problem, norm)
    log_weight = torch.full_like(best.delta_norm, -math.log(ratio))
    share = log_weight.sigmoid()
    most = -math.log(LEAST_RATIO)

    for k in range(steps + 1):
        query, logits = best.query(problem.clip(x + width * delta), gradient=k < steps)
        if k == steps:
            break
        margin = logit_difference(problem, logits)
        gradient = width * torch.autograd.grad(F.softplus(margin).sum(), query)[0]
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
        metric = (second / (1 - BETAS[1] ** (k + 1))).sqrt() + 1e-8
        rate = step * decay ** (k / steps)
        delta = delta - rate / (1 - BETAS[0] ** (k + 1)) * first / metric
        delta = (problem.clip(x + width * delta) - x) / width
        late = best.distance.isinf() & (k >= LATE * steps)
        delta = shrink(delta, metric, rate * torch.where(late, 0.0, (1 - share) / share), norm)

        pace = dual_step * (dual_decay + (1 - dual_decay) * (1 - k / steps))
        log_weight = (log_weight + pace * torch.where(best.is_adversarial, -1.0, 1.0)).clamp(-most, most)
        share = average * share + (1 - average) * log_weight.sigmoid()

    return best.found()


def _check_settings(
    step: float, decay: float, ratio: float, dual_step: float, dual_decay: float, average: float
) -> None:
    check("pdpgd", step=step, decay=decay, ratio=ratio)
    check("pdpgd", dual_step=dual_step, dual_decay=dual_decay, average=average)
