"""The latencies of one level, from which its percentiles and its state towards an SLO follow, at any percentile and limit."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from helpers.config.benchmark import ServiceLevel
from helpers.metrics import formulas as metrics
from helpers.metrics.formulas import LATENCIES, with_failures
from helpers.metrics.intervals import (
    CONFIDENCE,
    NO_INTERVAL,
    Interval,
    design_effect,
    effect_beyond,
    effect_within,
    percentile,
    percentile_interval,
    samples_to_show,
    share_bounds,
)
from helpers.metrics.looks import AS_ASKED, AsAsked
from helpers.metrics.sample_size import requests_lacking

PERCENTS = (50, 90, 95, 99)
SERVERS_OWN = ("http_error", "error_in_answer", "bad_response", "empty", "too_few_tokens")
"""Failures that no client makes, however late or busy it is. (A server that throttles may have been sent a burst.)"""


def percentile_columns(
    column: str,
    values: np.ndarray,
    effect: float,
    slo_percent: float,
    by_moments: bool = True,
    confidence: float = CONFIDENCE,
) -> dict[str, float | None]:
    """Columns of a latency: n, effective n, mean of the successes, percentiles, and the interval of the SLO's percentile.

    `values` hold failures as +inf; `effect` is their design effect; `by_moments` as in `percentile_interval`.
    """
    ordered = np.sort(values)
    finite = ordered[np.isfinite(ordered)]
    row = {
        f"{column}_n": len(values),
        f"{column}_effective_n": len(values) / effect,
        f"{column}_mean_ok": float(finite.mean()) if len(finite) else None,
    }
    for percent in sorted({*PERCENTS, slo_percent}):
        row[f"{column}_p{percent:g}"] = (
            percentile(ordered, percent) if len(values) >= samples_to_show(percent) else None
        )
    shown = row[f"{column}_p{slo_percent:g}"] is not None
    interval = percentile_interval(ordered, slo_percent, effect, by_moments, confidence) if shown else NO_INTERVAL
    return row | {f"{column}_p{slo_percent:g}_low": interval.low, f"{column}_p{slo_percent:g}_high": interval.high}


class LoadPointLatencies:
    """Latencies of the requests of a steady window in order of sending, failures as +inf.

    `here` are these requests by repetition and t0 (`metrics.with_latencies`). In an open loop (`is_open`) mean and standard
    deviation say nothing of the percentile: those of a quiet spell are small. `sure`: how sure each
    bound has to be.
    """

    def __init__(self, here: pd.DataFrame, *, is_open: bool, sure: AsAsked = AS_ASKED) -> None:
        self._sure = sure
        self._requests = here[["ok", *LATENCIES]]
        self._same = {"ttfa_s": "ttft_s"} if here["ttfa_s"].equals(here["ttft_s"]) else {}
        """Where no model reasons the answer begins with the first token: what is worked out of one holds for the other."""
        self._ok = here["ok"].to_numpy(dtype=bool)
        self._repetition = here["repetition"].to_numpy()
        self._by_moments = not is_open
        self.n, self.failures = len(here), int((~self._ok).sum())
        self._servers_own = int(here["status"].isin(SERVERS_OWN).sum())
        self._values: dict[str, np.ndarray] = {}
        self._effects: dict[tuple[str, float], float] = {}
        self._effects_within: dict[tuple[str, float], float] = {}

    def values(self, column: str) -> np.ndarray:
        """A latency of each request that has it."""
        if column not in self._values:
            self._values[column] = with_failures(self._requests[column], self._ok)
        return self._values[column]

    def effect(self, column: str, percent: float) -> float:
        """How many requests carry as much about this percentile as one independent request (`intervals.design_effect`)."""
        key = self._same.get(column, column), percent
        if key not in self._effects:
            self._effects[key] = design_effect(self._by_repetition_of(column), percent)
        return self._effects[key]

    def _limit_effect(self, column: str, percent: float, limit: float) -> float:
        """How many requests carry as much about the share beyond a limit as one independent request.

        Repetitions differ only where different shares of them are beyond it: that one of them was slower throughout says nothing
        against a limit that none of its requests came near.
        """
        key = self._same.get(column, column), percent
        if key not in self._effects_within:
            self._effects_within[key] = effect_within(self._by_repetition_of(column), percent)
        return max(self._effects_within[key], effect_beyond(self._by_repetition_of(column), limit))

    def _by_repetition_of(self, column: str) -> list[np.ndarray]:
        known = ~self._ok | self._requests[column].notna().to_numpy()
        return self._by_repetition(self.values(column), known)

    @cached_property
    def failure_effect(self) -> float:
        """The same of failures, which come in bursts."""
        return design_effect(self._by_repetition((~self._ok).astype(float)), 100)

    def error_rate_interval(self) -> Interval:
        """95% interval of the error rate."""
        return share_bounds(
            self.failures, self.n, (1 + self._sure.of_limit(CONFIDENCE, self.n).high) / 2, self.failure_effect
        )

    def percentiles(self, column: str, percent: float) -> dict[str, float | None]:
        """The columns of a latency, with an interval at this percentile: see `percentile_columns`."""
        effect, confidence = self.effect(column, percent), self._sure.of_limit(CONFIDENCE, self.n).high
        return percentile_columns(column, self.values(column), effect, percent, self._by_moments, confidence)

    def slo_columns(
        self, slo: ServiceLevel, steady: bool | None, client_limited: bool
    ) -> dict[str, str | bool | int | None]:
        """State of each limit (`slo_<column>`, `slo_error_rate`), how many requests were beyond a latency limit
        (`beyond_<column>`), how many requests count as one there (`limit_effect_<column>`), how many further ones would show an
        undecided limit to be met (`lacking_<column>`: 0 where it is decided, None where no number would),
        `estimates_within_slo`, and `slo` of them all. A load point that the client limited is missed where failures of the
        server's own suffice for it.
        """
        states, lacking, confidence = {}, {}, self._sure.of_limit(slo.confidence, self.n)
        for column, limit in slo.limits_s().items():
            values, effect_of_all = self.values(column), self.effect(column, slo.percentile)
            effect = self._limit_effect(column, slo.percentile, limit)
            lacking[f"limit_effect_{column}"] = effect
            by_moments = effect_of_all if self._by_moments else None
            state = metrics.limit_is_met(values, limit, slo.percentile, confidence, effect, by_moments)
            states[f"slo_{column}"] = state
            beyond = lacking[f"beyond_{column}"] = int((values > limit).sum())
            lacking[f"lacking_{column}"] = _lacking(
                state, beyond, len(values), 1 - slo.percentile / 100, confidence, effect
            )
        of_errors = self.failures, self.n, slo.error_rate, confidence, self.failure_effect
        states["slo_error_rate"] = metrics.share_is_met(*of_errors)  # by itself: see `pooled_failures`
        lacking["lacking_error_rate"] = _lacking(states["slo_error_rate"], *of_errors)
        own = metrics.share_is_met(self._servers_own, *of_errors[1:])
        client_limited = client_limited and own != metrics.MISSED
        return (
            states
            | lacking
            | {
                "estimates_within_slo": metrics.estimates_within(self._requests, slo),
                "slo": metrics.judged_state(states.values(), steady, client_limited),
            }
        )

    def _by_repetition(self, values: np.ndarray, known: np.ndarray | None = None) -> list[np.ndarray]:
        repetition = self._repetition if known is None else self._repetition[known]
        return [values[repetition == one] for one in np.unique(repetition)]


def _lacking(state: str, count: int, total: int, share: float, confidence: float, effect: float) -> int | None:
    return requests_lacking(count, total, share, confidence, effect) if state == metrics.UNDECIDED else 0
