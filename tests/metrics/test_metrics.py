"""Every metric against numbers worked out by hand, and what must hold of each whatever the numbers are."""

import math

import numpy as np
import pytest
from examples import make_config, request, requests_table, token_price
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.metrics import formulas as metrics
from helpers.metrics.formulas import all_of, judged_state, limit_is_met, share_is_met, with_latencies

CACHED = token_price(0.5, 2.5, usd_per_1m_cached_input_tokens=0.05)

# --- per request --------------------------------------------------------------------------------------------------


def latencies(*rows):
    return with_latencies(requests_table(rows)).iloc[0]


def test_latency_and_ttft_count_from_the_send():
    row = latencies(request(5.0, 2.0, ttft_s=0.25))
    assert (row.ok, row.latency_s, row.ttft_s) == (True, 2.0, 0.25)


def test_latency_and_ttft_count_from_the_schedule_where_there_is_one():
    row = latencies(request(5.0, 2.0, ttft_s=0.25, scheduled_ns=4_000_000_000))
    assert (row.latency_s, row.ttft_s) == (3.0, 1.25)


@pytest.mark.parametrize(("tokens", "expected"), [(24, 1.75 / 23), (2, 1.75), (1, None), (0, None), (None, None)])
def test_tpot_is_the_time_after_the_first_token_over_the_other_tokens(tokens, expected):
    found = latencies(request(5.0, 2.0, ttft_s=0.25, output_tokens=tokens)).tpot_s
    assert math.isnan(found) if expected is None else found == pytest.approx(expected)


def test_an_answer_without_a_first_token_has_a_latency_only():
    row = latencies(request(5.0, 2.0, first_token_ns=None))
    assert row.latency_s == 2.0
    assert math.isnan(row.ttft_s)
    assert math.isnan(row.tpot_s)


def test_a_failure_has_no_latency_even_where_stamps_exist():
    row = latencies(request(5.0, 2.0, status="stream_broken"))
    assert not row.ok
    assert row[["latency_s", "ttft_s", "tpot_s"]].isna().all()


NS = 1_000_000_000


@pytest.mark.parametrize(
    ("answers", "gaps"),
    [
        ([[1.0, 1.5, 2.25]], [0.5, 0.75]),
        ([[1.0, 1.5], [9.0, 9.25, 9.5]], [0.5, 0.25, 0.25]),
        ([[1.0], [2.0, 2.125], [3.0]], [0.125]),
        ([[1.0, 2.0], [], [3.0, 3.5], []], [1.0, 0.5]),
        ([[], [1.0, 2.0]], [1.0]),
        ([[1.0], [2.0]], []),
        ([[]], []),
    ],
)
def test_inter_token_latencies_are_the_gaps_within_an_answer_never_those_between_two(answers, gaps):
    times = np.array([time for answer in answers for time in answer]) * NS
    offsets = np.cumsum([0] + [len(answer) for answer in answers])
    assert metrics.inter_token_latencies_s(times.astype("int64"), offsets, np.ones(len(times), int)).tolist() == gaps


def test_the_tokens_of_a_chunk_share_its_gap_and_a_chunk_without_a_token_is_none():
    times = (np.array([1.0, 1.5, 2.25, 9.0, 9.25, 10.0, 20.0]) * NS).astype("int64")
    tokens = np.array([1, 2, 3, 2, 0, 4, 3])
    gaps = metrics.inter_token_latencies_s(times, np.array([0, 3, 6, 7]), tokens)
    assert gaps.tolist() == [0.25] * 2 + [0.25] * 3 + [0.25] * 4
    assert gaps.sum() == (2.25 - 1.0) + (10.0 - 9.0), "tL - t1 of each answer"


# --- rates and prices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            metrics.achieved_concurrency(np.array([0.0, 9.0]), np.array([8.0, 30.0]), (2.0, 12.0)),
            0.9,
        ),  # 6 s and 3 s of 10
        (metrics.error_rate(3, 60), 0.05),
        (metrics.error_rate(0, 0), None),
        (metrics.usd_per_1k_requests(7.2, 2.0), 1.0),  # 7,200 requests an hour for 7.2 dollars
        (metrics.usd_per_1m_tokens(3.6, 100.0), 10.0),  # 360,000 tokens an hour for 3.6 dollars
        (metrics.usd_per_1k_requests(None, 2.0), None),
        (metrics.usd_per_1k_requests(7.2, 0.0), None),
        (metrics.usd_per_1m_tokens(None, 100.0), None),
        (metrics.usd_per_1m_tokens(3.6, 0.0), None),
        (metrics.usd_per_1k_requests(0.0, 2.0), 0.0),
        (token_price(0.5, 2.5).usd_of_tokens(1000.0, 200.0), 0.001),  # 0.0005 for the prompt, 0.0005 for the answer
        (token_price(0.0, 0.0).usd_of_tokens(1000.0, 200.0), 0.0),
        (token_price(0.5, 2.5).usd_of_tokens(1000.0, 200.0, 400.0), 0.001),  # no price of its own
        (CACHED.usd_of_tokens(1000.0, 200.0, 400.0), 0.00082),  # 0.0003 + 0.00002 + 0.0005
        (token_price(0.5, 2.5).usd_of_tokens(None, 200.0), None),
        (token_price(0.5, 2.5).usd_of_tokens(1000.0, None), None),
    ],
)
def test_rates_and_prices_by_hand(found, expected):
    assert found == pytest.approx(expected)


positive = st.floats(min_value=1e-3, max_value=1e4)


@settings(deadline=None, derandomize=True)
@given(positive, positive, positive)
def test_prices_grow_with_the_hourly_price_and_fall_with_throughput(usd, rate, factor):
    for price in (metrics.usd_per_1k_requests, metrics.usd_per_1m_tokens):
        assert price(usd * factor, rate) == pytest.approx(price(usd, rate) * factor)
        assert price(usd, rate * factor) == pytest.approx(price(usd, rate) / factor)


@settings(deadline=None, derandomize=True)
@given(positive, positive, positive, positive, positive)
def test_what_is_billed_by_the_token_grows_with_tokens_and_with_their_prices(prompt, output, price_in, price_out, by):
    usd = token_price(price_in, price_out).usd_of_tokens(prompt, output)
    assert token_price(price_in, price_out).usd_of_tokens(prompt * by, output * by) == pytest.approx(usd * by)
    assert token_price(price_in * by, price_out * by).usd_of_tokens(prompt, output) == pytest.approx(usd * by)


def test_only_the_part_of_a_request_that_lies_in_the_window_is_in_flight():
    """Before, over the start, within, over the end, around, and after a window of 10 s: 0 + 1 + 2 + 3 + 10 + 0."""
    sent, done = np.array([0.0, 9, 12, 17, 0, 21]), np.array([5.0, 11, 14, 25, 40, 22])
    assert metrics.achieved_concurrency(sent, done, (10.0, 20.0)) == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        ({"latency_s": 2.0}, 3),
        ({"latency_s": 1.999}, 2),
        ({"latency_s": 9, "ttft_s": 0.5}, 2),
        ({"latency_s": 9, "tpot_s": 0.05}, 2),  # 0.75, 1.1 / 23 = 0.048, 1 / 23 = 0.043, 1.5 / 23 = 0.065 s
        ({"latency_s": 1.5, "ttft_s": 0.5, "tpot_s": 0.05}, 1),
    ],
)
def test_goodput_counts_what_met_every_limit_and_a_failure_is_a_miss(slo, good):
    rows = [request(0, 1.0, 0.25), request(1, 1.2, 0.1), request(2, 2.0, 1.0), request(3, 3.0, 1.5), request(4)]
    rows[0]["output_tokens"] = 2
    config = make_config(slo={"latency_s": None, **slo})
    assert metrics.within_slo(with_latencies(requests_table(rows)), config.slo).sum() / 10.0 == pytest.approx(good / 10)


def test_a_latency_that_a_request_does_not_have_misses_no_limit():
    rows = [
        request(0, 1.0, 0.5),
        request(1, 1.0, 0.5, output_tokens=1),
        request(2, 1.0, first_token_ns=None),
        request(3),
    ]
    config = make_config(slo={"tpot_s": 0.001})
    assert metrics.within_slo(with_latencies(requests_table(rows)), config.slo).tolist() == [False, True, True, False]


# --- the SLO ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misses", "expected"),
    [(0, "met"), (1, "met"), (2, "undecided"), (5, "undecided"), (9, "undecided"), (10, "missed"), (110, "missed")],
)
@pytest.mark.parametrize("slow", [2.5, math.inf])
def test_of_110_requests_two_may_not_miss_p95_and_ten_must_not(misses, expected, slow):
    """At a share of 5%: P(at most 1 of 110) = 2.4%, P(at most 2) = 8.3%; P(at least 10) = 4.9%, P(at least 9) = 10%."""
    values = np.array([1.0] * (110 - misses) + [slow] * misses)
    assert limit_is_met(values, 2.0, 95, 0.95) == expected


def test_a_latency_equal_to_the_limit_is_within_it():
    assert limit_is_met(np.full(110, 2.0), 2.0, 95, 0.95) == "met"


@pytest.mark.parametrize(("n", "expected"), [(0, "undecided"), (58, "undecided"), (59, "met")])
def test_p95_of_a_limit_close_by_cannot_be_met_with_fewer_than_59_requests(n, expected):
    """0.95 ** 59 = 4.8%. One in five is twice as slow as the others, and just within the limit."""
    values = np.where(np.arange(n) % 5 == 0, 2.0, 1.0)
    assert limit_is_met(values, 2.01, 95, 0.95) == expected


@pytest.mark.parametrize(("limit", "expected"), [(2.9, "undecided"), (3.2, "met")])
def test_a_limit_far_away_is_met_by_mean_and_deviation(limit, expected):
    """20 halves of 0.9 and 1.1 s: sd 0.1026, mean at most 1.038, so p95 below 1.038 + 4.36 x 0.1026 = 1.485."""
    values = np.tile([0.9, 1.1], 10)
    assert limit_is_met(values, limit / 2, 95, 0.95) == expected


def test_requests_that_are_alike_decide_less():
    """Of 110 one may be slow; if two tell as much as one, 0.5 of 55 are: not enough to be sure."""
    values = np.array([1.0] * 109 + [9.0])
    assert limit_is_met(values, 2.0, 95, 0.95) == "met"
    assert limit_is_met(values, 2.0, 95, 0.95, effect=2.0) == "undecided"
    missed = np.array([1.0] * 98 + [9.0] * 12)
    assert limit_is_met(missed, 2.0, 95, 0.95) == "missed"
    assert limit_is_met(missed, 2.0, 95, 0.95, effect=2.0) == "undecided"


def test_too_few_samples_never_show_that_a_percentile_is_met():
    fast = np.full(19, 0.1)
    assert limit_is_met(fast, 1.0, 95, 0.5) == "undecided", "p95 wants 20 samples to be shown at all"
    assert limit_is_met(np.append(fast, 0.1), 1.0, 95, 0.5) == "met"


latencies_s = st.lists(st.floats(min_value=1e-3, max_value=1e3), min_size=1, max_size=200)
percents = st.sampled_from([50, 90, 95, 99])
ORDER = {"missed": 0, "undecided": 1, "met": 2}


@settings(deadline=None, derandomize=True)
@given(latencies_s, st.floats(min_value=1e-3, max_value=1e3), percents, st.sampled_from([0.125, 4.0, 1024.0]))
def test_latencies_and_limit_in_another_unit_give_the_same_state(values, limit, percent, factor):
    values = np.array(values)
    state = limit_is_met(values, limit, percent, 0.95)
    assert limit_is_met(values * factor, limit * factor, percent, 0.95) == state


@settings(deadline=None, derandomize=True)
@given(latencies_s, st.floats(min_value=1e-3, max_value=1e3), st.floats(min_value=1, max_value=100), percents)
def test_a_looser_limit_is_never_harder_to_meet(values, limit, looser, percent):
    values = np.array(values)
    strict, loose = (limit_is_met(values, at, percent, 0.95) for at in (limit, limit * looser))
    assert ORDER[loose] >= ORDER[strict]


@settings(deadline=None, derandomize=True)
@given(latencies_s, st.floats(min_value=1e-3, max_value=1e3), percents, st.data())
def test_a_failure_never_helps_to_meet_a_limit(values, limit, percent, data):
    worse = np.array(values)
    worse[data.draw(st.integers(0, len(values) - 1))] = math.inf
    before, after = (limit_is_met(np.array(v), limit, percent, 0.95) for v in (values, worse))
    assert ORDER[after] <= ORDER[before]


@settings(deadline=None, derandomize=True)
@given(latencies_s, st.floats(min_value=1e-3, max_value=1e3), percents, st.floats(0.5, 0.9))
def test_more_confidence_never_decides_what_less_left_open(values, limit, percent, confidence):
    values = np.array(values)
    less, more = (limit_is_met(values, limit, percent, at) for at in (confidence, 0.95))
    assert more in (less, "undecided")


@pytest.mark.parametrize(
    ("failures", "requests", "limit", "expected"),
    [
        (0, 110, 0.03, "met"),
        (1, 110, 0.03, "undecided"),
        (0, 98, 0.03, "undecided"),
        (0, 99, 0.03, "met"),
        (20, 100, 0.03, "missed"),
        (0, 1000, 0.0, "undecided"),
        (1, 1000, 0.0, "missed"),
        (0, 0, 0.5, "undecided"),
    ],
)
def test_the_error_rate_is_decided_by_exact_bounds(failures, requests, limit, expected):
    assert share_is_met(failures, requests, limit, 0.95) == expected


def test_failures_that_come_together_decide_less():
    assert share_is_met(0, 110, 0.03, 0.95, effect=1.0) == "met"
    assert share_is_met(0, 110, 0.03, 0.95, effect=1.2) == "undecided"


def test_failures_are_endless_and_answers_without_a_value_left_out():
    rows = [request(0, 2.0, 1.0), request(1), request(2, 3.0, 1.0, output_tokens=1)]
    seen = with_latencies(requests_table(rows))
    ok = seen["ok"].to_numpy(dtype=bool)
    assert metrics.with_failures(seen["latency_s"], ok).tolist() == [2.0, math.inf, 3.0]
    assert metrics.with_failures(seen["tpot_s"], ok).tolist() == [pytest.approx(1 / 23), math.inf]


@pytest.mark.parametrize(
    ("slow", "failed", "slo", "within"),
    [
        (0, 0, {}, True),
        (1, 0, {}, True),  # p95 lies 5% of the way from the 19th to the 20th: 0.5 + 0.05 x 4.5 s
        (2, 0, {}, False),
        (0, 1, {}, False),  # an endless one: p95 is endless, though 5% may fail
        (0, 1, {"percentile": 90}, True),
        (0, 1, {"percentile": 90, "error_rate": 0.04}, False),
        (0, 20, {"error_rate": 0.999}, False),
    ],
)
def test_the_estimates_alone_are_within_the_slo_or_not(slow, failed, slo, within):
    rows = [request(i, 0.5) for i in range(20 - slow - failed)]
    rows += [request(20 + i, 5.0) for i in range(slow)] + [request(40 + i) for i in range(failed)]
    assert metrics.estimates_within(with_latencies(requests_table(rows)), make_config(slo=slo).slo) is within


def test_undecided_stays_undecided_in_a_steady_state():
    assert judged_state(["met", "undecided"], True, False) == "undecided"
    assert judged_state(["met", "met"], True, False) == "met"


def test_one_missed_limit_misses_the_slo_and_one_undecided_leaves_it_undecided():
    assert all_of(["met", "undecided", "missed"]) == "missed"
    assert all_of(["met", "undecided", "met"]) == "undecided"
    assert all_of(["met", "met"]) == "met"
