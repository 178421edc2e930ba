"""AIPerf's exports: `profile_export.jsonl` (a record per request) and `profile_export_aiperf.json` (statistics).

Every value has its unit. Times in records are wall-clock ns.
"""

from __future__ import annotations

import itertools

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, only_model, read_objects
from helpers.importers.found import CUT_OFF, Found, FoundPoint, Served, TimedRequest, TwoCounts
from helpers.importers.printed import in_blocks
from helpers.importers.rows import Row, clean
from helpers.number_text import plural
from helpers.run.group_records import Group

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0, "min": 60.0}
COLUMN = {"request_latency": "latency_s", "time_to_first_token": "ttft_s", "inter_token_latency": "tpot_s"}
STATISTICS = "the statistics of AIPerf (profile_export_aiperf.json)"
RECORDS = "a record of AIPerf (profile_export.jsonl)"
USAGE = "usage_completion_tokens"
CANCELLED = "RequestCancellationError"


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point: from the records where the file ends in .jsonl, else from the statistics."""
    return (_from_records if file.path.suffix == ".jsonl" else _from_statistics)(file, option)


# --- records ------------------------------------------------------------------------------------------------------


def _from_records(file: OpenedFile, option: ImportedOption) -> Found:
    summary = _summary_beside(file)
    level = None if summary is None else _level(summary)
    rows = read_objects(file, RECORDS)
    kept = [row for row in rows if not _was_planned(row, summary)]
    requests = [_request(row, level is not None and level.is_open) for row in kept]
    counts = TwoCounts(*map(sum, zip(*map(_both_counts, rows), strict=True)))
    unknown = ["tokens per chunk", *([] if counts.server else ["who counted the tokens"])]
    if level is not None and level.is_open and not any(request.scheduled_ns for request in requests):
        unknown.append("when requests were to be sent: latency counts from the send")
    point = FoundPoint(
        file.shown, None, level, requests=requests, unknown=tuple(unknown), wall_clock=True, counts=counts
    )
    left_out = [f"{file.shown}: {_planned_words(len(rows) - len(kept))}"] if len(kept) < len(rows) else []
    return Found([point], _served(summary, option), left_out)


def _planned_words(count: int) -> str:
    return f"{plural(count, 'request')} that AIPerf cancelled by plan, which were neither answered nor failed"


def _was_planned(row: Row, summary: Row | None) -> bool:
    """True for a request cancelled by `--request-cancellation-rate`, not because the benchmark ended."""
    if not row.section("metadata").values.get("was_cancelled"):
        return False
    return _is_planned(str(row.values.get("error")), summary)


def _is_planned(error: str, summary: Row | None) -> bool:
    if "external signal" in error:
        return False
    return "after being sent" in error or (summary is not None and _cancels(summary))


def _cancels(summary: Row) -> bool:
    """True if the benchmark was configured to cancel requests."""
    settings = summary.section("input_config")
    asked = [phase.section("cancellation").values.get("rate") for phase in _phases(summary)]
    return any([*asked, settings.section("loadgen").values.get("request_cancellation_rate")])


def _both_counts(row: Row) -> tuple[int, int]:
    """Output tokens of an answer by AIPerf's tokenizer and by the server; both 0 where one is unknown."""
    metrics = row.section("metrics")
    client, server = (metrics.section(key).optional_count("value") for key in ("output_sequence_length", USAGE))
    return (0, 0) if client is None or server is None else (client, server)


def _request(row: Row, is_open: bool) -> TimedRequest:
    metadata, metrics = row.section("metadata"), row.section("metrics")
    sent_ns, end_ns = (metadata.optional_nanoseconds(f"request_{end}_ns") for end in ("start", "end"))
    if sent_ns is None or end_ns is None:
        raise ResultFileError(
            f"{row.where}: metadata.request_{'start' if sent_ns is None else 'end'}_ns: there is no value. Expected {RECORDS}. "
            "Next: correct `format` or `path` in the config"
        )
    error = row.values.get("error")
    cut_off = bool(metadata.values.get("was_cancelled"))
    failed = bool(error) or cut_off
    latency_ns, ttft_ns = _ns(metrics, "request_latency"), _ns(metrics, "time_to_first_token")
    prompt, output = _tokens(metrics, "input_sequence_length"), _tokens(metrics, "output_sequence_length")
    details = error if isinstance(error, dict) else {}
    source = None if _tokens(metrics, USAGE) is None else "tokenizer"
    return TimedRequest(
        sent_ns=sent_ns,
        done_ns=None if cut_off else end_ns,
        scheduled_ns=metadata.optional_nanoseconds("credit_issued_ns") if is_open else None,
        first_token_ns=None if failed or ttft_ns is None else sent_ns + ttft_ns,
        last_token_ns=None if failed else end_ns if latency_ns is None else sent_ns + latency_ns,
        chunk_ns=None if failed or ttft_ns is None else _chunks(metrics, sent_ns + ttft_ns),
        request_id=metadata.optional_text("x_request_id"),
        prompt_tokens=_tokens(metrics, "error_isl") if prompt is None else prompt,
        output_tokens=None if failed else _tokens(metrics, "output_token_count") if output is None else output,
        prompt_tokens_source=source,
        output_tokens_source=source,
        error_type=None if not failed else CUT_OFF if cut_off else clean(details.get("type") or "request_error"),
        error=clean(details.get("message") or error or "cut off") if failed else None,
        http_status=None if cut_off else _http_status(details.get("code")),
        measured=metadata.values.get("benchmark_phase") != "warmup",
    )


def _http_status(code: object) -> int | None:
    return code if isinstance(code, int) and 100 <= code <= 599 else None


def _ns(metrics: Row, key: str) -> int | None:
    seconds = _seconds(metrics.section(key), "value")
    return None if seconds is None else round(seconds * 1e9)


def _tokens(metrics: Row, key: str) -> int | None:
    return metrics.section(key).optional_count("value")


def _chunks(metrics: Row, first_ns: int) -> list[int] | None:
    block = metrics.section("inter_chunk_latency")
    gaps = block.numbers("value")
    if gaps is None:
        return None
    gaps_ns = (round(gap * _factor(block) * 1e9) for gap in gaps)
    return list(itertools.accumulate(gaps_ns, initial=first_ns))


# --- statistics ---------------------------------------------------------------------------------------------------


def _from_statistics(file: OpenedFile, option: ImportedOption) -> Found:
    row = read_objects(file, STATISTICS)[0]
    for key in ("request_count", "request_latency"):
        if not row.section(key).values:
            raise ResultFileError(
                f"{row.where}: no key {key!r}. Expected {STATISTICS}. Next: correct `format` or `path` in the config"
            )
    successes = row.section("request_count").count("avg")
    not_answered = row.section("error_request_count").optional_count("avg") or 0
    planned = min(not_answered, _planned_in_statistics(row))
    failures = not_answered - planned
    output = _total(row, ("total_osl", "total_output_tokens"), "output_sequence_length", successes)
    by_server = row.section(f"total_{USAGE}").optional_count("avg")
    counts = TwoCounts(0, 0) if None in (output, by_server) else TwoCounts(output, by_server)
    group = Group(
        requests=successes + failures,
        failures=failures,
        wall_s=_seconds(row.section("benchmark_duration"), "avg"),
        latency_mean_s=_seconds(row.section("request_latency"), "avg"),
        prompt_tokens=_total(row, ("total_isl",), "input_sequence_length", successes),
        output_tokens=output,
        source=row.where,
        reported=in_blocks(row, COLUMN, _seconds),
        reported_requests_per_s=row.section("request_throughput").optional_number("avg"),
    )
    unknown = ("times and latencies of single requests", "whether a steady state was reached")
    unknown += () if counts.server else ("who counted the tokens",)
    point = FoundPoint(file.shown, None, _level(row), groups=[group], unknown=unknown, counts=counts)
    left_out = [f"{file.shown}: {_planned_words(planned)}"] if planned else []
    return Found([point], _served(row, option), left_out)


def _planned_in_statistics(summary: Row) -> int:
    """Requests that were cancelled by plan, which AIPerf counts among the errors."""
    found = 0
    for one in summary.objects("error_summary"):
        details = one.section("error_details")
        if details.values.get("type") == CANCELLED and _is_planned(str(details.values.get("message")), summary):
            found += one.optional_count("count") or 0
    return found


def _total(row: Row, totals: tuple[str, ...], per_request: str, successes: int) -> int | None:
    """Tokens over all successes: the exported total, else computed from the mean per request."""
    for key in totals:
        if (value := row.section(key).optional_number("avg")) is not None:
            return round(value)
    mean = row.section(per_request).optional_number("avg")
    return None if mean is None else round(mean * successes)


def _seconds(block: Row, key: str) -> float | None:
    value = block.optional_number(key)
    return None if value is None else value * _factor(block)


def _factor(block: Row) -> float:
    unit = str(block.values.get("unit"))
    if unit not in SECONDS:
        raise ResultFileError(
            f"{block.where}: unit: bad value {unit!r}. Expected one of: {', '.join(SECONDS)}. Next: export again"
        )
    return SECONDS[unit]


# --- load, model and version --------------------------------------------------------------------------------------


def _summary_beside(file: OpenedFile) -> Row | None:
    """The statistics of the same run, which have the load; None if they are not next to the records."""
    beside = file.path.with_name(f"{file.path.stem}_aiperf.json")
    if not beside.is_file():
        return None
    shown = file.shown.removesuffix(file.path.name) + beside.name
    return read_objects(file._replace(path=beside, shown=shown), STATISTICS)[0]


def _phases(summary: Row) -> list[Row]:
    """The settings of the profiling phases: a list, or an object by name in earlier versions."""
    settings = summary.section("input_config")
    if isinstance(settings.values.get("phases"), dict):
        named = settings.section("phases")
        rows = [Row(named.where, {"name": name, **named.section(name).values}) for name in named.values]
    else:
        rows = settings.objects("phases")
    return [row for row in rows if "warmup" not in (row.values.get("name"), row.values.get("kind"))]


def _level(summary: Row) -> LoadLevel | None:
    """The profiling phase's rate, else its concurrency; None if the file has neither."""
    for phase in [*_phases(summary), summary.section("input_config", "loadgen")]:
        rate = phase.optional_number("rate") or phase.optional_number("request_rate")
        if rate:
            return LoadLevel("open_loop", rate)
        is_one = not isinstance(phase.values.get("concurrency"), list)
        if is_one and (concurrency := phase.optional_number("concurrency")):
            return LoadLevel("closed_loop", concurrency)
    return None


def _served(summary: Row | None, option: ImportedOption) -> Served:
    if summary is None:
        return Served("AIPerf")
    version = summary.optional_text("aiperf_version")
    settings = summary.section("input_config")
    names = [one.optional_text("name") for one in settings.section("models").objects("items")]
    earlier = settings.section("endpoint").values.get("model_names")
    names += [clean(name) for name in earlier] if isinstance(earlier, list) else []
    return Served(f"AIPerf {version}" if version else "AIPerf", only_model(names, summary.where, option))
