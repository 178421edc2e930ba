"""The metrics: one function each, with formula, unit and when it is null. Times in seconds, tokens as counts.

t0 is the scheduled send (open loop) or the actual send (closed loop), t1 the first token, tL the last token, n the
output tokens. Only requests of the steady window count, and a request belongs to it by t0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from helpers.config import BenchmarkConfig, ServiceLevel
from helpers.intervals import (
    NO_INTERVAL,
    Interval,
    batch_rates,
    percentile,
    percentile_interval,
    ratio_interval,
    samples_to_show,
    share_bounds,
)
from helpers.ledger import EndpointRecord
from helpers.records import ArrivalFacts, LoadPointFacts

PERCENTS = (50, 90, 95, 99)
LATENCIES = ("latency_s", "ttft_s", "tpot_s")
MET, MISSED, UNDECIDED = "met", "missed", "undecided"
CLIENT_LIMITED = "client_limited"
"""State of a load point that the client shaped: neither feasible nor infeasible."""

# --- per request --------------------------------------------------------------------------------------------------


def with_latencies(requests: pd.DataFrame) -> pd.DataFrame:
    """Add `t0_ns`, `ok`, `latency_s`, `ttft_s` and `tpot_s` to request records; null where they cannot be known."""
    t0 = requests["scheduled_ns"].fillna(requests["sent_ns"])
    ok = requests["status"] == "ok"
    return requests.assign(
        t0_ns=t0,
        ok=ok,
        latency_s=_seconds(requests["last_token_ns"] - t0).where(ok),
        ttft_s=_seconds(requests["first_token_ns"] - t0).where(ok),
        tpot_s=time_per_output_token(requests).where(ok),
    )


def time_per_output_token(requests: pd.DataFrame) -> pd.Series:
    """TPOT = (tL - t1) / (n - 1), s; null for n < 2 or an answer that was not streamed."""
    span = _seconds(requests["last_token_ns"] - requests["first_token_ns"])
    tokens = requests["output_tokens"].astype("Float64")
    return (span / (tokens - 1)).where(tokens >= 2).astype("float64")


def _seconds(ns: pd.Series) -> pd.Series:
    return (ns.astype("Float64") / 1e9).astype("float64")


# --- rates over the steady window ---------------------------------------------------------------------------------


def request_throughput(successes: int, window_s: float) -> float:
    """Requests per second: successes of the steady window / its length."""
    return successes / window_s


def token_throughput(tokens: float, window_s: float) -> float:
    """Tokens per second: tokens of the successes of the steady window / its length."""
    return tokens / window_s


def achieved_concurrency(sent_s: np.ndarray, done_s: np.ndarray, window_s: tuple[float, float]) -> float:
    """Mean requests in flight: time in flight within the window / its length.

    By Little's law the same as throughput x latency; requests of all phases count for the part that lies in the window.
    """
    opened, closed = window_s
    inside = np.minimum(done_s, closed) - np.maximum(sent_s, opened)
    return float(np.maximum(inside, 0).sum() / (closed - opened))


def error_rate(failures: int, requests: int) -> float | None:
    """Failures / requests; null without requests."""
    return failures / requests if requests else None


def goodput(requests: pd.DataFrame, slo: ServiceLevel, window_s: float) -> float:
    """Requests per second that succeeded and met every latency limit of the SLO.

    A latency that a request does not have (TPOT of a single token) misses no limit.
    """
    good = requests["ok"].to_numpy(dtype=bool, copy=True)
    for column, limit in slo.limits_s().items():
        good &= ~(requests[column] > limit).to_numpy(dtype=bool)
    return good.sum() / window_s


# --- prices -------------------------------------------------------------------------------------------------------


def usd_per_1k_requests(usd_per_hour: float | None, requests_per_s: float) -> float | None:
    """$/h of all instances / (requests/h) x 1000; null without price or throughput."""
    return None if usd_per_hour is None or requests_per_s <= 0 else usd_per_hour / (requests_per_s * 3600) * 1e3


def usd_per_1m_tokens(usd_per_hour: float | None, tokens_per_s: float) -> float | None:
    """$/h of all instances / (tokens/h) x 10^6; null without price or throughput.

    The whole price is put on the tokens counted: on output tokens, on input tokens, or on both together.
    """
    return None if usd_per_hour is None or tokens_per_s <= 0 else usd_per_hour / (tokens_per_s * 3600) * 1e6


# --- the SLO ------------------------------------------------------------------------------------------------------


def limit_is_met(values: np.ndarray, limit: float, percent: float, confidence: float) -> str:
    """Is the percentile of `values` (failures are +inf) below the limit: `met`, `missed` or `undecided`.

    The percentile p is within the limit exactly if the share of requests beyond it is at most 1 - p. The share's exact
    one-sided bounds decide: upper bound at most 1 - p is met, lower bound above it is missed. They take requests for
    independent of each other. Too few samples to show the percentile never show that it is met.
    """
    state = _decide(int((values > limit).sum()), len(values), 1 - percent / 100, confidence)
    return UNDECIDED if state == MET and len(values) < samples_to_show(percent) else state


def error_rate_is_met(failures: int, requests: int, limit: float, confidence: float) -> str:
    """Is the error rate at most the limit: `met`, `missed` or `undecided`."""
    return _decide(failures, requests, limit, confidence)


def _decide(count: int, total: int, limit: float, confidence: float) -> str:
    low, high = share_bounds(count, total, confidence)
    if high is None:
        return UNDECIDED
    return MET if high <= limit + 1e-12 else MISSED if low > limit else UNDECIDED


def estimates_within(requests: pd.DataFrame, slo: ServiceLevel) -> bool:
    """Are the error rate and each percentile, as measured, within the SLO, however sure that is?

    `requests` are those of the steady window, `with_latencies`. A latency that no request has misses no limit.
    """
    ok = requests["ok"].to_numpy(dtype=bool)
    if not ok.any() or error_rate(int((~ok).sum()), len(ok)) > slo.error_rate:
        return False
    reached = ((percentile(_with_failures(requests[c], ok), slo.percentile), top) for c, top in slo.limits_s().items())
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


# --- one row per load point ---------------------------------------------------------------------------------------


def summarise_load_points(
    requests: pd.DataFrame, facts: list[LoadPointFacts], endpoints: list[EndpointRecord], config: BenchmarkConfig
) -> pd.DataFrame:
    """One row per option x dataset x level that was measured, repetitions pooled: options and datasets in the config's
    order, levels ascending.

    `endpoints` tell the prices. Columns: identity, with `level`, `load_kind` and its label `load`; what is known of the
    load (`steady`: of all repetitions; `client_limited`: of any); n, failures, window_s and rates with 95% intervals
    (`_low`, `_high`); percentiles of latency_s, ttft_s and tpot_s; prices; `slo` (met, missed, undecided or
    client_limited) with one column per limit, and `estimates_within_slo` however sure that is. Unknown is null.
    """
    measured = with_latencies(requests)
    usd_per_hour = {record.option: record.usd_per_hour() for record in endpoints}
    rows = []
    for option in config.options:
        for dataset in config.datasets_of(option):
            mine = [f for f in facts if (f.option, f.dataset) == (option.name, dataset.name) and f.window_s]
            sent = measured[(measured["option"] == option.name) & (measured["dataset"] == dataset.name)]
            for level in sorted({f.load for f in mine}):
                windows = [f for f in mine if f.load == level]
                here = sent[sent["level"] == level.value]
                if (here["phase"] == "steady").any():
                    rows.append(_summary(here, windows, usd_per_hour.get(option.name), config))
    return pd.DataFrame(rows)


def _summary(
    sent: pd.DataFrame, windows: list[LoadPointFacts], usd_per_hour: float | None, config: BenchmarkConfig
) -> dict:
    """The row of one load point; `sent` holds its requests of all phases."""
    here = sent[sent["phase"] == "steady"].sort_values(["repetition", "t0_ns"])
    window_s = sum(f.window_s for f in windows)
    ok = here["ok"].to_numpy(dtype=bool)
    row = {
        "option": windows[0].option,
        "dataset": windows[0].dataset,
        "load_kind": windows[0].load_kind,
        "level": float(windows[0].level),
        "load": windows[0].load.label,
        "repetitions": len(windows),
        "steady": None if any(f.steady is None for f in windows) else all(f.steady for f in windows),
        "client_limited": any(f.client_limited for f in windows),
        "n": len(here),
        "failures": int((~ok).sum()),
        "window_s": window_s,
        "error_rate": error_rate(int((~ok).sum()), len(here)),
        "achieved_concurrency": sum(_in_flight(sent, f) * f.window_s for f in windows) / window_s,
        "asked_rate_per_s": _pooled_rate([f.scheduled for f in windows]),
        "achieved_rate_per_s": _pooled_rate([f.achieved for f in windows]),
        "schedule_lag_p99_ms": max((f.schedule_lag_ms["p99"] for f in windows if f.schedule_lag_ms), default=None),
        "goodput_per_s": goodput(here, config.slo, window_s),
        "prompt_tokens_mean": _mean(here.loc[ok, "prompt_tokens"]),
        "output_tokens_mean": _mean(here.loc[ok, "output_tokens"]),
        "usd_per_hour": usd_per_hour,
    }
    row |= _rates(here, windows, ok, window_s, usd_per_hour)
    row |= _percentiles(here, windows, ok, config, _neighbours_alike(row))
    states = _slo(here, ok, config.slo)
    row |= states | {"estimates_within_slo": estimates_within(here, config.slo)}
    return row | {"slo": judged_state(states.values(), row["steady"], row["client_limited"])}


def _in_flight(sent: pd.DataFrame, facts: LoadPointFacts) -> float:
    mine = sent[sent["repetition"] == facts.repetition].dropna(subset=["sent_ns", "done_ns"])
    stamps = [mine[column].to_numpy(dtype="int64") / 1e9 for column in ("sent_ns", "done_ns")]
    return achieved_concurrency(*stamps, (facts.window_open_ns / 1e9, facts.window_close_ns / 1e9))


def _pooled_rate(arrivals: list[ArrivalFacts | None]) -> float | None:
    """Requests per second over all repetitions: Σ gaps / Σ their length; null for a closed loop."""
    if any(a is None or not 0 < a.rate < math.inf for a in arrivals):
        return None
    return sum(a.requests - 1 for a in arrivals) / sum((a.requests - 1) / a.rate for a in arrivals)


def _neighbours_alike(row: dict) -> int:
    """Requests that wait in the same queue, which a bootstrap must not tear apart: those in flight at once."""
    in_flight = row["level"] if row["load_kind"] == "closed_loop" else row["achieved_concurrency"]
    return max(1, round(in_flight))


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None


def _rates(
    here: pd.DataFrame, windows: list[LoadPointFacts], ok: np.ndarray, window_s: float, usd: float | None
) -> dict:
    """Request and token throughput with intervals, and the prices that follow from them."""
    output = np.where(ok, here["output_tokens"].fillna(0).to_numpy(dtype=float), 0.0)
    prompt = np.where(ok, here["prompt_tokens"].fillna(0).to_numpy(dtype=float), 0.0)
    row = {}
    for name, amounts in (("requests", ok.astype(float)), ("output_tokens", output), ("prompt_tokens", prompt)):
        rate = (
            request_throughput(amounts.sum(), window_s)
            if name == "requests"
            else token_throughput(amounts.sum(), window_s)
        )
        low, high = _rate_interval(here, windows, amounts)
        row |= {f"{name}_per_s": rate, f"{name}_per_s_low": low, f"{name}_per_s_high": high}
    row["usd_per_1k_requests"] = usd_per_1k_requests(usd, row["requests_per_s"])
    row["usd_per_1k_requests_low"] = _price(usd_per_1k_requests, usd, row["requests_per_s_high"])
    row["usd_per_1k_requests_high"] = _price(usd_per_1k_requests, usd, row["requests_per_s_low"])
    row["usd_per_1m_output_tokens"] = usd_per_1m_tokens(usd, row["output_tokens_per_s"])
    row["usd_per_1m_output_tokens_low"] = _price(usd_per_1m_tokens, usd, row["output_tokens_per_s_high"])
    row["usd_per_1m_output_tokens_high"] = _price(usd_per_1m_tokens, usd, row["output_tokens_per_s_low"])
    row["usd_per_1m_input_tokens"] = usd_per_1m_tokens(usd, row["prompt_tokens_per_s"])
    row["usd_per_1m_tokens"] = usd_per_1m_tokens(usd, row["prompt_tokens_per_s"] + row["output_tokens_per_s"])
    return row


def _price(formula, usd: float | None, rate: float | None) -> float | None:
    """A price bound from a rate bound; a rate that may be zero has no upper price: +inf."""
    if usd is None or rate is None:
        return None
    return math.inf if rate <= 0 else formula(usd, rate)


def _rate_interval(here: pd.DataFrame, windows: list[LoadPointFacts], amounts: np.ndarray) -> Interval:
    """From the repetitions where there are at least three, else from batches of consecutive requests."""
    repetition = here["repetition"].to_numpy()
    if len(windows) >= 3:
        totals = np.array([amounts[repetition == f.repetition].sum() for f in windows])
        return ratio_interval(totals, np.array([f.window_s for f in windows]))
    parts, durations = [], []
    for facts in windows:
        mine = repetition == facts.repetition
        t0_s = here["t0_ns"].to_numpy(dtype="int64")[mine] / 1e9
        amount, duration = batch_rates(amounts[mine], t0_s, facts.window_close_ns / 1e9)
        parts.append(amount)
        durations.append(duration)
    return ratio_interval(np.concatenate(parts), np.concatenate(durations))


def _percentiles(
    here: pd.DataFrame, windows: list[LoadPointFacts], ok: np.ndarray, config: BenchmarkConfig, alike: int
) -> dict:
    """Percentiles with intervals; `alike`: neighbours that the bootstrap keeps together at least."""
    row: dict[str, float | None] = {}
    for column in LATENCIES:
        values = _with_failures(here[column], ok)
        row[f"{column}_n"] = len(values)
        row[f"{column}_mean_ok"] = float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else None
        for percent in sorted({*PERCENTS, config.slo.percentile}):
            enough = len(values) >= samples_to_show(percent)
            row[f"{column}_p{percent:g}"] = percentile(values, percent) if enough else None
        rng = np.random.default_rng([config.seed, *f"{windows[0].load_point}{column}".encode()])
        block = max(alike, math.ceil(len(values) ** (1 / 3)))
        shown = row[f"{column}_p{config.slo.percentile:g}"] is not None
        low, high = percentile_interval(values, config.slo.percentile, block, rng) if shown else NO_INTERVAL
        row[f"{column}_p{config.slo.percentile:g}_low"], row[f"{column}_p{config.slo.percentile:g}_high"] = low, high
    return row


def _with_failures(values: pd.Series, ok: np.ndarray) -> np.ndarray:
    """Values in order of sending, failures as +inf; successes without a value (TPOT of one token) are left out."""
    numbers = values.to_numpy(dtype=float)
    numbers = np.where(ok, numbers, np.inf)
    return numbers[~np.isnan(numbers)]


def _slo(here: pd.DataFrame, ok: np.ndarray, slo: ServiceLevel) -> dict:
    states = {
        f"slo_{column}": limit_is_met(_with_failures(here[column], ok), limit, slo.percentile, slo.confidence)
        for column, limit in slo.limits_s().items()
    }
    states["slo_error_rate"] = error_rate_is_met(int((~ok).sum()), len(here), slo.error_rate, slo.confidence)
    return states
