"""How many requests an SLO asks for, by hand and against the bounds that judge it."""

import numpy as np
import pytest
from examples import make_config

from helpers.errors import ConfigError
from helpers.metrics.formulas import MET, share_is_met
from helpers.metrics.intervals import Sides, memory, share_bounds
from helpers.metrics.sample_size import (
    chance_to_decide,
    least_effect,
    load_for_slo,
    refuse_what_cannot_decide,
    requests_for_slo,
    requests_lacking,
    requests_to_show,
)


@pytest.mark.parametrize(
    ("share", "confidence", "needed"),
    [(0.03, 0.95, 99), (0.01, 0.95, 299), (0.05, 0.95, 59), (0.5, 0.5, 1), (0.001, 0.99, 4603)],
)
def test_the_fewest_requests_that_can_show_a_share(share, confidence, needed):
    """0 of 99 show 3% and 0 of 98 do not: 0.97^98 = 0.0505, 0.97^99 = 0.0490."""
    assert requests_to_show(share, confidence) == needed
    assert share_is_met(0, needed, share, confidence) == MET
    assert needed == 1 or share_is_met(0, needed - 1, share, confidence) != MET


def test_the_slo_asks_for_what_its_hardest_limit_asks_for():
    slo = {"percentile": 99, "latency_s": 1, "error_rate": 0.05, "confidence": 0.95}
    assert requests_for_slo(make_config(slo=slo).slo) == 299
    assert requests_for_slo(make_config(slo=slo | {"percentile": 50, "error_rate": 0.03}).slo) == 99


@pytest.mark.parametrize(("count", "total", "effect"), [(0, 60, 1.0), (1, 120, 1.0), (2, 100, 3.0), (0, 40, 8.0)])
def test_what_is_lacking_is_just_enough(count, total, effect):
    lacking = requests_lacking(count, total, 0.03, 0.95, effect)
    assert lacking > 0

    def highest(more):
        times = (total + more) / total
        return share_bounds(count * times, total * times, 0.95, effect).high

    assert highest(lacking) <= 0.03 < highest(lacking - 1)


SURE = Sides(0.99, 0.999)


def test_the_chance_that_requests_decide_is_that_of_a_simulation():
    """2 of 60 so far: the share is drawn from its posterior, and 180 more requests from it."""
    rng = np.random.default_rng(1)
    at_end = 2 + rng.binomial(180, rng.beta(2.5, 58.5, 20_000))
    states = [share_is_met(int(count), 240, 0.05, SURE) for count in at_end]
    chance = chance_to_decide(2, 60, 240, 0.05, SURE)
    assert chance.met == pytest.approx(states.count("met") / 20_000, abs=0.01)
    assert chance.missed == pytest.approx(states.count("missed") / 20_000, abs=0.01)


def test_at_the_last_look_a_chance_is_a_certainty():
    assert chance_to_decide(0, 240, 240, 0.05, SURE) == (1.0, 0.0)
    assert chance_to_decide(40, 240, 240, 0.05, SURE) == (0.0, 1.0)
    assert chance_to_decide(12, 240, 240, 0.05, SURE) == (0.0, 0.0)


def test_requests_that_are_alike_decide_as_often_as_those_that_they_stand_for():
    assert chance_to_decide(4, 240, 960, 0.05, SURE, 4.0) == chance_to_decide(1, 60, 240, 0.05, SURE)


def test_what_no_number_of_requests_would_show_lacks_none():
    assert requests_lacking(3, 100, 0.03, 0.95) is None
    assert requests_lacking(299, 10_000, 0.03, 0.95) is None, "so near that it would take millions"
    assert requests_lacking(0, 10, 0.0, 0.95) is None
    assert requests_lacking(0, 0, 0.03, 0.95) == 99
    assert requests_lacking(0, 500, 0.03, 0.95) == 0


def test_windows_hold_what_the_error_rate_asks_for():
    config = make_config(slo={"error_rate": 0.03}, load={"min_requests": 60})
    assert load_for_slo(config).min_requests == 99
    assert load_for_slo(make_config(slo={"error_rate": 0.03}, load={"min_requests": 200})).min_requests == 200
    three = make_config(slo={"error_rate": 0.03}, load={"min_requests": 1, "repetitions": 3})
    assert load_for_slo(three).min_requests == 33, "they are pooled"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"slo": {"error_rate": 0}}, "slo.error_rate: 0 cannot be shown"),
        ({"slo": {"error_rate": 0.01}, "load": {"repeat_prompts": False}}, "299 requests or more"),
        (
            {"slo": {"error_rate": 0.03}, "load": {"kind": "open_loop", "rate": [0.05, 0.1], "max_duration_s": 300}},
            "Expected 590 s or more",
        ),
        (
            {
                "slo": {"error_rate": 0.03},
                "load": {"kind": "search", "over": "rate", "lowest": 0.1, "highest": 0.5, "max_duration_s": 60},
            },
            "load.max_duration_s: 60 s at 0.5 requests/s hold about 30 requests",
        ),
    ],
)
def test_a_config_that_cannot_lead_to_a_verdict_is_refused_with_the_numbers(sections, words):
    with pytest.raises(ConfigError, match="Next: ") as raised:
        refuse_what_cannot_decide(make_config(**sections))
    assert words in str(raised.value)


def test_few_requests_say_little_about_how_alike_they_are():
    """Of an autoregressive series: at most one in twenty of the least effects lies above the true one."""
    rng, above, share = np.random.default_rng(5), 0, 0.6
    truth = (1 + share) / (1 - share)
    for _ in range(200):
        steps = rng.normal(size=300)
        values = [steps[0]]
        for step in steps[1:]:
            values.append(share * values[-1] + step)
        series = np.array(values[50:])
        above += least_effect(memory([series - series.mean()]).effect, len(series)) > truth
    assert above <= 10
    assert least_effect(1.0, 30) == 1.0
    assert 8.5 < least_effect(9.0, 10**6) < 9


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"slo": {"error_rate": 0.01}, "load": {"repeat_prompts": True}},
        {"slo": {"error_rate": 0.03}, "load": {"kind": "open_loop", "rate": [1], "max_duration_s": 600}},
        {"load": {"kind": "ramp", "from_rate": 1, "to_rate": 2, "duration_s": 5}, "slo": {"error_rate": 0.01}},
    ],
)
def test_a_config_that_can_is_left_alone(sections):
    refuse_what_cannot_decide(make_config(**sections))


def test_the_defaults_can_lead_to_a_verdict():
    """The default error rate asks for 299 requests, the default number of prompts holds them."""
    config = make_config(datasets=[{"name": "short", "prompt_tokens": [1, 500]}], load={"concurrency": [1, 8]})
    data = config.model_dump()
    for section, key in (
        ("slo", "error_rate"),
        ("slo", "percentile"),
        ("load", "min_requests"),
        ("load", "repeat_prompts"),
    ):
        del data[section][key]
    del data["datasets"][0]["count"]
    refuse_what_cannot_decide(type(config).model_validate(data))
