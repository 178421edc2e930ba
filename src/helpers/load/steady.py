"""Where the warm-up ends, and whether what follows is steady. Pure functions of the requests' times.

A request belongs to the window in which it was to be sent (open loop) or was sent (closed loop); one window serves rates
and latencies alike. The design follows the stationarity checks of MLCommons' `endpoints` benchmark: crop the warm-up,
then accept the rest only if its spread is bounded and it does not drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helpers.config.load import ROUNDS

BATCHES = 20
SMALLEST_BATCH = 5
LARGEST_DRIFT = 0.05
TREND_P = 0.05
UNPROVEN_DRIFT = 0.2
"""A drift beyond this is not ignored even if it may be chance: there are too few requests to decide."""
LARGEST_SPREAD = 0.5
OVERLOAD_P = 0.001
OVERLOAD_GROWTH = 2.0


@dataclass(frozen=True)
class Steadiness:
    """The finding. `start` is the number of the first request after the warm-up."""

    start: int
    steady: bool
    because: str
    overloaded: bool = False
    """Latency rises throughout and has more than doubled: more arrives than is served."""


def steadiness_of(latency_s: np.ndarray, streams: float, ok: np.ndarray | None = None) -> Steadiness:
    """Find the end of the warm-up among requests in order of their t0, and judge what follows.

    `latency_s` are the end-to-end latencies (failures: the time to the failure); `streams` how many were in flight; `ok` which
    were answered, if not all. A failure counts as no longer than the longest answer: a rare time-out is not how fast the server
    answers, and how many fail is judged by itself.
    """
    if ok is not None and 0 < np.count_nonzero(ok) < len(ok):
        latency_s = np.where(ok, latency_s, np.minimum(latency_s, latency_s[ok].max()))
    start = _end_of_warmup(latency_s, streams)
    if start is None:
        return Steadiness(
            len(latency_s) // 2, False, "latency is still changing: the warm-up has no end", _grows(latency_s)
        )
    rest = latency_s[start:]
    means = _batch_means(rest, streams)
    if len(means) < 4 or len(rest) < ROUNDS * streams:
        return Steadiness(start, False, f"{len(rest)} requests are too few to judge", _grows(latency_s))
    middle = float(np.median(means))
    drift, p = trend(means)
    spread = float(means.std(ddof=1) / means.mean()) if middle > 0 else 0.0
    words = f"drift {drift:+.1%} over the window (Mann-Kendall p = {p:.2g}), spread of batch means {spread:.0%}"
    if p < TREND_P and abs(drift) > LARGEST_DRIFT:
        return Steadiness(start, False, f"latency has a trend: {words}", _grows(latency_s))
    if abs(drift) > UNPROVEN_DRIFT:
        return Steadiness(start, False, f"{len(rest)} requests are too few to judge: {words}", _grows(latency_s))
    if spread > LARGEST_SPREAD:
        return Steadiness(start, False, f"latency varies too much: {words}")
    return Steadiness(start, True, words)


def _end_of_warmup(latency_s: np.ndarray, streams: float) -> int | None:
    """The truncation point that gives the rest the smallest squared standard error (MSER, White 1997), or 0 where head
    and rest differ by less than the drift allowed; None if it is not within the first half: the warm-up is not over.

    Only the first half is searched: near the end, a few batches that are similar by chance would win.
    """
    size = _batch_size(len(latency_s), streams)
    means = _means_of(latency_s, size)
    if len(means) < 4:
        return 0
    errors = [float(means[i:].var() / (len(means) - i)) for i in range(len(means) // 2 + 1)]
    crop = int(np.argmin(errors))
    if crop == 0:
        return 0
    rest = means[crop:].mean()
    if abs(means[:crop].mean() - rest) <= LARGEST_DRIFT * rest:
        return 0
    return crop * size if crop < len(means) // 2 else None


def trend(means: np.ndarray) -> tuple[float, float]:
    """(relative change from first to last by the Theil-Sen slope, two-sided p of the Mann-Kendall test for a trend).

    Slope: median of the slopes of all pairs (Theil 1950, Sen 1968). Test: S = sum of the signs of all pairs, taken for
    normal with variance (n (n - 1) (2n + 5) - sum over ties t (t - 1) (2t + 5)) / 18 (Mann 1945, Kendall 1975). Written
    out here because importing scipy.stats takes longer than a short load point.
    """
    n = len(means)
    earlier, later = np.triu_indices(n, 1)
    differences = means[later] - means[earlier]
    middle = float(np.median(means))
    drift = float(np.median(differences / (later - earlier)) * (n - 1) / middle) if middle > 0 else 0.0
    _, ties = np.unique(means, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    if variance <= 0:
        return drift, 1.0
    return drift, math.erfc(abs(np.sign(differences).sum()) / math.sqrt(2 * variance))


def _grows(latency_s: np.ndarray) -> bool:
    """True if latency rises throughout, to more than twice its first value."""
    means = _means_of(latency_s, max(SMALLEST_BATCH, len(latency_s) // BATCHES))
    if len(means) < BATCHES // 2:
        return False
    quarter = len(means) // 4
    _, p = trend(means)
    return p < OVERLOAD_P and bool(means[-quarter:].mean() > OVERLOAD_GROWTH * means[:quarter].mean())


def _batch_size(n: int, streams: float) -> int:
    """Requests per batch: neighbours wait in the same queue, so a batch holds as many as were in flight, if it can."""
    return max(SMALLEST_BATCH, min(math.ceil(streams), n // 10), n // BATCHES)


def _means_of(values: np.ndarray, size: int) -> np.ndarray:
    count = len(values) // size
    return values[: count * size].reshape(count, size).mean(axis=1) if count else np.empty(0)


def _batch_means(values: np.ndarray, streams: float) -> np.ndarray:
    return _means_of(values, _batch_size(len(values), streams))
