"""Result files as other tools write them, made from one small simulated benchmark, so that all have the same content.

Shapes are those of vLLM 0.15 and later, AIPerf 0.8 and later, GuideLLM 0.5 and later, and FMBench; the numbers are our own.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

EPOCH_S = 1_790_000_000.0


@dataclass(frozen=True)
class Sent:
    """One simulated request; times in seconds from the start."""

    start: float
    latency: float
    prompt: int = 300
    output: int = 20
    failed: bool = False
    cut_off: bool = False
    scheduled: float | None = None

    @property
    def ttft(self) -> float:
        return self.latency / 5

    @property
    def end(self) -> float:
        return self.start + self.latency


def closed_loop(streams: int, rounds: int, latency=lambda i: 0.4 + 0.02 * (i * 7 % 11), **changes) -> list[Sent]:
    """N streams, each of which sends its next request when its last has ended; request i takes latency(i) seconds."""
    free = [0.0] * streams
    sent = []
    for i in range(streams * rounds):
        start = min(free)
        free[free.index(start)] = start + latency(i)
        sent.append(Sent(start, latency(i), **changes))
    return sent


def open_loop(rate: float, count: int, late=0.0) -> list[Sent]:
    """Evenly spaced arrivals, each sent `late` seconds after its time."""
    return [Sent(i / rate + late, 0.3 + 0.02 * (i % 5), scheduled=i / rate) for i in range(count)]


# --- vllm bench serve ---------------------------------------------------------------------------------------------


def vllm(sent: list[Sent], detailed=True, **changes) -> dict:
    """A result; failed requests have no tokens and an error."""
    ok = [s for s in sent if not s.failed]
    duration = max(s.end for s in sent)
    result = {
        "date": "20260901-101500",
        "backend": "vllm",
        "label": "vllm",
        "model_id": "meta-llama/Llama-3.1-8B-Instruct",
        "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
        "num_prompts": len(sent),
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 4,
        "duration": duration,
        "completed": len(ok),
        "failed": len(sent) - len(ok),
        "total_input_tokens": sum(s.prompt for s in ok),
        "total_output_tokens": sum(s.output for s in ok),
        "request_throughput": len(ok) / duration,
        "request_goodput": None,
        "output_throughput": sum(s.output for s in ok) / duration,
        "mean_ttft_ms": 1e3 * sum(s.ttft for s in ok) / len(ok),
        "p99_ttft_ms": 1e3 * max(s.ttft for s in ok),
        "mean_e2el_ms": 1e3 * sum(s.latency for s in ok) / len(ok),
        "p95_e2el_ms": 1e3 * sorted(s.latency for s in ok)[int(0.95 * (len(ok) - 1))],
        "p99_e2el_ms": 1e3 * sorted(s.latency for s in ok)[int(0.99 * (len(ok) - 1))],
    }
    if detailed:
        result |= {
            "input_lens": [s.prompt for s in sent],
            "output_lens": [0 if s.failed else s.output for s in sent],
            "ttfts": [0.0 if s.failed else s.ttft for s in sent],
            "itls": [[] if s.failed else [(s.latency - s.ttft) / (s.output - 1)] * (s.output - 1) for s in sent],
            "latencies": [s.latency for s in sent],
            "start_times": [5000.0 + s.start for s in sent],
            "queue_times": [0.0 if s.scheduled is None else s.start - s.scheduled for s in sent],
            "generated_texts": ["" for _ in sent],
            "errors": ["Connection reset by peer" if s.failed else "" for s in sent],
        }
    return result | changes


# --- AIPerf -------------------------------------------------------------------------------------------------------


def aiperf_records(sent: list[Sent], warmup: int = 0) -> str:
    """JSON lines; the first `warmup` requests belong to AIPerf's own warm-up phase."""
    lines = []
    for i, s in enumerate(sent):
        start_ns = round((EPOCH_S + s.start) * 1e9)
        record = {
            "metadata": {
                "session_num": i,
                "x_request_id": f"request-{i}",
                "turn_index": 0,
                "credit_issued_ns": round((EPOCH_S + (s.start if s.scheduled is None else s.scheduled)) * 1e9),
                "request_start_ns": start_ns,
                "request_end_ns": start_ns + round(s.latency * 1e9),
                "worker_id": "worker_1",
                "record_processor_id": "record_processor_1",
                "benchmark_phase": "warmup" if i < warmup else "profiling",
                "was_cancelled": s.cut_off,
            },
            "metrics": {
                "input_sequence_length": {"value": s.prompt, "unit": "tokens"},
                "output_sequence_length": {"value": s.output, "unit": "tokens"},
                "time_to_first_token": {"value": s.ttft * 1e3, "unit": "ms"},
                "request_latency": {"value": s.latency * 1e3, "unit": "ms"},
                "inter_chunk_latency": {
                    "value": [(s.latency - s.ttft) * 1e3 / (s.output - 1)] * (s.output - 1),
                    "unit": "ms",
                },
            },
            "error": None,
        }
        if s.failed:
            record["metrics"] = {"error_isl": {"value": s.prompt, "unit": "tokens"}}
            record["error"] = {"code": 429, "type": "HTTPError", "message": "too many requests"}
        lines.append(json.dumps(record))
    return "\n".join(lines) + "\n"


def aiperf_statistics(sent: list[Sent], load: dict | None = None) -> dict:
    """`profile_export_aiperf.json`; `load` are the settings of the profiling phase."""
    ok = [s for s in sent if not s.failed]
    duration = max(s.end for s in sent)

    def block(values: list[float], unit: str) -> dict:
        ordered = sorted(values)
        at = {f"p{p}": ordered[int(p / 100 * (len(ordered) - 1))] for p in (50, 90, 95, 99)}
        return {"unit": unit, "avg": sum(values) / len(values), "min": ordered[0], "max": ordered[-1], **at}

    return {
        "schema_version": "1.3",
        "aiperf_version": "0.8.0",
        "request_throughput": {"unit": "requests/sec", "avg": len(ok) / duration},
        "request_latency": block([s.latency * 1e3 for s in ok], "ms"),
        "time_to_first_token": block([s.ttft * 1e3 for s in ok], "ms"),
        "request_count": {"unit": "requests", "avg": float(len(ok))},
        **(
            {"error_request_count": {"unit": "requests", "avg": float(len(sent) - len(ok))}}
            if len(ok) < len(sent)
            else {}
        ),
        "benchmark_duration": {"unit": "sec", "avg": duration},
        "input_sequence_length": block([s.prompt for s in ok], "tokens"),
        "total_osl": {"unit": "tokens", "avg": sum(s.output for s in ok)},
        "input_config": {
            "endpoint": {"model_names": ["meta-llama/Llama-3.1-8B-Instruct"]},
            "phases": [
                {"name": "warmup", "concurrency": 1},
                {"name": "profiling", **({"concurrency": 4} if load is None else load)},
            ],
        },
    }


# --- GuideLLM -----------------------------------------------------------------------------------------------------


def guidellm_benchmark(
    sent: list[Sent], strategy: dict, warmup: int = 0, cooldown: int = 0, listed: int | None = None
) -> dict:
    """One benchmark; its first `warmup` requests were sent before its start time, its last `cooldown` ones after its end
    time; `listed` cuts the list of requests off.
    """
    by_status: dict[str, list[dict]] = {"successful": [], "incomplete": [], "errored": []}
    for i, s in enumerate(sent):
        status = "incomplete" if s.cut_off else "errored" if s.failed else "successful"
        timings = {
            "targeted_start": EPOCH_S + (s.start if s.scheduled is None else s.scheduled),
            "resolve_start": EPOCH_S + s.start,
            "request_start": EPOCH_S + s.start,
            "first_token_iteration": EPOCH_S + s.start + s.ttft if status == "successful" else None,
            "last_token_iteration": EPOCH_S + s.end if status == "successful" else None,
            "request_end": EPOCH_S + s.end,
            "resolve_end": EPOCH_S + s.end,
        }
        by_status[status].append(
            {
                "request_id": f"request-{i}",
                "info": {"status": status, "error": "HTTP 503" if s.failed else None, "timings": timings},
                "prompt_tokens": s.prompt,
                "output_tokens": s.output if status == "successful" else None,
            }
        )
    measured = [s for s in sent[warmup:] if not s.failed and not s.cut_off]
    ordered = sorted(s.latency for s in measured)
    end = sent[-cooldown].start if cooldown else max(s.end for s in sent)
    percentiles = {
        f"p{p:02d}": ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))] for p in (50, 75, 90, 95, 99)
    }
    return {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy, "backend": {"model": "meta-llama/Llama-3.1-8B-Instruct"}},
        "start_time": EPOCH_S + sent[warmup].start,
        "end_time": EPOCH_S + end,
        "duration": end - sent[warmup].start,
        "metrics": {
            "request_totals": {
                "successful": len(measured),
                "errored": sum(s.failed for s in sent[warmup:]),
                "incomplete": sum(s.cut_off for s in sent[warmup:]),
                "total": len(sent) - warmup,
            },
            "requests_per_second": {"successful": {"mean": len(measured) / (end - sent[warmup].start)}},
            "request_latency": {
                "successful": {
                    "mean": sum(ordered) / len(ordered),
                    "min": ordered[0],
                    "max": ordered[-1],
                    "percentiles": percentiles,
                }
            },
            "prompt_token_count": {"successful": {"total_sum": sum(s.prompt for s in measured)}},
            "output_token_count": {"successful": {"total_sum": sum(s.output for s in measured)}},
        },
        "requests": by_status if listed is None else {**by_status, "successful": by_status["successful"][:listed]},
    }


def guidellm_report(*benchmarks: dict) -> dict:
    """`benchmarks.json`."""
    return {
        "metadata": {"version": 1, "guidellm_version": "0.5.0"},
        "args": {"target": "http://localhost:8000", "model": None},
        "benchmarks": list(benchmarks),
    }


# --- FMBench ------------------------------------------------------------------------------------------------------


def volley(latencies: list[float], wall: float, *, prompt=300, output=20, failures=0, **changes) -> dict:
    """A row of all_metrics.csv: the latencies of those of its requests that succeeded. Prompt tokens are those of all."""
    count, sent = len(latencies), len(latencies) + failures
    row = {
        "experiment_name": "llama-g5",
        "concurrency": count + failures,
        "payload_file": "payload_short.jsonl",
        "errors": "[]",
        "successes": count,
        "error_rate": failures / (count + failures),
        "all_prompts_token_count": prompt * sent,
        "prompt_token_count_mean": prompt * sent / count if count else "",
        "prompt_token_throughput": prompt * sent / wall,
        "all_completions_token_count": output * count,
        "completion_token_count_mean": output,
        "completion_token_throughput": round(output * count / wall, 2),
        "transactions": count + failures,
        "transactions_per_second": round(count / wall, 2),
        "transactions_per_minute": int(round(count / wall, 2) * 60),
        "latency_mean": sum(latencies) / count if count else "",
        "instance_type": "ml.g5.12xlarge",
        "ModelName": "meta-textgeneration-llama-2-13b-2024-01-21-14-54-18-821",
        "Image": "registry/text-generation-inference:2.0.1-tgi1.1.0",
    }
    return row | changes


def fmbench_request(latency: float | None, prompt=300, output=20, concurrency=4, **changes) -> dict:
    """A row of the per-request table; without a latency it failed."""
    row = {
        "endpoint_name": "endpoint",
        "prompt": "a prompt\nof two lines, with a comma",
        "completion": None if latency is None else "text",
        "prompt_tokens": prompt,
        "completion_tokens": None if latency is None else output,
        "latency": latency,
        "experiment_name": "llama-g5",
        "concurrency": concurrency,
        "instance_type": "ml.g5.12xlarge",
    }
    return row | changes


# --- writing ------------------------------------------------------------------------------------------------------


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, *contents: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(content) for content in contents))


def option(name: str, form: str, path: object, **changes: object) -> dict:
    """An imported option of a config."""
    return {
        "name": name,
        "target": "imported",
        "format": form,
        "path": path,
        "instance_type": "ml.g5.12xlarge",
        "price": {"usd_per_hour": 7.2, "as_of": "2026-09-01"},
        **changes,
    }


def write_config(folder: Path, *options: dict, **sections: object) -> Path:
    """A config of imported options beside their result files."""
    config = {
        "name": "imported",
        "run_root": str(folder / "runs"),
        "model": {"name": "Llama-3.1-8B-Instruct", "tokenizer": "synthetic:2m", "context_tokens": 4096},
        "datasets": [{"name": "short", "prompt_tokens": [1, 500]}],
        "options": list(options),
        "load": {"kind": "closed_loop", "concurrency": [4]},
        "slo": {"percentile": 90, "latency_s": 2, "error_rate": 0.1, "confidence": 0.9},
        "traffic": {"requests_per_minute": 600},
        **sections,
    }
    path = folder / "imported.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def write_two_options(folder: Path, seconds: float, **sections: object) -> str:
    """A config of results of `fast`, whose latency is about so many seconds, and `slow`, which takes twice as long."""
    options = []
    for factor, name in enumerate(("fast", "slow"), start=1):
        sent = closed_loop(4, 60, latency=lambda i, f=factor: seconds * f * (1 + 0.05 * (i * 7 % 11)))
        write_json(folder / f"{name}.json", vllm(sent, max_concurrency=4))
        options.append(option(name, "vllm", f"{name}.json"))
    return str(write_config(folder, *options, **sections))
