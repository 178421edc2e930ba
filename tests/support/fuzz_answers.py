"""Hostile answers for every API: valid ones, mutated in bytes and in structure, sent by a real server to a real load process.

`python tests/support/fuzz_answers.py --count 10000` sends that many for each API. They depend only on the seed.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import socket
import struct
import tempfile
from pathlib import Path
from zlib import crc32

from attempt_specs import measure, spec_of
from raw_server import raw_server

from helpers.load.load_processes import LoadProcesses

MOST_MEMORY_MB = 400
OPENAI = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Grüß "}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "Gott", "reasoning": None}, "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
]
LAST = {"finish_reason": "length", "generated_tokens": 2, "input_length": 5}
EVENTS = {
    "openai_chat": OPENAI,
    "openai_completions": [
        {"choices": [{"text": "Grüß "}]},
        {"choices": [{"text": "G", "finish_reason": "stop"}]},
        OPENAI[3],
    ],
    "tgi": [
        {"token": {"id": 1, "text": "Grüß ", "special": False}, "generated_text": None, "details": None},
        {"token": {"id": 2, "text": "Gott", "special": False}, "generated_text": "Grüß Gott", "details": LAST},
    ],
    "djl": [
        {"token": {"id": 1, "text": "Grüß ", "log_prob": -0.1}},
        {
            "token": {"id": [2], "text": "Gott"},
            "generated_text": "Grüß Gott",
            "details": {**LAST, "input_length": None},
        },
    ],
    "bedrock_converse": [
        {"contentBlockIndex": 0, "delta": {"text": "Grüß "}},
        {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Gott"}}},
        {"stopReason": "max_tokens"},
        {"usage": {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 0}},
    ],
}
"""The events of a valid answer, by API."""
VALUES = [None, True, -1, 0, 2**31, 10**30, -(10**19), 1.5, 1e308, float("nan"), float("inf"), "",
          "\ud83d", "\ude00x", "\0", "error",
          "x" * 5000, [], {}, [[[]]], {"message": "\udfff"}, {"message": {"a": 1}}, [None], "100"]  # fmt: skip
BYTES = [b"", b"\r\n", b"\n\n", b"0\r\n\r\n", b"data: ", b"[DONE]", b"\x00", b"\xff\xfe", b"-6\r\n", b"[" * 3000, b'{"a":' * 3000,
         b"9" * 5000, b"NaN", b"\\ud83d", b"HTTP/1.1 200 OK\r\n\r\n", b"event: error\n",
         b"7fffffff\r\n", b": x\n", b'"']  # fmt: skip
STATUS = [b"200 OK"] * 12 + [b"500 x", b"424 Failed", b"429 Slow", b"10000000000 OK", b"-1 x", b"200", b"", b"204 None"]


def valid(api: str) -> bytes:
    """A whole answer that is right."""
    body, kind = _body(api, EVENTS[api], random.Random(0))
    return b"HTTP/1.1 200 OK\r\n" + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body


def hostile(api: str, seed: int, number: int) -> bytes:
    """The hostile answer of a number: changed values, then framing, then bytes."""
    rng = random.Random(f"{api} {seed} {number}")
    events = json.loads(json.dumps(EVENTS[api]))
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        _change(events, rng)
    body, kind = _body(api, events, rng)
    if rng.random() < 0.05:
        body = rng.choice([json.dumps(events).encode(), b"[" * 100_000, b"", rng.randbytes(2000), body * 200])
    if rng.random() < 0.5:
        body = _mutated(body, rng)
    wire = _framed(body, kind, rng)
    return _mutated(wire, rng) if rng.random() < 0.4 else wire


def _change(value: object, rng: random.Random) -> None:
    """Replace, remove, double or nest something somewhere in it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.8:
            value = value[key]
            continue
        how = rng.random()
        if how < 0.7:
            value[key] = copy.deepcopy(rng.choice(VALUES))
        elif how < 0.8:
            del value[key]
        elif how < 0.9:
            value[key] = [value[key], copy.deepcopy(value[key])]
        else:
            value[key] = {"error": copy.deepcopy(rng.choice(VALUES)), "message": value[key]}
        return


def _body(api: str, events: list, rng: random.Random) -> tuple[bytes, bytes]:
    """The body and its content type."""
    encoded = [json.dumps(event, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass") for event in events]
    if api == "bedrock_converse":
        return b"".join(map(_frame, encoded)), b"Content-Type: application/vnd.amazon.eventstream\r\n"
    if api == "djl":
        return b"".join(event + b"\n" for event in encoded), b"Content-Type: application/jsonlines\r\n"
    done = b"data: [DONE]\n\n" if api.startswith("openai") else b""
    return b"".join(b"data: " + event + b"\n\n" for event in encoded) + done, b"Content-Type: text/event-stream\r\n"


def _frame(payload: bytes) -> bytes:
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in ((b":message-type", b"event"), (b":event-type", b"contentBlockDelta"))
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return message + struct.pack("!I", crc32(message))


def _framed(body: bytes, kind: bytes, rng: random.Random) -> bytes:
    head = b"HTTP/1.1 " + rng.choice(STATUS) + b"\r\n" + kind
    how = rng.random()
    if how < 0.4:
        size = rng.choice([b"%d" % len(body)] * 6 + [b"-5", b"9" * 5000, b"1_0", b"%d" % (len(body) // 2), b"5, 6"])
        return head + b"Content-Length: " + size + b"\r\n\r\n" + body
    if how < 0.5:
        return head + b"\r\n" + body
    pieces = [body[at : at + 97] for at in range(0, len(body), 97)]
    sizes = [b"%x" % len(piece) for piece in pieces]
    if sizes and rng.random() < 0.3:
        sizes[rng.randrange(len(sizes))] = rng.choice(
            [b"-6", b"", b"+5", b"0x5", b"1_0", b"0", b"f" * 5000, b"7" * 15, b"5;x"]
        )
    chunks = b"".join(b"%b\r\n%b\r\n" % pair for pair in zip(sizes, pieces, strict=True))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def _mutated(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice([0, 0, 1, 3, 40]))
        new = rng.choice([*BYTES, rng.randbytes(4), data[at : at + 50]])
        data = data[:at] + new + data[to:]
    return data


def fuzz(api: str, count: int, folder: Path, seed: int = 1) -> dict[str, int]:
    """Send `count` hostile answers, after each a valid one; how many there were of each status. AssertionError if one is lost."""
    sound = valid(api)

    def answer(connection: socket.socket, number: int) -> bool:
        connection.sendall(sound if number % 2 else hostile(api, seed, number // 2))
        return bool(number % 2)  # what is not whole would be waited for

    framing = "aws_event_stream" if api == "bedrock_converse" else "plain"
    load = {"concurrency": [8], "min_requests": 2 * count, "warmup_requests": 0, "max_duration_s": 600}
    with raw_server(answer) as server, LoadProcesses(folder / "load.log") as processes:
        spec = spec_of(folder, server.url, api=api, address={"framing": framing}, prompts=2 * count + 20, **load)
        requests, facts = measure(processes, spec)
    assert sorted(requests["request_id"]) == sorted(set(requests["request_id"])) and len(requests) >= 2 * count
    number = requests["request_id"].str.split("-").str[1].astype(int)
    arrived = number.isin(server.seen)
    assert arrived.sum() == len(server.seen), "each request has its row"
    assert set(requests[~arrived]["status"]) <= {"connection"}, "sent while the server closed, and no answer is made up"
    valid_rows = requests[arrived & (number % 2 == 1)]
    assert set(valid_rows["status"]) == {"ok"} and (valid_rows["output_tokens"] == 2).all(), (
        valid_rows["error"].dropna().tolist()[:2]
    )
    assert (requests["error"].isna() == (requests["status"] == "ok")).all()
    assert not requests["error"].str.contains("could not be read").fillna(False).any(), (
        "the reader raised what it should know"
    )
    assert facts.processes[0].peak_memory_mb < MOST_MEMORY_MB
    return requests[number % 2 == 0]["status"].value_counts().to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--api", choices=EVENTS)
    options = parser.parse_args()
    for api in [options.api] if options.api else EVENTS:
        with tempfile.TemporaryDirectory() as folder:
            print(api, fuzz(api, options.count, Path(folder), options.seed), flush=True)


if __name__ == "__main__":
    main()
