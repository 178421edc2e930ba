"""Turns requests with times into request records with a warm-up, a steady window and a drain, as if they had been sent here.

Other tools measure from their first request to their last answer, which includes ramp-up and tail in every number. So a new
window is determined: it opens when every stream has had its first answer and latency has settled (`load.steady`), and it
closes with the last send before which all requests have ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.importers.found import CUT_OFF, FoundPoint, TimedRequest
from helpers.load.schedule import arrival_facts
from helpers.load.spread import percentiles_ms
from helpers.load.steady import steadiness_of
from helpers.run.group_records import Group
from helpers.run.records import WHOLE_SCHEDULE, ArrivalFacts, Attempt, AttemptFacts

CLOCK_SOURCE = "user"
"""These tools take timestamps in their own process, not in the kernel."""
TIMEOUT_WORDS = ("timeout", "timed out")
CONNECTION_WORDS = ("connect", "disconnected", "reset by peer")


@dataclass(frozen=True)
class Window:
    """The steady window of a load point, in ns of its requests' clock. Without a window the bounds are None."""

    open_ns: int | None
    close_ns: int | None
    steady: bool | None
    because: str


def records_of(found: FoundPoint, point: Attempt, config: BenchmarkConfig) -> tuple[list[dict], AttemptFacts]:
    """The request records of a load point, in order of t0, and its facts."""
    requests = sorted(found.requests, key=_t0)
    window = find_window(requests, point)
    rows = [_row(i, request, window, point) for i, request in enumerate(requests)]
    is_open = point.level.is_open
    lags = [r.sent_ns - r.scheduled_ns for r in requests if r.scheduled_ns is not None] if is_open else []
    generation = config.generation
    facts = AttemptFacts(
        option=point.option,
        dataset=point.dataset,
        load_point=point.id,
        load_kind=point.level.kind,
        level=float(point.level.value),
        repetition=point.repetition,
        window_open_ns=window.open_ns,
        window_close_ns=window.close_ns,
        ended_because=WHOLE_SCHEDULE,
        steady=window.steady,
        steady_because=window.because,
        asked_output_tokens=generation.max_output_tokens if generation else None,
        fixed_output_length=generation.fixed_output_length if generation else None,
        processes=[],
        scheduled=_arrivals([r.scheduled_ns for r in requests], window) if is_open else None,
        achieved=_arrivals([r.sent_ns for r in requests], window) if is_open else None,
        schedule_lag_ms=percentiles_ms(np.maximum(0, np.array(lags, "int64"))) if lags else None,
        turnaround_ms=None,
        connect_ms=None,
        tls_ms=None,
        clock_source=CLOCK_SOURCE,
        client_limited=[],
        clock_pairs=[(requests[0].sent_ns, requests[0].sent_ns)] if found.wall_clock else [],
    )
    return rows, facts


def with_window(found: FoundPoint, point: Attempt) -> FoundPoint | str:
    """The load point as it is if a window is found in it, else as the group of its requests; or why it is neither."""
    if not found.requests:
        return found
    requests = sorted(found.requests, key=_t0)
    window = find_window(requests, point)
    if window.open_ns is not None:
        return found
    ended = [request for request in requests if request.measured and request.done_ns is not None]
    if not ended:
        return f"{found.where}: {window.because}"
    unknown = f"a window without ramp-up and tail ({window.because}), so all requests are taken as one group"
    return replace(found, requests=[], groups=[_group(ended, found.where)], unknown=(*found.unknown, unknown))


def _group(requests: list[TimedRequest], where: str) -> Group:
    """A group of requests with known latencies but no window: one wave, for example."""
    ok = [request for request in requests if request.error_type is None]
    latency_s = [_seconds(_t0(one), one.last_token_ns) for one in ok]
    ttft_s = [_seconds(_t0(one), one.first_token_ns) for one in ok if one.first_token_ns is not None]
    first_ns, last_ns = min(one.sent_ns for one in requests), max(one.done_ns for one in requests)
    return Group(
        requests=len(requests),
        failures=len(requests) - len(ok),
        wall_s=_seconds(first_ns, last_ns),
        latency_mean_s=float(np.mean(latency_s)) if ok else None,
        prompt_tokens=_total([one.prompt_tokens for one in ok]),
        output_tokens=_total([one.output_tokens for one in ok]),
        source=where,
        sent_together=max(one.sent_ns for one in requests) <= min(one.done_ns for one in requests),
        latency_s=latency_s,
        ttft_s=ttft_s if len(ttft_s) == len(ok) else None,
        tpot_s=[tpot_s for one in ok if (tpot_s := _tpot_s(one)) is not None] or None,
    )


def _seconds(from_ns: int, until_ns: int) -> float:
    return (until_ns - from_ns) / 1e9


def _total(tokens: list[int | None]) -> int | None:
    return None if None in tokens else sum(tokens)


def _tpot_s(one: TimedRequest) -> float | None:
    if one.first_token_ns is None or (one.output_tokens or 0) < 2:
        return None
    return _seconds(one.first_token_ns, one.last_token_ns) / (one.output_tokens - 1)


def find_window(requests: list[TimedRequest], point: Attempt) -> Window:
    """The steady window among requests in order of their t0."""
    measured = [i for i, request in enumerate(requests) if request.measured and request.done_ns is not None]
    if not measured:
        return Window(None, None, False, "no measured request has ended")
    ends = [i for i, request in enumerate(requests) if request.done_ns is None]
    ends += [i for i, request in enumerate(requests) if i > measured[0] and not request.measured]
    until_ns = _t0(requests[min(ends, default=len(requests) - 1)])
    known = [requests[i] for i in measured if _t0(requests[i]) < until_ns]
    t0 = np.array([_t0(request) for request in known], dtype="int64")
    done = np.array([request.done_ns for request in known], dtype="int64")
    if point.level.kind == "ramp":
        bounds = (int(t0[0]), until_ns) if len(t0) else (None, None)
        return Window(*bounds, None, "the whole ramp is measured")
    streams = 1 if point.level.is_open else max(1, round(point.level.value))
    if len(t0) <= streams:
        return Window(None, None, False, f"{len(t0)} requests are too few to know: not every stream answered twice")
    floor_ns = int(t0[0]) if point.level.is_open else int(done[:streams].max())
    first = int(np.searchsorted(t0, floor_ns))
    if first >= len(t0):
        return Window(None, None, False, "the warm-up did not end")
    latency_s = (done[first:] - t0[first:]) / 1e9
    span_s = (until_ns - int(t0[first])) / 1e9
    in_flight = float(latency_s.sum() / span_s) if point.level.is_open and span_s > 0 else float(streams)
    ok = np.array([request.error_type is None for request in known[first:]])
    finding = steadiness_of(latency_s, in_flight, ok)
    opened = first + finding.start
    if opened >= len(t0):
        return Window(None, None, False, finding.because)
    return Window(int(t0[opened]), until_ns, finding.steady, finding.because)


def _t0(request: TimedRequest) -> int:
    return request.sent_ns if request.scheduled_ns is None else request.scheduled_ns


def _arrivals(times_ns: list[int | None], window: Window) -> ArrivalFacts | None:
    """Rate and regularity up to the end of the window; None if the file lacks some of the times."""
    if window.close_ns is None or any(time is None for time in times_ns):
        return None
    return arrival_facts(np.array([time for time in times_ns if time < window.close_ns], dtype="int64"))


def _row(number: int, request: TimedRequest, window: Window, point: Attempt) -> dict:
    """One request record; what the file does not have is None."""
    return {
        "option": point.option,
        "dataset": point.dataset,
        "load_point": point.id,
        "level": float(point.level.value),
        "repetition": point.repetition,
        "request_id": request.request_id or f"{point.id}-{number}",
        "phase": _phase(request, window),
        "scheduled_ns": request.scheduled_ns,
        "sent_ns": request.sent_ns,
        "first_token_ns": request.first_token_ns,
        "last_token_ns": request.last_token_ns,
        "done_ns": request.done_ns,
        "chunk_ns": request.chunk_ns,
        "clock_source": CLOCK_SOURCE,
        "prompt_tokens": request.prompt_tokens,
        "output_tokens": request.output_tokens,
        "prompt_tokens_source": request.prompt_tokens_source,
        "output_tokens_source": request.output_tokens_source,
        "status": _status(request),
        "http_status": request.http_status,
        "error_type": request.error_type,
        "error": request.error,
    }


def _phase(request: TimedRequest, window: Window) -> str:
    t0 = _t0(request)
    if window.open_ns is None or t0 < window.open_ns:
        return "warmup"
    return "steady" if t0 < window.close_ns and request.measured else "drain"


def _status(request: TimedRequest) -> str:
    """This project's error type for the error that the tool recorded."""
    if request.error_type is None:
        return "ok"
    if request.error_type == CUT_OFF:
        return "stream_broken"
    if request.http_status is not None and request.http_status >= 400:
        return "throttled" if request.http_status == 429 else "http_error"
    text = f"{request.error_type} {request.error}".lower()
    if any(word in text for word in TIMEOUT_WORDS):
        return "timeout"
    return "connection" if any(word in text for word in CONNECTION_WORDS) else "bad_response"
