"""The metrics: one function each, with formula, unit and when it is null. Times in seconds, tokens as counts.

t0 is the scheduled send (open loop) or the actual send (closed loop), t1 the first token, tL the last token, n the
output tokens. Only requests of the steady window count, and a request belongs to it by the time of its *send*.
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
from helpers.records import LoadPointFacts

PERCENTS = (50, 90, 95, 99)
LATENCIES = ("latency_s", "ttft_s", "tpot_s")
MET, MISSED, UNDECIDED = "met", "missed", "undecided"

# --- per request --------------------------------------------------------------------------------------------------


def with_latencies(requests: pd.DataFrame) -> pd.DataFrame:
    """Add `ok`, `latency_s`, `ttft_s` and `tpot_s` to request records; null where they cannot be known."""
    t0 = requests["scheduled_ns"].fillna(requests["sent_ns"])
    ok = requests["status"] == "ok"
    return requests.assign(
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
    """Requests per second: successes sent in the steady window / its length."""
    return successes / window_s


def token_throughput(tokens: float, window_s: float) -> float:
    """Tokens per second: tokens of the successes sent in the steady window / its length."""
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


def all_of(states: Iterable[str]) -> str:
    """`missed` if any is missed, else `undecided` if any is undecided, else `met`."""
    states = set(states)
    return MISSED if MISSED in states else UNDECIDED if UNDECIDED in states else MET


# --- one row per load point ---------------------------------------------------------------------------------------


def summarise_load_points(
    requests: pd.DataFrame, facts: list[LoadPointFacts], endpoints: list[EndpointRecord], config: BenchmarkConfig
) -> pd.DataFrame:
    """One row per option x dataset x concurrency, repetitions pooled, in the config's order.

    `endpoints` tell the prices. Columns: identity; n, failures, window_s and rates with 95% intervals (`_low`,
    `_high`); percentiles of latency_s, ttft_s and tpot_s; prices; `slo` (met, missed or undecided) with one column per
    limit. Unknown is null.
    """
    measured = with_latencies(requests)
    usd_per_hour = {record.option: record.usd_per_hour() for record in endpoints}
    rows = []
    for option in config.options:
        for dataset in config.datasets_of(option):
            for concurrency in config.load.concurrency:
                key = (option.name, dataset.name, concurrency)
                sent = measured[
                    (measured["option"] == key[0])
                    & (measured["dataset"] == key[1])
                    & (measured["concurrency"] == key[2])
                ]
                windows = [f for f in facts if (f.option, f.dataset, f.concurrency) == key and f.window_s]
                if windows and (sent["phase"] == "steady").any():
                    rows.append(_summary(sent, windows, usd_per_hour.get(option.name), config))
    return pd.DataFrame(rows)


def _summary(
    sent: pd.DataFrame, windows: list[LoadPointFacts], usd_per_hour: float | None, config: BenchmarkConfig
) -> dict:
    """The row of one load point; `sent` holds its requests of all phases."""
    here = sent[sent["phase"] == "steady"].sort_values(["repetition", "sent_ns"])
    window_s = sum(f.window_s for f in windows)
    ok = here["ok"].to_numpy(dtype=bool)
    row = {
        "option": windows[0].option,
        "dataset": windows[0].dataset,
        "concurrency": windows[0].concurrency,
        "repetitions": len(windows),
        "n": len(here),
        "failures": int((~ok).sum()),
        "window_s": window_s,
        "error_rate": error_rate(int((~ok).sum()), len(here)),
        "achieved_concurrency": sum(_in_flight(sent, f) * f.window_s for f in windows) / window_s,
        "goodput_per_s": goodput(here, config.slo, window_s),
        "prompt_tokens_mean": _mean(here.loc[ok, "prompt_tokens"]),
        "output_tokens_mean": _mean(here.loc[ok, "output_tokens"]),
        "usd_per_hour": usd_per_hour,
    }
    row |= _rates(here, windows, ok, window_s, usd_per_hour)
    row |= _percentiles(here, windows, ok, config)
    return row | _slo(here, ok, config.slo)


def _in_flight(sent: pd.DataFrame, facts: LoadPointFacts) -> float:
    mine = sent[sent["repetition"] == facts.repetition]
    stamps = [mine[column].to_numpy(dtype="int64") / 1e9 for column in ("sent_ns", "done_ns")]
    return achieved_concurrency(*stamps, (facts.window_open_ns / 1e9, facts.window_close_ns / 1e9))


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
        sent_s = here["sent_ns"].to_numpy(dtype="int64")[mine] / 1e9
        amount, duration = batch_rates(amounts[mine], sent_s, facts.window_close_ns / 1e9)
        parts.append(amount)
        durations.append(duration)
    return ratio_interval(np.concatenate(parts), np.concatenate(durations))


def _percentiles(here: pd.DataFrame, windows: list[LoadPointFacts], ok: np.ndarray, config: BenchmarkConfig) -> dict:
    row: dict[str, float | None] = {}
    for column in LATENCIES:
        values = _with_failures(here[column], ok)
        row[f"{column}_n"] = len(values)
        row[f"{column}_mean_ok"] = float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else None
        for percent in sorted({*PERCENTS, config.slo.percentile}):
            enough = len(values) >= samples_to_show(percent)
            row[f"{column}_p{percent:g}"] = percentile(values, percent) if enough else None
        rng = np.random.default_rng([config.seed, *f"{windows[0].load_point}{column}".encode()])
        block = max(windows[0].concurrency, math.ceil(len(values) ** (1 / 3)))
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
    return {**states, "slo": all_of(states.values())}
