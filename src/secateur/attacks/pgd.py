"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083) inside a ball of given size."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import Loss, OwnLoss, attack_loss
from secateur.attacks.core.norms import INF, check_norm
from secateur.attacks.core.pixel_units import in_pixels
from secateur.attacks.core.steps import descend, descent_direction, random_start_in_ball, unit_noise
from secateur.registry.settings import check


@in_pixels("eps")
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    steps: int = 40,
    step: float | None = None,
    loss: Loss | OwnLoss = "ce",
    random_start: bool = True,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find an example inside a ball by steps of fixed size, each projected back: x ← Π(x − α s(∇L)).

    s is the sign for Linf and the unit vector for L2. Training uses the same loop (``core.steps.descend``).
    An image is found if any iterate is adversarial; the nearest such iterate is returned. ``steps + 2``
    forwards and ``steps`` backwards.

    Deviations from the paper (which prints no numbered algorithm):

    * The clean image is queried first: it decides who is wrong from the start. The last iterate is
      evaluated too.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * The random start is the same direction for every image, so that batching changes nothing.
    * The projection is the exact one onto the ball and the box together. Clipping after projecting lands
      strictly inside the ball and away from the nearest point.
    * With ``loss="ce"`` the gradient is that of log(p / (1 - p)), parallel to cross-entropy's.
    * A random unit vector replaces the gradient where it is zero, or where a step would leave
      the box in every pixel.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 2 or inf.
        eps: ε, the radius of the ball, by default 8/255 of the width of the ``bounds``.
        steps: number of steps.
        step: α, their length; 2.5 ε / steps by default.
        loss: ``"ce"``, ``"margin"`` (the logit difference), ``"dlr"``, or a function (logits, y) →
            [N] to raise.
        random_start: begin at a random point of the ball, not at the clean image.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the start and replaces vanishing gradients; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import pgd
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> x, y = torch.tensor([[0.2, 0.2], [0.4, 0.4]]), torch.tensor([0, 0])
    >>> pgd(model, x, y, eps=0.2).mask  # the boundary is 0.3 and 0.1 away
    tensor([False,  True])
    """
    batch = check_batch(x, y, targets, bounds)
    p = check_norm(norm, (2.0, INF))
    check("pgd", eps=eps, steps=steps, step=step, loss=loss, random_start=random_start)
    α = 2.5 * eps / steps if step is None else step
    generator = generator or torch.Generator().manual_seed(0)
    best = BestAdversarial(model, batch, p)
    δ = torch.zeros_like(batch.x)
    if random_start:
        δ = random_start_in_ball(batch, eps, p, generator=generator)
    best.query(batch.x, gradient=False)

    def direction(δ: Tensor) -> Tensor:
        query, logits = best.query(batch.clip(batch.x + δ), gradient=True)
        gradient = input_gradient(attack_loss(batch, logits, loss), query)
        noise = unit_noise(batch.x, generator)
        return descent_direction(gradient, batch, query.detach(), noise=noise, p=p)

    δ = descend(direction, δ, steps=steps, step=α, project=lambda δ: batch.project(δ, eps, p))
    best.query(batch.clip(batch.x + δ), gradient=False)
    return best.found()
