"""Consistency checks: a file that contradicts itself is refused, with place, value and next step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NoReturn

from helpers.config.load_level import LoadLevel
from helpers.errors import ResultFileError
from helpers.importers.found import FoundPoint, TimedRequest
from helpers.importers.rows import LAST_NS
from helpers.run.group_records import Group

MOST_REQUESTS = 2**31 - 1
LEAST_IN_FLIGHT, MOST_IN_FLIGHT = 0.01, 1.5
"""Multiples of the concurrency beyond which a file is refused; less than that is a warning of the report."""
ORDER = {
    "sent_ns": "the send",
    "first_token_ns": "the first token",
    "last_token_ns": "the last token",
    "done_ns": "the end",
}
SLACK_NS = 1_000_000
"""Tolerance for the order of times that a tool rounded, or took from two clocks."""


def check_point(point: FoundPoint, level: LoadLevel) -> None:
    """Raise ResultFileError for a load point with impossible values; `level`: of the file, or of its entry in the config."""
    for i, request in enumerate(point.requests):
        _check_request(request, f"{point.where}: request {i + 1}")
    for group in point.groups:
        _check_group(group)
    if level.is_held:
        for where, count, in_flight in _in_flight(point):
            if not LEAST_IN_FLIGHT * min(level.value, count) <= in_flight <= MOST_IN_FLIGHT * level.value:
                _refuse(
                    where,
                    f"by its latencies and its time {in_flight:,.4g} requests were in flight on average, at a concurrency of "
                    f"{level.value:g}: one of the three is wrong, or in another unit",
                )


def _in_flight(point: FoundPoint) -> Iterator[tuple[str, int, float]]:
    """Where, of how many answers, and how many requests were in flight on average (Little's law): sum of the latencies / time."""
    ended = [request for request in point.requests if request.done_ns is not None]
    if ended:
        span = max(request.done_ns for request in ended) - min(request.sent_ns for request in ended)
        if span > 0:
            yield point.where, len(ended), sum(request.done_ns - request.sent_ns for request in ended) / span
    for group in point.groups:
        answers = group.requests - group.failures
        if group.wall_s and group.latency_mean_s is not None and answers:
            yield group.source, answers, answers * group.latency_mean_s / group.wall_s


def _refuse(where: str, problem: str) -> NoReturn:
    raise ResultFileError(f"{where}: {problem}. Expected values that agree. Next: look at the file, or export it again")


def _check_request(request: TimedRequest, where: str) -> None:
    times = [(words, ns) for name, words in ORDER.items() if (ns := getattr(request, name)) is not None]
    for words, ns in times:
        if not 0 <= ns < LAST_NS:
            _refuse(where, f"{words} is at {ns / 1e9:g} s")
    for (before, earlier), (after, later) in itertools.pairwise(times):
        if later < earlier - SLACK_NS:
            _refuse(where, f"{after} lies {(earlier - later) / 1e9:.3g} s before {before}")
    if request.scheduled_ns is not None and request.scheduled_ns > max(ns for _, ns in times):
        _refuse(where, "its scheduled send is after its end")


def _check_group(group: Group) -> None:
    if not 0 <= group.failures <= group.requests <= MOST_REQUESTS or group.requests == 0:
        _refuse(group.source, f"{group.failures} of {group.requests} requests failed")
    for column in ("latency_s", "ttft_s", "tpot_s"):
        _check_printed(group, column)
    for name, ttft in group.reported.items():
        latency = group.reported.get(name.replace("ttft_s", "latency_s", 1), math.inf)
        if name.startswith("ttft_s_") and ttft > latency * (1 + 1e-9):
            _refuse(group.source, f"{name.removeprefix('ttft_s_')} of ttft is {ttft:g} s, of latency {latency:g} s")


def _check_printed(group: Group, column: str) -> None:
    values = {
        name.removeprefix(f"{column}_"): value for name, value in group.reported.items() if name.startswith(column)
    }
    percents = sorted((float(name[1:]), value) for name, value in values.items() if name[0] == "p")
    ends = ([(0.0, values["min"])] if "min" in values else []) + percents
    ends += [(100.0, values["max"])] if "max" in values else []
    for (_, lower), (percent, higher) in itertools.pairwise(ends):
        if higher < lower * (1 - 1e-9):
            _refuse(
                group.source, f"p{percent:g} of {column.removesuffix('_s')} is {higher:g} s, a lower one {lower:g} s"
            )
