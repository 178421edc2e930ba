"""An OpenAI server on loopback whose path says how it fails: `http://127.0.0.1:PORT/<fault>/v1`; `well` does not fail."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path

from small_server import Handler

from helpers.load.loopback_stub.certificate import write_certificate

KEY = "sk-right-key-0123456789"
ANSWERS_BEFORE_DEATH = 10


class FaultyHandler(Handler):
    """Answers as `small_server`, unless the first part of the path names another method of this class."""

    def do_POST(self) -> None:  # noqa: N802 (the library's name)
        fault = self.path.split("/")[1]
        with self.server.lock:
            self.server.seen[fault] += 1
            self.number = self.server.seen[fault]
        if fault == "well":
            super().do_POST()
            return
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        getattr(self, fault)()

    def plain(self, status: int, body: dict | bytes, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *events: dict, done: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            self.event(event)
        if done:
            self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    # --- faults ---------------------------------------------------------------------------------------------------

    def wrong_key(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.plain(401, {"error": {"message": f"Incorrect API key provided: {given}. Find yours at x.", "code": "key"}})

    def unknown_model(self) -> None:
        words = f"The model `{self.body['model']}` does not exist."
        self.plain(404, {"object": "error", "message": words, "type": "NotFoundError", "code": 404})

    def wrong_path(self) -> None:
        self.plain(404, {"detail": "Not Found"})

    def busy(self) -> None:
        self.plain(429, {"error": {"message": "Rate limit reached for requests: 3 per minute"}})

    def too_long(self) -> None:
        words = "This model's maximum context length is 64 tokens. However, you requested 190 tokens."
        self.plain(400, {"object": "error", "message": words, "type": "BadRequestError"})

    def broken(self) -> None:
        self.plain(500, {"error": {"message": "CUDA out of memory"}})

    def moved(self) -> None:
        self.send_response(301)
        self.send_header("Location", "https://user:pa55word@elsewhere:8443/v1?token=planted")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def fails_once(self) -> None:
        self.plain(502, {"error": {"message": "no upstream"}}) if self.number == 1 else self.well()

    def filtered(self) -> None:
        self.stream(
            {"choices": [{"delta": {"content": "I "}}]}, {"choices": [{"delta": {}, "finish_reason": "content_filter"}]}
        )

    def web_page(self) -> None:
        self.plain(200, b"<html><head><title>Welcome</title></head><body>It works!</body></html>", "text/html")

    def empty(self) -> None:
        self.stream({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, self.end(0))

    def engine_error(self) -> None:
        self.stream({"choices": [{"delta": {"content": "one "}}]}, {"error": {"message": "engine is dead"}})

    def cut(self) -> None:
        self.stream({"choices": [{"delta": {"content": "one "}}]}, done=False)

    def silent(self) -> None:
        time.sleep(30)

    # --- answers that are not as asked for ------------------------------------------------------------------------

    def no_usage(self) -> None:
        words = [{"choices": [{"delta": {"content": f"w{i} "}}]} for i in range(self.body["max_tokens"])]
        self.stream(*words, {"choices": [{"delta": {}, "finish_reason": "length"}]})

    def no_stream(self) -> None:
        usage = {"prompt_tokens": 100, "completion_tokens": self.body["max_tokens"]}
        choice = {"message": {"content": "all at once"}, "finish_reason": "length"}
        self.plain(200, {"choices": [choice], "usage": usage})

    def only_reasoning(self) -> None:
        thoughts = [{"choices": [{"delta": {"reasoning_content": f"hm{i} "}}]} for i in range(self.body["max_tokens"])]
        self.stream(*thoughts, self.end(self.body["max_tokens"]))

    # --- under load -----------------------------------------------------------------------------------------------

    def dies(self) -> None:
        """Answers ten times; then nobody listens any more."""
        if self.number > ANSWERS_BEFORE_DEATH:
            self.server.die()
            self.close_connection = True
            self.connection.close()
            return
        self.well()

    def revoked(self) -> None:
        """The key is good for the first two requests, which are those of the preflights."""
        self.wrong_key() if self.number > 2 else self.well()

    def well(self) -> None:
        tokens = self.body["max_tokens"]
        self.stream(*({"choices": [{"delta": {"content": f"w{i} "}}]} for i in range(tokens)), self.end(tokens))

    def end(self, tokens: int) -> dict:
        usage = {"prompt_tokens": 100, "completion_tokens": tokens}
        return {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": usage}


class FaultyServer(ThreadingHTTPServer):
    """Counts the requests of each fault."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1" if tls is None else "127.0.0.2", 0), FaultyHandler)
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.dead = False
        self.connections: list[socket.socket] = []
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def get_request(self) -> tuple[socket.socket, tuple]:
        found = super().get_request()
        self.connections.append(found[0])
        return found

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no news."""

    def die(self) -> None:
        """As a process that is killed: its port is closed, and so are its connections."""
        with self.lock:
            if self.dead:
                return
            self.dead = True
        self.socket.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.shutdown()  # the loop that accepts would turn without rest on a closed port

    def url(self, fault: str, scheme: str = "http", user: str = "") -> str:
        return f"{scheme}://{user}{self.server_address[0]}:{self.server_port}/{fault}/v1"


@contextmanager
def faulty_server(tls: ssl.SSLContext | None = None) -> Iterator[FaultyServer]:
    """One that serves until the block is left; with TLS on 127.0.0.2."""
    server = FaultyServer(tls)
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    try:
        yield server
    finally:
        server.die()


def _serve(server: FaultyServer) -> None:
    with suppress(OSError, ValueError):  # of a socket that is closed
        server.serve_forever(0.05)


def tls_of_localhost(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """TLS of a server whose certificate signs itself and is for 127.0.0.1 and localhost; and the certificate's file."""
    certificate = folder / "certificate.pem"
    write_certificate(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context, certificate
