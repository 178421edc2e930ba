"""Bounds that hold at every look: whoever stops as soon as one says what he hopes for errs no more often than he asked for."""

import math

import numpy as np
import pytest
from examples import make_config, option
from pydantic import ValidationError
from scipy import special, stats

from helpers.errors import ConfigError
from helpers.load.race_points import Price
from helpers.metrics.intervals import least_difference, rate_interval, share_bounds
from helpers.metrics.looks import MET, MISSED, Looks, looks_of, refuse_short_race

LOOKS = Looks(totals=(30, 60, 120, 240, 480))
CONFIDENCE = 0.95


def raced(options=("a",), count=200, **load):
    load = {"concurrency": [1, 2, 4, 8], "race": True, **load}
    slo = {"error_rate": 0.03, "latency_s": 1, "percentile": 95}
    bins = [{"name": "short", "prompt_tokens": [10, 20], "count": count}]
    return make_config(options=[option(name) for name in options], load=load, slo=slo, datasets=bins)


OF_PRICES = 0.3
"""The part of the error that comparisons of prices have."""


def test_all_bounds_share_the_error():
    looks = looks_of(raced(options=("a", "b", "c")))
    assert (looks.options, looks.datasets, looks.levels) == (3, 1, 4)
    missed, met = (sum(1 - looks.of_limit(CONFIDENCE, n)[side] for n in looks.totals) for side in (0, 1))
    of_limits = met * looks.options * looks.datasets + missed * looks.datasets
    assert of_limits == pytest.approx((1 - OF_PRICES) * (1 - CONFIDENCE))


@pytest.mark.parametrize("every", [30, 60])
@pytest.mark.parametrize("totals", [LOOKS.totals, (30, 60, 120, 240, 480, 960)])
def test_pooled_failures_at_the_limit_are_hardly_ever_shown_either_way_however_often_they_are_looked_at(totals, every):
    """3% fail and may: looks after each further block, in 20,000 sequences, err no more often than looks at one load point."""
    looks, share, rng = Looks(totals, options=3), 0.03, np.random.default_rng(6)
    at = np.arange(totals[0], looks.most_pooled + 1, every)
    failed = (rng.random((20_000, looks.most_pooled)) < share).cumsum(axis=1, dtype=np.int16)
    passed, dropped = np.zeros(len(failed), bool), np.zeros(len(failed), bool)
    for n in at:
        sure, counts = looks.of_failures(CONFIDENCE, int(n)), np.arange(n + 1)
        passed |= stats.binom.cdf(counts, n, share)[failed[:, n - 1]] < 1 - sure.high
        dropped |= stats.binom.sf(counts - 1, n, share)[failed[:, n - 1]] < 1 - sure.low
    alpha, noise = 1 - CONFIDENCE, 3 * math.sqrt(0.02 / len(failed))
    assert passed.mean() <= alpha * MET / looks.options + noise
    assert dropped.mean() <= alpha * MISSED + noise


@pytest.mark.parametrize("options", [2, 3, 8])
@pytest.mark.parametrize("totals", [LOOKS.totals, (120, 240), (60, 100, 200, 400, 800, 1600, 3200)])
def test_no_option_is_shown_to_cost_more_than_any_of_its_equals_at_any_looks_of_both(options, totals):
    """Normal estimates of one price; 20,000 races in which each look of one is compared with each look of all others."""
    looks, rng = Looks(totals, options), np.random.default_rng(4)
    added = np.diff(totals, prepend=0)
    estimates = (rng.standard_normal((20_000, options, len(totals))) * np.sqrt(added)).cumsum(axis=2) / totals
    wrong = np.zeros(len(estimates), bool)
    for i, n in enumerate(totals):
        for j, m in enumerate(totals):
            below = special.ndtri(looks.of_rate(CONFIDENCE, n).low) / np.sqrt(n)
            above = special.ndtri(looks.of_rate(CONFIDENCE, m).high) / np.sqrt(m)
            more = estimates[:, :1, i] - estimates[:, 1:, j]
            assert least_difference(Price(0, -below, 0), Price(0, 0, above)) == pytest.approx(-np.hypot(below, above))
            wrong |= (more > np.hypot(below, above)).any(axis=1)
    assert wrong.mean() <= OF_PRICES * (1 - CONFIDENCE) + 3 * math.sqrt(0.015 / len(wrong))


def test_late_looks_are_the_sharpest():
    spent = [1 - LOOKS.of_limit(CONFIDENCE, n).high for n in (30, 64, 120, 300, 480, 900)]
    assert spent == sorted(spent)
    assert LOOKS.of_limit(CONFIDENCE, 250) == LOOKS.of_limit(CONFIDENCE, 240), (
        "a window may hold more than it was asked for"
    )


def test_looks_double_until_the_slo_can_be_shown_three_times_over():
    looks = looks_of(raced())
    assert looks.totals == (30, 60, 120, 240, 480)
    assert share_bounds(0, looks.totals[-1] // 3, looks.of_limit(CONFIDENCE, looks.totals[-1]).high).high <= 0.05
    assert looks_of(raced(race={"first_look": 50, "max_requests": 700})).totals == (50, 100, 200, 400, 700)


def test_a_look_that_adds_next_to_nothing_is_left_out():
    assert [LOOKS.next_total(n) for n in (0, 30, 50, 120, 400, 480)] == [30, 60, 120, 240, None, None]


def test_what_is_measured_in_full_has_no_looks():
    assert looks_of(make_config(load={"race": False})) is None


@pytest.mark.parametrize(
    "load",
    [
        {"kind": "ramp", "from_rate": 1, "to_rate": 2, "duration_s": 5},
        {"repetitions": 2},
        {"target_relative_ci": 0.05},
    ],
)
def test_what_cannot_be_raced_is_refused(load):
    with pytest.raises(ValidationError, match="write `race: false`"):
        make_config(load={**load, "race": True})


def test_a_race_that_cannot_decide_is_refused():
    with pytest.raises(ConfigError, match=r"load\.race\.max_requests: 60 cannot .* Next: "):
        refuse_short_race(raced(race={"max_requests": 60}))
    with pytest.raises(ConfigError, match=r"datasets\.0\.count: 80 prompts .* Next: "):
        refuse_short_race(raced(count=80, repeat_prompts=False))


@pytest.mark.parametrize("share", [0.03, 0.05, 0.1])
def test_a_point_exactly_at_the_slo_is_hardly_ever_passed_or_dropped(share):
    """10,000 sequences, looked at five times: both one-sided bounds at once err in at most twice 5%."""
    rng = np.random.default_rng(1)
    hits = rng.random((10_000, LOOKS.totals[-1])) < share
    passed, dropped = np.zeros(len(hits), bool), np.zeros(len(hits), bool)
    for total in LOOKS.totals:
        counts = hits[:, :total].sum(axis=1)
        sure = LOOKS.of_limit(CONFIDENCE, total)
        each = range(counts.max() + 1)
        passed |= np.array([share_bounds(count, total, sure.high).high < share for count in each])[counts]
        dropped |= np.array([share_bounds(count, total, sure.low).low > share for count in each])[counts]
    assert passed.mean() <= 1 - CONFIDENCE
    assert dropped.mean() <= 1 - CONFIDENCE


def test_looking_with_plain_bounds_errs_more_often_than_asked():
    """Else the test above could not fail."""
    hits = np.random.default_rng(2).random((4_000, LOOKS.totals[-1])) < 0.1
    wrong = np.zeros(len(hits), bool)
    for total in LOOKS.totals:
        counts = hits[:, :total].sum(axis=1)
        bounds = [share_bounds(count, total, CONFIDENCE) for count in range(counts.max() + 1)]
        wrong |= np.array([bound.high < 0.1 or bound.low > 0.1 for bound in bounds])[counts]
    assert wrong.mean() > 2 * (1 - CONFIDENCE)


def test_identical_options_are_hardly_ever_told_apart_by_price():
    """Prices from rates of a closed loop of two options that are the same, at each look."""
    rng, wrong = np.random.default_rng(3), 0
    looks = Looks(LOOKS.totals, options=2)
    for _ in range(1_000):
        taken = rng.lognormal(0, 0.5, (2, looks.totals[-1]))
        for total in looks.totals:
            sides = looks.of_rate(CONFIDENCE, total)
            one, other = (rate_interval([np.ones(total)], [t[:total]], sides, independent=False) for t in taken)
            mean = 1 / taken[:, :total].mean(axis=1)
            prices = [
                Price(1 / rate, 1 / bounds.high, 1 / bounds.low if bounds.low else math.inf)
                for rate, bounds in zip(mean, (one, other), strict=True)
            ]
            if least_difference(*prices) > 0 or least_difference(*reversed(prices)) > 0:
                wrong += 1
                break
    assert wrong / 1_000 <= 1 - CONFIDENCE
