"""The end of the warm-up and the steady state, on series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from helpers.load.steady import judge, relative_half_widths, trend


def noise(n, seed=0, cv=0.1):
    return np.random.default_rng(seed).gamma(1 / cv**2, cv**2, n)


def test_a_steady_series_is_steady_and_uncropped():
    verdicts = [judge(noise(400, seed), 8) for seed in range(40)]
    assert sum(v.steady for v in verdicts) >= 37
    assert sum(v.start == 0 for v in verdicts) >= 36


@pytest.mark.parametrize("length", [40, 100])
def test_a_warmup_is_cropped(length):
    series = noise(400)
    series[:length] *= np.linspace(4, 1, length)
    finding = judge(series, 8)
    assert finding.steady
    assert 0.5 * length <= finding.start <= 1.6 * length


def test_a_warmup_without_end_is_no_steady_state():
    finding = judge(noise(400) * np.linspace(3, 1, 400), 8)
    assert not finding.steady
    assert not finding.overloaded


def test_a_slow_drift_is_found():
    finding = judge(noise(2000, cv=0.05) * np.linspace(1, 1.2, 2000), 8)
    assert not finding.steady
    assert "%" in finding.because or "warm-up" in finding.because


def test_a_queue_that_grows_is_overload():
    assert judge(noise(400) * np.linspace(0.2, 8, 400), 8).overloaded
    assert not judge(noise(400), 8).overloaded


def test_wild_variation_is_not_steady():
    bursts = np.where(np.arange(400) % 100 < 12, 30.0, 1.0) * noise(400)
    finding = judge(bursts, 1)
    assert not finding.steady


def test_too_few_requests_cannot_tell():
    assert not judge(noise(12), 1).steady
    assert not judge(noise(200), 100).steady, "two per stream are too few"


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


def test_half_widths_shrink_with_the_root_of_n():
    def widths(n):
        sent = np.cumsum(np.random.default_rng(1).exponential(0.01, n)) * 1e9
        return relative_half_widths(sent[:-1], int(sent[-1]), noise(n - 1, cv=0.5), 95, 4)

    few, many = widths(1000), widths(16_000)
    for name in ("throughput", "percentile"):
        assert many[name] < few[name] / 2
        assert 0 < many[name] < 0.1


def test_a_percentile_without_enough_requests_has_no_width():
    sent = np.arange(60) * 10**7
    assert relative_half_widths(sent, 60 * 10**7, noise(60), 99, 1)["percentile"] == float("inf")
