"""A small config and the request records, facts and load points of runs that never happened."""

import copy
import math

import pandas as pd

from helpers.config import BenchmarkConfig
from helpers.ledger import EndpointRecord
from helpers.load_config import LoadLevel
from helpers.records import SCHEMA, ArrivalFacts, LoadPointFacts, LoadProcessFacts

SECOND_NS = 1_000_000_000

CONFIG = {
    "name": "test",
    "model": {"name": "m", "tokenizer": "synthetic:2m", "context_tokens": 4096},
    "prompts": {"source": {"kind": "python_reference"}},
    "datasets": [{"name": "short", "prompt_tokens": [1, 500], "count": 200}],
    "generation": {"max_output_tokens": 24},
    "options": [{"name": "a", "target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}],
    "load": {"kind": "closed_loop", "concurrency": [1], "min_requests": 1, "repeat_prompts": True},
    "slo": {"percentile": 95, "latency_s": 1, "error_rate": 0.05},
    "traffic": {"requests_per_minute": 600},
}


def config_data(options=("a",), datasets=("short",), **sections):
    """The content of a config file; sections are merged into the small one, but for a load of another kind."""
    data = copy.deepcopy(CONFIG)
    data["options"] = [{**CONFIG["options"][0], "name": name} if isinstance(name, str) else name for name in options]
    data["datasets"] = [
        {**CONFIG["datasets"][0], **({"name": changes} if isinstance(changes, str) else changes)}
        for changes in datasets
    ]
    if sections.get("load", {}).get("kind", "closed_loop") != "closed_loop":
        del data["load"]["concurrency"]
    for name, section in sections.items():
        data[name] = {**data[name], **section} if isinstance(data.get(name), dict) else section
    return data


def make_config(*args, **kwargs):
    return BenchmarkConfig.model_validate(config_data(*args, **kwargs))


def option(name, **changes):
    return {**CONFIG["options"][0], "name": name, **changes}


def requests_table(rows):
    """Request records in the types in which they are read from a run folder; what a row lacks is null."""
    numbers = {"int64": "Int64", "int32": "Int32", "double": "float64"}
    columns = {}
    for field in SCHEMA:
        if field.name in ("chunk_ns", "chunk_tokens"):
            continue
        kind = numbers.get(str(field.type), "boolean" if str(field.type) == "bool" else "str")
        columns[field.name] = pd.array([row.get(field.name) for row in rows], dtype=kind)
    return pd.DataFrame(columns)


def request(sent_s, latency_s=None, ttft_s=None, **changes):
    """A request sent at `sent_s`; without a latency it failed one second later."""
    ns = {"sent_ns": sent_s, "done_ns": sent_s + 1 if latency_s is None else sent_s + latency_s}
    if latency_s is not None:
        ns |= {
            "last_token_ns": sent_s + latency_s,
            "first_token_ns": sent_s + (latency_s if ttft_s is None else ttft_s),
        }
    row = {
        "option": "a",
        "dataset": "short",
        "load_point": "a__short__c1__r0",
        "level": 1.0,
        "repetition": 0,
        "phase": "steady",
        "prompt_tokens": 100,
        "output_tokens": 24,
        "prompt_tokens_source": "server",
        "output_tokens_source": "server",
        "status": "ok" if latency_s is not None else "timeout",
        "echoed_prompt": False,
    }
    return {**row, **{name: round(value * SECOND_NS) for name, value in ns.items()}, **changes}


def process(load_process=0, p99=0.5, cpu_share=0.1):
    return LoadProcessFacts(load_process, 100, 10, 1.0, cpu_share, 0.1, {"p50": 0.1, "p99": p99, "max": 2.0}, 80.0)


def arrivals(rate=10.0, requests=101, gap_cv=1.0, dispersion=1.0, autocorrelation=0.0):
    return ArrivalFacts(requests, rate, gap_cv, dispersion, autocorrelation)


def facts(open_s=0.0, close_s=10.0, **changes):
    known = {
        "option": "a",
        "dataset": "short",
        "load_point": "a__short__c1__r0",
        "load_kind": "closed_loop",
        "level": 1.0,
        "repetition": 0,
        "window_open_ns": round(open_s * SECOND_NS),
        "window_close_ns": round(close_s * SECOND_NS),
        "ended_because": "enough requests",
        "steady": True,
        "steady_because": "drift +0.1%",
        "asked_output_tokens": 24,
        "fixed_output_length": True,
        "processes": [process()],
        "scheduled": None,
        "achieved": None,
        "schedule_lag_ms": None,
        "turnaround_ms": {"p50": 0.01, "p99": 0.05, "max": 0.2},
        "connect_ms": {"n": 1, "p50": 0.3, "p99": 0.3, "max": 0.3},
        "tls_ms": None,
        "clock_source": "kernel",
        "client_limited": [],
        "clock_pairs": [(0, 0)],
    }
    return LoadPointFacts(**{**known, **changes})


def open_facts(rate=10.0, open_s=0.0, close_s=10.0, **changes):
    """Of an open loop that kept its schedule."""
    known = {
        "load_kind": "open_loop",
        "level": rate,
        "load_point": f"a__short__rate{rate:g}__r0",
        "scheduled": arrivals(rate),
        "achieved": arrivals(rate),
        "schedule_lag_ms": {"p50": 0.05, "p99": 0.4, "max": 1.5},
        "turnaround_ms": None,
    }
    return facts(open_s, close_s, **{**known, **changes})


def endpoint(name="a", usd_per_hour=3.6, **changes):
    known = {
        "target": "openai",
        "state": "external",
        "endpoint_name": name,
        "instance_type": "self-hosted",
        "instance_count": 1,
        "usd_per_instance_hour": usd_per_hour,
    }
    return EndpointRecord(option=name, **{**known, **changes})


def load_point(
    option="a",
    dataset="short",
    level=1.0,
    *,
    kind="closed_loop",
    rate=10.0,
    usd_per_hour=3.6,
    slo="met",
    spread=0.1,
    **changes,
):
    """A row of the load-point table; each interval reaches `spread` of the rate to either side."""
    row = {
        "option": option,
        "dataset": dataset,
        "load_kind": kind,
        "level": float(level),
        "load": LoadLevel(kind, level).label,
        "repetitions": 1,
        "steady": True,
        "client_limited": slo == "client_limited",
        "n": 200,
        "failures": 0,
        "error_rate": 0.0,
        "achieved_concurrency": float(level),
        "asked_rate_per_s": None if kind == "closed_loop" else float(level),
        "achieved_rate_per_s": None if kind == "closed_loop" else float(level),
        "schedule_lag_p99_ms": None if kind == "closed_loop" else 0.4,
        "usd_per_hour": usd_per_hour,
        "slo": slo,
        "estimates_within_slo": slo != "missed",
        "output_tokens_mean": 24.0,
        "prompt_tokens_mean": 100.0,
        "latency_s_p95": 0.5,
        "latency_s_p95_low": 0.4,
        "latency_s_p95_high": 0.6,
    } | changes
    low, high = rate * (1 - spread), rate * (1 + spread)
    row |= {"requests_per_s": rate, "requests_per_s_low": low, "requests_per_s_high": high}
    for name, per in (("usd_per_1k_requests", 1e3), ("usd_per_1m_output_tokens", 1e6 / row["output_tokens_mean"])):
        for suffix, divisor in (("", rate), ("_low", high), ("_high", low)):
            price = math.inf if divisor == 0 else None if usd_per_hour is None else usd_per_hour / 3600 / divisor * per
            row[name + suffix] = price
    return row
