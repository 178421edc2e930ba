"""GenAI-Perf: `profile_export_genai_perf.json` (statistics) and Perf Analyzer's `profile_export.json` (every request).

Statistics are in milliseconds, request times in wall-clock nanoseconds. Neither file has failures: Perf Analyzer stops at
the first one outside a stream. `profile_export.json` has the texts of answers; it has tokens only if the server
sent counts in its stream.
"""

from __future__ import annotations

import json

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, only_model, read_objects
from helpers.importers.found import FAILURES, Found, FoundPoint, Served, TimedRequest
from helpers.importers.printed import in_blocks
from helpers.importers.rows import Row, clean, refuse
from helpers.run.group_records import Group

TOOL = "GenAI-Perf"
STATISTICS_MARKS = ("request_latency", "request_throughput", "input_config.perf_analyzer")
PROFILE_MARKS = ("experiments", "service_kind")
COLUMN = {"request_latency": "latency_s", "time_to_first_token": "ttft_s", "inter_token_latency": "tpot_s"}
LEVELS = {"concurrency": "closed_loop", "request_rate": "open_loop"}
STEADY = "whether a steady state was reached"
NO_FAILURES = f"{FAILURES}: `aiperf profile`, the successor of GenAI-Perf, counts them"


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point from the statistics, or one per experiment of the requests."""
    row = read_objects(file, f"a result of {TOOL}")[0]
    if "experiments" in row.values:
        return Found([_experiment(one, option) for one in row.objects("experiments")], Served(TOOL))
    row.require(("request_latency", "request_throughput", "input_config"), f"a result of {TOOL}")
    return Found([_statistics(row, option)], Served(TOOL))


# --- statistics ---------------------------------------------------------------------------------------------------


def _statistics(row: Row, option: ImportedOption) -> FoundPoint:
    latency, rate = row.section("request_latency"), row.section("request_throughput").number("avg")
    for metric in COLUMN:
        block = row.section(metric)
        if block.values.get("unit", "ms") != "ms":
            block.refuse("unit", "'ms'")
    requests = _requests(row)
    group = Group(
        requests=requests,
        failures=0,
        failures_known=False,
        wall_s=requests / rate if rate else None,
        latency_mean_s=latency.number("avg") / 1e3,
        prompt_tokens=_tokens(row, "input_sequence_length", requests),
        output_tokens=_tokens(row, "output_sequence_length", requests),
        source=row.where,
        reported=in_blocks(row, COLUMN, _seconds),
        reported_requests_per_s=rate,
    )
    unknown = (NO_FAILURES, "times and latencies of single requests (import profile_export.json)", STEADY)
    settings = row.section("input_config")
    return FoundPoint(
        row.where, None, _level(settings), groups=[group], unknown=unknown, model=_model(settings, option)
    )


def _requests(row: Row) -> int:
    """How many requests the statistics cover; earlier versions leave it out."""
    if row.section("request_count").values:
        return row.section("request_count").count("avg")
    raise ResultFileError(
        f"{row.where}: no key 'request_count'. Expected a result of {TOOL} 0.0.9 or later. Next: import profile_export.json, "
        "which is in the same folder"
    )


def _seconds(block: Row, key: str) -> float | None:
    value_ms = block.optional_number(key)
    return None if value_ms is None else value_ms / 1e3


def _tokens(row: Row, key: str, requests: int) -> int | None:
    """Tokens over all requests, from the printed mean."""
    mean = row.section(key).optional_number("avg")
    return None if mean is None else round(mean * requests)


def _level(settings: Row) -> LoadLevel | None:
    """The stimulus; earlier versions have it as a top-level setting."""
    stimulus = settings.section("perf_analyzer", "stimulus")
    for key, kind in LEVELS.items():
        for place in (stimulus, settings):
            if value := place.optional_number(key):
                return LoadLevel(kind, value)
    return None


def _model(settings: Row, option: ImportedOption) -> str | None:
    names = settings.values.get("model_names") or settings.values.get("model")
    return only_model(
        [clean(name) for name in (names if isinstance(names, list) else [names]) if name], settings.where, option
    )


# --- requests -----------------------------------------------------------------------------------------------------


def _experiment(row: Row, option: ImportedOption) -> FoundPoint:
    experiment = row.section("experiment")
    kind = LEVELS.get(str(experiment.values.get("mode")))
    level = LoadLevel(kind, experiment.number("value")) if kind and experiment.number("value") else None
    rows = row.objects("requests")
    if not rows:
        row.refuse("requests", "a list of requests")
    requests = [_request(one) for one in rows]
    unknown = ["requests that failed before their answer began (GenAI-Perf stops at one)", "tokens per chunk"]
    if kind == "open_loop":
        unknown.append("when requests were to be sent: latency counts from the send")
    if any(one.output_tokens is None for one in requests if one.error_type is None):
        unknown.append(
            "tokens (measure with `--extra-inputs stream_options:'{\"include_usage\":true}'`, or import "
            "profile_export_genai_perf.json)"
        )
    names = [_payload(one).get("model") for one in rows]
    model = only_model([clean(name) for name in names if name], row.where, option)
    return FoundPoint(row.where, None, level, requests=requests, unknown=tuple(unknown), wall_clock=True, model=model)


def _request(row: Row) -> TimedRequest:
    """Times are those of the answer's parts; a first part without text, such as a role, is not a token."""
    times, parts = row.values.get("response_timestamps"), row.objects("response_outputs")
    sent_ns = _ns(row.values.get("timestamp"), f"{row.where}: timestamp")
    if not isinstance(times, list) or not times or len(times) != len(parts):
        row.refuse("response_timestamps", f"a list of {len(parts)} times, one per part of the answer")
    ends = [_ns(time, f"{row.where}: response_timestamps[{i}]") for i, time in enumerate(times)]
    events = [_events(part) for part in parts]
    chunk_ns = [end for end, one in zip(ends, events, strict=True) if any(map(_has_text, one))]
    failed = next((event["error"] for one in events for event in one if event.get("error")), None)
    usage = next((event["usage"] for one in events for event in one if isinstance(event.get("usage"), dict)), {})
    ok = failed is None and bool(chunk_ns)
    streamed = ok and len(parts) > 1
    counted = Row(f"{row.where}: usage", usage)
    return TimedRequest(
        sent_ns=sent_ns,
        done_ns=ends[-1],
        first_token_ns=chunk_ns[0] if streamed else None,
        last_token_ns=chunk_ns[-1] if ok else None,
        chunk_ns=chunk_ns if streamed else None,
        prompt_tokens=counted.count("prompt_tokens") if usage.get("prompt_tokens") is not None else None,
        output_tokens=counted.count("completion_tokens") if ok and usage.get("completion_tokens") is not None else None,
        prompt_tokens_source="server" if usage else None,
        output_tokens_source="server" if usage else None,
        error_type=None if ok else "request_error",
        error=None if ok else clean(failed or "no text in the answer"),
    )


def _ns(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        refuse(where, value, "nanoseconds as a whole number")
    return value


def _events(part: Row) -> list[dict]:
    """The JSON objects of one part of an answer: events of a stream, a whole answer, or Triton's answer."""
    found = [dict(part.values)]
    for line in _text(part, "response").splitlines():
        try:
            value = json.loads(line.removeprefix("data:").strip())
        except (ValueError, RecursionError):
            continue
        found += [value] if isinstance(value, dict) else []
    return found


def _has_text(event: dict) -> bool:
    """True if an event of the chat, completion or generate API has part of the answer's text."""
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    places = (first, first.get("delta"), first.get("message"), event)
    keys = ("content", "reasoning_content", "reasoning", "text", "text_output", "tool_calls")
    return any(isinstance(place, dict) and place.get(key) for place in places for key in keys)


def _payload(row: Row) -> dict:
    held = row.section("request_inputs")
    try:
        value = json.loads(_text(held, "payload") or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(row: Row, key: str) -> str:
    """A text of any length; empty if it is missing."""
    value = row.values.get(key)
    if value is not None and not isinstance(value, str):
        row.refuse(key, "a text")
    return value or ""
