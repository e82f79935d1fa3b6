"""Attacks inside a ball of given size: PGD and APGD. They say whether an image can be fooled."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_eps, check_steps
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import Loss, attack_loss
from secateur.attacks.core.norms import INF, check_norm, per_sample, project_boxed
from secateur.attacks.core.pixel_units import in_pixels
from secateur.attacks.core.steps import unit_direction, unit_noise
from secateur.errors import UserError
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
    loss: Loss = "ce",
    random_start: bool = True,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Projected gradient descent (Madry et al. 2018) with steepest steps of fixed size; norms 2 and inf.

    ``eps`` is by default 8/255 of the width of the ``bounds``, ``step`` 2.5 ε / steps. A sample is found if
    any iterate fools the model; the nearest such iterate is returned. The random start is the same direction
    for every image, so that batching changes nothing.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem, start, generator = _begin(x, y, targets, bounds, norm, eps, steps, loss, random_start, generator)
    size = 2.5 * eps / steps if step is None else step
    check("pgd", step=size)
    best = _asked_at_clean(model, problem, norm)
    delta = start
    for k in range(steps + 1):
        query, logits = best.query(problem.clip(problem.x + delta), gradient=k < steps)
        if k == steps:
            break
        gradient = torch.autograd.grad(attack_loss(problem, logits, loss).sum(), query)[0]
        direction = unit_direction(gradient, problem, query.detach(), noise=unit_noise(problem.x, generator))
        direction = direction.sign() if norm == INF else direction
        delta = _inside(problem, delta - size * direction, eps, norm)
    return best.found()


@in_pixels("eps")
def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    steps: int = 100,
    loss: Loss = "dlr",
    rho: float = 0.75,
    random_start: bool = True,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Auto-PGD (Croce & Hein 2020): momentum, and a step that halves where progress stalls; norms 2 and inf.

    ``eps`` is by default 8/255 of the width of the ``bounds``. The step starts at 2 ε. At checkpoints (22 %
    of the steps, then at ever shorter intervals) it is halved, and the search resumes from its best point, if
    fewer than ``rho`` of the steps since the last one made progress or if neither step nor best loss has
    changed. ``loss`` is ``"dlr"``, ``"ce"`` or ``"margin"``.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem, start, generator = _begin(x, y, targets, bounds, norm, eps, steps, loss, random_start, generator)
    check("apgd", rho=rho)
    best = _asked_at_clean(model, problem, norm)
    n = len(problem.x)
    size = torch.full((n,), 2 * eps, dtype=problem.x.dtype, device=problem.x.device)
    delta, previous = start, start
    best_delta, best_slope = delta, torch.zeros_like(delta)
    best_loss, last_loss = torch.full_like(size, torch.inf), torch.full_like(size, torch.inf)
    gained, checkpoint = torch.zeros_like(size), 0
    kept_loss, halved = best_loss.clone(), torch.ones_like(size, dtype=torch.bool)
    marks = _checkpoints(steps)
    for k in range(steps + 1):
        query, logits = best.query(problem.clip(problem.x + delta), gradient=k < steps)
        if k == steps:
            break
        value = attack_loss(problem, logits, loss)
        slope = torch.autograd.grad(value.sum(), query)[0]
        value = value.detach()
        gained = gained + (value < last_loss)
        last_loss = value
        better = value < best_loss
        best_loss = torch.where(better, value, best_loss)
        best_delta = torch.where(per_sample(better, delta), delta, best_delta)
        best_slope = torch.where(per_sample(better, delta), slope, best_slope)
        if k in marks:
            stalled = gained < rho * (k - checkpoint)
            stuck = ~halved & (best_loss >= kept_loss)
            halved, kept_loss = stalled | stuck, best_loss.clone()
            size = torch.where(halved, size / 2, size)
            back = per_sample(halved, delta)
            delta, previous = torch.where(back, best_delta, delta), torch.where(back, best_delta, previous)
            slope = torch.where(back, best_slope, slope)
            gained, checkpoint = torch.zeros_like(gained), k
        direction = unit_direction(
            slope, problem, problem.clip(problem.x + delta), noise=unit_noise(problem.x, generator)
        )
        direction = direction.sign() if norm == INF else direction
        moved = _inside(problem, delta - per_sample(size, delta) * direction, eps, norm)
        share = 0.75 if k else 1.0
        moved = _inside(
            problem, delta + share * (moved - delta) + (1 - share) * (delta - previous), eps, norm
        )
        previous, delta = delta, moved
    return best.found()


def _checkpoints(steps: int) -> set[int]:
    places, gap = [0.0, 0.22], 0.22
    while places[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        places.append(places[-1] + gap)
    return {round(place * steps) for place in places[1:] if place < 1}


def _begin(
    x: Tensor,
    y: Tensor,
    targets: Tensor | None,
    bounds: tuple[float, float],
    norm: float,
    eps: float,
    steps: int,
    loss: str,
    random_start: bool,
    generator: torch.Generator | None,
) -> tuple[Batch, Tensor, torch.Generator]:
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    check_eps(eps, norm)
    if check_norm(norm) not in (2.0, INF):
        raise UserError(f"this attack has no norm {norm:g}", hint="choose 2 or inf")
    check("pgd", loss=loss, random_start=random_start)
    generator = generator or torch.Generator().manual_seed(0)
    start = torch.zeros_like(problem.x)
    if random_start:
        drawn = torch.rand(start.shape[1:], generator=generator, dtype=start.dtype).to(start.device) * 2 - 1
        unit = drawn if norm == INF else drawn / torch.linalg.vector_norm(drawn)
        start = _inside(problem, (eps * unit).expand_as(start), eps, norm)
    return problem, start, generator


def _inside(problem: Batch, delta: Tensor, eps: float, norm: float) -> Tensor:
    low, high = problem.bounds
    radius = torch.full((len(delta),), eps, dtype=delta.dtype, device=delta.device)
    return project_boxed(delta, radius, norm, low - problem.x, high - problem.x)


def _asked_at_clean(model: nn.Module, problem: Batch, norm: float) -> BestAdversarial:
    best = BestAdversarial(model, problem, norm)
    best.query(problem.x, gradient=False)
    return best
