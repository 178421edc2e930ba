"""The JSON that `vllm bench serve --save-result` writes, with or without `--save-detailed`. Latencies of requests are in
seconds, printed ones in milliseconds, start times on the benchmark's own clock.
"""

from __future__ import annotations

import itertools
import math
import re

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, read_objects, selected
from helpers.importers.found import Found, FoundPoint, Served, TimedRequest
from helpers.importers.printed import in_keys
from helpers.importers.rows import Row, all_numbers, clean, nanoseconds
from helpers.run.group_records import Group

TOOL = "vllm bench serve"
PRINTED = re.compile(r"^(?P<name>p[\d.]+|median)_(?P<metric>ttft|tpot|e2el)_ms$")
COLUMN = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "latency_s"}


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point per result: a file has one, or a sequence (`--append-result`)."""
    return found_in(selected(read_objects(file, f"a result of {TOOL}"), option, file), file)


def found_in(rows: list[Row], file: OpenedFile) -> Found:
    """The load points of these results."""
    for row in rows:
        row.require(("duration", "completed", "request_rate"), f"a result of {TOOL} --save-result")
    return Found([_point(row, file) for row in rows], Served(TOOL))


def _point(row: Row, file: OpenedFile) -> FoundPoint:
    level = _level(row, file)
    model, starts = row.optional_text("model_id"), row.numbers("start_times")
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
        ends = row.number("ramp_up_start_rps"), row.number("ramp_up_end_rps")
        return LoadLevel("ramp", max(ends))
    is_unlimited = row.values["request_rate"] in ("inf", math.inf)
    rate = None if is_unlimited else row.optional_number("request_rate")
    if rate:
        return LoadLevel("open_loop", rate)
    concurrency = row.optional_number("max_concurrency")
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
    columns = {name: row.numbers(name) for name in ("ttfts", "latencies", "queue_times", "input_lens", "output_lens")}
    itls, errors = row.values["itls"], row.values.get("errors") or [""] * len(starts)
    for name, values in {**columns, "itls": itls, "errors": errors}.items():
        if values is not None and not isinstance(values, list):
            row.refuse(name, "a list")
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
        times = itertools.accumulate(gaps, initial=start + ttft)
        requests.append(
            TimedRequest(
                sent_ns=nanoseconds(start),
                done_ns=nanoseconds(start + latency),
                scheduled_ns=nanoseconds(start - waited) if is_open and waited is not None else None,
                first_token_ns=nanoseconds(start + ttft) if streamed else None,
                last_token_ns=None if failed else nanoseconds(start + latency),
                chunk_ns=list(map(nanoseconds, times)) if streamed else None,
                prompt_tokens=_whole(columns["input_lens"], i),
                output_tokens=None if failed else _whole(columns["output_lens"], i),
                prompt_tokens_source="tokenizer",
                error_type="request_error" if failed else None,
                error=clean(errors[i]) if failed else None,
            )
        )
    return requests


def _whole(values: list[float] | None, i: int) -> int | None:
    return None if values is None else round(values[i])


def _group(row: Row) -> Group:
    """A result without times, as one group; newer versions list the latencies nevertheless."""
    completed, failed = row.count("completed"), row.optional_count("failed")
    asked = row.optional_count("num_prompts") or completed
    failures = max(0, asked - completed) if failed is None else failed
    latencies = row.numbers("latencies")
    if failures or latencies is None or len(latencies) != completed:  # the list does not show which of them failed
        latencies = None
    mean_ms = row.optional_number("mean_e2el_ms")
    mean_s = math.fsum(latencies) / completed if latencies else None if mean_ms is None else mean_ms / 1e3
    return Group(
        requests=completed + failures,
        failures=failures,
        wall_s=row.number("duration"),
        latency_mean_s=mean_s if completed else None,
        prompt_tokens=row.optional_count("total_input_tokens"),
        output_tokens=row.optional_count("total_output_tokens"),
        source=row.where,
        latency_s=latencies,
        reported=in_keys(row, PRINTED, COLUMN, 1e3) if completed else {},
        reported_requests_per_s=row.optional_number("request_throughput"),
    )
