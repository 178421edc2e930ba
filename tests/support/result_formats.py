"""Result files of further tools, made from simulated requests: one tiny sample per format, so that all have the same content.

Shapes are those of sglang 0.5, InferenceX, vLLM's sweep, GenAI-Perf 0.0.16, GuideLLM 0.3, LLMeter 0.2 and inference-perf 0.3;
the numbers are our own.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import result_files as files
from result_files import EPOCH_S, Sent

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def answered(sent: list[Sent]) -> list[Sent]:
    return [s for s in sent if not s.failed]


def gaps(s: Sent) -> list[float]:
    """Seconds between the tokens of an answer."""
    return [(s.latency - s.ttft) / (s.output - 1)] * (s.output - 1)


def tpot(s: Sent) -> float:
    return (s.latency - s.ttft) / (s.output - 1)


# --- sglang -------------------------------------------------------------------------------------------------------


def sglang(sent: list[Sent], detailed=True, **changes) -> dict:
    """A line of sglang.bench_serving; of a failed request the lists hold an error, zeros and no gaps."""
    ok, duration = answered(sent), max(s.end for s in sent)
    line = {
        "backend": "sglang",
        "dataset_name": "random",
        "request_rate": math.inf,
        "max_concurrency": 4,
        "server_info": {"model_path": MODEL, "tp_size": 1},
        "duration": duration,
        "completed": len(ok),
        "total_input_tokens": sum(s.prompt for s in ok),
        "total_output_tokens": sum(s.output for s in ok),
        "total_output_tokens_retokenized": sum(s.output for s in ok),
        "request_throughput": len(ok) / duration,
        **{f"{kind}_e2e_latency_ms": 1e3 * value for kind, value in _means([s.latency for s in ok]).items()},
        **{f"{kind}_ttft_ms": 1e3 * value for kind, value in _means([s.ttft for s in ok]).items()},
        **{f"{kind}_tpot_ms": 1e3 * value for kind, value in _means([tpot(s) for s in ok]).items()},
        "concurrency": sum(s.latency for s in ok) / duration,
        "accept_length": None,
    }
    if detailed:
        line |= {
            "input_lens": [s.prompt for s in sent],
            "output_lens": [0 if s.failed else s.output for s in sent],
            "ttfts": [0.0 if s.failed else s.ttft for s in sent],
            "itls": [[] if s.failed else gaps(s) for s in sent],
            "generated_texts": ["" for _ in sent],
            "errors": ["Internal Server Error" if s.failed else "" for s in sent],
        }
    return line | changes


def _means(values: list[float]) -> dict[str, float]:
    at = {f"p{p}": float(np.percentile(values, p)) for p in (90, 99)}
    return {"mean": float(np.mean(values)), "median": float(np.median(values)), "std": float(np.std(values)), **at}


# --- InferenceX ---------------------------------------------------------------------------------------------------


def inferencex(sent: list[Sent], gpus: int = 8, **changes) -> dict:
    """agg_*.json: latencies in seconds, token rates per GPU."""
    ok, duration = answered(sent), max(s.end for s in sent)
    output, prompt = sum(s.output for s in ok), sum(s.prompt for s in ok)
    result = {
        "hw": "h200",
        "conc": 4,
        "image": "vllm/vllm-openai:v0.13",
        "model": MODEL,
        "framework": "vllm",
        "precision": "fp8",
        "isl": 300,
        "osl": 20,
        "tp": gpus,
        "ep": 1,
        "dp_attention": "false",
        "tput_per_gpu": (output + prompt) / duration / gpus,
        "output_tput_per_gpu": output / duration / gpus,
        "input_tput_per_gpu": prompt / duration / gpus,
        **{f"{kind}_e2el": value for kind, value in _means([s.latency for s in ok]).items()},
        **{f"{kind}_ttft": value for kind, value in _means([s.ttft for s in ok]).items()},
        **{f"{kind}_tpot": value for kind, value in _means([tpot(s) for s in ok]).items()},
        "median_intvty": 1 / tpot(ok[0]),
    }
    return result | changes


# --- GenAI-Perf ---------------------------------------------------------------------------------------------------


def genai_perf_statistics(sent: list[Sent], **changes) -> dict:
    """profile_export_genai_perf.json: of the answers alone."""
    ok = answered(sent)
    duration = max(s.end for s in ok)

    def block(values: list[float], unit: str) -> dict:
        at = {f"p{p}": float(np.percentile(values, p)) for p in (25, 50, 75, 90, 95, 99)}
        return {"unit": unit, "avg": float(np.mean(values)), **at, "min": min(values), "max": max(values), "std": 0.0}

    statistics = {
        "request_throughput": {"unit": "requests/sec", "avg": len(ok) / duration},
        "request_latency": block([1e3 * s.latency for s in ok], "ms"),
        "request_count": {"unit": "count", "avg": len(ok)},
        "time_to_first_token": block([1e3 * s.ttft for s in ok], "ms"),
        "inter_token_latency": block([1e3 * tpot(s) for s in ok], "ms"),
        "output_token_throughput": {"unit": "tokens/sec", "avg": sum(s.output for s in ok) / duration},
        "output_sequence_length": block([s.output for s in ok], "tokens"),
        "input_sequence_length": block([s.prompt for s in ok], "tokens"),
        "input_config": {"model_names": [MODEL], "perf_analyzer": {"stimulus": {"concurrency": 4}}},
    }
    return statistics | changes


def genai_perf_profile(sent: list[Sent], usage=True) -> dict:
    """profile_export.json: parts of each stream with their times; a failure inside a stream is an event."""
    requests = []
    for s in sent:
        texts = [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
        times = [s.start + s.ttft / 2, s.start + s.ttft]
        if s.failed:
            texts.append({"error": {"message": "out of memory"}})
        else:
            texts.append({"choices": [{"delta": {"content": "tok"}}]})
            for i in range(1, s.output):
                texts.append({"choices": [{"delta": {"content": "tok"}}]})
                times.append(s.start + s.ttft + i * tpot(s))
            if usage:
                texts.append({"choices": [], "usage": {"prompt_tokens": s.prompt, "completion_tokens": s.output}})
                times.append(s.end)
        requests.append(
            {
                "timestamp": round((EPOCH_S + s.start) * 1e9),
                "request_inputs": {"payload": json.dumps({"model": MODEL, "messages": [], "stream": True})},
                "response_timestamps": [round((EPOCH_S + time) * 1e9) for time in times],
                "response_outputs": [{"response": f"data: {json.dumps(text)}\n\n"} for text in texts],
            }
        )
    experiment = {"experiment": {"mode": "concurrency", "value": 4}, "requests": requests, "window_boundaries": []}
    return {"experiments": [experiment], "version": "2.60", "service_kind": "openai", "endpoint": "v1/chat/completions"}


# --- LLMeter ------------------------------------------------------------------------------------------------------


def llmeter_responses(sent: list[Sent]) -> list[dict]:
    """responses.jsonl: of a failure the error, and neither latency nor tokens."""
    return [
        {
            "response_text": None if s.failed else "text",
            "input_payload": {"messages": []},
            "id": f"request-{i}",
            "time_to_first_token": None if s.failed else s.ttft,
            "time_to_last_token": None if s.failed else s.latency,
            "num_tokens_input": None if s.failed else s.prompt,
            "num_tokens_output": None if s.failed else s.output,
            "error": "ThrottlingException: too many requests" if s.failed else None,
            "retries": None,
            "request_time": datetime.fromtimestamp(EPOCH_S + s.start, UTC).isoformat(timespec="seconds"),
        }
        for i, s in enumerate(sent)
    ]


def llmeter_summary(sent: list[Sent]) -> dict:
    """summary.json beside the responses."""
    return {
        "total_requests": len(sent),
        "clients": 4,
        "n_requests": len(sent) // 4,
        "total_test_time": max(s.end for s in sent),
        "model_id": MODEL,
        "endpoint_name": "an-endpoint",
        "provider": "openai",
    }


# --- GuideLLM 0.2 and 0.3 -------------------------------------------------------------------------------------------


def guidellm_early(sent: list[Sent]) -> dict:
    """A benchmark of benchmarks.json."""
    requests: dict[str, list[dict]] = {"successful": [], "incomplete": [], "errored": []}
    for i, s in enumerate(sent):
        requests["errored" if s.failed else "successful"].append(
            {
                "request_id": f"request-{i}",
                "scheduler_info": {"targeted_start_time": EPOCH_S, "request_start": EPOCH_S + s.start},
                "error": "HTTP 503" if s.failed else None,
                "prompt_tokens": s.prompt,
                "output_tokens": 0 if s.failed else s.output,
                "start_time": EPOCH_S + s.start,
                "end_time": EPOCH_S + s.end,
                "first_token_time": None if s.failed else EPOCH_S + s.start + s.ttft,
                "last_token_time": None if s.failed else EPOCH_S + s.end,
            }
        )
    return {
        "args": {"strategy": {"type_": "concurrent", "streams": 4}},
        "worker": {"backend_model": MODEL},
        "start_time": EPOCH_S,
        "end_time": EPOCH_S + max(s.end for s in sent),
        "request_totals": {status: len(listed) for status, listed in requests.items()},
        "requests": requests,
        "metrics": {},
    }


# --- inference-perf -----------------------------------------------------------------------------------------------


def inference_perf_stage(sent: list[Sent], **load) -> dict:
    """stage_N_lifecycle_metrics.json."""
    ok, duration = answered(sent), max(s.end for s in sent)

    def block(values: list[float]) -> dict:
        at = {f"p{p:g}": float(np.percentile(values, p)) for p in (0.1, 10, 90, 95, 99)}
        return {
            "mean": float(np.mean(values)),
            "min": min(values),
            "max": max(values),
            "median": float(np.median(values)),
            **at,
        }

    return {
        "benchmark_time_seconds": duration,
        "load_summary": {"count": len(sent), "requested_rate": 50.0, "achieved_rate": 49.0, "concurrency": 4, **load},
        "successes": {
            "count": len(ok),
            "latency": {
                "request_latency": block([s.latency for s in ok]),
                "time_per_output_token": block([tpot(s) for s in ok]),
                "time_to_first_token": block([s.ttft for s in ok]),
            },
            "throughput": {"requests_per_sec": len(ok) / duration},
            "prompt_tokens": {"total": float(sum(s.prompt for s in ok)), "cached": 0.0},
            "output_tokens": {"total": float(sum(s.output for s in ok))},
        },
        "failures": {"count": len(sent) - len(ok), "request_latency": None, "by_label": {}},
    }


def inference_perf_requests(sent: list[Sent]) -> list[dict]:
    """per_request_lifecycle_metrics.json."""
    return [
        {
            "start_time": 1000.0 + s.start,
            "end_time": 1000.0 + s.end,
            "request": json.dumps({"model": MODEL, "messages": []}),
            "response": "text",
            "info": {
                "request_metrics": {"text": {"input_tokens": s.prompt}},
                "response_metrics": None
                if s.failed
                else {
                    "output_tokens": s.output,
                    "server_usage": {"completion_tokens": s.output},
                    "output_token_times": [1000.0 + s.start + s.ttft + i * tpot(s) for i in range(s.output)],
                },
            },
            "error": {"error_type": "HTTP Error 503", "error_msg": "overloaded"} if s.failed else None,
        }
        for s in sent
    ]


# --- all of them --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """The sample of a format: its file, what its config entry adds, and what it lacks."""

    format: str
    file: str
    lacks: tuple[str, ...] = ()
    counts_failures: bool = True
    timed: bool = False
    entry: tuple[tuple[str, object], ...] = ()

    def entries(self, folder: Path) -> list[dict]:
        return [{"path": str(folder / self.file), **dict(self.entry)}]


WRITTEN = {
    "sglang": Written("sglang", "sglang.jsonl", ("when requests were sent",)),
    "sglang without details": Written("sglang", "plain.jsonl", ("--output-details",), counts_failures=False),
    "vllm_sweep": Written("vllm_sweep", "sweep/summary.json", ("when requests were sent",)),
    "vllm_sweep table": Written("vllm_sweep", "sweep/summary.csv", ("when requests were sent",)),
    "inferencex": Written("inferencex", "agg.json", ("requests per second",), False, entry=(("requests", 240),)),
    "genai_perf": Written("genai_perf", "p/profile_export_genai_perf.json", ("aiperf profile",), counts_failures=False),
    "genai_perf requests": Written("genai_perf", "p/profile_export.json", ("tokens per chunk",), timed=True),
    "llmeter": Written("llmeter", "llmeter/responses.jsonl", ("when requests were sent",)),
    "guidellm 0.3": Written("guidellm", "guidellm.json", ("chunks of the answers",), timed=True),
    "inference_perf": Written("inference_perf", "stage_0_lifecycle_metrics.json", ("per_request: true",)),
    "inference_perf requests": Written(
        "inference_perf", "per_request_lifecycle_metrics.json", ("tokens per chunk",), timed=True, entry=(("level", 4),)
    ),
}


def write_all(folder: Path, sent: list[Sent]) -> None:
    """Write the sample of every format."""
    files.write_json(folder / "sglang.jsonl", sglang(sent))
    files.write_json(folder / "plain.jsonl", sglang(sent, detailed=False))
    runs = [files.vllm(sent, detailed=False, run_number=0, max_num_seqs=64)]
    write_list(folder / "sweep/summary.json", runs)
    with (folder / "sweep/summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["", *runs[0]])
        writer.writeheader()
        writer.writerows([{"": i, **run} for i, run in enumerate(runs)])
    write_list(folder / "agg.json", [inferencex(sent)])
    files.write_json(folder / "p/profile_export_genai_perf.json", genai_perf_statistics(sent))
    files.write_json(folder / "p/profile_export.json", genai_perf_profile(sent))
    earlier = llmeter_responses(sent[:30])
    files.write_json(folder / "llmeter/responses.jsonl", *earlier, *llmeter_responses(sent))
    files.write_json(folder / "llmeter/summary.json", llmeter_summary(sent))
    files.write_json(folder / "guidellm.json", {"benchmarks": [guidellm_early(sent)]})
    files.write_json(folder / "stage_0_lifecycle_metrics.json", inference_perf_stage(sent))
    write_list(folder / "per_request_lifecycle_metrics.json", inference_perf_requests(sent))


def write_list(path: Path, contents: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))
