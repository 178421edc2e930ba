"""The metrics: one function each, with formula, unit and when it is None. Times in seconds, tokens as counts.

t0 is the scheduled send (open loop) or the actual send (closed loop), t1 the first token, tL the last token, n the
output tokens. Only requests of the steady window count, and a request belongs to it by t0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from helpers.config.benchmark import ServiceLevel
from helpers.metrics.intervals import (
    Sides,
    percentile,
    percentile_bound_by_moments,
    samples_to_show,
    share_bounds,
    sides_of,
)

LATENCIES = ("latency_s", "ttft_s", "ttfa_s", "tpot_s")
MET, MISSED, UNDECIDED = "met", "missed", "undecided"
CLIENT_LIMITED = "client_limited"
"""State of a load point that the client shaped: neither feasible nor infeasible."""

# --- per request --------------------------------------------------------------------------------------------------


def with_latencies(requests: pd.DataFrame) -> pd.DataFrame:
    """Add `t0_ns`, `ok`, `latency_s`, `ttft_s`, `ttfa_s` and `tpot_s` to request records; None where they cannot be known.

    `ttfa_s`, the time to the first token of the answer, is +inf of a success that ended while it thought: no answer came.
    """
    t0 = requests["scheduled_ns"].fillna(requests["sent_ns"])
    ok = requests["status"] == "ok"
    return requests.assign(
        t0_ns=t0,
        ok=ok,
        latency_s=_seconds(requests["last_token_ns"] - t0).where(ok),
        ttft_s=_seconds(requests["first_token_ns"] - t0).where(ok),
        ttfa_s=_seconds(requests["first_answer_ns"] - t0)
        .mask(requests["answered"].eq(False).fillna(False), np.inf)
        .where(ok),
        tpot_s=time_per_output_token(requests).where(ok),
    )


def time_per_output_token(requests: pd.DataFrame) -> pd.Series:
    """TPOT = (tL - t1) / (n - 1), s; None for n < 2 or an answer that was not streamed."""
    span = _seconds(requests["last_token_ns"] - requests["first_token_ns"])
    tokens = requests["output_tokens"].astype("Float64")
    return (span / (tokens - 1)).where(tokens >= 2).astype("float64")


def inter_token_latencies_s(chunk_ns: np.ndarray, offsets: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """ITL: gaps between successive chunks of each answer, s; none for an answer of one chunk.

    `chunk_ns` and `tokens` hold the times and the tokens of the chunks of all answers one after the other, answer i those from
    offsets[i] to offsets[i + 1]. The tokens of a chunk (speculative decoding gives several) share its gap alike, so that the
    gaps of an answer sum to tL - t1; a chunk that completes no token is none.
    """
    if (tokens == 1).all():
        gaps = np.diff(chunk_ns) / 1e9
        between_answers = offsets[1:-1] - 1
        return np.delete(gaps, between_answers[(between_answers >= 0) & (between_answers < len(gaps))])
    has_token = tokens > 0
    answer = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[has_token]
    in_one_answer = np.diff(answer) == 0
    shared_by = tokens[has_token][1:][in_one_answer]
    return np.repeat((np.diff(chunk_ns[has_token]) / 1e9)[in_one_answer] / shared_by, shared_by)


def _seconds(ns: pd.Series) -> pd.Series:
    return (ns.astype("Float64") / 1e9).astype("float64")


# --- over the steady window ---------------------------------------------------------------------------------------


def achieved_concurrency(sent_s: np.ndarray, done_s: np.ndarray, window_s: tuple[float, float]) -> float:
    """Mean requests in flight: time in flight within the window / its length.

    By Little's law the same as throughput x latency; requests of all phases count for the part that lies in the window.
    """
    opened, closed = window_s
    inside = np.minimum(done_s, closed) - np.maximum(sent_s, opened)
    return float(np.maximum(inside, 0).sum() / (closed - opened))


def error_rate(failures: int, requests: int) -> float | None:
    """Failures / requests; None without requests."""
    return failures / requests if requests else None


def within_slo(requests: pd.DataFrame, slo: ServiceLevel) -> np.ndarray:
    """For each request (`with_latencies`): did it succeed and meet every latency limit of the SLO?

    A latency that a request does not have (TPOT of a single token) misses no limit.
    """
    good = requests["ok"].to_numpy(dtype=bool, copy=True)
    for column, limit in slo.limits_s().items():
        good &= ~(requests[column] > limit).to_numpy(dtype=bool)
    return good


# --- prices -------------------------------------------------------------------------------------------------------


def usd_per_1k_requests(usd_per_option_hour: float | None, requests_per_s: float) -> float | None:
    """$/h of all instances / (requests/h) x 1000; None without price or throughput."""
    known = usd_per_option_hour is not None and requests_per_s > 0
    return usd_per_option_hour / (requests_per_s * 3600) * 1e3 if known else None


def usd_per_1m_tokens(usd_per_option_hour: float | None, tokens_per_s: float) -> float | None:
    """$/h of all instances / (tokens/h) x 10^6; None without price or throughput.

    The whole price is put on the tokens counted: on output tokens, on input tokens, or on both together.
    """
    known = usd_per_option_hour is not None and tokens_per_s > 0
    return usd_per_option_hour / (tokens_per_s * 3600) * 1e6 if known else None


# --- the SLO ------------------------------------------------------------------------------------------------------


def limit_is_met(
    values: np.ndarray,
    limit: float,
    percent: float,
    confidence: float | Sides,
    effect: float = 1.0,
    effect_of_all: float | None = 1.0,
) -> str:
    """Is the percentile of `values` (failures are +inf) below the limit: `met`, `missed` or `undecided`.

    The percentile p is within the limit exactly if the share of requests beyond it is at most 1 - p. The share's
    one-sided bounds decide: upper bound at most 1 - p is met, lower bound above it is missed. `effect` is how many
    requests carry the information of one independent request about it (`intervals.effect_within`, `effect_beyond`). A limit so
    far away that mean and standard deviation show it (`intervals.percentile_bound_by_moments`) is met too, at `effect_of_all`
    (`intervals.design_effect`), which is None where these may not speak. Too few samples to show the percentile never show that
    it is met.
    """
    state = share_is_met(int((values > limit).sum()), len(values), 1 - percent / 100, confidence, effect)
    if effect_of_all is not None and state == UNDECIDED:
        upper = sides_of(confidence).high
        state = MET if percentile_bound_by_moments(values, percent, upper, effect_of_all) <= limit else UNDECIDED
    return UNDECIDED if state == MET and len(values) < samples_to_show(percent) else state


def share_is_met(count: int, total: int, limit: float, confidence: float | Sides, effect: float = 1.0) -> str:
    """Is a share of requests (failures, or too slow ones) at most the limit, by the bounds of `intervals.share_bounds`:
    `met`, `missed` or `undecided`. Where the confidences of the two bounds differ, `Sides` has both.
    """
    low, high = (share_bounds(count, total, sure, effect)[i] for i, sure in enumerate(sides_of(confidence)))
    if low is None or high is None:
        return UNDECIDED
    return MET if high <= limit + 1e-12 else MISSED if low > limit else UNDECIDED


def with_failures(values: pd.Series, ok: np.ndarray) -> np.ndarray:
    """Values in order of sending, failures as +inf; successes without a value (TPOT of one token) are left out."""
    numbers = np.where(ok, values.to_numpy(dtype=float), np.inf)
    return numbers[~np.isnan(numbers)]


def estimates_within(requests: pd.DataFrame, slo: ServiceLevel) -> bool:
    """Are the error rate and each percentile, as measured, within the SLO, however sure that is?

    `requests` are those of the steady window, `with_latencies`. A latency that no request has misses no limit.
    """
    ok = requests["ok"].to_numpy(dtype=bool)
    if not ok.any() or error_rate(int((~ok).sum()), len(ok)) > slo.error_rate:
        return False
    reached = ((percentile(with_failures(requests[c], ok), slo.percentile), top) for c, top in slo.limits_s().items())
    return all(value is None or value <= top for value, top in reached)


def judged_state(states: Iterable[str], steady: bool | None, client_limited: bool) -> str:
    """The state of a load point from the states of its limits: only one in a steady state can show `met`, and one that
    the client limited shows nothing: `client_limited`.
    """
    if client_limited:
        return CLIENT_LIMITED
    state = all_of(states)
    return UNDECIDED if state == MET and not steady else state


def all_of(states: Iterable[str]) -> str:
    """`missed` if any is missed, else `undecided` if any is undecided, else `met`."""
    states = set(states)
    return MISSED if MISSED in states else UNDECIDED if UNDECIDED in states else MET
