"""A small config and the request records, facts and load points of runs that never happened."""

import copy
import math

import pandas as pd

from helpers.config import BenchmarkConfig
from helpers.ledger import EndpointRecord
from helpers.records import SCHEMA, LoadPointFacts

SECOND_NS = 1_000_000_000

CONFIG = {
    "name": "test",
    "model": {"name": "m", "tokenizer": "synthetic:2m", "context_tokens": 4096},
    "prompts": {"source": {"kind": "python_reference"}},
    "datasets": [{"name": "short", "prompt_tokens": [1, 500], "count": 200}],
    "generation": {"max_output_tokens": 24},
    "options": [{"name": "a", "target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}],
    "load": {"concurrency": [1], "min_requests": 1, "repeat_prompts": True},
    "slo": {"percentile": 95, "latency_s": 1, "error_rate": 0.05},
    "traffic": {"requests_per_minute": 600},
}


def config_data(options=("a",), datasets=("short",), **sections):
    """The content of a config file; sections are merged into the small one."""
    data = copy.deepcopy(CONFIG)
    data["options"] = [{**CONFIG["options"][0], "name": name} if isinstance(name, str) else name for name in options]
    data["datasets"] = [
        {**CONFIG["datasets"][0], **({"name": changes} if isinstance(changes, str) else changes)}
        for changes in datasets
    ]
    for name, section in sections.items():
        data[name] = {**data[name], **section} if isinstance(data.get(name), dict) else section
    return data


def make_config(*args, **kwargs):
    return BenchmarkConfig.model_validate(config_data(*args, **kwargs))


def option(name, **changes):
    return {**CONFIG["options"][0], "name": name, **changes}


def requests_table(rows):
    """Request records in the types in which they are read from a run folder; what a row lacks is null."""
    integers = {"int64": "Int64", "int32": "Int32"}
    columns = {}
    for field in SCHEMA:
        if field.name in ("chunk_ns", "chunk_tokens"):
            continue
        kind = integers.get(str(field.type), "boolean" if str(field.type) == "bool" else "str")
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
        "concurrency": 1,
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


def facts(open_s=0.0, close_s=10.0, **changes):
    known = {
        "option": "a",
        "dataset": "short",
        "load_point": "a__short__c1__r0",
        "concurrency": 1,
        "repetition": 0,
        "window_open_ns": round(open_s * SECOND_NS),
        "window_close_ns": round(close_s * SECOND_NS),
        "ended_because": "enough requests",
        "asked_output_tokens": 24,
        "fixed_output_length": True,
        "loop_lag_ms": {"p50": 0.1, "p99": 0.5, "max": 2.0},
        "load_process_cpu_share": 0.1,
        "clock_pairs": [(0, 0)],
    }
    return LoadPointFacts(**{**known, **changes})


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
    option="a", dataset="short", concurrency=1, *, rate=10.0, usd_per_hour=3.6, slo="met", spread=0.1, **changes
):
    """A row of the load-point table; each interval reaches `spread` of the rate to either side."""
    row = {
        "option": option,
        "dataset": dataset,
        "concurrency": concurrency,
        "repetitions": 1,
        "n": 200,
        "failures": 0,
        "error_rate": 0.0,
        "achieved_concurrency": float(concurrency),
        "usd_per_hour": usd_per_hour,
        "slo": slo,
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
