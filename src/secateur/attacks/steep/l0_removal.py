"""Sparse examples with one pixel less, and one less again: lines 16 and 17 of ``steep``."""

import torch
from torch import Tensor

from secateur.attacks.core.batch import Found
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import by_place, distance, keep_top, per_sample

PATIENCE = 10
"""Queries for which a smaller set of pixels is improved before another one is tried."""
TENURE = 8
"""Queries for which a pixel that was left out stays out, and one that was added stays in."""


def remove_pixels(best: BestAdversarial, found: Found, *, halvings: int, steps: int) -> Found:
    """Examples of fewer pixels than those ``found``; a pixel is an entry, or under ``L0_PIXELS`` a place.

    Entries are pushed to the edge of the box, and halving finds how many of the largest suffice:
    ``halvings`` forwards. Then ``tabu_search``: ``steps + 1`` forwards and ``steps`` backwards, none if
    ``steps`` is negative.
    """
    batch, p = best.batch, best.p
    x = batch.x
    delta = found.adv - x
    best.adv = found.adv.clone()
    best.distance = torch.where(found.mask, distance(delta, p), found.distance)
    few, many = torch.zeros_like(best.distance), distance(delta, p)
    edge = torch.where(delta > 0, batch.limits[1] - x, batch.limits[0] - x)
    for _ in range(halvings):  # line 16
        middle = ((few + many) / 2).floor()
        kept = torch.where(keep_top(delta, delta.abs(), middle, p=p) != 0, edge, torch.zeros_like(x))
        best.query(batch.clip(x + kept), gradient=False)
        fooled = best.is_adversarial
        few, many = torch.where(fooled, few, middle), torch.where(fooled, middle, many)
    tabu_search(best, steps)  # line 17
    return best.found()


def tabu_search(best: BestAdversarial, steps: int) -> None:
    """Search for examples of fewer pixels, from the nearest ones on (tabu search, Glover 1989).

    To first order −g δ is the gain of a changed pixel, and −g e what another would gain at the edge e of the
    box, summed over its channels. An example loses the pixel of least gain. One that no longer fools moves
    half way to the edges and swaps its least pixel for the most promising one. After ``PATIENCE`` such
    queries another pixel of the last example is left out instead, the next one by gain.
    """
    batch, p = best.batch, best.p
    x = _places(batch.x, p)
    low, high = (_places(limit - batch.x, p) for limit in batch.limits)
    row = torch.arange(len(x), device=x.device)
    delta = _places(best.adv, p) - x
    kept, kept_gain, fewest = delta, torch.zeros_like(x[:, 0]), best.distance
    idle, turn = torch.zeros_like(row), torch.zeros_like(row)
    tabu_until = torch.zeros_like(kept_gain)

    for k in range(steps + 1):
        query, logits = best.query(batch.clip((x + delta).view_as(batch.x)), gradient=k < steps)
        if k == steps:
            break
        gradient = _places(input_gradient(logit_difference(batch, logits), query), p)
        gain = (-gradient * delta).sum(1)
        good = best.is_adversarial & (best.delta_norm <= fewest)
        kept, kept_gain = _where(good, delta, kept), _where(good, gain, kept_gain)
        fewest = torch.where(good, best.delta_norm, fewest)
        found = fewest.isfinite()
        idle, turn = torch.where(good | ~found, 0, idle + 1), torch.where(good, 0, turn)
        back = idle > PATIENCE
        idle, turn = torch.where(back, 0, idle), turn + back

        delta, gain = _where(back, kept, delta), _where(back, kept_gain, gain)
        changed, tabu = (delta != 0).any(1), tabu_until > k
        edge = torch.where(gradient > 0, low, high)
        gain = gain.masked_fill(~changed, torch.inf)
        # Tabu pixels leave last: 1e6 is more than any gain.
        order = (gain + torch.where(tabu & ~back.unsqueeze(1), 1e6, 0.0)).argsort(dim=1, stable=True)
        least = order[row, torch.where(back, turn % changed.sum(1).clamp_min(1), 0)]
        promise = (-gradient * edge).sum(1).masked_fill(changed | tabu, -torch.inf)
        most = promise.argmax(1)
        wanting = ~good & ~back
        swaps = wanting & (~found | (promise[row, most] > gain[row, least]))
        leaves = (good | back | swaps) & found
        moving = (wanting.unsqueeze(1) & changed).unsqueeze(1)
        delta = torch.where(moving, (delta + edge) / 2, delta)
        tabu_until, delta = tabu_until.clone(), delta.clone()
        delta[row, :, least] = _where(leaves, torch.zeros_like(delta[:, :, 0]), delta[row, :, least])
        tabu_until[row, least] = torch.where(leaves, float(k + TENURE), tabu_until[row, least])
        delta[row, :, most] = _where(swaps, edge[row, :, most], delta[row, :, most])
        tabu_until[row, most] = torch.where(swaps, float(k + TENURE), tabu_until[row, most])
        delta = torch.minimum(torch.maximum(delta, low), high)


def _places(values: Tensor, p: float) -> Tensor:
    """``values`` [N, ...] as [N, C, P]: what is counted, and the channels of each; one where values count."""
    return values.flatten(2) if by_place(values, p) else values.flatten(1).unsqueeze(1)


def _where(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(per_sample(rows, one), one, other)
