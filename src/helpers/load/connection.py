"""One HTTP/1.1 connection that stamps every socket read and keeps the bytes as they came.

Nothing is decoded here. While an answer arrives the connection only finds out where it ends: by Content-Length, by the
last chunk, or by the close of the connection. All else is done after the load point, in `responses`.

The event loop only watches the socket; the connection reads it itself, because the kernel's receive stamps come beside
the bytes (`SO_TIMESTAMPNS`, Linux) and an `asyncio.Protocol` never sees them. TLS is undone in memory, so that a
record, too, has the stamp of the segment that completed it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns
from urllib.parse import urlsplit

from helpers.load.system import STAMP_SPACE, want_receive_stamps

HEADERS_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"
END_OF_SSE = b"[DONE]\n\n" + LAST_CHUNK
READ_BYTES = 65536

RawRead = tuple[int, bytes | None, bytes]
"""User-space stamp (ns, monotonic), the kernel's stamp as it came (struct timespec, wall clock) or null, bytes."""


@dataclass(slots=True)
class Exchange:
    """One request and the bytes that came back. Times in ns; null where the event did not happen."""

    sent_ns: int = 0
    done_ns: int = 0
    reads: list[tuple[int, bytes]] = field(default_factory=list)
    """(stamp, bytes) of every socket read, in order."""
    complete: bool = False
    failure: str | None = None
    """`timeout`, `connection`, `stream_broken`, `cut_short`, or null."""
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
    """Where connections go: the addresses of a URL's host, looked up once, and how TLS is spoken with it."""

    def __init__(self, url: str, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._addresses: list[tuple] = []

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
        self, sock: socket.socket, tls: ssl.SSLObject | None, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ):
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._recvmsg = sock.recvmsg
        self._tls = tls
        self._incoming, self._outgoing = incoming, outgoing
        self._unsent = b""
        self._exchange: RawExchange | None = None
        self._on_done: OnDone | None = None
        self.is_open = True
        self.connect_ns = 0
        self.tls_ns: int | None = None
        self.worker = 0
        self.sent_ns = 0
        self._forget_answer()

    @classmethod
    async def open(cls, server: Server, timeout_s: float) -> HttpConnection:
        """Connect (and for https, shake hands). Raises OSError or TimeoutError; tells how long each took."""
        async with asyncio.timeout(timeout_s):
            addresses = await server.addresses()
            started = monotonic_ns()
            sock = await _connect(addresses)
            connected = monotonic_ns()
            try:
                tls, incoming, outgoing = await _shake_hands(sock, server)
            except BaseException:
                sock.close()
                raise
        connection = cls(sock, tls, incoming, outgoing)
        connection.connect_ns = connected - started
        connection.tls_ns = None if tls is None else monotonic_ns() - connected
        connection._loop.add_reader(sock, connection._readable)
        return connection

    def send(self, request: bytes, on_done: OnDone) -> None:
        """Send one request; `on_done` gets its exchange, whatever becomes of it."""
        self._forget_answer()
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

    def look(self) -> None:
        """Read what may have come unnoticed: the end of a connection that was reset right behind its last data.

        uvloop calls the reader once for a socket in error, and watches it no more; that one call may find data instead.
        """
        self._readable()

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
            self.give_up("connection", f"could not send: {error}")
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
            if self._is_whole(exchange, data):
                exchange.done_ns = now
                exchange.complete = True
                self._exchange = None
                if self._server_closes:
                    self.close()
                self._on_done(self, exchange)

    def _decrypt(self, data: bytes) -> bytes:
        """The plain text of what is complete so far; what TLS itself has to say goes out at once."""
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
        exchange = self._exchange
        if exchange is None:
            self.close()
        elif error is None and self._head_seen and not self._chunked and self._body_end is None:
            exchange.done_ns = monotonic_ns()
            exchange.complete = True
            self._exchange = None
            self.close()
            self._on_done(self, exchange)
        elif not exchange.reads:
            self.give_up("connection", f"connection closed before the answer{f': {error}' if error else ''}")
        elif error is None:
            self.give_up("cut_short", "the server closed the connection before the end of the answer")
        else:
            self.give_up("stream_broken", f"connection lost in the middle of the answer: {error}")

    # --- finding the end ------------------------------------------------------------------------------------------

    def _forget_answer(self) -> None:
        self._head_seen = self._chunked = self._server_closes = False
        self._body_end: int | None = None
        self._received = 0
        self._unwalked = bytearray()
        self._sure_end = END_OF_SSE

    def _is_whole(self, exchange: RawExchange, data: bytes) -> bool:
        self._received += len(data)
        if not self._head_seen:
            data = self._look_for_head(exchange)
            if data is None:
                return False
        if self._chunked:
            if data.endswith(self._sure_end):
                return True
            self._unwalked += data
            return self._unwalked.endswith(HEADERS_END) and self._last_chunk_is_there()
        return self._body_end is not None and self._received >= self._body_end

    def _look_for_head(self, exchange: RawExchange) -> bytes | None:
        """Read the head once it is complete, and give what follows it; interim heads (100, 103) are passed over."""
        received = exchange.reads[0][2] if len(exchange.reads) == 1 else b"".join(read[2] for read in exchange.reads)
        start, end = final_head(received)
        if end < 0:
            return None
        self._head_seen = True
        status_line, *lines = received[start:end].lower().split(b"\r\n")
        self._server_closes = status_line.startswith(b"http/1.0")
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"content-length" and value.strip().isdigit():
                self._body_end = end + len(HEADERS_END) + int(value)
            elif name == b"transfer-encoding" and b"chunked" in value:
                self._chunked = True
            elif name == b"connection" and b"close" in value:
                self._server_closes = True
            elif name == b"content-type" and b"eventstream" in value:
                # Inside frames of JSON there are no line ends as bytes; where a checksum has one, no frame ends on it.
                self._sure_end = LAST_CHUNK
        return received[end + len(HEADERS_END) :]

    def _last_chunk_is_there(self) -> bool:
        """Walk the chunks: an ordinary chunk may end like the last one does. Trailers may follow the last."""
        data, at = self._unwalked, 0
        while (line_end := data.find(b"\r\n", at)) >= 0:
            try:
                size = int(data[at:line_end].split(b";")[0], 16)
            except ValueError:
                return True  # not chunks at all: `responses` will say so
            if size == 0:
                return data.find(HEADERS_END, line_end) >= 0
            following = line_end + 2 + size + 2
            if following > len(data):
                break
            at = following
        del data[:at]
        return False


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


def final_head(received: bytes) -> tuple[int, int]:
    """[start, end) of the head of the final response, past interim ones; end is -1 while it is not complete."""
    start = 0
    while (end := received.find(HEADERS_END, start)) >= 0:
        if received[start:end].split(b" ", 2)[1:2] not in ([b"100"], [b"102"], [b"103"]):
            break
        start = end + len(HEADERS_END)
    return start, end
