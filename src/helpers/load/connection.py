"""One HTTP/1.1 connection that stamps every socket read and keeps the bytes as they came.

Nothing is decoded here. While an answer arrives the connection only finds out where it ends: by Content-Length, by the
last chunk, or by the close of the connection. All else is done after the load point, in `responses`.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from time import monotonic_ns
from urllib.parse import urlsplit

HEADERS_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


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
        self._body_end: int | None = None
        self._chunked = False
        self._headers_seen = False
        self._received = 0
        self._tail = b""

    @classmethod
    async def open(cls, url: str, timeout_s: float) -> HttpConnection:
        """Connect (and for https, shake hands). Raises OSError or TimeoutError."""
        parts = urlsplit(url)
        context = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(cls, parts.hostname, port, ssl=context)
        _, connection = await asyncio.wait_for(connecting, timeout_s)
        return connection

    @property
    def is_open(self) -> bool:
        """False once either side closed."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes, timeout_s: float) -> Exchange:
        """Send one request and wait for the end of its answer. Failures are told in the exchange, not raised."""
        loop = asyncio.get_running_loop()
        exchange = self._exchange = Exchange()
        self._finished = loop.create_future()
        self._body_end, self._chunked, self._headers_seen = None, False, False
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
            self._tail = (
                (self._tail + data)[-len(LAST_CHUNK) :] if len(data) < len(LAST_CHUNK) else data[-len(LAST_CHUNK) :]
            )
            if self._tail == LAST_CHUNK and self._all_chunks_are_there(exchange):
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
        head = b"".join(data for _, data in exchange.reads)
        end = head.find(HEADERS_END)
        if end < 0:
            return
        self._headers_seen = True
        for line in head[:end].lower().split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._body_end = end + len(HEADERS_END) + int(value)
            elif name == b"transfer-encoding" and b"chunked" in value:
                self._chunked = True

    def _all_chunks_are_there(self, exchange: Exchange) -> bool:
        """Walk the chunks: the last five bytes may also be the end of an ordinary chunk."""
        data = b"".join(data for _, data in exchange.reads)
        at = data.find(HEADERS_END) + len(HEADERS_END)
        while (line_end := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line_end].split(b";")[0], 16)
            if size == 0:
                return True
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
