"""What `steep` does in L0: sparse examples with one pixel less, and one less again."""

import torch
from torch import Tensor

from secateur.attacks.core.batch import Found
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import distance, keep_top, per_sample

PATIENCE = 10
"""Queries for which a smaller set of pixels is improved before another one is tried."""
TENURE = 8
"""Queries for which a pixel that was left out stays out, and one that was taken in stays in."""


def sparser(best: BestAdversarial, found: Found, queries: int, steps: int) -> Found:
    """Examples of fewer pixels than those ``found``; pixels are entries of the image.

    Entries are pushed to the edge of the box, and halving finds how many of the largest suffice:
    ``queries`` forwards. Then a tabu search (Glover 1989) that ``whittle`` describes: ``steps + 1`` forwards
    and ``steps`` backwards, none if ``steps`` is negative.
    """
    x = best.batch.x
    delta = found.adv - x
    best.adv = found.adv.clone()
    best.distance = torch.where(found.mask, distance(delta, 0.0), found.distance)
    few, many = torch.zeros_like(best.distance), distance(delta, 0.0)
    edge = torch.where(delta > 0, best.batch.bounds[1] - x, best.batch.bounds[0] - x)
    for _ in range(queries):
        middle = ((few + many) / 2).floor()
        kept = torch.where(keep_top(delta, delta.abs(), middle) != 0, edge, torch.zeros_like(x))
        best.query(best.batch.clip(x + kept), gradient=False)
        few, many = (
            torch.where(best.is_adversarial, few, middle),
            torch.where(best.is_adversarial, middle, many),
        )
    whittle(best, steps)
    return best.found()


def whittle(best: BestAdversarial, steps: int) -> None:
    """Search for examples of fewer pixels from the nearest ones on.

    To first order −g δ is what a changed pixel is worth and −g e what another would gain at the edge e of
    the box. An example loses the pixel that is worth least. What no longer fools moves half way to the
    edges and swaps its least worthy pixel for the most promising one. After ``PATIENCE`` such queries
    another pixel of the last example is left out instead, the next one by worth.
    """
    problem = best.batch
    x = problem.x.flatten(1)
    low, high = problem.bounds[0] - x, problem.bounds[1] - x
    row = torch.arange(len(x), device=x.device)
    delta = best.adv.flatten(1) - x
    kept, kept_worth, fewest = delta, torch.zeros_like(x), best.distance
    idle, turn = torch.zeros_like(row), torch.zeros_like(row)
    held = torch.zeros_like(x)

    for k in range(steps + 1):
        query, logits = best.query(problem.clip((x + delta).view_as(problem.x)), gradient=k < steps)
        if k == steps:
            break
        gradient = torch.autograd.grad(logit_difference(problem, logits).sum(), query)[0].flatten(1)
        worth = -gradient * delta
        good = best.is_adversarial & (best.delta_norm <= fewest)
        kept, kept_worth = _where(good, delta, kept), _where(good, worth, kept_worth)
        fewest = torch.where(good, best.delta_norm, fewest)
        found = fewest.isfinite()
        idle, turn = torch.where(good | ~found, 0, idle + 1), torch.where(good, 0, turn)
        back = idle > PATIENCE
        idle, turn = torch.where(back, 0, idle), turn + back

        delta, worth = _where(back, kept, delta), _where(back, kept_worth, worth)
        inside = delta != 0
        edge = torch.where(gradient > 0, low, high)
        worth = worth.masked_fill(~inside, torch.inf)
        # Held pixels leave last.
        order = (worth + torch.where((held > k) & ~back.unsqueeze(1), 1e6, 0.0)).argsort(dim=1, stable=True)
        least = order[row, torch.where(back, turn % inside.sum(1).clamp_min(1), 0)]
        gain = (-gradient * edge).masked_fill(inside | (held > k), -torch.inf)
        most = gain.argmax(1)
        wanting = ~good & ~back
        swaps = wanting & (~found | (gain[row, most] > worth[row, least]))
        leaves = (good | back | swaps) & found
        delta = torch.where(wanting.unsqueeze(1) & inside, (delta + edge) / 2, delta)
        held, delta = held.clone(), delta.clone()
        delta[row, least] = torch.where(leaves, 0.0, delta[row, least])
        held[row, least] = torch.where(leaves, float(k + TENURE), held[row, least])
        delta[row, most] = torch.where(swaps, edge[row, most], delta[row, most])
        held[row, most] = torch.where(swaps, float(k + TENURE), held[row, most])
        delta = torch.minimum(torch.maximum(delta, low), high)


def _where(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(per_sample(rows, one), one, other)
