"""Our own minimum-norm attack for L1, L2 and Linf: a survey of classes, FMN's radius, exact projections."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from secateur.attacks.nearest import Nearest
from secateur.attacks.norms import INF, check_norm, distance, dual, per_sample, project_boxed
from secateur.attacks.problem import (
    Found,
    Problem,
    check_steps,
    cosine,
    pose,
    unit_direction,
    unit_noise,
)
from secateur.errors import UserError

STEP = {1.0: 0.5, 2.0: 1.5, INF: 1.0}
"""First step by norm: a length in L2 for L1, multiples of the radius for L2 and Linf."""
CLASSES = {1.0: 1, 2.0: 9, INF: 9}
INERTIA = {1.0: 0.0, 2.0: 0.0, INF: 0.25}
SURVEYED, SHORTLISTED = 0.4, 0.2
"""Shares of the steps that all surveyed classes, and then the best of them, are given."""
LEAST = 4
"""Steps that a survey of one class needs to say anything."""


@dataclass(frozen=True)
class Path:
    """A descent of every image towards one goal: where it stands, where it came from, its radius.

    ``reached`` [N] is the least distance at which its own goal was met, inf before that.
    """

    goal: Problem
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
    low: Tensor
    high: Tensor
    largest: Tensor
    generator: torch.Generator


def steep(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = 2.0,
    steps: int = 100,
    classes: int | None = None,
    step: float | None = None,
    decay: float = 0.01,
    inertia: float | None = None,
    gamma: float = 0.05,
    gamma_final: float = 0.001,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small perturbations with few queries.

    An untargeted descent follows the class that is nearest where it looks, and ends in its minimum when
    another class is nearer elsewhere. So 0.4 of the steps go to short descents towards each of the classes
    with the highest logits, 0.2 go on with the two or three that came nearest, and the rest with the nearest
    one, free to end in any class.

    The radius ε follows FMN (Pintor et al. 2021): a linear estimate, growing at least by 1 + γ, until the
    first success, then a factor 1 ± γ. What differs: a step is the steepest descent in the attack's own
    norm (signs for Linf, the gradient otherwise) and, for L2 and Linf, its length is a multiple of ε, so
    that it fits every image; the projection is the exact one onto the ball and the box together, where
    clipping after projecting lands strictly inside the ball and away from the nearest point; and Linf keeps
    a part of its last movement (Croce & Hein 2020). At most ``steps + 1`` forwards and ``steps`` backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 1, 2 or inf.
        steps: number of iterations, the survey's included.
        classes: how many classes are surveyed, 9 for L2 and Linf, fewer where ``steps`` do not allow four for
            each; 1, the default for L1, where it does not pay, descends at once, as a targeted attack does.
        step: the first step: a multiple of ε for L2 (1.5) and Linf (1), an L2 length for L1 (0.5).
        decay: the last step relative to the first, reached by cosine annealing.
        inertia: the share of a step taken from the previous movement: 0.25 for Linf, else 0.
        gamma: relative change of the radius at first; four times that in the survey.
        gamma_final: the same at last, by cosine annealing.
        targets: wanted classes [N] of a targeted attack.
        bounds: the box the images live in.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    problem = pose(x, y, targets, bounds)
    check_steps(steps)
    norm = check_norm(norm)
    if norm not in STEP:
        raise UserError("this attack has no norm 0", hint="sigma-zero and fmn do")
    first = STEP[norm] if step is None else step
    inertia = INERTIA[norm] if inertia is None else inertia
    classes = CLASSES[norm] if classes is None else classes
    _check_settings(first, decay, inertia, gamma, gamma_final, classes)
    x = problem.x
    ground = Ground(
        norm,
        inertia,
        gamma,
        problem.bounds[0] - x,
        problem.bounds[1] - x,
        distance(problem.reach(), norm),
        generator or torch.Generator().manual_seed(0),
    )
    nearest = Nearest(model, problem, norm)
    query, logits = nearest.ask(x.clone(), gradient=True)
    goals = [problem]
    if targets is None:
        count = min(classes, logits.shape[1] - 1, int(SURVEYED * steps) // LEAST)
        goals = rivals(problem, logits.detach(), count) if count > 1 else goals
    stages = _stages(len(goals), steps, first, decay, gamma, gamma_final)
    paths = []
    for goal in goals:
        path = Path(
            goal,
            torch.zeros_like(x),
            torch.zeros_like(x),
            nearest.gap,
            torch.full_like(nearest.gap, torch.inf),
        )
        paths.append(moved(path, ground, stages[0][1], 0, query, logits, keep_graph=len(goals) > 1))

    for number, (kept, pace) in enumerate(stages):
        if number:
            paths = shortlist(paths, kept, ground)
        if number and kept == 1:
            paths = [replace(paths[0], goal=problem)]
        for place, path in enumerate(paths):
            for k in range(0 if number else 1, pace.steps):
                query, logits = nearest.ask(problem.clip(x + path.delta), gradient=True)
                path = moved(path, ground, pace, k, query, logits)
            paths[place] = path

    nearest.ask(problem.clip(x + paths[0].delta), gradient=False)
    return nearest.found()


def rivals(problem: Problem, logits: Tensor, count: int) -> list[Problem]:
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

    targets = [path.goal.anchor for path in paths]
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
    loss = path.goal.margin(logits)
    gradient = torch.autograd.grad(loss.sum(), query, retain_graph=keep_graph)[0]
    delta = query.detach() - x
    gap, fooled = distance(delta, norm), path.goal.fooled(logits.detach())
    reached = torch.where(fooled, torch.minimum(path.reached, gap), path.reached)
    rate = cosine(*pace.gamma, k, pace.steps)
    boundary = gap + loss.detach().abs() / distance(gradient, dual(norm)).clamp_min(1e-12)
    farther = torch.maximum(boundary, path.eps * (1 + max(rate, ground.growth)))
    missed = torch.where(reached.isfinite(), path.eps * (1 + rate), farther)
    eps = torch.where(fooled, torch.minimum(path.eps * (1 - rate), reached), missed)
    eps = torch.minimum(eps, ground.largest)
    noise = unit_noise(x, ground.generator)
    direction = unit_direction(gradient, path.goal, query.detach(), noise, fooled=fooled)
    if norm == INF:
        direction = direction.sign()
    length = cosine(*pace.step, k, pace.steps)
    size = torch.full_like(eps, length) if norm == 1 else length * eps
    target = project_boxed(delta - per_sample(size, x) * direction, eps, norm, ground.low, ground.high)
    if ground.inertia:
        share = ground.inertia
        target = delta + (1 - share) * (target - delta) + share * (delta - path.previous)
        target = project_boxed(target, eps, norm, ground.low, ground.high)
    return Path(path.goal, target.detach(), delta, eps, reached)


def _stages(
    classes: int, steps: int, first: float, decay: float, gamma: float, gamma_final: float
) -> list[tuple[int, Pace]]:
    """How many paths go on, and their pace: one stage for one class, else survey, shortlist, descent."""
    if classes == 1:
        return [(1, Pace(steps, (first, decay * first), (gamma, gamma_final)))]
    each = max(LEAST, round(SURVEYED * steps / classes))
    kept = min(classes, 2 if steps < 150 else 3)
    more = max(1, round(SHORTLISTED * steps / kept))
    rest = steps - classes * each - kept * more
    return [
        (classes, Pace(each, (first, first / 3), (max(gamma, min(4 * gamma, 0.5)), gamma))),
        (kept, Pace(more, (first / 3, first / 8), (gamma, 0.4 * gamma))),
        (1, Pace(rest, (first / 8, decay * first), (0.4 * gamma, gamma_final))),
    ]


def _check_settings(
    step: float, decay: float, inertia: float, gamma: float, gamma_final: float, classes: int
) -> None:
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise UserError(f"classes is {classes!r}", hint="give a whole number of at least 1")
    if not (step > 0 and 0 < decay <= 1):
        raise UserError(f"step is {step}, decay {decay}", hint="step is positive, decay in (0, 1]")
    if not 0 <= inertia < 1:
        raise UserError(f"inertia is {inertia}", hint="give a share in [0, 1)")
    if not (0 < gamma < 1 and 0 < gamma_final < 1):
        raise UserError(f"gamma is {gamma}, gamma_final {gamma_final}", hint="both lie between 0 and 1")
