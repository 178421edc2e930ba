"""A model server with a known schedule, for tests: each request says how it wants to be answered.

Speaks HTTP/1.1 over a raw socket so that it can also misbehave. The request body's `behaviour` picks the answer; every
request is logged with the time at which each write was made (`CLOCK_MONOTONIC`), which GET /log returns.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time

TTFT_S = 0.05
ITL_S = 0.01
TOKENS = 8
LOG: dict[str, dict] = {}


def sse(event: dict) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def delta(text: str) -> bytes:
    """An OpenAI chat chunk."""
    return sse({"choices": [{"index": 0, "delta": {"content": text}}]})


def usage(tokens: int) -> bytes:
    """The closing events of an OpenAI stream."""
    return (
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        + sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}})
        + b"data: [DONE]\n\n"
    )


def said_after(messages: int) -> list[str]:
    """The pieces of the answer to so many messages, of `converse`."""
    return [f"After {messages} ", 'é"\\\n\t', "\u2028😀 \x7f\ud7ff </s>"]


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Connection:
    """Serves the requests of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.writes: list[int] = []

    async def write(self, data: bytes) -> None:
        self.writes.append(time.monotonic_ns())
        self.writer.write(data)
        await self.writer.drain()

    async def start_stream(self) -> None:
        await self.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def reset(self) -> None:
        """End the connection with a reset, as a process that dies does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def plain(self, status: str, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        await self.write(head.encode() + body)

    async def serve(self) -> None:
        try:
            while await self.one_request():
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writer.close()

    async def one_request(self) -> bool:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:])}
        if head.startswith("GET /log"):
            await self.plain("200 OK", json.dumps(LOG).encode())
            return True
        raw = await self.reader.readexactly(int(headers["content-length"]))
        body = json.loads(raw)
        self.writes = []
        started = time.monotonic_ns()
        go_on = await getattr(self, body.get("behaviour", "stream"))(body)
        seen = {"received_ns": started, "writes_ns": self.writes, "body": body, "raw": raw.decode()}
        seen["client"] = self.writer.get_extra_info("peername")[0]
        LOG[headers.get("x-request-id", "")] = seen
        return go_on is not False

    async def stream(self, body: dict) -> None:
        await self.start_stream()
        await asyncio.sleep(TTFT_S)
        for i in range(TOKENS):
            await self.write(chunk(delta(f"w{i} ")))
            await asyncio.sleep(ITL_S)
        await self.write(chunk(usage(TOKENS)) + b"0\r\n\r\n")

    async def sized(self, body: dict) -> None:
        """A long prompt is read for 200 ms, a short one for 40; nobody waits for the others."""
        await self.start_stream()
        await asyncio.sleep(0.2 if len(body["messages"][0]["content"]) > 500 else 0.04)
        for i in range(TOKENS):
            await self.write(chunk(delta(f"w{i} ")))
            await asyncio.sleep(ITL_S / 10)
        await self.write(chunk(usage(TOKENS)) + b"0\r\n\r\n")

    async def as_asked(self, body: dict) -> None:
        await self.start_stream()
        await self.write(b"".join(chunk(delta(f"w{i} ")) for i in range(body["max_tokens"])))
        await self.write(chunk(usage(body["max_tokens"])) + b"0\r\n\r\n")

    async def role_first(self, body: dict) -> None:
        await self.start_stream()
        await self.write(chunk(sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})))
        await asyncio.sleep(0.1)
        await self.write(chunk(delta("one ")) + chunk(usage(1)) + b"0\r\n\r\n")

    async def four_tokens_a_chunk(self, body: dict) -> None:
        await self.start_stream()
        for i in range(5):
            await self.write(chunk(delta(f"a b c {i} ")))
            await asyncio.sleep(0.04)
        await self.write(chunk(usage(20)) + b"0\r\n\r\n")

    async def whole(self, body: dict) -> None:
        await asyncio.sleep(0.05)
        answer = {
            "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2},
        }
        await self.plain("200 OK", json.dumps(answer).encode())

    async def echo(self, body: dict) -> None:
        prompt = body["prompt"]
        answer = {
            "choices": [{"text": prompt + " and so on", "finish_reason": "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 99},
        }
        await self.plain("200 OK", json.dumps(answer).encode())

    async def converse(self, body: dict) -> None:
        """Says what the last message asks for; the answer holds what JSON escapes, and thoughts, which are no part of it.

        They are in a field, or in tags where there is a system message.
        """
        asked = body["messages"][-1]["content"]
        if "FAIL" in asked:
            await self.server_error(body)
            return
        await self.start_stream()
        thought = sse({"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]})
        if body["messages"][0]["role"] == "system":
            thought = delta("<think>H") + delta("m.</think>\n\n")
        said = said_after(len(body["messages"]))
        escaped = b"".join(map(delta, said[:2]))
        plain = json.dumps({"choices": [{"index": 0, "delta": {"content": said[2]}}]}, ensure_ascii=False).encode()
        data = chunk(thought + escaped + b"data: " + plain + b"\n\n")
        await self.write(data[:-9])  # in the middle of the last event
        await asyncio.sleep(0.005)
        long = 5000 if "LONG" in asked else 7
        end = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        end += sse({"choices": [], "usage": {"prompt_tokens": long, "completion_tokens": 4}}) + b"data: [DONE]\n\n"
        await self.write(data[-9:] + chunk(end) + b"0\r\n\r\n")

    async def server_error(self, body: dict) -> None:
        await self.plain("500 Internal Server Error", b'{"error": {"message": "CUDA out of memory"}}')

    async def throttle(self, body: dict) -> None:
        await self.plain("429 Too Many Requests", b'{"error": {"message": "slow down"}}')

    async def hang(self, body: dict) -> bool:
        await asyncio.sleep(5)
        return False

    async def die_in_mid_stream(self, body: dict) -> bool:
        await self.start_stream()
        await self.write(chunk(delta("one ")) + chunk(delta("two ")))
        await asyncio.sleep(0.01)
        self.reset()
        return False

    async def resets_behind_its_data(self, body: dict) -> bool:
        """The reset is there before the client has read what came before it."""
        await self.start_stream()
        await self.write(chunk(delta("one ")) + chunk(delta("two ")))
        self.reset()
        return False

    async def ends_in_mid_stream(self, body: dict) -> bool:
        """Closes in good order, but before the last chunk."""
        await self.start_stream()
        await self.write(chunk(delta("one ")) + chunk(delta("two ")))
        return False

    async def lacks_its_end(self, body: dict) -> None:
        """HTTP ends as it should; the stream itself has neither finish reason nor end mark."""
        await self.start_stream()
        await self.write(chunk(delta("one ")) + chunk(delta("two ")) + b"0\r\n\r\n")

    async def long_text_without_usage(self, body: dict) -> None:
        """A text that takes long to count, which the server leaves to the client."""
        await self.start_stream()
        await self.write(chunk(delta("many words in a row " * 5000)))
        await self.write(chunk(sse({"choices": [{"delta": {}, "finish_reason": "stop"}]})) + b"0\r\n\r\n")

    async def reset_at_once(self, body: dict) -> bool:
        self.reset()
        return False

    async def garbage(self, body: dict) -> bool:
        await self.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        return False

    async def error_inside(self, body: dict) -> None:
        await self.start_stream()
        await self.write(chunk(delta("one ")) + chunk(sse({"error": {"message": "engine died"}})) + b"0\r\n\r\n")

    async def empty(self, body: dict) -> None:
        await self.start_stream()
        await self.write(chunk(usage(0)) + b"0\r\n\r\n")

    async def closes_each_time(self, body: dict) -> bool:
        answer = b'{"choices": [{"message": {"content": "bye"}}]}'
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(answer)}\r\n\r\n"
        await self.write(head.encode() + answer)
        return False

    async def interim_head_and_trailers(self, body: dict) -> None:
        await self.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await self.start_stream()
        await self.write(chunk(delta("one ")) + chunk(usage(1)) + b"0\r\nX-Trailer: y\r\n\r\n")

    async def every_third_fails(self, body: dict) -> None:
        if len(LOG) % 3 == 2:
            await self.server_error(body)
        else:
            await self.stream(body)


async def main(host: str) -> None:
    """Listen on a free port, and print it."""
    server = await asyncio.start_server(lambda r, w: Connection(r, w).serve(), host, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
