"""What `steep` is made of: descents towards a class, side by side, and which of them go on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.attacks.core.batch import Batch, Found
from secateur.attacks.core.losses import is_adversarial, logit_difference
from secateur.attacks.core.norms import INF, distance, dual, per_sample, project_boxed
from secateur.attacks.core.steps import cosine, unit_direction, unit_noise


@dataclass(frozen=True)
class Path:
    """A descent of every image towards one goal: where it stands, where it came from, its radius.

    ``reached`` [N] is the least distance at which its own goal was met, inf before that.
    """

    goal: Batch
    delta: Tensor
    previous: Tensor
    eps: Tensor
    reached: Tensor


@dataclass(frozen=True)
class Pace:
    """How step and relative change of the radius anneal over ``steps`` iterations, from first to last."""

    steps: int
    step: tuple[float, float]
    gamma: tuple[float, float]


@dataclass(frozen=True)
class Ground:
    """What all descents share: the box, the largest radius, how a radius without success grows at least."""

    norm: float
    inertia: float
    growth: float
    width: float
    low: Tensor
    high: Tensor
    largest: Tensor
    generator: torch.Generator


def begun(goal: Batch, norm: float) -> Path:
    """The path of ``goal`` before its first step, at the clean image."""
    rest = torch.zeros_like(goal.x)
    radius = distance(rest, norm)
    return Path(goal, rest, rest, radius, torch.full_like(radius, torch.inf))


def rivals(problem: Batch, logits: Tensor, count: int) -> list[Batch]:
    """The problem of reaching each of the ``count`` classes with the highest logits but the label."""
    others = logits.scatter(1, problem.y.unsqueeze(1), -torch.inf)
    return [replace(problem, targets=column) for column in others.topk(count, dim=1).indices.unbind(1)]


def shortlist(paths: Sequence[Path], count: int, ground: Ground) -> list[Path]:
    """Per image the ``count`` paths that came nearest to its goal; those that have not, by their radius."""
    score = torch.stack(
        [torch.where(path.reached.isfinite(), path.reached, ground.largest + path.eps) for path in paths]
    )
    chosen = score.argsort(dim=0, stable=True)[:count]
    image = torch.arange(score.shape[1], device=score.device)

    def pick(values: list[Tensor], row: Tensor) -> Tensor:
        return torch.stack(values)[row, image]

    targets = [path.goal.reference_class for path in paths]
    return [
        Path(
            replace(paths[0].goal, targets=pick(targets, row)),
            pick([path.delta for path in paths], row),
            pick([path.previous for path in paths], row),
            pick([path.eps for path in paths], row),
            pick([path.reached for path in paths], row),
        )
        for row in chosen
    ]


def moved(
    path: Path, ground: Ground, pace: Pace, k: int, query: Tensor, logits: Tensor, *, keep_graph: bool = False
) -> Path:
    """``path`` after iteration ``k``, which asked ``query`` and was answered ``logits``."""
    norm, x = ground.norm, path.goal.x
    loss = logit_difference(path.goal, logits)
    gradient = torch.autograd.grad(loss.sum(), query, retain_graph=keep_graph)[0]
    delta = query.detach() - x
    gap, fooled = distance(delta, norm), is_adversarial(path.goal, logits.detach())
    reached = torch.where(fooled, torch.minimum(path.reached, gap), path.reached)
    rate = cosine(*pace.gamma, k, pace.steps)
    # Logits may have another precision than the images.
    boundary = gap + loss.detach().to(gap.dtype).abs() / distance(gradient, dual(norm)).clamp_min(1e-12)
    farther = torch.maximum(boundary, path.eps * (1 + max(rate, ground.growth)))
    missed = torch.where(reached.isfinite(), path.eps * (1 + rate), farther)
    eps = torch.where(fooled, torch.minimum(path.eps * (1 - rate), reached), missed)
    eps = torch.minimum(eps, ground.largest)
    noise = unit_noise(x, ground.generator)
    direction = unit_direction(gradient, path.goal, query.detach(), noise=noise, is_adversarial=fooled)
    if norm == INF:
        direction = direction.sign()
    length = cosine(*pace.step, k, pace.steps)
    size = length * (ground.width * eps).sqrt() if norm == 1 else length * eps
    target = project_boxed(delta - per_sample(size, x) * direction, eps, norm, ground.low, ground.high)
    if ground.inertia:
        share = ground.inertia
        target = delta + (1 - share) * (target - delta) + share * (delta - path.previous)
        target = project_boxed(target, eps, norm, ground.low, ground.high)
    return Path(path.goal, target.detach(), delta, eps, reached)


def resumed(path: Path, found: Found) -> Path:
    """``path``, moved to the example that was ``found`` wherever that is nearer than what it reached."""
    x, closer = path.goal.x, found.mask & (found.distance < path.reached)
    there = torch.where(per_sample(closer, x), found.adv - x, path.delta)
    return Path(
        path.goal,
        there,
        torch.where(per_sample(closer, x), there, path.previous),
        torch.where(closer, found.distance, path.eps),
        torch.where(closer, found.distance, path.reached),
    )
