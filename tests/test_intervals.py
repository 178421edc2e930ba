"""Percentiles and intervals against hand-worked numbers, published tables and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.intervals import (
    NO_INTERVAL,
    batch_rates,
    percentile,
    percentile_interval,
    ratio_interval,
    samples_to_show,
    samples_to_trust,
    share_bounds,
)

INF = math.inf
latencies = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=60)
percents = st.floats(min_value=0, max_value=100)

# --- percentiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 95, 3.0),
        ([1.0, 2.0], 50, 1.5),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 95, 4.8),
        (list(range(101)), 95, 95.0),
        ([1.0, 2.0], 100, 2.0),
        ([1.0, 2.0], 0, 1.0),
        ([1.0, 2.0, INF], 50, 2.0),
        ([1.0, 2.0, INF], 51, INF),
        ([INF, INF], 50, INF),
        ([], 50, None),
    ],
)
def test_a_percentile_is_interpolated_between_its_neighbours(values, percent, expected):
    assert percentile(np.array(values, dtype=float), percent) == pytest.approx(expected)


@given(latencies, percents)
def test_a_percentile_is_never_outside_the_data_and_agrees_with_numpy(values, percent):
    found = percentile(np.array(values), percent)
    assert min(values) <= found <= max(values)
    assert found == pytest.approx(np.percentile(values, percent), rel=1e-9, abs=1e-9)


@given(latencies, st.integers(min_value=1, max_value=60), percents)
def test_failures_never_lower_a_percentile(values, failures, percent):
    assert percentile(np.array(values + [INF] * failures), percent) >= percentile(np.array(values), percent) * (
        1 - 1e-12
    )


@pytest.mark.parametrize("percent", [50, 90, 95, 97.5, 99, 99.9])
def test_a_percentile_that_falls_on_a_value_does_not_touch_the_next(percent):
    """Of 1,001 values, the one at rank 10 x percent is it: a failure right above does not count."""
    rank = round(10 * percent)
    values = np.arange(1001.0)
    values[rank + 1 :] = INF
    assert percentile(values, percent) == rank


@pytest.mark.parametrize(
    ("percent", "show", "trust"), [(50, 2, 10), (90, 10, 50), (95, 20, 100), (99, 100, 500), (99.9, 1000, 5000)]
)
def test_a_percentile_wants_one_sample_beyond_it_to_be_shown_and_five_to_be_trusted(percent, show, trust):
    assert (samples_to_show(percent), samples_to_trust(percent)) == (show, trust)


# --- bootstrap ----------------------------------------------------------------------------------------------------


def bootstrap(values, percent=95, block=4, seed=1):
    return percentile_interval(np.array(values, dtype=float), percent, block, np.random.default_rng(seed))


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=2, max_size=60), st.integers(1, 80))
def test_a_bootstrapped_interval_lies_inside_the_data(values, block):
    low, high = bootstrap(values, block=block)
    assert min(values) <= low <= high <= max(values)


def test_a_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).exponential(size=200)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=2)


def test_a_bootstrapped_interval_covers_the_percentile_of_its_source():
    """Independent exponentials have the median log 2."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        low, high = percentile_interval(rng.exponential(size=150), 50, 5, rng)
        hits += low <= math.log(2) <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_intervals_reach_to_infinity_where_failures_may_decide():
    low, high = bootstrap([1.0] * 95 + [INF] * 5, block=1)
    assert (low, high) == (1.0, INF)
    assert bootstrap([INF] * 20) == (INF, INF)


def test_one_block_of_all_values_leaves_no_spread_and_one_value_no_interval():
    assert bootstrap([1.0, 2.0, 3.0], percent=50, block=99) == (2.0, 2.0)
    assert bootstrap([1.0]) == NO_INTERVAL


def test_blocks_widen_the_interval_of_values_that_are_like_their_neighbours():
    values = np.repeat(np.random.default_rng(0).exponential(size=30), 10)
    alone, in_blocks = bootstrap(values, 50, block=1), bootstrap(values, 50, block=10)
    assert in_blocks.high - in_blocks.low > 1.5 * (alone.high - alone.low)


# --- rates --------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_rate_by_hand():
    """Rate 12, residuals -2, 0, 2: s = 2, standard error 2 / sqrt(3), and t(97.5%, 2) = 4.3027."""
    low, high = ratio_interval(np.array([10.0, 12.0, 14.0]), np.array([1.0, 1.0, 1.0]))
    assert low == pytest.approx(12 - 4.30265 * 2 / math.sqrt(3), rel=1e-5)
    assert high == pytest.approx(12 + 4.30265 * 2 / math.sqrt(3), rel=1e-5)


def test_the_interval_of_a_rate_with_unequal_durations_by_hand():
    """Σ amounts 24 / Σ durations 6 = 4; residuals 1, -1, 0; s² = 1; mean duration 2; error 1 / (sqrt(3) x 2)."""
    low, high = ratio_interval(np.array([5.0, 7.0, 12.0]), np.array([1.0, 2.0, 3.0]))
    assert (low + high) / 2 == pytest.approx(4)
    assert (high - low) / 2 == pytest.approx(4.30265 / (2 * math.sqrt(3)), rel=1e-5)


def test_a_rate_that_does_not_vary_has_no_width_and_is_never_negative():
    assert ratio_interval(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2))
    assert ratio_interval(np.array([0.0, 0.0, 9.0]), np.ones(3)).low == 0.0


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_fewer_than_three_batches_give_no_interval(batches):
    assert ratio_interval(np.ones(batches), np.ones(batches)) == NO_INTERVAL


@pytest.mark.parametrize("shape", [0.5, 1, 8])
def test_the_interval_of_a_rate_covers_the_true_rate_of_a_renewal_process(shape):
    """Gaps of mean 0.1 s: bursty, Poisson and even; 110 requests in ten batches, as a load point has them."""
    rng = np.random.default_rng(int(shape * 10))
    hits = 0
    for _ in range(400):
        ends = np.cumsum(rng.gamma(shape, 0.1 / shape, size=110))
        sent = np.append(0, ends[:-1])
        low, high = ratio_interval(*batch_rates(np.ones(110), sent, ends[-1]))
        hits += low <= 10 <= high
    assert 0.91 <= hits / 400 <= 0.99


def test_batches_hold_consecutive_requests_and_fill_the_window():
    amounts, durations = batch_rates(np.arange(20.0), np.arange(20.0) * 2, 45.0)
    assert amounts.tolist() == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37]
    assert durations.tolist() == [4] * 9 + [9]
    amounts, durations = batch_rates(np.array([5.0, 7.0]), np.array([1.0, 2.0]), 4.0)
    assert (amounts.tolist(), durations.tolist()) == ([5, 7], [1, 2])


# --- shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (3, 20, 0.0321, 0.3789),
        (5, 100, 0.0164, 0.1128),
    ],
)
def test_bounds_of_a_share_agree_with_published_tables(count, total, low, high):
    """Two-sided 95% tables: each bound at 97.5%."""
    assert share_bounds(count, total, 0.975) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.floats(0.5, 0.999))
def test_no_failure_in_n_bounds_the_share_by_the_closed_form(total, confidence):
    assert share_bounds(0, total, confidence) == pytest.approx((0, 1 - (1 - confidence) ** (1 / total)))


@given(st.integers(1, 200), st.data())
def test_bounds_hold_the_observed_share_and_mirror_each_other(total, data):
    count = data.draw(st.integers(0, total))
    low, high = share_bounds(count, total, 0.9)
    assert 0 <= low <= count / total <= high <= 1
    assert share_bounds(total - count, total, 0.9) == pytest.approx((1 - high, 1 - low))


def test_no_requests_bound_nothing():
    assert share_bounds(0, 0, 0.95) == NO_INTERVAL
