"""Percentiles and intervals against hand-worked numbers, published tables and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Served, Station, serve

from helpers.metrics.intervals import (
    NO_INTERVAL,
    design_effect,
    effect_beyond,
    effect_within,
    memory,
    percentile,
    percentile_bound_by_moments,
    percentile_interval,
    rate_interval,
    ratio_interval,
    samples_to_show,
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


@settings(deadline=None, derandomize=True)
@given(latencies, percents)
def test_a_percentile_is_never_outside_the_data_and_agrees_with_numpy(values, percent):
    found = percentile(np.array(values), percent)
    assert min(values) <= found <= max(values)
    assert found == pytest.approx(np.percentile(values, percent), rel=1e-9, abs=1e-9)


@settings(deadline=None, derandomize=True)
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


@pytest.mark.parametrize(("percent", "fewest"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_a_percentile_needs_one_sample_beyond_it_to_be_shown(percent, fewest):
    assert samples_to_show(percent) == fewest


# --- intervals of percentiles -------------------------------------------------------------------------------------

seconds = st.integers(0, 10**15).map(lambda ns: ns / 1e9)
several = st.lists(seconds, min_size=2, max_size=80)
effects = st.floats(min_value=1, max_value=20)
slo_percents = st.sampled_from([50, 75, 90, 95, 99])


def test_the_largest_of_20_is_the_upper_bound_of_the_percentile_that_all_lie_below_with_a_chance_of_2_5_percent():
    """All 20 lie below the percentile p with probability p ** 20, and all above it with (1 - p) ** 20."""
    values, rare = np.arange(20.0), 100 * 0.025 ** (1 / 20)
    assert percentile_interval(values, rare).high == pytest.approx(19)
    assert percentile_interval(values, 100 - rare).low == pytest.approx(0, abs=1e-6)


def test_the_interval_of_a_median_lies_between_the_ranks_of_the_binomial_table():
    """Of 100, at most 39 lie below the median with 1.76%, at most 40 with 2.84%: the 40th is too low, the 41st is not."""
    low, high = percentile_interval(np.arange(1.0, 101.0), 50)
    assert 40 < low < 41
    assert low + high == pytest.approx(101)


def test_requests_that_are_alike_count_as_fewer():
    """40 values that tell as much as 20: rank 20 of 20 is rank 20 x 41 / 21 of 40."""
    rare = 100 * 0.025 ** (1 / 20)
    assert percentile_interval(np.arange(1.0, 41.0), rare, effect=2).high == pytest.approx(20 * 41 / 21)


@settings(deadline=None, derandomize=True)
@given(several, st.sampled_from([50, 75, 90, 95]), effects)
def test_an_interval_holds_the_percentile_and_has_no_negative_end(values, percent, effect):
    values = np.array(values)
    low, high = percentile_interval(values, percent, effect)
    found = percentile(values, percent)
    assert 0 <= low <= found * (1 + 1e-9)
    assert found <= high * (1 + 1e-9)


@settings(deadline=None, derandomize=True)
@given(several, slo_percents, effects, st.sampled_from([0.125, 4.0, 1024.0]))
def test_an_interval_in_other_units_is_the_same_interval(values, percent, effect, factor):
    values = np.array(values)
    low, high = percentile_interval(values, percent, effect)
    assert percentile_interval(values * factor, percent, effect) == pytest.approx((low * factor, high * factor))


@settings(deadline=None, derandomize=True)
@given(several, slo_percents, st.data())
def test_failures_never_lower_the_ends_of_an_interval(values, percent, data):
    worse = np.array(values)
    worse[data.draw(st.integers(0, len(values) - 1))] = INF
    before, after = percentile_interval(np.array(values), percent), percentile_interval(worse, percent)
    assert after.low >= before.low * (1 - 1e-9)
    assert after.high >= before.high * (1 - 1e-9) or before.high > max(values)


def test_the_order_of_requests_does_not_matter_and_nothing_is_drawn():
    values = np.random.default_rng(0).exponential(size=150)
    assert percentile_interval(values, 95) == percentile_interval(values[::-1], 95) == percentile_interval(values, 95)


def test_intervals_reach_to_infinity_where_failures_may_decide():
    assert percentile_interval(np.array([1.0] * 95 + [INF] * 5), 95) == (1.0, INF)
    assert percentile_interval(np.array([INF] * 200), 95) == (INF, INF)


def test_too_few_values_leave_the_lower_end_at_zero_and_the_upper_one_open():
    assert percentile_interval(np.array([1.0, 2.0, 3.0]), 50) == (0.0, INF)
    assert percentile_interval(np.array([1.0]), 50) == NO_INTERVAL


def test_beyond_the_data_the_lower_end_is_the_largest_value():
    """Two values lie below p99 with 98%: the largest of them is the best lower end that there is."""
    assert percentile_interval(np.array([1.0, 2.0]), 99).low == 2.0


def test_beyond_the_data_the_upper_end_is_that_of_mean_and_deviation():
    """0.95 ** 30 is 21%: the largest of 30 may well lie below p95."""
    values = np.random.default_rng(1).uniform(1, 2, size=30)
    low, high = percentile_interval(values, 95)
    assert high == percentile_bound_by_moments(values, 95, 0.975) > values.max()
    assert values.min() < low < values.max()


# --- the bound by mean and deviation ------------------------------------------------------------------------------

HALVES = np.array([1.0] * 50 + [3.0] * 50)
"""Mean 2, variance 100 / 99, and a kurtosis that leaves no doubt of it."""


def test_the_bound_by_moments_by_hand():
    """z(97.5%) = 1.95996: mean at most 2 + z x sd / 10, and at most 5% lie beyond that + sd x sqrt(0.95 / 0.05)."""
    sd = math.sqrt(100 / 99)
    assert percentile_bound_by_moments(HALVES, 95, 0.95) == pytest.approx(2 + 0.195996 * sd + math.sqrt(19) * sd)


def test_the_bound_by_moments_knows_the_deviation_only_as_far_as_the_kurtosis_tells():
    """Three in four at 0, one at 4: mean 1, variance 3 x 100 / 99, fourth moment (3 x 1 + 81) / 4 = 21."""
    values = np.array([0.0] * 75 + [4.0] * 25)
    variance = 3 * 100 / 99
    highest = variance * (1 + 0.195996 * math.sqrt(21 / variance**2 - 1))
    expected = 1 + 0.195996 * math.sqrt(variance) + math.sqrt(highest * 9)
    assert percentile_bound_by_moments(values, 90, 0.95) == pytest.approx(expected, rel=1e-5)


def test_failures_take_their_share_of_what_may_lie_beyond():
    """One of 100: at most 5.45% fail, as tables have it. That leaves 4.55 of the 10% beyond p90, of 94.55 that succeed."""
    values = np.append(HALVES[1:], INF)
    sd, mean = values[:99].std(ddof=1), values[:99].mean()
    beyond = (0.1 - 0.05446) / (1 - 0.05446)
    expected = mean + 2.2414 * sd / math.sqrt(99) + sd * math.sqrt((1 - beyond) / beyond)
    assert percentile_bound_by_moments(values, 90, 0.975) == pytest.approx(expected, rel=1e-3)
    assert percentile_bound_by_moments(values, 95, 0.975) == INF, "5.45% may fail"


@pytest.mark.parametrize(("count", "effect", "bound"), [(10, 1.0, 2.0), (9, 1.0, INF), (20, 2.1, INF), (20, 2.0, 2.0)])
def test_fewer_than_ten_independent_values_bound_nothing(count, effect, bound):
    assert percentile_bound_by_moments(np.full(count, 2.0), 95, 0.95, effect) == bound


@settings(deadline=None, derandomize=True)
@given(st.lists(seconds, min_size=10, max_size=80), slo_percents)
def test_the_bound_by_moments_is_never_below_the_percentile(values, percent):
    values = np.array(values)
    assert percentile_bound_by_moments(values, percent, 0.95) >= percentile(values, percent) * (1 - 1e-9)


# --- requests that are alike --------------------------------------------------------------------------------------


THREE_AND_THREE = np.array([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
"""Of neighbours, 4 are alike and 1 is not: (4 - 1) / 6, and 1 / 6 for the mean. Two apart, 2 are and 2 are not: 1 / 6."""


def test_the_design_effect_by_hand():
    """Twice the sum of lags 0 and 1, less one: 2 x (1 + 2 / 3) - 1."""
    assert design_effect([THREE_AND_THREE], 50) == pytest.approx(7 / 3)


def test_the_design_effect_leaves_off_where_likeness_ends():
    """Pairs that alternate: lag 1 is (4 - 3) / 8 + 1 / 8 = 1 / 4; lags 2 and 3 are -6 / 8 + 1 / 8 and 0, which ends it."""
    pairs = np.array([2.0, 2, 1, 1, 2, 2, 1, 1])
    assert design_effect([pairs], 50) == pytest.approx(2 * 1.25 - 1)


def test_a_queue_that_swells_and_ebbs_is_alike_over_more_than_what_is_in_flight():
    """Runs of 30 that are alike, of which 4 are in flight at once: about 30 tell as much as one."""
    values = np.repeat(np.random.default_rng(0).exponential(size=30), 30)
    assert 20 < design_effect([values], 95) < 60


def test_values_that_are_equal_at_the_top_are_alike_too():
    """30 failures in a row among 100: the upper quartile is one of them, and none lies beyond."""
    values = np.array([1.0, 2.0] * 35 + [INF] * 30)
    assert design_effect([values], 95) > 5


def test_the_design_effect_of_repetitions_that_differ_by_hand():
    """A quarter of one visit is slow, three quarters of the other, in an order that is not alike: the mean square between them is
    40 x (1/16 + 1/16) = 5, of a variance of 1/4, so 20 requests tell as much as one.
    """
    rare = np.tile([0.0, 1.0, 0.0, 0.0], 10)
    parts = [rare, 1 - rare]
    assert design_effect([rare], 80) == 1.0
    assert design_effect(parts, 50) == pytest.approx(20, rel=0.2)


def test_visits_that_differ_by_chance_alone_are_not_held_against_requests():
    """The spread between two or three visits is noise: it may raise the design effect by its error, one time in twenty."""
    rng = np.random.default_rng(6)
    found = [design_effect(list(rng.exponential(size=(3, 60))), 75) for _ in range(300)]
    assert np.mean(np.array(found) > 2) < 0.08


def test_visits_differ_about_a_limit_only_where_different_shares_are_beyond_it():
    """The second is 15% slower throughout. None comes near a limit of 3; beyond one of 2 are 2% of the first, 40% of it."""
    rng = np.random.default_rng(8)
    first = rng.uniform(1, 2.02, size=60)
    visits = [first, 1.15 * rng.uniform(1.2, 2, size=60)]
    assert design_effect(visits, 95) > 5, "about the percentile they do"
    assert effect_within(visits, 95) < 2
    assert effect_beyond(visits, 3.0) == 1.0
    assert effect_beyond(visits, 2.0) > 5
    assert effect_within([first], 95) == pytest.approx(design_effect([first], 95), rel=0.01)


def test_requests_that_are_like_their_neighbours_widen_the_interval_of_a_rate():
    """Of 1,000 rates from 120 requests that remember one another over two of them, 70% would be covered as if independent."""
    rng = np.random.default_rng(7)
    covered = {False: 0, True: 0}
    for _ in range(1000):
        noise = rng.standard_normal(120)
        for i in range(1, 120):
            noise[i] = 0.6 * noise[i - 1] + 0.8 * noise[i]
        for independent in covered:
            low, high = rate_interval([100 + noise], [np.ones(120)], independent=independent)
            covered[independent] += low <= 100 <= high
    assert covered[True] / 1000 < 0.75 and covered[False] / 1000 > 0.9


def test_visits_that_differ_widen_the_interval_of_a_rate():
    """Two visits of 60 requests, one of which is 20% slower: 15 times as wide as the noise within them would make it."""
    rng = np.random.default_rng(9)
    ones, visits = [np.ones(60)] * 2, [rng.normal(mean, 0.05, 60) for mean in (1.0, 1.2)]
    together, alone = (rate_interval(ones, durations, independent=False) for durations in (visits, [visits[0]] * 2))
    assert together.high - together.low > 10 * (alone.high - alone.low)


def test_independent_values_lose_little():
    rng = np.random.default_rng(8)
    found = [memory([rng.standard_normal(120)]).effect for _ in range(500)]
    assert np.median(found) < 1.3 and min(found) == 1.0
    assert memory([np.zeros(10)]).effect == 1.0


def test_independent_requests_each_tell_as_much_as_one():
    rng = np.random.default_rng(4)
    found = [design_effect([rng.exponential(size=200)], 95) for _ in range(100)]
    assert min(found) == 1.0
    assert 1.0 <= np.mean(found) < 1.25


def test_bursts_of_ten_that_are_alike_tell_as_much_as_one_each():
    values = np.repeat(np.random.default_rng(0).exponential(size=100), 10)
    assert 7 < design_effect([values], 95) < 14


def test_neighbours_that_are_like_each_other_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).exponential(size=60), 10)
    effect = design_effect([values], 50)
    alone, alike = percentile_interval(values, 50), percentile_interval(values, 50, effect)
    assert alike.high - alike.low > 1.5 * (alone.high - alone.low)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.lists(seconds, min_size=1, max_size=30), min_size=1, max_size=4),
    slo_percents,
)
def test_a_design_effect_is_at_least_one_at_most_all_and_the_same_in_other_units(parts, percent):
    parts = [np.array(part) for part in parts]
    found = design_effect(parts, percent)
    assert 1 <= found <= sum(len(part) for part in parts)
    assert design_effect([part * 8 for part in parts], percent) == pytest.approx(found)


@pytest.mark.parametrize("parts", [[np.ones(50)], [np.full(50, INF)], [np.array([1.0])]])
def test_requests_that_do_not_differ_have_no_design_effect(parts):
    assert design_effect(parts, 95) == 1.0


# --- do they cover? -----------------------------------------------------------------------------------------------

STARTED, MEASURED = 60, 120
"""Requests before the window, and in it."""


def closed_loops(workers, slots, lanes, requests, seed) -> Served:
    """Independent closed loops of `workers` before `slots` that serve first come, first served, in 0.1 s on average."""
    shape = (STARTED + requests + 1, lanes)
    service_s = np.random.default_rng([seed, workers, slots]).gamma(4, 0.1 / 4, size=shape)
    stations = [Station(slots, 0.0, 0.1)] * lanes
    return serve(stations, service_s, np.zeros(shape, dtype=bool), math.inf, concurrency=[workers] * lanes)


@pytest.mark.parametrize(("workers", "slots"), [(1, 1), (4, 4), (8, 4), (8, 2)])
def test_intervals_cover_the_truth_of_closed_loops(workers, slots):
    """95% intervals from 120 requests, of p95 and of the throughput; the truth is that of 300,000 requests."""
    truth = closed_loops(workers, slots, 300, 1000, seed=1)
    true_p95 = np.quantile((truth.done_s - truth.sent_s)[STARTED:-1], 0.95)
    true_rate = 1000 / (truth.sent_s[-1] - truth.sent_s[STARTED]).mean()
    lanes = 250
    seen = closed_loops(workers, slots, lanes, MEASURED, seed=2)
    p95_hits = rate_hits = 0
    for sent_s, done_s in zip(seen.sent_s.T[:, STARTED:], seen.done_s.T[:, STARTED:], strict=True):
        latency_s, closed_s = (done_s - sent_s)[:-1], sent_s[-1]
        low, high = percentile_interval(latency_s, 95, design_effect([latency_s], 95))
        p95_hits += low <= true_p95 <= high
        shares = latency_s * (closed_s - sent_s[0]) / latency_s.sum()
        low, high = rate_interval([np.ones(MEASURED)], [shares], independent=False)
        rate_hits += low <= true_rate <= high
    assert 0.90 <= p95_hits / lanes <= 0.99
    assert 0.92 <= rate_hits / lanes <= 1.0


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


@pytest.mark.parametrize("values", [0, 1, 2])
def test_fewer_than_three_values_give_no_interval(values):
    assert ratio_interval(np.ones(values), np.ones(values)) == NO_INTERVAL


@pytest.mark.parametrize("shape", [0.5, 1, 8])
def test_the_interval_of_a_rate_covers_the_true_rate_of_a_renewal_process(shape):
    """Gaps of mean 0.1 s: bursty, Poisson and even; 110 requests."""
    rng = np.random.default_rng(int(shape * 10))
    hits = 0
    for _ in range(400):
        low, high = rate_interval([np.ones(110)], [rng.gamma(shape, 0.1 / shape, size=110)], independent=False)
        hits += low <= 10 <= high
    assert 0.91 <= hits / 400 <= 0.99


def test_streams_that_answer_in_step_tell_as_much_as_one():
    """Of four streams that answer together, 120 answers are 30 rounds."""
    rounds = np.random.default_rng(5).gamma(8, 1 / 8, 30)
    together = rate_interval([np.ones(120)], [np.repeat(rounds, 4) / 4], independent=False)
    alone = ratio_interval(np.full(30, 4.0), rounds)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.35)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(1e-3, 10)), min_size=1, max_size=120))
def test_the_interval_of_a_rate_holds_the_rate(requests):
    amounts, durations = np.array(requests).T
    low, high = rate_interval([amounts], [durations], independent=False)
    rate = amounts.sum() / durations.sum()
    assert low is None or low * (1 - 1e-9) <= rate <= high * (1 + 1e-9)


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


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 2000), st.floats(0.5, 0.999))
def test_no_failure_in_n_bounds_the_share_by_the_closed_form(total, confidence):
    assert share_bounds(0, total, confidence) == pytest.approx((0, 1 - (1 - confidence) ** (1 / total)))


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 200), st.data())
def test_bounds_hold_the_observed_share_and_mirror_each_other(total, data):
    count = data.draw(st.integers(0, total))
    low, high = share_bounds(count, total, 0.9)
    assert 0 <= low <= count / total <= high <= 1
    assert share_bounds(total - count, total, 0.9) == pytest.approx((1 - high, 1 - low))


def test_no_requests_bound_nothing():
    assert share_bounds(0, 0, 0.95) == NO_INTERVAL


def test_bounds_of_requests_that_are_alike_are_those_of_fewer():
    assert share_bounds(6, 40, 0.975, effect=2.0) == pytest.approx(share_bounds(3, 20, 0.975))


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 200), st.data(), effects)
def test_likeness_never_narrows_the_bounds_of_a_share(total, data, effect):
    count = data.draw(st.integers(0, total))
    low, high = share_bounds(count, total, 0.95, effect)
    alone = share_bounds(count, total, 0.95)
    assert low <= alone.low + 1e-9 and high >= alone.high - 1e-9
    assert 0 <= low <= count / total <= high <= 1
