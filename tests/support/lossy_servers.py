"""A server that dies, and a network that goes away: both on loopback, both in this process."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress

from small_server import Handler


class Server(http.server.ThreadingHTTPServer):
    """A small server that can die as a process does."""

    daemon_threads = True
    answers_left = 0

    def __init__(self, port: int, handler: type) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.lock = threading.Lock()

    def die(self) -> None:
        self.shutdown()
        self.server_close()


@contextmanager
def serving(handler: type = Handler, port: int = 0, answers: int = 0) -> Iterator[int]:
    """The port of a server."""
    server = Server(port, handler)
    server.answers_left = answers
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.die()


class DiesAfter(Handler):
    """Answers N requests, then its whole server is gone."""

    def do_POST(self) -> None:  # noqa: N802
        with self.server.lock:
            self.server.answers_left -= 1
            dead = self.server.answers_left < 0
        if dead:
            threading.Thread(target=self.server.die).start()
            self.close_connection = True
            self.connection.close()
            return
        super().do_POST()


class Network:
    """A proxy to a port, which can be cut: `refuse` closes it, `swallow` takes what comes and answers nothing."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._swallows = False
        self.restore()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def restore(self) -> None:
        self._swallows = False
        self._do(self._listen)

    def refuse(self) -> None:
        self._do(self._close)

    def swallow(self) -> None:
        self._swallows = True

    def _do(self, work: Callable[[], Coroutine]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
            back.close()
        writer.close()
        self._open.discard(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self._swallows:
                    writer.write(data)
                    await writer.drain()
            writer.write_eof()
