"""What closed and open loops share in sending the requests of one load process. Bytes are stamped and kept, nothing is
parsed: connections, the requests in flight and their time-out, the spool, ticks that observe the event loop, and
the end: after the window's close, load goes on until every load process has reported that each request of the window is
answered, so that the last ones are not measured on a server that is already emptying.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from abc import ABC, abstractmethod
from array import array
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from time import monotonic_ns
from typing import NamedTuple

import numpy as np

from helpers.errors import LoadError
from helpers.load.bodies import PreparedRequest, RequestWriter
from helpers.load.connection import HttpConnection, RawExchange, Server, words_of_refusal
from helpers.load.messages import OPENING_AT_ONCE, AttemptSpec, Ready, SendingStatus, Sent
from helpers.load.precise_timer import PreciseTimer
from helpers.load.spool import ClockPairs, Row, SpoolWriter
from helpers.load.spread import percentiles_ms
from helpers.load.system import OWN_ERRORS, open_files_lacking

TICK_NS = 10_000_000
STANDSTILL_NS = 20_000_000
"""An event loop that is later than this was not merely busy: its process did not run."""
TICKS_PER_STATUS = 10
TICKS_PER_COLLECTION = 100
TICKS_PER_LOOK = 50
"""Each connection is looked at twice a second, a few at every tick."""
FIRST_BYTES_REPORTED = 100


class Refusal(NamedTuple):
    """Why there is no connection."""

    failure: str
    """`connection`, or `client` if it is this machine that allows no more."""
    words: str


NO_REFUSAL = Refusal("", "")
OWN_NEXT_STEP = "free what it lacks (open files, ports, memory), or lower the load"


class Sender(ABC):
    """One load process's share of an attempt: number `share` of `of`."""

    def __init__(
        self, spec: AttemptSpec, share: int, of: int, requests: list[PreparedRequest], spool: SpoolWriter
    ) -> None:
        self._spec = spec
        self._share, self._of = share, of
        self._requests = requests
        self._id_prefix = spec.request_id_prefix
        self._spool = spool
        self._server = Server(spec.address.url, spec.address.ca_file, spec.address.api)
        self._writer = RequestWriter(spec.address)
        self._timeout_ns = int(spec.load.request_timeout_s * 1e9)
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[HttpConnection, Row] = {}
        self._tasks: set[asyncio.Task] = set()
        self._over = asyncio.Event()
        self._stopping = False
        self._ended = False
        """True once all prompts, or all arrivals, are used up."""
        self._close_ns: int | None = None
        self._reported_clear = False
        self._sent = self._done = self._failed = 0
        self._first_s: deque[float] = deque(maxlen=FIRST_BYTES_REPORTED)
        self._lags = array("q")
        self._standstills: list[tuple[int, int]] = []
        self._own_failures: Counter[str] = Counter()
        self._clocks = ClockPairs()

    # --- commands -------------------------------------------------------------------------------------------------

    async def prepare(self) -> Ready:
        """Open the connections that the start needs. One that fails is retried when it is needed.

        Raises LoadError where this machine does not allow them.
        """
        if (lacking := open_files_lacking(self._connections_wanted())) is not None:
            needed, allowed = lacking
            raise LoadError(
                f"{self._connections_wanted()} connections need {needed} open files in a load process, and the system allows "
                f"{allowed} (the hard limit of RLIMIT_NOFILE). Next: raise it (ulimit -Hn {needed}; for a container --ulimit "
                f"nofile={needed}), share the load among more load.processes, or lower the load"
            )
        places = asyncio.Semaphore(OPENING_AT_ONCE)
        opened: list[HttpConnection] = []

        async def open_one(index: int) -> None:
            async with places:
                connection, refusal = await self._open()
                if connection is not None:
                    opened.append(connection)
                    self._keep(index, connection)
                elif refusal.failure == "client":
                    raise LoadError(f"this machine {refusal.words}. Next: {OWN_NEXT_STEP}")

        await asyncio.gather(*(open_one(i) for i in range(self._connections_wanted())))
        gc.collect()  # it takes longer than there is between the word to go and the start
        return Ready(
            connect_ns=[connection.connect_ns for connection in opened],
            tls_ns=[connection.tls_ns for connection in opened if connection.tls_ns is not None],
        )

    async def run(self, start_ns: int, report: Callable[[object], None]) -> Sent:
        """Send from `start_ns` on until `stop`; then wait for what is in flight."""
        gc.freeze()
        gc.disable()
        ticking = asyncio.create_task(self._tick(report))
        ticking.add_done_callback(raise_its_error)
        longest_s = self._spec.longest_load_s
        last_resort = self._loop.call_later(longest_s, self._never_stopped, longest_s)
        self._clocks.take()
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            self._start(start_ns)
            await self._over.wait()
        finally:
            ticking.cancel()
            last_resort.cancel()
            gc.enable()
            gc.unfreeze()
            self._clocks.take()
            self._hang_up()
            self._spool.close()
        return Sent(
            requests=self._done,
            ended=self._ended,
            cpu_s=time.process_time() - cpu,
            wall_s=time.perf_counter() - wall,
            loop_lag_ms=percentiles_ms(np.array(self._lags or [0])),
            standstills=self._standstills,
            own_failures=self._own_failures,
            peak_memory_mb=peak_memory_mb(),
            clock_pairs=self._clocks.pairs(),
        )

    def close_window(self, close_ns: int | None) -> None:
        """The steady window ends here; None: not yet."""
        self._close_ns = close_ns
        self._reported_clear = False

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping = True
        self._end_if_idle()

    # --- what differs ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _connections_wanted(self) -> int:
        """Connections to open beforehand."""

    @abstractmethod
    def _keep(self, index: int, connection: HttpConnection) -> None:
        """Accept a free connection."""

    @abstractmethod
    def _start(self, start_ns: int) -> None:
        """Begin to send at this time."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Close the remaining connections."""

    @abstractmethod
    async def _send_again(self, row: Row) -> None:
        """Send a request once more, on a connection of its own."""

    @abstractmethod
    def _answered(self, connection: HttpConnection, exchange: RawExchange) -> None:
        """An exchange has ended: first send what is to be sent now, then `_note` it."""

    # --- sending --------------------------------------------------------------------------------------------------

    def _request_of(self, number: int) -> tuple[int, PreparedRequest] | None:
        """(prompt, request) of a number; None if prompts may not repeat and are used up."""
        prompt = number
        if prompt >= len(self._requests):
            if not self._spec.load.repeat_prompts:
                self._ended = True
                return None
            prompt %= len(self._requests)
        return prompt, self._requests[prompt]

    def _send(self, connection: HttpConnection, row: Row, request: PreparedRequest) -> None:
        data = self._writer.write(f"{self._id_prefix}-{row.number}", request)
        self._sent += 1
        self._in_flight[connection] = row
        connection.send(data, self._answered)

    def _note(self, row: Row, exchange: RawExchange) -> None:
        """Keep an exchange that has ended."""
        self._done += 1
        first_ns, looks_ok = exchange.first_body_ns, exchange.looks_ok
        if not looks_ok:
            self._failed += 1
            if exchange.failure == "client":
                self._own_failures[exchange.detail] += 1
        elif first_ns:
            self._first_s.append((first_ns - (row.scheduled_ns or exchange.sent_ns)) / 1e9)
        self._spool.append(row, exchange, first_ns, looks_ok)
        if self._stopping:
            self._end_if_idle()

    def _note_refused(self, row: Row, refusal: Refusal) -> None:
        """Keep a request for which there was no connection."""
        now = monotonic_ns()
        self._sent += 1
        self._note(row, RawExchange(sent_ns=now, done_ns=now, failure=refusal.failure, detail=refusal.words))

    async def _open(self) -> tuple[HttpConnection | None, Refusal]:
        """A connection, or why there is none."""
        load = self._spec.load
        try:
            connection = await HttpConnection.open(self._server, load.request_timeout_s, load.max_answer_bytes)
        except (OSError, TimeoutError) as error:
            own = error.errno in OWN_ERRORS
            words = f"could not connect: {words_of_refusal(error)}"
            return None, Refusal("client" if own else "connection", words)
        connection.on_stale = self._was_stale
        return connection, NO_REFUSAL

    def _was_stale(self, connection: HttpConnection) -> None:
        """A kept-alive connection was closed before the first byte of the answer: as HTTP allows, the request is sent again on
        a new connection, and its row records that.
        """
        row = self._in_flight.pop(connection)._replace(resent=1)
        self._sent -= 1
        self._spawn(self._send_again(row))

    def _spawn(self, coroutine) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        raise_its_error(task)
        if self._stopping:
            self._end_if_idle()

    def _never_stopped(self, after_s: float) -> None:
        """Load must end, even if nobody is left to stop it. As a fault of the event loop, this ends the process."""
        raise LoadError(f"nobody stopped this load within {after_s:g} s")

    def _end_if_idle(self) -> None:
        if not self._in_flight and not self._tasks:
            self._over.set()

    def _is_clear(self) -> bool:
        """True if every request of the window is answered."""
        oldest = self._oldest_t0_ns()
        return (
            self._close_ns is not None
            and monotonic_ns() >= self._close_ns
            and (oldest is None or oldest >= self._close_ns)
        )

    def _oldest_t0_ns(self) -> int | None:
        """t0 of the oldest request in flight."""
        connection = next(iter(self._in_flight), None)
        if connection is None:
            return None
        return self._in_flight[connection].scheduled_ns or connection.sent_ns

    # --- every ten milliseconds -----------------------------------------------------------------------------------

    async def _tick(self, report: Callable[[object], None]) -> None:
        """Observe how late the event loop is, give up what takes too long, report the status."""
        rang = asyncio.Event()
        timer = PreciseTimer(rang.set)
        ticks, due = 0, monotonic_ns()
        try:
            while True:
                due = max(due + TICK_NS, monotonic_ns())
                timer.set(due)
                await rang.wait()
                rang.clear()
                now = monotonic_ns()
                self._lags.append(lag := max(0, now - due))
                if lag > STANDSTILL_NS:
                    self._standstills.append((due, now))
                self._give_up_late(now)
                for connection in list(islice(self._in_flight, ticks % TICKS_PER_LOOK, None, TICKS_PER_LOOK)):
                    connection.look()
                ticks += 1
                clear = not self._reported_clear and self._is_clear()
                if clear or ticks % TICKS_PER_STATUS == 0:
                    self._reported_clear |= clear
                    self._clocks.take()
                    self._spool.flush()
                    report(self._status())
                if ticks % TICKS_PER_COLLECTION == 0:
                    gc.collect(1)
        finally:
            timer.close()

    def _give_up_late(self, now: int) -> None:
        limit = now - self._timeout_ns
        late = []
        for connection in self._in_flight:
            if connection.sent_ns > limit:
                break
            late.append(connection)
        for connection in late:
            connection.look()  # its API may have ended it
            how = "none of it came" if connection.is_unanswered else "it began and did not end"
            words = f"no complete answer after {self._spec.load.request_timeout_s:g} s"
            connection.give_up("timeout", f"{words} from {self._server.name}: {how}")

    def _status(self) -> SendingStatus:
        status = SendingStatus(
            sent=self._sent,
            done=self._done,
            failed=self._failed,
            in_flight=len(self._in_flight),
            oldest_t0_ns=self._oldest_t0_ns(),
            first_s=list(self._first_s),
            ended=self._ended,
            clear_ns=self._close_ns if self._reported_clear else None,
        )
        self._first_s.clear()
        return status


def raise_its_error(task: asyncio.Task) -> None:
    """As a callback: an error that nobody awaits becomes a fault of the event loop instead of being lost."""
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


def peak_memory_mb() -> float:
    """Largest resident set of this process, MB; where Linux reports it, without that of the process that started this one."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
