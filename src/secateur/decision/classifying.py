"""How a network classifies images: accuracy per class, confidence and calibration."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from secateur import models
from secateur.attacks.runner.classifier import classifier
from secateur.attacks.runner.result import hash_images
from secateur.data import Dataset, Stream
from secateur.data.streaming import whole_or_stream
from secateur.decision.calibration import Bin, ClassAccuracy, draw, place_in_bins, reliability_bins
from secateur.display import Shown, frame
from secateur.errors import UserError
from secateur.stats import wilson
from secateur.trust import misfit

BINS = 15
"""Bins of the expected calibration error (Guo et al. 2017)."""


@dataclass(frozen=True, eq=False, repr=False)
class Classified(Shown):
    """A network on labelled images.

    Attributes:
        data: name of the images.
        correct: which images are right, bool [N].
        hashes: of the images, to pair them with those of another network.
        classes: accuracy per class.
        confidence: mean probability of the predicted class.
        calibration_error: expected difference of confidence and accuracy, over 15 bins of confidence.
        loss: mean cross-entropy.
        warning: evidence that network and images do not fit; empty if there is none.
        bins: the images by confidence, for the reliability diagram.
    """

    data: str
    correct: Tensor
    hashes: tuple[str, ...]
    classes: tuple[ClassAccuracy, ...]
    confidence: float
    calibration_error: float
    loss: float
    warning: str = ""
    bins: tuple[Bin, ...] = ()

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.correct)

    @property
    def accuracy(self) -> float:
        """The share of images that are right."""
        return int(self.correct.sum()) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson(int(self.correct.sum()), self.n)

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        low, high = self.interval
        title = f"accuracy {self.accuracy:.1%} ({low:.1%} to {high:.1%}) on {self.n:,} images of {self.data}"
        rows = [("warning", self.warning)] if self.warning else []
        rows.append(("confidence", f"{self.confidence:.1%}, calibration error {self.calibration_error:.1%}"))
        return title, [*rows, *((each.name, _said(each)) for each in self.classes)]

    def to_json(self) -> dict[str, Any]:
        """Plain data, with what ``compare`` needs of every image."""
        low, high = self.interval
        return {
            "schema_version": 1,
            "kind": "evaluation",
            "data": self.data,
            "n": self.n,
            "accuracy": self.accuracy,
            "low": low,
            "high": high,
            "confidence": self.confidence,
            "calibration_error": self.calibration_error,
            "loss": self.loss,
            "warning": self.warning,
            "classes": [vars(each) for each in self.classes],
            "bins": [vars(each) for each in self.bins],
            "correct": self.correct.tolist(),
            "hashes": list(self.hashes),
        }

    def plot(self) -> Figure:
        """A reliability diagram beside the accuracy of each class, as a matplotlib figure."""
        return draw(self.bins, self.classes, error=self.calibration_error)

    def to_pandas(self) -> Any:
        """One row per class. Needs pandas.

        Raises:
            UserError: pandas is not installed.
        """
        columns = ("name", "n", "right", "share", "mistaken_for")
        return frame({key: [getattr(each, key) for each in self.classes] for key in columns})


def evaluate(model: Callable[..., Any], images: Any, *, batch_size: int = 128) -> Classified:
    """Classify images, and count by class.

    Args:
        model: from images to logits: a network, or whatever else ``secateur.attack`` takes; left unchanged.
        images: a ``Dataset``, or what ``secateur.data.of`` reads; a loader of more than 4 GiB, and a
            ``secateur.data.stream``, part by part.
        batch_size: images per pass; changes results by rounding only.

    Raises:
        UserError: images that the network does not accept, or NaN among its outputs.

    >>> import secateur
    >>> model = secateur.models.resolve("shipped:digits-plain")
    >>> evaluate(model, secateur.data.load("digits:split")).accuracy > 0.98
    True
    """
    given, read = whole_or_stream(images), _Read()
    parts: Iterable[Dataset] = given if isinstance(given, Stream) else (given,)
    network: nn.Module | None = None
    for part in parts:
        # As attacks see it: whatever answers with logits, exported networks among them.
        network = network or classifier(model, part.x, batch_size=batch_size, data=part.name)
        read.add(network, part, batch_size)
        # Two parts would be in memory while the next one is read.
        del part
    return read.counted()


@dataclass
class _Read:
    """What is known of the images classified so far: a few numbers of each."""

    name: str = ""
    classes: tuple[str, ...] = ()
    labels: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    sure: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def add(self, model: nn.Module, images: Dataset, batch_size: int) -> None:
        """Classify the next images."""
        self.name, self.classes = images.name, max(images.classes, self.classes, key=len)
        for start in range(0, images.n, batch_size):
            batch = images.x[start : start + batch_size]
            scores = models.logits(model, batch).double().cpu()
            labels = images.y[start : start + batch_size].cpu()
            sure, predicted = scores.softmax(1).max(1)
            self.labels.append(labels)
            self.sure.append(sure)
            self.predicted.append(predicted)
            self.losses.append(cross_entropy(scores, labels, reduction="none"))
        self.hashes += hash_images(images.x)

    def counted(self) -> Classified:
        """The result for all of them."""
        if not self.labels:
            raise UserError("the data have no images", hint="a stream can be read once")
        labels, predicted, sure = (torch.cat(each) for each in (self.labels, self.predicted, self.sure))
        correct = predicted == labels
        return Classified(
            data=self.name,
            correct=correct,
            hashes=tuple(self.hashes),
            classes=tuple(_by_class(predicted, labels, self.classes)),
            confidence=sure.mean().item(),
            calibration_error=calibration_error(sure, correct),
            loss=torch.cat(self.losses).mean().item(),
            warning=misfit(predicted, labels, self.classes),
            bins=reliability_bins(sure, correct, BINS),
        )


def calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """The expected calibration error (Guo et al. 2017): over bins, the mean of |accuracy - confidence|.

    Args:
        confidence: probability of the predicted class, [N] in [0, 1].
        correct: whether it is right, bool [N].
        bins: of equal width.

    >>> round(calibration_error(torch.full((4,), 0.9), torch.tensor([True, True, True, False])), 6)
    0.15
    """
    place = place_in_bins(confidence, bins)
    gaps = torch.zeros(bins, dtype=torch.float64)
    gaps.index_add_(0, place, correct.double() - confidence.double())
    return float(gaps.abs().sum() / len(correct))


def _by_class(predicted: Tensor, labels: Tensor, names: tuple[str, ...]) -> list[ClassAccuracy]:
    found = []
    for number, name in enumerate(names):
        theirs = predicted[labels == number]
        wrong = theirs[theirs != number]
        most = int(wrong.mode().values) if len(wrong) else None
        other = "" if most is None else names[most] if most < len(names) else str(most)
        found.append(ClassAccuracy(name, len(theirs), len(theirs) - len(wrong), other))
    return found


def _said(each: ClassAccuracy) -> str:
    if not each.n:
        return "no images"
    low, high = wilson(each.right, each.n)
    confused = f", most often taken for {each.mistaken_for}" if each.mistaken_for else ""
    return f"{each.right / each.n:.1%} ({low:.1%} to {high:.1%}) of {each.n}{confused}"
