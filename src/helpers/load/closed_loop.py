"""Closed loop: c workers, each sends its next request as soon as its last answer has ended."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

from helpers.load.connection import HttpConnection, RawExchange
from helpers.load.sender import Sender
from helpers.load.spool import Row

RECONNECT_PAUSE_S = 0.1
START_GAP_S = 0.001


class ClosedLoopSender(Sender):
    """This process's share of the workers."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._workers = range(self._share, int(self._spec.level.value), self._of)
        self._connections: dict[int, HttpConnection] = {}
        self._next = self._share

    def _connections_wanted(self) -> int:
        return len(self._workers)

    def _keep(self, index: int, connection: HttpConnection) -> None:
        connection.worker = self._workers[index]
        self._connections[connection.worker] = connection

    def _start(self, start_ns: int) -> None:
        self._loop.call_later(max(0, start_ns - monotonic_ns()) / 1e9, self._start_workers)

    def _start_workers(self) -> None:
        """Staggered: workers that start together stay in step, and queue up as no real users would."""
        for worker in self._workers:
            self._loop.call_later(worker * START_GAP_S, self._start_worker, worker)

    def _start_worker(self, worker: int) -> None:
        self._send_next(worker, self._connections.get(worker), 0)

    def _send_next(self, worker: int, connection: HttpConnection | None, idle_since_ns: int) -> None:
        if self._stopping:
            return
        if connection is None or not connection.is_open:
            self._spawn(self._reconnect(worker))
            return
        number = self._next
        found = self._request_of(number)
        if found is None:
            connection.close()
            return
        self._next += self._of
        prompt, request = found
        self._send(connection, Row(number, prompt, worker, 0, idle_since_ns, 0, 0), request)

    async def _reconnect(self, worker: int) -> None:
        """Reconnect and send; a refusal is a failed request. The time that takes does not count as the worker being idle."""
        while not self._stopping:
            connection, refusal = await self._open()
            number = self._next
            found = self._request_of(number)
            if self._stopping or found is None:
                if connection is not None:
                    connection.close()
                return
            self._next += self._of
            prompt, request = found
            if connection is not None:
                connection.worker = worker
                self._connections[worker] = connection
                row = Row(number, prompt, worker, 0, 0, connection.connect_ns, connection.tls_ns or 0)
                self._send(connection, row, request)
                return
            self._note_refused(Row(number, prompt, worker, 0, 0, 0, 0), refusal)
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _send_again(self, row: Row) -> None:
        connection, refusal = await self._open()
        if connection is None:
            self._note_refused(row, refusal)
            await asyncio.sleep(RECONNECT_PAUSE_S)
            await self._reconnect(row.worker)
            return
        connection.worker = row.worker
        self._connections[row.worker] = connection
        row = row._replace(idle_since_ns=0, connect_ns=connection.connect_ns, tls_ns=connection.tls_ns or 0)
        self._send(connection, row, self._requests[row.prompt])

    def _answered(self, connection: HttpConnection, exchange: RawExchange) -> None:
        row = self._in_flight.pop(connection)
        self._send_next(row.worker, connection, self._idle_since_ns(exchange))
        self._note(row, exchange)

    def _idle_since_ns(self, exchange: RawExchange) -> int:
        """When the answer arrived, by the kernel's stamp if plausible; 0 if it failed, which says nothing about the client."""
        if not exchange.looks_ok:
            return 0
        stamp = exchange.reads[-1][1]
        if stamp is None:
            return exchange.done_ns
        at_ns = self._clocks.monotonic_of(stamp)
        return at_ns if exchange.sent_ns < at_ns < exchange.done_ns else exchange.done_ns

    def _hang_up(self) -> None:
        for connection in self._connections.values():
            connection.close()
