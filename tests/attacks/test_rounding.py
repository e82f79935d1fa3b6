"""A processor that rounds otherwise finds the same: no attack has rounding decide between two answers."""

import sys

import pytest
import torch

from attacks.every import CASES, STEPS, call
from attacks.rounding import rounded_otherwise, tolerance


@pytest.fixture
def wide(net, images):
    """Network, images and labels in float64; the images lie on 17 grey levels, so that distances tie."""
    return net.double(), images.x.double(), images.y


def check_rounding(wide, name, norm, monkeypatch):
    model, x, y = wide
    expected = call(name, norm, model, x, y)
    for seed in range(2):
        with rounded_otherwise(model, monkeypatch, seed) as other:
            found = call(name, norm, other, x, y)
        assert torch.equal(found.mask, expected.mask)
        allowed = tolerance(x.dtype, STEPS)
        torch.testing.assert_close(found.distance, expected.distance, rtol=allowed, atol=allowed)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_rounding_decides_nothing(wide, monkeypatch, name, norm):
    check_rounding(wide, name, norm, monkeypatch)


def test_a_bisection_that_stops_at_the_resolution_of_float32_is_seen(wide, monkeypatch):
    monkeypatch.setattr(sys.modules["secateur.attacks.core.norms"], "halvings", lambda dtype: 25)
    with pytest.raises(AssertionError):
        check_rounding(wide, "steep", 2.0, monkeypatch)


def test_a_tie_between_two_examples_that_rounding_breaks_is_seen(wide, monkeypatch):
    monkeypatch.setattr(sys.modules["secateur.attacks.steep.attack"], "TIE", 0)
    with pytest.raises(AssertionError):
        check_rounding(wide, "steep", 0.0, monkeypatch)


def test_a_search_in_float32_is_seen(wide, monkeypatch):
    model, x, y = wide
    narrow = call("fmn", 2.0, model.float(), x.float(), y).distance
    exact = call("fmn", 2.0, model.double(), x, y).distance
    assert ((narrow - exact).abs() > tolerance(torch.float64, STEPS) * exact).any()
