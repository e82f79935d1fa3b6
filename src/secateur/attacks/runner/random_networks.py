"""Networks that draw random numbers: how they are recognised, and the draws that decide what counts.

Of a network that answers the same image differently, one lucky answer proves nothing, and among many queries
some are lucky. An outcome is what most of ``DRAWS`` answers say that had no part in the search.
"""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found
from secateur.attacks.core.losses import is_adversarial, logit_difference, reaches_goal
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.runner.batching import batch_of, in_batches
from secateur.attacks.runner.query_counter import QueryCounter
from secateur.undisturbed import same_randomness

DRAWS = 21
"""Independent answers that decide one outcome; odd, so that no vote is a tie."""
COMPARED = 8
"""Images that are asked about twice to recognise such a network."""
SAME = 1e-4
"""Difference of two answers, relative to the largest logit, that kernels may make which round by chance."""
SAID = (
    f"the network draws random numbers: an image is correct, and an example counts, where most of {DRAWS} "
    "answers to it say so"
)


@dataclass(frozen=True)
class Answer:
    """What a network says about images: whether the goal is reached, the class, whether it is the label."""

    reached: Tensor
    classes: Tensor
    correct: Tensor

    @classmethod
    def of(cls, batch: Batch, logits: Tensor) -> "Answer":
        """That of one forward, from ``logits`` [N, K]."""
        classes = logits.argmax(1)
        return cls(reaches_goal(batch, logits), classes, classes == batch.y)


@torch.no_grad()
def asked(model: nn.Module, batch: Batch, images: Tensor, *, draws: int = 1) -> Answer:
    """What ``model`` says about ``images`` [N, ...]: its answer, or what most of several ``draws`` say.

    The class is the most frequent one; where the goal is reached, the most frequent one that reaches it.
    """
    logits = model(images)
    if draws == 1:
        return Answer.of(batch, logits)
    reached, correct = torch.zeros_like(batch.y), torch.zeros_like(batch.y)
    votes = torch.zeros_like(logits)
    for draw in range(draws):
        answer = Answer.of(batch, model(images) if draw else logits)
        reached, correct = reached + answer.reached, correct + answer.correct
        votes.scatter_add_(1, answer.classes.unsqueeze(1), torch.ones_like(votes[:, :1]))
    most = 2 * reached > draws
    if batch.targets is None:
        wrong = votes.scatter(1, batch.y.unsqueeze(1), -1.0)
        votes = torch.where(most.unsqueeze(1), wrong, votes)
        return Answer(most, votes.argmax(1), 2 * correct > draws)
    return Answer(most, torch.where(most, batch.targets, votes.argmax(1)), 2 * correct > draws)


def draws_of(model: nn.Module, whole: Batch) -> int:
    """``DRAWS`` for a network that draws random numbers on the first images of ``whole``, else 1."""
    seen: list[bool] = []

    def ask(part: Tensor) -> None:
        seen.append(draws_numbers(model, batch_of(whole, part, model).x))

    first = torch.arange(min(COMPARED, len(whole.x)))
    with same_randomness():
        in_batches(first, len(first), ask)
    return DRAWS if any(seen) else 1


@torch.no_grad()
def draws_numbers(model: nn.Module, images: Tensor) -> bool:
    """Whether ``model`` takes from a global generator, or answers the same ``images`` [N, ...] differently.

    Dropout that seldom drops anything gives the same answer twice; the state of the generator tells it. A
    generator of the network's own is seen by the second answer alone.
    """
    before = _states()
    one = model(images)
    if _states() != before:
        return True
    # Answers that are not finite are refused elsewhere, and compare as equal here.
    return bool(((one - model(images)).abs() > SAME * one.abs().max()).any())


def _states() -> list[object]:
    """Those of the global generators, comparable."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    tensors = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if used else ())]
    _, words, *place = np.random.get_state()  # noqa: NPY002
    return [
        random.getstate(),
        np.asarray(words).tobytes(),
        place,
        *(each.numpy().tobytes() for each in tensors),
    ]


@torch.no_grad()
def clearest(model: nn.Module, batch: Batch, found: Found, counter: QueryCounter, *, draws: int) -> Found:
    """Of an attack of fixed size on a random network: the example that most of ``draws`` answers agree on.

    The nearest query that fooled once is the luckiest one. The example that the attack returned, its last
    query inside the ball, and the query with the lowest logit difference are asked about anew, each ``draws``
    times; all these forwards count.
    """
    most = torch.full_like(found.distance, -1.0)
    least = torch.full_like(most, torch.inf)
    adv = found.adv
    candidates = [each for each in (found.adv, counter.last, counter.deepest) if each is not None]
    for images in candidates:
        images = batch.clip(images.to(batch.x))
        votes, margin = torch.zeros_like(most), torch.zeros_like(most)
        for _ in range(draws):
            logits = model(images)
            votes += is_adversarial(batch, logits)
            margin += logit_difference(batch, logits).to(margin.dtype)
        counter.forwards.add_(draws)
        better = (votes > most) | ((votes == most) & (margin < least))
        adv = torch.where(per_sample(better, adv), images, adv)
        most, least = torch.where(better, votes, most), torch.where(better, margin, least)
    # The clean image itself is no example, however often chance has it misclassified.
    mask = (2 * most > draws) & (adv != batch.x).flatten(1).any(1)
    size = distance(adv - batch.x, counter.norm)
    return replace(
        found,
        adv=torch.where(per_sample(mask, adv), adv, batch.x),
        mask=mask,
        already_wrong=torch.zeros_like(mask),
        distance=torch.where(mask, size, torch.inf).to(found.distance.dtype),
    )
