"""The verdict on load points that were made up, so that the right answer is known."""

import math

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, option, token_price

from helpers.price import Price
from helpers.report.bottom_line_text import bottom_line
from helpers.run.report_warning import ReportWarning
from helpers.verdict.judging import judge
from helpers.verdict.verdict import Verdict


def verdict_on(*points, config=None, endpoints=None, warnings=()):
    """`points` are keyword arguments of load points; 3.6 $/h at 10 requests/s is 0.1 $ per 1,000 requests. Endpoints cost
    as much as the load points of their option.
    """
    points = pd.DataFrame([load_point(**point) for point in points])
    config = config or make_config(list(dict.fromkeys(points["option"])), load={"concurrency": _common_levels(points)})
    if endpoints is None:
        counts = {o.name: o.instance_count for o in config.options}
        hourly = points.groupby("option", sort=False)["usd_per_hour"].first()
        endpoints = [
            endpoint(
                name, usd_per_instance_hour=None if pd.isna(usd) else usd / counts[name], instance_count=counts[name]
            )
            for name, usd in hourly.items()
        ]
    return judge(points, endpoints, list(warnings), config, "run-1")


def _common_levels(points):
    """The levels that every option has, so that none is missing."""
    each = [{int(level) for level in here} - {0} for _, here in points.groupby("option")["level"]]
    return sorted(set.intersection(*each) or {1})


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
    assert verdict.option("b").reason == "the cheapest option that meets the SLO, at concurrency 1"
    assert verdict.option("a").reason == "meets the SLO, 100% more expensive than the cheapest, both at concurrency 1"


def test_a_faster_but_more_expensive_option_is_not_recommended():
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


@pytest.mark.parametrize(("rate", "tied"), [(9.0, ["b"]), (8.8, [])])
def test_an_option_that_is_not_shown_to_cost_more_is_tied_though_intervals_overlap(rate, tied):
    """Rates of 10 ± 1 and of 9 or 8.8 ± 10%: the prices differ by 0.0111 or 0.0136, shown is what exceeds
    1.645 ÷ 1.960 x √(0.0111² + 0.0102²) = 0.0126 or 0.0127.
    """
    verdict = verdict_on({"option": "a", "rate": 10}, {"option": "b", "rate": rate})
    assert (verdict.recommended, verdict.tied) == ("a", tied)
    assert verdict.option("b").status == ("tied" if tied else "feasible")


@pytest.mark.parametrize(("rivals", "tied"), [(1, False), (2, True)])
def test_the_more_options_are_compared_the_more_must_be_shown(rivals, tied):
    others = [{"option": f"rival {i}", "rate": 8.8} for i in range(rivals)]
    assert bool(verdict_on({"option": "a", "rate": 10}, *others).tied) == tied


def test_tied_refers_to_the_winner_not_to_each_other():
    verdict = verdict_on({"option": "a", "rate": 10}, {"option": "b", "rate": 9}, {"option": "c", "rate": 8})
    assert verdict.tied == ["b"]


@pytest.mark.parametrize("unknown", ["usd_per_1k_requests_low", "usd_per_1k_requests_high"])
def test_an_unknown_interval_cannot_tell_options_apart(unknown):
    points = pd.DataFrame([load_point("a", rate=10), load_point("b", rate=1)])
    points.loc[1, unknown] = None
    verdict = judge(points, [endpoint("a"), endpoint("b")], [], make_config(["a", "b"]), "run-1")
    assert (verdict.recommended, verdict.tied) == ("a", ["b"])


def test_an_option_that_costs_nothing_may_win():
    verdict = verdict_on({"option": "own", "usd_per_hour": 0.0}, {"option": "rented"})
    assert statuses(verdict) == {"own": "recommended", "rented": "feasible"}
    assert verdict.option("rented").reason == "meets the SLO, but the cheapest costs nothing"


@pytest.mark.parametrize(("latency_a", "latency_b", "winner"), [(0.5, 0.4, "b"), (0.3, 0.4, "a")])
def test_of_equally_cheap_options_the_faster_one_wins_and_the_other_is_tied(latency_a, latency_b, winner):
    verdict = verdict_on({"option": "a", "latency_s_p95": latency_a}, {"option": "b", "latency_s_p95": latency_b})
    assert (verdict.recommended, verdict.tied) == (winner, [{"a": "b", "b": "a"}[winner]])


@pytest.mark.parametrize("swapped", [False, True])
def test_of_equally_cheap_loads_the_faster_one_is_chosen(swapped):
    """At twice the concurrency the same throughput, at twice the latency: dominated, whatever its concurrency."""
    points = [{"level": 4, "latency_s_p95": 0.4}, {"level": 8, "latency_s_p95": 0.8}]
    (point,) = verdict_on(*(points[::-1] if swapped else points)).option("a").points
    assert (point.level, point.latency_s.value) == (4, 0.4)


def test_a_dominated_load_point_is_never_chosen():
    """More expensive and slower than another of the same option that meets the SLO, at a higher and at a lower concurrency."""
    loads = [(1, 5, 0.9), (2, 8, 0.5), (4, 10, 0.4), (8, 9, 0.6), (16, 2, 0.9)]
    verdict = verdict_on(*({"level": level, "rate": rate, "latency_s_p95": p95} for level, rate, p95 in loads))
    (point,) = verdict.option("a").points
    assert (point.level, point.latency_s.value) == (4, 0.4)


def test_what_is_served_counts_not_what_happened_to_be_measured():
    """An open loop that serves 10/s measured 12 by the luck of the draw."""
    points = pd.DataFrame([load_point(kind="open_loop", level=10, requests_per_s=12.0)])
    option_verdict = judge(points, [endpoint()], [], RATES, "run-1").option("a")
    assert option_verdict.points[0].requests_per_s.value == 10
    assert option_verdict.capacity.requests_per_minute_per_instance.value == pytest.approx(600)


# --- who may be cheaper -------------------------------------------------------------------------------------------


def may_be_cheaper(*points, **kwargs):
    verdict = verdict_on(*points, **kwargs)
    assert [o.option for o in verdict.options if o.may_be_cheaper] == verdict.may_be_cheaper
    return verdict.may_be_cheaper


WINNER = {"option": "w", "rate": 10}
"""0.1 $ per 1,000 requests, at most 1 / 9."""


@pytest.mark.parametrize(
    ("rate", "slo", "may"),
    [
        (50.0, "undecided", ["b"]),
        # 0.01236 more expensive; the difference is sure to 0.839 x hypot(0.1124 - 1 / 9.79, 1 / 9 - 0.1) = 0.01266
        (8.9, "undecided", ["b"]),
        # 0.01364 more expensive, sure to 0.01273, though the intervals overlap: 1 / 9.68 is less than 1 / 9
        (8.8, "undecided", []),
        (50.0, "missed", []),
        (1.0, "client_limited", ["b"]),  # it was the client that was slow: nothing is known of the server
    ],
)
def test_a_feasible_option_may_be_cheaper_at_a_load_that_is_not_decided(rate, slo, may):
    feasible = {"option": "b", "rate": 2}, {"option": "b", "rate": rate, "level": 8, "slo": slo}
    verdict = verdict_on(WINNER, *feasible)
    assert (verdict.recommended, verdict.tied, verdict.may_be_cheaper) == ("w", [], may)
    assert verdict.option("b").status == "feasible"
    assert verdict.option("b").may_be_cheaper is bool(may)
    reason = verdict.option("b").reason
    assert reason.startswith("meets the SLO, 400% more expensive than the cheapest, both at concurrency 1")
    assert ("it may be cheaper: at concurrency 8" in reason) is bool(may)


@pytest.mark.parametrize(
    ("rates", "may"),
    [({1: "undecided"}, []), ({20: "undecided"}, ["b"]), ({1: "undecided", 20: "missed"}, [])],
)
def test_an_undecided_option_may_be_cheaper(rates, may):
    points = ({"option": "b", "rate": rate, "level": rate, "slo": slo} for rate, slo in rates.items())
    verdict = verdict_on(WINNER, *points)
    assert verdict.option("b").status == "undecided"
    assert verdict.may_be_cheaper == may


def test_a_load_whose_estimate_is_just_beyond_the_slo_may_still_be_the_cheapest():
    """Only what is shown to miss leaves: p95 of 8.001 s is no proof that it is above 8 s."""
    undecided = {"option": "b", "rate": 50, "slo": "undecided"}
    assert may_be_cheaper(WINNER, undecided) == ["b"]
    assert may_be_cheaper(WINNER, undecided | {"estimates_within_slo": False}) == ["b"]
    beyond = undecided | {"estimates_within_slo": False, "level": 4}
    assert may_be_cheaper(WINNER, {"option": "b", "rate": 2, "level": 1, "slo": "missed"}, beyond) == []


def test_every_dataset_must_allow_that_an_option_is_cheaper():
    """The winner costs 0.1 to 0.108 $. 20/s and 6/s cost (0.05 + 0.167) / 2, at least 0.1004; with 5/s at least 0.1156."""
    config = make_config(["w", "b"], ["short", "long"])
    winner = [{"option": "w", "dataset": dataset, "rate": 10} for dataset in ("short", "long")]
    for rate, may in ((6, ["b"]), (5, [])):
        points = [
            {"option": "b", "dataset": "short", "rate": 20, "slo": "undecided"},
            {"option": "b", "dataset": "long", "rate": rate},
        ]
        assert may_be_cheaper(*winner, *points, config=config) == may
    missed = [points[0], points[1] | {"rate": 50, "slo": "missed"}]
    assert may_be_cheaper(*winner, *missed, config=config) == []


BINS = make_config(
    ["w", "b"],
    [{"name": "short", "prompt_tokens": [1, 500]}, {"name": "long", "prompt_tokens": [500, 1000]}],
    load={"concurrency": [1, 8]},
)
WINNER_ON_BINS = [
    {"option": "w", "dataset": dataset, "rate": 10, "level": level} for dataset in ("short", "long") for level in (1, 8)
]


@pytest.mark.parametrize(
    ("rates", "may"),
    [
        ((1, 1), []),  # at best 8/s on short; 1/s on long: (0.125 + 1) / 2 $, against 0.1
        ((1, 4), []),  # 0.25 / 2 $, even if short cost nothing
        ((6, 9), ["b"]),  # at best 48/s on short: (0.021 + 0.111) / 2 $
    ],
)
def test_no_load_makes_cheaper_what_another_dataset_makes_expensive(rates, may):
    """The client limited short at 8; long misses the SLO there, so it stands at its price at 1."""
    short, long = (
        {"option": "b", "dataset": name, "rate": rate} for name, rate in zip(("short", "long"), rates, strict=True)
    )
    points = [short, short | {"level": 8, "slo": "client_limited"}, long, long | {"level": 8, "slo": "missed"}]
    verdict = verdict_on(*WINNER_ON_BINS, *points, config=BINS)
    assert (verdict.recommended, verdict.may_be_cheaper) == ("w", may)
    if may:
        assert verdict.option("b").may_be_cheaper_because.startswith("at concurrency 8 on short, the client")
    said = str(bottom_line(verdict, BINS).markdown)
    assert ("May be cheaper" in said) is bool(may)
    assert ("“b” on short" in said.partition("**At least:**")[2]) is bool(may), (
        "no lower price can be found for it there"
    )


@pytest.mark.parametrize(("misses", "may"), [("long", ["b"]), ("short", [])])
def test_a_load_at_which_shorter_prompts_miss_the_slo_is_no_hope_for_longer_ones(misses, may):
    points = [
        {"option": "b", "dataset": dataset, "rate": 6, "level": level, "slo": slo}
        for dataset in ("short", "long")
        for level, slo in ((1, "met"), (8, "missed" if dataset == misses else "client_limited"))
    ]
    verdict = verdict_on(*WINNER_ON_BINS, *points, config=BINS)
    assert (verdict.recommended, verdict.may_be_cheaper) == ("w", may)


def test_what_is_billed_by_the_token_costs_the_same_at_a_load_that_was_not_decided():
    by_token = {"option": "b", "usd_per_hour": None}
    prices = {f"usd_per_1k_requests{end}": usd for end, usd in (("", 0.5), ("_low", 0.5), ("_high", 0.5))}
    points = [by_token | prices, by_token | prices | {"level": 8, "slo": "client_limited"}]
    assert may_be_cheaper(WINNER, *points) == []


def test_an_option_that_the_client_limited_may_be_cheaper():
    assert may_be_cheaper(WINNER, {"option": "b", "rate": 1, "slo": "client_limited"}) == ["b"]


def test_the_winner_and_what_is_tied_with_it_may_be_cheaper_than_said():
    points = [{"option": o, "rate": 50, "level": 8, "slo": "undecided"} for o in ("w", "b")]
    verdict = verdict_on(WINNER, {"option": "b", "rate": 9.9}, *points)
    assert (verdict.recommended, verdict.tied, verdict.may_be_cheaper) == ("w", ["b"], ["w", "b"])
    assert verdict.option("w").may_be_cheaper_because.startswith(
        "at concurrency 8, latency not shown to be within the limit"
    )


@pytest.mark.parametrize(
    ("rate", "slo", "beside"),
    [(10.4, "undecided", []), (10.7, "undecided", ["concurrency 8"]), (50, "missed", [])],
)
def test_loads_that_may_be_cheaper_than_the_named_one_are_named_beside_it(rate, slo, beside):
    """By more than 5%, and not shown to miss the SLO."""
    verdict = verdict_on(WINNER, {"option": "w", "rate": rate, "level": 8, "slo": slo})
    assert verdict.option("w").points[0].or_at == beside
    words = "at concurrency 1 (or concurrency 8, not shown to meet the SLO)" if beside else "SLO, at concurrency 1"
    assert words in verdict.option("w").reason


@pytest.mark.parametrize(
    ("doubt", "words"),
    [
        ({"slo": "client_limited"}, "the client, not the server, limited it"),
        ({"slo": "undecided", "steady": False}, "it found no steady state"),
        ({"slo": "undecided", "steady": False, "overloaded": True}, "it was overloaded"),
        (
            {"slo": "undecided", "steady": False, "prompts_ran_out": True},
            "it found no steady state before the prompts of short ran out: raise `count` there",
        ),
        (None, "was not measured"),
    ],
)
def test_a_higher_load_that_says_nothing_may_change_the_ranking(doubt, words):
    """The better option's 20/s cannot be trusted, so it stands at 5/s: its price at 20/s could be half of the winner's."""
    config = make_config(["w", "b"], load={"kind": "open_loop", "rate": [5, 20]})
    rates = [{"option": o, "kind": "open_loop", "level": r, "rate": r} for o, r in (("w", 5), ("w", 20), ("b", 5))]
    rates = [one | {"usd_per_hour": {"w": 7.2, "b": 3.6}[one["option"]]} for one in rates]
    if doubt is not None:
        rates.append({"option": "b", "kind": "open_loop", "level": 20, "rate": 8, "usd_per_hour": 3.6} | doubt)
    verdict = verdict_on(*rates, config=config)
    assert (verdict.recommended, verdict.may_be_cheaper) == ("w", ["b"])
    assert words in verdict.option("b").may_be_cheaper_because
    assert "more expensive at 5 requests/s than the cheapest at 20 requests/s" in verdict.option("b").reason


@pytest.mark.parametrize(("at_8", "may"), [(9, []), (4.5, ["b"])])
def test_a_lower_load_without_a_look_makes_nobody_cheaper_where_less_load_costs_more(at_8, may):
    """At half the load 5/s were served, and 9/s or 4.5 at the highest. Where more load is cheaper, the lowest is not."""
    config = make_config(["w", "b"], load={"concurrency": [2, 4, 8]})
    served = [{"option": "w", "level": level, "rate": 10} for level in (2, 4, 8)]
    served += [{"option": "b", "level": level, "rate": rate, "slo": "undecided"} for level, rate in ((4, 5), (8, at_8))]
    assert may_be_cheaper(*served[:3], *({**one, "usd_per_hour": 7.2} for one in served[3:]), config=config) == may


def test_a_higher_load_that_says_nothing_changes_no_ranking_where_a_lower_one_misses_the_slo():
    points = [
        {"option": "b", "level": level, "slo": slo} for level, slo in ((1, "met"), (4, "missed"), (8, "client_limited"))
    ]
    points[0]["rate"] = 2
    assert may_be_cheaper(WINNER, *points) == []


def test_an_open_loop_that_could_not_be_cheaper_even_at_the_full_rate_is_not_named():
    config = make_config(["w", "b"], load={"kind": "open_loop", "rate": [5, 20]})
    rates = [{"option": o, "kind": "open_loop", "level": r, "rate": r} for o in "wb" for r in (5, 20)]
    rates[2]["usd_per_hour"] = rates[3]["usd_per_hour"] = 36.0
    rates[3]["slo"] = "client_limited"
    assert may_be_cheaper(*rates, config=config) == []


def test_without_a_winner_those_that_may_meet_the_slo_are_named():
    points = [{"option": o, "slo": slo} for o, slo in (("a", "undecided"), ("b", "missed"), ("c", "client_limited"))]
    assert may_be_cheaper(*points) == ["a", "c"]


def test_a_ramp_and_an_unknown_price_make_nobody_cheaper():
    ramp = {"option": "b", "rate": 50, "kind": "ramp", "level": 1, "slo": "undecided", "steady": None}
    assert may_be_cheaper(WINNER, ramp) == []
    assert may_be_cheaper(WINNER, {"option": "b", "rate": 50, "usd_per_hour": None, "slo": "undecided"}) == []


def test_an_interval_that_is_unknown_may_be_cheaper():
    unknown = {"usd_per_1k_requests_low": None, "usd_per_1k_requests_high": None}
    assert may_be_cheaper(WINNER, {"option": "b", "rate": 1, "slo": "undecided", **unknown}) == ["b"]


# --- who falls out ------------------------------------------------------------------------------------------------


def test_an_option_that_misses_the_slo_everywhere_is_infeasible():
    option_verdict = verdict_on({"slo": "missed"}, {"level": 4, "slo": "missed"}).option("a")
    assert option_verdict.status == "infeasible"
    assert option_verdict.reason == (
        "misses the SLO (latency of 1 s at p95, errors of 5.0%) at every concurrency on short; at concurrency 1, p95 latency "
        "500 ms, at most 1 s"
    )
    assert (option_verdict.cost, option_verdict.points, option_verdict.capacity) == (None, [], None)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        (
            {"slo_error_rate": "missed", "failures": 70, "latency_s_p95": math.inf},
            "at concurrency 1, 70 of 200 requests failed, at most 5.0% may",
        ),
        (
            {"latency_s_p95": None, "beyond_latency_s": 7, "latency_s_n": 7},
            "at concurrency 1, 7 of 7 requests were beyond the limit of 1 s for latency",
        ),
    ],
)
def test_what_an_option_misses_is_said_in_what_was_measured(changes, because):
    reason = verdict_on({"slo": "missed"} | changes, {"level": 4, "slo": "missed"}).option("a").reason
    assert reason.endswith(f"on short; {because}")


def test_what_the_client_limited_is_not_put_on_a_limit_of_the_slo():
    limited = {"slo": "client_limited", "slo_error_rate": "undecided", "steady": True}
    verdict = verdict_on(limited)
    assert (verdict.best_estimate, verdict.option("a").open_limits, verdict.option("a").to_settle) == ("a", [], None)
    assert "not a verdict: the client, not the server, limited" in str(
        bottom_line(verdict, make_config(["a"])).markdown
    )


def test_a_closed_loop_does_not_send_more_than_is_answered():
    reason = verdict_on({"slo": "undecided", "steady": False, "overloaded": True}).option("a").reason
    assert "the server became slower while it was measured" in reason and "arrived" not in reason


def test_a_server_that_was_lost_is_not_put_on_the_client():
    """The client was late at the one load point that is left of it."""
    lost = [endpoint("w"), endpoint("b", failure="stopped answering under load")]
    verdict = verdict_on(WINNER, {"option": "b", "slo": "client_limited"}, endpoints=lost)
    assert (statuses(verdict)["b"], verdict.option("b").reason) == ("failed", "stopped answering under load")
    assert (verdict.not_measured, verdict.may_be_cheaper) == (["b"], [])


def test_an_option_that_may_meet_the_slo_is_undecided():
    option_verdict = verdict_on({"slo": "missed"}, {"level": 4, "slo": "undecided"}).option("a")
    assert option_verdict.status == "undecided"
    assert "not shown to meet the SLO" in option_verdict.reason
    assert "with 95% confidence on short: at concurrency 4, latency not shown" in option_verdict.reason
    assert "40 more requests like these would show it" in option_verdict.reason


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
def test_what_is_missed_everywhere_is_reported_in_the_words_of_the_load(config, kind, words):
    option_verdict = verdict_on({"level": 5, "kind": kind, "slo": "missed"}, config=config).option("a")
    assert option_verdict.status == "infeasible"
    assert f"{words}; at " in option_verdict.reason


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
    assert verdict.option("a").is_estimate, "as it was measured, marked"
    assert (verdict.recommended, verdict.nearest) == (None, "b"), "though its p95 is worse than that of a"


@pytest.mark.parametrize(("limited", "status"), [(4, "infeasible"), (0.5, "undecided")])
def test_a_missed_slo_counts_against_an_option_unless_the_client_limited_a_lower_load(limited, status):
    points = [{"level": 1, "slo": "missed"}, {"level": limited, "slo": "client_limited"}]
    option_verdict = verdict_on(*points).option("a")
    assert option_verdict.status == status
    assert status == "infeasible" or option_verdict.reason.endswith(
        "at concurrency 0.5, the client, not the server, limited it"
    )


@pytest.mark.parametrize(
    ("steady", "ended", "words"),
    [
        (
            [False],
            "max_duration_s",
            "at concurrency 4, it found no steady state; a longer load.max_duration_s may help",
        ),
        ([False], "prompts ran out", "it found no steady state; a larger count of the dataset may help"),
        ([False], "the server vanished", "it found no steady state"),
        ([False], None, "it found no steady state"),
        ([True], "enough requests", "40 more requests like these would show it"),
        ([False, True], "max_duration_s", "40 more requests like these would show it"),
    ],
)
def test_an_undecided_option_says_what_would_settle_it(steady, ended, words):
    points = [
        {"level": 4 + i, "slo": "undecided", "steady": state, "ended_because": ended} for i, state in enumerate(steady)
    ]
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
    assert (unpriced.capacity.usd_per_fleet_hour, unpriced.capacity.usd_per_month) == (None, None)


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
    assert verdict.nearest_reason == (
        "p95 latency of 1.20 s against the limit of 1 s, 0 of 200 requests failed, on short at concurrency 1"
    )


def test_the_nearest_is_named_by_its_worst_limit_and_with_its_failures():
    """TTFT of a is 3 times its limit, that of b twice; both are within the limit of 1 s on latency."""
    config = make_config(["a", "b"], slo={"ttft_s": 0.1})
    verdict = verdict_on(
        {"option": "a", "ttft_s_p95": 0.3, "slo": "missed"},
        {"option": "b", "ttft_s_p95": 0.2, "failures": 7, "slo": "missed", "latency_s_p95": 0.75},
        config=config,
    )
    assert verdict.nearest == "b"
    assert "p95 TTFT of 200 ms against the limit of 0.1 s, 7 of 200 requests failed" in verdict.nearest_reason


@pytest.mark.parametrize("p95", [None, math.inf])
def test_an_option_without_a_known_percentile_is_nearest_only_if_nothing_else_is(p95):
    unknown = {"option": "a", "latency_s_p95": p95, "latency_s_p95_low": None, "slo": "missed"}
    verdict = verdict_on(unknown, {"option": "b", "latency_s_p95": 9.0, "slo": "missed"})
    assert verdict.nearest == "b"
    alone = verdict_on(unknown)
    assert alone.nearest == (None if p95 is None else "a")


def test_a_percentile_that_needs_more_requests_counts_by_its_lower_bound():
    verdict = verdict_on({"option": "a", "latency_s_p95": None, "latency_s_p95_low": 1.5, "slo": "missed"})
    assert verdict.nearest_reason.startswith("p95 latency of at least 1.50 s against the limit of 1 s")


def test_a_winner_leaves_nobody_nearest():
    verdict = verdict_on({"option": "a"}, {"option": "b", "slo": "missed"})
    assert (verdict.nearest, verdict.nearest_reason) == (None, None)


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
    assert capacity.usd_per_fleet_hour == pytest.approx(3.6 * instances)
    assert capacity.usd_per_month == pytest.approx(3.6 * instances * 730)


def test_capacity_over_a_mix_adds_the_time_that_each_request_takes():
    """Half the requests take 1/10 s, half 1/5 s: 0.15 s each, 400 a minute."""
    config = make_config(["a"], ["short", "long"])
    capacity = (
        verdict_on({"dataset": "short", "rate": 10}, {"dataset": "long", "rate": 5}, config=config).option("a").capacity
    )
    assert capacity.requests_per_minute_per_instance.value == pytest.approx(400)


def test_an_option_of_two_instances_is_counted_and_paid_per_instance():
    """7.2 $/h for both; together 600 a minute, of which 420 may be used: 600 need two pairs, at 300 a minute each."""
    config = make_config([option("a", instance_count=2)])
    capacity = verdict_on({"rate": 10, "usd_per_hour": 7.2}, config=config).option("a").capacity
    assert capacity.requests_per_minute_per_instance.value == pytest.approx(300)
    assert (capacity.instances, capacity.utilisation) == (4, pytest.approx(0.5))
    assert (capacity.usd_per_fleet_hour, capacity.usd_per_month) == pytest.approx((14.4, 14.4 * 730))


def test_what_the_traffic_costs_per_token_counts_idle_time_too():
    """600 a minute on two instances: 7.2 $/h for 36,000 requests of 24 output and 124 tokens."""
    capacity = verdict_on({"rate": 10}).option("a").capacity
    assert capacity.usd_per_1m_output_tokens == pytest.approx(7.2 / (36_000 * 24) * 1e6)
    assert capacity.usd_per_1m_tokens == pytest.approx(7.2 / (36_000 * 124) * 1e6)


def test_the_price_that_was_measured_at_comes_first_and_the_others_follow():
    other = {"name": "1-year savings plan", "usd_per_hour": 2.0, "source": "a page", "as_of": "2026-01-02"}
    config = make_config([option("a", other_prices=[other])])
    found = endpoint(price=Price(usd_per_instance_hour=3.6, source="config", as_of="2026-02-01"))
    measured, planned = verdict_on({"option": "a"}, config=config, endpoints=[found]).option("a").prices
    assert measured == found.price
    assert planned == Price(name=other["name"], usd_per_instance_hour=2.0, source="a page", as_of="2026-01-02")
    assert verdict_on({"option": "a"}).option("a").prices[0].name == "on demand"


def test_what_is_billed_by_the_token_wins_where_it_is_cheaper_and_needs_no_instances():
    """100 x 0.2 + 24 x 1 = 44 $ for a million requests; 600 a minute are 1.584 $/h."""
    price = {f"usd_per_1k_requests{bound}": 0.044 for bound in ("", "_low", "_high")}
    verdict = verdict_on(
        {"option": "hour"},
        {"option": "token", "usd_per_hour": None} | price,
        endpoints=[endpoint("hour"), endpoint("token", price=token_price(0.2, 1.0))],
    )
    assert statuses(verdict) == {"hour": "feasible", "token": "recommended"}
    found = verdict.option("token")
    assert found.prices == [token_price(0.2, 1.0)]
    assert found.cost.model_dump() == {"value": 0.044, "low": 0.044, "high": 0.044}
    assert (found.capacity.instances, found.capacity.usd_per_fleet_hour) == (None, pytest.approx(1.584))
    assert not verdict.option("hour").is_billed_per_token


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


def test_prompts_of_unequal_length_are_compared_by_output_token():
    points = [{"option": "a", "prompt_tokens_mean": 100.0}, {"option": "b", "prompt_tokens_mean": 120.0}]
    verdict = verdict_on(*points)
    assert (verdict.cost_basis, verdict.comparable) == ("usd_per_1m_output_tokens", False)
    assert verdict.option("a").cost.value == pytest.approx(3.6 / (10 * 24 * 3600) * 1e6)


@pytest.mark.parametrize(("tokens", "comparable"), [(104.0, True), (106.0, False)])
def test_lengths_may_differ_by_5_percent(tokens, comparable):
    verdict = verdict_on({"option": "a", "output_tokens_mean": 100.0}, {"option": "b", "output_tokens_mean": tokens})
    assert verdict.comparable is comparable
    assert verdict.cost_basis == ("usd_per_1k_requests" if comparable else "usd_per_1m_output_tokens")


def test_different_models_are_not_comparable():
    config = make_config([option("a"), option("b", model="another")])
    assert verdict_on({"option": "a"}, {"option": "b"}, config=config).comparable is False
    assert verdict_on({"option": "a"}, {"option": "b"}).comparable is True
    found = [endpoint("a"), endpoint("b", model="another")]
    assert verdict_on({"option": "a"}, {"option": "b"}, endpoints=found).comparable is False, "as it was found to serve"


# --- what failed, what is missing, what is estimated --------------------------------------------------------------


SILENT = {"n": 200, "failures": 200, "error_rate": 1.0, "slo": "missed", "commonest_failure": "HTTP 401: invalid key"}


@pytest.mark.parametrize("slo", ["missed", "undecided", "client_limited"])
def test_an_option_of_which_nothing_was_answered_has_failed(slo):
    """It neither misses the SLO nor is undecided: nothing is known of it."""
    verdict = verdict_on(WINNER, {"option": "b"} | SILENT | {"slo": slo}, {"option": "b", "level": 4} | SILENT)
    assert (statuses(verdict)["b"], verdict.not_measured, verdict.may_be_cheaper) == ("failed", ["b"], [])
    assert verdict.option("b").reason == "none of its 400 requests was answered: HTTP 401: invalid key"


def test_a_dataset_of_which_nothing_was_answered_is_named():
    config = make_config(["a"], ["short", "long"])
    verdict = verdict_on({"dataset": "short"}, {"dataset": "long"} | SILENT, config=config)
    assert verdict.option("a").reason == "none of its 200 requests on long was answered: HTTP 401: invalid key"


def test_where_all_failed_nobody_came_nearest():
    verdict = verdict_on({"option": "a"} | SILENT, {"option": "b"} | SILENT)
    assert (verdict.recommended, verdict.nearest, verdict.best_estimate) == (None, None, None)
    assert verdict.not_measured == ["a", "b"]


def test_what_failed_before_its_load_has_the_cause_of_the_ledger():
    verdict = verdict_on(
        WINNER, config=make_config(["w", "b"]), endpoints=[endpoint("w"), endpoint("b", failure="no quota")]
    )
    assert (statuses(verdict)["b"], verdict.option("b").reason) == ("failed", "no quota")


@pytest.mark.parametrize(
    ("higher", "at_least"),
    [([], True), (["missed"], False), (["met"], False), (["undecided"], True), (["client_limited", "missed"], False)],
)
def test_capacity_is_a_lower_bound_unless_a_higher_load_is_decided(higher, at_least):
    points = [{"level": 2 ** (i + 1), "rate": 1, "slo": slo} for i, slo in enumerate(higher)]
    option_verdict = verdict_on({"level": 1, "rate": 10}, *points).option("a")
    assert (option_verdict.capacity.at_least, option_verdict.points[0].may_serve_more) == (at_least, at_least)


def test_without_a_verdict_the_cheapest_by_estimates_is_named_with_what_would_settle_it():
    """40 requests at 10/s and 3.6 $/h: 4 s, 0.4 cents."""
    points = [{"option": o, "rate": rate, "slo": "undecided"} for o, rate in (("a", 5), ("b", 10))]
    verdict = verdict_on(*points, {"option": "c", "rate": 99, "slo": "missed"})
    assert (verdict.recommended, verdict.best_estimate) == (None, "b")
    best = verdict.option("b")
    assert best.is_estimate and best.cost.value == pytest.approx(0.1) and best.capacity.instances is not None
    [limit] = best.open_limits
    assert (limit.limit, limit.measured, limit.allowed, limit.requests_lacking) == ("latency_s", 0.5, 1.0, 40)
    assert (best.to_settle.requests, best.to_settle.minutes) == (40, pytest.approx(4 / 60))
    assert best.to_settle.usd == pytest.approx(0.004)
    assert (verdict.option("c").is_estimate, verdict.option("c").cost) == (False, None)


def test_what_was_short_at_a_load_is_what_is_to_be_raised():
    near = {"slo": "undecided", "prompts_ran_out": True}
    best = verdict_on(near).option("a")
    ran_out = "the prompts of short ran out: raise `count` there, with a source that has more, or set load.repeat_prompts: true"
    assert best.to_settle.how == ran_out
    verdict = verdict_on(WINNER, {"option": "b", "rate": 9.9}, near | {"option": "b", "rate": 50, "level": 8})
    assert verdict.option("b").may_be_cheaper_because.endswith(f"more requests like these would show it ({ran_out})")
    assert (
        verdict_on({"slo": "undecided"}).option("a").to_settle.how == "raise load.min_requests or load.max_duration_s"
    )


def test_what_more_requests_alone_would_not_settle_has_no_effort():
    near = {"slo": "undecided", "lacking_latency_s": None}
    assert verdict_on(near).option("a").to_settle is None
    assert verdict_on(near).option("a").open_limits[0].requests_lacking is None
    assert verdict_on({"slo": "client_limited"}).option("a").to_settle is None


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
    cost = judge(points, [endpoint()], [], make_config(), "run-1").option("a").cost
    assert (cost.low, cost.high) == (None, None)


def test_an_option_that_was_not_in_the_run_is_an_error():
    with pytest.raises(KeyError):
        verdict_on({"option": "a"}).option("z")
