"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690, Algorithm 1) inside a ball of given size."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import Loss, OwnLoss, attack_loss
from secateur.attacks.core.norms import INF, check_norm, per_sample
from secateur.attacks.core.pixel_units import in_pixels
from secateur.attacks.core.steps import descent_direction, random_start_in_ball, unit_noise
from secateur.registry.settings import check

MOMENTUM = 0.75
"""α of Algorithm 1."""


@in_pixels("eps")
def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    steps: int = 100,
    loss: Loss | OwnLoss = "dlr",
    rho: float = 0.75,
    random_start: bool = True,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find an example inside a ball by PGD with momentum and a step η that halves where progress stalls.

    An image is found if any iterate is adversarial; the nearest such iterate is returned. ``steps + 2``
    forwards and ``steps`` backwards.

    Deviations from Algorithm 1, whose lines the comments in the code cite:

    * The loss is lowered, not raised. The first step is in the loop, without momentum (α = 1 in line 8).
    * The clean image is queried first: it decides who is wrong from the start. The last iterate is
      evaluated too.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * At a checkpoint that halves η the gradient of x_max is reused, and x^(k-1) becomes x_max: the search
      resumes there without a further query and without momentum. As in the authors' code, the next loss is
      compared with the one before the return, and condition 2 does not apply at the first checkpoint.
    * The random start is the same direction for every image, so that batching changes nothing.
    * The projection is the exact one onto the ball and the box together. Clipping after projecting lands
      strictly inside the ball and away from the nearest point.
    * DLR of a targeted attack has the same denominator as that of an untargeted one. With two classes DLR
      has no gradient, and the logit difference replaces it.
    * A random unit vector replaces the gradient where it is zero, or where a step would leave
      the box in every pixel.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 2 or inf.
        eps: ε, the radius of the ball, by default 8/255 of the width of the ``bounds``; η starts at 2 ε.
        steps: N_iter.
        loss: ``"dlr"``, ``"ce"``, ``"margin"`` (the logit difference), or a function (logits, y) →
            [N] to raise.
        rho: ρ, the share of the steps since the last checkpoint that must lower the loss (condition 1).
        random_start: begin at a random point of the ball, not at the clean image.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the start and replaces vanishing gradients; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import apgd
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> x, y = torch.tensor([[0.2, 0.2], [0.4, 0.4]]), torch.tensor([0, 0])
    >>> apgd(model, x, y, eps=0.2, steps=20).mask  # the boundary is 0.3 and 0.1 away
    tensor([False,  True])
    """
    batch = check_batch(x, y, targets, bounds)
    p = check_norm(norm, (2.0, INF))
    check("apgd", eps=eps, steps=steps, loss=loss, rho=rho, random_start=random_start)
    generator = generator or torch.Generator().manual_seed(0)
    best = BestAdversarial(model, batch, p)
    x_k = torch.zeros_like(batch.x)  # perturbations stand for images: x_k is δ of the paper's x^(k)
    if random_start:
        x_k = random_start_in_ball(batch, eps, p, generator=generator)
    best.query(batch.x, gradient=False)
    η = torch.full((len(x_k),), 2 * eps, dtype=x_k.dtype, device=x_k.device)
    x_last, x_max, slope_max = x_k, x_k, torch.zeros_like(x_k)
    f_max = f_checkpoint = torch.full_like(η, torch.inf)
    f_last = -f_max  # no step led to x^(0), so it is no success
    successes, last_checkpoint = torch.zeros_like(η), 0
    halved = torch.ones_like(η, dtype=torch.bool)
    checkpoints = _checkpoints(steps)  # W

    for k in range(steps + 1):  # line 6
        query, logits = best.query(batch.clip(batch.x + x_k), gradient=k < steps)
        if k == steps:
            break
        value = attack_loss(batch, logits, loss)
        slope = input_gradient(value, query)
        f = value.detach()
        successes = successes + (f < f_last)
        f_last = f
        better = f < f_max  # lines 4, 5 and 9 to 11
        f_max = torch.where(better, f, f_max)
        x_max = torch.where(per_sample(better, x_k), x_k, x_max)
        slope_max = torch.where(per_sample(better, x_k), slope, slope_max)
        if k in checkpoints:  # line 12
            stalled = successes < rho * (k - last_checkpoint)  # condition 1
            stuck = ~halved & (f_max >= f_checkpoint)  # condition 2
            halved, f_checkpoint = stalled | stuck, f_max
            η = torch.where(halved, η / 2, η)  # lines 13 and 14
            back = per_sample(halved, x_k)
            x_k, x_last = torch.where(back, x_max, x_k), torch.where(back, x_max, x_last)
            slope = torch.where(back, slope_max, slope)
            successes, last_checkpoint = torch.zeros_like(η), k
        there, noise = batch.clip(batch.x + x_k), unit_noise(batch.x, generator)
        direction = descent_direction(slope, batch, there, noise=noise, p=p)
        z = batch.project(x_k - per_sample(η, x_k) * direction, eps, p)  # lines 3 and 7
        α = MOMENTUM if k else 1.0
        x_next = batch.project(x_k + α * (z - x_k) + (1 - α) * (x_k - x_last), eps, p)  # line 8
        x_last, x_k = x_k, x_next
    return best.found()


def _checkpoints(steps: int) -> set[int]:
    """W: ⌈p N_iter⌉ for p = 22 %, then at intervals that shrink by 3 % to 6 %."""
    checkpoints, percent, gap = set(), 22, 22
    while percent < 100:
        checkpoints.add(-(-percent * steps // 100))  # rounded up
        gap = max(gap - 3, 6)
        percent += gap
    return checkpoints
