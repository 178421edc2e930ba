"""AIPerf's exports: `profile_export.jsonl` (a record per request) and `profile_export_aiperf.json` (statistics).

Every value carries its unit. Times of records are ns of the wall clock.
"""

from __future__ import annotations

import json
from pathlib import Path

from helpers.config import BenchmarkConfig
from helpers.errors import ResultFileError
from helpers.group_records import Group
from helpers.importers.files import OpenedFile, Row, optional_number, read_objects, section
from helpers.importers.found import CUT_OFF, Found, FoundPoint, Served, TimedRequest
from helpers.load_config import LoadLevel
from helpers.options import ImportedOption

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0, "min": 60.0}
COLUMN = {"request_latency": "latency_s", "time_to_first_token": "ttft_s", "inter_token_latency": "tpot_s"}
STATISTICS = "the statistics of AIPerf (profile_export_aiperf.json)"
RECORDS = "a record of AIPerf (profile_export.jsonl)"


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point: from the records where the file ends in .jsonl, else from the statistics."""
    return _from_records(file) if file.path.suffix == ".jsonl" else _from_statistics(file)


# --- records ------------------------------------------------------------------------------------------------------


def _from_records(file: OpenedFile) -> Found:
    summary = _summary_beside(file)
    level = None if summary is None else _level(summary)
    rows = read_objects(file, RECORDS)
    requests = [_request(row, is_open=level is not None and level.is_open) for row in rows]
    unknown = ["tokens per chunk", "who counted the tokens"]
    if level is not None and level.is_open and not any(request.scheduled_ns for request in requests):
        unknown.append("when requests were to be sent: latency counts from the send")
    point = FoundPoint(file.shown, None, level, requests=requests, unknown=tuple(unknown), wall_clock=True)
    return Found([point], _served(summary))


def _request(row: Row, is_open: bool) -> TimedRequest:
    metadata, metrics = section(row, "metadata"), section(row, "metrics")
    sent_ns, end_ns = _whole(metadata, "request_start_ns"), _whole(metadata, "request_end_ns")
    if sent_ns is None or end_ns is None:
        raise ResultFileError(
            f"{row.where}: metadata.request_{'start' if sent_ns is None else 'end'}_ns: there is no value. Expected {RECORDS}. "
            "Next: correct `format` or `path` in the config"
        )
    error = row.values.get("error")
    cut_off = bool(metadata.values.get("was_cancelled"))
    failed = bool(error) or cut_off
    latency_ns, ttft_ns = _ns(metrics, "request_latency"), _ns(metrics, "time_to_first_token")
    output = _tokens(metrics, "output_sequence_length")
    details = error if isinstance(error, dict) else {}
    return TimedRequest(
        sent_ns=sent_ns,
        done_ns=None if cut_off else end_ns,
        scheduled_ns=_whole(metadata, "credit_issued_ns") if is_open else None,
        first_token_ns=None if failed or ttft_ns is None else sent_ns + ttft_ns,
        last_token_ns=None if failed else end_ns if latency_ns is None else sent_ns + latency_ns,
        chunk_ns=None if failed or ttft_ns is None else _chunks(metrics, sent_ns + ttft_ns),
        request_id=metadata.values.get("x_request_id"),
        prompt_tokens=_tokens(metrics, "input_sequence_length") or _tokens(metrics, "error_isl"),
        output_tokens=None if failed else output if output is not None else _tokens(metrics, "output_token_count"),
        error_type=None if not failed else CUT_OFF if cut_off else str(details.get("type") or "request_error"),
        error=str(details.get("message") or error or "cut off")[:500] if failed else None,
        http_status=details.get("code") if isinstance(details.get("code"), int) and not cut_off else None,
        measured=metadata.values.get("benchmark_phase") != "warmup",
    )


def _whole(row: Row, key: str) -> int | None:
    """Nanoseconds, which a float would round."""
    value = row.values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ns(metrics: Row, key: str) -> int | None:
    seconds = _seconds(section(metrics, key), "value")
    return None if seconds is None else round(seconds * 1e9)


def _tokens(metrics: Row, key: str) -> int | None:
    value = optional_number(section(metrics, key), "value")
    return None if value is None else round(value)


def _chunks(metrics: Row, first_ns: int) -> list[int] | None:
    block = section(metrics, "inter_chunk_latency")
    gaps = block.values.get("value")
    if not isinstance(gaps, list):
        return None
    times = [first_ns]
    for gap in gaps:
        times.append(times[-1] + round(float(gap) * _factor(block) * 1e9))
    return times


# --- statistics ---------------------------------------------------------------------------------------------------


def _from_statistics(file: OpenedFile) -> Found:
    row = read_objects(file, STATISTICS)[0]
    for key in ("request_count", "request_latency"):
        if not section(row, key).values:
            raise ResultFileError(
                f"{row.where}: no key {key!r}. Expected {STATISTICS}. Next: correct `format` or `path` in the config"
            )
    successes = round(optional_number(section(row, "request_count"), "avg") or 0)
    failures = round(optional_number(section(row, "error_request_count"), "avg") or 0)
    group = Group(
        requests=successes + failures,
        failures=failures,
        wall_s=_seconds(section(row, "benchmark_duration"), "avg"),
        latency_mean_s=_seconds(section(row, "request_latency"), "avg"),
        prompt_tokens=_total(row, ("total_isl",), "input_sequence_length", successes),
        output_tokens=_total(row, ("total_osl", "total_output_tokens"), "output_sequence_length", successes),
        source=row.where,
        reported=_printed(row),
        reported_requests_per_s=optional_number(section(row, "request_throughput"), "avg"),
    )
    unknown = ("times and latencies of single requests", "whether a steady state was reached", "who counted the tokens")
    return Found([FoundPoint(file.shown, None, _level(row), groups=[group], unknown=unknown)], _served(row))


def _total(row: Row, totals: tuple[str, ...], per_request: str, successes: int) -> int | None:
    """Tokens over all successes: the total where it was exported, else what the mean per request makes of them."""
    for key in totals:
        if (value := optional_number(section(row, key), "avg")) is not None:
            return round(value)
    mean = optional_number(section(row, per_request), "avg")
    return None if mean is None else round(mean * successes)


def _printed(row: Row) -> dict[str, float]:
    reported = {}
    for metric, column in COLUMN.items():
        block = section(row, metric)
        for key in block.values:
            if key in ("min", "max") or (key[0] == "p" and key[1:].isdigit()):
                value = _seconds(block, key)
                if value is not None:
                    reported[f"{column}_{key}"] = value
    return reported


def _seconds(block: Row, key: str) -> float | None:
    value = optional_number(block, key)
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
    """The statistics of the same run, which tell the load; null where they do not lie beside the records."""
    beside = file.path.with_name(f"{file.path.stem}_aiperf.json")
    try:
        content = json.loads(Path(beside).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Row(beside.name, content) if isinstance(content, dict) else None


def _level(summary: Row) -> LoadLevel | None:
    """The rate, or else the concurrency, of the profiling phase; null where the file does not tell."""
    settings = section(summary, "input_config")
    phases = settings.values.get("phases")
    if isinstance(phases, dict):
        phases = [{"name": name, **phase} for name, phase in phases.items() if isinstance(phase, dict)]
    candidates = [p for p in phases or [] if isinstance(p, dict) and "warmup" not in (p.get("name"), p.get("kind"))]
    candidates.append(section(settings, "loadgen").values)
    for values in candidates:
        phase = Row(summary.where, values)
        rate = optional_number(phase, "rate") or optional_number(phase, "request_rate")
        if rate:
            return LoadLevel("open_loop", rate)
        if not isinstance(values.get("concurrency"), list) and (c := optional_number(phase, "concurrency")):
            return LoadLevel("closed_loop", c)
    return None


def _served(summary: Row | None) -> Served:
    if summary is None:
        return Served("AIPerf")
    version = summary.values.get("aiperf_version")
    settings = section(summary, "input_config")
    models = section(settings, "endpoint").values.get("model_names")
    names = [str(name) for name in models] if isinstance(models, list) else []
    return Served(f"AIPerf {version}" if version else "AIPerf", " and ".join(sorted(set(names))) or None)
