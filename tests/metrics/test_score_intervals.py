"""Bounds of scores and of paired differences, against independent ways to find them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted_quality import campaigns
from scipy import optimize, special, stats

from helpers.metrics.intervals import share_bounds
from helpers.metrics.score_intervals import difference_bounds, score_bounds

Z = stats.norm.ppf(0.975)


def answers(both: int, mine: int, theirs: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two options: how many prompts both have right, one alone, and none."""
    counts = (both, mine, theirs, neither)
    return np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)


@pytest.mark.parametrize(("right", "n"), [(0, 20), (20, 20), (7, 20), (180, 200)])
def test_the_interval_of_a_share_is_where_the_score_test_does_not_reject(right, n):
    def beyond(share: float) -> float:
        return (right / n - share) ** 2 - Z * Z * share * (1 - share) / n

    low, high = score_bounds(np.repeat([1.0, 0.0], [right, n - right]), 0.975, 1)
    assert low == (
        0 if right == 0 else pytest.approx(optimize.brentq(beyond, 1e-9, min(right / n, 1 - 1e-6)), abs=1e-6)
    )
    assert high == (
        1 if right == n else pytest.approx(optimize.brentq(beyond, max(right / n, 1e-6), 1 - 1e-9), abs=1e-6)
    )


@pytest.mark.parametrize("table", [(20, 5, 2, 13), (150, 4, 21, 25), (90, 0, 3, 7), (3, 40, 1, 2)])
def test_the_paired_interval_is_where_the_score_test_does_not_reject(table):
    """The variance under each difference is that of the likeliest shares with this difference, found by search."""
    _, b, c, _ = table
    n = sum(table)

    def rejects(difference: float) -> float:
        def unlikely(other: float) -> float:
            rest = 1 - 2 * other - difference
            return -(special.xlogy(b, other + difference) + special.xlogy(c, other) + special.xlogy(n - b - c, rest))

        ends = max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12
        other = optimize.minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
        variance = (2 * other + difference - difference**2) / n
        return ((b - c) / n - difference) ** 2 / variance - Z * Z

    low, high = difference_bounds(*answers(*table), 0.975, 1)
    assert rejects(low) == pytest.approx(0, abs=1e-3)
    assert rejects(high) == pytest.approx(0, abs=1e-3)
    assert low < (b - c) / n < high


def test_equal_answers_do_not_show_that_options_are_equal():
    """Where all n answers agree the bounds are those of the score test, ± z² / (n + z²)."""
    low, high = difference_bounds(*answers(15, 0, 0, 5), 0.975, 1)
    assert (low, high) == pytest.approx((-Z * Z / (20 + Z * Z), Z * Z / (20 + Z * Z)))
    equal = np.full(50, 0.4)
    low, high = difference_bounds(equal, equal, 0.95, 1)
    assert high == -low == pytest.approx(share_bounds(0, 50, 0.95).high)


def test_bounds_of_means_are_near_those_of_students_t_and_the_same_again():
    values = np.random.default_rng(5).beta(2, 3, 300)
    low, high = score_bounds(values, 0.95, 9)
    t = stats.t.ppf(0.95, 299) * values.std(ddof=1) / math.sqrt(300)
    assert (low, high) == pytest.approx((values.mean() - t, values.mean() + t), abs=0.1 * t)
    assert score_bounds(values, 0.95, 9) == (low, high)
    assert score_bounds(values, 0.99, 9).low < low


def test_without_prompts_nothing_is_known():
    nothing = np.array([])
    assert score_bounds(nothing, 0.95, 1) == difference_bounds(nothing, nothing, 0.95, 1) == (None, None)


@pytest.mark.parametrize(("scorer", "count"), [("exact_match", 40), ("token_f1", 10)])
def test_a_gate_errs_no_more_often_than_it_says(scorer, count):
    """A small part of tests/benchmarks/planted_quality_gate.py, which has the whole table."""
    found = campaigns(scorer, count, seed=8)
    assert found["worse by 2 x by: passed"] == 0
    assert found["equal: refused"] <= 0.05
    assert found["equal: passed"] > 0.5
    assert found["worse by by: passed"] <= 0.12
    assert found["interval of the score"] >= 0.9
    assert found["interval of the difference"] >= 0.9
