"""What a group of requests says of each of its requests: bounds that hold for any latencies of the single ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np


def misses(group: Mapping, column: str, limit: float) -> tuple[int, int]:
    """The fewest and the most requests of a group that can have missed a limit on `column`, failures included.

    Known latencies are counted. Of the others hold, for k misses among n successes with mean m:

    * each is at most U = min(wall time of a volley, reported maximum, n m), so U <= limit means k = 0;
    * k limit < n m, because latencies are not negative;
    * n m <= k U + (n - k) limit, so a mean beyond the limit means k >= n (m - limit) / (U - limit);
    * a reported percentile q lies, by any usual definition, between the values of rank i and i + 1 with
      i = floor(q (n - 1)): within the limit it leaves at most n - 1 - i misses, beyond it at least as many. (TTFT and
      TPOT may be printed over fewer than the n successes: beyond the limit they show only one miss.)
    """
    failures, n = int(group["failures"]), int(group["requests"] - group["failures"])
    known = group[column]
    if known is not None:
        missed = int((np.asarray(known, dtype=float) > limit).sum())
        return missed + failures, missed + failures + n - len(known)
    fewest, most = 0, n
    top, total = largest(group, column), _total(group, column)
    if top <= limit:
        most = 0
    if total is not None:
        most = min(most, max(0, math.ceil(total / limit + 1e-9) - 1))
        if total > n * limit:
            fewest = 1 if math.isinf(top) else math.ceil(n * (total / n - limit) / (top - limit) - 1e-9)
    for name, value in group["reported"].items():
        percent = name.removeprefix(f"{column}_p")
        if percent == name or n == 0:
            continue
        beyond = n - 1 - math.floor(float(percent) / 100 * (n - 1) + 1e-9)
        if value <= limit:
            most = min(most, beyond)
        else:
            fewest = max(fewest, beyond if column == "latency_s" else 1)
    return min(fewest, n) + failures, max(most, fewest) + failures


def largest(group: Mapping, column: str) -> float:
    """What no success of a group can exceed, s; +inf where nothing bounds it."""
    bounds = [group["reported"].get(f"{column}_max", math.inf)]
    if column != "tpot_s" and group["sent_together"] and group["wall_s"] == group["wall_s"]:
        bounds.append(group["wall_s"])
    total = _total(group, column)
    return float(min(bounds + ([] if total is None else [total])))


def _total(group: Mapping, column: str) -> float | None:
    """Sum of the latencies of all successes; None where their mean is unknown."""
    mean = group["latency_mean_s"]
    return None if column != "latency_s" or mean != mean else float(mean) * int(group["requests"] - group["failures"])


def tops_of(group: Mapping, column: str) -> np.ndarray:
    """For each request of a group what its latency is, or else cannot exceed; failures are +inf."""
    n, failures = int(group["requests"] - group["failures"]), int(group["failures"])
    known = [] if group[column] is None else list(group[column])
    return np.array([*known, *[largest(group, column)] * (n - len(known)), *[math.inf] * failures])
