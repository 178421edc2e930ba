"""A server for tests that answers each request with the bytes that it is given, whatever they are."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NUMBER = re.compile(rb"x-request-id: [0-9a-f]+-([0-9]+)", re.IGNORECASE)
LENGTH = re.compile(rb"content-length: ([0-9]+)", re.IGNORECASE)

Answering = Callable[[socket.socket, int], bool | None]
"""Answers the request of a number over a connection; false: close it."""


class RawServer(socketserver.ThreadingTCPServer):
    """Reads whole requests and leaves the answer to a function; counts the requests."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, answer: Answering) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.answer = answer
        self.seen: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/chat/completions"

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            while data := request.recv(65536):
                received += data
                head, _, body = received.partition(b"\r\n\r\n")
                if b"\r\n\r\n" not in received or len(body) < int(LENGTH.search(head)[1]):
                    continue
                received = b""
                found = NUMBER.search(head)
                number = int(found[1]) if found else 0  # the first request of all has none
                self.seen.append(number)
                if self.answer(request, number) is False:
                    return
        except OSError:
            pass  # the client went away


@contextmanager
def raw_server(answer: Answering) -> Iterator[RawServer]:
    """Runs until the end of the block."""
    with RawServer(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
