"""Closed loop: c workers, each sends its next request as soon as its last answer ended.

A load point passes through three phases, and a request belongs to the phase in which it was *sent*:

    warmup   until every worker has had its share of answers;
    steady   the measured window: opens at the first send after warm-up, closes at the first send after enough requests
             and enough time. Both ends are sends, so requests / length is an unbiased rate;
    drain    load goes on until every steady request has its answer, so that the last ones are not measured on a server
             that is already emptying.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic_ns

from helpers.config import ClosedLoop
from helpers.load.bodies import PreparedRequest, RequestWriter
from helpers.load.connection import Exchange, HttpConnection

TICK_S = 0.01
RECONNECT_PAUSE_S = 0.1


@dataclass(slots=True)
class Sent:
    """One request of a load point with what came back."""

    request_id: str
    prompt_id: str
    phase: str
    exchange: Exchange
    connect_ns: int | None


@dataclass(slots=True)
class Progress:
    """Counts of a load point under way."""

    phase: str = "warmup"
    sent: int = 0
    done: int = 0
    failed: int = 0
    steady_sent: int = 0
    steady_pending: int = 0


@dataclass(slots=True)
class Measured:
    """All requests of a load point, its window, and what the load process observed of itself."""

    sent: list[Sent]
    window_ns: tuple[int, int] | None
    """[open, close) of the steady window; null if it never opened."""
    ended_because: str
    loop_lag_ns: list[int] = field(default_factory=list)
    """How late the event loop served a timer, one value per tick."""
    cpu_share: float = 0.0
    """CPU seconds of the load process per second of load."""


class ClosedLoopLoad:
    """Runs one load point."""

    def __init__(
        self,
        load: ClosedLoop,
        concurrency: int,
        url: str,
        writer: RequestWriter,
        requests: list[PreparedRequest],
        id_prefix: str,
    ) -> None:
        self._load = load
        self._concurrency = concurrency
        self._url = url
        self._writer = writer
        self._next = self._numbered(requests)
        self._id_prefix = id_prefix
        self._sent: list[Sent] = []
        self._opened_ns: int | None = None
        self._closed_ns: int | None = None
        self._ended_because = "enough requests"
        self._warm_answers = 0
        self._warm_workers: set[int] = set()
        self._warm_target = load.warmup_for(concurrency)
        self.progress = Progress()

    async def run(self, on_tick: Callable[[Progress], None]) -> Measured:
        """Run to the end. `on_tick` is called every 10 ms and must return at once."""
        lags: list[int] = []
        ticking = asyncio.create_task(self._tick(lags, on_tick))
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            await asyncio.gather(*(self._worker(i) for i in range(self._concurrency)))
        finally:
            ticking.cancel()
            gc.enable()
            gc.unfreeze()
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        window = (self._opened_ns, self._closed_ns or monotonic_ns()) if self._opened_ns else None
        return Measured(self._sent, window, self._ended_because, lags, share)

    async def _worker(self, index: int) -> None:
        connection: HttpConnection | None = None
        while (item := self._take()) is not None:
            number, prepared = item
            request_id = f"{self._id_prefix}-{number}"
            connect_ns = None
            if connection is None or not connection.is_open:
                connection, connect_ns, refusal = await self._connect()
                if connection is None:
                    now = monotonic_ns()
                    failed = Exchange(sent_ns=now, done_ns=now, failure="connection", detail=refusal)
                    self._answered(index, Sent(request_id, prepared.prompt_id, self._phase_of_send(now), failed, None))
                    await asyncio.sleep(RECONNECT_PAUSE_S)
                    continue
            request = self._writer.write(request_id, prepared.body)
            phase = self._phase_of_send(monotonic_ns())
            exchange = await connection.send(request, self._load.request_timeout_s)
            self._answered(index, Sent(request_id, prepared.prompt_id, phase, exchange, connect_ns))
        if connection is not None:
            connection.close()

    async def _connect(self) -> tuple[HttpConnection | None, int | None, str | None]:
        """A connection and how long it took in ns, or why there is none."""
        started = monotonic_ns()
        try:
            connection = await HttpConnection.open(self._url, self._load.request_timeout_s)
        except (OSError, TimeoutError) as error:
            return None, None, f"could not connect: {error or type(error).__name__}"
        return connection, monotonic_ns() - started, None

    def _take(self) -> tuple[int, PreparedRequest] | None:
        """The next numbered prompt, or null when the load point is over."""
        if self.progress.phase == "done":
            return None
        item = next(self._next, None)
        if item is None:
            if self._closed_ns is None:
                self._closed_ns = monotonic_ns()
                self._ended_because = "prompts ran out"
            elif self.progress.phase == "drain":
                self._ended_because = "prompts ran out in the drain"
            self.progress.phase = "done"
        return item

    def _phase_of_send(self, now: int) -> str:
        """Count a send, and open or close the steady window with it."""
        progress = self.progress
        if progress.phase == "steady" and self._opened_ns is None:
            self._opened_ns = now
        elif progress.phase == "steady" and self._window_is_full(now):
            self._closed_ns = now
            progress.phase = "drain" if progress.steady_pending else "done"
        progress.sent += 1
        if progress.phase == "steady":
            progress.steady_sent += 1
            progress.steady_pending += 1
            return "steady"
        return "warmup" if progress.phase == "warmup" else "drain"

    def _window_is_full(self, now: int) -> bool:
        length_s = (now - self._opened_ns) / 1e9
        if length_s >= self._load.max_duration_s:
            self._ended_because = "max_duration_s"
            return True
        return self.progress.steady_sent >= self._load.min_requests and length_s >= self._load.min_duration_s

    def _answered(self, worker: int, sent: Sent) -> None:
        self._sent.append(sent)
        progress = self.progress
        progress.done += 1
        progress.failed += not sent.exchange.looks_ok
        if sent.phase == "warmup" and progress.phase == "warmup":
            self._warm_answers += 1
            self._warm_workers.add(worker)
            if self._warm_answers >= self._warm_target and len(self._warm_workers) == self._concurrency:
                progress.phase = "steady"
        elif sent.phase == "steady":
            progress.steady_pending -= 1
            if progress.phase == "drain" and progress.steady_pending == 0:
                progress.phase = "done"

    def _numbered(self, requests: list[PreparedRequest]) -> Iterator[tuple[int, PreparedRequest]]:
        number = 0
        while True:
            for request in requests:
                yield number, request
                number += 1
            if not self._load.repeat_prompts:
                return

    async def _tick(self, lags: list[int], on_tick: Callable[[Progress], None]) -> None:
        """Observe how late the event loop is, every 10 ms."""
        while True:
            due = monotonic_ns() + int(TICK_S * 1e9)
            await asyncio.sleep(TICK_S)
            lags.append(max(0, monotonic_ns() - due))
            on_tick(self.progress)
