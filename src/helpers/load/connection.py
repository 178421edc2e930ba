"""One HTTP/1.1 connection that stamps every socket read and keeps the bytes as they came.

While an answer arrives, the connection only finds out where it ends (`answer_end`); `responses` decodes it after the attempt.
The event loop only watches the socket; the connection reads it itself, because the kernel's receive stamps come beside the
bytes (`SO_TIMESTAMPNS`, Linux) and an `asyncio.Protocol` never sees them. TLS is decrypted in memory, so that a record has
the stamp of the segment that completed it.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic_ns
from urllib.parse import urlsplit

from helpers.load.answer_end import HEADERS_END, AnswerEnd
from helpers.load.api_end import SILENCE_NS, ApiEnd, ends_by_api
from helpers.load.system import OWN_ERRORS, STAMP_SPACE, want_receive_stamps

READ_BYTES = 65536
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""Reasons of OpenSSL for bytes that are no TLS."""
READS_KEPT = 1
"""Of an answer that was given up for its length."""

RawRead = tuple[int, bytes | None, bytes]
"""User-space stamp (ns, monotonic), the kernel's stamp as it came (struct timespec, wall clock) or None, bytes."""


@dataclass(slots=True)
class Exchange:
    """One request and the bytes that came back. Times in ns; None where the event did not happen."""

    sent_ns: int = 0
    done_ns: int = 0
    reads: list[tuple[int, bytes]] = field(default_factory=list)
    """(stamp, bytes) of every socket read, in order."""
    complete: bool = False
    failure: str | None = None
    """`timeout`, `connection`, `stream_broken`, `cut_short`, `bad_response`, `client` (this machine's own), or None."""
    detail: str | None = None


@dataclass(slots=True)
class RawExchange:
    """An exchange on the hot path: stamps are not yet converted."""

    sent_ns: int = 0
    done_ns: int = 0
    reads: list[RawRead] = field(default_factory=list)
    complete: bool = False
    failure: str | None = None
    detail: str | None = None

    @property
    def looks_ok(self) -> bool:
        """Complete with HTTP status 200: a first look for the progress display; `responses` has the last word."""
        return self.complete and bool(self.reads) and self.reads[0][2][9:12] == b"200"

    @property
    def first_body_ns(self) -> int:
        """A first look at the arrival of the first bytes after the head; 0 if there were none."""
        for now, _, data in self.reads:
            if not data.endswith(HEADERS_END):
                return now
        return 0


class Server:
    """The server of a URL: the addresses of its host, looked up once, and its TLS settings."""

    def __init__(self, url: str, ca_file: str | None = None, api: str = "openai_chat") -> None:
        parts = urlsplit(url)
        self.api = api
        self.new_end: Callable[[int], AnswerEnd] = AnswerEnd
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._addresses: list[tuple] = []

    @property
    def name(self) -> str:
        """Host and port, as reasons name it."""
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"

    def leaves_answers_open(self) -> None:
        """HTTP's end of a whole answer did not come: from now on the API's end is accepted at once."""
        self.new_end = partial(ApiEnd, api=self.api)

    async def addresses(self) -> list[tuple]:
        """(family, type, protocol, name, address) of the host. Raises OSError if it cannot be found."""
        if not self._addresses:
            loop = asyncio.get_running_loop()
            self._addresses = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return self._addresses


OnDone = Callable[["HttpConnection", RawExchange], None]


class HttpConnection:
    """A kept-alive connection for one request at a time; `worker` is its owner's to use."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLObject | None,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        most_bytes: int,
        server: Server,
    ) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._recvmsg = sock.recvmsg
        self._tls = tls
        self._incoming, self._outgoing = incoming, outgoing
        self._unsent = b""
        self._most_bytes = most_bytes
        self._end = server.new_end(most_bytes)
        self._exchange: RawExchange | None = None
        self._on_done: OnDone | None = None
        self.on_stale: Callable[[HttpConnection], None] | None = None
        """Called instead of `on_done` if a kept-alive connection ends before the first byte of the answer."""
        self.was_used = False
        """Has it brought an answer."""
        self.is_open = True
        self.connect_ns = 0
        self.tls_ns: int | None = None
        self.worker = 0
        self.sent_ns = 0

    @classmethod
    async def open(cls, server: Server, timeout_s: float, most_bytes: int) -> HttpConnection:
        """Connect (and for https, shake hands), and time both. Raises OSError or TimeoutError, with a note of the phase, the
        address and the kind (`words_of_refusal`). An answer longer than `most_bytes`, head and framing included, is given up.
        """
        phase = f"looking up {server.host}"
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await server.addresses()
                phase, started = f"connecting to {server.name}", monotonic_ns()
                sock = await _connect(addresses)
                phase, connected = f"in the TLS handshake with {server.name}", monotonic_ns()
                try:
                    tls, incoming, outgoing = await _shake_hands(sock, server)
                except BaseException:
                    sock.close()
                    raise
        except OSError as error:  # a TimeoutError is one
            error.add_note(f"{phase}: {_kind_of(error, timeout_s)}")
            raise
        connection = cls(sock, tls, incoming, outgoing, most_bytes, server)
        connection.connect_ns = connected - started
        connection.tls_ns = None if tls is None else monotonic_ns() - connected
        connection._loop.add_reader(sock, connection._readable)
        return connection

    def send(self, request: bytes, on_done: OnDone) -> None:
        """Send one request; `on_done` gets its exchange, whatever happens to it."""
        self._end = self._server.new_end(self._most_bytes)
        self._on_done = on_done
        exchange = self._exchange = RawExchange()
        if self._tls is not None:
            self._tls.write(request)
        exchange.sent_ns = self.sent_ns = monotonic_ns()
        self._write(request if self._tls is None else self._outgoing.read())

    def give_up(self, failure: str, detail: str) -> None:
        """End the exchange under way, and the connection with it."""
        self.close()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.done_ns = monotonic_ns()
            exchange.failure, exchange.detail = failure, detail
            # Not from within `send`, whose caller has not yet noted what it sent.
            self._loop.call_soon(self._on_done, self, exchange)

    @property
    def is_unanswered(self) -> bool:
        """Is a request in flight whose answer has not begun."""
        return self._exchange is not None and not self._exchange.reads

    def look(self) -> None:
        """Read what arrived without an event: when idle, the connection's end or unrequested bytes, which close it; during a
        request, a reset right after the last data, or an answer that its API has ended and that has been silent since.
        uvloop calls the reader once for a socket in error and stops watching it; that one call may find data instead.
        """
        self._readable()
        if (exchange := self._exchange) is not None:
            self._walk_on(exchange)
        if self._exchange is not None and self._is_silent(exchange) and self._is_ended_by_api(exchange):
            self._server.leaves_answers_open()
            self._end_here(exchange)

    def _walk_on(self, exchange: RawExchange) -> None:
        """Is the answer over with what came before?"""
        try:
            is_over = self._end.look()
        except Exception as error:  # noqa: BLE001
            is_over = self._end.break_off(error)
        if is_over:
            self._finish(exchange, exchange.reads[-1][0])

    def _is_silent(self, exchange: RawExchange) -> bool:
        return bool(exchange.reads) and monotonic_ns() - exchange.reads[-1][0] > SILENCE_NS

    def _is_ended_by_api(self, exchange: RawExchange) -> bool:
        return ends_by_api([data for _, _, data in exchange.reads], self._server.api)

    def _end_here(self, exchange: RawExchange) -> None:
        """The answer is complete with its last read; nothing more comes over this connection."""
        exchange.done_ns = exchange.reads[-1][0]
        exchange.complete = True
        self._exchange = None
        self.close()
        self._on_done(self, exchange)

    def close(self) -> None:
        """Close at once."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    # --- the socket -----------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            lost = partial(self.give_up, "client") if error.errno in OWN_ERRORS else self._lost_before_the_answer
            lost(f"could not send to {self._server.name}: {error}")
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        data, self._unsent = self._unsent, b""
        self._write(data)

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._recvmsg(READ_BYTES, STAMP_SPACE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        now = monotonic_ns()
        if self._tls is not None and data:
            data = self._decrypt(data)
            if not data:
                return
        exchange = self._exchange
        if not data:
            self._lost(None)
        elif exchange is not None:
            exchange.reads.append((now, ancillary[0][2] if ancillary else None, data))
            try:
                is_over = self._end.feed(data)
            except Exception as error:  # noqa: BLE001
                is_over = self._end.break_off(error)
            if is_over:
                self._finish(exchange, now)
        else:
            self.close()  # nobody asked for these bytes; what follows them would be read as the next answer

    def _finish(self, exchange: RawExchange, now: int) -> None:
        """The answer is over: whole, or not what HTTP says."""
        exchange.done_ns = now
        self._exchange = None
        end = self._end
        self.was_used = True
        exchange.complete = end.fault is None
        if not exchange.complete:
            exchange.failure, exchange.detail = "bad_response", end.fault
            if end.is_too_long:
                del exchange.reads[READS_KEPT:]
        if end.closes or self._unsent:
            self.close()
        self._on_done(self, exchange)

    def _decrypt(self, data: bytes) -> bytes:
        """The plain text of the complete records so far; TLS's own messages are sent at once."""
        self._incoming.write(data)
        plain = []
        try:
            while piece := self._tls.read(READ_BYTES):
                plain.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # the end of TLS is followed by the end of the connection
        except ssl.SSLError as error:
            self._lost(error)
            return b""
        if self._outgoing.pending and self.is_open:
            self._write(self._outgoing.read())
        return b"".join(plain)

    def _lost(self, error: Exception | None) -> None:
        """The other side closed the connection, or it broke."""
        exchange, name = self._exchange, self._server.name
        how = f": {error}" if error else ""
        if exchange is None:
            self.close()
        elif not exchange.reads:
            self._lost_before_the_answer(f"connection closed before the answer by {name}{how}")
        elif (error is None and self._end.until_close) or self._is_ended_by_api(exchange):
            self._end_here(exchange)
        elif error is None:
            self.give_up("cut_short", f"{name} closed the connection before the end of the answer")
        else:
            self.give_up("stream_broken", f"{name}: connection lost in the middle of the answer{how}")

    def _lost_before_the_answer(self, why: str) -> None:
        """No byte came back. The server may have closed a kept-alive connection before the request arrived."""
        if self._exchange is None or self._exchange.reads or not self.was_used or self.on_stale is None:
            self.give_up("connection", why)
            return
        self._exchange = None
        self.close()
        self._loop.call_soon(self.on_stale, self)


def words_of_refusal(error: OSError) -> str:
    """Why there is no connection: in which phase, to which address, and what kind of error."""
    return (getattr(error, "__notes__", None) or [f"{type(error).__name__}: {error}"])[-1]


def _kind_of(error: OSError, timeout_s: float) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {timeout_s:g} s (time-out)"
    if isinstance(error, ssl.SSLError) and error.reason in NOT_TLS:
        return f"the server does not speak TLS there: use http:// ({error.reason})"
    if (error.errno or 0) > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno).lower()
    return re.sub(r"^\[Errno -?\d+\] | \(_ssl\.c:\d+\)$", "", str(error)) or type(error).__name__


async def _connect(addresses: list[tuple]) -> socket.socket:
    """A connected, non-blocking socket to the first address that answers."""
    loop = asyncio.get_running_loop()
    last_error: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            want_receive_stamps(sock)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            last_error = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last_error or OSError("the host has no address")


async def _shake_hands(
    sock: socket.socket, server: Server
) -> tuple[ssl.SSLObject | None, ssl.MemoryBIO, ssl.MemoryBIO]:
    """TLS over the connected socket, through memory; no TLS object for plain HTTP."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    if server.tls is None:
        return None, incoming, outgoing
    loop = asyncio.get_running_loop()
    tls = server.tls.wrap_bio(incoming, outgoing, server_hostname=server.host)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(sock, outgoing.read())
            data = await loop.sock_recv(sock, READ_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection during the TLS handshake") from None
            incoming.write(data)
        else:
            if outgoing.pending:
                await loop.sock_sendall(sock, outgoing.read())
            return tls, incoming, outgoing
