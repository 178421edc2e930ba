"""An OpenAI server for the benchmark tools of others: chat and completions, streamed or whole, and some requests fail.

`python failing_server.py MODEL` prints its port. A refused request is one of every `FAILS_EVERY`, never one of the first ten,
which tools use to see whether there is a server. GET /log lists what every request to a model was answered with.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FAILS_EVERY = 25
TOKEN_S = 0.0003
TOKENS = 16
LOG: list[int] = []
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/log":
            return self.whole(200, LOG)
        return self.whole(200, {"object": "list", "data": [{"id": sys.argv[1], "object": "model", "owned_by": "me"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with LOCK:
            number = len(LOG)
            status = 503 if number > 10 and number % FAILS_EVERY == 0 else 200
            LOG.append(status)
        if status != 200:
            return self.whole(status, {"error": {"message": "no capacity left", "code": status}})
        tokens = body.get("max_completion_tokens") or body.get("max_tokens") or TOKENS
        usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
        chat = "messages" in body
        if not body.get("stream"):
            time.sleep(tokens * TOKEN_S)
            return self.whole(200, event(chat, "word " * tokens, "message", finish_reason="length") | {"usage": usage})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(tokens - 1):
            self.event(event(chat, "word "))
        self.event(event(chat, "word", finish_reason="length"))
        self.event(event(chat, "") | {"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        return self.chunk(b"")

    def whole(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def event(self, content: dict) -> None:
        time.sleep(TOKEN_S)
        self.chunk(f"data: {json.dumps(content)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


def event(chat: bool, text: str, key: str = "delta", finish_reason: str | None = None) -> dict:
    """An answer, or a chunk of one (`key` "delta"), with the text where the API has it."""
    content = {key: {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = {"index": 0, "finish_reason": finish_reason, **content}
    kind = ("chat.completion.chunk" if key == "delta" else "chat.completion") if chat else "text_completion"
    return {"id": "1", "object": kind, "created": 1, "model": sys.argv[1], "choices": [choice]}


@contextmanager
def failing_server(model: str) -> Iterator[str]:
    """The URL of this server, in a process of its own."""
    with subprocess.Popen([sys.executable, __file__, model], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
