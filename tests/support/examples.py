"""A small config and the request records, facts and load points of runs that never happened."""

import copy
import math
from pathlib import Path

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.metrics.pooled_failures import judge_across_loads
from helpers.metrics.reasoning import NO_REASONING
from helpers.metrics.summary import read_load_points, summarise
from helpers.price import Price
from helpers.run.ledger import EndpointRecord
from helpers.run.records import SCHEMA, ArrivalFacts, Attempt, AttemptFacts, LoadProcessFacts, write_requests

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
            "first_answer_ns": sent_s + (latency_s if ttft_s is None else ttft_s),
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
        "answered": True if latency_s is not None else None,
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
    known |= changes
    level = LoadLevel(known["load_kind"], known["level"])
    here = {"load_point": Attempt(known["option"], known["dataset"], level, known["repetition"]).id}
    return AttemptFacts(**here | known)


def open_facts(rate=10.0, open_s=0.0, close_s=10.0, **changes):
    """Of an open loop that kept its schedule."""
    known = {
        "load_kind": "open_loop",
        "level": rate,
        "scheduled": arrivals(rate),
        "achieved": arrivals(rate),
        "schedule_lag_ms": {"p50": 0.05, "p99": 0.4, "max": 1.5},
        "turnaround_ms": None,
    }
    return facts(open_s, close_s, **{**known, **changes})


def write_run(folder: Path, rows: list[dict], windows: list[AttemptFacts]) -> Path:
    """Write request records as load points leave them: a file for each of the facts, with the rows of its option, dataset,
    level and repetition.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = ("option", "dataset", "level", "repetition")
    for of_it in windows:
        mine = [row for row in rows if all(row[name] == getattr(of_it, name) for name in identity)]
        named = [{"request_id": f"q{i}"} | row | {"load_point": of_it.load_point} for i, row in enumerate(mine)]
        write_requests(folder / f"{of_it.load_point}.parquet", named, of_it)
    return folder


def summarise_load_points(
    requests_dir: Path, facts: list[AttemptFacts], endpoints: list[EndpointRecord], config: BenchmarkConfig
) -> pd.DataFrame:
    """One row per load point of a folder of request records."""
    known = {record.option: record for record in endpoints}
    points = read_load_points(requests_dir, facts, config)
    rows = [summarise(point, known.get(point.facts[0].option), config) for point in points]
    return judge_across_loads(pd.DataFrame(rows), config)


def token_price(prompt, output, **changes):
    return Price(name="per token", usd_per_1m_input_tokens=prompt, usd_per_1m_output_tokens=output, **changes)


def endpoint(name="a", usd_per_instance_hour=3.6, **changes):
    known = {
        "target": "openai",
        "state": "external",
        "endpoint_name": name,
        "instance_type": "self-hosted",
        "instance_count": 1,
        "price": None if usd_per_instance_hour is None else Price(usd_per_instance_hour=usd_per_instance_hour),
    }
    return EndpointRecord(option=name, **{**known, **changes})


SAMPLES = [f"{name}_tokens_sampled{end}" for name in ("prompt", "output") for end in ("", "_server", "_tokenizer")]


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
    """A row of the load-point table, with every column of `summary.summarise`; each interval of a rate reaches `spread` of
    it to either side, and prices follow from the rate. `changes` set single columns.
    """
    scheduled = kind != "closed_loop"
    row = {
        "option": option,
        "dataset": dataset,
        "load_kind": kind,
        "level": float(level),
        "load": LoadLevel(kind, level).label,
        "repetitions": 1,
        "steady": True,
        "not_steady": None,
        "ended_because": "enough requests",
        "overloaded": False,
        "prompts_ran_out": False,
        "client_limited": slo == "client_limited",
        "n": 200,
        "failures": 0,
        "window_s": 200 / rate if rate else 200.0,
        "error_rate": 0.0,
        "commonest_failure": None,
        "error_rate_low": 0.0,
        "error_rate_high": 0.018,
        "failure_effect": 1.0,
        "failures_pooled_over": 1,
        "saturated_per_s_low": None,
        "saturated_per_s_high": None,
        "shows_room": True if kind == "open_loop" else None,
        "achieved_concurrency": float(level),
        "asked_rate_per_s": float(level) if scheduled else None,
        "achieved_rate_per_s": float(level) if scheduled else None,
        "schedule_lag_p99_ms": 0.4 if scheduled else None,
        "asked_hit_rate": None,
        "sent_hit_rate": None,
        "found_hit_rate": None,
        "cached_tokens_mean": 0.0,
        "prompt_tokens_mean": 100.0,
        "prompt_tokens_sd": 10.0,
        "output_tokens_mean": 24.0,
        "output_tokens_sd": 0.0,
        "usd_per_hour": usd_per_hour,
        "prompt_tokens_source": "server",
        "output_tokens_source": "server",
        **NO_REASONING,
        **dict.fromkeys(SAMPLES, 0),
        "stalls": None if kind == "open_loop" else 0,
        "slo": slo,
        "slo_latency_s": slo,
        "slo_error_rate": "met",
        "beyond_latency_s": {"met": 3, "missed": 40}.get(slo, 8),
        "limit_effect_latency_s": 1.0,
        "lacking_latency_s": 40 if slo == "undecided" else 0,
        "lacking_error_rate": 0,
        "estimates_within_slo": slo != "missed",
    }
    for column, scale in (("latency_s", 1.0), ("ttft_s", 0.2), ("ttfa_s", 0.2), ("tpot_s", 0.02)):
        row |= {f"{column}_n": 200, f"{column}_effective_n": 200.0, f"{column}_mean_ok": 0.35 * scale}
        row |= {f"{column}_p50": 0.3 * scale, f"{column}_p90": 0.45 * scale, f"{column}_p95": 0.5 * scale}
        row |= {f"{column}_p99": 0.55 * scale}
        row |= {f"{column}_p95_low": 0.4 * scale, f"{column}_p95_high": 0.6 * scale}
    row |= {"itl_s_p50": 0.006, "itl_s_p90": 0.009, "itl_s_p95": 0.01, "itl_s_p99": 0.011} | changes
    for name, each in (
        ("requests", 1.0),
        ("goodput", 1.0),
        ("output_tokens", row["output_tokens_mean"]),
        ("prompt_tokens", row["prompt_tokens_mean"]),
    ):
        for suffix, factor in (("", 1.0), ("_low", 1 - spread), ("_high", 1 + spread)):
            found = None if each is None else rate * factor * each
            row[f"{name}_per_s{suffix}"] = found
            if name != "goodput":
                row[f"served_{name}_per_s{suffix}"] = found
    for name, tokens in (
        ("usd_per_1k_requests", 1e3),
        ("usd_per_1m_output_tokens", 1e6 / row["output_tokens_mean"]),
        ("usd_per_1m_input_tokens", 1e6 / row["prompt_tokens_mean"]),
        ("usd_per_1m_tokens", 1e6 / (row["prompt_tokens_mean"] + row["output_tokens_mean"])),
    ):
        for suffix, factor in (("", 1.0), ("_low", 1 + spread), ("_high", 1 - spread)):
            if suffix and name in ("usd_per_1m_input_tokens", "usd_per_1m_tokens"):
                continue
            served = rate * factor
            each = None if usd_per_hour is None else math.inf if served == 0 else usd_per_hour / 3600 / served * tokens
            row[name + suffix] = each
    return row | changes
