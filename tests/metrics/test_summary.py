"""Load points from request records that were made up and written, each number worked out by hand."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import (
    arrivals,
    endpoint,
    facts,
    load_point,
    make_config,
    open_facts,
    request,
    summarise_load_points,
    token_price,
    write_run,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.errors import RunFolderError
from helpers.metrics.chunks import inter_token_percentiles
from helpers.metrics.intervals import percentile, percentile_interval, rate_interval
from helpers.metrics.load_point_latencies import PERCENTS
from helpers.metrics.summary import read_load_points
from helpers.run.folder import RunFolder
from helpers.run.records import SCHEMA
from helpers.verdict.analysis import POINTS_FILE, read_points

# --- load points --------------------------------------------------------------------------------------------------

FIVE = [request(1, 1.0, 0.5), request(3, 2.0, 0.5), request(5, 1.0, 0.5), request(7), request(9.5, 2.0, 0.5)]


@pytest.fixture
def points_of(tmp_path):
    """Writes request records, and reads the load points that they make."""

    def read(rows, windows=None, endpoints=None, config=None):
        windows = [facts()] if windows is None else windows
        folder = write_run(tmp_path / str(len(list(tmp_path.iterdir()))), rows, windows)
        endpoints = [endpoint()] if endpoints is None else endpoints
        return summarise_load_points(folder, windows, endpoints, config or make_config())

    return read


@pytest.fixture
def one_point(points_of):
    """The same of records that make one load point."""

    def read(*args, **kwargs):
        points = points_of(*args, **kwargs)
        assert len(points) == 1
        return points.iloc[0]

    return read


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("n", 5),
        ("failures", 1),
        ("window_s", 10.0),
        ("repetitions", 1),
        ("error_rate", 0.2),
        ("error_rate_low", 0.0051),  # 1 of 5 in published tables
        ("error_rate_high", 0.7164),
        ("requests_per_s", 0.4),
        ("output_tokens_per_s", 9.6),
        ("prompt_tokens_per_s", 40.0),
        ("served_requests_per_s", 0.4),
        ("served_output_tokens_per_s", 9.6),
        ("served_prompt_tokens_per_s", 40.0),
        ("achieved_concurrency", 0.55),  # the last one is in flight for 0.5 s of the window
        ("goodput_per_s", 0.2),
        ("prompt_tokens_mean", 100.0),
        ("output_tokens_mean", 24.0),
        ("prompt_tokens_sd", 0.0),
        ("output_tokens_sd", 0.0),
        ("usd_per_hour", 3.6),
        ("usd_per_1k_requests", 2.5),
        ("usd_per_1m_output_tokens", 1000 / 9.6),
        ("usd_per_1m_input_tokens", 25.0),
        ("usd_per_1m_tokens", 1000 / 49.6),
        ("latency_s_p50", 2.0),
        ("latency_s_mean_ok", 1.5),
        ("ttft_s_p50", 0.5),
        ("tpot_s_n", 5),
        ("latency_s_n", 5),
        ("tpot_s_p50", 1.5 / 23),
        ("slo_latency_s", "missed"),
        ("slo_error_rate", "undecided"),
        ("slo", "missed"),
        ("estimates_within_slo", False),
    ],
)
def test_a_load_point_by_hand(one_point, column, expected):
    found = one_point(FIVE)[column]
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected, abs=5e-5))


def test_a_request_belongs_to_the_window_by_its_send(one_point):
    """The last steady request ends after the window; warm-up and drain only count as in flight, whenever they end."""
    others = [request(0.2, 1.5, phase="warmup"), request(9.9, 0.05, phase="drain"), request(0.1, phase="warmup")]
    with_others, alone = one_point(FIVE + others), one_point(FIVE)
    assert with_others["achieved_concurrency"] == pytest.approx(alone["achieved_concurrency"] + (1.5 + 0.05 + 1.0) / 10)
    pd.testing.assert_series_equal(with_others.drop("achieved_concurrency"), alone.drop("achieved_concurrency"))


def test_percentiles_with_too_few_samples_are_hidden(one_point):
    point = one_point([request(i, 1.0) for i in range(19)])
    assert point["latency_s_p90"] == 1.0
    assert pd.isna(point["latency_s_p95"])
    assert pd.isna(point["latency_s_p95_low"])
    assert one_point([request(i, 1.0) for i in range(20)])["latency_s_p95"] == 1.0


def test_failures_are_infinitely_slow(one_point):
    point = one_point([request(i, 1.0) for i in range(18)] + [request(18), request(19)])
    assert point["latency_s_p95"] == math.inf
    assert point["latency_s_p95_high"] == math.inf
    assert point["latency_s_p50"] == 1.0
    assert point["latency_s_mean_ok"] == 1.0


@pytest.mark.parametrize("missing", [{"output_tokens": 1}, {"output_tokens": None}, {"first_token_ns": None}])
def test_a_latency_that_no_answer_has_is_unknown(one_point, missing):
    point = one_point(
        [request(i * 0.05, 0.5, 0.2, **missing) for i in range(110)], config=make_config(slo={"tpot_s": 9})
    )
    assert point["tpot_s_n"] == 0
    assert point[["tpot_s_mean_ok", "tpot_s_p50", "tpot_s_p95", "tpot_s_p95_low", "tpot_s_p95_high"]].isna().all()
    assert (point["slo_latency_s"], point["slo_tpot_s"], point["slo"]) == ("met", "undecided", "undecided")


def test_tpot_leaves_out_answers_of_one_token(one_point):
    point = one_point([request(i, 1.0, 0.5, output_tokens=1 if i < 5 else 3) for i in range(10)])
    assert (point["tpot_s_n"], point["latency_s_n"]) == (5, 10)
    assert point["tpot_s_p50"] == 0.25


def test_repetitions_that_differ_far_from_the_limit_show_that_it_is_met(one_point):
    """The second is 40% slower throughout, and four times as fast as the limit asks: its requests count."""
    rng = np.random.default_rng(9)
    first, second = rng.uniform(0.1, 0.2, 60), 1.4 * rng.uniform(0.1, 0.2, 60)
    windows = [facts(0, 6), facts(0, 6, repetition=1)]
    found = one_point(repetition(0, first) + repetition(1, second), windows)
    assert found["latency_s_effective_n"] < 20
    assert (found["beyond_latency_s"], found["slo_latency_s"]) == (0, "met")
    assert found["limit_effect_latency_s"] < 2


def repetition(number, latency_values):
    return [request(i * 0.1, value, repetition=number) for i, value in enumerate(latency_values)]


def test_repetitions_are_pooled_as_if_they_were_one(one_point):
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
    ]
    pd.testing.assert_series_equal(pooled[same], whole[same])
    assert (pooled["repetitions"], whole["repetitions"]) == (2, 1)


def test_the_interval_comes_from_three_repetitions(one_point):
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


def test_the_interval_of_one_repetition_comes_from_its_requests(one_point):
    """Of a closed loop from how long they last, each with its share of the window: even ones give no spread."""
    even = one_point([request(i, 0.5) for i in range(20)], [facts(0, 20)])
    assert (even["requests_per_s_low"], even["requests_per_s_high"]) == pytest.approx((1, 1))
    uneven = one_point([request(i, 0.25 + i % 2 / 2) for i in range(20)], [facts(0, 20)])
    expected = rate_interval([np.ones(20)], [np.tile([0.5, 1.5], 10)], independent=False)
    assert (uneven["requests_per_s_low"], uneven["requests_per_s_high"]) == pytest.approx(expected)


def test_the_interval_of_an_open_loop_comes_from_its_gaps(one_point):
    sends = np.cumsum(np.tile([0.5, 1.5], 10)) - 0.5
    point = one_point([request(float(t), 0.1) for t in sends], [facts(0, 20, load_kind="open_loop")])
    expected = rate_interval([np.ones(20)], [np.append(np.diff(sends), 20 - sends[-1])], independent=False)
    assert (point["requests_per_s_low"], point["requests_per_s_high"]) == pytest.approx(expected)


def test_a_rate_that_may_be_zero_has_no_highest_price(one_point):
    rows = [request(i, 0.5 if i == 0 else None) for i in range(10)]
    assert one_point(rows)["usd_per_1k_requests_high"] == math.inf


def test_all_instances_of_an_option_are_paid(one_point):
    point = one_point(FIVE, endpoints=[endpoint(instance_count=2)])
    assert point["usd_per_hour"] == 7.2
    assert point["usd_per_1k_requests"] == pytest.approx(5.0)


BY_TOKEN = endpoint(price=token_price(3.0, 15.0))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("usd_per_1k_requests", 0.66),  # 100 x 3 + 24 x 15 = 660 $ for a million requests
        ("usd_per_1k_requests_low", 0.66),
        ("usd_per_1k_requests_high", 0.66),
        ("usd_per_1m_output_tokens", 27.5),  # 660 $ / 24
        ("usd_per_1m_output_tokens_low", 27.5),
        ("usd_per_1m_output_tokens_high", 27.5),
        ("usd_per_1m_input_tokens", 6.6),
        ("usd_per_1m_tokens", 660 / 124),
        ("usd_per_hour", None),
    ],
)
def test_prices_of_what_is_billed_by_the_token_by_hand(one_point, column, expected):
    found = one_point(FIVE, endpoints=[BY_TOKEN])[column]
    assert pd.isna(found) if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(("cached_price", "usd_per_1k"), [(None, 0.66), (0.3, 0.66 - 0.5 * 0.04 * 2.7)])
def test_prompt_tokens_from_a_cache_have_a_price_of_their_own(points_of, cached_price, usd_per_1k):
    """40 of the 100 prompt tokens of every second request; of the others the server says nothing."""
    billed = endpoint(price=token_price(3.0, 15.0, usd_per_1m_cached_input_tokens=cached_price))
    rows = [request(float(i), 0.5, cached_tokens=40 if i % 2 else None) for i in range(20)]
    (point,) = points_of(rows, [facts()], [billed]).to_dict("records")
    assert point["usd_per_1k_requests"] == pytest.approx(usd_per_1k)


def test_what_is_billed_by_the_token_costs_the_same_at_every_load(points_of):
    rows = [request(i / level, 0.5, level=level) for level in (1.0, 4.0) for i in range(20)]
    points = points_of(rows, [facts(level=1.0), facts(level=4.0)], [BY_TOKEN])
    assert points["usd_per_1k_requests"].tolist() == pytest.approx([0.66, 0.66])


def test_what_is_billed_by_the_token_has_no_price_where_tokens_are_unknown(one_point):
    point = one_point([request(i, 0.5, prompt_tokens=None) for i in range(5)], endpoints=[BY_TOKEN])
    assert point[[column for column in point.index if column.startswith("usd")]].isna().all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    latency=st.lists(st.floats(0.01, 5), min_size=3, max_size=40),
    usd=st.floats(0.01, 100),
    factor=st.floats(0.1, 10),
)
def test_every_price_grows_with_the_hourly_price_and_nothing_else_does(tmp_path_factory, latency, usd, factor):
    folder = write_run(
        tmp_path_factory.mktemp("r"), [request(i * 0.2, value) for i, value in enumerate(latency)], [facts()]
    )
    one, more = (
        summarise_load_points(folder, [facts()], [endpoint(usd_per_instance_hour=price)], make_config()).iloc[0]
        for price in (usd, usd * factor)
    )
    priced = [column for column in one.index if column.startswith("usd")]
    assert (more[priced] / one[priced]).astype(float).replace(np.nan, factor).tolist() == pytest.approx(
        [factor] * len(priced)
    )
    pd.testing.assert_series_equal(one.drop(priced), more.drop(priced))


@pytest.mark.parametrize("endpoints", [[], [endpoint(usd_per_instance_hour=None)]])
def test_without_a_price_all_prices_are_unknown(one_point, endpoints):
    point = one_point(FIVE, endpoints=endpoints)
    assert point[[column for column in point.index if column.startswith("usd")]].isna().all()
    assert point["requests_per_s"] == 0.4


def test_the_slo_needs_every_limit_and_the_error_rate(one_point):
    fast = [request(i * 0.05, 0.5, 0.2) for i in range(110)]
    config = make_config(slo={"latency_s": 1, "ttft_s": 0.1, "error_rate": 0.03})
    point = one_point(fast, config=config)
    assert (point["slo_latency_s"], point["slo_ttft_s"], point["slo_error_rate"]) == ("met", "missed", "met")
    assert point["slo"] == "missed"
    assert one_point(fast, config=make_config(slo={"error_rate": 0.03}))["slo"] == "met"
    assert one_point(fast, config=make_config(slo={"error_rate": 0.01}))["slo"] == "undecided"


def test_load_points_come_in_the_order_of_the_config_and_unmeasured_ones_are_absent(points_of):
    """The levels are those that were measured, ascending, whatever the config names."""
    config = make_config(["b", "a"], load={"concurrency": [3, 2, 1]})
    keys = [("a", 1.0), ("b", 1.0), ("b", 2.0)]
    rows = [request(i, 0.5, option=o, level=c) for o, c in keys for i in range(3)]
    rows += [request(0, 0.5, option="a", level=2.0)]  # its load point has no window
    rows += [request(0, 0.5, option="a", level=3.0, phase="warmup")]  # its window holds no request
    windows = [facts(option=o, level=c) for o, c in keys] + [facts(level=2.0, window_open_ns=None), facts(level=3.0)]
    points = points_of(rows, windows, [], config)
    assert points[["option", "level", "load", "load_kind"]].to_numpy().tolist() == [
        ["b", 1.0, "concurrency 1", "closed_loop"],
        ["b", 2.0, "concurrency 2", "closed_loop"],
        ["a", 1.0, "concurrency 1", "closed_loop"],
    ]
    assert points["n"].tolist() == [3, 3, 3]


def test_only_latencies_within_every_limit_are_goodput_and_its_interval_is_that_of_its_rate(one_point):
    """20 requests, one a second, of which every fourth is slow and one fails: 14 in 20 s."""
    rows = [request(i, None if i == 5 else 2.0 if i % 4 == 0 else 0.5) for i in range(20)]
    point = one_point(rows, [facts(0, 20)])
    assert point["goodput_per_s"] == pytest.approx(0.7)
    assert point["goodput_per_s_low"] < 0.7 < point["goodput_per_s_high"] < point["requests_per_s_high"]
    assert point["requests_per_s"] == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("failed", "low", "high"),
    [(range(10, 100, 20), 0.0164, 0.1128), (range(0), 0.0, 0.0362)],  # published tables of 5 and 0 of 100
)
def test_the_interval_of_the_error_rate_is_that_of_published_tables(one_point, failed, low, high):
    point = one_point([request(i * 0.1, None if i in failed else 0.05) for i in range(100)])
    assert point["error_rate"] == len(failed) / 100
    assert (point["error_rate_low"], point["error_rate_high"]) == pytest.approx((low, high), abs=5e-5)


def test_failures_that_come_together_tell_less_of_the_error_rate(one_point):
    apart, together = (
        one_point([request(i * 0.1, None if i in failed else 0.05) for i in range(100)])
        for failed in (range(10, 100, 20), range(40, 45))
    )
    assert together["error_rate"] == apart["error_rate"]
    assert together["error_rate_low"] < apart["error_rate_low"]
    assert together["error_rate_high"] > apart["error_rate_high"]


BURSTS = np.repeat(np.random.default_rng(3).exponential(0.1, size=20), 10)


def test_the_interval_of_a_percentile_counts_requests_that_are_alike_as_fewer(one_point):
    mixed = np.random.default_rng(0).permutation(BURSTS)
    in_bursts, apart = (one_point([request(i * 0.05, v) for i, v in enumerate(vs)]) for vs in (BURSTS, mixed))
    assert apart["latency_s_effective_n"] > 150
    assert in_bursts["latency_s_effective_n"] < 60
    assert in_bursts["latency_s_p95"] == apart["latency_s_p95"] == pytest.approx(percentile(BURSTS, 95), abs=1e-8)
    low, high = percentile_interval(np.sort(BURSTS), 95, 200 / in_bursts["latency_s_effective_n"])
    assert (in_bursts["latency_s_p95_low"], in_bursts["latency_s_p95_high"]) == pytest.approx((low, high), abs=1e-8)
    assert low < apart["latency_s_p95_low"]


def test_repetitions_that_differ_altogether_tell_as_little_as_they_are_few(one_point):
    """The slowest quarter of 120 is half of the second repetition: 2 x 60 x (1/4)² / (3/16) = 40 tell as much as one."""
    shuffled = np.random.default_rng(0).permutation(60) / 1000
    point = one_point(repetition(0, 0.2 + shuffled) + repetition(1, 0.6 + shuffled), [facts(), facts(repetition=1)])
    assert point["latency_s_effective_n"] == pytest.approx(3)


def test_a_rerun_gives_the_same_table_whatever_the_seed_and_the_order_of_the_records(one_point):
    rows = [request(i * 0.1, value) for i, value in enumerate(np.random.default_rng(0).exponential(size=100))]
    once, again, other = (one_point(rows, config=make_config(seed=seed)) for seed in (1, 1, 2))
    pd.testing.assert_series_equal(once, again)
    pd.testing.assert_series_equal(once, other)
    pd.testing.assert_series_equal(once, one_point(rows[::-1]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    latency=st.lists(st.floats(0.01, 2) | st.none(), min_size=1, max_size=60),
    tokens=st.integers(1, 50),
)
def test_what_holds_of_every_load_point(tmp_path_factory, latency, tokens):
    """Failures are shares of requests, goodput is a part of throughput, percentiles ascend within the data, and every
    interval holds its estimate.
    """
    rows = [request(i * 0.1, value, output_tokens=tokens) for i, value in enumerate(latency)]
    folder = write_run(tmp_path_factory.mktemp("r"), rows, [facts()])
    point = summarise_load_points(folder, [facts()], [endpoint()], make_config()).iloc[0]
    assert (point["n"], point["failures"]) == (len(latency), latency.count(None))
    assert 0 <= point["goodput_per_s"] <= point["requests_per_s"] == (len(latency) - latency.count(None)) / 10
    assert point["output_tokens_per_s"] == pytest.approx(point["requests_per_s"] * tokens)
    shown = point[[f"latency_s_p{p}" for p in PERCENTS]].dropna().tolist()
    assert shown == sorted(shown)
    known = [math.inf if value is None else round(value * 1e9) / 1e9 for value in latency]
    assert all(min(known) - 1e-9 <= value <= max(known) for value in shown)
    for name in ("error_rate", "requests_per_s", "goodput_per_s", "latency_s_p95", "usd_per_1k_requests"):
        low, value, high = point[[f"{name}_low", name, f"{name}_high"]].astype(float)
        assert math.isnan(low) or math.isnan(value) or low * (1 - 1e-9) <= value <= high * (1 + 1e-9), name


def test_the_interval_of_two_repetitions_comes_from_the_requests_of_both(one_point):
    """Twenty requests that take their share of 20 s, and twenty that take that of 10 s."""
    rows = [request(i / rate, 0.4, repetition=r) for r, rate in enumerate((1, 2)) for i in range(20)]
    point = one_point(rows, [facts(0, 20), facts(0, 10, repetition=1)])
    expected = rate_interval([np.ones(20)] * 2, [np.ones(20), np.full(20, 0.5)], independent=False)
    assert (point["requests_per_s_low"], point["requests_per_s_high"]) == pytest.approx(expected)


def test_rare_time_outs_widen_the_rate_of_a_closed_loop_to_either_side(one_point):
    """One of 100 requests takes 30 s, as long as 60 others: the long run may hold more of these, or none."""

    def sends(stalls_s):
        starts = np.cumsum([0.0] + [stalls_s if i == 50 else 0.5 for i in range(99)])
        rows = [request(float(t), 0.5) for t in starts]
        rows[50] = request(float(starts[50]), done_ns=round((starts[50] + stalls_s) * 1e9))
        return one_point(rows, [facts(0, float(starts[-1]) + 0.5)])

    stalled, quick = sends(30.0), sends(0.5)
    low, rate, high = (stalled[f"requests_per_s{bound}"] for bound in ("_low", "", "_high"))
    assert rate == pytest.approx(99 / 79.5)
    lasted_s = np.where(np.arange(100) == 50, 30.0, 0.5)
    plain = rate_interval([np.arange(100) != 50], [lasted_s], independent=False)
    mean_s = 0.795
    slowest, fastest = (mean_s / (mean_s + (share - 0.01) * 30) for share in (0.05446, 0.000253))  # by published tables
    assert rate - low == pytest.approx(min(rate, math.hypot(rate - plain.low, rate * (1 - slowest))), rel=1e-3)
    assert high - rate == pytest.approx(math.hypot(plain.high - rate, rate * (fastest - 1)), rel=1e-3)
    assert quick["requests_per_s_high"] - quick["requests_per_s_low"] < 0.2
    assert (stalled["stalls"], quick["stalls"]) == (1, 0)


# --- inter-token latencies ----------------------------------------------------------------------------------------


def streamed(sent_s, gaps_ms, tokens=1, **changes):
    """A request whose answer came in chunks with these gaps; each holds `tokens` tokens, or an unknown number."""
    times = sent_s + 0.1 + np.cumsum([0.0, *gaps_ms]) / 1000
    row = request(sent_s, times[-1] - sent_s, times[0] - sent_s, **changes)
    counts = None if tokens is None else [tokens] * len(times)
    return row | {"chunk_ns": [round(time * 1e9) for time in times], "chunk_tokens": counts}


TEN_GAPS = [streamed(0, [10, 20, 30]), streamed(1, [40, 50]), streamed(2, []), streamed(3, [60, 70, 80, 90, 100])]


def test_inter_token_latencies_by_hand(one_point):
    """Gaps of 10, 20, ... 100 ms in four answers: the median lies between 50 and 60, p90 a tenth of the way to 100."""
    point = one_point(TEN_GAPS)
    assert point[[f"itl_s_p{p}" for p in (50, 90, 95, 99)]].tolist() == pytest.approx([0.055, 0.091, 0.0955, 0.0991])


def test_inter_token_latencies_are_those_of_the_successes_of_the_steady_window(one_point):
    others = [
        streamed(4, [900] * 9, phase="warmup"),
        streamed(5, [900] * 9, phase="drain"),
        streamed(6, [900] * 9, status="stream_broken"),
        request(7),
    ]
    assert one_point(TEN_GAPS + others)["itl_s_p50"] == pytest.approx(0.055)


def test_where_tokens_per_chunk_are_unknown_there_is_no_inter_token_latency(one_point):
    unknown = [streamed(i, [10, 20], tokens=None) for i in range(20)]
    assert one_point(unknown)[[f"itl_s_p{p}" for p in PERCENTS]].isna().all()
    assert one_point(FIVE)[[f"itl_s_p{p}" for p in PERCENTS]].isna().all()
    assert one_point(unknown + TEN_GAPS)["itl_s_p50"] == pytest.approx(0.055), "of the answers that tell it"


def test_answers_of_a_single_chunk_have_no_inter_token_latency(one_point):
    assert pd.isna(one_point([streamed(i, []) for i in range(5)])["itl_s_p50"])


def test_inter_token_latencies_of_repetitions_are_pooled(one_point):
    rows = [row | {"repetition": i % 2} for i, row in enumerate(TEN_GAPS)]
    point = one_point(rows, [facts(), facts(repetition=1)])
    assert (point["itl_s_p50"], point["itl_s_p90"]) == pytest.approx((0.055, 0.091))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    answers=st.lists(
        st.tuples(st.lists(st.integers(0, 10**9), max_size=6), st.booleans(), st.booleans()), min_size=1, max_size=12
    ),
    rows_of_a_block=st.integers(1, 5),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=4),
)
def test_inter_token_percentiles_are_exact_over_files_and_blocks(tmp_path_factory, answers, rows_of_a_block, percents):
    """Against all gaps in memory; some answers do not say how many tokens a chunk holds."""
    folder = tmp_path_factory.mktemp("r")
    files = [folder / "one.parquet", folder / "two.parquet"]
    expected = []
    for number, path in enumerate(files):
        rows = []
        for gaps, known, counts in answers[number::2]:
            times = (7 + np.cumsum([0, *gaps])).tolist()
            row = {"phase": "steady" if counts else "drain", "status": "ok", "chunk_ns": times}
            rows.append(row | {"chunk_tokens": [1] * len(times) if known else None})
            expected += gaps if known and counts else []
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, row_group_size=rows_of_a_block)
    found = inter_token_percentiles(files, tuple(percents))
    if not expected:
        assert found is None
    else:
        wanted = np.percentile(np.array(expected) / 1e9, percents)
        assert [found[p] for p in percents] == pytest.approx(wanted.tolist(), rel=1e-9, abs=1e-12)


# --- open loops ---------------------------------------------------------------------------------------------------

OPEN = make_config(load={"kind": "open_loop", "rate": [2.5]})


def scheduled(at_s, late_s=0.0, latency_s=None, ttft_s=None, **changes):
    """A request that was to be sent at `at_s` and was sent `late_s` later; latencies count from its send."""
    row = request(at_s + late_s, latency_s, ttft_s, level=2.5, **changes)
    return row | {"scheduled_ns": round(at_s * 1e9)}


def test_a_load_point_of_an_open_loop_says_how_its_schedule_was_kept(one_point):
    rows = [scheduled(i * 0.4, 0.001, 0.2) for i in range(25)]
    kept = open_facts(2.5, achieved=arrivals(2.45))
    point = one_point(rows, [kept], config=OPEN)
    assert (point["load_kind"], point["level"], point["load"]) == ("open_loop", 2.5, "2.5 requests/s")
    assert (point["asked_rate_per_s"], point["achieved_rate_per_s"]) == pytest.approx((2.5, 2.45))
    assert point["schedule_lag_p99_ms"] == 0.4
    assert point["achieved_concurrency"] == pytest.approx(25 * 0.2 / 10)
    assert point["requests_per_s"] == 2.5


def test_a_closed_loop_has_no_rate_that_was_asked_and_no_lag(one_point):
    assert one_point(FIVE)[["asked_rate_per_s", "achieved_rate_per_s", "schedule_lag_p99_ms"]].isna().all()


def test_rates_of_repetitions_are_pooled_over_their_gaps_and_the_largest_lag_counts(one_point):
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


def test_a_stalled_client_does_not_hide_a_stall(one_point):
    """Twenty requests that were due every 0.1 s are all sent at 2 s and answered at once: the first waited 2 s."""
    rows = [scheduled(i * 0.1, 2.0 - i * 0.1, 0.0) for i in range(20)]
    point = one_point(rows, [open_facts(2.5)], config=OPEN)
    assert point["latency_s_p50"] == pytest.approx(1.05)
    assert point["latency_s_mean_ok"] == pytest.approx(1.05)


def test_an_answer_without_a_first_token_has_no_ttft_and_a_failure_is_endless(one_point):
    rows = [scheduled(i * 0.1, 0.0, 0.5, 0.25, **({"first_token_ns": None} if i < 4 else {})) for i in range(9)]
    point = one_point([*rows, scheduled(0.95)], [open_facts(2.5)], config=OPEN)
    assert (point["ttft_s_n"], point["latency_s_n"]) == (6, 10)
    assert point["ttft_s_p50"] == 0.25
    assert point["ttft_s_mean_ok"] == 0.25
    assert one_point([*rows, scheduled(0.95)] * 2, [open_facts(2.5)], config=OPEN)["ttft_s_p90"] == math.inf


def test_a_request_that_was_never_sent_was_never_in_flight(one_point):
    rows = [scheduled(i * 0.4, 0.0, 0.2) for i in range(25)] + [scheduled(9.9, status="timeout")]
    rows[-1]["sent_ns"] = rows[-1]["done_ns"] = None
    point = one_point(rows, [open_facts(2.5)], config=OPEN)
    assert point["achieved_concurrency"] == pytest.approx(0.5)
    assert (point["n"], point["failures"]) == (26, 1)


def test_a_steady_open_loop_serves_what_is_offered_not_what_happened_to_come(one_point):
    """20 came in 10 s at 2.5/s. None of 20 failed: at most 16.84% do, by published tables. 3.6 $/h at 2.5/s: 0.4 $."""
    point = one_point([scheduled(i * 0.5, 0.0, 0.2) for i in range(20)], [open_facts(2.5)], config=OPEN)
    assert point["requests_per_s"] == 2.0
    served = [point[f"served_requests_per_s{bound}"] for bound in ("", "_low", "_high")]
    assert served == pytest.approx([2.5, 2.5 * (1 - 0.1684), 2.5], rel=1e-4)
    assert point["served_output_tokens_per_s"] == pytest.approx(60.0)
    assert point["served_prompt_tokens_per_s"] == pytest.approx(250.0)
    assert point["usd_per_1k_requests"] == pytest.approx(0.4)
    assert point["usd_per_1k_requests_low"] == pytest.approx(0.4)
    assert point["usd_per_1k_requests_high"] == pytest.approx(0.4 / (1 - 0.1684), rel=1e-4)
    assert point["usd_per_1m_output_tokens"] == pytest.approx(3.6 / (60 * 3600) * 1e6)
    assert point["stalls"] is None, "its price has them already, in the upper bound"


def test_what_fails_in_an_open_loop_is_not_served(one_point):
    """5 of 100, of which at least 1.64% and at most 11.28% fail by published tables; 100 come at 10/s."""
    rows = [scheduled(i * 0.1, 0.0, None if i % 20 == 10 else 0.05) for i in range(100)]
    point = one_point([row | {"level": 10.0} for row in rows], [open_facts(10.0)], config=OPEN)
    served = [point[f"served_requests_per_s{bound}"] for bound in ("", "_low", "_high")]
    assert served == pytest.approx([9.5, 10 * (1 - 0.1128), 10 * (1 - 0.0164)], rel=1e-4)
    assert point["served_output_tokens_per_s"] == pytest.approx(9.5 * 24)


def test_answers_of_uneven_length_leave_the_tokens_served_unsure(one_point):
    """Twenty answers of 20, 28, 22 and 30 tokens in turn: a variance of 17 x 20 / 19; t(97.5%, 19) = 2.093."""
    lengths = [20, 28, 22, 30] * 5
    rows = [scheduled(i * 0.5, 0.0, 0.2, output_tokens=n) for i, n in enumerate(lengths)]
    point = one_point(rows, [open_facts(2.5)], config=OPEN)
    half = 2.093024 * math.sqrt(17 / 19)
    served = [point[f"served_output_tokens_per_s{bound}"] for bound in ("", "_low", "_high")]
    assert served == pytest.approx([62.5, 2.5 * (25 - half) * (1 - 0.1684), 2.5 * (25 + half)], rel=1e-4)


@pytest.mark.parametrize("steady", [False, None])
def test_an_open_loop_without_a_steady_state_serves_what_was_measured(one_point, steady):
    rows = [scheduled(i * 0.5, 0.0, 0.2) for i in range(20)]
    point = one_point(rows, [open_facts(2.5, steady=steady)], config=OPEN)
    for bound in ("", "_low", "_high"):
        assert point[f"served_requests_per_s{bound}"] == point[f"requests_per_s{bound}"]
    assert point["served_requests_per_s"] == 2.0


def test_a_closed_loop_serves_what_was_measured(one_point):
    point = one_point([request(i, 0.5) for i in range(20)], [facts(0, 21)])
    for name in ("requests", "output_tokens", "prompt_tokens"):
        for bound in ("", "_low", "_high"):
            assert point[f"served_{name}_per_s{bound}"] == point[f"{name}_per_s{bound}"]


def test_what_is_sent_evenly_in_an_open_loop_has_no_spread(one_point):
    rows = [scheduled(i / 8, 0.0, 1.0) for i in range(88)]
    point = one_point(rows, [open_facts(2.5, 0, 11)], config=OPEN)
    assert point["achieved_concurrency"] == pytest.approx(8, rel=0.1)
    assert (point["requests_per_s_low"], point["requests_per_s_high"]) == pytest.approx((8, 8))


def test_bursts_that_are_alike_are_seen_in_an_open_loop_too(one_point):
    bursts = [scheduled(i * 0.05, 0.0, float(v)) for i, v in enumerate(BURSTS)]
    mixed = [scheduled(i * 0.05, 0.0, float(v)) for i, v in enumerate(np.random.default_rng(0).permutation(BURSTS))]
    alike, apart = (
        one_point(rows, [open_facts(2.5)], config=OPEN)["latency_s_effective_n"] for rows in (bursts, mixed)
    )
    assert alike < 60 and apart > 150


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
def test_only_a_steady_load_point_that_the_client_did_not_limit_can_meet_the_slo(one_point, rows, changes, state):
    sound, point = one_point(rows), one_point(rows, [facts(**changes)])
    assert point["slo"] == state
    same = sound.index.drop(["slo", "steady", "not_steady", "client_limited"])
    pd.testing.assert_series_equal(point[same], sound[same])


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        ({"status": "http_error", "http_status": 500}, "missed"),
        ({"status": "bad_response"}, "missed"),
        ({"status": "empty"}, "missed"),
        ({"status": "timeout"}, "client_limited"),
        ({"status": "connection"}, "client_limited"),
        ({"status": "throttled", "http_status": 429}, "client_limited"),
    ],
)
def test_failures_that_no_client_makes_count_though_the_client_was_late(one_point, failure, state):
    rows = [request(i * 0.05, *([] if i % 2 else [0.5]), **(failure if i % 2 else {})) for i in range(110)]
    point = one_point(rows, [facts(client_limited=["busy"])])
    assert (point["slo"], point["client_limited"]) == (state, True)


def test_one_repetition_that_the_client_limited_or_that_was_not_steady_is_enough(one_point):
    rows = [row | {"repetition": r} for r in (0, 1) for row in FAST]
    twice = make_config(load={"repetitions": 2})
    limited = one_point(rows, [facts(), facts(repetition=1, client_limited=["late sends"])], config=twice)
    assert (limited["slo"], limited["client_limited"], limited["steady"]) == ("client_limited", True, True)
    unsteady = one_point(rows, [facts(), facts(repetition=1, steady=False)], config=twice)
    assert (unsteady["slo"], unsteady["client_limited"], unsteady["steady"]) == ("undecided", False, False)


def test_a_repetition_in_whose_place_another_was_measured_does_not_count(one_point):
    rows = [row | {"repetition": r} for r in (0, 1) for row in FAST]
    point = one_point(rows, [facts(steady=False), facts(repetition=1)])
    assert (point["slo"], point["steady"], point["n"], point["repetitions"]) == ("met", True, 110, 1)


def test_a_made_up_load_point_has_the_columns_of_a_measured_one(one_point):
    limits = make_config(slo={"ttft_s": 1, "tpot_s": 1})
    assert set(one_point(FIVE).index) == set(load_point())
    assert set(one_point(FIVE, config=limits).index) - set(load_point()) == {
        "slo_ttft_s",
        "slo_tpot_s",
        "beyond_ttft_s",
        "beyond_tpot_s",
        "limit_effect_ttft_s",
        "limit_effect_tpot_s",
        "lacking_ttft_s",
        "lacking_tpot_s",
    }


def test_one_level_is_read_at_a_time(tmp_path):
    """A level that is not asked for is not read: its file may be unreadable."""
    windows = [facts(level=1.0), facts(level=2.0)]
    folder = write_run(tmp_path, [request(i, 0.5, level=level) for level in (1.0, 2.0) for i in range(3)], windows)
    (folder / f"{windows[1].load_point}.parquet").write_bytes(b"")
    levels = read_load_points(folder, windows, make_config())
    assert next(levels).facts == windows[:1]
    with pytest.raises(RunFolderError, match="damaged"):
        next(levels)


def test_the_table_that_is_written_is_read_back_unrounded(tmp_path):
    """Also where names look like numbers or like nothing."""
    points = pd.DataFrame(
        [load_point("NA", "512", rate=1 / 3), load_point("2", "1e3", rate=math.pi, usd_per_hour=None)]
    )
    run = RunFolder(tmp_path)
    points.to_csv(run.metrics / POINTS_FILE, index=False)
    pd.testing.assert_frame_equal(read_points(run), points, check_dtype=False, check_exact=True)
