"""Baselines that an attack must beat: random noise, and one step along the gradient.

A binomial test decides, so that chance alone fails no attack that left few images.
"""

import torch
from torch import Tensor

from secateur.attacks.core.losses import reaches_goal
from secateur.attacks.core.norms import distance
from secateur.attacks.core.pixel_units import quantise
from secateur.attacks.core.steepest import steepest
from secateur.attacks.fgsm import random_perturbation
from secateur.budgets import L0_PIXELS, counts
from secateur.stats import CONFIDENCE_LEVEL, exceeds
from secateur.trust.audit_context import AuditContext
from secateur.trust.check import Check

LEAST = 32
"""Fewest images for the single step to pass: fewer cannot show that an attack is weak."""
TOLERATED = 0.05
"""The share of images on which a baseline may win without failing the attack."""


def many(k: int, n: int) -> bool:
    """Whether ``k`` of ``n`` images are significantly more than one in twenty."""
    return exceeds(k, n, TOLERATED)


def beats_noise(context: AuditContext) -> Check:
    """F14: random perturbations a little smaller than those found do not fool."""
    generator = torch.Generator().manual_seed(context.seed)
    batch, norm = context.batch, context.result.norm
    beaten = torch.zeros(len(context.index), dtype=torch.bool, device=batch.x.device)
    # Five draws: a single one rarely shows that noise of this size fools.
    for _ in range(5):
        beaten |= _beaten(context, random_perturbation(batch, context.budget(), p=norm, generator=generator))
    k, n = int(beaten.sum()), len(beaten)
    sentence = f"random noise of {_size(norm)} fools {k} of {n} images"
    return Check("F14", k == 0, "fail" if many(k, n) else "warn", sentence)


def beats_one_step(context: AuditContext) -> Check:
    """F15: one step along the gradient, a little smaller than what was found, does not fool."""
    norm = context.result.norm
    delta = steepest(context.gradient, context.batch, context.budget(), p=norm)
    return one_step(int(_beaten(context, delta).sum()), len(context.index), f"of {_size(norm)}")


def beats_one_step_of_its_size(context: AuditContext) -> Check:
    """F15 of an attack of fixed size: one step as large does not fool what the attack left standing.

    Of several sizes, the one with the most such images counts.
    """
    result, batch, most = context.result, context.batch, 0
    if result.fell is None:
        return Check("F15", True, "fail", "the attack has no size")
    fell = result.fell[context.index].to(batch.x.device)
    for eps in (size for size in result.sizes if size > 0):
        radius = torch.full_like(batch.x.flatten(1)[:, 0], eps)
        stepped = batch.clip(batch.x + steepest(context.gradient, batch, radius, p=result.norm))
        query = batch.keep(quantise(stepped, context.levels, batch.bounds))
        most = max(most, int((reaches_goal(batch, context.query(query)) & (fell > eps)).sum()))
    return one_step(most, len(context.index), "of the same size")


def one_step(k: int, n: int, size: str) -> Check:
    """F15 where a single step of a ``size``, in words, fools ``k`` of ``n`` images.

    If the step wins on at most a twentieth of all images, the check fails with a probability of at most 5 %;
    if it wins on a quarter, with more than 90 % from 32 images on.
    """
    sentence = f"a single gradient step {size} fools {k} of {n} images"
    # Too few images to pass, but a significant failure counts all the same.
    if n < LEAST and not many(k, n):
        return Check("F15", False, "warn", f"{sentence}: with fewer than {LEAST} the check cannot judge")
    beaten = many(k, n)
    verdict = "significantly" if beaten else "not significantly"
    test = f"{verdict} more than a twentieth (binomial test at the {1 - CONFIDENCE_LEVEL:.0%} level)"
    return Check("F15", not beaten, "fail", f"{sentence}, {test}")


def _size(norm: float) -> str:
    if not counts(norm):
        return "95 % of the distance"
    return f"one {'pixel' if norm == L0_PIXELS else 'value'} less than the example"


def _beaten(context: AuditContext, delta: Tensor) -> Tensor:
    """Where ``delta`` [n, ...] fools the model and is smaller than what was found, on the same grid."""
    batch = context.batch
    query = batch.keep(quantise(batch.clip(batch.x + delta), context.levels, batch.bounds))
    smaller = distance(query - batch.x, context.result.norm) < context.distance
    return reaches_goal(batch, context.query(query)) & smaller
