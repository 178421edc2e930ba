"""Bounds that hold at every look: whoever stops as soon as one says what he hopes for errs no more often than he asked for."""

import numpy as np
import pytest
from examples import make_config, option

from helpers.errors import ConfigError
from helpers.metrics.intervals import ratio_interval, share_bounds
from helpers.metrics.looks import Looks, looks_of, refuse_short_race

LOOKS = Looks(totals=(30, 60, 120, 240, 480), points=1)
CONFIDENCE = 0.95


def raced(options=("a",), **load):
    load = {"concurrency": [1, 2, 4, 8], "race": True, **load}
    slo = {"error_rate": 0.03, "latency_s": 1, "percentile": 95}
    return make_config(options=[option(name) for name in options], load=load, slo=slo)


def test_all_bounds_share_the_error():
    looks = looks_of(raced(options=("a", "b", "c")))
    assert looks.points == 12
    each = 1 - looks.sure(CONFIDENCE)
    assert each * looks.points * len(looks.totals) == pytest.approx(1 - CONFIDENCE)


def test_looks_double_until_the_slo_can_be_shown_twice_over():
    looks = looks_of(raced())
    assert looks.totals == (30, 60, 120, 240, 480)
    assert share_bounds(0, looks.totals[-1] // 2, looks.sure(CONFIDENCE)).high <= 0.03
    assert looks_of(raced(race={"first_look": 50, "max_requests": 700})).totals == (50, 100, 200, 400, 700)


def test_a_look_that_adds_next_to_nothing_is_left_out():
    assert [LOOKS.next_total(n) for n in (0, 30, 50, 120, 400, 480)] == [30, 60, 120, 240, None, None]


@pytest.mark.parametrize(
    "load", [{"race": False}, {"kind": "ramp", "from_rate": 1, "to_rate": 2, "duration_s": 5, "race": True}]
)
def test_what_is_measured_in_full_has_no_looks(load):
    assert looks_of(make_config(load=load)) is None


def test_a_race_that_cannot_decide_is_refused():
    with pytest.raises(ConfigError, match=r"load\.race\.max_requests: 60 cannot .* Next: "):
        refuse_short_race(raced(race={"max_requests": 60}))
    with pytest.raises(ConfigError, match=r"datasets\.0\.count: 200 prompts .* Next: "):
        refuse_short_race(raced(options=("a", "b"), repeat_prompts=False))


@pytest.mark.parametrize("share", [0.03, 0.05, 0.1])
def test_a_point_exactly_at_the_slo_is_hardly_ever_passed_or_dropped(share):
    """10,000 sequences, looked at five times: both one-sided bounds at once err in at most twice 5%."""
    rng = np.random.default_rng(1)
    hits = rng.random((10_000, LOOKS.totals[-1])) < share
    sure = LOOKS.sure(CONFIDENCE)
    passed, dropped = np.zeros(len(hits), bool), np.zeros(len(hits), bool)
    for total in LOOKS.totals:
        counts = hits[:, :total].sum(axis=1)
        bounds = [share_bounds(count, total, sure) for count in range(counts.max() + 1)]
        passed |= np.array([bound.high < share for bound in bounds])[counts]
        dropped |= np.array([bound.low > share for bound in bounds])[counts]
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
    """Rates of a closed loop with the batches of `intervals.batches`, at each look, of two options that are the same."""
    rng = np.random.default_rng(3)
    sure = Looks(LOOKS.totals, points=2).sure(CONFIDENCE)
    wrong = 0
    for _ in range(2_000):
        taken = rng.lognormal(0, 0.5, (2, LOOKS.totals[-1]))
        for total in LOOKS.totals:
            size = total // 10
            one, other = (
                ratio_interval(np.full(10, float(size)), durations[:total].reshape(10, size).sum(axis=1), sure)
                for durations in taken
            )
            if one.low > other.high or other.low > one.high:
                wrong += 1
                break
    assert wrong / 2_000 <= 1 - CONFIDENCE
