"""Descents towards a class, side by side, and which of them go on: lines 3 to 14 of ``steep``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from secateur.attacks.core.batch import Batch, Found
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import is_adversarial, logit_difference
from secateur.attacks.core.lost import grown, hours, is_long
from secateur.attacks.core.norms import distance, dual, per_sample, project_boxed
from secateur.attacks.core.steepest import reaching
from secateur.attacks.core.steps import cosine, descent_direction, unit_noise


@dataclass(frozen=True)
class Path:
    """A descent of every image towards one goal: its perturbation, the one before, and its radius.

    ``reached`` [N] is the least distance at which its own goal was met, inf before that.
    """

    goal: Batch
    delta: Tensor
    last_delta: Tensor
    eps: Tensor
    reached: Tensor


@dataclass(frozen=True)
class Schedule:
    """How α and γ anneal over ``steps`` iterations, each from its first value to its last."""

    steps: int
    step: tuple[float, float]
    gamma: tuple[float, float]

    def at(self, k: int) -> tuple[float, float]:
        """α_k and γ_k."""
        return cosine(*self.step, k, self.steps), cosine(*self.gamma, k, self.steps)


@dataclass(frozen=True)
class Ground:
    """What all descents share: the norm, the box, the largest radius; γ by which a radius grows at least."""

    p: float
    momentum: float
    growth: float
    width: float
    low: Tensor
    high: Tensor
    largest: Tensor
    generator: Generator

    @classmethod
    def of(cls, batch: Batch, p: float, *, momentum: float, growth: float, generator: Generator) -> "Ground":
        """For the images of ``batch``."""
        (lowest, highest), (low, high) = batch.bounds, batch.limits
        largest = distance(batch.distance_to_bounds(), p)
        return cls(p, momentum, growth, highest - lowest, low - batch.x, high - batch.x, largest, generator)

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Π: onto the ball of radius ``eps`` [N] and the box."""
        return project_boxed(delta, eps, self.p, low=self.low, high=self.high)


class Watch:
    """Which images of an attack of N steps are lost (``core.lost``), and how they are found again.

    ``lost`` [N] bool are those without an example after a quarter of the queries; None before, and where
    there are none. ``radius`` [N] is that of the ball which has to be tried next, 0 once an image has an
    example; ``long`` says whether the next step crosses it. ``gamma`` is γ of the lost images.
    """

    def __init__(self, steps: int, gamma: tuple[float, float]) -> None:
        self.steps, self.rates = steps, gamma
        self.late, self.whole = hours(steps)
        self.asked = 0
        self.lost: Tensor | None = None
        self.radius = torch.zeros(())
        self.long, self.gamma = False, gamma[0]

    def look(self, best: BestAdversarial, path: Path, ground: Ground) -> None:
        """Take note of a query, at the end of ``path``."""
        self.asked += 1
        missing = best.distance.isinf() & ~best.already_wrong
        if self.asked == self.late and bool(missing.any()):
            self.lost, self.radius = missing, path.eps
        if self.lost is None:
            return
        left = self.whole - self.asked
        self.radius = torch.where(missing, grown(self.radius, ground.largest, left), 0.0)
        self.long = is_long(self.asked, self.whole)
        self.gamma = cosine(*self.rates, max(-left, 0), self.steps - self.whole)


def begin(goal: Batch, p: float) -> Path:
    """The path of ``goal`` before its first step, at the clean image."""
    zero = torch.zeros_like(goal.x)
    radius = distance(zero, p)
    return Path(goal, zero, zero, radius, torch.full_like(radius, torch.inf))


def rivals(batch: Batch, logits: Tensor, count: int) -> list[Batch]:
    """The batch targeted at each of the ``count`` classes with the highest logits besides the label."""
    others = logits.scatter(1, batch.y.unsqueeze(1), -torch.inf)
    return [replace(batch, targets=column) for column in others.topk(count, dim=1).indices.unbind(1)]


def shortlist(paths: Sequence[Path], count: int, ground: Ground) -> list[Path]:
    """Per image the ``count`` paths that met their goal nearest; those that have not, by their radius."""
    score = torch.stack(
        [torch.where(path.reached.isfinite(), path.reached, ground.largest + path.eps) for path in paths]
    )
    chosen = score.argsort(dim=0, stable=True)[:count]
    image = torch.arange(score.shape[1], device=score.device)

    def pick(row: Tensor, values: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(values))[row, image]

    return [
        Path(
            replace(paths[0].goal, targets=pick(row, (path.goal.reference_class for path in paths))),
            pick(row, (path.delta for path in paths)),
            pick(row, (path.last_delta for path in paths)),
            pick(row, (path.eps for path in paths)),
            pick(row, (path.reached for path in paths)),
        )
        for row in chosen
    ]


def descend(
    best: BestAdversarial, path: Path, ground: Ground, *, schedule: Schedule, watch: Watch, begun: int = 0
) -> Path:
    """Procedure DESCEND: lines 9 to 14, of which ``begun`` iterations are done already."""
    for k in range(begun, schedule.steps):  # line 9
        query, logits = best.query(best.batch.clip(best.batch.x + path.delta), gradient=True)
        watch.look(best, path, ground)
        path = advance(path, ground, schedule.at(k), query=query, logits=logits, watch=watch)
    return path


def advance(
    path: Path,
    ground: Ground,
    rates: tuple[float, float],
    *,
    query: Tensor,
    logits: Tensor,
    keep_graph: bool = False,
    watch: Watch | None = None,
) -> Path:
    """Lines 10 to 14: ``path`` after an iteration at α, γ = ``rates`` whose ``query`` gave ``logits``.

    ``watch`` knows the images that are lost, and what happens to them in place of lines 11 and 13.
    """
    p, x, ε = ground.p, path.goal.x, path.eps
    α, γ = rates
    loss = logit_difference(path.goal, logits)
    g = input_gradient(loss, query, keep_graph=keep_graph)  # line 10
    δ = query.detach() - x
    δ_norm, adversarial = distance(δ, p), is_adversarial(path.goal, logits.detach())
    reached = torch.where(adversarial, torch.minimum(path.reached, δ_norm), path.reached)
    # Logits may have another precision than the images.
    to_boundary = δ_norm + loss.detach().to(δ_norm.dtype).abs() / distance(g, dual(p)).clamp_min(1e-12)

    def radius(γ: float) -> Tensor:
        farther = torch.maximum(to_boundary, path.eps * (1 + max(γ, ground.growth)))
        missed = torch.where(reached.isfinite(), path.eps * (1 + γ), farther)
        return torch.where(adversarial, torch.minimum(path.eps * (1 - γ), reached), missed)  # line 11

    ε = radius(γ)
    if watch is not None and watch.lost is not None:
        ε = torch.where(watch.lost, torch.maximum(radius(watch.gamma), watch.radius), ε)
    ε = torch.minimum(ε, ground.largest)
    noise = unit_noise(x, ground.generator)
    d = descent_direction(  # line 12
        g, path.goal, query.detach(), noise=noise, p=p, is_adversarial=adversarial
    )
    length = α * (ground.width * ε).sqrt() if p == 1 else α * ε
    z = ground.project(δ - per_sample(length, x) * d, ε)  # line 13
    if ground.momentum:  # line 14
        μ = ground.momentum
        z = ground.project(δ + (1 - μ) * (z - δ) + μ * (δ - path.last_delta), ε)
    if watch is not None and watch.lost is not None and watch.long:
        whole_step = ground.project(δ + reaching(d, path.goal, ε, p=p), ε)
        z = torch.where(per_sample(watch.radius > 0, x), whole_step, z)
    return Path(path.goal, z.detach(), δ, ε, reached)


def resume(path: Path, found: Found) -> Path:
    """``path``, moved to the example that was ``found`` wherever that is nearer than its best (line 6)."""
    x, closer = path.goal.x, found.mask & (found.distance < path.reached)
    there = torch.where(per_sample(closer, x), found.adv - x, path.delta)
    return Path(
        path.goal,
        there,
        torch.where(per_sample(closer, x), there, path.last_delta),
        torch.where(closer, found.distance, path.eps),
        torch.where(closer, found.distance, path.reached),
    )
