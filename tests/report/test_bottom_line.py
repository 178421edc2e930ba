"""The first lines of a report, on made-up load points."""

import math

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config
from scipy import stats

from helpers.metrics.failure_counts import COLUMNS, failure_words
from helpers.report.bottom_line_text import bottom_line
from helpers.report.cost_report import capacity_table
from helpers.report.failures_report import errors_table
from helpers.report.report import options_table, summary, winner_table
from helpers.run.folder import RunFolder
from helpers.verdict.judging import judge


def verdict_and_config(*points, options=None, load=None, failed=()):
    table = pd.DataFrame([load_point(**point) for point in points])
    names = options or list(dict.fromkeys(table["option"]))
    config = make_config(names, load=load or {"concurrency": sorted({int(level) for level in table["level"]})})
    endpoints = [endpoint(name, failure="no capacity for ml.g5.xlarge" if name in failed else None) for name in names]
    return judge(table, endpoints, [], config, "run-1"), config


def said(*points, **kwargs):
    return str(bottom_line(*verdict_and_config(*points, **kwargs)).markdown)


SILENT = {"failures": 200, "error_rate": 1.0, "slo": "missed", "commonest_failure": "HTTP 401: Incorrect API key"}


def test_what_was_not_measured_is_reported_beside_the_recommendation():
    text = said({"option": "a"}, {"option": "b"} | SILENT, options=["a", "b", "c"], failed=["c"])
    assert text.startswith("**Serve m with “a”")
    assert "* **Not measured:** “b”: none of its 200 requests was answered: HTTP 401: Incorrect API key" in text
    assert "* **Not measured:** “c”: no capacity for ml.g5.xlarge" in text
    assert "misses" not in text and "undecided" not in text


def test_where_nothing_was_answered_nothing_is_ranked():
    text = said({"option": "a"} | SILENT, {"option": "b"} | SILENT)
    assert text.startswith("**Nothing was measured: no option gave an answer that could be judged.**")
    assert text.count("Incorrect API key") == 2


def test_an_option_without_one_of_the_datasets_was_not_measured_but_something_was():
    left = {
        "race_outcome": "undecided",
        "race_because": "after 200 requests: the race has sent as many requests as it may",
    }
    table = pd.DataFrame([load_point("a", dataset="short")])
    config = make_config(["a"], ["short", "long"])
    judged = judge(table, [endpoint("a", **left)], [], config, "run-1")
    text = str(bottom_line(judged, config).markdown)
    assert text.startswith("**Nothing can be judged: no option was measured on every dataset of the traffic.**")
    assert f"“a”: no measurement on long; it left the race {left['race_because']}" in text


@pytest.mark.parametrize(("usd_per_hour", "is_said"), [(36.0, True), (3.6, False)])
def test_another_option_with_the_lower_bill_at_this_traffic_is_named(usd_per_hour, is_said):
    """b costs half as much per request, but this traffic does not fill one of its instances, ten times the price."""
    prices = {"a": (10, 3.6), "b": (200, usd_per_hour)}
    table = pd.DataFrame([load_point(o, rate=rate, usd_per_hour=usd) for o, (rate, usd) in prices.items()])
    endpoints = [endpoint(o, usd) for o, (_, usd) in prices.items()]
    config = make_config(["a", "b"], load={"concurrency": [1]})
    verdict = judge(table, endpoints, [], config, "run-1")
    assert verdict.recommended == "b"
    text = str(bottom_line(verdict, config).markdown)
    assert ("requests a minute “a” has the lower bill, $5,256 a month" in text) == is_said


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            9.9,
            10.1,
            "2 instances, $5,256 a month (the same at both ends of the 95% interval of what an instance serves).",
        ),
        (5, 15, "2 instances, $5,256 a month (95% interval: 1 to 3 instances, $2,628 to $7,884)."),
        (None, None, "2 instances, $5,256 a month."),
    ],
)
def test_the_bill_has_an_interval(low, high, words):
    """600 requests a minute with 30% headroom: n instances hold them where one serves 14.3 / n requests/s."""
    text = said({"option": "a", "rate": 10, "served_requests_per_s_low": low, "served_requests_per_s_high": high})
    assert words in text


def test_the_mix_of_the_traffic_stands_beside_its_size():
    table = pd.DataFrame([load_point("a", dataset) for dataset in ("short", "long")])
    traffic = {"mix": {"short": 0.25, "long": 0.75}}
    config = make_config(["a"], ["short", "long"], load={"concurrency": [1]}, traffic=traffic)
    text = str(bottom_line(judge(table, [endpoint("a")], [], config, "run-1"), config).markdown)
    assert "For 600 requests a minute (75% long and 25% short) with 30% headroom" in text


def test_only_what_was_measured_is_called_measured(tmp_path):
    run = RunFolder(tmp_path)
    (tmp_path / "run.json").write_text('{"started_at": "2026-11-28T22:00:00+00:00"}')
    some = summary(*_with_run(run, {"option": "a"}, {"option": "b"} | SILENT)).markdown
    assert some.startswith("We measured “a” (") and "“b”" not in some
    none = summary(*_with_run(run, {"option": "a"} | SILENT)).markdown
    assert none.startswith("We tried to measure “a” (")


def _with_run(run, *points):
    verdict, config = verdict_and_config(*points)
    return verdict, run, config


def test_where_nothing_is_shown_the_best_estimate_is_given_with_what_would_settle_it():
    open_errors = {
        "slo_latency_s": "met",
        "slo_error_rate": "undecided",
        "lacking_error_rate": 39,
        "lacking_latency_s": 0,
    }
    points = [{"option": o, "rate": rate, "slo": "undecided"} | open_errors for o, rate in (("a", 5), ("b", 10))]
    text = said(*points)
    assert text.startswith("**No option is shown to meet the SLO")
    assert "If you must choose now: “b”, by the best estimate, at $0.100 per 1,000 requests, at concurrency 1" in text
    assert "before “a” ($0.200)" in text
    assert "the error rate is not shown to stay within 5.0% (0.0% on short at concurrency 1)" in text, (
        "the limit that is open"
    )
    assert "p95 latency is not" not in text, "that one is not open"
    assert "39 more requests like these at the same loads (less than a minute of load, $0.00390)" in text
    table = options_table(*verdict_and_config(*points))
    assert [row[-2] for row in table.cells()] == ["estimate", "estimate"]
    assert "not decided (estimate)" in [row[-1] for row in capacity_table(*verdict_and_config(*points)).cells()]


def test_what_stalls_that_nobody_saw_may_add_to_a_price_stands_beside_its_interval():
    """200 requests of 0.1 s at each of two loads: up to 1 - 0.05^(1/400) = 0.746% may hang for 60 s. Of b 2 of 400 did, which
    leaves room for 1.57%, where its interval does not hold them.
    """
    points = [{"option": o, "level": level, "rate": 10 * level} for o in "ab" for level in (1, 2)]
    points[3]["stalls"] = 2
    points[3]["slo"] = "undecided"
    verdict, config = verdict_and_config(*points)
    table = options_table(verdict, config)
    none, two = 1 - 0.05 ** (1 / 400), stats.beta.ppf(0.95, 3, 398)
    more = {"a": 0.05 * ((1 + none * 599) / (1 - none) - 1), "b": 0.1 * ((1 + two * 599) / (1 - two) - 1)}
    assert {name: verdict.option(name).cost_unseen for name in "ab"} == pytest.approx(more)
    assert table.rows["unseen"].tolist() == pytest.approx([1000 * more["a"], 1000 * more["b"]]), "per 1M requests"
    assert "hang until the time-out of 60 s" in table.caption


PER_TOKEN = {"usd_per_hour": math.nan} | {f"usd_per_1k_requests{bound}": 0.1 for bound in ("", "_low", "_high")}


@pytest.mark.parametrize("change", [{"stalls": 3}, PER_TOKEN, {"kind": "open_loop"}])
def test_a_price_that_holds_its_stalls_or_does_not_rest_on_time_has_no_more_beside_it(change):
    """Seen, so in the interval; billed by the token; of an open loop, which serves what is offered."""
    verdict, config = verdict_and_config({"option": "a"} | change)
    assert verdict.option("a").cost is not None
    assert "hang until" not in options_table(verdict, config).caption


def test_of_imported_results_nobody_knows_how_long_a_request_would_have_hung():
    imported = {"name": "a", "target": "imported", "format": "vllm", "path": "x", "instance_type": "ml.c5.large"}
    points = pd.DataFrame([load_point("a")])
    assert judge(points, [endpoint("a")], [], make_config([imported]), "run-1").option("a").cost_unseen is None
    assert judge(points, [endpoint("a")], [], make_config(["a"]), "run-1").option("a").cost_unseen > 0


@pytest.mark.parametrize(
    ("states", "ordered", "standing"),
    [
        (["met", "met"], "Every option, cheapest first;", "cheapest load that is shown to meet the SLO,"),
        (
            ["undecided", "undecided"],
            "Every option, cheapest first;",
            "by its estimates is within the SLO, as none is shown",
        ),
        (
            ["met", "undecided"],
            "first, then the estimates, each cheapest first;",
            "is shown to meet the SLO or, for an estim",
        ),
        (["met", "missed"], "Every option;", "cheapest load that is shown to meet the SLO,"),
    ],
)
def test_captions_say_the_order_and_what_the_loads_are_known_to_be(states, ordered, standing):
    """The second is the cheaper one, and still stands below the first where only the first is shown to meet the SLO."""
    points = [{"option": o, "slo": slo, "rate": rate} for o, slo, rate in zip("ab", states, (5, 10), strict=True)]
    verdict, config = verdict_and_config(*points)
    table = options_table(verdict, config)
    costs = [float(row[2].split()[0]) for row in table.cells() if row[2] != "–"]
    assert ordered in table.caption and (costs == sorted(costs) or "then the estimates" in ordered)
    assert standing in capacity_table(verdict, config).caption


def test_where_all_miss_the_nearest_is_named():
    text = said({"option": "a", "slo": "missed", "latency_s_p95": 2.0})
    assert "“a” came nearest: p95 latency of 2.00 s against the limit of 1 s" in text
    verdict, config = verdict_and_config({"option": "a", "slo": "missed", "latency_s_p95": 2.0})
    assert capacity_table(verdict, config).markdown == "No option has such a load, so there are no instances to count."
    assert winner_table(pd.DataFrame([load_point("a")]), verdict, config) is None


@pytest.mark.parametrize(("higher", "words"), [("undecided", True), ("missed", False)])
def test_a_sweep_that_is_too_short_gives_a_lower_bound(higher, words):
    points = {"option": "a", "level": 1}, {"option": "a", "level": 4, "slo": higher, "rate": 1}
    text = said(*points)
    assert ("**At least:** nobody knows whether “a” would meet the SLO at a load above" in text) is words
    assert ("serves at least 600 requests a minute" in text) is words
    table = capacity_table(
        *verdict_and_config({"option": "a", "level": 1}, {"option": "a", "level": 4, "slo": higher, "rate": 1})
    )
    assert ("At least: " in table.caption) is words


def test_a_lower_bound_names_the_dataset_on_which_nothing_is_known_of_higher_loads():
    table = pd.DataFrame(
        [
            load_point("a", "short", 4),
            load_point("a", "long", 1),
            load_point("a", "long", 4, slo="missed", rate=1),
        ]
    )
    config = make_config(["a"], ["short", "long"], load={"concurrency": [1, 4]})
    text = str(bottom_line(judge(table, [endpoint("a")], [], config, "run-1"), config).markdown)
    assert "nobody knows whether “a” on short would meet the SLO at a load above the chosen one, so" in text


def test_the_winner_too_may_be_cheaper_than_said():
    text = said({"option": "a"}, {"option": "a", "level": 8, "rate": 50, "slo": "undecided"})
    assert "**May be cheaper than it is shown here:** “a”: at concurrency 8, latency not shown" in text


def test_names_from_outside_are_text():
    text = said({"option": "a"} | SILENT | {"commonest_failure": "HTTP 500: <script>alert(1)</script>"})
    assert "<script>" not in text and "alert(1)" in text


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (("cut_short", 200, "cut_short"), "answer cut short"),
        (("empty", 200, "empty"), "empty answer"),
        (("bad_response", 200, "bad_response"), "unreadable answer"),
        (("throttled", 429, "HTTP 429"), "HTTP 429"),
        (("http_error", 424, "ModelError"), "HTTP 424: ModelError"),
        (("timeout", None, "timeout"), "time-out"),
    ],
)
def test_a_kind_of_failure_is_said_once_and_not_as_the_status_of_an_answer_that_came(kind, words):
    assert failure_words(*kind, None) == words


def test_errors_are_counted_by_kind_with_an_example():
    row = {
        "option": "a",
        "dataset": "short",
        "sent": 200,
        "status": "http_error",
        "http_status": 401,
        "error_type": None,
    }
    failures = pd.DataFrame(
        [
            row | {"load": "concurrency 1", "failed": 3, "example": "Incorrect API key"},
            row | {"load": "concurrency 4", "failed": 7, "example": "Incorrect API key"},
            row | {"load": "concurrency 4", "failed": 1, "status": "timeout", "http_status": None, "example": "30 s"},
        ],
        columns=COLUMNS,
    )
    rows = errors_table(failures).cells()
    assert [row[:4] for row in rows] == [["a", "HTTP 401", "10", "2.5"], ["a", "time-out", "1", "0.2"]]
    assert rows[0][4:] == ["short, concurrency 4; short, concurrency 1", "Incorrect API key"]
    assert errors_table(failures[:0]) is None
