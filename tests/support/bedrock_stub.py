"""A Bedrock Runtime on loopback, for tests: Converse and ConverseStream, in frames of its own encoder.

Verifies each signature with botocore and answers 403 to a wrong one. The last word of the model id picks the answer
(`test.busy`); a model id that is none of these, such as an ARN, gives words of text. GET /log returns the requests.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote
from urllib.request import urlopen
from zlib import crc32

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "not-a-secret"
TTFT_S, ITL_S = 0.02, 0.005
PROMPT_TOKENS = 11
LOG: list[dict] = []


# --- for tests ----------------------------------------------------------------------------------------------------


@contextmanager
def bedrock_stub() -> Iterator[str]:
    """The URL of the stub, in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def stub_log(url: str) -> list[dict]:
    """What the stub was sent: `path` as it came, `headers` by lower-case name, `body`."""
    with urlopen(f"{url}/log", timeout=30) as answer:
        return json.load(answer)


# --- frames -------------------------------------------------------------------------------------------------------


def frame(kind: str, payload: dict | bytes, exception: bool = False) -> bytes:
    """One frame: an event, or an exception. Bytes are its payload as they are."""
    headers = {
        ":exception-type" if exception else ":event-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception" if exception else "event",
    }
    encoded = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    data = payload if isinstance(payload, bytes) else json.dumps(payload, **compact).encode()
    lengths = struct.pack("!II", 16 + len(encoded) + len(data), len(encoded))
    message = lengths + struct.pack("!I", crc32(lengths)) + encoded + data
    return message + struct.pack("!I", crc32(message))


def padded(kind: str, payload: dict) -> bytes:
    """An event as Bedrock sends it, with padding that hides the length of a token."""
    return frame(kind, {**payload, "p": "abcdefghijklmnopqrstuvwxyz"[: 1 + len(str(payload)) % 26]})


def text_delta(text: str, block: int = 0) -> bytes:
    return padded("contentBlockDelta", {"contentBlockIndex": block, "delta": {"text": text}})


def reasoning_delta(block: int = 0, **reasoning: str) -> bytes:
    return padded("contentBlockDelta", {"contentBlockIndex": block, "delta": {"reasoningContent": reasoning}})


def usage_of(output_tokens: int, **cache: int) -> dict:
    total = PROMPT_TOKENS + output_tokens + sum(cache.values())
    return {"inputTokens": PROMPT_TOKENS, "outputTokens": output_tokens, "totalTokens": total, **cache}


def end(output_tokens: int, **cache: int) -> list[bytes]:
    """The frames after the last content."""
    return [
        padded("messageStop", {"stopReason": "max_tokens"}),
        padded("metadata", {"usage": usage_of(output_tokens, **cache), "metrics": {"latencyMs": 99}}),
    ]


START = padded("messageStart", {"role": "assistant"})
STOP = padded("contentBlockStop", {"contentBlockIndex": 0})


def words(tokens: int) -> list[str]:
    return [f"wörd{i}\n" for i in range(tokens)]


# --- answers by the last word of the model id ---------------------------------------------------------------------

CACHED = {"cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}


def text(tokens: int) -> list[bytes]:
    return [START, *map(text_delta, words(tokens)), STOP, *end(tokens)]


def cached(tokens: int) -> list[bytes]:
    return [START, *map(text_delta, words(tokens)), STOP, *end(tokens, **CACHED)]


def thinking(tokens: int) -> list[bytes]:
    """Reasoning, its signature, text; and the start of a tool's call, which has no text."""
    tool = {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "look_up"}}}
    call = {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"x": 1}'}}}
    return [
        START,
        reasoning_delta(text="Hm. "),
        reasoning_delta(signature="c2lnbmVk"),
        STOP,
        text_delta("Grüß Gott", block=1),
        padded("contentBlockStart", tool),
        padded("contentBlockDelta", call),
        *end(tokens),
    ]


def ends_with(exception: str) -> Callable[[int], list[bytes]]:
    broken = {"message": f"{exception} it is", "originalStatusCode": 500}
    return lambda tokens: [START, text_delta("one "), text_delta("two "), frame(exception, broken, exception=True)]


STREAMS = {
    "text": text,
    "cached": cached,
    "thinking": thinking,
    "throttled": ends_with("throttlingException"),
    "broken": ends_with("modelStreamErrorException"),
    "cut": lambda tokens: text(tokens)[:-2],
}
REFUSALS = {
    "busy": (429, "ThrottlingException"),
    "unready": (429, "ModelNotReadyException"),
    "quota": (400, "ServiceQuotaExceededException"),
    "unavailable": (503, "ServiceUnavailableException"),
    "denied": (403, "AccessDeniedException"),
    "slow": (408, "ModelTimeoutException"),
}


def whole_answer(kind: str, tokens: int) -> dict:
    """The answer of Converse."""
    content = [{"text": "".join(words(tokens))}]
    if kind == "thinking":
        reasoning = {"reasoningText": {"text": "Hm. ", "signature": "c2lnbmVk"}}
        content = [{"reasoningContent": reasoning}, {"text": "Grüß Gott"}]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "max_tokens",
        "usage": usage_of(tokens, **(CACHED if kind == "cached" else {})),
        "metrics": {"latencyMs": 99},
    }


# --- the server ---------------------------------------------------------------------------------------------------

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/\d{8}/(?P<region>[\w-]+)/(?P<service>[\w-]+)/aws4_request, "
    r"SignedHeaders=(?P<names>[\w;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._json(200, LOG)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        LOG.append({"path": self.path, "headers": headers, "body": json.loads(body)})
        if not self._is_signed(body):
            return self._refuse(403, "InvalidSignatureException")
        _, _, model_id, operation = self.path.split("/")
        kind = unquote(model_id).rsplit(".")[-1].split("-v1:")[0]
        if kind in REFUSALS and (kind != "busy" or len(LOG) % 3 == 0):
            return self._refuse(*REFUSALS[kind])
        tokens = json.loads(body)["inferenceConfig"]["maxTokens"]
        if operation == "converse":
            return self._json(200, whole_answer(kind, tokens))
        return self._stream(STREAMS.get(kind, text)(tokens))

    def _is_signed(self, body: bytes) -> bool:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        found = AUTHORIZATION.fullmatch(self.headers["Authorization"])
        if not found or found["key"] != ACCESS_KEY or found["service"] != "bedrock":
            return False
        signed = {name: self.headers[name] for name in found["names"].split(";")}
        request = AWSRequest("POST", f"http://{self.headers['Host']}{self.path}", data=body, headers=signed)
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), found["service"], found["region"])
        to_sign = auth.string_to_sign(request, auth.canonical_request(request))
        return auth.signature(to_sign, request) == found["signature"]

    def _refuse(self, status: int, kind: str) -> None:
        self._json(status, {"message": f"{kind} it is"}, {"x-amzn-ErrorType": f"{kind}:http://internal.amazon.com/"})

    def _json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, frames: list[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(TTFT_S)
        for data in frames:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            time.sleep(ITL_S)
        self.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
