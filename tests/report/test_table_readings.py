"""What stands below the tables of the report: true of planted cases, also untidy ones, or absent."""

import datetime

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, token_price

from helpers.config.load_level import LoadLevel
from helpers.metrics.control import Change, Move
from helpers.metrics.failure_counts import count_failures
from helpers.report import conclusions
from helpers.report.comparing import counted
from helpers.report.cost_report import capacity_table, cost_table, price_table, run_cost_table
from helpers.report.deployment_report import deployments_table
from helpers.report.failures_report import errors_table
from helpers.report.load_report import recommendations
from helpers.report.race_report import race_table
from helpers.report.report import load_point_table
from helpers.report.table_readings import moves_reading, prices_reading
from helpers.run.folder import RunFolder
from helpers.run.group_records import Group, read_groups, write_groups
from helpers.run.records import Attempt
from helpers.verdict.judging import judge

A, B = {"option": "a", "rate": 10}, {"option": "b", "rate": 5}


def judged(*points, datasets=("short",), prices=None, **sections):
    """`points`: keyword arguments of load points; 3.6 $/h at 10 requests/s is $0.1 per 1,000 requests."""
    table = pd.DataFrame([load_point(**point) for point in points])
    names = list(dict.fromkeys(table["option"]))
    levels = {"load": {"concurrency": sorted({int(level) for level in table["level"]})}}
    config = make_config(names, list(datasets), **levels | sections)
    endpoints = [endpoint(name, **({"price": prices[name]} if prices else {})) for name in names]
    return table, judge(table, endpoints, [], config, "run-1"), config


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ({"meets the SLO": 2, "is not decided": 1}, "Of 3 options 2 meet the SLO and 1 is not decided."),
        (
            {"meets the SLO": 1, "has no price": 2, "failed": 3},
            "Of 6 options 1 meets the SLO, 2 have no price and 3 failed.",
        ),
        ({"misses the SLO": 0, "was not measured": 2}, "Both options were not measured."),
        ({"meets the SLO": 1}, "The option meets the SLO."),
        ({"failed": 4}, "All 4 options failed."),
    ],
)
def test_what_is_counted_is_said_of_one_of_some_and_of_all(does, said):
    assert counted("option", does) == said


# --- capacity -----------------------------------------------------------------------------------------------------


def capacity(*points, **kwargs):
    _, verdict, config = judged(*points, traffic={"requests_per_minute": 700, "headroom": 0.3}, **kwargs)
    table = capacity_table(verdict, config)
    return getattr(table, "reading", "")


def test_the_traffic_that_the_instances_carry_follows_from_their_rate_and_the_headroom():
    """An instance of a serves 600 requests a minute, so 2 carry 840 with 30% headroom; one of b serves 300."""
    missed = {"level": 2, "slo": "missed"}
    said = capacity(A, A | missed, B, B | missed)
    assert said == (
        "2 instances of “a” carry up to 840 requests a minute with this headroom. An instance of “b” serves 50% fewer requests "
        "a minute."
    )


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ((A,), "2 instances of “a” carry at least 840 requests a minute with this headroom."),
        (
            (A, A | {"option": "b"}),  # as many: nothing to compare
            "2 instances of “a” carry at least 840 requests a minute with this headroom.",
        ),
        (
            (A | {"slo": "undecided"},),
            "2 instances of “a” carry at least 840 requests a minute with this headroom, by its estimates.",
        ),
        ((A | {"slo": "missed"},), ""),
    ],
    ids=["one option", "a tie", "an estimate", "none feasible"],
)
def test_capacity_is_said_as_far_as_it_is_known(points, said):
    assert capacity(*points) == said


def test_what_is_billed_by_the_token_carries_no_traffic_by_instances():
    assert capacity(A, prices={"a": token_price(1, 2)}) == ""


# --- loads and load points ----------------------------------------------------------------------------------------


def loads(*points, **kwargs):
    return recommendations(*judged(*points, **kwargs)).reading


LONG = {"dataset": "long"}
BOTH = ("short", "long")


def test_loads_that_suit_only_their_dataset_are_named():
    fast = {"level": 2, "rate": 20}
    said = loads(A, A | fast, A | LONG, A | LONG | fast | {"slo": "missed"}, B, B | LONG, datasets=BOTH)
    assert said == (
        "Each of the 4 pairs of dataset and option has a load that is shown to meet the SLO. “a” is cheapest at different loads "
        "on different datasets: no one limit suits it."
    )


@pytest.mark.parametrize(
    ("points", "datasets", "said"),
    [
        ((A,), ("short",), ""),
        ((A, B), ("short",), "Each of the 2 pairs of dataset and option has a load that is shown to meet the SLO."),
        (
            (A, B | {"slo": "missed"}),
            ("short",),
            "1 of 2 pairs of dataset and option has a load that is shown to meet the SLO.",
        ),
        (
            (A | {"slo": "missed"}, B | {"slo": "missed"}),
            ("short",),
            "No option has a load that is shown to meet the SLO on any dataset.",
        ),
        ((A,), BOTH, "1 of 2 pairs of dataset and option has a load that is shown to meet the SLO."),
        (
            (A, A | LONG),
            BOTH,
            "Each of the 2 pairs of dataset and option has a load that is shown to meet the SLO. No option is cheapest at "
            "different loads on different datasets, so one limit on the load will do.",
        ),
    ],
    ids=["one pair", "one dataset", "one misses", "none feasible", "a missing cell", "one load"],
)
def test_pairs_of_dataset_and_option_are_counted(points, datasets, said):
    assert loads(*points, datasets=datasets) == said


def load_points(*points):
    table, _, config = judged(*points)
    return load_point_table(table, config).reading


def test_load_points_are_counted_and_the_least_telling_sample_is_named():
    few = {"level": 2, "slo": "undecided", "latency_s_effective_n": 14.2}
    said = load_points(
        A, A | few, B | {"slo": "missed"}, B | few | {"slo": "client_limited", "latency_s_effective_n": None}
    )
    assert said == (
        "Of 4 load points 1 is shown to meet the SLO, 1 is shown to miss the SLO, 1 is undecided and 1 is not judged, as the "
        "client limited it. The sample that says least is that of “a” on short at concurrency 2: 200 requests count as 14 "
        "independent ones."
    )


def test_samples_that_say_as_much_are_not_ordered():
    assert load_points(A, B) == "Both load points are shown to meet the SLO."
    unknown = {"latency_s_effective_n": None}  # as of imported groups
    assert load_points(A | unknown, B | unknown) == "Both load points are shown to meet the SLO."
    assert load_points(A) == "The load point is shown to meet the SLO."


# --- prices -------------------------------------------------------------------------------------------------------


def costs(*points):
    table, verdict, config = judged(*points)
    return cost_table(table, verdict, config).reading


def test_where_the_load_moves_the_price_most():
    """$0.1 and $0.05 per 1,000 requests of a; of b $0.2 and $0.15."""
    said = costs(A, A | {"level": 2, "rate": 20}, B, B | {"level": 2, "rate": 5 / 0.75})
    assert said == (
        "The load moves the price most for “a” on short: from $50.0 per 1M requests at concurrency 2 to $100 at concurrency 1, "
        "which is 2.0 times as expensive."
    )


@pytest.mark.parametrize(
    "points",
    [
        (A, B),
        (A, A | {"level": 2}),
        (A, A | {"level": 2, "rate": 0.0, "slo": "missed"}),
        (A | {"usd_per_hour": None},),
        (A, A | {"level": 2, "rate": 20, "slo": "client_limited"}),
    ],
    ids=["one load", "one price", "nothing served", "no price", "the client's limit"],
)
def test_a_price_that_the_load_does_not_move_is_not_spoken_of(points):
    assert costs(*points) == ""


FIRST, LAST = datetime.date(2026, 1, 2), datetime.date(2026, 3, 4)


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        ([], ""),
        ([FIRST], ""),
        ([FIRST, FIRST], "Both prices are of 2026-01-02."),
        ([LAST, FIRST], "Both prices are of days from 2026-01-02 to 2026-03-04."),
        ([None, FIRST, None], "Of 3 prices 2 have no date and 1 is of 2026-01-02."),
        ([None, None], "Both prices have no date."),
    ],
)
def test_the_days_of_several_prices_are_said(dates, said):
    assert prices_reading(dates) == said


def test_the_price_table_reads_the_prices_of_all_options():
    _, verdict, _ = judged(A, B, prices={"a": token_price(1, 2, as_of=FIRST), "b": token_price(1, 2)})
    assert price_table(verdict).reading == "Of 2 prices 1 has no date and 1 is of 2026-01-02."


# --- deployments and the run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], ""),
        ([{"instance_type": "ml.g5.xlarge"}], "The options differ in instances, and are alike in target."),
        ([{}], "The 2 options are alike in target and instances."),
        (
            [{"image": "vllm", "serving": {"max_num_seqs": "4"}}],
            "The options differ in image and serving settings, and are alike in target and instances.",
        ),
    ],
    ids=["one option", "instances", "nothing", "image and settings"],
)
def test_in_what_deployments_differ(others, said):
    records = [endpoint("a"), *(endpoint(f"b{i}", **changes) for i, changes in enumerate(others))]
    assert deployments_table(records).reading == said


CREATED = "2026-01-01T00:00:00+00:00"


def lived(name, minutes, startup_s=60, **changes):
    start = datetime.datetime.fromisoformat(CREATED)
    times = {
        "create_called_at": CREATED,
        "in_service_at": (start + datetime.timedelta(seconds=startup_s)).isoformat(),
        "deleted_at": (start + datetime.timedelta(minutes=minutes)).isoformat(),
    }
    return endpoint(name, state="deleted", **times | changes)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([endpoint("a"), endpoint("b")], ""),
        ([lived("a", 60, local=True)], ""),
        ([lived("a", 60)], "The run spent $3.60 on endpoints."),
        ([lived("a", 60), lived("b", 60)], "The run spent $7.20 on endpoints."),
        (
            [lived("a", 60), lived("b", 30, 200), lived("c", 30, price=None)],
            "The run spent $5.40 on endpoints, most on “a” ($3.60); what “c” cost is not known. “b” took longest to start, "
            "200 s; “a” 60.0 s.",
        ),
        ([lived("a", 60, price=None)], "What “a” cost is not known."),
        (
            [lived("a", 5, 10, local=True), lived("b", 5, 20, local=True)],
            "“b” took longest to start, 20.0 s; “a” 10.0 s.",
        ),
    ],
    ids=["not of the run", "local", "one", "alike", "one unknown", "unknown", "local start-up"],
)
def test_what_the_run_spent_and_which_start_up_was_longest(records, said, tmp_path):
    assert run_cost_table(records, RunFolder(tmp_path)).reading == said


# --- the race and the visits --------------------------------------------------------------------------------------


def test_how_options_left_the_race_and_what_was_left_out():
    config = make_config(["a", "b", "c"], load={"concurrency": [1, 2, 4], "race": True, "min_requests": 60})
    points = pd.DataFrame([load_point("a", level=level) for level in (1, 2, 4)] + [load_point("b")])
    left = [
        endpoint("a", race_outcome="settled"),
        endpoint("b", race_outcome="infeasible"),
        endpoint("c", failure="no capacity"),
    ]
    table = race_table(left, points, config)
    assert table.reading == (
        "Of 3 options 1 left as settled, 1 left as infeasible and 1 failed. 5 load points were not measured, 3 of them of “c”."
    )
    assert [row[2] for row in table.cells()] == ["settled", "infeasible", "failed"]


def moved(option, value, low, high):
    return Move(option, "short", "concurrency 1", 100, 100, Change(value, low, high))


def test_which_options_changed_while_they_were_measured():
    still, slower = moved("a", 0.001, -0.01, 0.012), moved("b", 0.12, 0.05, 0.2)
    assert moves_reading([still]) == "No change of “a” by 2% or more is shown."
    assert moves_reading([still, still]) == "No change of any of 2 options by 2% or more is shown."
    assert moves_reading([still, slower]) == (
        "Late in its measurement “b” was 12% slower than early; of the other no change is shown."
    )
    assert moves_reading([slower, moved("c", -0.3, -0.4, -0.2)]) == (
        "Late in its measurement “b” was 12% slower and “c” was 30% faster than early."
    )


# --- failures of imported groups ----------------------------------------------------------------------------------


def failures_of(tmp_path, **groups):
    """What is counted of groups: option -> (requests, failures, whether failures are known)."""
    run = RunFolder(tmp_path / "run")
    for option, (requests, failures, known) in groups.items():
        group = Group(requests, failures, 10.0, 1.0, 100, 100, "a file", failures_known=known)
        write_groups(run, Attempt(option, "short", LoadLevel("closed_loop", 2), 0), [group])
    return errors_table(count_failures(run.requests, [], read_groups(run)))


def test_failures_of_imported_groups_are_counted_without_a_kind_or_called_unknown(tmp_path):
    table = failures_of(tmp_path, a=(40, 3, True), b=(40, 0, False), c=(40, 0, True))
    assert [row[:5] for row in table.cells()] == [
        ["a", "failed, and the files do not say how", "3", "7.5", "short, concurrency 2"],
        ["b", "not known: the files leave failures out", "–", "–", "short, concurrency 2"],
    ]
    assert "example" not in table.caption
    assert table.reading == (
        "All 3 failed requests were of “a”: failed, and the files do not say how. How many of “b” failed is not known."
    )


def test_where_no_group_failed_there_is_no_table_of_failures(tmp_path):
    assert failures_of(tmp_path, a=(40, 0, True)) is None


# --- the figure of prompts ----------------------------------------------------------------------------------------


def test_means_of_imported_prompts_say_what_long_ones_take():
    short, long = {"prompt_tokens_mean": 100.0}, LONG | {"prompt_tokens_mean": 1000.0}
    points = [A | short, A | long | {"latency_s_mean_ok": 0.7}, B | short, B | long]
    table = pd.DataFrame([load_point(**point) for point in points])
    assert conclusions.mean_prompt_title(table) == "long takes 2.0 times as long as short on “a”, 1.0 times on “b”"
    assert conclusions.mean_prompt_title(table[table["option"] == "b"]) == "long takes as long as short"
    assert conclusions.mean_prompt_title(table[table["dataset"] == "short"]) == ""
    assert conclusions.mean_prompt_title(table[:0]) == ""
