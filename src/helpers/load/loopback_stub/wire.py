"""A client's connection, and an answer under way on it."""

from __future__ import annotations

import socket
import ssl

from helpers.load.loopback_stub.answers import AnswerBytes

READ_BYTES = 65536


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
