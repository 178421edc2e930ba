"""One HTTP/1.1 connection that stamps every socket read and keeps the bytes as they came.

Nothing is decoded here. While an answer arrives the connection only finds out where it ends: by Content-Length, by the
last chunk, or by the close of the connection. All else is done after the load point, in `responses`.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from functools import cache
from time import monotonic_ns
from urllib.parse import urlsplit

HEADERS_END = b"\r\n\r\n"
END_OF_LINES = b"\r\n\r\n"


@dataclass(slots=True)
class Exchange:
    """One request and the bytes that came back. Times in ns; null where the event did not happen."""

    sent_ns: int = 0
    done_ns: int = 0
    reads: list[tuple[int, bytes]] = field(default_factory=list)
    """(stamp, bytes) of every socket read, in order."""
    complete: bool = False
    failure: str | None = None
    """`timeout`, `connection`, `stream_broken`, or null."""
    detail: str | None = None

    @property
    def looks_ok(self) -> bool:
        """Complete with HTTP status 200: a first look for the progress display; `responses` has the last word."""
        return self.complete and bool(self.reads) and self.reads[0][1][9:12] == b"200"


class HttpConnection(asyncio.Protocol):
    """A kept-alive connection for one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._finished: asyncio.Future[None] | None = None
        self._body_start = 0
        self._body_end: int | None = None
        self._chunked = False
        self._headers_seen = False
        self._server_closes = False
        self._received = 0
        self._tail = b""

    @classmethod
    async def open(cls, url: str, timeout_s: float) -> HttpConnection:
        """Connect (and for https, shake hands). Raises OSError or TimeoutError."""
        parts = urlsplit(url)
        context = _tls_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(cls, parts.hostname, port, ssl=context)
        _, connection = await asyncio.wait_for(connecting, timeout_s)
        return connection

    @property
    def is_open(self) -> bool:
        """False once either side closed, or the server said that it will."""
        return self._transport is not None and not self._transport.is_closing() and not self._server_closes

    async def send(self, request: bytes, timeout_s: float) -> Exchange:
        """Send one request and wait for the end of its answer. Failures are told in the exchange, not raised."""
        loop = asyncio.get_running_loop()
        exchange = self._exchange = Exchange()
        self._finished = loop.create_future()
        self._body_start, self._body_end, self._chunked, self._headers_seen = 0, None, False, False
        self._received, self._tail = 0, b""
        timer = loop.call_later(timeout_s, self._give_up, timeout_s)
        exchange.sent_ns = monotonic_ns()
        self._transport.write(request)
        await self._finished
        timer.cancel()
        self._exchange = None
        return exchange

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- called by the event loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # noqa: D102
        self._transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: D102
        now = monotonic_ns()
        exchange = self._exchange
        if exchange is None:
            return
        exchange.reads.append((now, data))
        self._received += len(data)
        if not self._headers_seen:
            self._look_for_headers(exchange)
        if not self._headers_seen:
            return
        if self._chunked:
            self._tail = (self._tail + data)[-4:] if len(data) < 4 else data[-4:]
            if self._tail == END_OF_LINES and self._all_chunks_are_there(exchange):
                self._finish(now)
        elif self._body_end is not None and self._received >= self._body_end:
            self._finish(now)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        if self._exchange is None or self._finished.done():
            return
        ends_with_close = self._headers_seen and not self._chunked and self._body_end is None
        if ends_with_close and exc is None:
            self._finish(monotonic_ns())
        elif self._exchange.reads:
            self._fail("stream_broken", f"connection closed in the middle of the answer{f': {exc}' if exc else ''}")
        else:
            self._fail("connection", f"connection closed before the answer{f': {exc}' if exc else ''}")

    # --- finding the end ------------------------------------------------------------------------------------------

    def _look_for_headers(self, exchange: Exchange) -> None:
        """Read the head once it is complete; interim heads (100 Continue, 103 Early Hints) are passed over."""
        received = b"".join(data for _, data in exchange.reads)
        start, end = final_head(received)
        if end < 0:
            return
        self._headers_seen = True
        self._body_start = end + len(HEADERS_END)
        status_line, *lines = received[start:end].lower().split(b"\r\n")
        self._server_closes = status_line.startswith(b"http/1.0")
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._body_end = self._body_start + int(value)
            elif name == b"transfer-encoding" and b"chunked" in value:
                self._chunked = True
            elif name == b"connection" and b"close" in value:
                self._server_closes = True

    def _all_chunks_are_there(self, exchange: Exchange) -> bool:
        """Walk the chunks: an ordinary chunk may end like the last one does. Trailers may follow the last."""
        data = b"".join(data for _, data in exchange.reads)
        at = self._body_start
        while (line_end := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line_end].split(b";")[0], 16)
            if size == 0:
                return data.find(END_OF_LINES, line_end) >= 0
            at = line_end + 2 + size + 2
        return False

    def _finish(self, now: int) -> None:
        self._exchange.done_ns = now
        self._exchange.complete = True
        if not self._finished.done():
            self._finished.set_result(None)

    def _fail(self, failure: str, detail: str) -> None:
        self._exchange.done_ns = monotonic_ns()
        self._exchange.failure, self._exchange.detail = failure, detail
        if not self._finished.done():
            self._finished.set_result(None)

    def _give_up(self, timeout_s: float) -> None:
        if self._exchange is not None and not self._finished.done():
            self._fail("timeout", f"no complete answer after {timeout_s:g} s")
            self.close()


def final_head(received: bytes) -> tuple[int, int]:
    """[start, end) of the head of the final response, past interim ones; end is -1 while it is not complete."""
    start = 0
    while (end := received.find(HEADERS_END, start)) >= 0:
        if received[start:end].split(b" ", 2)[1:2] not in ([b"100"], [b"102"], [b"103"]):
            break
        start = end + len(HEADERS_END)
    return start, end


@cache
def _tls_context() -> ssl.SSLContext:
    """Made once: reading the certificate store takes tens of milliseconds, in which nothing is stamped."""
    return ssl.create_default_context()
