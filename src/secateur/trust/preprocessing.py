"""F24: do network and images fit: the normalisation, the order of the labels, the size of the images?

If not, robustness on these images says nothing.
"""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from secateur.attacks.runner.classifier import Classifier
from secateur.attacks.runner.result import AttackResult
from secateur.data import Dataset
from secateur.models import Statistics, place_of, predict, statistics
from secateur.models.normalisation import unwrapped
from secateur.stats import near_chance, sign_test, wilson
from secateur.trust.check import Check

CAUSES = (
    "unless pruning explains it, look at the normalisation of the input, the order of the labels "
    "and the size of the images"
)

MISSED = 5
"""Images of other classes, all misclassified: a network that is right on half misses five in 3 % of cases."""
GOOD = 0.9
"""Clean accuracy above which no other normalisation is tried."""
SAMPLE, LEAST = 64, 30
"""Images that are classified, and the fewest images for a trial."""
SURE = 1e-3
"""Largest p of the sign test; small because several normalisations are tried."""
USUAL: dict[int, tuple[Statistics, ...]] = {
    1: (((0.5,), (0.5,)), ((0.449,), (0.226,)), ((0.1307,), (0.3081,)), ((0.0,), (1 / 255,))),
    3: (
        ((0.5,), (0.5,)),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
        ((0.0,), (1 / 255,)),
    ),
}
"""Usual means and deviations by number of channels: 0.5; ImageNet; MNIST or CIFAR-10; pixels in [0, 255]."""


def knows_the_images(model: nn.Module, dataset: Dataset, result: AttackResult, passes: Counter[str]) -> Check:
    """F24: accuracy is above chance, predictions are not all one class, the input is normalised right.

    ``passes`` counts the forward passes of single images that the last of these takes.
    """
    if result.targets is None:
        # An image that was wrong already was not attacked: its class is that of the clean image.
        y = dataset.y.cpu()
        predicted = torch.where(result.correct.cpu(), y, result.classes.cpu())
    else:
        predicted = predict(model, dataset.x).cpu()
    wrong = misfit(predicted, dataset.y.cpu(), dataset.classes)
    better = better_normalised(model, dataset, result, passes)
    return of_evidence(wrong, better, result)


def of_evidence(wrong: str, better: str, result: AttackResult) -> Check:
    """F24 from what :func:`misfit` and :func:`better_normalised` have found."""
    known = f"{result.accuracy:.1%} of {result.n} images are classified as labelled"
    sentence = "; ".join(filter(None, (wrong, better))) or known
    return Check("F24", not (wrong or better), "fail" if wrong else "warn", sentence)


def misfit(predicted: Tensor, labels: Tensor, classes: tuple[str, ...]) -> str:
    """Evidence that a network and its images do not fit, in one sentence; empty if there is none.

    There are three signs; the first two need the whole 95 % interval of a share, so that few images raise no
    alarm, and the third is for labels that are mostly one class, where a constant prediction is mostly right:

    * accuracy is ``near_chance``;
    * one class is predicted for more images than half-way from its share of the labels to all of them;
    * one class is predicted for all images, though ``MISSED`` or more have other labels.

    Args:
        predicted: classes that the network predicts, int64 [N].
        labels: the right classes, int64 [N].
        classes: names of the K classes.

    >>> labels = torch.arange(100) % 4
    >>> misfit(labels, labels, ("a", "b", "c", "d"))
    ''
    >>> misfit(torch.zeros(100, dtype=torch.int64), labels, ("a", "b", "c", "d"))[:31]
    'only 25 of 100 images (25.0%) a'
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


def better_normalised(model: nn.Module, dataset: Dataset, result: AttackResult, passes: Counter[str]) -> str:
    """A sentence if some usual normalisation of the input halves the errors; empty otherwise.

    At most 64 images are classified, at most 9 times, and only if clean accuracy is below 90 % and the images
    lie in [0, 1]. At least half of the wrong images must become right, net of those that become wrong, with
    p ≤ 0.001 in a sign test. A correctly normalised network passes: another normalisation makes it worse. Of
    88 pruned networks before fine-tuning, 2 did not pass. ``passes`` counts the forward passes of single
    images.
    """
    if result.accuracy >= GOOD or result.n < LEAST or dataset.bounds != (0.0, 1.0) or dataset.x.ndim != 4:
        return ""
    rows = torch.linspace(0, result.n - 1, min(SAMPLE, result.n)).round().long()
    x, y, before = dataset.x[rows], dataset.y[rows].cpu(), result.correct.cpu()[rows]
    best, words = before, ""
    for said, network, images in _trials(model, x):
        passes["forward"] += len(rows)
        try:
            right = predict(network, images).cpu() == y
        except Exception:
            # A network may raise or overflow on pixels beyond [0, 1].
            continue
        if int(right.sum()) > int(best.sum()):
            best, words = right, said
    gained, lost = int((best & ~before).sum()), int((before & ~best).sum())
    if 2 * (gained - lost) < int((~before).sum()) or sign_test(gained, lost) > SURE:
        return ""
    return (
        f"{int(before.sum())} of {len(rows)} images are classified as labelled, but {int(best.sum())} "
        f"{words}: unless pruning explains it, give the network the normalisation that it was trained with"
    )


def _trials(model: nn.Module, x: Tensor) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """A description, a network and its images, for each normalisation that is tried."""
    inner = model.network if isinstance(model, Classifier) else model
    own, network = statistics(inner), unwrapped(inner)
    if isinstance(model, Classifier):
        network = model.around(network)
    x = x.to(place_of(model, x)[1])
    if own is not None:
        yield "without the normalisation of the input", network, x
    for mean, std in USUAL.get(x.shape[1], ()):
        shift, scale = (torch.tensor(values).to(x).reshape(1, -1, 1, 1) for values in (mean, std))
        numbers = f"mean {_listed(mean)} and std {_listed(std)}"
        yield f"with the input normalised by {numbers}", network, (x - shift) / scale
        if own is None:
            # The network may normalise its input itself.
            yield f"where a normalisation by {numbers} is undone", network, x * scale + shift


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
