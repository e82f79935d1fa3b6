"""Decoupled direction and norm (Rony et al. 2019, Algorithm 1): minimum L2 perturbations."""

from typing import Literal

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch, check_steps
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import input_gradient, log_odds_grad
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.core.pixel_units import in_pixels, quantise
from secateur.attacks.core.steps import cosine, unit_direction, unit_noise
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
    loss: Literal["cross_entropy", "difference"] = "cross_entropy",
    levels: int | None = None,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small L2 perturbations by fixed-size steps, each pulled to a sphere of adapted radius.

    Every iterate is evaluated, the first (the clean image) and the last included: ``steps + 1`` forwards
    and ``steps`` backwards. The best adversarial query is returned, unchanged.

    Deviations from Algorithm 1:

    * The first query is the clean image, never rounded; it decides who is wrong from the start. The last
      iterate is evaluated too, which costs one forward more.
    * δ is overwritten by the perturbation that was pulled to the sphere and clipped to the box. In the paper
      δ sums up the steps, and only the image is clipped.
    * ε never exceeds the distance of the farthest corner of the box.
    * α follows a cosine unless ``schedule="constant"``. It is evaluated at steps 0 to K - 1, so the last step
      is a little longer than ``alpha_final``.
    * An iterate fools if its logit difference is below zero by more than 64 rounding errors of the largest
      logit. A later iterate replaces the best one only if it is nearer.
    * The gradient is that of log(p / (1 - p)), which is parallel to cross-entropy's and keeps its digits
      where the softmax saturates.
    * A random unit vector, the same for the whole batch, replaces the gradient where it is zero or not
      finite, and, while the iterate does not fool, where a step would leave the box in every pixel.
    * Queries are rounded only with ``levels``, and the rounding does not enter δ. The authors' code rounds to
      256 levels by default, and δ with it.

    Called by its name, this is the published attack with cross-entropy. Studies use ``loss="difference"`` and
    ``levels=None``. On networks of low confidence the gradient of cross-entropy mixes all classes, and more
    steps do not help: on a pruned one the median L2 distance was 0.862, 0.867 and 0.866 after 60, 200
    and 1000 steps, with the logit difference 0.805 after 60; FMN found 0.800. The DDN of adversarial-library
    has the same fault. Rounding to 256 grey levels added 44 % to the median of a plain network.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        steps: K of Algorithm 1.
        init_eps: ε₀, in the units of the images; this and the next lengths are by default those for images
            in [0, 1], times the width of the ``bounds``.
        gamma: γ, the radius grows or shrinks by this factor.
        alpha: α, the length of a step, in the units of the images.
        alpha_final: the length towards which steps shrink under the cosine schedule.
        schedule: ``"cosine"`` decays α as all public implementations do; ``"constant"`` is Algorithm 1 to
            the letter.
        loss: whose gradient is followed: ``"cross_entropy"`` as Algorithm 1 has it, or the ``"difference"``
            of two logits, which does not mix in the classes that are far where all logits are close.
        levels: every query is rounded to this many grey levels (17 for the digits, 256 for 8-bit images);
            None leaves it continuous. The perturbation that accumulates steps is not rounded, so that small
            steps on a coarse grid are not lost.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    _check_settings(init_eps, gamma, alpha, levels, schedule)
    check("ddn", alpha_final=alpha_final, loss=loss)
    x = problem.x
    generator = generator or torch.Generator().manual_seed(0)
    delta = torch.zeros_like(x)
    eps = torch.full((len(x),), float(init_eps), dtype=x.dtype, device=x.device)
    largest = distance(problem.distance_to_bounds(), 2.0)
    best = BestAdversarial(model, problem, 2.0)

    for step in range(steps + 1):
        # The first query is the clean image itself, off the grid or not: it decides who is already wrong.
        query = quantise(x + delta, levels if step else None, problem.bounds)
        query, logits = best.query(query, gradient=step < steps)
        if step == steps:
            break

        slope = log_odds_grad(problem, logits.detach()) if loss == "cross_entropy" else best.margin_grad
        gradient = input_gradient(logits, query, slope)
        rate = alpha if schedule == "constant" else cosine(alpha, alpha_final, step, steps)
        noise = unit_noise(x, generator)
        direction = unit_direction(
            gradient, problem, query.detach(), noise=noise, is_adversarial=best.is_adversarial
        )
        delta = delta - rate * direction
        eps = torch.minimum(torch.where(best.is_adversarial, eps * (1 - gamma), eps * (1 + gamma)), largest)
        length = distance(delta, 2.0).clamp_min(torch.finfo(x.dtype).tiny)
        delta = problem.clip(x + delta * per_sample(eps / length, x)) - x

    return best.found()


def _check_settings(init_eps: float, gamma: float, alpha: float, levels: int | None, schedule: str) -> None:
    check("ddn", gamma=gamma, alpha=alpha, init_eps=init_eps, levels=levels, schedule=schedule)
