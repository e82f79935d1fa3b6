"""Numbers with known answers."""

import torch
from torch import nn

from secateur import measure


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 12 * 12, 10)
    )


def test_parameters_and_macs_are_those_counted_by_hand():
    model = lenet().train()
    assert measure.parameters(model) == 6 * 25 + 6 + 864 * 10 + 10
    assert measure.macs(model, torch.zeros(1, 1, 28, 28)) == 6 * 25 * 24 * 24 + 864 * 10
    assert measure.macs(model, (torch.zeros(3, 1, 28, 28),)) == 6 * 25 * 24 * 24 + 864 * 10
    assert measure.macs(model, {"input": torch.zeros(2, 1, 28, 28)}) == 6 * 25 * 24 * 24 + 864 * 10
    assert model.training


def test_latency_is_measured_in_seconds():
    measured = measure.latency(lenet(), torch.zeros(1, 1, 28, 28), seconds=0.02, threads=1)
    low, high = measured["quartiles"]
    assert 0 < low <= measured["median"] <= high < 1
    assert measured["threads"] == 1
    assert measured["runs"] >= 4


def chain():
    return nn.Sequential(
        nn.Linear(10, 100, bias=False), nn.ReLU(), nn.Linear(100, 50, bias=False), nn.ReLU(), nn.Flatten()
    )


def test_the_peak_of_memory_is_that_of_what_lives_together():
    # Weights, the input, and both sides of the first ReLU; the second pair of results is smaller.
    model = chain().train()
    assert measure.peak_memory(model, torch.rand(7, 10)) == 4 * (1000 + 5000 + 7 * (10 + 100 + 100))
    assert model.training
    shared = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    shared[1].weight = shared[0].weight
    assert measure.peak_memory(shared, (torch.rand(1, 4),)) == 4 * (16 + 4 + 4 + 4)


def test_a_meter_that_forgets_nothing_is_caught(monkeypatch):
    honest = measure.peak_memory(chain(), torch.rand(7, 10))
    monkeypatch.setattr(measure._Meter, "_forget", lambda self, place, size: None)
    assert measure.peak_memory(chain(), torch.rand(7, 10)) > honest


def test_gradients_keep_what_the_backward_pass_needs():
    """Two linear layers: the inner result, its gradient and those of the weights are alive together."""
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Tanh(), nn.Linear(100, 100, bias=False))
    one, two, four = (measure.peak_memory(model, torch.rand(n, 100), gradients=True) for n in (1, 2, 4))
    assert measure.peak_memory(model, torch.rand(1, 100)) < one
    assert one >= 4 * 4 * 100 * 100
    assert four - two == 2 * (two - one)
    # An image, its inner result, and the gradient of that.
    assert two - one >= 3 * 400
