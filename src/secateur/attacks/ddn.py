"""Decoupled direction and norm (Rony et al. 2019, arXiv:1811.09600, Algorithm 1): minimum L2."""

from typing import Literal

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import OwnLoss, attack_loss_grad, log_odds_grad
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.core.pixel_units import in_pixels, quantise
from secateur.attacks.core.steps import cosine, descent_direction, unit_noise
from secateur.cpu.malloc import kept_heap
from secateur.registry.settings import check


@in_pixels("init_eps", "alpha", "alpha_final")
@kept_heap()
def ddn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    init_eps: float = 1.0,
    gamma: float = 0.05,
    alpha: float = 1.0,
    alpha_final: float = 0.01,
    schedule: Literal["cosine", "constant"] = "cosine",
    loss: Literal["cross_entropy", "difference"] | OwnLoss = "cross_entropy",
    levels: int | None = None,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small L2 perturbations by steps of fixed size, each projected on a sphere of adapted radius.

    Every iterate is evaluated, the first (the clean image) and the last included: ``steps + 1`` forwards
    and ``steps`` backwards. The best adversarial query is returned, unchanged.

    Deviations from Algorithm 1:

    * The first query is the clean image, never rounded: it decides who is wrong from the start. The last
      iterate is evaluated too, which costs one forward more.
    * δ is overwritten by the perturbation on the sphere, clipped to the box: the next step starts where the
      gradient was taken. In the paper δ sums up the steps, and only the image is clipped.
    * ε never exceeds the distance of the farthest corner of the box, beyond which clipping undoes it.
    * α follows a cosine unless ``schedule="constant"``, as in the authors' code. It is evaluated at steps 0
      to K - 1, so the last step is a little longer than ``alpha_final``.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too. A later iterate replaces the best one only if it
      is nearer.
    * The gradient is that of log(p / (1 - p)), which is parallel to cross-entropy's and keeps its digits
      where the softmax saturates.
    * A random unit vector, the same for the whole batch, replaces the gradient where it is zero, and, while
      the iterate is not adversarial, where a step would leave the box in every pixel.
    * Queries are rounded only with ``levels``, and the rounding does not enter δ, so that small steps on a
      coarse grid are not lost. The authors' code rounds to 256 levels by default, and δ with it.

    Called by its name, this is the published attack with cross-entropy. Studies use ``loss="difference"`` and
    ``levels=None``. On networks of low confidence the gradient of cross-entropy mixes all classes, and more
    steps do not help: on a pruned one the median L2 distance was 0.862, 0.867 and 0.866 after 60, 200
    and 1000 steps, with the logit difference 0.805 after 60; FMN found 0.800. The DDN of adversarial-library
    has the same fault. Rounding to 256 grey levels added 44 % to the median of a plain network.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        steps: K.
        init_eps: ε₀, in the units of the images; this and the next lengths are by default those for images
            in [0, 1], times the width of the ``bounds``.
        gamma: γ, the radius grows or shrinks by this factor.
        alpha: α, the length of a step, in the units of the images.
        alpha_final: the length that steps approach under the cosine schedule.
        schedule: of α: ``"cosine"``, or ``"constant"`` as in Algorithm 1.
        loss: whose gradient is followed: ``"cross_entropy"`` as in Algorithm 1, or the ``"difference"`` of
            two logits, which does not mix in other classes where all logits are close; or a function
            (logits, y) → [N] to raise, as ``torch.nn.functional.cross_entropy`` without a reduction.
        levels: every query is rounded to this many grey levels (17 for the digits, 256 for 8-bit images);
            None does not round.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import ddn
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> found = ddn(model, torch.tensor([[0.2, 0.2]]), torch.tensor([0]), steps=100)
    >>> round(found.distance.item(), 2)  # 0.6 / √2
    0.42
    """
    batch = check_batch(x, y, targets, bounds)
    check("ddn", steps=steps, gamma=gamma, alpha=alpha, alpha_final=alpha_final, init_eps=init_eps)
    check("ddn", levels=levels, schedule=schedule, loss=loss)
    x = batch.x
    generator = generator or torch.Generator().manual_seed(0)
    ε_max = distance(batch.distance_to_bounds(), 2.0)
    best = BestAdversarial(model, batch, 2.0)
    δ = torch.zeros_like(x)  # line 1
    ε = torch.full((len(x),), float(init_eps), dtype=x.dtype, device=x.device)

    for k in range(steps + 1):  # line 3
        query = batch.keep(quantise(x + δ, levels if k else None, batch.bounds))
        query, logits = best.query(query, gradient=k < steps)
        if k == steps:
            break

        if callable(loss):
            grad = attack_loss_grad(batch, logits, loss)
        else:
            grad = log_odds_grad(batch, logits.detach()) if loss == "cross_entropy" else best.margin_grad
        g = input_gradient(logits * grad, query)  # lines 2 and 4; of a loss to lower
        α = alpha if schedule == "constant" else cosine(alpha, alpha_final, k, steps)
        noise = unit_noise(x, generator)
        g = α * descent_direction(  # line 5
            g, batch, query.detach(), noise=noise, is_adversarial=best.is_adversarial
        )
        δ = δ - g  # line 6
        ε = torch.where(best.is_adversarial, ε * (1 - gamma), ε * (1 + gamma))  # lines 7 to 11
        ε = torch.minimum(ε, ε_max)
        length = distance(δ, 2.0).clamp_min(torch.finfo(x.dtype).tiny)
        δ = batch.clip(x + δ * per_sample(ε / length, x)) - x  # lines 12 and 13

    return best.found()  # line 15
