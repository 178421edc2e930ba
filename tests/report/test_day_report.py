"""The table, the sentence and the figure of a day of traffic, on load points that were made up."""

import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, option

from helpers.report.day_report import day_sentence, day_table, draw_day_figure
from helpers.report.figures import draw_figures, read_figures
from helpers.run.folder import RunFolder
from helpers.verdict.analysis import Measurements
from helpers.verdict.judging import judge

BUSY = [900.0 if 9 <= hour < 15 else 300.0 for hour in range(24)]
STARTED = {"create_called_at": "2026-11-01T10:00:00+00:00", "in_service_at": "2026-11-01T10:10:00+00:00"}
TOKENS = {"usd_per_1m_input_tokens": 1.0, "usd_per_1m_output_tokens": 5.0}
NO_SAMPLES = pd.DataFrame(
    columns=["option", "dataset", "level", "ok", "prompt_tokens", "latency_s", "ttft_s", "tpot_s"]
)
CHEAP = {"usd_per_1m_input_tokens": 0.1, "usd_per_1m_output_tokens": 0.5}


class Reported:
    """What is reported of a day, where option `a` serves 600 requests a minute for 3.6 $/h."""

    def __init__(self, options, points, endpoints, curve=BUSY, **traffic):
        traffic = {"requests_per_minute": 600, "headroom": 0, "curve": curve, **traffic}
        self.config, self.endpoints = make_config(options, traffic=traffic), endpoints
        self.verdict = judge(pd.DataFrame(points), endpoints, [], self.config, "run-1")
        self.given = (self.verdict, endpoints, self.config)

    @property
    def sentence(self):
        return day_sentence(*self.given).markdown

    @property
    def table(self):
        return day_table(*self.given)

    def row(self, name):
        return self.table.rows.set_index("option").loc[name]

    def figure(self, folder):
        return draw_day_figure(*self.given, folder)


def one(curve=BUSY, traffic=None, **of_endpoint):
    return Reported(["a"], [load_point("a")], [endpoint("a", **{**STARTED, **of_endpoint})], curve, **(traffic or {}))


def two(**of_a):
    """`b` is a third of the price at full load, and three times the price where little comes."""
    points = [load_point("a"), load_point("b", rate=100, usd_per_hour=10.8)]
    ends = [endpoint("a", **{**STARTED, **of_a}), endpoint("b", usd_per_instance_hour=10.8, **STARTED)]
    return Reported(["a", "b"], points, ends)


def with_tokens(prices=TOKENS):
    """`a`, and the same by the token: 0.00022 $ for a request, or a tenth of it."""
    each = 0.22 * prices["usd_per_1m_input_tokens"]
    changes = {f"usd_per_1k_requests{end}": each for end in ("", "_low", "_high")}
    points = [load_point("a"), load_point("token", usd_per_hour=None, **changes)]
    ends = [endpoint("a", **STARTED), endpoint("token", price={"name": "per token", **prices})]
    return Reported(["a", option("token", price=prices)], points, ends)


def test_the_table_has_the_instances_of_each_hour_and_both_bills():
    row = one().row("a")
    assert row["by_hour"] == "0–9 h: 1; 9–15 h: 2; 15–24 h: 1"
    assert row["usd_per_month_fixed"] == pytest.approx(5256)
    assert row["usd_per_month_of_day"] == pytest.approx(3303.25)
    assert row["saved"] == pytest.approx(37.1528, abs=1e-4)
    assert row["startup_s"] == 600


def test_the_interval_of_the_instances_stands_beside_them():
    """540 to 660 requests a minute for an instance: 580 take one or two."""
    assert one(curve=[580.0] * 24).row("a")["by_hour"] == "every hour: 1 [1, 2]"
    found = one(curve=[580.0] * 24).row("a")["interval"]
    assert str(found) == "[2,628, 5,256]"


def test_the_caption_says_what_is_assumed():
    caption = one().table.caption
    assert "A day of 300 to 900 requests a minute with 0% headroom" in caption
    assert "There is always at least one instance." in caption
    assert "left out" not in caption
    assert "token" not in caption
    assert one().table.columns[4].header == "$/month, autoscaling"
    assert with_tokens().table.columns[4].header == "$/month, autoscaling or tokens"
    assert "730 hours" in caption


def test_the_sentence_says_what_autoscaling_saves_and_when_it_is_busiest():
    said = one().sentence
    assert "For this day “a” takes $3,303 a month, with autoscaling; no other option shown to meet the SLO" in said
    assert (
        "Autoscaling saves 37% of a fixed fleet of 2 instances of “a”, $5,256 a month, with a start-up of 10 min"
        in said
    )
    assert "Most instances, 2, are needed from 9:00 to 15:00, and never fewer than 1." in said


def test_the_cheapest_of_the_day_need_not_be_the_recommended():
    """`b` is always one instance, at 10.8 x 730 = 7,884 $, 139% more than 3,303."""
    found = two()
    assert found.verdict.recommended == "b"
    assert "Over this day “a” has the lowest bill, $3,303 a month, with autoscaling." in found.sentence
    assert "“b”, which is recommended for constant traffic, at full load, takes $7,884, 139% more." in found.sentence
    assert found.table.rows["option"].tolist() == ["a", "b"]


def test_the_recommended_may_also_be_the_cheapest_of_the_day():
    points = [load_point("a"), load_point("b", usd_per_hour=7.2)]
    ends = [endpoint("a", **STARTED), endpoint("b", usd_per_instance_hour=7.2, **STARTED)]
    assert (
        "“a” has the lowest bill, $3,303 a month, with autoscaling. That is also what is recommended for constant traffic, at"
        in Reported(["a", "b"], points, ends).sentence
    )


def test_bills_whose_intervals_overlap_may_be_in_another_order():
    """At 580 requests a minute both need one instance, or two by the lower ends of their capacities, 540 and 524."""
    points = [load_point("a"), load_point("b", rate=9.7, usd_per_hour=3.56)]
    ends = [endpoint("a", **STARTED), endpoint("b", usd_per_instance_hour=3.56, **STARTED)]
    said = Reported(["a", "b"], points, ends, curve=[580.0] * 24).sentence
    assert "“b” has the lowest bill, $2,599 a month (95% interval $2,599 to $5,198), with autoscaling." in said
    assert (
        "“a”, which is recommended for constant traffic, at full load, takes $2,628, 1.1% more; the intervals overlap"
        in said
    )
    assert "overlap" not in two().sentence


def test_equal_bills_are_both_named():
    points = [load_point("a"), load_point("b")]
    found = Reported(["a", "b"], points, [endpoint("a", **STARTED), endpoint("b", **STARTED)])
    assert "Over this day “a” and “b” have the lowest bill, each $3,303 a month" in found.sentence
    assert "“a” is also what is recommended for constant traffic, at full load." in found.sentence


def test_the_same_fleet_all_day_saves_nothing():
    said = one(curve=[300.0] * 24).sentence
    assert "“a” needs 1 instance in every hour, so autoscaling saves nothing." in said
    assert "ost instances" not in said


def test_a_start_up_as_long_as_the_quiet_hours_saves_nothing():
    found = one(curve=[300.0, 900.0] * 12, in_service_at="2026-11-01T11:00:00+00:00")
    assert "Autoscaling saves nothing of a fixed fleet of 2 instances of “a”" in found.sentence
    assert "with a start-up of 60 min" in found.sentence
    assert "Most instances, 2, are needed in 12 hours of the day" in found.sentence


def test_a_start_up_that_was_not_measured_is_said():
    found = one(create_called_at=None)
    assert "$3,285 a month, with autoscaling, without start-up, which was not measured" in found.sentence
    assert "The start-up of “a” was not measured and is left out of the bill." in found.table.caption
    assert "startup_s" not in [column.key for column in found.table.columns]
    assert "The start-up of “a” was not measured" in two(create_called_at=None).table.caption


def test_a_start_up_that_the_config_states_replaces_the_measured_one_and_is_said():
    found, measured = one(traffic={"startup_s": 1800}), one()
    assert found.row("a")["startup_s"] == 1800
    # nine hours with two instances after six with the start-up of half an hour
    assert found.row("a")["usd_per_month_of_day"] == pytest.approx(3.6 * (24 + 6.5) / 24 * 730)
    assert "with a start-up of 30 min, as the config states." in found.sentence
    assert "The start-up, 30 min, is what the config states (traffic.startup_s), not measured." in found.table.caption
    assert "n = 1" not in found.table.caption
    assert "of one endpoint of this run each (n = 1): the config states none" in measured.table.caption
    assert "with a start-up of 10 min, as measured." in measured.sentence
    unknown = one(traffic={"startup_s": 1800}, create_called_at=None)
    assert "left out" not in unknown.table.caption
    assert unknown.row("a")["usd_per_month_of_day"] == found.row("a")["usd_per_month_of_day"]
    assert "with a start-up of 0 ms, as the config states." in one(traffic={"startup_s": 0}).sentence


def test_a_stated_start_up_needs_a_day():
    with pytest.raises(ValueError, match=r"`startup_s` is that of autoscaling over a day\. Next: give `curve` too"):
        make_config(["a"], traffic={"requests_per_minute": 1, "startup_s": 5})


def test_what_is_billed_by_the_token_is_compared():
    """A mean of 450 requests a minute are 4,336 $ a month by the token, and a tenth of that at a tenth of the price."""
    said = with_tokens().sentence
    assert "Over this day “a” has the lowest bill, $3,303 a month, with autoscaling." in said
    times = re.search(
        r"With autoscaling “a” beats the token prices of “token” from ([\d.]+) times this day's traffic on", said
    )
    assert float(times[1]) < 1
    cheap = with_tokens(CHEAP)
    assert "Over this day “token” has the lowest bill, $434 a month, billed by the token." in cheap.sentence
    assert "“a” beats the token prices of “token” at no traffic up to 10 times that of this day." in cheap.sentence
    assert cheap.table.cells()[0][1] == "–"
    assert "What is billed by the token has no instances." in cheap.table.caption


def test_a_start_up_on_this_machine_is_called_that():
    local = option("a") | {"target": "sagemaker", "local": True, "api": "openai_chat", "instance_type": "ml.c5.large"}
    local = {key: value for key, value in local.items() if key not in ("base_url", "served_model")}
    local["container"] = {"image": "engine"}
    found = Reported([local], [load_point("a")], [endpoint("a", **STARTED)])
    assert "Endpoints on this machine start faster than instances on AWS" in found.table.caption
    stated = Reported([local], [load_point("a")], [endpoint("a", **STARTED)], startup_s=600)
    assert "start faster" not in stated.table.caption
    assert "on this machine" not in one().table.caption


def test_estimates_are_marked():
    found = Reported(["a"], [load_point("a", slo="undecided")], [endpoint("a", **STARTED)])
    assert found.sentence.startswith(
        "No option is shown to meet the SLO, so these are estimates. For this day “a” takes "
    )
    assert found.row("a")["status"].endswith("(estimate)")


def test_a_lower_estimate_is_named():
    points = [load_point("a"), load_point("b", usd_per_hour=1.0, slo="undecided")]
    found = Reported(
        ["a", "b"], points, [endpoint("a", **STARTED), endpoint("b", usd_per_instance_hour=1.0, **STARTED)]
    )
    assert "Lower by estimates, but not shown to meet the SLO: “b” ($918)." in found.sentence
    assert "(lowest)" not in str(found.table.cells())


def test_without_a_price_there_is_no_bill(tmp_path):
    found = Reported(["a"], [load_point("a", usd_per_hour=None)], [endpoint("a", usd_per_instance_hour=None)])
    assert found.sentence == (
        "No option has a known price, so this day has no bill. For “a” most instances, 2, are needed from 9:00 to 15:00, and "
        "never fewer than 1."
    )
    assert found.figure(tmp_path).alt.startswith("a needs 1 to 2 instances over the day.")


def test_what_costs_nothing_has_no_share(tmp_path):
    points = [load_point("a", usd_per_hour=0.0), load_point("b", usd_per_hour=3.6)]
    ends = [endpoint("a", usd_per_instance_hour=0.0), endpoint("b", **STARTED)]
    found = Reported(["a", "b"], points, ends)
    assert "“a” has the lowest bill, $0.00 a month" in found.sentence
    assert found.figure(tmp_path).alt.startswith("a needs 1 to 2 instances over the day.")


def test_without_a_capacity_the_day_is_unknown(tmp_path):
    found = Reported(["a"], [load_point("a", slo="missed")], [endpoint("a", **STARTED)])
    assert (
        found.sentence == "No option has a known capacity within the SLO, so what this day of traffic needs is unknown."
    )
    assert found.table is None
    assert found.figure(tmp_path) is None


def test_without_a_curve_there_is_nothing(tmp_path):
    found = one(curve=None)
    assert day_sentence(*found.given) is None
    assert found.table is None
    assert found.figure(tmp_path) is None


# --- the figure ---------------------------------------------------------------------------------------------------


def test_the_figure_draws_the_steps_and_says_what_autoscaling_saves(tmp_path):
    figure = two().figure(tmp_path)
    assert figure.path == tmp_path / "day_of_traffic.svg"
    ET.parse(figure.path)
    assert figure.title == "Autoscaling saves 37% of the fixed fleet's bill for a"
    assert "Autoscaling" not in figure.path.read_text(encoding="utf-8"), "the page writes the title"
    assert figure.alt == (
        "Autoscaling saves 37% of the fixed fleet's bill for a. Instances by hour of the day: a: 1 to 2; b: 1 in every hour. "
        "Requests a minute: 300 to 900."
    )
    assert "idles in a fixed fleet" in figure.caption
    assert "Bands" not in figure.caption


def test_the_figure_has_a_band_where_the_interval_takes_more_instances(tmp_path):
    figure = one(curve=[580.0] * 24).figure(tmp_path)
    assert "Bands: the 95% interval" in figure.caption
    assert figure.alt.startswith("a needs 1 instance in every hour.")


def test_the_figure_names_what_has_no_instances(tmp_path):
    figure = with_tokens(CHEAP).figure(tmp_path)
    assert figure.alt.startswith("token, billed by the token, has the lowest bill of the day.")
    assert "What is billed by the token has no instances." in figure.caption


def test_what_is_billed_by_the_token_alone_has_no_figure(tmp_path):
    changes = {f"usd_per_1k_requests{end}": 0.22 for end in ("", "_low", "_high")}
    points = [load_point("token", usd_per_hour=None, **changes)]
    found = Reported(
        [option("token", price=TOKENS)], points, [endpoint("token", price={"name": "per token", **TOKENS})]
    )
    assert found.figure(tmp_path) is None
    assert "For this day “token” takes $4,336 a month, billed by the token" in found.sentence


def test_it_is_drawn_among_the_figures_of_a_run_only_where_a_day_is_given(tmp_path):
    for curve, there in ((BUSY, True), (None, False)):
        found, run = one(curve=curve), RunFolder(tmp_path / str(there))
        points = pd.DataFrame([load_point("a")])
        measured = Measurements(points, NO_SAMPLES, [], found.endpoints, [], pd.DataFrame())
        assert ("day_of_traffic" in draw_figures(measured, found.verdict, found.config, run)) == there
        assert ("day_of_traffic" in read_figures(run)) == there
