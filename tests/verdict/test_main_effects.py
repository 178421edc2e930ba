"""Main effects of a matrix: worked out by hand, over missing combinations, with intervals that cover planted truths."""

import math

import numpy as np
import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, option
from sentence_numbers import Known, unaccounted

from helpers.report.matrix_report import settings_table
from helpers.verdict.judging import judge
from helpers.verdict.main_effects import main_effects, mean_change
from helpers.verdict.verdict import Estimate

BATCH, KIND = "container.max_batch", "container.quantization"
RATES = {("8", "default"): 10.0, ("8", "fp8"): 20.0, ("32", "default"): 20.0, ("32", "fp8"): 80.0}


def named(batch, kind):
    return f"m, max_batch {batch}, {kind}"


class Reported:
    """A 2 x 2 matrix whose combinations serve these rates at the same price an hour; `points` change single ones."""

    def __init__(self, rates=RATES, others=(), levels=(1.0,), **changes):
        self.config = make_config(
            [
                option(named(*at), from_matrix={"option": "m", "settings": dict(zip((BATCH, KIND), at, strict=True))})
                for at in rates
            ]
            + list(others),
            load={"concurrency": [int(level) for level in levels]},
        )
        of = {named(*at): rate for at, rate in rates.items()} | dict.fromkeys((o["name"] for o in others), 10.0)
        self.points = pd.DataFrame(
            [
                load_point(name, level=level, rate=rate, **changes.get(name, {}))
                for name, rate in of.items()
                for level in levels
                if rate
            ]
        )
        ends = [endpoint(name, **({} if rate else {"failure": "no capacity"})) for name, rate in of.items()]
        self.verdict = judge(self.points, ends, [], self.config, "run-1")

    @property
    def effects(self):
        return {(e.setting, e.value): e for e in main_effects(self.points, self.verdict, self.config)}

    @property
    def table(self):
        return settings_table(self.points, self.verdict, self.config)

    def numbers_without_origin(self):
        data = {"slo": {}, "traffic": {}, "datasets": ["short"], "options": self.config.model_dump()["options"]}
        known = Known(self.verdict.model_dump(), self.points, {}, data)
        return unaccounted(self.table.reading, known)


def test_an_effect_is_the_mean_of_log_ratios_over_the_other_settings():
    effects = Reported().effects
    batch, kind = effects[BATCH, "32"], effects[KIND, "fp8"]
    # 1/2 without fp8 and 1/4 with it: their geometric mean is 1/sqrt(8)
    assert batch.price.value == pytest.approx(8**-0.5 - 1)
    assert (batch.lowest, batch.highest) == pytest.approx((-0.75, -0.5))
    assert kind.price.value == pytest.approx(8**-0.5 - 1)
    assert (batch.pairs, batch.possible, batch.against) == (2, 2, "8")
    # each price reaches from 1/1.1 to 1/0.9 of itself: four of them, and the mean of two pairs
    below = math.sqrt(2 * math.log(1.1) ** 2 + 2 * math.log(0.9) ** 2) / 2
    assert batch.price.low == pytest.approx(8**-0.5 * math.exp(-below) - 1)
    assert batch.price.high == pytest.approx(8**-0.5 * math.exp(below) - 1)


def test_latencies_are_compared_at_the_load_points_that_both_have():
    slow = {named("32", "default"): {"latency_s_p95": 1.0, "latency_s_p95_low": 0.8, "latency_s_p95_high": 1.2}}
    run = Reported(levels=(1.0, 4.0), **slow)
    effect = run.effects[BATCH, "32"]
    assert effect.load_points == 4
    assert effect.latency.value == pytest.approx(math.sqrt(2) - 1)  # twice as slow in half of the comparisons
    limited = run.points["option"].eq(named("8", "fp8")) & run.points["level"].eq(4.0)
    run.points.loc[limited, "slo"] = "client_limited"
    assert run.effects[BATCH, "32"].load_points == 3
    infinite = run.points["option"].eq(named("8", "default")) & run.points["level"].eq(4.0)
    run.points.loc[infinite, "latency_s_p95"] = math.inf
    assert run.effects[BATCH, "32"].load_points == 2


def test_a_missing_combination_takes_its_pairs_with_it_and_is_named():
    run = Reported(RATES | {("32", "fp8"): None})
    batch, kind = run.effects[BATCH, "32"], run.effects[KIND, "fp8"]
    assert (batch.pairs, batch.possible) == (kind.pairs, kind.possible) == (1, 2)
    assert batch.price.value == kind.price.value == pytest.approx(-0.5)
    assert "in no comparison of prices: “m, max_batch 32, fp8” (failed)." in run.table.reading
    assert "holds for the other settings of the pairs that there are" in run.table.reading
    assert list(run.table.rows["pairs"]) == ["1 of 2", "1 of 2"]
    assert list(run.table.rows["by_pair"]) == ["–", "–"]


def test_what_left_the_race_is_in_no_comparison_and_named():
    run = Reported()
    gone = {"race_outcome": "more expensive", "race_because": "after 30 requests"}
    ends = [endpoint(o.name, **(gone if o.name == named("32", "fp8") else {})) for o in run.config.options]
    run.verdict = judge(run.points, ends, [], run.config, "run-1")
    assert run.effects[BATCH, "32"].pairs == 1
    assert "in no comparison of prices: “m, max_batch 32, fp8” (eliminated)." in run.table.reading


def test_an_excluded_combination_is_a_missing_pair_too():
    run = Reported({at: rate for at, rate in RATES.items() if at != ("32", "fp8")})
    assert (run.effects[BATCH, "32"].pairs, run.effects[BATCH, "32"].possible) == (1, 2)
    assert "no comparison of prices:" not in run.table.reading
    assert "holds for the other settings" in run.table.reading


def test_nothing_is_said_where_no_two_combinations_can_be_compared():
    assert Reported({("8", "default"): 10.0, ("32", "fp8"): 20.0}).table is None
    config = make_config(["a"])
    points = pd.DataFrame([load_point("a")])
    assert settings_table(points, judge(points, [endpoint("a")], [], config, "r"), config) is None


def test_an_unknown_end_of_a_price_leaves_that_end_of_the_effect_unknown():
    unknown = {named("8", "fp8"): {"usd_per_1k_requests_high": math.inf}}
    effect = Reported(**unknown).effects[BATCH, "32"]
    assert effect.price.low is None
    assert effect.price.high is None  # a mix of datasets with an unknown end has none at all
    assert mean_change([(Estimate(value=1, low=0.5, high=None), Estimate(value=2, low=1, high=4))]).low is None
    assert mean_change([(Estimate(value=1, low=0.5, high=None), Estimate(value=2, low=1, high=4))]).high is not None
    assert mean_change([(Estimate(value=1, low=0.5, high=2), Estimate(value=2, low=-0.1, high=4))]).low is None


def test_the_sentence_names_the_setting_that_moves_the_price_most_with_its_interval():
    rates = {at: rate * (1.5 if at[0] == "32" else 1) for at, rate in RATES.items()}
    run = Reported(rates)
    value = run.effects[BATCH, "32"].price
    assert run.table.reading.startswith(
        "Of what is shown to change the price, max_batch does most: 32 instead of 8 changes it by -76.4% (95% interval "
    )
    assert f"{100 * value.low:+.1f}% to {100 * value.high:+.1f}%" in run.table.reading
    assert run.numbers_without_origin() == []
    assert "No setting is shown to change the price" in Reported(dict.fromkeys(RATES, 10.0)).table.reading


def test_a_setting_that_helps_here_and_harms_there_is_not_told_by_its_mean_alone():
    """Twice the price with the default, an eighth with fp8."""
    rates = {("8", "default"): 20.0, ("32", "default"): 10.0, ("8", "fp8"): 10.0, ("32", "fp8"): 80.0}
    run = Reported(rates)
    assert (
        "Single pairs go both ways, from -87.5% to +100.0%: what it changes depends on the other" in run.table.reading
    )
    assert run.numbers_without_origin() == []
    assert "both ways" not in Reported().table.reading


def test_estimates_are_said_to_be_estimates():
    undecided = {named("8", "fp8"): {"slo": "undecided"}}
    run = Reported(**undecided)
    assert "By estimates, not shown to meet the SLO: the price of “m, max_batch 8, fp8”." in run.table.reading
    assert run.numbers_without_origin() == []


def test_options_outside_of_the_matrix_are_in_no_comparison():
    assert len(Reported(others=[option("other")]).effects) == 2


def test_intervals_cover_planted_effects():
    """Normal errors of 5% on the log scale: 95% intervals hold the planted mean change in 93% to 97% of 2,000 draws."""
    draw, held = np.random.default_rng(7), 0
    for _ in range(2000):
        prices = {}
        for at, true in zip(RATES, (1.0, 0.7, 0.9, 0.5), strict=True):
            log = math.log(true) + draw.normal(0, 0.05)
            prices[at] = Estimate(value=math.exp(log), low=math.exp(log - 0.098), high=math.exp(log + 0.098))
        found = mean_change([(prices["8", kind], prices["32", kind]) for kind in ("default", "fp8")])
        held += found.low <= math.sqrt(0.9 * 0.5 / 0.7) - 1 <= found.high
    assert 0.93 <= held / 2000 <= 0.97
