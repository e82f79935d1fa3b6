"""Whether something simple beats the attack: random noise, or one step along the gradient.

Both are judged by a binomial test: chance alone must not condemn an attack that few images were left for.
"""

import torch
from torch import Tensor

from secateur.attacks.core.losses import reaches_goal
from secateur.attacks.core.norms import distance
from secateur.attacks.core.pixel_units import quantise
from secateur.attacks.fgsm import random_perturbation, steepest
from secateur.stats import CONFIDENCE_LEVEL, exceeds
from secateur.trust.audit_context import AuditContext
from secateur.trust.check import Check

LEAST = 32
"""Images below which the test of a single step cannot acquit: too few to show a weak attack."""
TOLERATED = 0.05
"""A share of images up to which being beaten does not condemn an attack."""


def many(k: int, n: int) -> bool:
    """Whether ``k`` of ``n`` images are significantly more than one in twenty."""
    return exceeds(k, n, TOLERATED)


def beats_noise(context: AuditContext) -> Check:
    """F14: random perturbations a little smaller than those found do not fool."""
    generator = torch.Generator().manual_seed(context.seed)
    problem, norm = context.problem, context.result.norm
    beaten = torch.zeros(len(context.index), dtype=torch.bool, device=problem.x.device)
    for _ in range(5):
        beaten |= _beaten(
            context, random_perturbation(problem, context.budget(), p=norm, generator=generator)
        )
    k, n = int(beaten.sum()), len(beaten)
    sentence = f"random noise of {_size(norm)} fools {k} of {n} images"
    return Check("F14", k == 0, "fail" if many(k, n) else "warn", sentence)


def beats_one_step(context: AuditContext) -> Check:
    """F15: one step along the gradient, a little smaller than what was found, does not fool."""
    norm = context.result.norm
    delta = steepest(context.gradient, context.problem, context.budget(), p=norm)
    return one_step(int(_beaten(context, delta).sum()), len(context.index), f"of {_size(norm)}")


def beats_one_step_of_its_size(context: AuditContext) -> Check:
    """F15 of an attack of fixed size: one step as large does not fool what the attack left standing.

    Of several sizes the one counts at which the step fools the most of such images.
    """
    result, problem, most = context.result, context.problem, 0
    if result.fell is None:
        return Check("F15", True, "fail", "the attack has no size")
    fell = result.fell[context.index].to(problem.x.device)
    for eps in (size for size in result.sizes if size > 0):
        radius = torch.full_like(problem.x.flatten(1)[:, 0], eps)
        stepped = problem.clip(problem.x + steepest(context.gradient, problem, radius, p=result.norm))
        query = quantise(stepped, context.levels, problem.bounds)
        most = max(most, int((reaches_goal(problem, context.query(query)) & (fell > eps)).sum()))
    return one_step(most, len(context.index), "of the same size")


def one_step(k: int, n: int, size: str) -> Check:
    """The verdict of F15 on ``k`` of ``n`` images that a single step of a ``size``, in words, fools.

    An attack of which at most a twentieth of all images is beaten fails with a probability of at most 5 %;
    one of which a quarter is beaten fails with more than 90 %, from 32 images on.
    """
    sentence = f"a single gradient step {size} fools {k} of {n} images"
    # Too few to acquit; what they condemn is condemned all the same.
    if n < LEAST and not many(k, n):
        return Check("F15", False, "warn", f"{sentence}: with fewer than {LEAST} the check cannot judge")
    beaten = many(k, n)
    verdict = "significantly" if beaten else "not significantly"
    test = f"{verdict} more than a twentieth (binomial test at the {1 - CONFIDENCE_LEVEL:.0%} level)"
    return Check("F15", not beaten, "fail", f"{sentence}, {test}")


def _size(norm: float) -> str:
    return "one value less than the example" if norm == 0 else "95 % of the distance"


def _beaten(context: AuditContext, delta: Tensor) -> Tensor:
    """Where ``delta`` [n, ...] fools the model and is smaller than what was found, on the same grid."""
    problem = context.problem
    query = quantise(problem.clip(problem.x + delta), context.levels, problem.bounds)
    smaller = distance(query - problem.x, context.result.norm) < context.distance
    return reaches_goal(problem, context.query(query)) & smaller
