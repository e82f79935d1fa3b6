"""One attack that begins several times, with other random numbers or at other points."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from secateur.attacks.core.batch import NO_GRADIENT, Found, Problem, nearer, placed, take
from secateur.attacks.runner.bind import Call
from secateur.attacks.runner.query_counter import Counted
from secateur.errors import UserError


def attempted(
    call: Call, model: nn.Module, batch: Problem, seed: int, count: Callable[[nn.Module, Problem], Counted]
) -> tuple[Found, Counted]:
    """Call an attack on a batch as often as it begins, and add up what was counted.

    The nearest example of each image counts. The first attempt draws from ``seed``; an attack of fixed size
    begins again only for images that are not fooled yet.

    Raises:
        UserError: the attack needs a gradient that does not reach the images.
    """

    def begin(attempt: int, problem: Problem) -> tuple[Found, Counted]:
        counted = count(model, problem)
        generator = torch.Generator().manual_seed(seeds[attempt])
        with _gradient_expected():
            return call.attack(counted, problem, generator, attempt=attempt), counted

    more = torch.Generator().manual_seed(seed)
    seeds = [seed, *torch.randint(2**62, (call.attempts - 1,), generator=more).tolist()]
    found, counted = begin(0, batch)
    for attempt in range(1, call.attempts):
        left = torch.ones_like(found.mask) if call.kind == "minimum-norm" else ~found.mask
        rows = (left & ~found.already_wrong).nonzero().squeeze(1)
        if not len(rows):
            break
        again, other = begin(attempt, take(batch, rows))
        before = Found(found.adv[rows], found.mask[rows], found.already_wrong[rows], found.distance[rows])
        found = placed(found, rows, nearer(before, again))
        counted.absorb(rows, other, nearer=True)
    return found, counted


@contextmanager
def _gradient_expected() -> Iterator[None]:
    """Logits of int8 layers, or behind a backward pass of one's own, may have a graph that ends too early."""
    try:
        yield
    except RuntimeError as error:
        if "appears to not have been used in the graph" not in str(error):
            raise
        raise UserError("the model's logits carry no gradient to its input", hint=NO_GRADIENT) from error
