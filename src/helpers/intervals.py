"""Percentiles and their uncertainty. Pure functions of numbers; the random ones take a generator.

A failed request counts as a latency of +infinity, so percentiles and intervals may be infinite.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

BOOTSTRAP_RESAMPLES = 1000
BATCHES = 10
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A two-sided interval; both null where it cannot be computed."""

    low: float | None
    high: float | None


NO_INTERVAL = Interval(None, None)


def percentile(values: np.ndarray, percent: float) -> float | None:
    """Inclusive percentile with linear interpolation: never outside the data; null for no data.

    Definition 7 of Hyndman and Fan, "Sample quantiles in statistical packages" (1996); with +inf among the values the
    percentile is infinite as soon as it touches one of them.
    """
    if len(values) == 0:
        return None
    ordered = np.sort(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    share = position - below
    if share == 0:
        return float(ordered[below])
    low, high = float(ordered[below]), float(ordered[below + 1])
    return math.inf if math.isinf(high) else low + (high - low) * share


def samples_to_show(percent: float) -> int:
    """Fewest samples for which a percentile is shown: 1 / (1 - p)."""
    return math.ceil(round(100 / (100 - percent), 9))


def samples_to_trust(percent: float) -> int:
    """Fewest samples for which a percentile is not marked "few samples": 5 / (1 - p)."""
    return math.ceil(round(500 / (100 - percent), 9))


def percentile_interval(values: np.ndarray, percent: float, block: int, rng: np.random.Generator) -> Interval:
    """95% interval of a percentile by moving-block bootstrap (Künsch 1989).

    `values` are in order of sending: neighbours wait in the same queue and are alike, so blocks of `block` neighbours
    are drawn, not single values.
    """
    n = len(values)
    block = max(1, min(block, n))
    if n < 2:
        return NO_INTERVAL
    starts = rng.integers(0, n - block + 1, size=(BOOTSTRAP_RESAMPLES, math.ceil(n / block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(BOOTSTRAP_RESAMPLES, -1)[:, :n]
    resampled = np.sort(values[index], axis=1)
    position = (n - 1) * percent / 100
    below = math.floor(position)
    low, high, share = resampled[:, below], resampled[:, min(below + 1, n - 1)], position - below
    with np.errstate(invalid="ignore"):
        estimates = np.where(np.isinf(high) & (share > 0), np.inf, low + np.where(share > 0, (high - low) * share, 0))
    estimates = np.sort(np.where(np.isnan(estimates), np.inf, estimates))
    tail = (1 - CONFIDENCE) / 2
    last = BOOTSTRAP_RESAMPLES - 1
    return Interval(float(estimates[math.floor(tail * last)]), float(estimates[math.ceil((1 - tail) * last)]))


def ratio_interval(amounts: np.ndarray, durations: np.ndarray) -> Interval:
    """95% interval of a rate Σ amounts / Σ durations over batches, by the ratio estimator with Student's t.

    Residuals e = amount - rate x duration have variance s²; the rate's standard error is s / (sqrt(k) x mean duration)
    (Cochran, Sampling Techniques, 1977, section 2.11).
    """
    k = len(amounts)
    if k < 3 or durations.sum() <= 0:
        return NO_INTERVAL
    rate = amounts.sum() / durations.sum()
    residuals = amounts - rate * durations
    error = math.sqrt((residuals**2).sum() / (k - 1)) / (math.sqrt(k) * durations.mean())
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, k - 1)) * error
    return Interval(max(0.0, float(rate - half)), float(rate + half))


def batch_rates(amounts: np.ndarray, sent_s: np.ndarray, closed_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Amounts and durations of up to ten batches of consecutive requests.

    `amounts` holds what each request contributes (1 for a success, or its tokens), `sent_s` when it was sent, in
    order; a request's duration is the time to the next send, for the last one to `closed_s`.
    """
    gaps = np.diff(np.append(sent_s, closed_s))
    batches = [part for part in np.array_split(np.arange(len(amounts)), BATCHES) if len(part)]
    return np.array([amounts[part].sum() for part in batches]), np.array([gaps[part].sum() for part in batches])


def share_bounds(count: int, total: int, confidence: float) -> Interval:
    """One-sided lower and upper confidence bound of a share (Clopper and Pearson 1934), each at `confidence`."""
    if total == 0:
        return NO_INTERVAL
    from scipy import stats

    low = 0.0 if count == 0 else float(stats.beta.ppf(1 - confidence, count, total - count + 1))
    high = 1.0 if count == total else float(stats.beta.ppf(confidence, count + 1, total - count))
    return Interval(low, high)
