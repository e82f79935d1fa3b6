"""What counts as found: what fools the untouched model. What a faster search claimed in vain is mended."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, Problem, placed, take
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.ddn import quantise
from secateur.attacks.runner.query_counter import Counted

PUSHES = (1.001, 1.003, 1.01, 1.03, 1.1, 1.3)
"""Factors by which a perturbation that fools a rounded model only is lengthened, until it fools."""

Attack = Callable[[Problem], tuple[Found, Counted]]


@torch.no_grad()
def verified(model: nn.Module, batch: Problem, found: Found) -> tuple[Tensor, Tensor]:
    """Whether the examples meet the goal on ``model`` [N], and the classes it gives them [N]."""
    logits: Tensor = model(batch.clip(found.adv))
    return batch.met(logits), logits.argmax(1)


def mend(
    model: nn.Module,
    batch: Problem,
    found: Found,
    counted: Counted,
    lost: Tensor,
    *,
    norm: float,
    levels: int | None,
    minimum: bool,
    attack: Attack,
) -> Found:
    """Replace the examples of ``lost`` [N], which fooled the faster model only.

    First they are pushed outwards (by attacks that look for the smallest perturbation, or else the size
    would be exceeded); what that does not mend is attacked again on the untouched model, as if there had
    been no faster one. Passes are added to ``counted``.
    """
    if minimum:
        found = _pushed(model, batch, found, counted, lost, norm=norm, levels=levels)
        lost = lost & ~verified(model, batch, found)[0]
    rows = lost.nonzero().squeeze(1)
    if not len(rows):
        return found
    again, other = attack(take(batch, rows))
    counted.absorb(rows, other)
    return placed(found, rows, again)


@torch.no_grad()
def _pushed(
    model: nn.Module,
    batch: Problem,
    found: Found,
    counted: Counted,
    lost: Tensor,
    *,
    norm: float,
    levels: int | None,
) -> Found:
    rows = lost.nonzero().squeeze(1)
    part = take(batch, rows)
    delta = found.adv[rows] - part.x
    adv, open_ = found.adv[rows].clone(), torch.ones_like(rows, dtype=torch.bool)
    for push in PUSHES:
        trial = quantise(part.clip(part.x + push * delta), levels, part.bounds)
        fools = part.fooled(model(trial)) & open_
        counted.forwards[rows] += open_
        adv = torch.where(per_sample(fools, adv), trial, adv)
        open_ = open_ & ~fools
    reached = distance(adv - part.x, norm)
    for key, best in counted.best.items():
        # The untouched model was fooled by no earlier query that we know of.
        best[rows] = torch.where(open_, torch.inf, distance(adv - part.x, key)).to(best.dtype)
    return Found(
        found.adv.index_copy(0, rows, adv),
        found.mask,
        found.already_wrong,
        found.distance.index_copy(0, rows, reached.to(found.distance.dtype)),
    )
