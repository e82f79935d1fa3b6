"""Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049, Algorithm 1) in Linf: no gradients."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch, check_logits, conclude
from secateur.attacks.core.best import query_active
from secateur.attacks.core.losses import is_adversarial, logit_difference, reaches_goal
from secateur.attacks.core.norms import INF, distance, per_sample
from secateur.attacks.core.pixel_units import in_pixels
from secateur.errors import UserError
from secateur.registry.settings import check

HALVE_AREA_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Iterations, of 10 000, at which the area of the squares is halved."""


@in_pixels("eps")
@torch.no_grad()
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
    logit difference falls. ``steps + 2`` forwards, no backward.

    Deviations from Algorithm 1, whose lines the comments in the code cite:

    * The clean image is queried first: it decides who is wrong from the start.
    * l* begins as the loss of x̂, as in the authors' code. Line 1 prints that of x.
    * A targeted attack lowers the logit difference. The authors take cross-entropy.
    * An image is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * Squares are the same for every image of a batch, so that batching changes nothing.
    * A square is set to x ± ε. The paper adds ±2ε to x̂ and projects, to the same effect.
    * N squares are tried, one more than by line 2. The loop runs to the end; an image that is fooled keeps
      its example.

    Args:
        model: images to logits.
        x: images [N, C, H, W], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        eps: ε, by default 8/255 of the width of the ``bounds``.
        steps: N.
        area: p, the first square's share of the image, halved on the paper's schedule scaled to ``steps``.
            AutoAttack takes 0.8. The authors take less, down to 0.05, for networks that are not robust.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the squares; a fixed one by default.

    Raises:
        UserError: images that are not [N, C, H, W], or settings an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import square
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.mean((1, 2, 3)) / 0.5], 1)  # 1 if bright
    >>> x = torch.full((2, 1, 4, 4), 0.3)
    >>> x[1] = 0.45
    >>> square(model, x, torch.tensor([0, 0]), eps=0.1, steps=50).mask
    tensor([False,  True])
    """
    batch = check_batch(x, y, targets, bounds)
    check("square", eps=eps, steps=steps, area=area)
    x = batch.x
    if x.ndim != 4:
        raise UserError(f"images of shape {tuple(x.shape)}", hint="squares need [N, C, H, W]")
    generator = generator or torch.Generator().manual_seed(0)
    _, channels, height, width = x.shape

    def signs(*shape: int) -> Tensor:
        drawn = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        return drawn.to(x.device, x.dtype) * eps

    logits = model(x)
    check_logits(logits, batch)
    already_wrong = reaches_goal(batch, logits)
    adv = batch.clip(x + signs(1, channels, 1, width))  # line 1
    logits, _ = query_active(model, adv)
    lowest, fooled = logit_difference(batch, logits), is_adversarial(batch, logits)
    for i in range(steps):  # line 2
        halvings = sum(i * 10_000 / steps > at for at in HALVE_AREA_AT)
        h = max(1, min(round((area * 0.5**halvings * height * width) ** 0.5), height, width))  # line 3
        r = int(torch.randint(0, height - h + 1, (1,), generator=generator))  # line 4: δ ~ P
        s = int(torch.randint(0, width - h + 1, (1,), generator=generator))
        here = (..., slice(r, r + h), slice(s, s + h))
        trial = adv.clone()
        trial[here] = x[here] + signs(1, channels, 1, 1)  # line 5
        trial = batch.clip(trial)
        logits, active = query_active(model, trial)  # line 6
        margin = logit_difference(batch, logits)
        better = (margin < lowest) & ~fooled & active  # line 7
        adv = torch.where(per_sample(better, x), trial, adv)
        lowest = torch.where(better, margin, lowest)
        fooled = fooled | (better & is_adversarial(batch, logits))
    reached = torch.where(fooled, distance(adv - x, INF), torch.inf)
    return conclude(batch, adv, reached, already_wrong)
