"""Statistics with known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from secateur import stats
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
    assert stats.median(torch.tensor(values)) == expected


def test_quantiles_are_numpy_s():
    values = torch.randn(37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for q in (0, 0.1, 0.25, 0.5, 0.99, 1):
        assert stats.quantile(values, q) == pytest.approx(float(np.quantile(values.numpy(), q)))


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([math.nan], 0.5), ([1.0], 1.5)])
def test_a_quantile_of_nothing_is_refused(values, q):
    with pytest.raises(UserError):
        stats.quantile(torch.tensor(values), q)


def test_wilson_s_interval_is_the_textbook_s():
    low, high = stats.wilson(8, 10)
    assert low == pytest.approx(0.4901625, abs=1e-6)
    assert high == pytest.approx(0.9433178, abs=1e-6)
    assert stats.wilson(0, 5)[0] == 0
    assert stats.wilson(5, 5)[1] == 1
    with pytest.raises(UserError):
        stats.wilson(6, 5)


def test_a_bootstrap_interval_is_seeded_and_covers_the_median():
    values = torch.linspace(0, 1, 101)
    first, second = (stats.bootstrap(values, generator=np.random.default_rng(1)) for _ in range(2))
    assert first == second
    assert first[0] < 0.5 < first[1]


def test_a_security_curve_counts_what_survives_each_budget():
    distances = torch.tensor([0.0, 0.5, 1.0, inf])
    assert stats.security_curve(distances, [0, 0.5, 0.9, 1, 100]).tolist() == [0.75, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("eps", [[1, 0], [-1], [math.nan]])
def test_budgets_that_do_not_rise_are_refused(eps):
    with pytest.raises(UserError, match="rising"):
        stats.security_curve(torch.tensor([1.0]), eps)


def check_that_the_median_counts_the_infinite():
    assert stats.median(np.array([1.0, 2.0, inf])) == 2.0
    assert stats.median(np.array([1.0, inf, inf])) == inf
    assert stats.median(np.array([1.0, 3.0, inf, inf])) == inf
    assert stats.median(np.array([0.0, 1.0, 3.0, inf])) == 2.0


def test_the_median_counts_the_infinite():
    check_that_the_median_counts_the_infinite()


@pytest.mark.parametrize(
    "broken",
    [
        lambda values: float(np.median(values[np.isfinite(values)])),
        lambda values: float(np.median(np.where(np.isfinite(values), values, 0.0))),
    ],
    ids=["drops what was not found", "takes it as zero"],
)
def test_a_median_that_loses_the_infinite_is_caught(monkeypatch, broken):
    monkeypatch.setattr(stats, "median", broken)
    with pytest.raises(AssertionError):
        check_that_the_median_counts_the_infinite()


def test_the_median_of_nothing_is_no_number():
    assert np.isnan(stats.median(np.array([])))
    assert np.isnan(stats.median_interval(np.array([]))).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 10) | st.just(inf), min_size=1, max_size=30))
def test_the_interval_of_a_median_surrounds_it(values):
    low, high = stats.median_interval(np.array(values))
    assert low <= stats.median(np.array(values)) <= high


@pytest.mark.parametrize("n", [6, 25, 100, 1000])
def test_the_interval_of_a_median_covers_at_least_95_percent_but_no_more_than_it_must(n):
    low, high = stats.median_interval(np.arange(n, dtype=float))
    rank = int(low) + 1
    assert int(high) == n - rank
    outside = 2 * scipy_stats.binom.cdf(rank - 1, n, 0.5)
    assert outside <= 0.05
    assert 2 * scipy_stats.binom.cdf(rank, n, 0.5) > 0.05


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 10), (97, 100), (1, 1)])
def test_wilson_is_scipys(k, n):
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
