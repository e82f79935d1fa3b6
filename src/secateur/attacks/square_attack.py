"""Square attack (Andriushchenko et al. 2020) in Linf: random search over squares, no gradients."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch, check_eps, check_logits, check_steps, conclude
from secateur.attacks.core.losses import is_adversarial, logit_difference, reaches_goal
from secateur.attacks.core.norms import INF, per_sample
from secateur.attacks.core.pixel_units import in_pixels
from secateur.errors import UserError
from secateur.registry.settings import check

SHRINK = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Iterations, of 10 000, at which the area of the squares is halved."""


@in_pixels("eps")
def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 8 / 255,
    steps: int = 1000,
    area: float = 0.8,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Look for an example of Linf size ``eps`` by queries alone: a check on attacks that use gradients.

    Starts from vertical stripes of ±ε; each query sets one square to ±ε per channel and keeps it if the
    logit difference falls. ``eps`` is by default 8/255 of the width of the ``bounds``, ``area`` is the share
    of the first square, halved on the schedule of the paper scaled to ``steps``. Squares are the same for
    every image of a batch, so that batching changes nothing. ``steps + 2`` forwards, no backward.

    Raises:
        UserError: images that are not [N, C, H, W], or settings an attack cannot work with.
    """
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    check_eps(eps, INF)
    x = problem.x
    check("square", area=area)
    if x.ndim != 4:
        raise UserError(f"images of shape {tuple(x.shape)}", hint="squares need [N, C, H, W]")
    generator = generator or torch.Generator().manual_seed(0)
    _, channels, height, width = x.shape

    def signs(*shape: int) -> Tensor:
        drawn = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        return drawn.to(x.device, x.dtype) * eps

    with torch.no_grad():
        logits = model(x)
        check_logits(logits, problem)
        already_wrong = reaches_goal(problem, logits)
        adv = problem.clip(x + signs(1, channels, 1, width))
        logits = model(adv)
        lowest, fooled = logit_difference(problem, logits), is_adversarial(problem, logits)
        for k in range(steps):
            halvings = sum(k * 10_000 / steps > place for place in SHRINK)
            side = max(1, min(round((area * 0.5**halvings * height * width) ** 0.5), height, width))
            top = int(torch.randint(0, height - side + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - side + 1, (1,), generator=generator))
            where = (..., slice(top, top + side), slice(left, left + side))
            trial = adv.clone()
            trial[where] = problem.clip(x[where] + signs(1, channels, 1, 1))
            logits = model(trial)
            margin = logit_difference(problem, logits)
            better = (margin < lowest) & ~fooled
            adv = torch.where(per_sample(better, x), trial, adv)
            lowest = torch.where(better, margin, lowest)
            fooled = fooled | (better & is_adversarial(problem, logits))
    reached = torch.where(fooled, (adv - x).abs().flatten(1).amax(1), torch.inf)
    return conclude(problem, adv, reached, already_wrong)
