"""Open loop: requests go out by the schedule, however slow the answers."""

from __future__ import annotations

import math
from collections import deque
from time import monotonic_ns

import numpy as np

from helpers.load.bodies import PreparedRequest
from helpers.load.connection import HttpConnection, RawExchange
from helpers.load.messages import OPENING_AT_ONCE
from helpers.load.precise_timer import PreciseTimer
from helpers.load.sender import Sender
from helpers.load.spool import Row

FEWEST_SPARE = 4
MOST_OPENED_BEFOREHAND = 256


class OpenLoopSender(Sender):
    """This process's share of the arrivals. A request without a free connection waits while one is opened."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._schedule_ns: list[int] = np.load(self._spec.schedule_file)[self._share :: self._of].tolist()
        self._position = 0
        self._free: list[HttpConnection] = []
        self._opening = 0
        self._waiting: deque[tuple[Row, PreparedRequest]] = deque()
        self._again: dict[int, int] = {}
        """Number -> scheduled time of the requests for which a new connection is made."""
        self._timer: PreciseTimer | None = None
        self._start_ns = 0

    def _connections_wanted(self) -> int:
        return min(MOST_OPENED_BEFOREHAND, max(2 * FEWEST_SPARE, math.ceil(self._spec.level.value / self._of)))

    def _keep(self, index: int, connection: HttpConnection) -> None:
        self._free.append(connection)

    def _start(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._timer = PreciseTimer(self._send_due)
        self._timer.set(start_ns + self._schedule_ns[0] if self._schedule_ns else start_ns)

    def _send_due(self) -> None:
        """Send every request whose time has come, and set the timer for the next."""
        while not self._stopping:
            if self._position >= len(self._schedule_ns):
                self._ended = True
                return
            due = self._start_ns + self._schedule_ns[self._position]
            if due > monotonic_ns():
                self._timer.set(due)
                return
            number = self._share + self._position * self._of
            found = self._request_of(number)
            if found is None:
                return
            self._position += 1
            prompt, request = found
            row = Row(number, prompt, -1, due, 0, 0, 0)
            connection = self._free_connection()
            if connection is None:
                self._waiting.append((row, request))
            else:
                self._send(connection, row, request)
            self._open_spares()

    def _free_connection(self) -> HttpConnection | None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                connection.look()
            if connection.is_open:
                return connection
        return None

    def _open_spares(self) -> None:
        """Open connections ahead of need, outside any request's time."""
        wanted = len(self._waiting) + max(FEWEST_SPARE, len(self._in_flight) // 8)
        while len(self._free) + self._opening < wanted and self._opening < OPENING_AT_ONCE and not self._stopping:
            self._opening += 1
            self._spawn(self._open_one())

    async def _open_one(self) -> None:
        connection, refusal = await self._open()
        self._opening -= 1
        if connection is not None:
            self._serve(connection, connection.connect_ns, connection.tls_ns or 0)
        elif self._waiting:
            row, _ = self._waiting.popleft()
            self._note_refused(row, refusal)
        if self._waiting:
            self._open_spares()

    def _serve(self, connection: HttpConnection, connect_ns: int = 0, tls_ns: int = 0) -> None:
        """Give a free connection to the request that has waited longest, or keep it."""
        if self._waiting:
            row, request = self._waiting.popleft()
            self._send(connection, row._replace(connect_ns=connect_ns, tls_ns=tls_ns), request)
        elif self._stopping:
            connection.close()
        else:
            self._free.append(connection)

    async def _send_again(self, row: Row) -> None:
        self._again[row.number] = row.scheduled_ns
        connection, refusal = await self._open()
        del self._again[row.number]
        if connection is None:
            self._note_refused(row, refusal)
            return
        row = row._replace(connect_ns=connection.connect_ns, tls_ns=connection.tls_ns or 0)
        self._send(connection, row, self._requests[row.prompt])

    def _answered(self, connection: HttpConnection, exchange: RawExchange) -> None:
        row = self._in_flight.pop(connection)
        if connection.is_open:
            self._serve(connection)
        elif self._waiting:
            self._open_spares()
        self._note(row, exchange)

    def _hang_up(self) -> None:
        self._timer.close()
        for connection in self._free:
            connection.close()

    def _oldest_t0_ns(self) -> int | None:
        oldest = super()._oldest_t0_ns()
        waiting = self._waiting[0][0].scheduled_ns if self._waiting else None
        return min((t0 for t0 in (oldest, waiting, *self._again.values()) if t0 is not None), default=None)

    def _end_if_idle(self) -> None:
        if not self._waiting:
            super()._end_if_idle()
