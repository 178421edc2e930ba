"""The JSON lines that `python -m sglang.bench_serving --output-file` writes, with `--output-details` or without.

One line is one benchmark: printed latencies are in milliseconds, per-request lists (`--output-details`) in seconds.
There are no send times, so a line is a group. With the lists each latency is known: a request's TTFT plus the gaps after
it. Only the lists have failures. The model's id is in `server_info`, which only an sglang server provides.
"""

from __future__ import annotations

import math
import re

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, read_objects, selected
from helpers.importers.found import FAILURES, Found, FoundPoint, Served
from helpers.importers.printed import in_keys
from helpers.importers.rows import Row, all_numbers, refuse
from helpers.run.group_records import Group

TOOL = "sglang.bench_serving"
NEEDED = ("completed", "duration", "request_rate", "total_output_tokens_retokenized")
PRINTED = re.compile(r"^(?P<name>p[\d.]+|median)_(?P<metric>ttft|tpot|e2e_latency)_ms$")
COLUMN = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e_latency": "latency_s"}
DETAILS = "(measure with `--output-details`)"
UNKNOWN = ("when requests were sent", "how much of the time was ramp-up and tail", "whether a steady state was reached")


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point per line: `--output-file` appends."""
    rows = selected(read_objects(file, f"a line of {TOOL}"), option, file)
    for row in rows:
        row.require(NEEDED, f"a line of {TOOL} --output-file")
    return Found([_point(row, file) for row in rows], Served(TOOL))


def _point(row: Row, file: OpenedFile) -> FoundPoint:
    is_detailed = row.values.get("itls") is not None
    unknown = (
        UNKNOWN
        if is_detailed
        else (*UNKNOWN, f"{FAILURES}: `--output-details` adds it", f"latencies of single requests {DETAILS}")
    )
    return FoundPoint(
        where=row.where,
        dataset=None,
        level=_level(row, file),
        groups=[_detailed(row) if is_detailed else _group(row)],
        unknown=unknown,
        model=row.section("server_info").optional_text("model_path"),
    )


def _level(row: Row, file: OpenedFile) -> LoadLevel | None:
    """The rate, else the maximum concurrency; None if the config states it, as for a trace."""
    rate = row.values["request_rate"]
    if rate not in ("inf", math.inf, "trace") and row.number("request_rate") > 0:
        return LoadLevel("open_loop", row.number("request_rate"))
    concurrency = None if rate == "trace" else row.optional_number("max_concurrency")
    if concurrency is None and file.entry.level is None:
        raise ResultFileError(
            f"{row.where}: max_concurrency and request_rate: neither is limited, or a trace was sent. Expected a fixed load. "
            "Next: measure with --max-concurrency or --request-rate"
        )
    return LoadLevel("closed_loop", concurrency) if concurrency else None


def _detailed(row: Row) -> Group:
    """From the per-request lists. A request failed if it has an error or no output."""
    ttfts, inputs, outputs = (_listed(row, key) for key in ("ttfts", "input_lens", "output_lens"))
    gaps = row.values["itls"]
    if not isinstance(gaps, list) or len(gaps) != len(ttfts):
        row.refuse("itls", f"a list of {len(ttfts)}, as ttfts holds")
    errors = [None] * len(ttfts) if row.values.get("errors") is None else row.values["errors"]
    if not isinstance(errors, list) or len(errors) != len(ttfts):
        row.refuse("errors", f"a list of {len(ttfts)}, one per request")
    kept = [i for i in range(len(ttfts)) if not errors[i] and (outputs[i] or ttfts[i] > 0)]
    latency_s = [ttfts[i] + math.fsum(all_numbers(gaps[i] or [], f"{row.where}: itls[{i}]")) for i in kept]
    completed = row.count("completed")
    if len(kept) != completed:
        refuse(f"{row.where}: completed", completed, f"{len(kept)}, the requests without an error in its lists")
    streamed = all(gaps[i] or outputs[i] <= 1 for i in kept)
    tpot_s = [(s - ttfts[i]) / (outputs[i] - 1) for i, s in zip(kept, latency_s, strict=True) if outputs[i] >= 2]
    return Group(
        requests=len(ttfts),
        failures=len(ttfts) - len(kept),
        wall_s=row.number("duration"),
        latency_mean_s=math.fsum(latency_s) / len(kept) if kept else None,
        prompt_tokens=round(sum(inputs[i] for i in kept)),
        output_tokens=round(sum(outputs[i] for i in kept)),
        source=row.where,
        latency_s=latency_s,
        ttft_s=[ttfts[i] for i in kept] if streamed else None,
        tpot_s=tpot_s or None if streamed else None,
        reported_requests_per_s=row.optional_number("request_throughput"),
    )


def _listed(row: Row, key: str) -> list[float]:
    values, wanted = row.numbers(key), row.values.get("ttfts")
    if values is None or len(values) != len(wanted):
        row.refuse(key, "a list of one number per request")
    return values


def _group(row: Row) -> Group:
    """From the totals, which cover only answers; the number of failures is unknown."""
    completed = row.count("completed")
    mean_ms = row.optional_number("mean_e2e_latency_ms")
    return Group(
        requests=completed,
        failures=0,
        failures_known=False,
        wall_s=row.number("duration"),
        latency_mean_s=None if mean_ms is None or not completed else mean_ms / 1e3,
        prompt_tokens=row.optional_count("total_input_tokens"),
        output_tokens=row.optional_count("total_output_tokens"),
        source=row.where,
        reported=in_keys(row, PRINTED, COLUMN, 1e3) if completed else {},
        reported_requests_per_s=row.optional_number("request_throughput"),
    )
