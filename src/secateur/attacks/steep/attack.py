"""``steep``, our own minimum-norm attack: a survey of classes, FMN's radius, exact projections.

::

    Algorithm 1: steep
    Input: model f, image x in the box B, label y, norm p, N steps, n classes to survey, share s of PDPGD
    Output: the nearest adversarial query

     1: if s > 0: x′ ← PDPGD(x) with sN steps; N ← the steps that are left
     2: query x; C ← the n classes with the highest logits besides y
     3: for c in C: δ_c ← DESCEND(0, c) with N / 2n steps                             (survey)
     4: C ← the 2 or 3 classes with the nearest δ_c; DESCEND(δ_c, c), 0.2 N steps     (shortlist)
     5: δ ← the nearest of these; its goal is now any class but y
     6: if x′ is nearer: δ ← x′ − x
     7: DESCEND(δ, any class but y) with the steps that are left
     8: return the nearest adversarial query

    procedure DESCEND(δ, goal) with K steps
     9: for k = 0, …, K − 1 do
    10:     query x + δ; L ← the logit difference of the goal; g ← ∇L
    11:     ε ← if adversarial: min((1 − γ_k) ε, best distance)
               else if ever adversarial: (1 + γ_k) ε
               else max(‖δ‖ + |L| / ‖g‖_q, (1 + γ) ε)                                 (FMN)
    12:     d ← sign(g) for p = inf, else g / ‖g‖₂; length ← α_k ε, for p = 1 α_k √(ε b)
    13:     z ← Π(δ − length d), Π the projection onto the p-ball of radius ε and the box
    14:     δ, δ_last ← Π(δ + (1 − μ)(z − δ) + μ (δ − δ_last)), δ                     (momentum)

    for p = 0, of values or of pixels
    15: lines 1 to 8 for p = 1 with 0.7 N steps
    16: push pixels to the edges of the box; find by halving how many of the largest suffice
    17: tabu search: leave out pixel after pixel (``l0_removal``)

b is the width of the box; 1/p + 1/q = 1. A targeted attack surveys nothing: it starts at line 7.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, minimum
from secateur.attacks.core.best import TIE, BestAdversarial
from secateur.attacks.core.norms import INF, check_norm, pooled
from secateur.attacks.pdpgd import pdpgd
from secateur.attacks.steep.descent import (
    Ground,
    Schedule,
    Watch,
    advance,
    begin,
    descend,
    resume,
    rivals,
    shortlist,
)
from secateur.attacks.steep.l0_removal import remove_pixels
from secateur.budgets import counts
from secateur.registry.settings import check

STEP = {1.0: 1.0, 2.0: 4.0, INF: 1.0}
"""First α by norm: multiples of the radius, in L1 of the L2 length where pixels cross the box."""
N_SURVEYED = {1.0: 5, 2.0: 9, INF: 9}
MOMENTUM = {1.0: 0.0, 2.0: 0.0, INF: 0.25}
SURVEY_SHARE, SHORTLIST_SHARE = 0.5, 0.2
"""Shares of the steps for all surveyed classes, and then for the best of them."""
LEAST = 4
"""Steps without which a survey of one class says nothing."""
FEW_SURVEYED = 2
"""In L1 with few steps."""
SURVEY_FROM, PDPGD_FROM = 200, 600
"""Steps from which, in L1, a survey of more classes gains, and PDPGD before it."""
PDPGD_RATIO = 1e-3
"""PDPGD's initial norm weight; small enough that the iterate first moves well past the nearest minima."""
L1_SHARE = 0.7
"""In L0, the share of the steps that minimise L1 first."""


def steep(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = 2.0,
    steps: int = 100,
    n_surveyed: int | None = None,
    pdpgd_share: float | None = None,
    step: float | None = None,
    decay: float = 0.01,
    momentum: float | None = None,
    gamma: float = 0.05,
    gamma_final: float = 0.001,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Find small perturbations with few queries, by the algorithm of this module's docstring.

    Why it is built so:

    * An untargeted descent follows the class that is nearest to its current iterate, and ends in a local
      minimum when another class is nearer elsewhere. So the steps begin with short descents towards each of
      the classes with the highest logits.
    * In L1 sparse minima lie far apart, and a descent from the clean image sees few of them. With many steps,
      PDPGD (Matyasko & Chau 2021) comes first, which approaches from outside.
    * A step is the steepest one in the attack's own norm, and its length a multiple of ε, or in L1 of √(ε b),
      the L2 length of ε / b pixels that cross the box: it fits every image.
    * Clipping after projecting lands strictly inside the ball and away from the nearest point; the projection
      onto the ball and the box together does not.
    * Gradients may promise examples that the box forbids. An image without one after a quarter of the queries
      gets a radius that grows to the whole box by half of them, and steps across it (``core.lost``).
    * The minima of L1 inside the box are nearly sparse: L0 starts from them. ``"L0-pixels"`` does too, and
      then moves, adds and leaves out pixels with all their channels.

    At most ``steps + 1`` forwards and ``steps`` backwards.

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: p: 0, 1, 2, inf or "L0-pixels"; all settings of a count are those of its descent in L1.
        steps: number of iterations, the survey's included.
        n_surveyed: n, how many classes are surveyed: 9 for L2 and Linf, 5 for L1 and 2 there below 200 steps,
            fewer where ``steps`` do not allow four for each; 1 descends at once, as a targeted attack does.
        pdpgd_share: s, the share of the steps that PDPGD gets first, in [0, 1): 0.5 for L1 from 600 steps on,
            else 0.
        step: the first α: a multiple of ε for L2 (4) and Linf (1), of √(ε b) for L1 (1).
        decay: the last α relative to the first, reached by cosine annealing.
        momentum: μ, the share of a step taken from the previous movement: 0.25 for Linf, else 0.
        gamma: γ, relative change of the radius at first; four times that in the survey.
        gamma_final: the same at last, by cosine annealing.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: draws the direction where a gradient is exactly zero; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import steep
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> x, y = torch.tensor([[0.2, 0.2]]), torch.tensor([0])
    >>> [round(steep(model, x, y, norm=p, steps=40).distance.item(), 2) for p in (0, 1, 2, float("inf"))]
    [1.0, 0.6, 0.42, 0.3]
    """
    batch = check_batch(x, y, targets, bounds)
    check("steep", steps=steps)
    p = check_norm(norm)
    q = 1.0 if counts(p) else p
    own, halvings, removals = _l0_steps(steps, pooled(batch.x[:1], p).numel()) if counts(p) else (steps, 0, 0)
    first = STEP[q] if step is None else step
    momentum = MOMENTUM[q] if momentum is None else momentum
    n_surveyed, pdpgd_share = _defaults(q, own, n_surveyed=n_surveyed, pdpgd_share=pdpgd_share)
    check("steep", step=first, decay=decay, momentum=momentum, gamma=gamma, gamma_final=gamma_final)
    settings = Settings(own, n_surveyed, pdpgd_share, (first, decay * first), (gamma, gamma_final))
    generator = generator or torch.Generator().manual_seed(0)
    ground = Ground.of(batch, q, momentum=momentum, growth=gamma, generator=generator)
    found = _minimise(model, batch, settings, ground=ground)  # lines 1 to 8, or 15
    if not counts(p):
        return found
    best = BestAdversarial(model, batch, p, already_wrong=found.already_wrong)
    return remove_pixels(best, found, halvings=halvings, steps=removals)  # lines 16 and 17


@dataclass(frozen=True)
class Settings:
    """How lines 1 to 8 spend their steps; ``step`` and ``gamma`` are first and last values."""

    steps: int
    n_surveyed: int
    pdpgd_share: float
    step: tuple[float, float]
    gamma: tuple[float, float]

    @property
    def survey_gamma(self) -> float:
        """γ of the survey, in which radii change fast."""
        most = self.gamma[0]
        return max(most, min(4 * most, 0.5))


def _minimise(model: nn.Module, batch: Batch, settings: Settings, *, ground: Ground) -> Found:
    """Lines 1 to 8."""
    x, p = batch.x, ground.p
    before, steps = _split(settings.steps, settings.pdpgd_share)
    from_pdpgd = None
    if before:  # line 1
        from_pdpgd = pdpgd(
            model, x, batch.y, norm=p, steps=before, dual_ratio_init=PDPGD_RATIO, targets=batch.targets,
            bounds=batch.bounds,
        )  # fmt: skip
    # The radius returns to that of the nearest example, and L0 goes on from one of those at its distance.
    best = BestAdversarial(model, batch, p, slack=TIE * torch.finfo(x.dtype).eps if p == 1 else 0.0)
    query, logits = best.query(x.clone(), gradient=True)  # line 2
    goals = [batch]
    count = min(logits.shape[1] - 1, _affordable(steps, settings.n_surveyed))
    if batch.targets is None and count > 1:
        goals = rivals(batch, logits.detach(), count)
    stages = _stages(len(goals), replace(settings, steps=steps), resumed=before > 0)
    several = len(goals) > 1
    # The query of the clean image is the first one of every descent.
    rates = stages[0][1].at(0)
    paths = [
        advance(begin(goal, p), ground, rates, query=query, logits=logits, keep_graph=several)
        for goal in goals
    ]
    watch = Watch(steps, (settings.survey_gamma, settings.gamma[1]))
    for number, (kept, schedule) in enumerate(stages):
        if number:  # lines 4 and 5
            paths = shortlist(paths, kept, ground)
        if kept == 1:
            paths = [replace(paths[0], goal=batch)]
            if from_pdpgd is not None:  # line 6
                paths = [resume(paths[0], from_pdpgd)]
            if watch.lost is not None:
                there = best.found()
                paths = [resume(paths[0], replace(there, mask=there.mask & watch.lost))]
        begun = 0 if number else 1
        paths = [
            descend(best, path, ground, schedule=schedule, watch=watch, begun=begun) for path in paths
        ]  # 3, 4, 7

    best.query(batch.clip(x + paths[0].delta), gradient=False)
    return best.found() if from_pdpgd is None else minimum(best.found(), from_pdpgd)  # line 8


def converges_from(settings: Mapping[str, Any]) -> int:
    """After how many queries the last descent starts; before, a best distance that stays says nothing.

    Args:
        settings: of ``steep``, by name.

    Raises:
        UserError: settings that it refuses.
    """
    steps = settings["steps"]
    check("steep", steps=steps)
    if counts(settings["norm"]):
        l1_steps, halvings, _ = _l0_steps(steps, sys.maxsize)
        return int(l1_steps + halvings)
    n_surveyed, share = _defaults(
        settings["norm"], steps, n_surveyed=settings["n_surveyed"], pdpgd_share=settings["pdpgd_share"]
    )
    _, own = _split(steps, share)
    # A model with fewer classes than are wanted divides its steps a little differently.
    possible = range(1, _affordable(own, n_surveyed) + 1)
    plain = Settings(own, n_surveyed, share, (1.0, 1.0), (1.0, 1.0))
    last = [_stages(count, plain, resumed=False)[-1][1].steps for count in possible]
    return int(steps - min(last[1:] or [own]))


def _defaults(
    p: float, steps: int, *, n_surveyed: int | None, pdpgd_share: float | None
) -> tuple[int, float]:
    """How many classes are surveyed at most and the share of PDPGD, as given or by default."""
    if n_surveyed is None:
        n_surveyed = FEW_SURVEYED if p == 1 and steps < SURVEY_FROM else N_SURVEYED[p]
    if pdpgd_share is None:
        pdpgd_share = 0.5 if p == 1 and steps >= PDPGD_FROM else 0.0
    check("steep", n_surveyed=n_surveyed, pdpgd_share=pdpgd_share)
    return n_surveyed, pdpgd_share


def _l0_steps(steps: int, pixels: int) -> tuple[int, int, int]:
    """In L0: steps of the descent in L1, forwards that halve the ``pixels`` changed, steps of the search."""
    l1_steps = max(1, round(L1_SHARE * steps))
    halvings = min(pixels.bit_length(), max(0, (steps - l1_steps - 1) // 2))
    return l1_steps, halvings, steps - l1_steps - halvings - 1


def _split(steps: int, share: float) -> tuple[int, int]:
    """The steps of PDPGD and of our own descents: each makes one query more than it steps."""
    before = min(round(share * steps), steps - 2)
    return (before, steps - before - 1) if before > 0 else (0, steps)


def _affordable(steps: int, wanted: int) -> int:
    """How many of the ``wanted`` classes ``steps`` are enough for."""
    return max(1, min(wanted, int(SURVEY_SHARE * steps) // LEAST))


def _stages(classes: int, settings: Settings, *, resumed: bool) -> list[tuple[int, Schedule]]:
    """How many paths go on, and their schedule: one stage for one class, else lines 3, 4 and 7.

    A descent that is ``resumed`` near a minimum has no use for the first, long steps.
    """
    (first, last), (most, least), steps = settings.step, settings.gamma, settings.steps
    descent = ((first / 8, last), (0.4 * most, least))
    if classes == 1:
        return [(1, Schedule(steps, *(descent if resumed else (settings.step, settings.gamma))))]
    each = max(LEAST, round(SURVEY_SHARE * steps / classes))
    kept = min(classes, 2 if steps < 150 else 3)
    more = max(1, round(SHORTLIST_SHARE * steps / kept))
    return [
        (classes, Schedule(each, (first, first / 3), (settings.survey_gamma, most))),
        (kept, Schedule(more, (first / 3, first / 8), (most, 0.4 * most))),
        (1, Schedule(steps - classes * each - kept * more, *descent)),
    ]
