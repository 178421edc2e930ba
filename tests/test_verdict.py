"""The verdict on load points that were made up, so that the right answer is known."""

import pandas as pd
import pytest
from examples import load_point, make_config, option

from helpers.checks import ReportWarning
from helpers.verdict import Verdict, judge


def verdict_on(*points, config=None, warnings=()):
    """`points` are keyword arguments of load points; 3.6 $/h at 10 requests/s is 0.1 $ per 1,000 requests."""
    points = pd.DataFrame([load_point(**point) for point in points])
    config = config or make_config(list(dict.fromkeys(points["option"])))
    return judge(points, list(warnings), config, "run-1")


def statuses(verdict):
    return {option.option: option.status for option in verdict.options}


# --- who wins -----------------------------------------------------------------------------------------------------


def test_the_cheapest_option_that_meets_the_slo_wins():
    verdict = verdict_on(
        {"option": "a", "rate": 5}, {"option": "b", "rate": 10}, {"option": "c", "rate": 20, "slo": "missed"}
    )
    assert verdict.recommended == "b"
    assert statuses(verdict) == {"a": "feasible", "b": "recommended", "c": "infeasible"}
    assert (verdict.tied, verdict.nearest) == ([], None)
    assert verdict.option("b").reason == "the cheapest option that meets the SLO"
    assert verdict.option("a").reason == "meets the SLO, 100% dearer than the cheapest"


def test_a_faster_but_dearer_option_is_not_recommended():
    verdict = verdict_on(
        {"option": "cheap", "rate": 10, "usd_per_hour": 1.0},
        {"option": "fast", "rate": 100, "usd_per_hour": 30.0, "latency_s_p95": 0.01},
    )
    assert verdict.recommended == "cheap"
    assert verdict.option("fast").status == "feasible"


def test_an_option_stands_at_the_cheapest_of_its_loads_within_the_slo():
    verdict = verdict_on(
        {"level": 1, "rate": 5},
        {"level": 4, "rate": 10},
        {"level": 8, "rate": 12, "slo": "undecided"},
    )
    (point,) = verdict.option("a").points
    assert (point.load_kind, point.level, point.load, point.n) == ("closed_loop", 4, "concurrency 4", 200)
    assert point.requests_per_s.model_dump() == {"value": 10, "low": 9, "high": 11}
    assert point.latency_s.model_dump() == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert point.cost.value == pytest.approx(0.1)


@pytest.mark.parametrize(("rate", "tied"), [(8.5, ["b"]), (8.0, [])])
def test_options_whose_intervals_overlap_with_the_winner_are_tied(rate, tied):
    """The winner makes 9 to 11 requests/s; 8.5 reaches 9.35, 8.0 reaches 8.8."""
    verdict = verdict_on({"option": "a", "rate": 10}, {"option": "b", "rate": rate})
    assert (verdict.recommended, verdict.tied) == ("a", tied)
    assert verdict.option("b").status == ("tied" if tied else "feasible")


def test_tied_is_told_of_the_winner_not_of_each_other():
    verdict = verdict_on({"option": "a", "rate": 10}, {"option": "b", "rate": 8.5}, {"option": "c", "rate": 7.5})
    assert verdict.tied == ["b"]


@pytest.mark.parametrize("unknown", ["usd_per_1k_requests_low", "usd_per_1k_requests_high"])
def test_an_unknown_interval_cannot_tell_options_apart(unknown):
    points = pd.DataFrame([load_point("a", rate=10), load_point("b", rate=1)])
    points.loc[1, unknown] = None
    verdict = judge(points, [], make_config(["a", "b"]), "run-1")
    assert (verdict.recommended, verdict.tied) == ("a", ["b"])


def test_an_option_that_costs_nothing_may_win():
    verdict = verdict_on({"option": "own", "usd_per_hour": 0.0}, {"option": "rented"})
    assert statuses(verdict) == {"own": "recommended", "rented": "feasible"}
    assert verdict.option("rented").reason == "meets the SLO, but the cheapest costs nothing"


# --- who falls out ------------------------------------------------------------------------------------------------


def test_an_option_that_misses_the_slo_everywhere_is_infeasible():
    option_verdict = verdict_on({"slo": "missed"}, {"level": 4, "slo": "missed"}).option("a")
    assert option_verdict.status == "infeasible"
    assert (
        option_verdict.reason == "misses the SLO (latency of 1 s at p95, errors of 5.0%) at every concurrency on short"
    )
    assert (option_verdict.cost, option_verdict.points, option_verdict.capacity) == (None, [], None)


def test_an_option_that_may_meet_the_slo_is_undecided():
    option_verdict = verdict_on({"slo": "missed"}, {"level": 4, "slo": "undecided"}).option("a")
    assert option_verdict.status == "undecided"
    assert "not shown to meet the SLO" in option_verdict.reason
    assert "with 95% confidence on short: more requests would tell" in option_verdict.reason


RATES = make_config(load={"kind": "open_loop", "rate": [5, 10]})
SEARCH = make_config(load={"kind": "search", "over": "rate", "highest": 64})


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (RATES, "open_loop", "at every rate on short"),
        (SEARCH, "open_loop", "at every rate that was tried on short"),
        (make_config(load={"kind": "trace", "path": "t.csv"}), "trace", "at every speed on short"),
    ],
)
def test_what_is_missed_everywhere_is_said_in_the_words_of_the_load(config, kind, words):
    option_verdict = verdict_on({"level": 5, "kind": kind, "slo": "missed"}, config=config).option("a")
    assert option_verdict.status == "infeasible"
    assert option_verdict.reason.endswith(words)


def test_an_option_stands_at_a_rate_too():
    points = [{"level": 5, "rate": 5, "kind": "open_loop"}, {"level": 10.5, "rate": 10, "kind": "open_loop"}]
    (point,) = verdict_on(*points, config=RATES).option("a").points
    assert (point.load_kind, point.level, point.load) == ("open_loop", 10.5, "10.5 requests/s")


def test_a_load_point_that_the_client_limited_is_never_chosen():
    points = [{"level": 1, "rate": 5}, {"level": 4, "rate": 50, "slo": "client_limited"}]
    (point,) = verdict_on(*points).option("a").points
    assert point.level == 1


def test_an_option_whose_only_load_points_the_client_limited_is_not_judged():
    verdict = verdict_on(
        {"option": "a", "slo": "client_limited"}, {"option": "b", "slo": "missed", "latency_s_p95": 9.0}
    )
    assert statuses(verdict) == {"a": "not_judged", "b": "infeasible"}
    assert verdict.option("a").reason.startswith("the client, not the server, limited every load point on short")
    assert (verdict.option("a").cost, verdict.option("a").points) == (None, [])
    assert (verdict.recommended, verdict.nearest) == (None, "b"), "though its p95 is worse than that of a"


@pytest.mark.parametrize(("limited", "status"), [(4, "infeasible"), (0.5, "undecided")])
def test_a_missed_slo_counts_against_an_option_unless_the_client_limited_a_lower_load(limited, status):
    points = [{"level": 1, "slo": "missed"}, {"level": limited, "slo": "client_limited"}]
    option_verdict = verdict_on(*points).option("a")
    assert option_verdict.status == status
    assert status == "infeasible" or option_verdict.reason.endswith(
        "the client, not the server, limited the lowest load"
    )


@pytest.mark.parametrize(
    ("steady", "words"),
    [
        ([False], "no steady state was found at concurrency 4; a longer load.max_duration_s may tell"),
        ([True], "more requests would tell"),
        ([False, True], "more requests would tell"),
    ],
)
def test_an_undecided_option_says_what_would_tell(steady, words):
    points = [{"level": 4 + i, "slo": "undecided", "steady": state} for i, state in enumerate(steady)]
    option_verdict = verdict_on(*points).option("a")
    assert option_verdict.status == "undecided"
    assert option_verdict.reason.endswith(words)


@pytest.mark.parametrize("slo", ["undecided", "missed"])
def test_a_ramp_decides_nothing(slo):
    config = make_config(load={"kind": "ramp", "from_rate": 0, "to_rate": 9, "duration_s": 60})
    option_verdict = verdict_on({"level": 9, "kind": "ramp", "slo": slo, "steady": None}, config=config).option("a")
    assert option_verdict.status == "undecided"
    assert option_verdict.reason.startswith("a ramp cannot show whether the SLO is met (latency of 1 s at p95")


def test_an_option_without_a_price_is_measured_but_not_ranked():
    verdict = verdict_on(
        {"option": "a", "usd_per_hour": None, "rate": 5},
        {"option": "a", "usd_per_hour": None, "rate": 50, "level": 4},
        {"option": "b", "rate": 10},
    )
    unpriced = verdict.option("a")
    assert (verdict.recommended, unpriced.status) == ("b", "unpriced")
    assert unpriced.reason == "meets the SLO, but its price is unknown"
    assert unpriced.points[0].level == 4
    assert unpriced.capacity.instances == 1
    assert (unpriced.capacity.usd_per_hour, unpriced.capacity.usd_per_month) == (None, None)


def test_an_option_that_lacks_a_dataset_is_incomplete():
    config = make_config(["a", "b"], ["short", "long"])
    verdict = verdict_on({"dataset": "short"}, {"option": "b"}, {"option": "b", "dataset": "long"}, config=config)
    assert statuses(verdict) == {"a": "incomplete", "b": "recommended"}
    assert verdict.option("a").reason == "no measurement on long"


def test_a_dataset_without_traffic_excludes_nobody():
    config = make_config(["a"], ["short", "long"], traffic={"mix": {"short": 1, "long": 0}})
    verdict = verdict_on({"dataset": "short"}, {"dataset": "long", "slo": "missed"}, config=config)
    assert verdict.recommended == "a"
    assert [point.dataset for point in verdict.option("a").points] == ["short"]


def test_where_none_is_feasible_the_nearest_is_named():
    """Ratios of p95 to the limit of 1 s: a 1.4 at its best, b 1.2, c 0.9 on one dataset but 3 on the other."""
    config = make_config(["a", "b", "c"], ["short", "long"])
    missed = [
        ("a", "short", 1, 1.4),
        ("a", "short", 4, 9),
        ("a", "long", 1, 1.1),
        ("b", "short", 1, 1.2),
        ("b", "long", 1, 1.0),
        ("c", "short", 1, 0.9),
        ("c", "long", 1, 3),
    ]
    verdict = verdict_on(
        *({"option": o, "dataset": d, "level": c, "latency_s_p95": p, "slo": "missed"} for o, d, c, p in missed),
        config=config,
    )
    assert (verdict.recommended, verdict.nearest, verdict.tied) == (None, "b", [])


# --- cost and capacity --------------------------------------------------------------------------------------------


def test_the_price_over_several_datasets_is_weighed_by_the_mix():
    """0.1 and 0.2 $ per 1,000 requests at 75:25; half-widths add as squares."""
    config = make_config(["a"], ["short", "long"], traffic={"mix": {"short": 0.75, "long": 0.25}})
    cost = verdict_on({"dataset": "short", "rate": 10}, {"dataset": "long", "rate": 5}, config=config).option("a").cost
    assert cost.value == pytest.approx(0.125)
    below = ((0.75 * (0.1 - 1 / 11)) ** 2 + (0.25 * (0.2 - 1 / 5.5)) ** 2) ** 0.5
    above = ((0.75 * (1 / 9 - 0.1)) ** 2 + (0.25 * (1 / 4.5 - 0.2)) ** 2) ** 0.5
    assert (cost.low, cost.high) == pytest.approx((0.125 - below, 0.125 + above))


def test_the_mix_may_turn_the_verdict():
    points = [
        {"option": "a", "dataset": "short", "rate": 30},
        {"option": "a", "dataset": "long", "rate": 3},
        {"option": "b", "dataset": "short", "rate": 10},
        {"option": "b", "dataset": "long", "rate": 6},
    ]
    for short, winner in ((0.9, "a"), (0.1, "b")):
        config = make_config(["a", "b"], ["short", "long"], traffic={"mix": {"short": short, "long": 1 - short}})
        assert verdict_on(*points, config=config).recommended == winner


@pytest.mark.parametrize(
    ("per_minute", "headroom", "instances", "utilisation"),
    [(600, 0.3, 2, 0.5), (420, 0.3, 1, 0.7), (421, 0.3, 2, 421 / 1200), (6000, 0.0, 10, 1.0), (1, 0.3, 1, 1 / 600)],
)
def test_capacity_by_hand(per_minute, headroom, instances, utilisation):
    """10 requests/s are 600 a minute, of which 30% stay free: 420."""
    config = make_config(traffic={"requests_per_minute": per_minute, "headroom": headroom})
    capacity = verdict_on({"rate": 10}, config=config).option("a").capacity
    assert capacity.requests_per_minute_per_instance.model_dump() == pytest.approx(
        {"value": 600, "low": 540, "high": 660}
    )
    assert (capacity.instances, capacity.utilisation) == (instances, pytest.approx(utilisation))
    assert capacity.usd_per_hour == pytest.approx(3.6 * instances)
    assert capacity.usd_per_month == pytest.approx(3.6 * instances * 730)


def test_capacity_over_a_mix_adds_the_time_that_each_request_takes():
    """Half the requests take 1/10 s, half 1/5 s: 0.15 s each, 400 a minute."""
    config = make_config(["a"], ["short", "long"])
    capacity = (
        verdict_on({"dataset": "short", "rate": 10}, {"dataset": "long", "rate": 5}, config=config).option("a").capacity
    )
    assert capacity.requests_per_minute_per_instance.value == pytest.approx(400)


def test_an_option_of_two_instances_is_counted_and_paid_per_instance():
    """7.2 $/h for both; together 600 a minute, so 300 each: 600 / (300 x 0.7) = 2.9 instances."""
    config = make_config([option("a", instance_count=2)])
    capacity = verdict_on({"rate": 10, "usd_per_hour": 7.2}, config=config).option("a").capacity
    assert capacity.requests_per_minute_per_instance.value == pytest.approx(300)
    assert (capacity.instances, capacity.usd_per_hour) == (3, pytest.approx(10.8))


# --- is it comparable? --------------------------------------------------------------------------------------------


def test_answers_of_unequal_length_are_compared_by_output_token():
    """b answers more requests, but with a quarter of the tokens."""
    points = [
        {"option": "a", "rate": 10, "output_tokens_mean": 100.0},
        {"option": "b", "rate": 20, "output_tokens_mean": 25.0},
    ]
    verdict = verdict_on(*points)
    assert (verdict.cost_basis, verdict.comparable) == ("usd_per_1m_output_tokens", False)
    assert verdict.recommended == "a"
    assert verdict.option("a").cost.value == pytest.approx(1.0)


@pytest.mark.parametrize(("tokens", "comparable"), [(104.0, True), (106.0, False)])
def test_lengths_may_differ_by_5_percent(tokens, comparable):
    verdict = verdict_on({"option": "a", "output_tokens_mean": 100.0}, {"option": "b", "output_tokens_mean": tokens})
    assert verdict.comparable is comparable
    assert verdict.cost_basis == ("usd_per_1k_requests" if comparable else "usd_per_1m_output_tokens")


def test_different_models_are_not_comparable():
    config = make_config([option("a"), option("b", model="another")])
    assert verdict_on({"option": "a"}, {"option": "b"}, config=config).comparable is False
    assert verdict_on({"option": "a"}, {"option": "b"}).comparable is True


# --- as data ------------------------------------------------------------------------------------------------------


def test_a_verdict_survives_its_json():
    verdict = verdict_on(
        {"option": "a", "rate": 10},
        {"option": "b", "usd_per_hour": None},
        {"option": "c", "slo": "missed"},
        {"option": "d", "rate": 1, "spread": 1.0},
        warnings=[ReportWarning(kind="errors", message="m", rows=["r"])],
    )
    again = Verdict.model_validate_json(verdict.model_dump_json())
    assert again == verdict
    assert again.run_id == "run-1"


def test_an_unbounded_price_is_written_as_null():
    points = pd.DataFrame([load_point(rate=1)])
    points["usd_per_1k_requests_high"] = float("inf")
    cost = judge(points, [], make_config(), "run-1").option("a").cost
    assert (cost.low, cost.high) == (None, None)


def test_an_option_that_was_not_in_the_run_is_an_error():
    with pytest.raises(KeyError):
        verdict_on({"option": "a"}).option("z")
