"""A streaming server on loopback with a known schedule, which logs its own times: what the load generator is held to.

    with LoopbackStub() as stub:
        stub.configure(ttft_s=0.2, itl_s=0.02, events=64)
        ...                                   # send requests to stub.chat_url or stub.sagemaker_url
        served = stub.log()

or, from a shell, `python -m helpers.load.loopback_stub`, which prints its address as one JSON line and ends when its
standard input closes.

It is a process of its own: one thread, raw sockets, a timer with nanosecond resolution where Linux has it. Every event
of a timed answer is a `send` of its own, and the stamp is taken just before it; a request's arrival is the kernel's
stamp. So a late server is no error of the client. An answer without delays (TTFT and ITL zero) is one `send` of
everything, unless a send for each event is asked. The path decides the format: below `/endpoints/` the server-sent
events are wrapped in AWS event-stream frames, else they come as they are.

Times in the log are `CLOCK_MONOTONIC` nanoseconds, which every process of the machine shares.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import heapq
import json
import os
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic_ns, time_ns
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from helpers.local_sagemaker import event_stream

PROMPT_TOKENS = 300
READ_BYTES = 65536
STAMP_SPACE = socket.CMSG_SPACE(16)
SO_TIMESTAMPNS = 35
"""Linux, asm-generic/socket.h; Python's socket module does not name it."""
HIGHEST_EVENTS = 100_000
CLOCKS_APART_NS = 2_000
SEND_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0
ID_HEADERS = (b"\r\nx-request-id:", b"\r\nx-amzn-sagemaker-inference-id:")


@dataclass(frozen=True)
class Schedule:
    """When the events of an answer are sent, counted from the moment its request had arrived in full."""

    ttft_us: int = 0
    """To the first event."""
    itl_us: int = 0
    """From each event to the next."""
    events: int = 64
    """Events with text, a token each."""
    workers: int = 0
    """Requests in service at once, others wait in line; 0: no limit. With it the server has a known capacity:
    workers / (ttft + (events - 1) * itl) requests per second."""
    stall_at_us: int = 0
    """From the first request on to the start of a stall: nothing is sent, requests are still read."""
    stall_us: int = 0
    """Length of the stall; what was due in it is sent at its end. 0: none."""
    send_each: int = 0
    """1: also an answer without delays is sent event by event, which is as much work as the network ever makes."""
    event_times: int = 0
    """1: the log holds the time of every event."""

    @property
    def at_once(self) -> bool:
        """True where an answer can be sent whole, as soon as its request was read."""
        return not (self.ttft_us or self.itl_us or self.workers or self.stall_us or self.send_each or self.event_times)


class ServedRequest(NamedTuple):
    """One answered request. Times in ns; those of writes are taken just before."""

    request_id: str
    connection: int
    arrival_ns: int
    """When its last segment was received: the kernel's stamp on Linux, elsewhere taken after the read."""
    first_ns: int
    """Before the write of the first event, which carries the HTTP head too."""
    last_ns: int
    """Before the write of the last event with text; equal to `first_ns` in an answer sent whole."""
    end_ns: int
    """Before the write of the closing events (finish reason, usage, `[DONE]`, last HTTP chunk)."""
    event_ns: list[int] | None
    """Of every event with text, where the schedule asks for them."""


class LoopbackStub:
    """A stub in a process of its own; a context manager that ends it."""

    def __init__(self, tls: bool = False, cpu: int | None = None) -> None:
        """`tls`: with a certificate made on the spot. `cpu`: the CPU to keep to, where the platform has that."""
        command = [sys.executable, "-m", "helpers.load.loopback_stub"]
        command += ["--tls"] if tls else []
        command += [] if cpu is None else ["--cpu", str(cpu)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(
                f"the loopback stub did not start (code {self._process.returncode}); see its error output"
            )
        address = json.loads(line)
        self.url: str = address["url"]
        self.ca_file: str | None = address["ca_file"]
        """The certificate that a client must trust; null without TLS. Gone when the stub ends."""
        self._trust = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None

    def __enter__(self) -> LoopbackStub:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def chat_url(self) -> str:
        """Answers OpenAI chat completions."""
        return f"{self.url}/v1/chat/completions"

    @property
    def sagemaker_url(self) -> str:
        """Answers `InvokeEndpointWithResponseStream`; signatures are not checked."""
        return f"{self.url}/endpoints/stub/invocations-response-stream"

    def configure(
        self,
        ttft_s: float = 0.0,
        itl_s: float = 0.0,
        events: int = 64,
        workers: int = 0,
        stall_at_s: float = 0.0,
        stall_s: float = 0.0,
        send_each: bool = False,
        event_times: bool = False,
    ) -> None:
        """Set the schedule of the requests to come (see `Schedule`) and clear the log."""
        self._get(
            "/configure",
            ttft_us=round(ttft_s * 1e6),
            itl_us=round(itl_s * 1e6),
            events=events,
            workers=workers,
            stall_at_us=round(stall_at_s * 1e6),
            stall_us=round(stall_s * 1e6),
            send_each=int(send_each),
            event_times=int(event_times),
        )

    def log(self) -> list[ServedRequest]:
        """Every request whose answer was sent in full since the schedule was set."""
        return [ServedRequest(*row) for row in json.loads(self._get("/log"))]

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        try:
            self._process.wait(SEND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _get(self, path: str, **query: int) -> bytes:
        url = f"{self.url}{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=START_TIMEOUT_S, context=self._trust) as answer:
            return answer.read()


# --- bytes of the answers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerBytes:
    """An answer, cut as it is written."""

    events: list[bytes]
    """Each with its frame and HTTP chunk; the first carries the head too."""
    tail: bytes
    whole: bytes


def answer_bytes(events: int, aws_frames: bool) -> AnswerBytes:
    """A chat completion of `events` tokens, as server-sent events, in AWS event-stream frames if asked."""

    def chunk(data: bytes) -> bytes:
        data = event_stream.payload_part(data) if aws_frames else data
        return b"%x\r\n%b\r\n" % (len(data), data)

    content_type = event_stream.CONTENT_TYPE if aws_frames else "text/event-stream"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
    head += "X-Amzn-SageMaker-Content-Type: text/event-stream\r\n" if aws_frames else ""
    first = chunk(_event([_choice({"role": "assistant", "content": "the"})]))
    other = chunk(_event([_choice({"content": " the"})]))
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": events, "total_tokens": PROMPT_TOKENS + events}
    tail = chunk(_event([_choice({}, "length")])) + chunk(_event([], usage)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    cut = [f"{head}\r\n".encode() + first, *[other] * (events - 1)]
    return AnswerBytes(cut, tail, b"".join([*cut, tail]))


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(choices: list[dict], usage: dict[str, int] | None = None) -> bytes:
    event = {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "stub",
        "choices": choices,
    }
    if usage is not None:
        event["usage"] = usage
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


# --- the server ---------------------------------------------------------------------------------------------------


class Connection:
    """A client's connection and the part of a request that was read. TLS is done in memory: bytes come with stamps."""

    __slots__ = ("incoming", "is_open", "number", "outgoing", "received", "shaken", "socket", "tls")

    def __init__(self, number: int, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.number, self.socket, self.received, self.is_open = number, sock, b"", True
        self.tls: ssl.SSLObject | None = None
        self.shaken = False
        if tls is not None:
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def decrypt(self, data: bytes) -> bytes:
        """The plain text that is complete so far; what the handshake has to answer is left in `outgoing`."""
        self.incoming.write(data)
        plain = []
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while piece := self.tls.read(READ_BYTES):
                plain.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # the end of TLS is followed by the end of the connection
        return b"".join(plain)


class Stream:
    """An answer under way."""

    __slots__ = ("answer", "arrival_ns", "connection", "event_ns", "first_ns", "request_id", "sent")

    def __init__(self, connection: Connection, request_id: str, arrival_ns: int, answer: AnswerBytes) -> None:
        self.connection, self.request_id, self.arrival_ns, self.answer = connection, request_id, arrival_ns, answer
        self.sent, self.first_ns, self.event_ns = 0, 0, []


class Server:
    """Reads requests and sends what is due, in turns."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._selector = selectors.DefaultSelector()
        self._timer = Timer(self._selector)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        if sys.platform == "linux":
            self._listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # connections inherit it
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._connections = 0
        self._running = True
        self._set_schedule(Schedule())

    @property
    def port(self) -> int:
        """The loopback port that it listens on."""
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


# --- waiting ------------------------------------------------------------------------------------------------------


class Timer:
    """Wakes a selector at an absolute time: with a timerfd on Linux (nanoseconds), else by the selector's own timeout,
    which is rounded up to a millisecond.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._armed_ns: int | None = None
        self._set: Callable[[int], None] | None = None
        if sys.platform == "linux":
            fd, self._set = _timerfd()
            selector.register(fd, selectors.EVENT_READ, self._rang)

    def wait(self, due_ns: int | None) -> float | None:
        """The timeout in s for a selector that must return by `due_ns` (null: when something else happens)."""
        if due_ns is None:
            return None
        now = monotonic_ns()
        if due_ns <= now:
            return 0.0
        if self._set is None:
            return (due_ns - now) / 1e9
        if due_ns != self._armed_ns:
            self._set(due_ns)
            self._armed_ns = due_ns
        return None

    def _rang(self) -> None:
        """Setting it to never makes it silent again."""
        self._set(0)
        self._armed_ns = None


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: interval and first expiry, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


def _timerfd() -> tuple[int, Callable[[int], None]]:
    """A timer's file descriptor, and what sets it to a `CLOCK_MONOTONIC` time in ns (0: never)."""
    libc = ctypes.CDLL(None, use_errno=True)
    clock_monotonic, absolute = 1, 1
    fd = libc.timerfd_create(clock_monotonic, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    spec = _TimerSpec()
    reference = ctypes.byref(spec)

    def set_to(at_ns: int) -> None:
        spec.at_s, spec.at_ns = divmod(at_ns, 1_000_000_000)
        libc.timerfd_settime(fd, absolute, reference, None)

    return fd, set_to


# --- the process --------------------------------------------------------------------------------------------------


def write_certificate(path: Path) -> None:
    """A self-signed certificate for 127.0.0.1 and localhost with its key, valid for a day, in one PEM file."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback stub")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, encipher_only=False, decipher_only=False, **usage
            ),
            True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    key_bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM) + key_bytes)


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A streaming server on loopback with a known schedule.")
    parser.add_argument("--tls", action="store_true", help="with a certificate made on the spot")
    parser.add_argument("--cpu", type=int, help="the CPU to keep to")
    arguments = parser.parse_args()
    if arguments.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.cpu})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started it closes the pipe
    _raise_open_files_limit()
    with tempfile.TemporaryDirectory(prefix="loopback-stub-") as folder:
        context, pem = None, Path(folder) / "certificate.pem"
        if arguments.tls:
            write_certificate(pem)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
        server = Server(context)
        address = {
            "url": f"{'https' if context else 'http'}://127.0.0.1:{server.port}",
            "ca_file": str(pem) if context else None,
        }
        sys.stdout.write(json.dumps(address) + "\n")
        sys.stdout.flush()
        gc.collect()
        gc.disable()
        server.serve(until_closed=sys.stdin.fileno())


def _raise_open_files_limit() -> None:
    """A thousand connections need a thousand file descriptors."""
    try:
        import resource
    except ImportError:
        return
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if highest == resource.RLIM_INFINITY else min(65536, highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))


if __name__ == "__main__":
    main()
