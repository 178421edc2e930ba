"""inference-perf (kubernetes-sigs): `stage_N_lifecycle_metrics.json`, or `per_request_lifecycle_metrics.json`.

Times are in seconds; those of requests are on the tool's own clock. A stage has one rate or one concurrency. The summary
and the requests cover all stages, so they are a load point only for a benchmark with one stage.
"""

from __future__ import annotations

import json

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ConfigError
from helpers.importers.files import OpenedFile, only_model, read_objects
from helpers.importers.found import Found, FoundPoint, Served, TimedRequest, TwoCounts
from helpers.importers.printed import in_blocks
from helpers.importers.rows import Row, all_numbers, clean, nanoseconds
from helpers.run.group_records import Group

TOOL = "inference-perf"
REPORT = ("load_summary", "successes", "failures")
REQUEST = ("[", "start_time", "end_time", "request", "info")
COLUMN = {"request_latency": "latency_s", "time_to_first_token": "ttft_s", "time_per_output_token": "tpot_s"}
STEADY = "whether a steady state was reached"


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point: a stage, or the requests of a one-stage benchmark."""
    rows = read_objects(file, f"a report of {TOOL}", listed=True)
    if "start_time" in rows[0].values:
        return Found([_requests(rows, file, option)], Served(TOOL))
    rows[0].require(REPORT, f"a lifecycle report of {TOOL}")
    return Found([_stage(rows[0], file)], Served(TOOL))


def _of_one_stage(file: OpenedFile) -> None:
    """All stages together have a level only if the config states it."""
    if file.entry.level is None:
        raise ConfigError(
            f"{file.shown}: covers all stages of a benchmark. Expected one load. Next: import its "
            f"stage_N_lifecycle_metrics.json; or, if there was one, write the entry as {{path: {file.entry.path}, level: ...}}"
        )


# --- a stage ------------------------------------------------------------------------------------------------------


def _stage(row: Row, file: OpenedFile) -> FoundPoint:
    load, answers = row.section("load_summary"), row.section("successes")
    level = _level(load)
    if level is None:
        _of_one_stage(file)
    successes, failures = answers.count("count"), row.section("failures").count("count")
    latency = answers.section("latency")
    group = Group(
        requests=successes + failures,
        failures=failures,
        wall_s=_wall_s(row, successes),
        latency_mean_s=latency.section("request_latency").optional_number("mean"),
        prompt_tokens=_tokens(answers, ("prompt_tokens", "prompt_len"), successes),
        output_tokens=_tokens(answers, ("output_tokens", "output_len"), successes),
        source=row.where,
        reported=in_blocks(latency, COLUMN) if successes else {},
        reported_requests_per_s=answers.section("throughput").optional_number("requests_per_sec"),
    )
    unknown = ["times and latencies of single requests (report.request_lifecycle.per_request: true)", STEADY]
    if level is not None and level.is_open:
        unknown.append("when requests were to be sent: latency counts from the send")
    by_tool, by_server = (_tokens(answers, (key,), successes) for key in ("output_len", "output_tokens"))
    counts = None if by_tool is None or by_server is None else TwoCounts(by_tool, by_server)
    return FoundPoint(row.where, None, level, groups=[group], unknown=tuple(unknown), counts=counts)


def _level(load: Row) -> LoadLevel | None:
    """A stage with workers has a concurrency besides a rate; the summary of all stages has neither."""
    if concurrency := load.optional_number("concurrency"):
        return LoadLevel("closed_loop", concurrency)
    rate = load.optional_number("requested_rate")
    return LoadLevel("open_loop", rate) if rate else None


def _wall_s(row: Row, successes: int) -> float | None:
    """From the first send to the last end; for earlier versions, answers divided by their rate."""
    stated = row.optional_number("benchmark_time_seconds")
    rate = row.section("successes", "throughput").optional_number("requests_per_sec")
    return stated if stated else successes / rate if rate else None


def _tokens(answers: Row, keys: tuple[str, ...], successes: int) -> int | None:
    """Tokens of the answers: the total in later versions, else computed from the mean."""
    for key in keys:
        block = answers.section(key)
        if (total := block.optional_number("total")) is not None:
            return round(total)
        if (mean := block.optional_number("mean")) is not None:
            return round(mean * successes)
    return None


# --- requests -----------------------------------------------------------------------------------------------------


def _requests(rows: list[Row], file: OpenedFile, option: ImportedOption) -> FoundPoint:
    _of_one_stage(file)
    for row in rows:
        row.require(REQUEST[1:], f"a request of {TOOL}")
    unknown = ("when requests were to be sent: in an open loop latency counts from the send", "tokens per chunk")
    return FoundPoint(
        where=file.shown,
        dataset=None,
        level=None,
        requests=[_request(row) for row in rows],
        unknown=unknown,
        counts=TwoCounts(*(sum(both) for both in zip(*map(_both_counts, rows), strict=True))),
        model=only_model(map(_model, rows), file.shown, option),
    )


def _both_counts(row: Row) -> tuple[int, int]:
    """Output tokens of an answer by the tool's tokenizer and by the server; both 0 where one is unknown."""
    answered = row.section("info", "response_metrics")
    tool = answered.optional_count("output_tokens")
    server = answered.section("server_usage").optional_count("completion_tokens")
    return (0, 0) if tool is None or server is None else (tool, server)


def _request(row: Row) -> TimedRequest:
    info, error = row.section("info"), row.section("error")
    asked = info.section("request_metrics", "text") if info.values.get("request_metrics") else info
    answered = info.section("response_metrics") if info.values.get("response_metrics") else info
    failed = bool(error.values)
    times = answered.values.get("output_token_times")
    token_s = [] if failed or times is None else all_numbers(times, f"{answered.where}: output_token_times")
    usage = answered.section("server_usage").optional_count("completion_tokens")
    end_ns = nanoseconds(row.number("end_time"))
    return TimedRequest(
        sent_ns=nanoseconds(row.number("start_time")),
        done_ns=end_ns,
        first_token_ns=nanoseconds(token_s[0]) if token_s else None,
        last_token_ns=None if failed else nanoseconds(token_s[-1]) if token_s else end_ns,
        chunk_ns=[nanoseconds(time) for time in token_s] or None,
        prompt_tokens=asked.optional_count("input_tokens"),
        output_tokens=None if failed else answered.optional_count("output_tokens") if usage is None else usage,
        output_tokens_source="tokenizer" if usage is None else "server",
        error_type=error.optional_text("error_type") or "request_error" if failed else None,
        error=clean(error.values.get("error_msg") or "no reason is given") if failed else None,
        http_status=_http_status(error),
    )


def _http_status(error: Row) -> int | None:
    """The status in a message such as `HTTP Error 503`."""
    word = (error.optional_text("error_type") or "").rpartition(" ")[2]
    return int(word) if word.isdigit() and len(word) == 3 else None


def _model(row: Row) -> str | None:
    text = row.values["request"]
    try:
        body = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return None
    return clean(body["model"]) if isinstance(body, dict) and body.get("model") else None
