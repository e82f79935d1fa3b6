"""Enter what a batch gave into the result of the whole attack."""

import torch
from torch import Tensor

from secateur.attacks.core.batch import Batch, Found
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.runner.bind import BoundAttack
from secateur.attacks.runner.query_counter import QueryCounter
from secateur.attacks.runner.random_networks import Answer
from secateur.attacks.runner.result import AttackResult
from secateur.attacks.runner.verification import largest_distance
from secateur.budgets import recorded


def enter_clean(result: AttackResult, part: Tensor, answer: Answer) -> None:
    """Enter the clean predictions of the images ``part``."""
    wrong = answer.reached.cpu()
    result.correct[part] = answer.correct.cpu()
    result.ori_success[part] = wrong
    result.adv_success[part] = wrong
    result.classes[part] = answer.classes.cpu()
    columns = (*result.distances.values(), *result.best_optim_distances.values(), result.halfway, result.late)
    for column in columns:
        column[part] = torch.where(wrong, 0.0, torch.inf).double()


def enter_found(
    result: AttackResult,
    bound: BoundAttack,
    part: Tensor,
    batch: Batch,
    found: Found,
    counter: QueryCounter,
    *,
    verified: Tensor,
    classes: Tensor,
    samples: int = 1,
    draws: int = 1,
) -> None:
    """Enter what an attack found for the images ``part``, as far as it was ``verified`` [N].

    An image comes again where an attack of several sizes did not find it: passes add up. At a size,
    ``bound.settings["eps"]``, an example that lies farther is no success. A query asks the network
    ``samples`` times. Where several ``draws`` decide, a query that fooled once is no example.
    """
    low, high = batch.limits
    adv = batch.clip(found.adv)
    # In float64, so that rounding does not push an example of exactly ε beyond its size.
    delta = adv.double() - batch.x.double()
    result.box_failures[part] |= ((found.adv < low) | (found.adv > high)).flatten(1).any(1).cpu()
    mask = found.mask & verified
    if bound.sizes and result.fell is not None and result.oversized is not None:
        size = bound.settings["eps"]
        limit = largest_distance(size, bound.norm, batch.x.shape[1:], batch.bounds)
        inside = distance(delta, bound.norm) <= limit
        result.oversized[part] |= (mask & ~inside).cpu()
        mask = mask & inside
        fell = torch.full(mask.shape, size, dtype=torch.float64, device=mask.device)
        result.fell[part] = torch.where(mask, fell, torch.inf).cpu()
    result.adv_success[part] = mask.cpu()
    result.unverified[part] |= (found.mask & ~verified).cpu()
    result.classes[part] = torch.where(mask.cpu(), classes.cpu(), result.classes[part])
    result.forwards[part] += samples * counter.forwards.cpu()
    result.backwards[part] += samples * counter.backwards.cpu()
    for norm, key in recorded(bound.norm).items():
        reached = torch.where(mask, distance(delta, norm), torch.inf)
        result.distances[key][part] = reached.cpu()
        best = (reached if draws > 1 else torch.minimum(reached, counter.best[norm].double())).cpu()
        column = result.best_optim_distances[key]
        column[part] = torch.minimum(column[part], best)
    for column, snapshot in ((result.halfway, counter.halfway), (result.late, counter.late)):
        column[part] = torch.inf if snapshot is None else snapshot.double().cpu()
    kept = torch.where(per_sample(mask, adv), adv, batch.x)
    result.adv[part] = kept.to("cpu", result.adv.dtype)
