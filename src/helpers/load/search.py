"""The search for the highest level that meets the SLO: which level comes next, and whether a probe was feasible."""

from __future__ import annotations

import math

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Search
from helpers.metrics.attempts import could_be_judged, repetitions_that_count, was_overloaded
from helpers.metrics.formulas import estimates_within, with_latencies
from helpers.run.records import AttemptFacts


def next_level(search: Search, probes: dict[float, bool]) -> float | None:
    """The level to try next, given which were feasible; None once the highest feasible one is known well enough.

    Doubles from the lowest until a level fails, then halves the bracket. The lowest level that failed bounds the search,
    even if a higher one passed by chance.
    """
    if not probes:
        return search.lowest
    failed = min((level for level, feasible in probes.items() if not feasible), default=math.inf)
    passed = max((level for level, feasible in probes.items() if feasible and level < failed), default=None)
    if passed is None:
        return None
    if failed == math.inf:
        return None if passed >= search.highest else min(2 * passed, search.highest)
    if failed <= passed * (1 + search.tolerance):
        return None
    if search.over == "concurrency":
        return None if failed - passed <= 1 else float((passed + failed) // 2)
    middle = float(f"{math.sqrt(passed * failed):.4g}")
    return middle if passed < middle < failed else None


def probe_is_feasible(requests: pd.DataFrame, facts: list[AttemptFacts], config: BenchmarkConfig) -> bool:
    """Did a level meet the SLO as measured, the repetitions that count pooled: each percentile within its limit, error
    rate too.

    A search must go one way or the other, so this goes by the estimates, not by their certainty; the verdict does not.
    A level that was overloaded is not feasible; nor is one that could not be judged, measured again or not.
    """
    counted = repetitions_that_count(facts, config.load.repetitions)
    if any(was_overloaded(f) or not could_be_judged(f) for f in counted):
        return False
    here = requests["load_point"].isin([f.load_point for f in counted]) & (requests["phase"] == "steady")
    return estimates_within(with_latencies(requests[here]), config.slo)
