"""Verify results on the original model; re-attack images that only fooled the accelerated copy."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, scatter, select
from secateur.attacks.core.losses import is_adversarial
from secateur.attacks.core.norms import INF, distance, per_sample
from secateur.attacks.core.pixel_units import quantise
from secateur.attacks.runner.query_counter import QueryCounter
from secateur.attacks.runner.random_networks import asked
from secateur.budgets import L0_PIXELS

PUSHES = (1.001, 1.003, 1.01, 1.03, 1.1, 1.3)
"""Factors by which a perturbation that only fools the accelerated copy is lengthened, until it fools."""
ROUNDS = 6
"""How often at most an example on a random network is lengthened until fresh random numbers agree."""
SLACK = 1e-6
"""By which an example may exceed its size, relative to it, beyond the rounding of its pixels."""

Attack = Callable[[Batch], tuple[Found, QueryCounter]]


@torch.no_grad()
def verify(model: nn.Module, batch: Batch, found: Found, *, draws: int = 1) -> tuple[Tensor, Tensor]:
    """Whether the examples reach the goal on ``model`` [N], and the classes it gives them [N].

    Of a random network most of ``draws`` answers decide.
    """
    answer = asked(model, batch, batch.clip(found.adv), draws=draws)
    return answer.reached, answer.classes


def stored(adv: Tensor) -> Tensor:
    """Examples as the result keeps them: in float32, whatever the network computes in."""
    return adv.float().to(adv.dtype)


def reverify(
    model: nn.Module,
    batch: Batch,
    found: Found,
    counter: QueryCounter,
    lost: Tensor,
    *,
    norm: float,
    levels: int | None,
    minimum: bool,
    attack: Attack,
) -> Found:
    """Replace the examples of ``lost`` [N], which fooled the accelerated copy only, or only unrounded.

    Minimum-norm perturbations are first lengthened a little; at a fixed size that would exceed the size. The
    images that still do not fool are attacked again on the original model. Passes are added to ``counter``.
    """
    if minimum:
        found = _lengthened(model, batch, found, counter, lost, norm=norm, levels=levels)
        lost = lost & ~verify(model, batch, found)[0]
    rows = lost.nonzero().squeeze(1)
    if not len(rows):
        return found
    again, other = attack(select(batch, rows))
    counter.absorb(rows, other)
    return scatter(found, rows, again)


def reverify_random(
    model: nn.Module,
    batch: Batch,
    found: Found,
    counter: QueryCounter,
    verified: Tensor,
    *,
    classes: Tensor,
    norm: float,
    levels: int | None,
    draws: int,
) -> tuple[Found, Tensor, Tensor]:
    """Examples on a random ``model`` that are ``verified`` [N], and the ``classes`` [N] it gives them.

    The nearest example lies where the mean logits are equal, and fresh random numbers decide every second
    time against it. Such perturbations are lengthened a little, up to ``ROUNDS`` times.
    """
    for _ in range(ROUNDS):
        lost = found.mask & ~verified
        if not bool(lost.any()):
            break
        found = _lengthened(model, batch, found, counter, lost, norm=norm, levels=levels, draws=draws)
        again, seen = verify(model, batch, found, draws=draws)
        # What was verified once is not asked again: chance would decide against some of it.
        verified, classes = verified | (lost & again), torch.where(lost, seen, classes)
    return found, verified, classes


def largest_distance(eps: float, norm: float, shape: Sequence[int], bounds: tuple[float, float]) -> float:
    """The largest distance, computed in float64, of an example within ``eps``.

    Images are float32. A perturbation of exactly ε is rounded when it is added to a pixel, at most twice by
    half a unit in the last place of the largest value.

    Args:
        eps: the size.
        norm: 0, 1, 2, inf or ``L0_PIXELS``.
        shape: of one image.
        bounds: of its pixels.
    """
    each = torch.finfo(torch.float32).eps * max(abs(bound) for bound in bounds)
    values = float(math.prod(shape))
    count = {0.0: 0.0, 1.0: values, 2.0: math.sqrt(values), INF: 1.0, L0_PIXELS: 0.0}[norm]
    return eps * (1 + SLACK) + count * each


@torch.no_grad()
def _lengthened(
    model: nn.Module,
    batch: Batch,
    found: Found,
    counter: QueryCounter,
    lost: Tensor,
    *,
    norm: float,
    levels: int | None,
    draws: int = 1,
) -> Found:
    rows = lost.nonzero().squeeze(1)
    part = select(batch, rows)
    delta = found.adv[rows] - part.x
    adv, open_ = found.adv[rows].clone(), torch.ones_like(rows, dtype=torch.bool)
    for push in PUSHES:
        trial = stored(part.keep(quantise(part.clip(part.x + push * delta), levels, part.bounds)))
        if draws == 1:
            fools = is_adversarial(part, model(trial)) & open_
        else:
            fools = asked(model, part, trial, draws=draws).reached & open_
        counter.forwards[rows] += draws * open_
        adv = torch.where(per_sample(fools, adv), trial, adv)
        open_ = open_ & ~fools
    reached = distance(adv - part.x, norm)
    for key, best in counter.best.items():
        # No earlier query is known to have fooled the original model.
        best[rows] = torch.where(open_, torch.inf, distance(adv - part.x, key)).to(best.dtype)
    return Found(
        found.adv.index_copy(0, rows, adv),
        found.mask,
        found.already_wrong,
        found.distance.index_copy(0, rows, reached.to(found.distance.dtype)),
    )
