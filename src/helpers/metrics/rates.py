"""What a load point serves per second, with intervals, and what that costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics import formulas as metrics
from helpers.metrics.intervals import (
    CONFIDENCE,
    NO_INTERVAL,
    Interval,
    Sides,
    rate_interval,
    ratio_interval,
    share_bounds,
)
from helpers.metrics.looks import looks_of, surely
from helpers.metrics.replicates import replicate_of, replicates_interval
from helpers.price import Price
from helpers.run.records import AttemptFacts

if TYPE_CHECKING:
    from helpers.metrics.summary import LoadPoint

TOKENS = ("output_tokens", "prompt_tokens")
BOUNDS = ("", "_low", "_high")
STALL = 3.0
"""A failure that took this many times as long as the mean request is a stall."""


def rates_of(point: LoadPoint, window_s: float, streams: int, config: BenchmarkConfig) -> dict:
    """Throughput of requests and tokens, and goodput, with intervals: amounts of the successes of the steady window ÷ its length.

    `streams`: requests in flight at once. `stalls`: failures of a closed loop that took as long as many answers.
    """
    here = point.steady
    ok = here["ok"].to_numpy(dtype=bool)
    sides = surely(config).of_rate(CONFIDENCE, len(here))
    amounts = {
        "requests": ok.astype(float),
        "goodput": metrics.within_slo(here, config.slo).astype(float),
        **{name: np.where(ok, here[name].fillna(0).to_numpy(dtype=float), 0.0) for name in TOKENS},
    }
    row, repetitions = {"stalls": None}, _repetitions_of(point, config)
    is_closed, mean_s = point.facts[0].load_kind == "closed_loop", window_s * streams / len(here)
    if is_closed:
        stalls_s = _stalls_s(here, ok, mean_s)
        row["stalls"] = len(stalls_s)
    for name, amount in amounts.items():
        rate, interval = float(amount.sum()) / window_s, _rate_interval(repetitions, amount, sides, config)
        if is_closed:
            interval = _with_rare_stalls(interval, rate, stalls_s, len(here), mean_s, sides)
        row |= {f"{name}_per_s{bound}": value for bound, value in zip(BOUNDS, (rate, *interval), strict=True)}
    return row


class _Repetition(NamedTuple):
    mine: np.ndarray
    """Which requests of the steady window are its own."""
    durations: np.ndarray
    """Their shares of its window, in s."""
    replicate: int


def _repetitions_of(point: LoadPoint, config: BenchmarkConfig) -> list[_Repetition]:
    """Those that have requests in the steady window."""
    here, found = point.steady[["repetition", "t0_ns", "done_ns"]], []
    for facts in point.facts:
        mine = (here["repetition"] == facts.repetition).to_numpy()
        if mine.any():
            found.append(_Repetition(mine, _shares_of_window_s(here[mine], facts), replicate_of(facts, config)))
    return found


def _rate_interval(
    repetitions: list[_Repetition], amounts: np.ndarray, sides: Sides, config: BenchmarkConfig
) -> Interval:
    """From the endpoints where there are replicates, from the repetitions where there are at least three, else, as always in a
    race, from single requests: its blocks differ in length.

    A request takes its share of the window: in a closed loop as much of it as the request lasts, since a stream sends the next
    one when the last has ended; in an open loop up to the next send.
    """
    parts = [amounts[repetition.mine] for repetition in repetitions]
    durations = [repetition.durations for repetition in repetitions]
    if config.endpoints.replicates > 1:
        within = rate_interval(parts, durations, sides, independent=False)
        return replicates_interval(parts, durations, [r.replicate for r in repetitions], within, sides)
    if len(parts) >= 3 and looks_of(config) is None:
        totals = [np.array([part.sum() for part in of_it]) for of_it in (parts, durations)]
        return ratio_interval(*totals, sides)
    return rate_interval(parts, durations, sides, independent=False)


def _shares_of_window_s(requests: pd.DataFrame, facts: AttemptFacts) -> np.ndarray:
    """Durations, in s, that add up to the window."""
    t0_ns = requests["t0_ns"].to_numpy(dtype="int64")
    if facts.load_kind != "closed_loop":
        return np.diff(np.append(t0_ns, facts.window_close_ns)) / 1e9
    done_ns = requests["done_ns"].astype("Float64").to_numpy(dtype=float, na_value=float(facts.window_close_ns))
    lasted = np.maximum(done_ns - t0_ns, 0.0)
    return lasted * (facts.window_s / lasted.sum()) if lasted.sum() > 0 else lasted


def _with_rare_stalls(
    interval: Interval, rate: float, stalls_s: np.ndarray, n: int, mean_s: float, sides: Sides
) -> Interval:
    """The interval of a closed loop's rate, widened where few failures took much of the time.

    A time-out blocks its stream as long as many answers take, and whether a window holds one of them or three is
    chance that batches do not show. The exact bounds of their share give the time that they may take in the long run;
    distances to the bounds add as squares.
    """
    count = len(stalls_s)
    if interval.low is None or count == 0 or count == n:
        return interval
    each_s = float(stalls_s.mean())
    few, many = share_bounds(count, n, sides.high).low, share_bounds(count, n, sides.low).high
    slowest, fastest = (mean_s / (mean_s + (share - count / n) * each_s) for share in (many, few))
    fastest = fastest if fastest > 0 else math.inf
    return Interval(
        max(0.0, rate - math.hypot(rate - interval.low, rate * (1 - slowest))),
        rate + math.hypot(interval.high - rate, rate * (fastest - 1)),
    )


def _stalls_s(here: pd.DataFrame, ok: np.ndarray, mean_s: float) -> np.ndarray:
    """How long each of the stalls took, where the mean request takes `mean_s`."""
    taken_s = (here["done_ns"] - here["sent_ns"]).astype("Float64").to_numpy(dtype=float, na_value=np.nan) / 1e9
    return taken_s[~ok & (taken_s > STALL * mean_s)]


def served_rates(row: dict, per_answer: dict[str, Interval]) -> dict:
    """What the option serves at this load, per second: price and capacity follow from it.

    A closed loop serves what was measured. An open loop in a steady state serves what is offered, less what fails: the
    offered rate is ours, so by how much a draw of arrivals happened to differ from it is no uncertainty of the option.
    `per_answer` holds the intervals of the mean tokens of an answer.
    """
    served = {}
    for name in ("requests", *TOKENS):
        measured = [row[f"{name}_per_s{bound}"] for bound in BOUNDS]
        if row["load_kind"] == "open_loop" and row["steady"] and row["requests_per_s"]:
            mean = row[f"{name}_per_s"] / row["requests_per_s"]
            low, high = per_answer.get(name, NO_INTERVAL)
            shares = [1 - row["error_rate"], 1 - row["error_rate_high"], 1 - row["error_rate_low"]]
            means = [mean, mean if low is None else low, mean if high is None else high]
            measured = [row["level"] * each * share for each, share in zip(means, shares, strict=True)]
        for bound, value in zip(BOUNDS, measured, strict=True):
            served[f"served_{name}_per_s{bound}"] = value
    return served


def mean_interval(values: pd.Series, config: BenchmarkConfig) -> Interval:
    """Interval of the mean of the known values, which are in order of sending."""
    known = values.dropna().to_numpy(dtype=float)
    sides = surely(config).of_rate(CONFIDENCE, len(known))
    return rate_interval([known], [np.ones(len(known))], sides, independent=False)


def prices_of(row: dict, price: Price | None) -> dict:
    """Prices of requests and tokens: from the rate served at `usd_per_hour` (of all instances), or from a price per token.

    The upper bound of a price follows from the lower bound of the rate.
    """
    if price is not None and price.is_per_token:
        return _token_prices(row, price)
    usd, output, prompt = (row[name] for name in ("usd_per_hour", *(f"served_{tokens}_per_s" for tokens in TOKENS)))
    prices = {
        "usd_per_1m_input_tokens": metrics.usd_per_1m_tokens(usd, prompt),
        "usd_per_1m_tokens": metrics.usd_per_1m_tokens(usd, prompt + output),
    }
    for name, formula, rate in (
        ("usd_per_1k_requests", metrics.usd_per_1k_requests, "served_requests_per_s"),
        ("usd_per_1m_output_tokens", metrics.usd_per_1m_tokens, "served_output_tokens_per_s"),
    ):
        prices[name] = formula(usd, row[rate])
        known = prices[name] is not None
        prices[f"{name}_low"] = _price_bound(formula, usd, row[f"{rate}_high"]) if known else None
        prices[f"{name}_high"] = _price_bound(formula, usd, row[f"{rate}_low"]) if known else None
    return prices


def _token_prices(row: dict, price: Price) -> dict:
    """A request that is billed by the token costs the same at every load. Only the tokens of a mean request are uncertain,
    and every option gets the same prompts and the same requested output length.
    """
    cached = row.get("cached_tokens_mean") or 0.0
    per_request = price.usd_of_tokens(row["prompt_tokens_mean"], row["output_tokens_mean"], cached)
    prices = {"usd_per_1k_requests": per_request and per_request * 1e3}
    for name, tokens in (
        ("usd_per_1m_output_tokens", row["output_tokens_mean"]),
        ("usd_per_1m_input_tokens", row["prompt_tokens_mean"]),
        ("usd_per_1m_tokens", (row["prompt_tokens_mean"] or 0) + (row["output_tokens_mean"] or 0)),
    ):
        prices[name] = per_request / tokens * 1e6 if per_request is not None and tokens else None
    for name in ("usd_per_1k_requests", "usd_per_1m_output_tokens"):
        prices[f"{name}_low"] = prices[f"{name}_high"] = prices[name]
    return prices


def _price_bound(formula, usd: float | None, rate: float | None) -> float | None:
    """A price bound from a rate bound; a rate that may be zero has no upper price: +inf."""
    if usd is None or rate is None:
        return None
    return math.inf if rate <= 0 else formula(usd, rate)
