"""How much the endpoints of one option differ: the interval of a rate that was measured on several of them.

Replicates are numbered by their repetitions: each has `load.repetitions` of every load point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.intervals import NO_INTERVAL, Interval, Sides
from helpers.run.records import AttemptFacts


def replicate_of(facts: AttemptFacts, config: BenchmarkConfig) -> int:
    """On which endpoint of its option an attempt was measured, from 1."""
    return (facts.repetition - 1) // config.load.repetitions + 1


def replicates_interval(
    amounts: Sequence[np.ndarray],
    durations: Sequence[np.ndarray],
    replicates: Sequence[int],
    within: Interval,
    sides: Sides,
) -> Interval:
    """Interval of the rate Σ amounts / Σ durations of one endpoint, from the rates of k endpoints; an array for each repetition.

    ln(rate) -+ t s / sqrt(k) with k - 1 degrees of freedom, where s is the standard deviation of the endpoints' ln(rate): it
    contains what differs between endpoints and what differs within each (one-way random effects: Searle, Casella and McCulloch,
    Variance Components, 1992, chapter 3). Never narrower than `within`, the interval as if all were one endpoint, so that
    endpoints that agree by chance do not narrow it. `within` where there is one endpoint only; unknown where one served nothing.
    """
    from scipy import special

    totals = np.array(
        [
            [
                sum(float(part.sum()) for part, of in zip(parts, replicates, strict=True) if of == number)
                for parts in (amounts, durations)
            ]
            for number in dict.fromkeys(replicates)
        ]
    )
    k = len(totals)
    if k < 2:
        return within
    if within.low is None or (totals <= 0).any():
        return NO_INTERVAL
    logs = np.log(totals[:, 0] / totals[:, 1])
    rate, error = float(totals[:, 0].sum() / totals[:, 1].sum()), float(logs.std(ddof=1)) / k**0.5
    below, above = (float(np.exp(special.stdtrit(k - 1, side) * error)) for side in sides)
    return Interval(min(within.low, rate / below), max(within.high, rate * above))
