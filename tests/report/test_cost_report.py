"""The tables and sentences of what traffic costs, on load points that were made up."""

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, option

from helpers.report.charts import bill_by_traffic
from helpers.report.charts.price_marks import dominated
from helpers.report.cost_report import capacity_table, cheapest_by_traffic, price_table, traffic_table
from helpers.verdict.judging import judge

SAVINGS = {"name": "1-year savings plan", "usd_per_hour": 1.8, "source": "a quote", "as_of": "2026-10-01"}
TOKENS = {"usd_per_1m_input_tokens": 1.0, "usd_per_1m_output_tokens": 5.0, "source": "a list", "as_of": "2026-11-01"}


def verdict_on(config, points, endpoints):
    return judge(pd.DataFrame(points), endpoints, [], config, "run-1")


@pytest.fixture
def two():
    """Both meet the SLO: `a` at 10 requests/s for 3.6 $/h (or 1.8), `b` at 100 requests/s for 10.8 $/h."""
    config = make_config([option("a", other_prices=[SAVINGS]), "b"])
    points = [load_point("a", rate=10), load_point("b", rate=100, usd_per_hour=10.8)]
    return config, verdict_on(config, points, [endpoint("a"), endpoint("b", usd_per_instance_hour=10.8)])


def test_capacity_is_shown_at_every_price(two):
    """600 requests/min with 30% headroom: 2 instances of `a` carry 2 x 420, one of `b` carries 4,200."""
    config, verdict = two
    rows = capacity_table(verdict, config).rows.set_index(["option", "price"])
    assert rows.loc[("a", "on demand"), ["instances", "usd_per_fleet_hour", "usd_per_month"]].tolist() == [
        2,
        7.2,
        7.2 * 730,
    ]
    assert rows.loc[("a", SAVINGS["name"]), ["instances", "usd_per_fleet_hour"]].tolist() == [2, 3.6]
    assert rows.loc[("b", "on demand"), ["instances", "utilisation"]].tolist() == [1, 10.0]


def test_the_sentence_says_where_the_cheapest_changes(two):
    """`a` costs 3.6 a step of 420 requests/min, `b` 10.8 a step of 4,200: three of `a` cost as much as one of `b`."""
    config, verdict = two
    said = cheapest_by_traffic(verdict, config).markdown
    assert said == "The cheapest option, by requests a minute: “a” up to 840, then “b” up to 10,000."
    table = traffic_table(verdict, config).rows.set_index("traffic")
    assert table.loc[300, ["usd_0", "usd_1", "cheapest"]].tolist() == [3.6 * 730, 10.8 * 730, "a"]
    assert table.loc[3000, "cheapest"] == "b"


def test_token_prices_have_a_break_even():
    """A request of 100 prompt and 24 output tokens costs 0.00022 $; 3.6 $/h are as much at 272.7 requests/min."""
    config = make_config([option("hour"), option("token", price=TOKENS)])
    by_token = endpoint("token", price={"name": "per token", **TOKENS})
    points = [load_point("hour", rate=10), load_point("token", rate=10, usd_per_hour=None)]
    for name in ("usd_per_1k_requests", "usd_per_1m_output_tokens"):
        each = {"usd_per_1k_requests": 0.22, "usd_per_1m_output_tokens": 0.00022 / 24 * 1e6}[name]
        points[1] |= {name: each, f"{name}_low": each, f"{name}_high": each}
    verdict = verdict_on(config, points, [endpoint("hour"), by_token])
    assert verdict.option("token").capacity.usd_per_fleet_hour == pytest.approx(600 * 60 * 0.00022)
    assert verdict.option("token").capacity.instances is None
    said = cheapest_by_traffic(verdict, config).markdown
    assert "“hour” beats the token prices of “token” from " in said
    priced = price_table(verdict).rows.set_index("option")
    assert priced.loc["token", ["name", "source", "as_of"]].tolist() == ["per token", "a list", "2026-11-01"]
    assert traffic_table(verdict, config).rows.set_index("traffic").loc[10, "cheapest"] == "token"


def test_a_single_option_is_not_called_the_cheapest():
    config = make_config(["a", "b"])
    verdict = verdict_on(config, [load_point("a"), load_point("b", slo="missed")], [endpoint("a"), endpoint("b")])
    assert cheapest_by_traffic(verdict, config).markdown.startswith(
        "“a” is the only option that is shown to meet the SLO"
    )


def test_without_a_feasible_option_there_is_no_bill(tmp_path):
    config = make_config()
    verdict = verdict_on(config, [load_point(slo="missed")], [endpoint()])
    assert "no bill to compare" in traffic_table(verdict, config).markdown
    assert cheapest_by_traffic(verdict, config).markdown == ""
    assert bill_by_traffic(verdict, config, tmp_path) is None


def test_the_bill_is_drawn_with_its_numbers_in_words(two, tmp_path):
    config, verdict = two
    figure = bill_by_traffic(verdict, config, tmp_path)
    assert figure.path.is_file()
    assert "a from 1" in figure.alt
    assert "Dotted: the other prices" in figure.caption


def test_a_load_point_is_dominated_only_where_intervals_show_it():
    points = pd.DataFrame(
        [
            load_point(level=1, rate=10, latency_s_p95=0.5, latency_s_p95_low=0.4, latency_s_p95_high=0.6),
            load_point(level=4, rate=5, latency_s_p95=1.0, latency_s_p95_low=0.9, latency_s_p95_high=1.1),
            load_point(level=8, rate=5, latency_s_p95=0.62, latency_s_p95_low=0.55, latency_s_p95_high=0.7),
            load_point(level=9, rate=20, latency_s_p95=2.0, latency_s_p95_low=1.9, latency_s_p95_high=2.1),
        ]
    )
    assert dominated(points, "latency_s_p95", "usd_per_1m_output_tokens").tolist() == [False, True, False, False]
