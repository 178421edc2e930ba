"""How sure scores of answers are, and differences between two options that answered the same prompts. Pure functions.

A score is between 0 and 1. Where an answer is right or wrong the scores are 0 and 1 and their mean is a share. All bounds are
one-sided, each at its own confidence: a two-sided 95% interval has both at 97.5%.
"""

from __future__ import annotations

import math

import numpy as np

from helpers.metrics.intervals import NO_INTERVAL, Interval, share_bounds

RESAMPLES = 4000
_AT_ONCE = 250
"""Resamples in memory at once."""


def score_bounds(scores: np.ndarray, confidence: float, seed: int) -> Interval:
    """Bounds of the mean score: Wilson's (JASA 22, 1927) for a share, the bootstrap's for any other mean."""
    n = len(scores)
    if n == 0:
        return NO_INTERVAL
    if not _is_share(scores):
        return _clipped(_bootstrap(scores, confidence, seed), 0.0)
    z, share = _quantile(confidence), float(scores.mean())
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return _clipped(Interval(middle - half, middle + half), 0.0)


def difference_bounds(mine: np.ndarray, theirs: np.ndarray, confidence: float, seed: int) -> Interval:
    """Bounds of the mean of `mine` - `theirs`, paired by prompt: Tango's score interval for shares, else the bootstrap's."""
    if len(mine) == 0:
        return NO_INTERVAL
    if not (_is_share(mine) and _is_share(theirs)):
        return _clipped(_bootstrap(mine - theirs, confidence, seed), -1.0)
    better, worse = int((mine > theirs).sum()), int((mine < theirs).sum())
    return _tango(better, worse, len(mine), confidence)


def _is_share(scores: np.ndarray) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())


def _tango(better: int, worse: int, n: int, confidence: float) -> Interval:
    """Bounds of (better - worse) / n, where of n prompts these were answered right by one option alone: the differences whose
    score test does not reject them (Tango, Statistics in Medicine 17, 1998). It also holds where all answers agree.
    """
    from scipy import optimize

    z, observed = _quantile(confidence), (better - worse) / n

    def statistic(difference: float) -> float:
        b = -better - worse + (2 * n - better + worse) * difference
        c = -worse * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return (better - worse - n * difference) / math.sqrt(max(variance, 1e-300))

    def bound(end: float, wanted: float) -> float:
        """Between the observed difference and an end of the scale, where the statistic falls as the difference grows."""
        near, far = statistic(observed) - wanted, statistic(end * (1 - 1e-9)) - wanted
        if near * far > 0:
            return end
        return float(optimize.brentq(lambda difference: statistic(difference) - wanted, observed, end * (1 - 1e-9)))

    return Interval(bound(-1.0, z), bound(1.0, -z))


def _bootstrap(values: np.ndarray, confidence: float, seed: int) -> Interval:
    """Percentiles of the means of resampled prompts (Efron, 1979), the spread of which is widened by n / (n - 1).

    What none of n prompts showed is in no resample: no bound is nearer to the mean than the share of prompts that may be so.
    """
    n, mean = len(values), float(values.mean())
    rng, means = np.random.default_rng(seed), np.empty(RESAMPLES)
    for begin in range(0, RESAMPLES, _AT_ONCE):
        means[begin : begin + _AT_ONCE] = values[rng.integers(n, size=(_AT_ONCE, n))].mean(axis=1)
    low, high = mean + (np.quantile(means, [1 - confidence, confidence]) - mean) * math.sqrt(n / max(n - 1, 1))
    unseen = share_bounds(0, n, confidence).high
    return Interval(min(float(low), mean - unseen), max(float(high), mean + unseen))


def _clipped(bounds: Interval, lowest: float) -> Interval:
    return Interval(max(lowest, bounds.low), min(1.0, bounds.high))


def _quantile(confidence: float) -> float:
    from scipy import special

    return float(special.ndtri(confidence))
