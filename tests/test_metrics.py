"""Every metric against numbers worked out by hand, and load points from requests that were made up."""

import math

import numpy as np
import pandas as pd
import pytest
from examples import arrivals, endpoint, facts, load_point, make_config, open_facts, request, requests_table
from hypothesis import given
from hypothesis import strategies as st

from helpers import metrics
from helpers.analysis import POINTS_FILE, read_points
from helpers.metrics import (
    all_of,
    error_rate_is_met,
    judged_state,
    limit_is_met,
    summarise_load_points,
    with_latencies,
)
from helpers.run_folder import RunFolder

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


# --- rates and prices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (metrics.request_throughput(30, 12.0), 2.5),
        (metrics.token_throughput(600, 12.0), 50.0),
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
    ],
)
def test_rates_and_prices_by_hand(found, expected):
    assert found == pytest.approx(expected)


positive = st.floats(min_value=1e-3, max_value=1e4)


@given(positive, positive, positive)
def test_prices_grow_with_the_hourly_price_and_fall_with_throughput(usd, rate, factor):
    for price in (metrics.usd_per_1k_requests, metrics.usd_per_1m_tokens):
        assert price(usd * factor, rate) == pytest.approx(price(usd, rate) * factor)
        assert price(usd, rate * factor) == pytest.approx(price(usd, rate) / factor)


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
    assert metrics.goodput(with_latencies(requests_table(rows)), config.slo, 10.0) == pytest.approx(good / 10)


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
def test_p95_cannot_be_met_with_fewer_than_59_requests(n, expected):
    """0.95 ** 59 = 4.8%."""
    assert limit_is_met(np.ones(n), 2.0, 95, 0.95) == expected


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
    assert error_rate_is_met(failures, requests, limit, 0.95) == expected


def test_one_missed_limit_misses_the_slo_and_one_undecided_leaves_it_undecided():
    assert all_of(["met", "undecided", "missed"]) == "missed"
    assert all_of(["met", "undecided", "met"]) == "undecided"
    assert all_of(["met", "met"]) == "met"


# --- load points --------------------------------------------------------------------------------------------------

FIVE = [request(1, 1.0, 0.5), request(3, 2.0, 0.5), request(5, 1.0, 0.5), request(7), request(9.5, 2.0, 0.5)]


def one_point(rows, windows=None, endpoints=None, config=None):
    points = summarise_load_points(
        requests_table(rows),
        [facts()] if windows is None else windows,
        [endpoint()] if endpoints is None else endpoints,
        config or make_config(),
    )
    assert len(points) == 1
    return points.iloc[0]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("n", 5),
        ("failures", 1),
        ("window_s", 10.0),
        ("repetitions", 1),
        ("error_rate", 0.2),
        ("requests_per_s", 0.4),
        ("output_tokens_per_s", 9.6),
        ("prompt_tokens_per_s", 40.0),
        ("achieved_concurrency", 0.55),  # the last one is in flight for 0.5 s of the window
        ("goodput_per_s", 0.2),
        ("prompt_tokens_mean", 100.0),
        ("output_tokens_mean", 24.0),
        ("usd_per_hour", 3.6),
        ("usd_per_1k_requests", 2.5),
        ("usd_per_1m_output_tokens", 1000 / 9.6),
        ("usd_per_1m_input_tokens", 25.0),
        ("usd_per_1m_tokens", 1000 / 49.6),
        ("latency_s_p50", 2.0),
        ("latency_s_mean_ok", 1.5),
        ("ttft_s_p50", 0.5),
        ("tpot_s_n", 5),
        ("tpot_s_p50", 1.5 / 23),
        ("slo", "missed"),
    ],
)
def test_a_load_point_by_hand(column, expected):
    found = one_point(FIVE)[column]
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected))


def test_a_request_belongs_to_the_window_by_its_send():
    """The last steady request ends after the window; warm-up and drain only count as in flight, whenever they end."""
    others = [request(0.2, 1.5, phase="warmup"), request(9.9, 0.05, phase="drain"), request(0.1, phase="warmup")]
    with_others, alone = one_point(FIVE + others), one_point(FIVE)
    assert with_others["achieved_concurrency"] == pytest.approx(alone["achieved_concurrency"] + (1.5 + 0.05 + 1.0) / 10)
    pd.testing.assert_series_equal(with_others.drop("achieved_concurrency"), alone.drop("achieved_concurrency"))


def test_percentiles_with_too_few_samples_are_hidden():
    point = one_point([request(i, 1.0) for i in range(19)])
    assert point["latency_s_p90"] == 1.0
    assert pd.isna(point["latency_s_p95"])
    assert pd.isna(point["latency_s_p95_low"])
    assert one_point([request(i, 1.0) for i in range(20)])["latency_s_p95"] == 1.0


def test_failures_are_infinitely_slow():
    point = one_point([request(i, 1.0) for i in range(18)] + [request(18), request(19)])
    assert point["latency_s_p95"] == math.inf
    assert point["latency_s_p95_high"] == math.inf
    assert point["latency_s_p50"] == 1.0
    assert point["latency_s_mean_ok"] == 1.0


def test_tpot_leaves_out_answers_of_one_token():
    point = one_point([request(i, 1.0, 0.5, output_tokens=1 if i < 5 else 3) for i in range(10)])
    assert (point["tpot_s_n"], point["latency_s_n"]) == (5, 10)
    assert point["tpot_s_p50"] == 0.25


def repetition(number, latency_values):
    return [request(i * 0.1, value, repetition=number) for i, value in enumerate(latency_values)]


def test_repetitions_are_pooled_as_if_they_were_one():
    first, second = [0.1, 0.5, 0.3] * 10, [0.9, 0.2] * 20
    pooled = one_point(repetition(0, first) + repetition(1, second), [facts(0, 4), facts(0, 6, repetition=1)])
    whole = one_point(repetition(0, first + second), [facts(0, 10)])
    same = [
        "n",
        "failures",
        "window_s",
        "requests_per_s",
        "output_tokens_per_s",
        "achieved_concurrency",
        "goodput_per_s",
        "latency_s_p50",
        "latency_s_p90",
        "latency_s_p95",
        "latency_s_mean_ok",
        "usd_per_1k_requests",
        "slo",
    ]
    pd.testing.assert_series_equal(pooled[same], whole[same])
    assert (pooled["repetitions"], whole["repetitions"]) == (2, 1)


def test_the_interval_comes_from_three_repetitions():
    """10, 12 and 14 requests in 10 s each: 1.2 / s, standard error 0.2 / sqrt(3), t(97.5%, 2) = 4.3027."""
    rows = [row for i, n in enumerate((10, 12, 14)) for row in repetition(i, [0.5] * n)]
    point = one_point(rows, [facts(repetition=i) for i in range(3)])
    half = 4.30265 * 0.2 / math.sqrt(3)
    assert point["requests_per_s"] == pytest.approx(1.2)
    assert point["requests_per_s_low"] == pytest.approx(1.2 - half, rel=1e-5)
    assert point["requests_per_s_high"] == pytest.approx(1.2 + half, rel=1e-5)
    assert point["usd_per_1k_requests"] == pytest.approx(1 / 1.2)
    assert point["usd_per_1k_requests_low"] == pytest.approx(1 / (1.2 + half), rel=1e-5)
    assert point["usd_per_1k_requests_high"] == pytest.approx(1 / (1.2 - half), rel=1e-5)


def test_the_interval_of_one_repetition_comes_from_ten_batches():
    """Even sends give no spread; the last batch ends with the window, which is 1 s late."""
    even = one_point([request(i, 0.5) for i in range(20)], [facts(0, 20)])
    assert (even["requests_per_s_low"], even["requests_per_s_high"]) == pytest.approx((1, 1))
    late = one_point([request(i, 0.5) for i in range(20)], [facts(0, 21)])
    assert late["requests_per_s_low"] < late["requests_per_s"] < late["requests_per_s_high"]


def test_a_rate_that_may_be_zero_has_no_highest_price():
    rows = [request(i, 0.5 if i == 0 else None) for i in range(10)]
    assert one_point(rows)["usd_per_1k_requests_high"] == math.inf


def test_all_instances_of_an_option_are_paid():
    point = one_point(FIVE, endpoints=[endpoint(instance_count=2)])
    assert point["usd_per_hour"] == 7.2
    assert point["usd_per_1k_requests"] == pytest.approx(5.0)


@pytest.mark.parametrize("endpoints", [[], [endpoint(usd_per_hour=None)]])
def test_without_a_price_all_prices_are_unknown(endpoints):
    point = one_point(FIVE, endpoints=endpoints)
    assert point[[column for column in point.index if column.startswith("usd")]].isna().all()
    assert point["requests_per_s"] == 0.4


def test_the_slo_needs_every_limit_and_the_error_rate():
    fast = [request(i * 0.05, 0.5, 0.2) for i in range(110)]
    config = make_config(slo={"latency_s": 1, "ttft_s": 0.1, "error_rate": 0.03})
    point = one_point(fast, config=config)
    assert (point["slo_latency_s"], point["slo_ttft_s"], point["slo_error_rate"]) == ("met", "missed", "met")
    assert point["slo"] == "missed"
    assert one_point(fast, config=make_config(slo={"error_rate": 0.03}))["slo"] == "met"
    assert one_point(fast, config=make_config(slo={"error_rate": 0.01}))["slo"] == "undecided"


def test_load_points_come_in_the_order_of_the_config_and_unmeasured_ones_are_absent():
    """The levels are those that were measured, ascending, whatever the config names."""
    config = make_config(["b", "a"], load={"concurrency": [3, 2, 1]})
    keys = [("a", 1.0), ("b", 1.0), ("b", 2.0)]
    rows = [request(i, 0.5, option=o, level=c) for o, c in keys for i in range(3)]
    rows += [request(0, 0.5, option="a", level=2.0)]  # its load point has no window
    windows = [facts(option=o, level=c) for o, c in keys] + [facts(level=2.0, window_open_ns=None)]
    points = summarise_load_points(requests_table(rows), windows, [], config)
    assert points[["option", "level", "load", "load_kind"]].to_numpy().tolist() == [
        ["b", 1.0, "concurrency 1", "closed_loop"],
        ["b", 2.0, "concurrency 2", "closed_loop"],
        ["a", 1.0, "concurrency 1", "closed_loop"],
    ]
    assert points["n"].tolist() == [3, 3, 3]


# --- open loops ---------------------------------------------------------------------------------------------------

OPEN = make_config(load={"kind": "open_loop", "rate": [2.5]})


def scheduled(at_s, late_s=0.0, latency_s=None, ttft_s=None, **changes):
    """A request that was to be sent at `at_s` and was sent `late_s` later; latencies count from its send."""
    row = request(at_s + late_s, latency_s, ttft_s, level=2.5, **changes)
    return row | {"scheduled_ns": round(at_s * 1e9)}


def test_a_load_point_of_an_open_loop_says_how_its_schedule_was_kept():
    rows = [scheduled(i * 0.4, 0.001, 0.2) for i in range(25)]
    kept = open_facts(2.5, achieved=arrivals(2.45))
    point = one_point(rows, [kept], config=OPEN)
    assert (point["load_kind"], point["level"], point["load"]) == ("open_loop", 2.5, "2.5 requests/s")
    assert (point["asked_rate_per_s"], point["achieved_rate_per_s"]) == pytest.approx((2.5, 2.45))
    assert point["schedule_lag_p99_ms"] == 0.4
    assert point["achieved_concurrency"] == pytest.approx(25 * 0.2 / 10)
    assert point["requests_per_s"] == 2.5


def test_a_closed_loop_has_no_rate_that_was_asked_and_no_lag():
    assert one_point(FIVE)[["asked_rate_per_s", "achieved_rate_per_s", "schedule_lag_p99_ms"]].isna().all()


def test_rates_of_repetitions_are_pooled_over_their_gaps_and_the_largest_lag_counts():
    """100 gaps at 10/s and 100 at 30/s: 200 gaps in 13.33 s."""
    rows = [scheduled(i * 0.4, 0.0, 0.2, repetition=r) for r in (0, 1) for i in range(25)]
    lags = [{"p50": 0.1, "p99": p99, "max": 9.0} for p99 in (0.7, 0.3)]
    windows = [
        open_facts(2.5, repetition=r, achieved=arrivals(rate), schedule_lag_ms=lags[r])
        for r, rate in enumerate((10.0, 30.0))
    ]
    point = one_point(rows, windows, config=OPEN)
    assert point["achieved_rate_per_s"] == pytest.approx(200 / (10 + 10 / 3))
    assert point["schedule_lag_p99_ms"] == 0.7


def test_a_stalled_client_does_not_hide_a_stall():
    """Twenty requests that were due every 0.1 s are all sent at 2 s and answered at once: the first waited 2 s."""
    rows = [scheduled(i * 0.1, 2.0 - i * 0.1, 0.0) for i in range(20)]
    point = one_point(rows, [open_facts(2.5)], config=OPEN)
    assert point["latency_s_p50"] == pytest.approx(1.05)
    assert point["latency_s_mean_ok"] == pytest.approx(1.05)


def test_an_answer_without_a_first_token_has_no_ttft_and_a_failure_is_endless():
    rows = [scheduled(i * 0.1, 0.0, 0.5, 0.25, **({"first_token_ns": None} if i < 4 else {})) for i in range(9)]
    point = one_point([*rows, scheduled(0.95)], [open_facts(2.5)], config=OPEN)
    assert (point["ttft_s_n"], point["latency_s_n"]) == (6, 10)
    assert point["ttft_s_p50"] == 0.25
    assert point["ttft_s_mean_ok"] == 0.25
    assert one_point([*rows, scheduled(0.95)] * 2, [open_facts(2.5)], config=OPEN)["ttft_s_p90"] == math.inf


def test_a_request_that_was_never_sent_was_never_in_flight():
    rows = [scheduled(i * 0.4, 0.0, 0.2) for i in range(25)] + [scheduled(9.9, status="timeout")]
    rows[-1]["sent_ns"] = rows[-1]["done_ns"] = None
    point = one_point(rows, [open_facts(2.5)], config=OPEN)
    assert point["achieved_concurrency"] == pytest.approx(0.5)
    assert (point["n"], point["failures"]) == (26, 1)


def test_the_bootstrap_of_an_open_loop_keeps_together_what_was_in_flight_at_once():
    """Bursts of ten that are alike: with as many in flight at once the interval is wide, one at a time it is not."""
    values = np.repeat(np.random.default_rng(3).exponential(size=20), 10)
    widths = []
    for in_flight in (1, 40):
        rows = [scheduled(i * 0.05, 0.0, float(v)) for i, v in enumerate(values)]
        rows += [request(0, 10.0, level=2.5, phase="warmup")] * in_flight
        point = one_point(rows, [open_facts(2.5)], config=OPEN)
        widths.append(point["latency_s_p95_high"] - point["latency_s_p95_low"])
    assert widths[1] != widths[0]


# --- what feeds no verdict ----------------------------------------------------------------------------------------

FAST = [request(i * 0.05, 0.5) for i in range(110)]
SLOW = [request(i * 0.05, 5.0) for i in range(110)]


@pytest.mark.parametrize(
    ("rows", "changes", "state"),
    [
        (FAST, {}, "met"),
        (FAST, {"steady": False}, "undecided"),
        (FAST, {"steady": None}, "undecided"),
        (FAST, {"client_limited": ["busy"]}, "client_limited"),
        (SLOW, {}, "missed"),
        (SLOW, {"steady": False}, "missed"),
        (SLOW, {"steady": None}, "missed"),
        (SLOW, {"steady": False, "client_limited": ["busy"]}, "client_limited"),
    ],
)
def test_only_a_steady_load_point_that_the_client_did_not_limit_can_meet_the_slo(rows, changes, state):
    sound, point = one_point(rows), one_point(rows, [facts(**changes)])
    assert point["slo"] == state
    same = sound.index.drop(["slo", "steady", "client_limited"])
    pd.testing.assert_series_equal(point[same], sound[same])


def test_one_repetition_that_the_client_limited_or_that_was_not_steady_is_enough():
    rows = [row | {"repetition": r} for r in (0, 1) for row in FAST]
    limited = one_point(rows, [facts(), facts(repetition=1, client_limited=["late sends"])])
    assert (limited["slo"], limited["client_limited"], limited["steady"]) == ("client_limited", True, True)
    unsteady = one_point(rows, [facts(), facts(repetition=1, steady=False)])
    assert (unsteady["slo"], unsteady["client_limited"], unsteady["steady"]) == ("undecided", False, False)


@pytest.mark.parametrize(
    ("rows", "within"),
    [
        (FAST, True),
        (FAST[:1], True),
        (SLOW, False),
        (FAST[:19] + SLOW[:1], True),  # p95 lies 5% of the way from the 19th to the 20th: 0.5 + 0.05 x 4.5 s
        (FAST[:18] + SLOW[:2], False),
        ([*FAST[:19], request(9)], False),  # an endless one: p95 is endless, though 5% may fail
        ([request(9)], False),
    ],
)
def test_the_estimates_alone_are_within_the_slo_or_not(rows, within):
    point = one_point(rows)
    assert point["estimates_within_slo"] == within
    assert within or point["slo"] != "met"


def test_undecided_stays_undecided_in_a_steady_state():
    assert judged_state(["met", "undecided"], True, False) == "undecided"
    assert judged_state(["met", "met"], True, False) == "met"


def test_a_rerun_gives_the_same_table_and_another_seed_other_intervals():
    rows = [request(i * 0.1, value) for i, value in enumerate(np.random.default_rng(0).exponential(size=100))]
    columns = ["latency_s_p95_low", "latency_s_p95_high"]
    once, again, other = (one_point(rows, config=make_config(seed=seed)) for seed in (1, 1, 2))
    pd.testing.assert_series_equal(once, again)
    assert once[columns].tolist() != other[columns].tolist()
    assert once["latency_s_p95"] == other["latency_s_p95"]


def test_the_table_that_is_written_is_read_back_unrounded(tmp_path):
    """Also where names look like numbers or like nothing."""
    points = pd.DataFrame(
        [load_point("NA", "512", rate=1 / 3), load_point("2", "1e3", rate=math.pi, usd_per_hour=None)]
    )
    run = RunFolder(tmp_path)
    points.to_csv(run.metrics / POINTS_FILE, index=False)
    pd.testing.assert_frame_equal(read_points(run), points, check_dtype=False, check_exact=True)


def test_too_few_samples_never_show_that_a_percentile_is_met():
    fast = np.full(19, 0.1)
    assert limit_is_met(fast, 1.0, 95, 0.5) == "undecided", "p95 wants 20 samples to be shown at all"
    assert limit_is_met(np.append(fast, 0.1), 1.0, 95, 0.5) == "met"
