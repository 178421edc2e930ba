"""What figures and tables say in words: true of planted cases, also of untidy ones, and absent where there is nothing to say."""

import dataclasses

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config
from sentence_numbers import Known, unaccounted

from helpers.report import conclusions
from helpers.report.answer_report import what_would_change
from helpers.report.comparing import more_expensive
from helpers.report.cost_report import cheapest_by_traffic
from helpers.report.readings import interval_reading, options_reading, price_reading
from helpers.verdict.changes import Change, Changes
from helpers.verdict.judging import judge

UNKNOWN = Changes("latency_s", None, None)


def judged(*points, names=None, traffic=None, datasets=None):
    """`points`: keyword arguments of load points; 3.6 $/h at 10 requests/s is $0.1 per 1,000 requests."""
    table = pd.DataFrame([load_point(**point) for point in points])
    names = names or list(dict.fromkeys(table["option"]))
    sections = {"load": {"concurrency": sorted({int(level) for level in table["level"]})}}
    sections |= {"datasets": datasets} if datasets else {}
    config = make_config(names, **sections, **({"traffic": traffic} if traffic else {}))
    usd = table.groupby("option")["usd_per_hour"].first().to_dict()
    endpoints = [endpoint(name, usd.get(name)) for name in names]
    return table, judge(table, endpoints, [], config, "run-1"), config


A, B = {"option": "a", "rate": 10}, {"option": "b", "rate": 5}
NONE = {"option": "a", "slo": "missed"}


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (1.5, "50% more expensive"),
        (1.004, "as expensive to within 0.5%"),
        (1.006, "0.6% more expensive"),
        (2.34, "2.3 times as expensive"),
        (0.6, "40% cheaper"),
        (0.0, "cheaper"),
    ],
)
def test_amounts_are_compared_in_percent_and_from_twice_on_in_times(cost, words):
    assert more_expensive(cost, 1.0) == words


def test_the_title_of_the_price_figure_says_who_is_cheapest_and_how_far_the_next_is_behind():
    _, verdict, config = judged(A, B)
    assert conclusions.price_title(verdict, config) == "“a” is cheapest within 1 s; “b” is 2.0 times as expensive"


def test_a_tie_is_no_ranking():
    _, verdict, config = judged(A, B | {"rate": 9.5})
    assert verdict.tied == ["b"]
    assert conclusions.price_title(verdict, config) == "“a” and “b” cost the same within 1 s, as far as was measured"
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert "“b” is tied (5% more expensive), so a discount on either decides" in said


def test_without_a_recommended_option_nothing_is_said_of_it():
    points, verdict, config = judged(NONE)
    assert conclusions.price_title(verdict, config).startswith("No option is shown to meet the SLO")
    assert what_would_change(verdict, UNKNOWN, config) is None
    assert price_reading(points, verdict, config) is None
    assert interval_reading(verdict) is None


def test_a_single_option_has_no_runner_up():
    points, verdict, config = judged(A)
    assert conclusions.price_title(verdict, config) == "Only “a” is shown to meet the limit of 1 s"
    assert "runner-up" not in str(price_reading(points, verdict, config).markdown)
    assert "Price" not in str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert options_reading(verdict) is None


def test_why_the_runner_up_is_behind_follows_from_its_hour_and_its_rate():
    points, verdict, config = judged(A, B | {"usd_per_hour": 2.7})
    said = str(price_reading(points, verdict, config).markdown)
    assert "“b” is the runner-up: it serves 50% fewer requests a minute and costs 25% less an hour." in said
    points, verdict, config = judged(A, B)
    assert "50% fewer requests a minute at the same price an hour." in str(
        price_reading(points, verdict, config).markdown
    )


def test_what_the_slo_costs_is_the_price_of_the_loads_that_it_excludes():
    """At concurrency 2, which misses it, a would serve twice as much."""
    points, verdict, config = judged(A, A | {"level": 2, "rate": 20, "slo": "missed"})
    assert "The SLO costs: without it “a” would take $0.05 per 1,000 requests at concurrency 2, 50% less." in str(
        price_reading(points, verdict, config).markdown
    ).replace("$0.0500", "$0.05")
    points, verdict, config = judged(A)
    assert "The SLO costs nothing" in str(price_reading(points, verdict, config).markdown)


def test_the_dataset_that_makes_most_of_the_price_is_named():
    """Half of the requests cost $0.1 and half $0.3 per 1,000."""
    datasets = [{"name": name, "prompt_tokens": [1, 500]} for name in ("short", "long")]
    slow = {"dataset": "long", "rate": 10 / 3}
    points, verdict, config = judged(A, A | slow, datasets=datasets)
    assert "long makes 75% of its price with 50% of the requests." in str(
        price_reading(points, verdict, config).markdown
    )
    said = str(interval_reading(verdict).markdown)
    assert said.startswith("The price of “a” is known to within")
    assert "90% of that (of the variance) comes from long at concurrency 1" in said


def test_a_discount_for_the_lower_bill_follows_from_whole_instances():
    """300 requests a minute: one instance of a, $3.60; three of b (140 each) at $2.00, so $6.00."""
    traffic = {"requests_per_minute": 300, "headroom": 0.3}
    _, verdict, config = judged(A, B | {"rate": 10 / 3, "usd_per_hour": 2.0}, traffic=traffic)
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert "for a lower bill than “a” at this traffic, by more than 40%" in said


def test_options_are_counted_by_how_they_stand():
    _, verdict, _ = judged(A, B, {"option": "c", "slo": "missed"})
    assert options_reading(verdict).markdown == "Of 3 options 2 meet the SLO and 1 is shown to miss the SLO."
    assert options_reading(judged(A, B)[1]).markdown == "Both options meet the SLO."


def test_a_limit_at_which_another_option_would_be_the_answer_is_named_with_it():
    _, verdict, config = judged(A, B)
    changes = Changes("latency_s", Change(0.5, "b"), Change(3.0, None))
    said = str(what_would_change(verdict, changes, config).markdown)
    assert "With a limit of 500 ms or less “b” would be recommended" in said
    assert "with a limit of 3.00 s or more no option would be shown to meet the SLO" in said
    assert "“a” stays recommended from a quarter of 1 s to four times as much" in str(
        what_would_change(verdict, UNKNOWN, config).markdown
    )
    assert "it would win if its price fell by more than 50%, from $3.60 to $1.80 per instance and hour" in said


def test_what_this_traffic_pays_and_whose_bill_is_next_are_said():
    """300 requests a minute with 30% headroom: one instance of a (420), two of b (210 each). $3.60 ÷ 18,000 requests an hour."""
    _, verdict, config = judged(A, B, traffic={"requests_per_minute": 300, "headroom": 0.3})
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert "\n\nAt this traffic 1 instance is 50% used, so its requests cost $0.200 per 1,000 requests" in said
    assert "Above 420 requests a minute “a” takes 2 instances." in said
    assert "; the bill of “b” is $5,256 a month (2.0 times as expensive)." in said
    assert "for a lower bill than “a” at this traffic, by more than 50%" in said


def test_a_discount_on_the_instance_of_both_changes_no_order():
    table = pd.DataFrame([load_point(**A), load_point(**B)])
    config = make_config(["a", "b"], load={"concurrency": [1]})
    verdict = judge(table, [endpoint(name, 3.6, instance_type="ml.g5.xlarge") for name in "ab"], [], config, "run-1")
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    words = "no discount on ml.g5.xlarge: the runner-up, “b”, runs on the same and is 2.0 times as expensive."
    assert f"* **Price:** {words}" in said


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ((A, B), "confidence, and with 95% that “b”, the next cheapest, costs more."),
        ((A, B | {"rate": 9.5}), "confidence; whether “b” is cheaper is open, as their prices cannot be told apart."),
        (
            (A, B, B | {"level": 4, "rate": 40, "slo": "undecided"}),
            "confidence, and with 95% that “b”, the next cheapest, costs more at the loads that are shown to meet it.",
        ),
        ((A,), "confidence; there is no other option to compare it with."),
        ((A, B | {"slo": "missed"}), "confidence; every other option is shown to miss it."),
        ((A, B | {"slo": "undecided"}), "confidence; how good 1 other option would be is not known."),
    ],
)
def test_how_sure_the_answer_is_stands_beside_it(points, words):
    _, verdict, config = judged(*points)
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert said.startswith(f"**How sure:** that “a” meets each limit of the SLO is shown with 95% {words}")


def test_bills_that_are_as_high_and_the_lowest_of_several_are_said_so():
    planned = {"requests_per_minute": 300, "headroom": 0.3}
    _, verdict, config = judged(A, A | {"option": "twin"}, traffic=planned)
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert "; the bill of “twin” is as high, $2,628 a month." in said and "(as expensive)" in said
    _, verdict, config = judged(A, B, B | {"option": "c", "usd_per_hour": 4.0}, traffic=planned)
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert "; of the other bills that of “b” is lowest, $5,256 a month (2.0 times as expensive)." in said


def test_the_nearest_traffic_with_another_lowest_bill_is_named():
    """An instance of a (420 requests a minute with 30% headroom) costs $3.60, of b (210) $2.00: b has the lower bill where one of
    it is enough."""
    traffic = {"requests_per_minute": 400, "headroom": 0.3}
    _, verdict, config = judged(A, B | {"usd_per_hour": 2.0}, traffic=traffic)
    said = str(what_would_change(verdict, UNKNOWN, config).markdown)
    assert "the lowest bill here is that of “a”; below 210 requests a minute that of “b”" in said
    _, verdict, config = judged(A, B, traffic=traffic)
    assert (
        "no option that is shown to meet the SLO has a lower bill than “a” from 1 to 10,000 requests a minute"
        in str(what_would_change(verdict, UNKNOWN, config).markdown)
    )


def test_loads_are_said_as_they_were_measured():
    points, verdict, config = judged(
        A | {"latency_s_p95": 0.5},
        A | {"level": 2, "rate": 19, "latency_s_p95": 0.9},
        A | {"level": 4, "rate": 19.5, "latency_s_p95": 3.0, "slo": "missed"},
    )
    assert conclusions.load_title(points, verdict, config).endswith("stays within 1 s: “a” up to concurrency 2")
    assert conclusions.throughput_title(points, verdict, config) == "“a” is full at concurrency 2"
    assert conclusions.throughput_title(points[:2], verdict, config) == "“a” still gains at the highest load"
    assert conclusions.throughput_title(points[:1], verdict, config) == "", "one load says nothing of another"


def test_requests_that_were_drawn_say_who_is_fast():
    rows = [
        {"option": o, "dataset": "short", "level": 1.0, "ok": True, "prompt_tokens": 100.0 * i, "latency_s": by * i}
        | {"ttft_s": by, "tpot_s": None}
        for o, by in (("a", 0.1), ("b", 0.2))
        for i in range(1, 10)
    ]
    samples = pd.DataFrame(rows)
    assert conclusions.prompt_title(samples) == (
        "The longest third of the prompts takes 4.0 times as long as the shortest"
    )
    assert conclusions.median_title(samples, "ttft_s", "The first token takes") == (
        "The first token takes 100 ms on “a”, 200 ms on “b”: 2.0 times as much"
    )
    assert conclusions.median_title(samples, "tpot_s", "Each further token takes") == ""
    assert conclusions.prompt_title(samples[:0]) == ""


@pytest.mark.parametrize(
    "points",
    [
        (A, B),
        (A, A | {"level": 2, "rate": 20, "slo": "missed"}, B | {"usd_per_hour": 2.7}),
        (A, B | {"rate": 9.5}, {"option": "c", "slo": "missed"}),
    ],
)
def test_every_number_in_a_sentence_of_a_planted_run_follows_from_its_verdict(points):
    """As of real runs in test_numbers_in_sentences."""
    table, verdict, config = judged(*points)
    sections = config.model_dump(mode="json")
    planted = {"slo": sections["slo"], "traffic": sections["traffic"], "datasets": [d.name for d in config.datasets]}
    known = Known(verdict.model_dump(mode="json"), table, dataclasses.asdict(UNKNOWN), planted)
    said = [what_would_change(verdict, UNKNOWN, config), price_reading(table, verdict, config)]
    lines = [line for one in said if one for line in one.markdown.splitlines()]
    assert len(lines) >= 5
    assert {line: left for line in lines if (left := unaccounted(line, known))} == {}


def test_options_with_the_same_bill_at_any_traffic_are_both_named():
    _, verdict, config = judged(A, A | {"option": "b"})
    both = "“a” and “b” have the same, lowest bill"
    assert conclusions.bill_title(verdict, config) == f"{both} up to 10,000 requests a minute"
    assert cheapest_by_traffic(verdict, config).markdown == f"{both} at any traffic from 1 to 10,000 requests a minute."
    _, verdict, config = judged(A, B)
    assert conclusions.bill_title(verdict, config) == "“a” has the lowest bill up to 10,000 requests a minute"
    lowest = "No bill is lower than that of “a” at any traffic from 1 to 10,000 requests a minute."
    assert cheapest_by_traffic(verdict, config).markdown == lowest  # at some both take one instance, for as much


def test_the_cheapest_by_its_estimates_is_not_called_the_nearest():
    _, verdict, config = judged(A | {"slo": "undecided"}, B | {"slo": "undecided"})
    assert conclusions.price_title(verdict, config) == (
        "No option is shown to meet the SLO; by its estimates “a” is the cheapest that does"
    )
    _, verdict, config = judged(NONE)
    assert conclusions.price_title(verdict, config) == "No option is shown to meet the SLO; “a” comes nearest"


def test_an_uneven_interval_is_given_by_its_farther_end():
    """10% fewer requests cost 11.1% more each, 10% more requests 9.1% less."""
    assert str(interval_reading(judged(A)[1]).markdown).startswith(
        "The price of “a” is known to within 11.1%, from 200"
    )


def test_equal_medians_are_those_of_all_options_and_close_ones_have_digits_that_tell_them_apart():
    samples = pd.DataFrame({"option": ["a", "b"], "tpot_s": [0.00336, 0.00340]})
    said = conclusions.median_title(samples, "tpot_s", "Each further token takes")
    assert said == "Each further token takes 3.36 ms on “a”, 3.40 ms on “b”: 1% more"
    alike = samples.assign(tpot_s=0.00336)
    assert conclusions.median_title(alike, "tpot_s", "It takes") == "It takes 3.36 ms on each option"
    assert conclusions.median_title(alike[:1], "tpot_s", "It takes") == "It takes 3.36 ms on “a”"


def test_options_of_which_the_same_holds_are_named_together():
    points, verdict, config = judged(A, A | {"level": 2, "rate": 20}, B, B | {"level": 2, "rate": 10})
    assert conclusions.load_title(points, verdict, config).endswith("within 1 s: “a” and “b” even at concurrency 2")
    assert conclusions.throughput_title(points, verdict, config) == "“a” and “b” still gain at the highest load"


def test_a_mean_is_held_against_the_limit_of_the_percentile():
    option = {"target": "imported", "format": "vllm", "path": "x", "instance_type": "ml.c5.large"}
    points = pd.DataFrame([load_point("a", latency_s_p95=None)])
    config = make_config([{"name": "a", **option}])
    verdict = judge(points, [endpoint("a")], [], config, "run-1")
    assert conclusions.load_title(points, verdict, config) == (
        "Mean end-to-end latency stays within 1 s, the limit of the p95: “a” even at concurrency 1"
    )
