import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secateur.report import intervals
from secateur.report.intervals import RESAMPLES, each_over_seeds, left, over_seeds, shares

INF = float("inf")
NAN = float("nan")


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
@given(st.lists(st.floats(0, 5) | st.just(INF) | st.just(NAN), min_size=1, max_size=12))
def test_medians_of_resamples_are_the_medians_of_what_was_drawn(values):
    array = np.array(values)
    weights = intervals._image_weights(array.size)
    fast = intervals._weighted_medians(array, weights)
    for b in range(0, RESAMPLES, 50):
        drawn = np.repeat(array, weights[:, b])
        drawn = drawn[~np.isnan(drawn)]
        expected = np.median(drawn) if drawn.size else NAN
        assert fast[b] == pytest.approx(expected, nan_ok=True)


def test_the_middle_of_a_resample_is_found_wherever_it_is():
    """Next to all images without a ratio, and middles far from the middle row."""
    generator = np.random.default_rng(0)
    for n, kept in ((40, 1), (40, 3), (400, 390)):
        drawn = intervals._image_weights(n)[:kept].copy()
        drawn[:, :5] = 0
        drawn[:, 5:10] = 0
        drawn[0, 5], drawn[-1, 6], drawn[-1, 7], drawn[0, 8:10] = 7, 7, 8, 3
        lower, upper = intervals._middles(drawn)
        for b in (*range(10), *generator.integers(10, RESAMPLES, 40)):
            rows = np.repeat(np.arange(kept), drawn[:, b])
            middle = [rows[(rows.size - 1) // 2], rows[rows.size // 2]] if rows.size else [kept, kept]
            assert [lower[b], upper[b]] == middle


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 9), st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 1.0, INF]), min_size=9, max_size=45)
)
def test_rows_of_seeds_have_the_intervals_that_each_has_alone(seeds, values):
    rows = np.array(values[: len(values) // seeds * seeds]).reshape(-1, seeds)
    means, lows, highs = each_over_seeds(rows, highest=1.0)
    for row, mean, low, high in zip(rows.tolist(), means, lows, highs, strict=True):
        alone = over_seeds(row, highest=1.0)
        assert mean == alone.mean
        assert (low, high) == (alone.low, alone.high) or (np.isnan([low, high]).all() and alone.low is None)


def test_every_resample_draws_as_many_images_as_there_are():
    assert (intervals._image_weights(17).sum(axis=0) == 17).all()


def test_a_network_compared_with_itself_keeps_everything():
    values = np.random.default_rng(0).lognormal(size=80)
    found = left([values], [values])
    assert (found.ratio, found.over_images, found.p) == (1.0, (1.0, 1.0), 1.0)


def check_what_is_left_by_hand(left):
    before = np.array([1.0, 2.0, INF, 4.0, INF, NAN, 1.0])
    after = np.array([0.5, INF, 3.0, 1.0, INF, 9.0, NAN])
    found = left([before], [after])
    # 0.5/1, inf, 0 and 1/4; neither found, and wrong for one of the two, have no ratio.
    assert found.ratios == (0.375,)
    assert (found.n, found.unreached, found.farther, found.nearer) == (4, 1, 1, 3)


def test_what_is_left_is_the_median_of_ratios_of_images_that_both_get_right():
    check_what_is_left_by_hand(left)


def test_a_ratio_of_medians_over_each_network_s_own_images_is_caught():
    def flattering(before, after):
        own = [np.median(each[0][~np.isnan(each[0])]) for each in (before, after)]
        return dataclasses.replace(left(before, after), ratios=(own[1] / own[0],))

    with pytest.raises(AssertionError):
        check_what_is_left_by_hand(flattering)


def test_images_lost_near_the_boundary_do_not_flatter():
    """Every image is half as far, and the nearest half is lost: medians of one's own images say 100 %."""
    before = np.linspace(1, 4, 101)
    after = np.where(before > 2.5, before / 2, NAN)
    assert left([before], [after]).ratio == pytest.approx(0.5)


def test_over_trainings_the_mean_is_geometric_and_the_interval_is_of_logarithms():
    before = np.ones(40)
    factors = (0.5, 0.8, 0.9)
    found = left([before] * 3, [before * factor for factor in factors])
    logs = np.log(factors)
    assert found.ratio == pytest.approx(np.exp(logs.mean()))
    expected = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    assert np.log(found.over_trainings) == pytest.approx(expected)
    assert found.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)


@pytest.mark.parametrize(
    ("factors", "reason"),
    [
        ((0.5,), "one training, 3 are needed"),
        ((0.5, 0.6), "2 trainings, 3 are needed"),
        ((0.5, 0.6, 0.0), "the ratio of one is 0 or infinite"),
        ((0.5, 0.6, INF), "the ratio of one is 0 or infinite"),
        ((0.5, 0.5, 0.5), "they agree to the last image"),
    ],
)
def test_without_an_interval_over_trainings_the_reason_is_given(factors, reason):
    before = np.ones(40)
    found = left([before] * len(factors), [before * factor for factor in factors])
    assert (found.trainings, found.over_trainings) == (None, None)
    assert found.no_interval == f"no interval over trainings: {reason}"


def test_pairing_cancels_what_images_have_in_common():
    generator = np.random.default_rng(0)
    before = np.exp(generator.normal(0, 1, 200))
    after = before * 0.8 * np.exp(generator.normal(0, 0.02, 200))
    found, shuffled = left([before], [after]), left([before], [generator.permutation(after)])
    assert 0.75 < found.over_images[0] < found.ratio < found.over_images[1] < 0.85
    assert found.images.error * 3 < shuffled.images.error


def test_an_image_without_a_ratio_never_becomes_a_number():
    lost = np.full(3, INF)
    assert left([np.array([1.0, 2.0, 3.0])], [lost]).ratio == INF
    assert left([lost], [np.array([1.0, 2.0, 3.0])]).ratio == 0
    both = left([lost], [lost])
    assert math.isnan(both.ratio)
    assert (both.n, both.unreached, both.images, both.over_images) == (0, 3, None, None)


def test_shares_count_wrong_images_as_not_robust():
    before, after = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
    found = shares(0.1, [before], [after])
    assert (found.before, found.after, found.change) == ((0.75,), (0.25,), -0.5)
    assert (found.gained, found.lost, found.p) == (0, 2, 0.5)
    assert found.no_interval.endswith("one training, 3 are needed")


def test_shares_over_trainings_are_paired():
    generator = np.random.default_rng(0)
    before = [(generator.random(500) < p).astype(float) for p in (0.3, 0.5, 0.7)]
    after = [np.where(generator.random(500) < 0.1, 0.0, each) for each in before]
    found = shares(0.1, before, after)
    means = [b.mean() - a.mean() for a, b in zip(before, after, strict=True)]
    assert found.over_trainings == pytest.approx(stats.t.interval(0.95, 2, np.mean(means), stats.sem(means)))
    unpaired = np.std(found.before, ddof=1)
    assert found.trainings.error * 3 < unpaired


def test_the_same_numbers_give_the_same_interval():
    values = np.random.default_rng(3).lognormal(size=(2, 40))
    assert left([values[0]], [values[1]]) == left([values[0]], [values[1]])


def test_the_interval_over_images_covers_when_trainings_are_fixed():
    """Two trainings that keep 50 and 90 %: other images, the same networks."""
    hits = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        hard = generator.normal(0, 0.6, 60)
        before = [np.exp(hard + generator.normal(0, 0.1, 60)) for _ in range(2)]
        after = [
            each * factor * np.exp(generator.normal(0, 0.3, 60))
            for each, factor in zip(before, (0.5, 0.9), strict=True)
        ]
        low, high = left(before, after).over_images
        hits += low <= np.sqrt(0.5 * 0.9) <= high
    assert 0.92 <= hits / 300 <= 0.985
