"""Accuracy per class and calibration, against counts by hand."""

import pytest
import torch
from torch import nn

from secateur.data import Dataset
from secateur.decision import evaluate
from secateur.decision.calibration import reliability_bins
from secateur.decision.classifying import calibration_error


class Fixed(nn.Module):
    """Logits that are written in the images."""

    def forward(self, x):
        return x.flatten(1)


def images(logits, labels):
    x = torch.tensor(logits).view(len(logits), 1, 1, -1)
    names = tuple("abc"[: x.shape[-1]])
    return Dataset("toy", x, torch.tensor(labels), names, None, bounds=(-10.0, 10.0))


def test_every_class_is_counted_with_what_it_is_taken_for():
    found = evaluate(Fixed(), images([[5.0, 0, 0], [0, 5.0, 0], [0, 5.0, 0], [5.0, 0, 0]], [0, 0, 0, 1]))
    first, second, third = found.classes
    assert (first.n, first.right, first.mistaken_for) == (3, 1, "b")
    assert (second.n, second.right, second.mistaken_for) == (1, 0, "a")
    assert (third.n, third.share) == (0, None)
    assert found.accuracy == 0.25
    assert "no images" in repr(found)
    assert len(repr(found).splitlines()) <= 12


def test_a_coin_that_knows_it_is_one_is_calibrated():
    confidence = torch.full((1000,), 0.5)
    correct = torch.arange(1000) % 2 == 0
    assert calibration_error(confidence, correct) == pytest.approx(0, abs=1e-12)
    # The same coin, sure of itself, is wrong by a half.
    assert calibration_error(torch.ones(1000), correct) == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_calibration_is_the_gap_within_each_bin(share):
    correct = torch.arange(100) < 100 * share
    assert calibration_error(torch.full((100,), 0.71), correct) == pytest.approx(abs(share - 0.71), abs=1e-6)


def test_confidence_and_loss_are_those_of_the_softmax():
    found = evaluate(Fixed(), images([[2.0, 0.0], [0.0, 2.0]], [0, 0]))
    sure = torch.tensor([2.0, 0.0]).softmax(0)[0].item()
    assert found.confidence == pytest.approx(sure, abs=1e-6)
    expected = -(torch.tensor([[2.0, 0.0], [0.0, 2.0]]).log_softmax(1)[:, 0]).mean().item()
    assert found.loss == pytest.approx(expected, abs=1e-6)


def test_the_bins_give_the_calibration_error():
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(500, generator=generator, dtype=torch.float64)
    correct = torch.rand(500, generator=generator) < sure
    bins = reliability_bins(sure, correct, 15)
    gap = sum(each.n * abs(each.accuracy - each.confidence) for each in bins) / 500
    assert gap == pytest.approx(calibration_error(sure, correct))
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    assert reliability_bins(torch.ones(3), torch.tensor([True, True, False]), 15)[0].n == 3
