import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secateur.report import intervals
from secateur.report.intervals import RESAMPLES, over_seeds, paired

INF = float("inf")


def test_three_seeds_get_students_interval():
    estimate = over_seeds([11.0, 12.0, 14.0])
    expected = stats.t.interval(0.95, 2, loc=37 / 3, scale=stats.sem([11.0, 12.0, 14.0]))
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((37 / 3, *expected))


def test_an_interval_ends_where_the_quantity_does():
    estimate = over_seeds([0.01, 0.5, 0.99], highest=1.0)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0]])
def test_fewer_than_three_seeds_claim_no_spread(values):
    estimate = over_seeds(values)
    assert estimate.values == tuple(values)
    assert (estimate.low, estimate.high) == (None, None)


def test_a_seed_whose_median_is_infinite_makes_the_mean_infinite():
    estimate = over_seeds([1.0, 2.0, INF])
    assert (estimate.mean, estimate.low, estimate.high) == (INF, None, None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 5) | st.just(INF) | st.just(float("nan")), min_size=1, max_size=12))
def test_medians_of_resamples_are_the_medians_of_what_was_drawn(values):
    array = np.array(values)
    weights = intervals._image_weights(array.size)
    fast = intervals._weighted_medians(array, weights)
    for b in range(0, RESAMPLES, 50):
        drawn = np.repeat(array, weights[:, b])
        drawn = drawn[~np.isnan(drawn)]
        expected = np.median(drawn) if drawn.size else float("nan")
        assert fast[b] == pytest.approx(expected, nan_ok=True)


def test_every_resample_draws_as_many_images_as_there_are():
    assert (intervals._image_weights(17).sum(axis=0) == 17).all()


def test_a_network_compared_with_itself_keeps_everything():
    values = np.random.default_rng(0).lognormal(size=80)
    change = paired([values], [values])
    assert (change.ratio, change.ratio_low, change.ratio_high) == (1.0, 1.0, 1.0)
    assert (change.difference_low, change.difference_high) == (0.0, 0.0)


def test_pairing_cancels_what_images_have_in_common():
    generator = np.random.default_rng(0)
    before = np.exp(generator.normal(0, 1, 200))
    after = before * 0.8 * np.exp(generator.normal(0, 0.02, 200))
    change = paired([before], [after])
    shuffled = paired([before], [generator.permutation(after)])
    assert 0.75 < change.ratio_low < change.ratio < change.ratio_high < 0.85
    assert (change.ratio_high - change.ratio_low) * 3 < shuffled.ratio_high - shuffled.ratio_low


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        before = np.exp(generator.normal(0, 0.5, 60))
        after = before * 0.7 * np.exp(generator.normal(0, 0.1, 60))
        change = paired([before], [after])
        hits += change.ratio_low <= 0.7 <= change.ratio_high
    assert 85 <= hits <= 100


def test_seeds_are_resampled_from_three_on():
    generator = np.random.default_rng(1)
    before = [np.exp(generator.normal(0, 0.3, 50)) for _ in range(4)]
    after = [values * factor for values, factor in zip(before, (0.3, 0.5, 0.9, 1.1), strict=True)]
    change = paired(before, after)
    assert change.seeds_resampled
    assert not paired(before[:2], after[:2]).seeds_resampled
    same = paired(before[:1], after[:1])
    assert change.ratio_high - change.ratio_low > 0.2 > same.ratio_high - same.ratio_low


def test_an_unreached_median_is_an_infinite_ratio_and_an_unreached_reference_is_none():
    reached, lost = np.array([1.0, 2.0, 3.0]), np.array([1.0, INF, INF])
    assert paired([reached], [lost]).ratio == INF
    assert np.isnan(paired([lost], [reached]).ratio)
    assert np.isnan(paired([np.zeros(3)], [reached]).ratio)


def test_the_same_numbers_give_the_same_interval():
    values = np.random.default_rng(3).lognormal(size=(2, 40))
    assert paired([values[0]], [values[1]]) == paired([values[0]], [values[1]])
