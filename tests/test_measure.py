"""Numbers with known answers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from secateur import measure
from secateur.errors import UserError

inf = math.inf


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([1.0, 2.0], 1.5),
        ([1.0, inf], inf),
        ([1.0, 2.0, inf], 2.0),
        ([inf], inf),
        ([0.0, inf, inf], inf),
    ],
)
def test_a_median_takes_infinity_for_larger_than_everything(values, expected):
    assert measure.median(torch.tensor(values)) == expected


def test_quantiles_are_numpy_s():
    values = torch.randn(37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for q in (0, 0.1, 0.25, 0.5, 0.99, 1):
        assert measure.quantile(values, q) == pytest.approx(float(np.quantile(values.numpy(), q)))


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([math.nan], 0.5), ([1.0], 1.5)])
def test_a_quantile_of_nothing_is_refused(values, q):
    with pytest.raises(UserError):
        measure.quantile(torch.tensor(values), q)


def test_wilson_s_interval_is_the_textbook_s():
    low, high = measure.wilson(8, 10)
    assert low == pytest.approx(0.4901625, abs=1e-6)
    assert high == pytest.approx(0.9433178, abs=1e-6)
    assert measure.wilson(0, 5)[0] == 0
    assert measure.wilson(5, 5)[1] == 1
    with pytest.raises(UserError):
        measure.wilson(6, 5)


def test_a_bootstrap_interval_is_seeded_and_covers_the_median():
    values = torch.linspace(0, 1, 101)
    first, second = (measure.bootstrap(values, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert first == second
    assert first[0] < 0.5 < first[1]


def test_a_security_curve_counts_what_survives_each_budget():
    distances = torch.tensor([0.0, 0.5, 1.0, inf])
    assert measure.security_curve(distances, [0, 0.5, 0.9, 1, 100]) == [0.75, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("eps", [[1, 0], [-1], [math.nan]])
def test_budgets_that_do_not_rise_are_refused(eps):
    with pytest.raises(UserError, match="rising"):
        measure.security_curve(torch.tensor([1.0]), eps)


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
