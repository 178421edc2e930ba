"""From the request records to one row per load point: option x dataset x load, repetitions pooled.

One load point is read at a time, and of its records only the columns that a metric needs, so memory is bounded by the
largest load point, not by the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import OPEN_LOOPS
from helpers.metrics import formulas as metrics
from helpers.metrics.attempts import end_columns, repetitions_that_count, was_overloaded
from helpers.metrics.chunks import inter_token_percentiles
from helpers.metrics.failure_counts import commonest_failure
from helpers.metrics.formulas import LATENCIES, with_latencies
from helpers.metrics.intervals import NO_INTERVAL, Interval
from helpers.metrics.load_point_latencies import PERCENTS
from helpers.metrics.looks import looks_of, surely
from helpers.metrics.mix import latencies_of
from helpers.metrics.rates import TOKENS, mean_interval, prices_of, rates_of, served_rates
from helpers.metrics.reasoning import reasoning_columns
from helpers.metrics.replicates import replicate_of
from helpers.metrics.room import saturated_rate
from helpers.metrics.token_samples import sample_columns
from helpers.run.ledger import EndpointRecord
from helpers.run.records import PART, SCHEMA, ArrivalFacts, AttemptFacts, nullable, read_requests

COLUMNS = (
    "phase",
    "repetition",
    "prompt_id",
    "part",
    "scheduled_ns",
    "sent_ns",
    "first_token_ns",
    "first_answer_ns",
    "answered",
    "reasoning_tokens",
    "last_token_ns",
    "done_ns",
    "resent",
    "cached_tokens",
    "prompt_tokens",
    "output_tokens",
    "asked_output_tokens",
    "prompt_tokens_source",
    "output_tokens_source",
    "prompt_tokens_by_tokenizer",
    "output_tokens_by_tokenizer",
    "status",
    "http_status",
    "error_type",
    "error",
    "echoed_prompt",
    "turn",
)
"""What is read of the request records."""


@dataclass(frozen=True)
class LoadPoint:
    """What was measured at one load, repetitions pooled."""

    facts: list[AttemptFacts]
    """One for each repetition that has a steady window."""
    requests: pd.DataFrame
    """Its requests of all phases by repetition and t0, with `metrics.with_latencies`."""
    inter_token_s: dict[float, float] | None
    """Percent -> inter-token latency; None where tokens per chunk are unknown."""

    @cached_property
    def steady(self) -> pd.DataFrame:
        """The requests that count."""
        return self.requests[self.requests["phase"] == "steady"]


def read_load_points(requests_dir: Path, facts: list[AttemptFacts], config: BenchmarkConfig) -> Iterator[LoadPoint]:
    """Every load point that has requests in a steady window: options and datasets in the config's order, levels ascending.

    A repetition that could not be judged, and in whose place another was measured, does not count. An attempt of which
    nothing was answered has no steady state to wait for: all of it is its window.
    """
    facts = [_as_window(f, requests_dir) for f in facts]
    repetitions = 1 if looks_of(config) else config.attempts_per_load_point
    for option in config.options:
        for dataset in config.datasets_of(option):
            mine = [f for f in facts if (f.option, f.dataset) == (option.name, dataset.name) and f.window_s]
            for load in sorted({f.load for f in mine}):
                here = [f for f in mine if f.load == load]
                parts = config.parts_that_must_meet(dataset.name)
                point = _read_load_point(requests_dir, repetitions_that_count(here, repetitions), parts)
                if len(point.steady):
                    yield point


def _as_window(facts: AttemptFacts, requests_dir: Path) -> AttemptFacts:
    """The facts, with a window from the first send to the last failure where nothing was answered at all."""
    if facts.window_s:
        return facts
    requests = read_requests(requests_dir, ["status", "sent_ns", "done_ns"], [facts.load_point])
    if requests.empty or (requests["status"] == "ok").any() or requests["sent_ns"].isna().all():
        return facts
    first, last = int(requests["sent_ns"].min()), int(requests["done_ns"].max())
    return replace(facts, window_open_ns=first, window_close_ns=max(last, first + 1), steady=False)


def _read_load_point(requests_dir: Path, facts: list[AttemptFacts], parts: list[str]) -> LoadPoint:
    names = [f.load_point for f in facts]
    requests = with_latencies(read_requests(requests_dir, list(COLUMNS), names))
    requests = requests.sort_values(["repetition", "t0_ns"], ignore_index=True)
    if not requests["ok"].any():
        requests["phase"] = "steady"
    requests[PART] = pd.Categorical(requests[PART], parts)  # those without a request among them
    files = [requests_dir / f"{name}.parquet" for name in names]
    return LoadPoint(facts, requests, inter_token_percentiles(files, PERCENTS))


def no_load_points(config: BenchmarkConfig) -> pd.DataFrame:
    """The table of a run in which nothing was measured: the columns of `summarise`, and no row."""
    unknown = dict.fromkeys(field.name for field in fields(AttemptFacts))
    known = {"load_kind": "closed_loop", "level": 1.0, "repetition": 1, "client_limited": []}
    facts = AttemptFacts(**{**unknown, **known, "window_open_ns": 0, "window_close_ns": 1})
    row = {"phase": "steady", "repetition": 1, "sent_ns": 0, "done_ns": 1, "status": "connection"}
    records = pa.Table.from_pylist([row], SCHEMA).select(list(COLUMNS)).to_pandas(types_mapper=nullable)
    return pd.DataFrame([summarise(LoadPoint([facts], with_latencies(records), None), None, config)]).iloc[:0]


def summarise(point: LoadPoint, endpoint: EndpointRecord | None, config: BenchmarkConfig) -> dict:
    """The row of one load point; `endpoint` has the price.

    Columns: identity, with `level`, `load_kind` and its label `load`; what is known of the load (`steady`: of all
    repetitions; `client_limited`: of any); who counted tokens, with the sample (`token_samples.sample_columns`); n, failures,
    window_s and rates with 95% intervals (`_low`, `_high`); percentiles of latency_s, ttft_s, ttfa_s, tpot_s and itl_s; prices;
    `failure_effect` (`intervals.design_effect` of failures), and over how many load points they are pooled
    (`pooled_failures`); `shows_room` of an open loop, and what an overloaded one answered per second (`room`); `slo` (met,
    missed, undecided or client_limited) with one column per limit, and `estimates_within_slo` however sure that is: see
    `LoadPointLatencies.slo_columns`; of a mix, `part_<latency>` too (`metrics.mix`). Unknown is None; `asked_hit_rate` and
    `sent_hit_rate` are for the caller to fill.
    """
    windows, here = point.facts, point.steady
    window_s = sum(f.window_s for f in windows)
    ok = here["ok"].to_numpy(dtype=bool)
    failures, n = int((~ok).sum()), len(here)
    row = {
        "option": windows[0].option,
        "dataset": windows[0].dataset,
        "load_kind": windows[0].load_kind,
        "level": float(windows[0].level),
        "load": windows[0].load.label,
        "repetitions": len(windows),
        "steady": None if any(f.steady is None for f in windows) else all(f.steady for f in windows),
        "not_steady": "; ".join(dict.fromkeys(f.steady_because for f in windows if f.steady is False)) or None,
        **end_columns(windows),
        "client_limited": any(f.client_limited for f in windows),
        "n": n,
        "failures": failures,
        "window_s": window_s,
        "error_rate": metrics.error_rate(failures, n),
        "commonest_failure": commonest_failure(here[~ok]),
        "achieved_concurrency": sum(_in_flight(point.requests, f) * f.window_s for f in windows) / window_s,
        "asked_rate_per_s": _pooled_rate([f.scheduled for f in windows]),
        "achieved_rate_per_s": _pooled_rate([f.achieved for f in windows]),
        "schedule_lag_p99_ms": max((f.schedule_lag_ms["p99"] for f in windows if f.schedule_lag_ms), default=None),
        "asked_hit_rate": None,
        "sent_hit_rate": None,
        "found_hit_rate": found_hit_rate(here[ok]),
        "cached_tokens_mean": _mean(here.loc[ok, "cached_tokens"].fillna(0)),
        "prompt_tokens_mean": _mean(here.loc[ok, "prompt_tokens"]),
        "prompt_tokens_sd": _sd(here.loc[ok, "prompt_tokens"]),
        "output_tokens_mean": _mean(here.loc[ok, "output_tokens"]),
        "output_tokens_sd": _sd(here.loc[ok, "output_tokens"]),
        "usd_per_hour": endpoint and endpoint.usd_per_option_hour(),
    }
    if config.endpoints.replicates > 1:
        row["endpoints"] = len({replicate_of(f, config) for f in windows})
    row |= reasoning_columns(here[ok]) | sample_columns(point.requests)
    latencies = latencies_of(here, is_open=row["load_kind"] in OPEN_LOOPS, sure=surely(config))
    row["error_rate_low"], row["error_rate_high"] = latencies.error_rate_interval()
    saturated = _saturated(point) if row["overloaded"] and row["load_kind"] == "open_loop" else NO_INTERVAL
    row |= {"saturated_per_s_low": saturated.low, "saturated_per_s_high": saturated.high, "shows_room": None}
    row |= {"failure_effect": latencies.failure_effect, "failures_pooled_over": 1}
    row |= rates_of(point, window_s, _streams(row), config)
    row |= served_rates(row, {name: mean_interval(here.loc[ok, name], config) for name in TOKENS})
    row |= prices_of(row, endpoint and endpoint.price)
    for column in LATENCIES:
        row |= latencies.percentiles(column, config.slo.percentile)
    row |= {f"itl_s_p{p:g}": None if point.inter_token_s is None else point.inter_token_s[p] for p in PERCENTS}
    return row | latencies.slo_columns(config.slo, row["steady"], row["client_limited"])


def _in_flight(sent: pd.DataFrame, facts: AttemptFacts) -> float:
    mine = sent[sent["repetition"] == facts.repetition].dropna(subset=["sent_ns", "done_ns"])
    stamps = [mine[column].to_numpy(dtype="int64") / 1e9 for column in ("sent_ns", "done_ns")]
    return metrics.achieved_concurrency(*stamps, (facts.window_open_ns / 1e9, facts.window_close_ns / 1e9))


def _saturated(point: LoadPoint) -> Interval:
    facts = next(f for f in point.facts if was_overloaded(f))
    mine = point.requests[point.requests["repetition"] == facts.repetition]
    return saturated_rate(mine, facts.window_open_ns, facts.window_close_ns)


def _pooled_rate(arrivals: list[ArrivalFacts | None]) -> float | None:
    """Requests per second over all repetitions: Σ gaps / Σ their length; None for a closed loop."""
    if any(a is None or not 0 < a.rate < math.inf for a in arrivals):
        return None
    return sum(a.requests - 1 for a in arrivals) / sum((a.requests - 1) / a.rate for a in arrivals)


def found_hit_rate(answers: pd.DataFrame) -> float | None:
    """Share of the prompt tokens that the server found in a prefix cache: Σ cached ÷ Σ prompt tokens. Servers that report it may
    leave it out where they found nothing; None where no answer has it.
    """
    known = answers.dropna(subset=["prompt_tokens"])
    if known["cached_tokens"].isna().all() or not known["prompt_tokens"].sum():
        return None
    return float(known["cached_tokens"].fillna(0).sum() / known["prompt_tokens"].sum())


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None


def _sd(values: pd.Series) -> float | None:
    return float(values.std()) if values.notna().sum() > 1 else None


def _streams(row: dict) -> int:
    """Requests in flight at once: they wait in the same queue."""
    in_flight = row["level"] if row["load_kind"] == "closed_loop" else row["achieved_concurrency"]
    return max(1, round(in_flight))
