"""The end of the warm-up and the steady state, on series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from helpers.load.steady import steadiness_of, trend


def noise(n, seed=0, cv=0.1):
    return np.random.default_rng(seed).gamma(1 / cv**2, cv**2, n)


def test_a_steady_series_is_steady_and_uncropped():
    verdicts = [steadiness_of(noise(400, seed), 8) for seed in range(40)]
    assert sum(v.steady for v in verdicts) >= 37
    assert sum(v.start == 0 for v in verdicts) >= 36


@pytest.mark.parametrize("length", [40, 100])
def test_a_warmup_is_cropped(length):
    series = noise(400)
    series[:length] *= np.linspace(4, 1, length)
    finding = steadiness_of(series, 8)
    assert finding.steady
    assert 0.5 * length <= finding.start <= 1.6 * length


def test_a_warmup_without_end_is_no_steady_state():
    finding = steadiness_of(noise(400) * np.linspace(3, 1, 400), 8)
    assert not finding.steady
    assert not finding.overloaded


def test_a_slow_drift_is_found():
    finding = steadiness_of(noise(2000, cv=0.05) * np.linspace(1, 1.2, 2000), 8)
    assert not finding.steady
    assert "%" in finding.because or "warm-up" in finding.because


def test_a_warmup_of_half_the_requests_may_go_on_for_longer():
    finding = steadiness_of(noise(400, cv=0.1) * np.where(np.arange(400) < 200, 2, 1), 8)
    assert not finding.steady
    assert "the warm-up has no end" in finding.because


def batches_of(means, size):
    """Requests of which each batch has this mean."""
    return np.repeat(np.asarray(means, float), size)


def test_a_trend_is_no_drift_if_it_is_small():
    finding = steadiness_of(batches_of(np.linspace(1, 1.03, 20), 20), 1)
    assert finding.steady, "that it is no chance does not matter"


def test_a_drift_that_may_be_chance_is_passed_over_unless_it_is_large():
    finding = steadiness_of(batches_of([1.1, 1.4, 0.8, 1.0, 1.2, 1.3, 1.4, 0.8, 1.1, 1.3], 5), 1)
    assert finding.steady
    assert finding.because.startswith("drift +15.7%")
    finding = steadiness_of(batches_of([0.9, 1.5, 1.4, 1.0, 1.5, 0.8, 1.1, 0.9], 5), 1)
    assert not finding.steady
    assert finding.because.startswith("40 requests are too few to judge: drift -33.3%")


def test_a_queue_that_grows_is_overload():
    assert steadiness_of(noise(400) * np.linspace(0.2, 8, 400), 8).overloaded
    assert not steadiness_of(noise(400), 8).overloaded


def test_latency_that_does_not_double_or_rises_only_at_the_end_is_no_overload():
    assert not steadiness_of(noise(400) * np.linspace(1, 1.8, 400), 8).overloaded
    late = np.concatenate([np.linspace(1.2, 1, 300), np.full(100, 3.0)])
    assert not steadiness_of(late, 8).overloaded


def test_wild_variation_is_not_steady():
    bursts = np.where(np.arange(400) % 100 < 12, 30.0, 1.0) * noise(400)
    finding = steadiness_of(bursts, 1)
    assert not finding.steady


@pytest.mark.parametrize("seed", range(10))
def test_rare_time_outs_say_nothing_of_how_steady_the_answers_are(seed):
    """2% of the requests hang for 60 times as long as an answer takes."""
    ok = np.random.default_rng(seed).random(400) >= 0.02
    finding = steadiness_of(np.where(ok, noise(400, seed), 60.0), 8, ok)
    assert finding.steady, finding.because


def test_a_server_that_hangs_for_good_is_not_steady():
    ok = np.arange(400) < 300
    assert not steadiness_of(np.where(ok, noise(400, cv=0.5), 60.0), 8, ok).steady


def test_a_server_that_refuses_from_some_moment_on_is_not_steady():
    ok = np.arange(400) < 300
    assert not steadiness_of(np.where(ok, noise(400), 0.001), 8, ok).steady


def test_where_nothing_is_answered_the_failures_are_all_there_is():
    assert steadiness_of(noise(400), 8, np.zeros(400, bool)).steady


def test_too_few_requests_cannot_tell():
    assert not steadiness_of(noise(12), 1).steady
    assert not steadiness_of(noise(200), 100).steady, "two per stream are too few"


def test_trend_of_known_lines():
    drift, p = trend(np.linspace(1, 2, 20))
    assert drift == pytest.approx(1 / 1.5, rel=1e-6)
    assert p < 1e-6
    assert trend(np.ones(20)) == (0, 1)


@pytest.mark.parametrize("digits", [12, 1])
def test_trend_agrees_with_scipy(digits):
    for seed in range(20):
        means = np.round(noise(20, seed), digits)
        times = np.arange(20)
        drift, p = trend(means)
        assert drift == pytest.approx(stats.theilslopes(means, times).slope * 19 / np.median(means))
        # With ties, scipy also corrects the variance for products of ties in both, of which time has none.
        assert p == pytest.approx(stats.kendalltau(times, means, method="asymptotic").pvalue, rel=1e-9)
