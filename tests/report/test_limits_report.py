"""What the report says of the servers' side, on planted load points, samples and requests."""

import pandas as pd
import pytest
from examples import SECOND_NS, facts, load_point, make_config, request, write_run
from sentence_numbers import Known, unaccounted

from helpers.metrics.server_load import server_columns
from helpers.metrics.summary import read_load_points
from helpers.report.charts import server_load
from helpers.report.limits_report import limits_table, limits_title
from helpers.run.folder import RunFolder
from helpers.run.server_samples import FOLDER, PROMETHEUS, Sample, write_samples
from helpers.verdict.limits import check_server, limits_of

CALM = {
    "server_running": 8.0,
    "server_running_max": 8.0,
    "server_waiting": 0.1,
    "server_kv_cache": 0.2,
    "server_samples": 9,
}
LOWER = {**CALM, "server_running": 4.0, "server_running_max": 4.0}


def said_of(*points: dict) -> tuple[str, str]:
    """The kind of the limit of an option with these load points, and the sentence, whose numbers are worked out again."""
    table = pd.DataFrame([load_point(**point) for point in points])
    config = make_config(["a"], load={"concurrency": sorted({int(level) for level in table["level"]})})
    (limit,) = limits_of(table, config)
    known = Known(
        {"model": "m", "nearest_reason": None, "warnings": [], "options": []}, table, {}, {"datasets": ["short"]}
    )
    reading = limits_table(table, config).reading
    assert unaccounted(reading, known) == []
    return limit.kind, reading


@pytest.mark.parametrize(
    ("points", "kind", "words"),
    [
        ([{**CALM, "slo": "client_limited", "server_waiting": 9.0}], "client", "the load generator, not the server"),
        ([{**CALM, "server_preemptions": 12.0, "server_waiting": 9.0}], "memory", "20% full on average 12 times, to compute"),
        ([{**CALM, "server_kv_cache": 0.91, "server_waiting": 9.0}], "memory", "its KV cache was 91% full on average"),
        ([{**CALM, "server_waiting": 3.0, "server_cpu": 0.99}], "queue", "3.00 requests waited on average while 8.00 ran"),
        ([{**CALM, "server_gpu": 0.93}], "compute", "its GPUs were busy 93% of the time, with 8.00 requests running and 0.1"),
        ([{**CALM, "server_cpu": 0.93, "server_gpu": 0.2}], "compute", "its CPU was busy 93% of the time"),
        ([{"level": 4, "rate": 10.0, **LOWER}, {"level": 8, "rate": 11.0, **CALM}], "compute", "8.00 requests ran at once, ag"),
        ([{"level": 4, "rate": 10.0, **LOWER}, {"level": 8, "rate": 16.0, **CALM}], "unknown", "how busy its processors were"),
        ([CALM, {**LOWER, "level": 2, "server_waiting": 2.0}], "unknown", "waited on average although it has run more"),
        ([{"server_trouble": "it answered HTTP 500"}], "unknown", "nothing that its server said falls into the steady window"),
    ],
)  # fmt: skip
def test_each_rule_names_what_limits_an_option_and_says_why(points, kind, words):
    found, sentence = said_of(*points)
    assert found == kind
    assert words in sentence
    assert f"is {kind}-bound: " in sentence or kind == "unknown"


def test_the_highest_load_counts_and_a_queue_below_it_does_not():
    kind, sentence = said_of({**CALM, "server_waiting": 5.0}, {**CALM, "level": 8, "server_cpu": 0.95})
    assert (kind, "at concurrency 8" in sentence) == ("compute", True)


def test_a_lower_load_does_not_stand_for_the_highest_of_which_the_server_said_nothing():
    """Its window may be too short to hold a sample."""
    kind, sentence = said_of({**CALM, "level": 1, "server_waiting": 5.0}, {"level": 8})
    assert kind == "unknown"
    assert "at concurrency 8 is unknown: nothing that its server said falls into the steady window" in sentence


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        ({"a": {"server_waiting": 3.0}}, "The option is queue-bound at the highest load"),
        ({"a": {"server_waiting": 3.0}, "b": {}, "c": {"server_gpu": 0.95}},
         "Of 3 options 1 is queue-bound, 1 is compute-bound and 1 has no known limit at the highest load"),
        ({name: {"server_gpu": 0.95} for name in "abc"}, "All 3 options are compute-bound at the highest load"),
    ],
)  # fmt: skip
def test_the_title_of_the_figure_counts_the_options(rows, title):
    table = pd.DataFrame([load_point(name, **{**CALM, **changes}) for name, changes in rows.items()])
    assert limits_title(table, make_config(list(rows))) == title
    known = Known({"model": "m", "nearest_reason": None, "warnings": [], "options": []}, table, {}, {"datasets": []})
    assert unaccounted(title, known) == []


def test_nothing_is_shown_of_a_run_whose_servers_were_not_asked(tmp_path):
    points = pd.DataFrame([load_point()])
    assert limits_table(points, make_config()) is None
    assert server_load(points, make_config(), tmp_path) is None
    assert list(check_server(points)) == []


def test_text_of_a_server_is_text_and_absent_quantities_have_no_column(tmp_path):
    points = pd.DataFrame([load_point(**CALM, server_trouble="<b>x</b>"), load_point(level=2, **CALM)])
    table = limits_table(points, make_config(load={"concurrency": [1, 2]}))
    assert [column.header for column in table.columns][3:] == ["running", "waiting", "KV cache, %"]
    assert "&lt;b&gt;x" in table._repr_html_() and "<b>x" not in table._repr_html_()
    assert "KV cache, %: a: 20.0 to 20.0." in server_load(points, make_config(), tmp_path).alt


# --- from samples to columns --------------------------------------------------------------------------------------


def columns_of(tmp_path, rows, requests=None, trouble=None):
    """The columns of a load point with a window from 2 to 8 s; `rows`: (s, name, value)."""
    requests = [request(i, 0.5) for i in range(10)] if requests is None else requests
    measured = [facts(2.0, 8.0)]
    run = RunFolder(tmp_path)
    (point,) = read_load_points(write_run(run.requests, requests, measured), measured, make_config())
    samples = [Sample(round(s * SECOND_NS), name, value, None, PROMETHEUS) for s, name, value in rows]
    write_samples(run.folder(FOLDER) / f"{measured[0].load_point}.parquet", samples, trouble)
    return server_columns(point, run, None)


def test_gauges_count_within_the_window_and_counters_between_the_samples_around_it(tmp_path):
    rows = [(s, "waiting", 100.0 if s < 2 or s > 8 else s) for s in range(11)]
    rows += [(s, "preemptions", 10.0 * s) for s in (0.5, 1.5, 5, 8.5, 10)]
    rows += [(s, "cpu_s", 7 + 1.5 * s) for s in range(11)] + [(s, "cpu_cores", 2.0) for s in range(11)]
    rows += [(s, "accepted_tokens", 30.0 * s) for s in range(11)] + [(s, "drafts", 10.0 * s) for s in range(11)]
    found = columns_of(tmp_path, rows)
    assert (found["server_waiting"], found["server_samples"]) == (5.0, 7)
    assert found["server_preemptions"] == 70.0
    assert found["server_cpu"] == pytest.approx(0.75)
    assert found["server_acceptance_length"] == pytest.approx(4.0)
    assert (found["server_running"], found["server_kv_cache"], found["server_requests"]) == (None, None, None)


def test_a_counter_that_fell_is_unknown(tmp_path):
    found = columns_of(tmp_path, [(s, "preemptions", float(s % 6)) for s in range(11)])
    assert found["server_preemptions"] is None


def warnings_at(tmp_path, served, took_s=0.5, failures=0):
    """The warnings about ten requests of 0.5 s of which a server says that it answered so many, each in so many seconds."""
    requests = [request(i, 0.5) for i in range(10 - failures)] + [request(9, None) for _ in range(failures)]
    counted = [("requests", served), ("latency_count", served), ("latency_sum_s", served * took_s)]
    rows = [(s, name, 100 + value * (s == 11)) for s in (0, 5, 11) for name, value in counted]
    return list(check_server(pd.DataFrame([load_point(**columns_of(tmp_path, rows, requests))])))


@pytest.mark.parametrize("served", [10, 9])
def test_client_and_server_agree_where_a_failure_may_or_may_not_have_been_served(tmp_path, served):
    assert warnings_at(tmp_path, served, failures=10 - served) == []


@pytest.mark.parametrize(
    ("served", "took_s", "kind", "numbers"),
    [
        (8, 0.5, "server_counts", "8 requests by the server, 10 answers by the client"),
        (14, 0.5, "other_traffic", "14 requests by the server, 10 answers by the client"),
        (10, 0.3, "server_latency", "mean latency 500 ms by the client, 300 ms by the server"),
        (10, 0.7, "server_latency", "mean latency 500 ms by the client, 700 ms by the server"),
    ],
)
def test_where_they_do_not_agree_both_numbers_are_given(tmp_path, served, took_s, kind, numbers):
    (warning,) = warnings_at(tmp_path, served, took_s)
    assert warning.kind == kind
    assert numbers in warning.rows[0]
    assert " Next: " in warning.message
