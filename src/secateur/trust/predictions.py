"""F24: does the network know these images at all? If not, its robustness on them means nothing."""

from collections import Counter

import torch
from torch import Tensor, nn

from secateur.attacks.runner.result import AttackResult
from secateur.data import Dataset
from secateur.models import predict
from secateur.stats import near_chance, wilson
from secateur.trust.audit_context import Check
from secateur.trust.normalisation import better_normalised

CAUSES = (
    "unless pruning explains it, look at the normalisation of the input, the order of the labels "
    "and the size of the images"
)

MISSED = 5
"""Images of other classes that are all missed: who finds half of them misses five in 3 % of cases."""


def knows_the_images(model: nn.Module, dataset: Dataset, result: AttackResult, passes: Counter[str]) -> Check:
    """F24: accuracy is above chance, answers do not all fall into one class, the input is normalised right.

    ``passes`` counts the forward passes of single images that the last takes.
    """
    if result.targets is None:
        # What is wrong already was not attacked: its example is the image itself.
        y = dataset.y.cpu()
        predicted = torch.where(result.correct.cpu(), y, result.classes.cpu())
    else:
        predicted = predict(model, dataset.x).cpu()
    wrong = misfit(predicted, dataset.y.cpu(), dataset.classes)
    better = better_normalised(model, dataset, result, passes)
    known = f"{result.accuracy:.1%} of {result.n} images are classified as labelled"
    sentence = "; ".join(filter(None, (wrong, better))) or known
    return Check("F24", not (wrong or better), "fail" if wrong else "warn", sentence)


def misfit(predicted: Tensor, labels: Tensor, classes: tuple[str, ...]) -> str:
    """What shows that a network and its images do not fit, in one sentence; empty where nothing does.

    Two signs count, each only if the whole 95 % interval of its share shows it, so that few images raise no
    alarm, and a third for labels that are mostly one class, where a constant answer is mostly right:

    * accuracy is ``near_chance``;
    * one class gets more of the images than half-way from its share of the labels to all of them;
    * one class gets all images, though ``MISSED`` or more have other labels.

    Args:
        predicted: classes that the network answers, int64 [N].
        labels: the right ones, int64 [N].
        classes: names of the K classes.
    """
    n, chance = len(labels), 1 / len(classes)
    right = int((predicted == labels).sum())
    if near_chance(right, n, len(classes)):
        return (
            f"only {right} of {n} images ({right / n:.1%}) are classified as labelled, where chance is "
            f"{chance:.1%}: {CAUSES}"
        )
    counts = torch.bincount(predicted, minlength=len(classes))
    top = int(counts.argmax())
    usual = int((labels == top).sum()) / n
    constant = int(counts[top]) == n and int((labels != top).sum()) >= MISSED
    if constant or wilson(int(counts[top]), n)[0] > (1 + usual) / 2:
        name = classes[top] if top < len(classes) else str(top)
        return (
            f"{int(counts[top])} of {n} images are classified as '{name}', the label of {usual:.1%}: {CAUSES}"
        )
    return ""
