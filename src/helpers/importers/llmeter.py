"""LLMeter (awslabs): `responses.jsonl` of a result folder, one line per request, with `summary.json` and `run_config.json`.

Latencies are in seconds; `request_time` is the wall clock's when a request was sent. The other two files tell the clients and
the model. Of a request that failed LLMeter keeps neither its latency nor, mostly, its tokens.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

from helpers.config import BenchmarkConfig
from helpers.errors import ResultFileError
from helpers.group_records import Group
from helpers.importers.files import (
    OpenedFile,
    Row,
    clean,
    number,
    optional_count,
    optional_number,
    optional_text,
    read_objects,
    refuse,
    require,
    section,
)
from helpers.importers.found import Found, FoundPoint, Served, TimedRequest
from helpers.load_config import LoadLevel
from helpers.options import ImportedOption

TOOL = "LLMeter"
RESPONSE = ("response_text", "time_to_last_token", "num_tokens_output")
SUMMARY = ("total_requests", "clients", "total_test_time")
STATISTICS = ("failed_requests", "failed_requests_rate", "time_to_last_token-p50")
UNKNOWN = ("chunks of the answers", "who counted the tokens", "how long requests took that failed")


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point: the responses of a folder."""
    rows = read_objects(file, f"a response of {TOOL}")
    if not set(rows[0].values).issuperset(RESPONSE):
        raise ResultFileError(
            f"{file.shown}: holds statistics of {TOOL}. Expected its responses.jsonl, of which all else follows. Next: write "
            "`path: .../responses.jsonl`; if it is missing, measure with `output_path` set"
        )
    for row in rows:
        require(row, ("time_to_last_token", "num_tokens_output"), f"a response of {TOOL}")
    summary = _beside(file)
    clients = optional_number(summary, "clients")
    level = LoadLevel("closed_loop", clients) if clients else None
    if all(row.values.get("request_time") for row in rows):
        requests = [_request(row) for row in rows]
        point = FoundPoint(file.shown, None, level, requests=requests, unknown=UNKNOWN, wall_clock=True)
    else:
        unknown = (
            *UNKNOWN,
            "when requests were sent (measure with LLMeter 0.2 or later)",
            "whether a steady state was reached",
        )
        point = FoundPoint(file.shown, None, level, groups=[_group(rows, summary, file)], unknown=unknown)
    return Found([point], _served(summary))


def _request(row: Row) -> TimedRequest:
    sent_ns = _sent_ns(row)
    error = optional_text(row, "error")
    took_s, ttft_s = optional_number(row, "time_to_last_token"), optional_number(row, "time_to_first_token")
    if error is None and took_s is None:
        refuse(f"{row.where}: time_to_last_token", None, "the seconds that an answer took")
    done_ns = sent_ns + round((took_s or 0.0) * 1e9)
    return TimedRequest(
        sent_ns=sent_ns,
        done_ns=done_ns,
        first_token_ns=None if error or ttft_s is None else sent_ns + round(ttft_s * 1e9),
        last_token_ns=None if error else done_ns,
        request_id=optional_text(row, "id"),
        prompt_tokens=optional_count(row, "num_tokens_input"),
        output_tokens=None if error else optional_count(row, "num_tokens_output"),
        error_type="request_error" if error else None,
        error=error,
    )


def _sent_ns(row: Row) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time; UTC where it names no zone."""
    value = row.values["request_time"]
    try:
        time = datetime.fromisoformat(str(value))
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        refuse(f"{row.where}: request_time", value, "a time as 2026-09-01T12:00:00+00:00")
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def _group(rows: list[Row], summary: Row, file: OpenedFile) -> Group:
    """All responses as one group, where some lack the time at which they were sent."""
    ok = [row for row in rows if optional_text(row, "error") is None]
    latency_s = [number(row, "time_to_last_token") for row in ok]
    ttft_s = [optional_number(row, "time_to_first_token") for row in ok]
    return Group(
        requests=len(rows),
        failures=len(rows) - len(ok),
        wall_s=optional_number(summary, "total_test_time"),
        latency_mean_s=math.fsum(latency_s) / len(ok) if ok else None,
        prompt_tokens=_total(ok, "num_tokens_input"),
        output_tokens=_total(ok, "num_tokens_output"),
        source=file.shown,
        latency_s=latency_s,
        ttft_s=None if None in ttft_s else ttft_s,
    )


def _total(rows: list[Row], key: str) -> int | None:
    tokens = [optional_count(row, key) for row in rows]
    return None if None in tokens else sum(tokens)


def _beside(file: OpenedFile) -> Row:
    """`summary.json`, else what `run_config.json` says of clients and endpoint; empty where neither lies beside the file."""
    for name in ("summary.json", "run_config.json"):
        path = file.path.with_name(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            continue
        row = Row(str(path.relative_to(file.path.parent)), content if isinstance(content, dict) else {})
        if "endpoint" not in row.values:
            return row
        endpoint = section(row, "endpoint")
        return Row(row.where, {**row.values, **(section(endpoint, "__llmeter_state__").values or endpoint.values)})
    return Row(file.shown, {})


def _served(summary: Row) -> Served:
    """What was called. A SageMaker endpoint is named for the model where the caller gave no model's id."""
    model, endpoint = optional_text(summary, "model_id"), optional_text(summary, "endpoint_name")
    return Served(TOOL, model=None if model == endpoint else model, deployment=endpoint and clean(endpoint))
