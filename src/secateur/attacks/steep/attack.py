"""Our own minimum-norm attack: a survey of classes, FMN's radius, exact projections, in L0 a tabu search."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, check_batch, check_steps, minimum
from secateur.attacks.core.best import TIE, BestAdversarial
from secateur.attacks.core.norms import INF, check_norm, distance
from secateur.attacks.pdpgd import pdpgd
from secateur.attacks.steep.descent import Ground, Pace, begun, moved, resumed, rivals, shortlist
from secateur.attacks.steep.l0_removal import sparser
from secateur.registry.settings import check

STEP = {1.0: 1.0, 2.0: 4.0, INF: 1.0}
"""First step by norm: multiples of the radius, in L1 of what it is in L2 where pixels cross the box."""
CLASSES = {1.0: 5, 2.0: 9, INF: 9}
INERTIA = {1.0: 0.0, 2.0: 0.0, INF: 0.25}
SURVEYED, SHORTLISTED = 0.5, 0.2
"""Shares of the steps that all surveyed classes, and then the best of them, are given."""
LEAST = 4
"""Steps that a survey of one class needs to say anything."""
FEW_CLASSES = 2
"""In L1 with few steps."""
SURVEY_FROM, OUTSIDE_FROM = 200, 600
"""Steps from which, in L1, a survey of more classes pays, and PDPGD before it."""
OUTSIDE_RATIO = 1e-3
"""Of PDPGD's weights at first: so far out that it comes back from beyond the nearest minima."""
RELAXED = 0.7
"""In L0, the share of the steps that minimise L1 first."""


def steep(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = 2.0,
    steps: int = 100,
    classes: int | None = None,
    outside: float | None = None,
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
    another class is nearer elsewhere. So half of the steps go to short descents towards each of the classes
    with the highest logits, 0.2 go on with the two or three that came best, and the rest with the nearest
    one, free to end in any class. In L1 sparse minima lie far apart, and a descent from the clean image sees
    few of them: with many steps, half of them first go to PDPGD (Matyasko & Chau 2021), which comes from
    outside, and the last descent starts from whichever found the nearer example. In L0 the first 0.7 of the
    steps minimise L1, whose minima inside the box are nearly sparse; the rest leaves out pixel after pixel.

    The radius ε follows FMN (Pintor et al. 2021): a linear estimate, growing at least by 1 + γ, until the
    first success, then a factor 1 ± γ. What differs: a step is the steepest descent in the attack's own
    norm (signs for Linf, the gradient otherwise) and its length is a multiple of ε, or in L1 of √(ε b), the
    L2 length of ε / b pixels that change by the width b of the box, so that it fits every image; the
    projection is the exact one onto the ball and the box together, where clipping after projecting lands
    strictly inside the ball and away from the nearest point; and Linf keeps a part of its last movement
    (Croce & Hein 2020). At most ``steps + 1`` forwards and ``steps`` backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, 1, 2 or inf; all settings of L0 are those of its descent in L1.
        steps: number of iterations, the survey's included.
        classes: how many classes are surveyed, 9 for L2 and Linf, 5 for L1 and 2 there below 200 steps,
            fewer where ``steps`` do not allow four for each; 1 descends at once, as a targeted attack does.
        outside: the share of the steps that PDPGD gets first, in [0, 1): 0.5 for L1 from 600 steps on,
            else 0.
        step: the first step: a multiple of ε for L2 (4) and Linf (1), of √(ε b) for L1 (1).
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
    problem = check_batch(x, y, targets, bounds)
    check_steps(steps)
    norm = check_norm(norm)
    if norm == 0:
        relaxed, queries, rest = _relaxed(steps, problem.x[0].numel())
        found = steep(
            model, x, y, norm=1.0, steps=relaxed, classes=classes, outside=outside, step=step, decay=decay,
            inertia=inertia, gamma=gamma, gamma_final=gamma_final, targets=targets, bounds=bounds,
            generator=generator,
        )  # fmt: skip
        best = BestAdversarial(model, problem, norm, already_wrong=found.already_wrong)
        return sparser(best, found, queries, rest)
    first = STEP[norm] if step is None else step
    inertia = INERTIA[norm] if inertia is None else inertia
    classes, outside = _divisions(norm, steps, classes, outside)
    _check_settings(first, decay, inertia, gamma, gamma_final)
    x = problem.x
    ground = Ground(
        norm,
        inertia,
        gamma,
        problem.bounds[1] - problem.bounds[0],
        problem.bounds[0] - x,
        problem.bounds[1] - x,
        distance(problem.distance_to_bounds(), norm),
        generator or torch.Generator().manual_seed(0),
    )
    before, steps = _divided(steps, outside)
    other = None
    if before:
        other = pdpgd(
            model, x, y, norm=norm, steps=before, ratio=OUTSIDE_RATIO, targets=targets, bounds=bounds
        )
    # The radius returns to that of the nearest example, and L0 goes on from one of those at its distance.
    best = BestAdversarial(model, problem, norm, slack=TIE * torch.finfo(x.dtype).eps if norm == 1 else 0.0)
    query, logits = best.query(x.clone(), gradient=True)
    goals = [problem]
    count = min(logits.shape[1] - 1, _surveyed(steps, classes))
    if targets is None and count > 1:
        goals = rivals(problem, logits.detach(), count)
    stages = _stages(len(goals), steps, (first, decay * first), (gamma, gamma_final), resumed=before > 0)
    paths = [
        moved(begun(goal, norm), ground, stages[0][1], 0, query, logits, keep_graph=len(goals) > 1)
        for goal in goals
    ]
    for number, (kept, pace) in enumerate(stages):
        if number:
            paths = shortlist(paths, kept, ground)
        if kept == 1:
            paths = [replace(paths[0], goal=problem)]
            paths = paths if other is None else [resumed(paths[0], other)]
        for place, path in enumerate(paths):
            for k in range(0 if number else 1, pace.steps):
                query, logits = best.query(problem.clip(x + path.delta), gradient=True)
                path = moved(path, ground, pace, k, query, logits)
            paths[place] = path

    best.query(problem.clip(x + paths[0].delta), gradient=False)
    return best.found() if other is None else minimum(best.found(), other)


def converges_from(settings: Mapping[str, Any]) -> int:
    """After how many queries the last descent starts: before, a best distance that stays says nothing.

    Args:
        settings: of ``steep``, by name.

    Raises:
        UserError: settings that it refuses.
    """
    steps = settings["steps"]
    check_steps(steps)
    if settings["norm"] == 0:
        relaxed, queries, _ = _relaxed(steps, sys.maxsize)
        return int(relaxed + queries)
    classes, outside = _divisions(settings["norm"], steps, settings["classes"], settings["outside"])
    _, own = _divided(steps, outside)
    # A model with fewer classes than are wanted divides its steps a little differently.
    counts = range(1, _surveyed(own, classes) + 1)
    last = [_stages(count, own, (1.0, 1.0), (1.0, 1.0), resumed=False)[-1][1].steps for count in counts]
    return int(steps - min(last[1:] or [own]))


def _divisions(norm: float, steps: int, classes: int | None, outside: float | None) -> tuple[int, float]:
    """How many classes are surveyed at most and the share of PDPGD, as asked for or by default."""
    if classes is None:
        classes = FEW_CLASSES if norm == 1 and steps < SURVEY_FROM else CLASSES[norm]
    if outside is None:
        outside = 0.5 if norm == 1 and steps >= OUTSIDE_FROM else 0.0
    check("steep", classes=classes, outside=outside)
    return classes, outside


def _relaxed(steps: int, pixels: int) -> tuple[int, int, int]:
    """In L0: steps of the descent in L1, forwards that halve the ``pixels`` changed, steps of the search."""
    relaxed = max(1, round(RELAXED * steps))
    queries = min(pixels.bit_length(), max(0, (steps - relaxed - 1) // 2))
    return relaxed, queries, steps - relaxed - queries - 1


def _divided(steps: int, outside: float) -> tuple[int, int]:
    """The steps of PDPGD and of our own descents: each asks once more than it steps."""
    before = min(round(outside * steps), steps - 2)
    return (before, steps - before - 1) if before > 0 else (0, steps)


def _surveyed(steps: int, classes: int) -> int:
    """How many classes ``steps`` are enough for, of ``classes`` that are wanted."""
    return max(1, min(classes, int(SURVEYED * steps) // LEAST))


def _stages(
    classes: int, steps: int, step: tuple[float, float], gamma: tuple[float, float], *, resumed: bool
) -> list[tuple[int, Pace]]:
    """How many paths go on, and their pace: one stage for one class, else survey, shortlist, descent.

    ``step`` and ``gamma`` are those of the first iteration and of the last one; what is ``resumed`` near a
    minimum has no use for the first ones.
    """
    (first, last), (most, least) = step, gamma
    descent = ((first / 8, last), (0.4 * most, least))
    if classes == 1:
        return [(1, Pace(steps, *(descent if resumed else (step, gamma))))]
    each = max(LEAST, round(SURVEYED * steps / classes))
    kept = min(classes, 2 if steps < 150 else 3)
    more = max(1, round(SHORTLISTED * steps / kept))
    return [
        (classes, Pace(each, (first, first / 3), (max(most, min(4 * most, 0.5)), most))),
        (kept, Pace(more, (first / 3, first / 8), (most, 0.4 * most))),
        (1, Pace(steps - classes * each - kept * more, *descent)),
    ]


def _check_settings(step: float, decay: float, inertia: float, gamma: float, gamma_final: float) -> None:
    check("steep", step=step, decay=decay, inertia=inertia, gamma=gamma, gamma_final=gamma_final)
