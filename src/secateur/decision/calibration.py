"""Figures of one network on labelled images: whether its confidence can be believed, accuracy by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from secateur.decision.intervals import draw_bars
from secateur.report.axes import percent_axis
from secateur.report.theme import PALETTE, SOFT, WIDTH, label, themed
from secateur.stats import wilson

MOST_CLASSES = 20
"""Classes in the figure."""


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in one interval.

    >>> Bin(n=4, right=3, confidence=0.9).accuracy
    0.75
    """

    n: int
    right: int
    confidence: float

    @property
    def accuracy(self) -> float:
        """The share of its images that are right."""
        return self.right / self.n


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: its images, how many are right, and the wrong class that is predicted most often.

    >>> ClassAccuracy("cat", n=4, right=3, mistaken_for="dog").share
    0.75
    """

    name: str
    n: int
    right: int
    mistaken_for: str = ""

    @property
    def share(self) -> float | None:
        """The accuracy; None without images."""
        return self.right / self.n if self.n else None


def place_in_bins(confidence: Tensor, bins: int) -> Tensor:
    """The number of the bin of each confidence in [0, 1], [N]; bins are of equal width."""
    return (confidence * bins).long().clamp(max=bins - 1)


def reliability_bins(confidence: Tensor, correct: Tensor, bins: int) -> tuple[Bin, ...]:
    """The bins that have images, from the lowest confidence to the highest.

    Args:
        confidence: probability of the predicted class, [N] in [0, 1].
        correct: whether it is right, bool [N].
        bins: of equal width.

    >>> import torch
    >>> reliability_bins(torch.tensor([0.9, 0.92, 0.2]), torch.tensor([True, False, True]), 5)[1].n
    2
    """
    place, found = place_in_bins(confidence, bins), []
    for number in sorted(set(place.tolist())):
        here = place == number
        found.append(Bin(int(here.sum()), int(correct[here].sum()), float(confidence[here].mean())))
    return tuple(found)


def draw(bins: Sequence[Bin], classes: Sequence[ClassAccuracy], *, error: float) -> Figure:
    """A reliability diagram, and the accuracy of each class; bars are 95 % Wilson intervals.

    Args:
        bins: of confidence.
        classes: those with images are drawn; of more than 20 the least accurate.
        error: the expected calibration error, for the title.
    """
    named = [each for each in classes if each.n]
    shown = sorted(named, key=lambda each: each.right / each.n)[:MOST_CLASSES]
    few = [each for each in named if each in shown]
    with themed():
        figure = Figure(figsize=(WIDTH, max(2.8, 0.9 + 0.17 * len(few))))
        left, right = figure.subplots(1, 2)
        _draw_reliability(left, bins, error)
        _draw_classes(right, few)
        if len(few) < len(named):
            right.set_title(f"the {len(few)} least accurate of {len(named)} classes")
        figure.draw_without_rendering()
    return figure


def _draw_reliability(axes: Axes, bins: Sequence[Bin], error: float) -> None:
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls="--", label="confidence = accuracy")
    confidence = np.array([each.confidence for each in bins])
    accuracy = np.array([each.accuracy for each in bins])
    draw_bars(axes, confidence, accuracy, [each.n for each in bins], colour=PALETTE[0], fmt="none")
    largest = max((each.n for each in bins), default=1)
    # Area in proportion to the images, but never too small to be seen.
    sizes = [max(6.0, 70 * each.n / largest) for each in bins]
    axes.scatter(confidence, accuracy, s=sizes, color=PALETTE[0], zorder=3, label="images by confidence")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set_xlabel("confidence (probability of the predicted class)")
    axes.set_ylabel("accuracy")
    axes.set_title(f"calibration error {100 * error:.1f} %")
    axes.legend(loc="upper left")


def _draw_classes(axes: Axes, classes: Sequence[ClassAccuracy]) -> None:
    for row, each in enumerate(reversed(classes)):
        low, high = wilson(each.right, each.n)
        axes.plot([low, high], [row, row], color=PALETTE[0], lw=1.4)
        axes.plot(each.right / each.n, row, "o", ms=4, color=PALETTE[0])
    names = [f"{label(each.name, longest=16)}, {each.n}" for each in reversed(classes)]
    axes.set_yticks(range(len(classes)), names)
    axes.set_ylim(-0.6, len(classes) - 0.4)
    percent_axis(axes.xaxis)
    axes.set_xlabel("accuracy by class, with the number of images")
