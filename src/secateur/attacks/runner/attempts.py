"""The runs of an attack on one batch: restarts, starting points, and what a random network makes of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from secateur.attacks.core.batch import NO_GRADIENT, Batch, Found, minimum, scatter, select
from secateur.attacks.runner.bind import BoundAttack
from secateur.attacks.runner.query_counter import QueryCounter
from secateur.attacks.runner.random_networks import clearest
from secateur.attacks.runner.verification import largest_distance
from secateur.errors import UserError

AGAIN = 5
"""How often at most an attack is run again on images whose first answer happened to be wrong."""


@dataclass(frozen=True)
class Judge:
    """The random network that decides, and how many of its answers count as one."""

    model: nn.Module
    draws: int


def attempts(
    bound: BoundAttack,
    network: nn.Module,
    batch: Batch,
    *,
    seed: int,
    early_stop: bool,
    on_forward: Callable[[], None],
    judge: Judge | None = None,
) -> tuple[Found, QueryCounter]:
    """Run the attack on a batch once per restart or starting point, and add up the passes.

    The nearest example of each image counts. The first run draws from the seed itself; an attack of fixed
    size is run again only on images that are not fooled yet. On a random network its ``judge`` says which
    examples of an attack of fixed size are some.

    Raises:
        UserError: the attack needs a gradient that does not reach the images.
    """

    def begin(attempt: int, problem: Batch) -> tuple[Found, QueryCounter]:
        within = None
        if judge is not None and bound.kind != "minimum-norm":
            size = bound.settings["eps"]
            within = largest_distance(size, bound.norm, problem.x.shape[1:], problem.bounds)
        stops = early_stop and within is None
        counter = QueryCounter(
            network, problem, bound, early_stop=stops, within=within, on_forward=on_forward
        )
        generator = torch.Generator().manual_seed(seeds[attempt])
        with _gradient_expected():
            found = bound.attack(counter, problem, generator, attempt=attempt)
        if judge is not None and within is not None:
            found = clearest(judge.model, problem, found, counter, draws=judge.draws)
        return found, counter

    def settled(attempt: int, problem: Batch) -> tuple[Found, QueryCounter]:
        found, counter = begin(attempt, problem)
        # The runner attacks images that are right: on a random network one that seemed wrong is tried again.
        for _ in range(AGAIN if judge is not None else 0):
            rows = found.already_wrong.nonzero().squeeze(1)
            if not len(rows):
                break
            again, other = begin(attempt, select(problem, rows))
            counter.absorb(rows, other)
            wrong = found.already_wrong.index_copy(0, rows, again.already_wrong)
            merged = scatter(found, rows, again)
            found = Found(merged.adv, merged.mask, wrong, merged.distance)
        return found, counter

    more = torch.Generator().manual_seed(seed)
    # The first run draws from the seed itself, so that restarts only add runs to a single one.
    seeds = [seed, *torch.randint(2**62, (bound.attempts - 1,), generator=more).tolist()]
    found, counter = settled(0, batch)
    for attempt in range(1, bound.attempts):
        left = torch.ones_like(found.mask) if bound.kind == "minimum-norm" else ~found.mask
        rows = (left & ~found.already_wrong).nonzero().squeeze(1)
        if not len(rows):
            break
        again, other = settled(attempt, select(batch, rows))
        before = Found(found.adv[rows], found.mask[rows], found.already_wrong[rows], found.distance[rows])
        found = scatter(found, rows, minimum(before, again))
        counter.absorb(rows, other, nearer=True)
    return found, counter


@contextmanager
def _gradient_expected() -> Iterator[None]:
    # The graph of int8 layers, or of a backward pass of one's own, may end before it reaches the images.
    try:
        yield
    except RuntimeError as error:
        if "appears to not have been used in the graph" not in str(error):
            raise
        raise UserError("the model's logits carry no gradient to its input", hint=NO_GRADIENT) from error
