"""What the report says of each kind of load: in words, in tables, on axes, and of the load generator itself."""

import json
import re

import pandas as pd
import pytest
from examples import arrivals, endpoint, facts, load_point, make_config, open_facts, process, request, requests_table

from helpers.errors import AnalysisError
from helpers.metrics.formulas import with_latencies
from helpers.report.bottom_line_text import bottom_line
from helpers.report.charts import distribution, latency_by_load, latency_by_prompt_length, throughput_by_load
from helpers.report.charts.panels import level_text, spaced
from helpers.report.cost_report import capacity_table, cost_table
from helpers.report.display import Prose
from helpers.report.instrument_report import calibration_table, connection_table, instrument_table, steadiness_table
from helpers.report.load_report import load_words, recommendations
from helpers.report.pacing_report import pacing_table
from helpers.report.plan_report import plan_table
from helpers.report.race_report import race_table
from helpers.report.report import load_point_table, winner_table
from helpers.run.folder import RunFolder
from helpers.run.records import OVERLOAD
from helpers.series.verify import verify_points
from helpers.verdict.judging import judge
from helpers.verdict.open_words import nearest_to_slo

OPEN = make_config(load={"kind": "open_loop", "rate": [2.5, 10]})
SEARCH = make_config(load={"kind": "search", "over": "concurrency", "lowest": 1, "highest": 64, "tolerance": 0.1})
RATES = make_config(load={"kind": "search", "over": "rate", "lowest": 0.5, "highest": 64, "arrivals": "constant"})


def table_of(*points):
    return pd.DataFrame([load_point(**point) for point in points])


def judged(points, config):
    return judge(points, [endpoint(name) for name in points["option"].unique()], [], config, "run-1")


def column(table, header):
    return [row[[c.header for c in table.columns].index(header)] for row in table.cells()]


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"concurrency": [1, 4]}, "at concurrency 1, 4"),
        ({"kind": "open_loop", "rate": [0.5, 20]}, "at 0.5, 20 requests/s with Poisson arrivals"),
        (
            {"kind": "open_loop", "rate": [2], "arrivals": "gamma", "burstiness": 0.25},
            "at 2 requests/s with gamma (burstiness 0.25) arrivals",
        ),
        ({"kind": "trace", "path": "a/t.csv", "speed": [1, 2]}, "under the recorded arrivals of “t.csv” at 1, 2 times"),
        (
            {"kind": "ramp", "from_rate": 0, "to_rate": 9, "duration_s": 60},
            "on a ramp from 0 to 9 requests/s within 60 s",
        ),
    ],
)
def test_every_kind_of_load_has_words(load, words):
    assert load_words(make_config(load=load).load).startswith(words)


def test_a_search_is_reported_with_its_bounds_and_its_tolerance():
    assert load_words(SEARCH.load) == (
        "in search of the highest concurrency from 1 to 64 that meets the SLO, to within 10%"
    )
    assert load_words(RATES.load) == (
        "in search of the highest rate of evenly spaced arrivals from 0.5 to 64 requests/s that meets the SLO, to within 5%"
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (make_config(), "as measured in a closed loop: arrivals in bursts need more."),
        (OPEN, "as measured with Poisson arrivals."),
        (RATES, "as measured with evenly spaced arrivals."),
    ],
)
def test_capacity_says_with_what_traffic_it_was_measured(config, words):
    verdict = judged(table_of({}), config)
    assert words in capacity_table(verdict, config).caption


def test_options_that_the_client_limited_are_named_in_the_bottom_line():
    points = table_of({"option": "a"}, {"option": "b", "slo": "client_limited"})
    config = make_config(["a", "b"])
    said = bottom_line(judged(points, config), config).markdown
    assert "**May be cheaper than the recommended option:** “b”: at concurrency 1, the client" in said


# --- tables of load points ----------------------------------------------------------------------------------------


def test_the_level_stands_under_its_name_whole_or_not():
    points = table_of(
        {"level": 2.5, "kind": "open_loop"}, {"level": 10, "kind": "open_loop", "slo": "undecided", "steady": False}
    )
    table = load_point_table(points, OPEN)
    assert column(table, "requests/s offered") == ["2.5", "10"]
    assert column(table, "steady") == ["yes", "no"]
    assert column(table, "SLO") == ["met", "undecided"]
    assert column(cost_table(points, judged(points, OPEN), OPEN), "requests/s offered") == ["2.5", "10"]


def test_client_limited_and_never_steady_load_points_are_reported_in_words():
    points = table_of({"slo": "client_limited", "steady": None})
    table = load_point_table(points, make_config())
    assert column(table, "SLO") == ["not judged (client-limited)"]
    assert column(table, "steady") == ["–"]


def test_what_is_too_rare_to_be_in_an_interval_is_said():
    """1 - 0.05^(1/90) is 3.27%, or 1 in 30.5."""
    table = load_point_table(table_of({"n": 90}, {"level": 2, "n": 400}), make_config())
    assert "here up to 1 in 30, where n is smallest (90), with 95% confidence." in table.caption


def test_the_winners_table_holds_the_load_at_which_it_wins():
    points = table_of({"level": 2.5, "kind": "open_loop", "rate": 2.5}, {"level": 10, "kind": "open_loop", "rate": 10})
    table = winner_table(points, judged(points, OPEN), OPEN)
    assert column(table, "requests/s offered") == ["10"]


def test_more_in_flight_than_workers_is_wrong_for_a_closed_loop_only():
    crowded = {"level": 1, "achieved_concurrency": 3.0}
    verify_points(table_of({"kind": "open_loop"} | crowded), OPEN)
    with pytest.raises(AnalysisError, match="more requests were in flight than workers"):
        verify_points(table_of(crowded), make_config())


# --- recommendations ----------------------------------------------------------------------------------------------


def best_loads(config, points):
    mine = points[points["option"].isin([option.name for option in config.options])]
    return recommendations(points, judged(mine, config), config)


def recommended(config, *points):
    return column(best_loads(config, table_of(*points)), "recommendation")[0]


def test_a_recommendation_begins_with_its_load():
    assert recommended(make_config(), {"level": 4}).startswith("Concurrency 4: p95 latency 500 ms and 600 requests/min")
    assert recommended(OPEN, {"level": 2.5, "kind": "open_loop"}).startswith("2.5 requests/s: p95 latency")


def test_where_no_load_meets_the_slo_the_nearest_that_was_judged_is_named():
    points = [
        {"level": 1, "slo": "client_limited", "latency_s_p95": 0.1},
        {"level": 2, "slo": "missed", "latency_s_p95": 2.0},
        {"level": 4, "slo": "missed", "latency_s_p95": 3.0},
    ]
    said = "No load is shown to meet the SLO; the nearest is concurrency 2: p95 latency 2.00 s, at most 1 s."
    assert recommended(make_config(), *points) == said
    assert recommended(make_config(), points[0]) == "Not judged: the client, not the server, limited every load."


def test_of_an_option_that_left_the_race_nothing_is_lacking():
    config, points = make_config(load={"race": True}), table_of({"level": 1, "slo": "undecided"})
    left = endpoint("a", race_outcome="more expensive", race_because="after 30 requests")
    said = column(recommendations(points, judge(points, [left], [], config, "run-1"), config), "recommendation")
    nearest = "the nearest is concurrency 1: p95 latency 500 ms"
    assert said == [f"It left the race before a load was shown to meet the SLO; {nearest}."]


@pytest.mark.parametrize(
    ("doubt", "because"),
    [
        ({"slo": "undecided", "steady": False}, "p95 latency 500 ms, but it found no steady state"),
        ({"slo": "undecided"}, "latency not shown to be within the limit (p95 latency 500 ms, at most 1 s): 40 more"),
        (
            {"slo": "missed", "slo_latency_s": "met", "slo_error_rate": "missed", "failures": 30},
            "p95 latency 500 ms, but 30 of 200 requests failed, at most 5.0% may",
        ),
    ],
)
def test_a_nearest_load_within_the_limit_says_why_it_is_not_shown_to_meet_the_slo(doubt, because):
    assert because in recommended(make_config(), doubt)
    found, how = nearest_to_slo(table_of(doubt), make_config())
    assert found == "a" and because.rpartition(", but ")[2].partition(" (")[0] in how


@pytest.mark.parametrize(
    ("config", "points", "found"),
    [
        (SEARCH, [(1, "met"), (16, "met"), (17, "missed")], "concurrency 16; concurrency 17 misses the SLO"),
        (SEARCH, [(1, "met"), (2, "missed")], "concurrency 1; concurrency 2 misses the SLO"),
        (
            SEARCH,
            [(1, "met"), (16, "met"), (20, "missed")],
            "concurrency 16; concurrency 20 misses the SLO, and nothing between them was measured",
        ),
        (
            SEARCH,
            [(1, "met"), (2, "undecided"), (3, "missed"), (4, "met")],
            "concurrency 4, although concurrency 3 misses it; no higher load was measured",
        ),
        (
            SEARCH,
            [(1, "undecided"), (2, "undecided"), (3, "missed")],
            "concurrency 2 by its estimates, not shown with 95% confidence; concurrency 3 misses the SLO",
        ),
        (
            SEARCH,
            [(1, "met"), (2, "undecided"), (3, "missed")],
            "concurrency 1; concurrency 2 is within the SLO by its estimates, not shown with 95% confidence",
        ),
        (SEARCH, [(1, "met"), (64, "met")], "concurrency 64, the highest allowed"),
        (SEARCH, [(1, "met"), (2, "met")], "concurrency 2; no higher load was measured"),
        (SEARCH, [(1, "missed")], "none: concurrency 1, the lowest tried, misses the SLO"),
        (SEARCH, [(1, "met"), (2, "client_limited")], "concurrency 1; concurrency 2 was limited by the client"),
        (SEARCH, [], "not measured"),
        (
            RATES,
            [(8, "met"), (8.25, "missed"), (9, "missed")],
            "8 requests/s; 8.25 requests/s misses the SLO",
        ),
    ],
)
def test_a_search_names_the_highest_load_and_how_near_the_next_is(config, points, found):
    kind = config.load.level_kind
    here = table_of({"option": "other"}, *({"level": level, "slo": slo, "kind": kind} for level, slo in points))
    table = best_loads(config, here)
    assert column(table, "highest load within the SLO") == [found]
    assert "the highest load that is shown to meet the SLO" in table.caption


def test_a_probe_without_a_steady_state_bounds_the_search():
    points = table_of({"level": 4}, {"level": 5, "slo": "undecided", "steady": False})
    (found,) = column(best_loads(SEARCH, points), "highest load within the SLO")
    assert found == "concurrency 4; concurrency 5 had no steady state"


def test_levels_that_a_search_never_looked_at_are_counted_and_not_listed():
    points = table_of({"level": 1}, {"level": 2})
    (unseen,) = column(race_table([], points, SEARCH), "not measured")
    assert unseen == "short at 32 of the search's 34 levels"
    listed = make_config(load={"concurrency": [1, 2, 4], "race": True})
    assert column(race_table([], points, listed), "not measured") == ["short at concurrency 4"]


def test_the_plan_of_a_search_says_how_many_levels_it_measures_at_most():
    caption = plan_table(SEARCH).caption
    assert (
        "The search has 34 levels: probes double from 1, then halve the bracket, and no more than 22 levels" in caption
    )


def test_without_a_search_there_is_no_column_for_one():
    headers = [column.header for column in best_loads(make_config(), table_of({})).columns]
    assert "highest load within the SLO" not in headers


# --- figures ------------------------------------------------------------------------------------------------------


def samples_of(rows):
    """Requests of steady windows as figures draw them."""
    return with_latencies(requests_table(rows))


def texts_of(figure):
    """What stands in the SVG: matplotlib notes each text in a comment."""
    return [match.strip() for match in re.findall(r"<!--(.*?)-->", figure.path.read_text())]


@pytest.mark.parametrize(
    ("levels", "logarithmic", "kept"),
    [
        ([1, 4, 8], False, [1, 4, 8]),
        ([1, 1.02, 4, 8], False, [1.02, 4, 8]),
        ([1, 2, 4, 8, 16, 32, 64], True, [1, 2, 4, 8, 16, 32, 64]),
        ([1, 2, 4, 60, 62, 64], False, [4, 64]),
        ([5], False, [5]),
    ],
)
def test_ticks_are_levels_that_do_not_touch(levels, logarithmic, kept):
    """Two are at least 7% of the axis apart; the highest is always there."""
    assert spaced(levels, logarithmic) == kept


@pytest.mark.parametrize(("level", "text"), [(4.0, "4"), (5.7421875, "5.742"), (1024.0, "1024"), (0.125, "0.125")])
def test_a_tick_has_at_most_four_digits_that_count(level, text):
    assert level_text(level) == text


def test_the_axis_of_an_open_loop_is_the_offered_rate(tmp_path):
    points = table_of(*({"level": r, "rate": r, "kind": "open_loop"} for r in (2.5, 10)))
    for draw in (latency_by_load, throughput_by_load):
        figure = draw(points, OPEN, tmp_path)
        assert {"requests/s offered", "2.5", "10"} <= set(texts_of(figure))
        assert "against requests/s offered." in figure.alt


def test_a_search_with_many_probes_is_drawn_with_few_ticks_and_crosses_out_what_the_client_limited(tmp_path):
    levels = [1, 2, 4, 8, 16, 32, 64, 48, 40, 44, 42, 41]
    points = table_of(*({"level": c, "slo": "client_limited" if c == 64 else "met"} for c in levels))
    figure = latency_by_load(points, SEARCH, tmp_path)
    shown = texts_of(figure)
    assert {"concurrency", "1", "64"} <= set(shown)
    assert not {"41", "42"} <= set(shown)
    assert "Crossed out: limited by the client, not judged." in figure.caption
    assert "Crossed out" not in latency_by_load(points[points["slo"] == "met"], SEARCH, tmp_path).caption


def test_a_distribution_compares_options_at_the_highest_load_that_all_were_measured_at(tmp_path):
    config = make_config(["a", "b"], load={"kind": "search", "over": "concurrency", "highest": 64})
    levels = {"a": (1, 2, 4), "b": (1, 2, 3)}
    rows = [
        request(i, level / 10, 0.01, option=o, level=level)
        for o, ls in levels.items()
        for level in ls
        for i in range(5)
    ]
    assert samples_of(rows)["ttft_s"].notna().all()
    figure = distribution(samples_of(rows), "latency_s", config, tmp_path)
    assert figure.caption.startswith("Further left is better. Share of requests at concurrency 2 that")
    assert figure.alt.endswith("Medians: a 200 ms, b 200 ms")
    assert latency_by_prompt_length(samples_of(rows), config, tmp_path).caption.endswith("at concurrency 1.")


def test_datasets_measured_at_different_loads_are_reported(tmp_path):
    config = make_config(["a"], ["short", "long"], load={"kind": "search", "over": "concurrency", "highest": 64})
    rows = [request(i, 0.1, dataset=d, level=c) for d, c in (("short", 4), ("long", 2)) for i in range(5)]
    caption = distribution(samples_of(rows), "latency_s", config, tmp_path).caption
    assert "at the highest shared load of each dataset" in caption


# --- the load generator on itself ---------------------------------------------------------------------------------


def test_the_instrument_table_shows_every_process_and_why_a_load_point_was_limited():
    busy = facts(
        level=4.0,
        processes=[process(0, p99=0.5, cpu_share=0.42), process(1, p99=7.5, cpu_share=0.93)],
        client_limited=["process 1 used 93% of its CPU", "late"],
        clock_source="user",
    )
    shown = instrument_table([busy, facts()])
    table = shown.inside
    assert [row[:3] for row in table.cells()] == [["a", "short", "concurrency 1"], ["a", "short", "concurrency 4"]]
    assert column(table, "load processes") == ["1", "2"]
    assert column(table, "CPU of each, %") == ["10", "42 + 93"]
    assert column(table, "p99, ms") == ["0.50", "7.50"]
    assert column(table, "receive stamps by") == ["kernel", "user"]
    assert column(table, "limited by the client?") == ["no", "process 1 used 93% of its CPU; late"]
    assert shown.summary == (
        "The load generator limited 1 of 2 load points, which the verdict leaves out: a, short, concurrency 4 (process 1 used "
        "93% of its CPU; late). It served its timers at most 7.50 ms late (p99), and none of its processes used more than 93% of "
        "a core."
    )


def test_a_load_generator_that_kept_up_is_one_line_with_its_figures():
    assert instrument_table([facts(), facts(level=2.0)]).summary == (
        "The load generator kept up at 2 of 2 load points: it served its timers at most 0.500 ms late (p99), and none of its "
        "processes used more than 10% of a core."
    )


def test_the_measurements_of_a_load_point_are_told_apart_where_it_has_several():
    table = instrument_table([facts(repetition=2), facts(repetition=1), facts(level=4.0, repetition=1)]).inside
    assert column(table, "measurement") == ["1", "2", "1"]
    assert "3 of 3 measurements" in instrument_table([facts(repetition=r) for r in (1, 2, 3)]).summary
    assert facts(repetition=2).words == "a, short, concurrency 1, measurement 2"


def test_what_was_imported_or_never_measured_says_nothing_of_the_load_generator():
    imported = facts(processes=[], connect_ms=None, turnaround_ms=None)
    assert instrument_table([imported]) is connection_table([imported]) is None
    assert [table([]) for table in (instrument_table, connection_table, steadiness_table)] == [None] * 3
    assert pacing_table([], table_of({})) is None


def test_the_pacing_of_a_closed_loop_is_workers_in_flight_and_turnaround():
    shown = pacing_table([facts(level=4.0)], table_of({"level": 4, "achieved_concurrency": 3.97}))
    assert shown.inside.cells() == [["a", "short", "concurrency 4", "3.97", "0.010", "0.050", "0.200"]]
    assert shown.summary == (
        "1 of 1 load point held the concurrency that was asked for: on average 99.2% of it was in flight. A worker sent again "
        "within 0.0500 ms (p99)."
    )


def test_a_concurrency_that_was_not_held_is_named_the_lowest_first():
    measured = [facts(level=level, turnaround_ms=None) for level in (1.0, 2.0, 4.0)]
    points = table_of(*({"level": c, "achieved_concurrency": a} for c, a in ((1, 1.0), (2, 1.9), (4, 3.2))))
    assert pacing_table(measured, points).summary == (
        "2 of 3 load points did not hold the concurrency that was asked for: a, short, concurrency 4 (80.0% of it); "
        "a, short, concurrency 2 (95.0% of it)."
    )
    unknown = table_of({"level": 1, "achieved_concurrency": None})
    assert pacing_table(measured[:1], unknown).summary == "How many requests were in flight is not known."


def test_the_pacing_of_an_open_loop_is_the_schedule_and_what_was_sent():
    kept = open_facts(10.0, achieved=arrivals(9.98, gap_cv=1.01, dispersion=1.2, autocorrelation=None))
    shown = pacing_table([kept], table_of({}))
    (cells,) = shown.inside.cells()
    lag, rates, gaps, bursts, independence = cells[3:6], cells[6:8], cells[8:10], cells[10:12], cells[12:]
    assert shown.summary == (
        "1 of 1 load point kept the schedule: rates are within 0.2% of it. Requests went out at most 0.400 ms late (p99)."
    )
    off = [open_facts(10.0, achieved=arrivals(9.0)), open_facts(20.0, achieved=arrivals(20.0), schedule_lag_ms=None)]
    assert pacing_table(off, table_of({})).summary.startswith(
        "1 of 2 load points had a rate more than 2% off the schedule's: a, short, 10 requests/s (-10.0%)."
    )
    assert lag == ["0.050", "0.400", "1.500"]
    assert rates == ["10.00", "9.98"]
    assert gaps == ["1.000", "1.010"]
    assert bursts == ["1.00", "1.20"]
    assert independence == ["0.000", "–"]


def test_connecting_and_tls_are_apart_and_unknown_where_there_was_none():
    secure = facts(tls_ms={"n": 1, "p50": 4.0, "p99": 4.0, "max": 4.5}, level=2.0)
    reused = facts(connect_ms=None, level=4.0)
    shown = connection_table([facts(), secure, reused])
    assert shown.summary == (
        "Connecting is in no latency: 2 TCP connects took at most 0.300 ms each, 1 TLS handshake took at most 4.50 ms each."
    )
    assert [row[3:] for row in shown.inside.cells()] == [
        ["1", "0.30", "0.30", "0.30", "–", "–", "–"],
        ["1", "0.30", "0.30", "0.30", "4.00", "4.00", "4.50"],
        ["–"] * 7,
    ]


def test_the_finding_of_a_steady_state_is_shown_for_and_against():
    trend = "latency has a trend: drift +30%"
    drifting = facts(level=2.0, steady=False, steady_because=trend, ended_because="max_duration_s")
    ramp = facts(level=4.0, steady=None, steady_because="the whole ramp is measured", window_open_ns=None)
    shown = steadiness_table([facts(), drifting, ramp])
    assert shown.summary == (
        "1 of 3 load points reached a steady state. 1 of 3 load points did not, and cannot show that the SLO is met: a, short, "
        "concurrency 2."
    )
    assert steadiness_table([ramp]).summary == "No steady state was looked for: the whole ramp is measured."
    overloaded = facts(steady=False, ended_because=OVERLOAD)
    assert steadiness_table([overloaded]).summary == (
        "In 1 of 1 load point latency rose throughout, to more than twice what it was: a, short, concurrency 1."
    )
    assert [row[3:] for row in shown.inside.cells()] == [
        ["10.0", "enough requests", "yes", "drift +0.1%"],
        ["10.0", "max_duration_s", "no", "latency has a trend: drift +30%"],
        ["–", "enough requests", "not looked for", "the whole ramp is measured"],
    ]


SPREAD = {"mean": 0.08, "p50": 0.07, "p99": 0.2, "max": 0.9}
LEVEL = {
    "concurrency": 64,
    "requests_per_s": 2900.4,
    "ttft_overhead_ms": SPREAD,
    "latency_overhead_ms": {**SPREAD, "max": 1.5},
    "cpu_ms_per_request": 0.31,
}
CALIBRATION = {"clock_source": "kernel", "load_processes": 2, "levels": [{**LEVEL, "concurrency": 1}, LEVEL]}


def test_a_calibration_is_a_small_table(tmp_path):
    (tmp_path / "instrument.json").write_text(json.dumps(CALIBRATION))
    shown = calibration_table(RunFolder(tmp_path))
    table = shown.inside
    assert shown.summary == (
        "By its calibration at concurrency 1 and 64, the load generator adds at most 0.0800 ms to a TTFT and 0.0800 ms to "
        "a latency on average (p99: 0.200 and 0.200 ms)."
    )
    assert table.cells()[1] == [
        "64",
        "2,900",
        "0.080",
        "0.070",
        "0.200",
        "0.900",
        "0.080",
        "0.070",
        "0.200",
        "1.500",
        "0.310",
    ]
    assert "(load processes: 2, receive stamps by kernel)" in table.caption


def test_without_a_calibration_the_report_says_so(tmp_path):
    said = calibration_table(RunFolder(tmp_path))
    assert isinstance(said, Prose)
    assert said.markdown.startswith("The load generator was not calibrated in this run")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({**CALIBRATION, "levels": [{}]})])
def test_a_calibration_that_cannot_be_read_is_an_error_with_its_file(tmp_path, content):
    (tmp_path / "instrument.json").write_text(content)
    with pytest.raises(AnalysisError, match=r"instrument\.json: is no calibration .* Next: delete it"):
        calibration_table(RunFolder(tmp_path))


# --- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "header", "points", "minutes"),
    [
        ({"concurrency": [1, 4], "repetitions": 3, "max_duration_s": 60}, "load points", 12, 12 * 120 / 60),
        ({"kind": "open_loop", "rate": [1], "max_duration_s": 60}, "load points", 2, 2 * 120 / 60),
        ({"kind": "ramp", "from_rate": 0, "to_rate": 9, "duration_s": 30}, "load points", 2, 2 * 90 / 60),
        (
            {"kind": "search", "over": "concurrency", "highest": 64, "tolerance": 0.1, "max_duration_s": 60},
            "load points, at most",
            2 * 2 * (7 + 4),  # on each dataset twice: 1, 2, 4, ... 64, and four halvings to a tenth
            2 * 22 * 120 / 60,
        ),
    ],
)
def test_the_plan_counts_load_points_and_the_time_they_take_at_most(load, header, points, minutes):
    table = plan_table(make_config(["a"], ["short", "long"], load=load))
    assert column(table, header) == [str(points)]
    longest = "at most, min" if load.get("kind") == "search" else "estimate, min"
    assert column(table, longest) == [f"{minutes:.0f}"]
