"""The senders of sessions: users, each of whom runs one session after another, or sessions that arrive by a schedule.

A turn is sent when the answer to the one before has ended and its think time has passed; never are two turns of a session under
way. Answers are read right after they have ended, so within the think time. With a think time shorter than that the turn is late,
by time of this client's own: latencies count from the actual send, and how late it was stands in the row (`idle_since_ns` is when
the turn was due), among the workers' turnarounds or the schedule lags.
"""

from __future__ import annotations

import heapq
from abc import abstractmethod
from itertools import count
from time import monotonic_ns

from helpers.load.bodies import PreparedRequest
from helpers.load.closed_loop import RECONNECT_PAUSE_S, START_GAP_S, ClosedLoopSender
from helpers.load.connection import HttpConnection, RawExchange
from helpers.load.messages import AttemptSpec, Sent
from helpers.load.open_loop import OpenLoopSender
from helpers.load.postprocessing import ordered_prompts
from helpers.load.precise_timer import PreciseTimer
from helpers.load.sender import Refusal, Sender
from helpers.load.sessions import Scripts, Session, session_and_turn
from helpers.load.spool import Row, SpoolWriter

RECONNECT_PAUSE_NS = int(RECONNECT_PAUSE_S * 1e9)


def session_sender(spec: AttemptSpec, share: int, of: int) -> Sender:
    """The sender of one load process's share of an attempt with sessions."""
    scripts = Scripts(ordered_prompts(spec), spec)
    kind = ArrivingSessions if spec.level.is_open else Users
    return kind(scripts, spec, share, of, scripts.first_requests, SpoolWriter(spec.part_folder(share)))


class _Sessions(Sender):
    """What both share: what follows the end of a turn, and the bell that rings at the end of a think time."""

    def __init__(self, scripts: Scripts, *args) -> None:
        super().__init__(*args)
        self._scripts = scripts
        self._sessions: dict[int, Session] = {}
        """By user, or by number."""
        self._context_ends = 0
        self._bell = PreciseTimer(self._ring)
        self._due: list[tuple[int, int, int]] = []
        """A heap: when, in order of asking, whose turn."""
        self._asked = count()

    @abstractmethod
    def _key(self, row: Row) -> int:
        """Where the session of a row is kept."""

    @abstractmethod
    def _turn_ended(self, key: int, ended_ns: int, think_ns: int, goes_on: bool) -> None:
        """A turn has ended; without a further one the session is over."""

    @abstractmethod
    def _send_turn(self, key: int, due_ns: int) -> None:
        """Send the turn that is due."""

    async def run(self, *args) -> Sent:
        sent = await super().run(*args)
        return sent.model_copy(update={"context_ends": self._context_ends})

    def _send(self, connection: HttpConnection, row: Row, request: PreparedRequest) -> None:
        super()._send(connection, row, self._sessions[self._key(row)].request)

    def _note_refused(self, row: Row, refusal: Refusal) -> None:
        super()._note_refused(row, refusal)
        self._loop.call_soon(self._after_turn, row, RawExchange(done_ns=monotonic_ns(), failure=refusal.failure))

    def _after_turn(self, row: Row, exchange: RawExchange) -> None:
        if self._stopping:
            return
        key = self._key(row)
        session = self._sessions[key]
        goes_on, think_ns = session.go_on(exchange)
        if not goes_on:
            self._context_ends += session.is_too_long
            del self._sessions[key]
        if not exchange.reads:
            think_ns = max(think_ns, RECONNECT_PAUSE_NS)
        self._turn_ended(key, self._ended_ns(exchange), think_ns, goes_on)

    def _ended_ns(self, exchange: RawExchange) -> int:
        """When the answer arrived, by the kernel's stamp if plausible."""
        stamp = exchange.reads[-1][1] if exchange.looks_ok else None
        at_ns = exchange.done_ns if stamp is None else self._clocks.monotonic_of(stamp)
        return at_ns if exchange.sent_ns < at_ns < exchange.done_ns else exchange.done_ns

    def _wake(self, key: int, due_ns: int) -> None:
        entry = (due_ns, next(self._asked), key)
        heapq.heappush(self._due, entry)
        if self._due[0] is entry:
            self._bell.set(due_ns)

    def _ring(self) -> None:
        """Send every turn whose time has come, and set the bell for the next."""
        while self._due and not self._stopping:
            due_ns, _, key = self._due[0]
            if due_ns > monotonic_ns():
                self._bell.set(due_ns)
                return
            heapq.heappop(self._due)
            self._send_turn(key, due_ns)

    def _hang_up(self) -> None:
        self._bell.close()
        super()._hang_up()


class Users(_Sessions, ClosedLoopSender):
    """This process's share of the users. Each has a connection, and thinks between sessions too."""

    def _key(self, row: Row) -> int:
        return row.worker

    def _start_workers(self) -> None:
        """Spread over one think time: users who think equally long would stay in step otherwise."""
        users = int(self._spec.level.value)
        gap_s = max(START_GAP_S, self._spec.sessions.conversations.mean_think_s / users)
        for user in self._workers:
            self._loop.call_later(user * gap_s, self._start_worker, user)

    def _turn_ended(self, key: int, ended_ns: int, think_ns: int, goes_on: bool) -> None:
        self._wake(key, ended_ns + think_ns)

    def _send_turn(self, key: int, due_ns: int) -> None:
        self._send_next(key, self._connections.get(key), due_ns)

    def _send_next(self, worker: int, connection: HttpConnection | None, idle_since_ns: int) -> None:
        if self._stopping:
            return
        if connection is None or not connection.is_open:
            self._spawn(self._reconnect(worker))
            return
        found = self._row_of(worker, idle_since_ns)
        if found is None:
            connection.close()
            return
        self._send(connection, *found)

    def _row_of(self, user: int, idle_since_ns: int = 0) -> tuple[Row, PreparedRequest] | None:
        """The next turn of a user, of a new session if the last is over; None if conversations are used up."""
        session = self._sessions.get(user)
        if session is None:
            found = self._request_of(self._next)
            if found is None:
                return None
            session = self._sessions[user] = Session(self._next, found[0], self._scripts, self._spec)
            self._next += self._of
        return Row(session.number, session.prompt, user, 0, idle_since_ns, 0, 0), session.request

    async def _reconnect(self, worker: int) -> None:
        """Reconnect and send; a refusal is a failed turn."""
        connection, refusal = await self._open()
        found = None if self._stopping else self._row_of(worker)
        if found is None:
            if connection is not None:
                connection.close()
            return
        await self._send_over(connection, refusal, *found)

    async def _send_again(self, row: Row) -> None:
        connection, refusal = await self._open()
        await self._send_over(connection, refusal, row, self._sessions[row.worker].request)

    async def _send_over(
        self, connection: HttpConnection | None, refusal: Refusal, row: Row, request: PreparedRequest
    ) -> None:
        """Send over a new connection, if there is one."""
        if connection is None:
            self._note_refused(row, refusal)
            return
        connection.worker = row.worker
        self._connections[row.worker] = connection
        connected = {"connect_ns": connection.connect_ns, "tls_ns": connection.tls_ns or 0}
        self._send(connection, row._replace(idle_since_ns=0, **connected), request)

    def _answered(self, connection: HttpConnection, exchange: RawExchange) -> None:
        row = self._in_flight.pop(connection)
        self._note(row, exchange)
        self._loop.call_soon(self._after_turn, row, exchange)


class ArrivingSessions(_Sessions, OpenLoopSender):
    """This process's share of the sessions that arrive by the schedule. Each of its turns takes any free connection."""

    def _key(self, row: Row) -> int:
        return session_and_turn(row.number)[0]

    def _request_of(self, number: int) -> tuple[int, PreparedRequest] | None:
        found = super()._request_of(number)
        if found is not None:
            self._sessions[number] = Session(number, found[0], self._scripts, self._spec)
        return found

    def _turn_ended(self, key: int, ended_ns: int, think_ns: int, goes_on: bool) -> None:
        if goes_on:
            self._wake(key, ended_ns + think_ns)

    def _send_turn(self, key: int, due_ns: int) -> None:
        session = self._sessions[key]
        row = Row(session.number, session.prompt, -1, 0, due_ns, 0, 0)
        connection = self._free_connection()
        if connection is None:
            self._waiting.append((row, session.request))
        else:
            self._send(connection, row, session.request)
        self._open_spares()

    def _answered(self, connection: HttpConnection, exchange: RawExchange) -> None:
        row = self._in_flight[connection]
        super()._answered(connection, exchange)
        self._loop.call_soon(self._after_turn, row, exchange)

    def _oldest_t0_ns(self) -> int | None:
        """Of those that have one: a later turn that waits for a connection has none before it is sent."""
        in_flight = (row.scheduled_ns or connection.sent_ns for connection, row in self._in_flight.items())
        waiting = (row.scheduled_ns for row, _ in self._waiting)
        return min((t0 for t0 in (*in_flight, *waiting, *self._again.values()) if t0), default=None)
