"""The server's turns: it reads requests and sends what is due, in one thread."""

from __future__ import annotations

import heapq
import json
import os
import selectors
import socket
import ssl
import struct
from collections import deque
from functools import partial
from time import monotonic_ns, time_ns
from urllib.parse import parse_qsl, urlsplit

from helpers.load.loopback_stub.answers import answer_bytes
from helpers.load.loopback_stub.schedule import Schedule, ServedRequest
from helpers.load.loopback_stub.timer import Timer
from helpers.load.loopback_stub.wire import READ_BYTES, Connection, Stream
from helpers.load.system import STAMP_SPACE, want_receive_stamps

HIGHEST_EVENTS = 100_000
CLOCKS_APART_NS = 2_000
SEND_TIMEOUT_S = 5.0
ID_HEADERS = (b"\r\nx-request-id:", b"\r\nx-amzn-sagemaker-inference-id:")


class Server:
    """Reads requests and sends what is due, in turns."""

    def __init__(self, tls: ssl.SSLContext | None, host: str) -> None:
        self._tls = tls
        self._selector = selectors.DefaultSelector()
        self._timer = Timer(self._selector)
        self._listener = socket.create_server((host, 0), backlog=4096)
        self._listener.setblocking(False)
        want_receive_stamps(self._listener)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._connections = 0
        self._running = True
        self._set_schedule(Schedule())

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._listener.getsockname()[1]

    def serve(self, until_closed: int) -> None:
        """Serve until the file descriptor `until_closed` (a pipe or a terminal) is closed at its other end."""
        self._selector.register(until_closed, selectors.EVENT_READ, partial(self._end_when_closed, until_closed))
        while self._running:
            for key, _ in self._selector.select(self._timer.wait(self._next_due_ns())):
                key.data()
            if self._due:
                self._send_due(monotonic_ns())

    def _end_when_closed(self, until_closed: int) -> None:
        self._running = bool(os.read(until_closed, 4096))

    def _set_schedule(self, schedule: Schedule) -> None:
        """Start afresh: answers under way are dropped, the log is cleared."""
        self._schedule = schedule
        self._at_once = schedule.at_once
        self._plain = answer_bytes(schedule.events, aws_frames=False)
        self._framed = answer_bytes(schedule.events, aws_frames=True)
        self._due: list[tuple[int, int, Stream]] = []
        self._waiting: deque[Stream] = deque()
        self._in_service = 0
        self._started = 0
        self._stall_ns: tuple[int, int] | None = None
        self._log: list[ServedRequest] = []

    # --- reading ----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self._connections, sock, self._tls)
            self._connections += 1
            self._selector.register(sock, selectors.EVENT_READ, partial(self._read, connection))

    def _read(self, connection: Connection) -> None:
        try:
            data, stamps, _, _ = connection.socket.recvmsg(READ_BYTES, STAMP_SPACE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        arrival_ns = _monotonic_of(stamps[0][2]) if data and stamps else monotonic_ns()
        if data and connection.tls is not None:
            try:
                data = connection.decrypt(data)
            except ssl.SSLError:
                self._close(connection)
                return
            if connection.outgoing.pending:
                self._write(connection, connection.outgoing.read())
            if not data:
                return
        if data:
            self._take(connection, data, arrival_ns)
        else:
            self._close(connection)

    def _take(self, connection: Connection, data: bytes, arrival_ns: int) -> None:
        """Answer the request if it is complete, else keep what is there. One request at a time, no pipelining."""
        if connection.received:
            data = connection.received + data
        head_end = data.find(b"\r\n\r\n")
        head = data[: head_end + 2]
        small = head.lower()
        length_at = small.find(b"\r\ncontent-length:")
        length = int(small[length_at + 17 : small.index(b"\r\n", length_at + 2)]) if length_at >= 0 else 0
        if head_end < 0 or len(data) < head_end + 4 + length:
            connection.received = data
            return
        connection.received = b""
        path = head[head.index(b" ") + 1 : head.index(b" ", head.index(b" ") + 1)]
        if not head.startswith(b"POST"):
            self._control(connection, path.decode())
            return
        answer = self._framed if path.startswith(b"/endpoints/") else self._plain
        stream = Stream(connection, _header(head, small, ID_HEADERS), arrival_ns, answer)
        if self._at_once:
            self._answer_at_once(stream)
        else:
            self._queue(stream)

    def _control(self, connection: Connection, target: str) -> None:
        url = urlsplit(target)
        if url.path == "/configure":
            try:
                schedule = Schedule(**{name: int(value) for name, value in parse_qsl(url.query)})
            except (TypeError, ValueError) as error:
                self._answer_json(connection, "400 Bad Request", {"error": str(error)})
                return
            if not 1 <= schedule.events <= HIGHEST_EVENTS:
                self._answer_json(connection, "400 Bad Request", {"error": f"events: 1 to {HIGHEST_EVENTS}"})
                return
            self._set_schedule(schedule)
            self._answer_json(connection, "200 OK", {})
        elif url.path == "/log":
            self._answer_json(connection, "200 OK", self._log)
        else:
            self._answer_json(connection, "404 Not Found", {"error": "GET /configure or /log, or POST a request"})

    def _answer_json(self, connection: Connection, status: str, content: object) -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._send(connection, head.encode() + body)

    # --- sending ----------------------------------------------------------------------------------------------

    def _answer_at_once(self, stream: Stream) -> None:
        now = monotonic_ns()
        self._log.append(
            ServedRequest(stream.request_id, stream.connection.number, stream.arrival_ns, now, now, now, None)
        )
        self._send(stream.connection, stream.answer.whole)

    def _queue(self, stream: Stream) -> None:
        schedule = self._schedule
        if schedule.stall_us and self._stall_ns is None:
            begin = stream.arrival_ns + schedule.stall_at_us * 1000
            self._stall_ns = begin, begin + schedule.stall_us * 1000
        if schedule.workers and self._in_service >= schedule.workers:
            self._waiting.append(stream)
        else:
            self._start(stream, stream.arrival_ns)

    def _start(self, stream: Stream, at_ns: int) -> None:
        self._in_service += 1
        self._started += 1
        heapq.heappush(self._due, (at_ns + self._schedule.ttft_us * 1000, self._started, stream))

    def _next_due_ns(self) -> int | None:
        if not self._due:
            return None
        due = self._due[0][0]
        if self._stall_ns is not None and self._stall_ns[0] <= max(due, monotonic_ns()) < self._stall_ns[1]:
            return self._stall_ns[1]
        return due

    def _send_due(self, until_ns: int) -> None:
        """Send every event that was due by `until_ns`, one write each."""
        if self._stall_ns is not None and self._stall_ns[0] <= until_ns < self._stall_ns[1]:
            return
        heap, itl_ns, last = self._due, self._schedule.itl_us * 1000, self._schedule.events - 1
        keep_times = self._schedule.event_times
        while heap and heap[0][0] <= until_ns:
            due, number, stream = heap[0]
            connection, index = stream.connection, stream.sent
            now = monotonic_ns()
            self._send(connection, stream.answer.events[index])
            if index == 0:
                stream.first_ns = now
            if keep_times:
                stream.event_ns.append(now)
            if index < last and connection.is_open:
                stream.sent = index + 1
                heapq.heapreplace(heap, (due + itl_ns, number, stream))
            else:
                heapq.heappop(heap)
                self._finish(stream, now, due)

    def _finish(self, stream: Stream, last_ns: int, due_ns: int) -> None:
        """Close an answer; the next in line counts as started when this one was due to end."""
        connection, now = stream.connection, monotonic_ns()
        self._send(connection, stream.answer.tail)
        if connection.is_open:
            self._log.append(
                ServedRequest(
                    stream.request_id,
                    connection.number,
                    stream.arrival_ns,
                    stream.first_ns,
                    last_ns,
                    now,
                    stream.event_ns or None,
                )
            )
        self._in_service -= 1
        while self._waiting:
            following = self._waiting.popleft()
            if following.connection.is_open:
                self._start(following, max(following.arrival_ns, due_ns))
                return

    def _send(self, connection: Connection, data: bytes) -> None:
        """Send all of it, encrypted where the connection is."""
        if connection.tls is not None and connection.is_open:
            connection.tls.write(data)
            data = connection.outgoing.read()
        self._write(connection, data)

    def _write(self, connection: Connection, data: bytes) -> None:
        """Write all of it; a client that does not read for some seconds is cut off."""
        while data and connection.is_open:
            try:
                data = data[connection.socket.send(data) :]
            except BlockingIOError:
                self._wait_until_writable(connection)
            except OSError:
                self._close(connection)

    def _wait_until_writable(self, connection: Connection) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.socket, selectors.EVENT_WRITE)
            if not selector.select(SEND_TIMEOUT_S):
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            self._selector.unregister(connection.socket)
            connection.socket.close()


def _monotonic_of(stamp: bytes) -> int:
    """The kernel's stamp of a read just made (`struct timespec`, wall clock) on the monotonic clock."""
    seconds, nanoseconds = struct.unpack("ll", stamp)
    for _ in range(3):  # again, if the process was held up between the readings of the two clocks
        before, wall, after = monotonic_ns(), time_ns(), monotonic_ns()
        if after - before < CLOCKS_APART_NS:
            break
    return before - max(0, wall - seconds * 1_000_000_000 - nanoseconds)


def _header(head: bytes, small: bytes, names: tuple[bytes, ...]) -> str:
    """The value of the first of these headers that is there, else an empty string; `small` is `head` in lower case."""
    for name in names:
        at = small.find(name)
        if at >= 0:
            return head[at + len(name) : head.index(b"\r\n", at + 2)].strip().decode("latin-1")
    return ""
