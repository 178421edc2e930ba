"""The JSON that `vllm bench serve --save-result` writes, with or without `--save-detailed`. Latencies of requests are in
seconds, printed ones in milliseconds, start times on the benchmark's own clock.
"""

from __future__ import annotations

import math
import re

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import (
    OpenedFile,
    Row,
    all_numbers,
    clean,
    count,
    number,
    numbers,
    optional_count,
    optional_number,
    optional_text,
    read_objects,
    refuse,
    require,
    selected,
)
from helpers.importers.found import Found, FoundPoint, Served, TimedRequest
from helpers.run.group_records import Group

TOOL = "vllm bench serve"
PRINTED = re.compile(r"^(p[\d.]+|median)_(ttft|tpot|e2el)_ms$")
COLUMN = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "latency_s"}


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point per result: a file has one, or a sequence (`--append-result`)."""
    return found_in(selected(read_objects(file, f"a result of {TOOL}"), option, file), file)


def found_in(rows: list[Row], file: OpenedFile) -> Found:
    """The load points of these results."""
    for row in rows:
        require(row, ("duration", "completed", "request_rate"), f"a result of {TOOL} --save-result")
    return Found([_point(row, file) for row in rows], Served(TOOL))


def _point(row: Row, file: OpenedFile) -> FoundPoint:
    level = _level(row, file)
    model, starts = optional_text(row, "model_id"), numbers(row, "start_times")
    if starts and row.values.get("itls") is not None:
        requests = _requests(row, starts, is_open=level is not None and level.is_open)
        unknown = ["tokens per chunk"]
        if level is not None and level.is_open and requests[0].scheduled_ns is None:
            unknown.append("when requests were to be sent: latency counts from the send")
        return FoundPoint(row.where, None, level, requests=requests, unknown=tuple(unknown), model=model)
    return FoundPoint(
        row.where,
        None,
        level,
        groups=[_group(row)],
        unknown=(
            "when requests were sent",
            "how much of the time was ramp-up and tail",
            "whether a steady state was reached",
        ),
        model=model,
    )


def _level(row: Row, file: OpenedFile) -> LoadLevel | None:
    """A ramp, a rate, or a concurrency, in this order: a rate may also have a maximum concurrency."""
    if row.values.get("ramp_up_strategy"):
        ends = number(row, "ramp_up_start_rps"), number(row, "ramp_up_end_rps")
        return LoadLevel("ramp", max(ends))
    is_unlimited = row.values["request_rate"] in ("inf", math.inf)
    rate = None if is_unlimited else optional_number(row, "request_rate")
    if rate:
        return LoadLevel("open_loop", rate)
    concurrency = optional_number(row, "max_concurrency")
    if concurrency:
        return LoadLevel("closed_loop", concurrency)
    if file.entry.level is not None:
        return None
    raise ResultFileError(
        f"{row.where}: max_concurrency and request_rate: neither is limited, so all requests were sent at once. Expected a fixed "
        "load. Next: measure with --max-concurrency or --request-rate"
    )


def _requests(row: Row, starts: list[float], is_open: bool) -> list[TimedRequest]:
    """The requests of a detailed result, which has parallel lists with one item per request."""
    columns = {name: numbers(row, name) for name in ("ttfts", "latencies", "queue_times", "input_lens", "output_lens")}
    itls, errors = row.values["itls"], row.values.get("errors") or [""] * len(starts)
    for name, values in {**columns, "itls": itls, "errors": errors}.items():
        if values is not None and not isinstance(values, list):
            refuse(f"{row.where}: {name}", values, "a list")
        if values is not None and len(values) != len(starts):
            raise ResultFileError(
                f"{row.where}: {name}: holds {len(values)} items, start_times {len(starts)}. Expected one per request. Next: "
                "export the file again"
            )
    requests = []
    for i, start in enumerate(starts):
        ttft = columns["ttfts"][i] if columns["ttfts"] else 0.0
        gaps = all_numbers(itls[i] or [], f"{row.where}: itls[{i}]")
        latency = columns["latencies"][i] if columns["latencies"] else ttft + math.fsum(gaps)
        waited = columns["queue_times"][i] if columns["queue_times"] else None
        failed = bool(errors[i])
        streamed = ttft > 0 and not failed
        requests.append(
            TimedRequest(
                sent_ns=_ns(start),
                done_ns=_ns(start + latency),
                scheduled_ns=_ns(start - waited) if is_open and waited is not None else None,
                first_token_ns=_ns(start + ttft) if streamed else None,
                last_token_ns=None if failed else _ns(start + latency),
                chunk_ns=_chunks(start + ttft, gaps) if streamed else None,
                prompt_tokens=_whole(columns["input_lens"], i),
                output_tokens=None if failed else _whole(columns["output_lens"], i),
                prompt_tokens_source="tokenizer",
                error_type="request_error" if failed else None,
                error=clean(errors[i]) if failed else None,
            )
        )
    return requests


def _chunks(first: float, gaps: list[float]) -> list[int]:
    times = [first]
    for gap in gaps:
        times.append(times[-1] + gap)
    return [_ns(time) for time in times]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _whole(values: list[float] | None, i: int) -> int | None:
    return None if values is None else round(values[i])


def _group(row: Row) -> Group:
    """A result without times, as one group; newer versions list the latencies nevertheless."""
    completed, failed = count(row, "completed"), optional_count(row, "failed")
    asked = optional_count(row, "num_prompts") or completed
    failures = max(0, asked - completed) if failed is None else failed
    latencies = numbers(row, "latencies")
    if failures or latencies is None or len(latencies) != completed:  # the list does not show which of them failed
        latencies = None
    mean_ms = optional_number(row, "mean_e2el_ms")
    mean_s = math.fsum(latencies) / completed if latencies else None if mean_ms is None else mean_ms / 1e3
    return Group(
        requests=completed + failures,
        failures=failures,
        wall_s=number(row, "duration"),
        latency_mean_s=mean_s if completed else None,
        prompt_tokens=optional_count(row, "total_input_tokens"),
        output_tokens=optional_count(row, "total_output_tokens"),
        source=row.where,
        latency_s=latencies,
        reported=_printed(row) if completed else {},
        reported_requests_per_s=optional_number(row, "request_throughput"),
    )


def _printed(row: Row) -> dict[str, float]:
    reported = {}
    for key in row.values:
        match = PRINTED.match(key)
        if match and (value := optional_number(row, key)) is not None:
            percent = "p50" if match[1] == "median" else match[1]
            reported[f"{COLUMN[match[2]]}_{percent}"] = value / 1e3
    return reported
