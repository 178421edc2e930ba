"""From the index of an attempt to its steady window: what `AttemptRun` checks while load runs, and at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helpers.config.load import Ramp, TraceReplay, warmup_answers
from helpers.load.messages import AttemptSpec
from helpers.load.steady import steadiness_of
from helpers.metrics.intervals import (
    CONFIDENCE,
    Interval,
    Sides,
    design_effect,
    percentile,
    percentile_interval,
    rate_interval,
)
from helpers.metrics.looks import share_spent_at


class Times:
    """t0, end, worker and outcome of the requests that have ended, of all load processes; appended to as the index grows."""

    def __init__(self) -> None:
        self._columns: tuple[list[np.ndarray], ...] = ([], [], [], [])
        self._in_order = True

    def append(self, rows: np.ndarray) -> None:
        """Add rows of an index."""
        if len(rows):
            t0 = np.where(rows["scheduled_ns"] > 0, rows["scheduled_ns"], rows["sent_ns"])
            columns = t0, rows["done_ns"], rows["worker"].astype("int32"), rows["ok"] != 0
            for parts, values in zip(self._columns, columns, strict=True):
                parts.append(values)
            self._in_order = False

    def in_order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(t0_ns, done_ns, worker, ok), in order of t0. One column at a time: there may be millions of rows."""
        if not self._in_order:
            order = None
            for parts in self._columns:
                whole = np.concatenate(parts)
                parts.clear()
                order = np.argsort(whole, kind="stable") if order is None else order
                parts.append(whole[order])
            self._in_order = True
        return tuple(parts[0] if parts else np.empty(0, "int64") for parts in self._columns)


@dataclass(frozen=True)
class Window:
    """What is known of the steady window. Times in ns of CLOCK_MONOTONIC."""

    open_ns: int | None
    """None while the warm-up lasts."""
    requests: int
    length_s: float
    steady: bool | None
    because: str
    overloaded: bool
    enough: bool
    """True if nothing is lacking: requests, length, steadiness and, if configured, the width of the intervals."""


NO_WINDOW = Window(None, 0, 0.0, False, "the warm-up did not end", False, False)


def find_window(times: Times, spec: AttemptSpec, start_ns: int, until_ns: int) -> Window:
    """The window among requests with t0 before `until_ns`, all of which have ended."""
    t0, done, worker, ok = times.in_order()
    known = int(np.searchsorted(t0, until_ns))
    floor_ns = _warmup_floor_ns(t0[:known], done[:known], worker[:known], spec, start_ns)
    if floor_ns is None:
        return NO_WINDOW
    first = int(np.searchsorted(t0[:known], floor_ns))
    if first >= known:
        return NO_WINDOW
    load = spec.load
    if isinstance(load, Ramp | TraceReplay):
        whole = "the whole ramp is measured" if isinstance(load, Ramp) else "the whole trace is measured"
        steady = None if isinstance(load, Ramp) else True
        open_ns = max(floor_ns, start_ns)
        return Window(open_ns, known - first, (until_ns - open_ns) / 1e9, steady, whole, False, False)
    latency_s = (done[first:known] - t0[first:known]) / 1e9
    span_s = (until_ns - int(t0[first])) / 1e9
    streams = spec.level.value if spec.level.is_held or span_s <= 0 else float(latency_s.sum() / span_s)
    finding = steadiness_of(latency_s, streams, ok[first:known])
    opened = first + finding.start
    if opened >= known:
        return NO_WINDOW
    open_ns, requests = int(t0[opened]), known - opened
    length_s = (until_ns - open_ns) / 1e9
    large = requests >= load.min_requests and length_s >= load.min_duration_s
    because, enough = finding.because, large and finding.steady
    if large and finding.steady and spec.fewest_independent > 1:
        wanted = spec.fewest_independent * _effect_so_far(latency_s[finding.start :], spec)
        enough = enough and requests >= wanted
        because += (
            f"; about {wanted:.0f} requests make the {spec.fewest_independent} independent ones that the SLO asks for"
        )
    if enough and load.target_relative_ci is not None:
        look = _looks_so_far(requests, spec)
        n = load.min_requests * 2 ** (look - 1)
        ends_ns = int(t0[opened + n]) if n < requests else until_ns
        here = slice(opened, opened + n)
        throughput, percent = _relative_half_widths(t0[here], done[here], ok[here], ends_ns, spec, look)
        enough = max(throughput, percent) <= load.target_relative_ci
        because += (
            f"; at {n} requests, 95% intervals that hold at all looks: ±{throughput:.1%} of throughput, ±{percent:.1%} of "
            f"p{spec.percentile:g} latency"
        )
    return Window(open_ns, requests, length_s, finding.steady, because, large and finding.overloaded, enough)


def _effect_so_far(latency_s: np.ndarray, spec: AttemptSpec) -> float:
    """The design effect of the first `min_requests` requests, or of the largest available power of two times as many.

    It is rarely recomputed: a window that closed as soon as its requests happened to look independent would be selected
    by chance.
    """
    known = spec.load.min_requests * 2 ** (_looks_so_far(len(latency_s), spec) - 1)
    return design_effect([latency_s[:known]], spec.percentile)


def _looks_so_far(requests: int, spec: AttemptSpec) -> int:
    """A window is looked at when it holds `min_requests`, and twice, four times, ... as many."""
    return 1 + max(0, math.floor(math.log2(requests / spec.load.min_requests)))


def _relative_half_widths(
    t0: np.ndarray, done: np.ndarray, ok: np.ndarray, close_ns: int, spec: AttemptSpec, look: int
) -> tuple[float, float]:
    """How far the intervals of throughput and of the SLO's percentile of latency reach on their wider side, as shares of the
    value; inf where that is not known.

    They are the report's for the requests so far, as if the window ended at `close_ns`; but all looks up to any together err as
    rarely as one 95% interval does.
    """
    error = (1 - CONFIDENCE) * share_spent_at(look)
    lasted_s = (done - t0) / 1e9
    durations = np.diff(np.append(t0, close_ns)) / 1e9 if not spec.level.is_held else lasted_s
    rate = rate_interval([ok.astype(float)], [durations], Sides(1 - error / 2, 1 - error / 2), independent=False)
    values = np.where(ok, lasted_s, math.inf)
    at = percentile(values, spec.percentile)
    effect = design_effect([values], spec.percentile)
    reached = percentile_interval(values, spec.percentile, effect, not spec.level.is_open, 1 - error)
    return _reach(ok.sum() / durations.sum(), rate), _reach(at, reached)


def _reach(value: float, interval: Interval) -> float:
    if None in interval or not 0 < value < math.inf:
        return math.inf
    return max(interval.high - value, value - interval.low) / value


def _warmup_floor_ns(
    t0: np.ndarray, done: np.ndarray, worker: np.ndarray, spec: AttemptSpec, start_ns: int
) -> int | None:
    """Earliest possible end of the warm-up; None if it has not been reached.

    Closed loop: `warmup_requests` answers per worker on average, and one by each. Open loop: `warmup_s`. Sessions all begin with
    their short first turns, so with conversations it takes besides as many answers of each user as a session has turns (closed
    loop), or the time that a session takes (open loop), on average.
    """
    load, sessions = spec.load, spec.sessions
    if spec.level.is_open:
        warmup_s = getattr(load, "warmup_s", 0.0)
        if sessions is not None and len(done):
            each_s = sessions.conversations.mean_think_s + float((done - t0).mean()) / 1e9
            warmup_s = max(warmup_s, sessions.mean_turns * each_s)
        return start_ns + int(warmup_s * 1e9)
    concurrency = int(spec.level.value)
    answers = warmup_answers(load, concurrency)
    if sessions is not None:
        answers = max(answers, math.ceil(sessions.mean_turns * concurrency))
    if len(done) < answers:
        return None
    workers, first_of_worker = np.unique(worker, return_index=True)
    if len(workers) < concurrency:
        return None
    enough_answers = np.partition(done, answers - 1)[answers - 1]
    return int(max(enough_answers, done[first_of_worker].max()))
