"""The progress of an attempt, for display."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from helpers.config.load import LoadBase
from helpers.load.messages import SendingStatus
from helpers.load.window import Window

SHOW_EVERY_S = 0.25
RATE_OVER_S = 1.5
LATENCIES_OVER_S = 5.0


@dataclass(frozen=True)
class AttemptProgress:
    """Counts and rates of a running attempt, over all its load processes; unknown is None."""

    phase: str
    """`connecting`, `warmup`, `steady`, `drain` or `parsing`."""
    sent: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    rate_per_s: float | None = None
    """Answers per second, over the last second and a half."""
    ttft_p50_s: float | None = None
    """Of the last seconds, to the first byte of the body: a first look, which parsing may correct."""
    ttft_p95_s: float | None = None
    steady: int = 0
    wanted: int = 0
    seconds_left: float | None = None


OnProgress = Callable[[AttemptProgress], None]


class AttemptProgressView:
    """Puts progress together for the display, a few times a second."""

    def __init__(self, load: LoadBase, on_progress: OnProgress) -> None:
        self._load, self._on_progress = load, on_progress
        self._first_s: deque[tuple[float, float]] = deque(maxlen=2000)
        self._done: deque[tuple[float, int]] = deque(maxlen=20)
        self._shown_s = 0.0
        self._phase = ""

    def note(self, status: SendingStatus) -> None:
        """Remember times to the first byte."""
        now = time.monotonic()
        self._first_s.extend((now, value) for value in status.first_s)

    def show(self, phase: str | None, latest: Iterable[SendingStatus], window: Window) -> None:
        """Notify the listener if it is time to, or if a new phase has started."""
        now = time.monotonic()
        phase = phase or ("warmup" if window.open_ns is None else "steady")
        if phase == self._phase and now - self._shown_s < SHOW_EVERY_S:
            return
        self._phase, self._shown_s = phase, now
        latest = list(latest)
        done = sum(status.done for status in latest)
        self._done.append((now, done))
        since, before = next(((t, d) for t, d in self._done if now - t <= RATE_OVER_S), (now, done))
        rate = (done - before) / (now - since) if now > since else None
        recent = [value for at, value in self._first_s if now - at <= LATENCIES_OVER_S]
        wanted = self._load.min_requests
        self._on_progress(
            AttemptProgress(
                phase=phase,
                sent=sum(status.sent for status in latest),
                done=done,
                failed=sum(status.failed for status in latest),
                in_flight=sum(status.in_flight for status in latest),
                rate_per_s=rate,
                ttft_p50_s=float(np.percentile(recent, 50)) if recent else None,
                ttft_p95_s=float(np.percentile(recent, 95)) if recent else None,
                steady=window.requests,
                wanted=wanted,
                seconds_left=_seconds_left(wanted - window.requests, rate, self._load.min_duration_s - window.length_s),
            )
        )


def _seconds_left(requests: int, rate: float | None, seconds: float) -> float | None:
    """A guess: what is missing at the present rate."""
    return None if not rate else max(0.0, requests / rate, seconds)
