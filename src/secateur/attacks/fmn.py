"""Fast minimum-norm attack (Pintor et al. 2021, Algorithm 1) for L0, L1, L2 and Linf."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_logits, check_steps
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import input_gradient, is_adversarial, reaches_goal
from secateur.attacks.core.norms import INF, check_norm, distance, dual, per_sample, project
from secateur.attacks.core.pixel_units import in_pixels
from secateur.attacks.core.steps import cosine, unit_direction, unit_noise
from secateur.cpu.malloc import kept_heap
from secateur.errors import UserError
from secateur.registry.settings import check

SEARCH_STEPS = 10
"""Halvings between a starting point and the clean image, as in the paper."""
ESCAPE_PACE = 0.2
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
    """Find small perturbations in any of four norms by gradient steps inside a ball of adapted radius.

    Every iterate is evaluated, the first (the clean image) and the last included: ``steps + 1`` forwards
    and ``steps`` backwards, plus 12 forwards where ``start`` is given: the clean image, the starting point,
    and 10 halvings between them. The best adversarial query is returned, unchanged.

    Where public implementations disagree: the L2 projection is onto the ball (not the sphere, not nothing);
    L0 keeps exactly ``floor(ε)`` entries, the largest; the gradient of a tie goes to one class.

    Deviations from Algorithm 1:

    * The first query is the clean image, or the point that the search from ``start`` left. The last
      iterate is evaluated too, which costs one forward more.
    * ``escape``: before the first success ε grows by at least 1 + γ a step (1.2 for L0), not by the linear
      estimate alone.
    * ε never exceeds the largest perturbation that the box allows.
    * α and γ are evaluated at steps 0 to K - 1 of their cosines, so ``alpha_final`` and ``gamma_final`` are
      approached and not quite reached.
    * An iterate fools if its logit difference is below zero by more than 64 rounding errors of the largest
      logit. An iterate as near as the best one does not replace it.
    * A random unit vector, the same for the whole batch, replaces the gradient where it is zero or not
      finite, and, while the iterate does not fool, where a step would leave the box in every pixel. In the
      linear estimate the norm of the gradient is at least 1e-12.
    * A starting point that does not fool is not used: the image begins at itself.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, 1, 2 or inf.
        steps: K of Algorithm 1.
        alpha: α₀, the L2 length of the first step, in the units of the images; this and ``alpha_final`` are
            by default those for images in [0, 1], times the width of the ``bounds``.
        alpha_final: α_K, approached by cosine annealing (Eq. 2.8).
        gamma: γ₀, the relative change of the radius.
        gamma_final: γ_K, approached by cosine annealing.
        escape: before the first success the radius also grows by at least 1 + γ per step (1.2 for L0). The
            paper's value is False: there the linear estimate of the distance alone sets the radius, and
            where the box is active or the model is linear it approaches the boundary for ever from inside
            and finds nothing.
        start: adversarial images [N, ...] to start from, each first moved towards the clean image by
            a binary search of 10 steps; a sample whose start is not adversarial begins at the clean image.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    norm = check_norm(norm)
    _check_settings(alpha, alpha_final, gamma, gamma_final)
    check("fmn", escape=escape)
    x = problem.x
    generator = generator or torch.Generator().manual_seed(0)
    largest = distance(problem.distance_to_bounds(), norm)
    delta = torch.zeros_like(x)
    eps = torch.full((len(x),), 1.0 if norm == 0 else 0.0, dtype=x.dtype, device=x.device)
    already_wrong = None
    if start is not None:
        already_wrong, delta = search_start(model, problem, start, norm)
        eps = torch.maximum(eps, distance(delta, norm))
    best = BestAdversarial(model, problem, norm, already_wrong=already_wrong)

    for step in range(steps + 1):
        query = problem.clip(x + delta)
        delta = query - x
        query, logits = best.query(query, gradient=step < steps, delta=delta)
        fooled, gap, best_norm = best.is_adversarial, best.delta_norm, best.distance
        if step == steps:
            break

        gradient = input_gradient(logits, query, best.margin_grad)
        rate = cosine(gamma, gamma_final, step, steps)
        if norm == 0:
            eps = _next_count(eps, rate, fooled, best_norm, escape)
        else:
            boundary = gap + best.margin.abs() / distance(gradient, dual(norm)).clamp_min(1e-12)
            if escape:
                boundary = torch.maximum(boundary, eps * (1 + rate))
            missed = torch.where(best_norm.isfinite(), eps * (1 + rate), boundary)
            eps = torch.where(fooled, torch.minimum(eps * (1 - rate), best_norm), missed)
        eps = torch.minimum(eps, largest)
        noise = unit_noise(x, generator)
        direction = unit_direction(gradient, problem, query.detach(), noise=noise, is_adversarial=fooled)
        delta = delta - cosine(alpha, alpha_final, step, steps) * direction
        delta = project(delta, eps, norm)

    return best.found()


def _next_count(eps: Tensor, rate: float, fooled: Tensor, best: Tensor, escape: bool) -> Tensor:
    """The ε-step for L0, where ε counts pixels and changes by at least one."""
    pace = torch.where(best.isinf(), max(rate, ESCAPE_PACE) if escape else rate, rate)
    grown = torch.maximum(eps + 1, (eps * (1 + pace)).floor())
    shrunk = torch.minimum(torch.minimum(eps - 1, (eps * (1 - rate)).floor()), best)
    return torch.where(fooled, shrunk, grown).clamp_min(0.0)


@torch.no_grad()
def search_start(model: nn.Module, problem: Batch, start: Tensor, norm: float) -> tuple[Tensor, Tensor]:
    """Pull starting points towards the clean images while they stay adversarial.

    The path is a straight line for L2, clipping for Linf, soft-thresholding for L1 and keeping the largest
    pixels for L0: Π_ε(start − x) of the paper.

    Returns:
        Where the clean image is already wrong [N], and perturbations [N, ...] that are adversarial where
        ``start`` was, else zero.

    Raises:
        UserError: ``start`` has another shape or leaves the bounds.
    """
    x = problem.x
    whole = (
        check_batch(start, problem.y, None, problem.bounds).x.to(x) - x if start.shape == x.shape else None
    )
    if whole is None:
        raise UserError(
            f"starting points have shape {tuple(start.shape)}, images {tuple(x.shape)}",
            hint="give one starting point per image",
        )
    clean = model(x)
    check_logits(clean, problem)
    usable = is_adversarial(problem, model(problem.clip(x + whole)))
    low, high = torch.zeros_like(x.flatten(1)[:, 0]), distance(whole, norm)
    best = whole
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        trial = problem.clip(x + project(whole, middle.ceil() if norm == 0 else middle, norm)) - x
        fooled = is_adversarial(problem, model(problem.clip(x + trial)))
        best = torch.where(per_sample(fooled, x), trial, best)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return reaches_goal(problem, clean), torch.where(per_sample(usable, x), best, torch.zeros_like(x))


def _check_settings(alpha: float, alpha_final: float, gamma: float, gamma_final: float) -> None:
    check("fmn", alpha=alpha, alpha_final=alpha_final, gamma=gamma, gamma_final=gamma_final)
