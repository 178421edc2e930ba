"""The bytes of an answer, made before any request comes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from local_sagemaker import event_stream

PROMPT_TOKENS = 300


@dataclass(frozen=True)
class AnswerBytes:
    """An answer, in the pieces in which it is written."""

    events: list[bytes]
    """Each with its frame and HTTP chunk; the first carries the head too."""
    tail: bytes
    whole: bytes


def answer_bytes(events: int, aws_frames: bool) -> AnswerBytes:
    """A chat completion of `events` tokens, as server-sent events, in AWS event-stream frames if asked."""

    def chunk(data: bytes) -> bytes:
        data = event_stream.payload_part(data) if aws_frames else data
        return b"%x\r\n%b\r\n" % (len(data), data)

    content_type = event_stream.CONTENT_TYPE if aws_frames else "text/event-stream"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
    head += "X-Amzn-SageMaker-Content-Type: text/event-stream\r\n" if aws_frames else ""
    first = chunk(_event([_choice({"role": "assistant", "content": "the"})]))
    other = chunk(_event([_choice({"content": " the"})]))
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": events, "total_tokens": PROMPT_TOKENS + events}
    tail = chunk(_event([_choice({}, "length")])) + chunk(_event([], usage)) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    cut = [f"{head}\r\n".encode() + first, *[other] * (events - 1)]
    return AnswerBytes(cut, tail, b"".join([*cut, tail]))


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(choices: list[dict], usage: dict[str, int] | None = None) -> bytes:
    event = {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "stub",
        "choices": choices,
    }
    if usage is not None:
        event["usage"] = usage
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
