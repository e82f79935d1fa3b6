"""Fast minimum-norm attack (Pintor et al. 2021, arXiv:2102.12827, Algorithm 1) for L0, L1, L2 and Linf."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_logits
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import is_adversarial, reaches_goal
from secateur.attacks.core.lost import grown, hours, is_long
from secateur.attacks.core.norms import INF, check_norm, distance, dual, per_sample, project
from secateur.attacks.core.pixel_units import in_pixels
from secateur.attacks.core.steepest import reaching
from secateur.attacks.core.steps import cosine, descent_direction, unit_noise
from secateur.budgets import counts
from secateur.cpu.malloc import kept_heap
from secateur.errors import UserError
from secateur.registry.settings import check

SEARCH_STEPS = 10
"""Halvings between a starting point and the clean image, as in the paper."""
ESCAPE_RATE = 0.2
"""How fast the number of pixels grows before the first success, with ``escape``."""


@in_pixels("alpha", "alpha_final")
@kept_heap()
def fmn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    steps: int = 1000,
    alpha: float = 1.0,
    alpha_final: float = 0.01,
    gamma: float = 0.05,
    gamma_final: float = 0.001,
    escape: bool = True,
    start: Tensor | None = None,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small perturbations in any of five norms by gradient steps inside a ball of adapted radius.

    Every iterate is evaluated, the first (the clean image) and the last included: ``steps + 1`` forwards
    and ``steps`` backwards, plus 12 forwards where ``start`` is given: the clean image, the starting point,
    and 10 halvings between them. The best adversarial query is returned, unchanged.

    Where public implementations disagree: the L2 projection is onto the ball (not the sphere, not nothing);
    L0 keeps exactly ``floor(ε)`` entries, the largest; the gradient of a tie goes to one class.

    Deviations from Algorithm 1:

    * The first query is the clean image, or the point where the search from ``start`` ended. The last
      iterate is evaluated too, which costs one forward more.
    * ``escape``: before the first success ε grows by at least 1 + γ a step (1.2 for L0), not by the linear
      estimate alone. Where the box is active or the model is linear, the estimate approaches the boundary
      for ever from inside and finds nothing.
    * ``escape``: an image without a success after a quarter of the steps is lost. Its ε then grows so
      fast that it reaches the whole box by half of the steps; until then every second step, the last one
      included, is as long as the ball is wide, and against the gradient in the ball's own norm. From the
      first success on γ anneals anew. Where few pixels have most of the gradient, and the box stops those,
      neither the estimate nor a step of fixed length gets anywhere.
    * ε never exceeds the largest perturbation that the box allows.
    * α and γ are evaluated at steps 0 to K - 1 of their cosines, so ``alpha_final`` and ``gamma_final`` are
      approached and not quite reached.
    * An iterate is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too. An iterate as near as the best one does not
      replace it.
    * A random unit vector, the same for the whole batch, replaces the gradient where it is zero, and, while
      the iterate is not adversarial, where a step would leave the box in every pixel. In
      the linear estimate the norm of the gradient is at least 1e-12. Both avoid a division by zero.
    * A starting point that is not adversarial is not used: the attack starts at the clean image.
    * ``norm="L0-pixels"`` counts pixels: ε is their number, and the projection keeps the ``floor(ε)`` pixels
      that are longest in L2 over their channels. The paper counts values.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: p: 0, 1, 2, inf or "L0-pixels".
        steps: K.
        alpha: α₀, the L2 length of the first step, in the units of the images; this and ``alpha_final`` are
            by default those for images in [0, 1], times the width of the ``bounds``.
        alpha_final: α_K, approached by cosine annealing (Eq. 6).
        gamma: γ₀, the relative change of the radius.
        gamma_final: γ_K, approached by cosine annealing.
        escape: let the radius grow faster before the first success; the paper's value is False.
        start: adversarial images [N, ...] to start from, each first moved towards the clean image by
            a binary search of 10 steps.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import fmn
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> x, y = torch.tensor([[0.2, 0.2]]), torch.tensor([0])
    >>> [round(fmn(model, x, y, norm=p, steps=100).distance.item(), 2) for p in (0, 1, 2, float("inf"))]
    [1.0, 0.6, 0.42, 0.3]
    """
    batch = check_batch(x, y, targets, bounds)
    p = check_norm(norm)
    check("fmn", steps=steps, alpha=alpha, alpha_final=alpha_final, escape=escape)
    check("fmn", gamma=gamma, gamma_final=gamma_final)
    x = batch.x
    generator = generator or torch.Generator().manual_seed(0)
    ε_max = distance(batch.distance_to_bounds(), p)
    δ = torch.zeros_like(x)  # line 1
    ε = torch.full((len(x),), 1.0 if counts(p) else 0.0, dtype=x.dtype, device=x.device)
    already_wrong = None
    if start is not None:
        already_wrong, δ = search_start(model, batch, start, p=p)
        ε = torch.maximum(ε, distance(δ, p))
    best = BestAdversarial(model, batch, p, already_wrong=already_wrong)
    lost, (late, whole) = None, hours(steps)

    for k in range(steps + 1):  # line 2
        query = batch.clip(x + δ)  # lines 16 and 17
        δ = query - x
        query, logits = best.query(query, gradient=k < steps, delta=δ)  # lines 8 to 10
        adversarial, best_norm = best.is_adversarial, best.distance
        if k == steps:
            break

        g = input_gradient(logits * best.margin_grad, query)  # line 3
        γ = cosine(gamma, gamma_final, k, steps)  # line 4
        if k == late and escape:
            lost = _Lost.of(best)
        ε_next = _next_radius(ε, γ, best, g, p, escape=escape)  # lines 5 to 12
        if lost is not None:
            lost = lost.looked(k, adversarial)
            missing = lost.images & best_norm.isinf()
            anew = _next_radius(ε, lost.annealed(gamma, gamma_final, k, steps), best, g, p, escape=escape)
            ε_next = torch.where(lost.images, anew, ε_next)
            series = grown(ε, ε_max, whole - k)
            series = torch.maximum(ε_next, series.ceil() if counts(p) else series)
            ε_next = torch.where(missing, series, ε_next)
        ε = torch.minimum(ε_next, ε_max)
        α = cosine(alpha, alpha_final, k, steps)  # line 13
        noise = unit_noise(x, generator)
        d = descent_direction(g, batch, query.detach(), noise=noise, is_adversarial=adversarial)
        z = δ - α * d  # line 14
        if lost is not None and is_long(k, whole):
            whole_step = batch.clip(x + (δ + reaching(d, batch, ε, p=p))) - x
            z = torch.where(per_sample(missing, x), whole_step, z)
        δ = project(z, ε, p)  # line 15

    return best.found()  # line 19


def _next_radius(
    ε: Tensor, γ: float | Tensor, best: BestAdversarial, g: Tensor, p: float, *, escape: bool
) -> Tensor:
    """Lines 5 to 12, but for the box: ε shrinks after a success and grows without one."""
    adversarial, best_norm = best.is_adversarial, best.distance
    if counts(p):
        return _next_count(ε, γ, adversarial, best_norm=best_norm, escape=escape)
    to_boundary = best.delta_norm + best.margin.abs() / distance(g, dual(p)).clamp_min(1e-12)
    if escape:
        to_boundary = torch.maximum(to_boundary, ε * (1 + γ))
    missed = torch.where(best_norm.isfinite(), ε * (1 + γ), to_boundary)  # line 6
    return torch.where(adversarial, torch.minimum(ε * (1 - γ), best_norm), missed)  # lines 5, 7, 11


def _next_count(
    ε: Tensor, γ: float | Tensor, adversarial: Tensor, *, best_norm: Tensor, escape: bool
) -> Tensor:
    """Lines 5 to 12 for L0, where ε counts values or pixels and changes by at least one."""
    least = ESCAPE_RATE if escape else 0.0
    first = γ.clamp_min(least) if isinstance(γ, Tensor) else max(γ, least)
    rate = torch.where(best_norm.isinf(), first, γ)
    grown = torch.maximum(ε + 1, (ε * (1 + rate)).floor())
    shrunk = torch.minimum(torch.minimum(ε - 1, (ε * (1 - γ)).floor()), best_norm)
    return torch.where(adversarial, shrunk, grown).clamp_min(0.0)


@dataclass(frozen=True)
class _Lost:
    """The images [N] without a success after a quarter of the steps, and when each had one first."""

    images: Tensor
    success: Tensor

    @classmethod
    def of(cls, best: BestAdversarial) -> "_Lost | None":
        """Those of ``best``; None where there are none."""
        images = best.distance.isinf() & ~best.already_wrong
        return cls(images, best.distance.clone()) if bool(images.any()) else None

    def looked(self, k: int, adversarial: Tensor) -> "_Lost":
        """The same after query ``k``, which is ``adversarial`` [N] for some."""
        return replace(self, success=torch.where(adversarial, self.success.clamp_max(k), self.success))

    def annealed(self, first: float, last: float, k: int, steps: int) -> Tensor:
        """γ [N], annealed from the first success on; ``first`` before that."""
        begun = self.success.clamp_max(k)
        share = (k - begun) / (steps - begun)
        return last + 0.5 * (first - last) * (1.0 + torch.cos(math.pi * share))


@torch.no_grad()
def search_start(model: nn.Module, batch: Batch, start: Tensor, *, p: float) -> tuple[Tensor, Tensor]:
    """Pull starting points towards the clean images while they stay adversarial.

    The path is a straight line for L2, clipping for Linf, soft-thresholding for L1 and keeping the largest
    pixels for L0: Π_ε(start − x) of the paper.

    Returns:
        Where the clean image is already wrong [N], and perturbations [N, ...] that are adversarial where
        ``start`` was, else zero.

    Raises:
        UserError: ``start`` has another shape or leaves the bounds.
    """
    x = batch.x
    if start.shape != x.shape:
        raise UserError(
            f"starting points have shape {tuple(start.shape)}, images {tuple(x.shape)}",
            hint="give one starting point per image",
        )
    whole = check_batch(start, batch.y, None, (batch.bounds[0], batch.bounds[1])).x.to(x) - x
    clean = model(x)
    check_logits(clean, batch)
    usable = is_adversarial(batch, model(batch.clip(x + whole)))
    low, high = torch.zeros_like(x.flatten(1)[:, 0]), distance(whole, p)
    δ = whole
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        # In L0 a radius is a number of values or pixels.
        trial = batch.clip(x + project(whole, middle.ceil() if counts(p) else middle, p)) - x
        adversarial = is_adversarial(batch, model(batch.clip(x + trial)))
        δ = torch.where(per_sample(adversarial, x), trial, δ)
        low, high = torch.where(adversarial, low, middle), torch.where(adversarial, middle, high)
    return reaches_goal(batch, clean), torch.where(per_sample(usable, x), δ, torch.zeros_like(x))
