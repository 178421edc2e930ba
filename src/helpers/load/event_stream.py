"""AWS event-stream frames around the answer of a serving container.

A frame is, big-endian: total length (4 bytes), headers length (4), CRC-32 of these 8 bytes (4), headers, payload,
CRC-32 of everything before it (4). Source: https://smithy.io/2.0/aws/amazon-eventstream.html
What a frame holds goes by its header `:event-type`. SageMaker's `PayloadPart` is a piece of the container's bytes, cut
anywhere. Bedrock's frames hold one event each: InvokeModelWithResponseStream's `chunk` as {"bytes": base64(JSON)}, those
of ConverseStream (`contentBlockDelta`, `metadata`, ...) as JSON. Bedrock's events become a line each.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

import msgspec

from helpers.load.timeline import BadResponse, Timeline

FRAME_OVERHEAD_BYTES = 16
_lengths_at = struct.Struct("!II").unpack_from
_checksum_at = struct.Struct("!I").unpack_from


class Unwrapped(NamedTuple):
    """What the frames held, and what went wrong among them."""

    body: Timeline
    exception: tuple[str, str] | None
    """(kind, text) of the last frame that reports an error instead of carrying a part of the answer."""
    fault: BadResponse | None
    """Why a frame cannot be read; the body ends before it."""
    whole: bool
    """Nothing of an unfinished frame is left at the end."""


class _BedrockPart(msgspec.Struct):
    content: bytes = msgspec.field(name="bytes")


class _BedrockEvent(msgspec.Struct):
    """Bedrock's payload, or the same inside `chunk`, as the SDKs show it."""

    content: bytes | None = msgspec.field(name="bytes", default=None)
    chunk: _BedrockPart | None = None


_decode_bedrock = msgspec.json.Decoder(_BedrockEvent).decode


class _FrameKind(NamedTuple):
    exception: str | None
    error_message: str
    read: Callable[[bytes], bytes] | None
    """Makes a line of the payload; None where the payload itself is a piece of the answer."""


def unwrap_event_stream(body: Timeline) -> Unwrapped:
    """The payloads; a byte of a payload counts as arrived when its frame was whole, because it cannot be read earlier."""
    data, size = body.data, len(body.data)
    at, payloads, frame_ends, exception, fault = 0, [], [], None, None
    kind = kind_of = None
    try:
        while at + FRAME_OVERHEAD_BYTES <= size:
            total, headers_length = _lengths_at(data, at)
            end, payload_at = at + total, 12 + headers_length
            frame = data[at : end - 4]
            if payload_at + 4 > total or end > size or crc32(frame) != _checksum_at(data, end - 4)[0]:
                if _is_unfinished(data, at, total, headers_length):
                    break
                raise BadResponse(f"the event-stream frame at byte {at} has a wrong checksum")
            if (headers := frame[12:payload_at]) != kind_of:
                kind, kind_of = _kind_of_frame(headers), headers
            payload = frame[payload_at:]
            if kind.exception is None:
                payloads.append(payload if kind.read is None else kind.read(payload))
                frame_ends.append(end)
            else:
                exception = kind.exception, payload.decode("utf-8", "replace") or kind.error_message
            at = end
    except BadResponse as error:
        fault = error
    content_ends = list(accumulate(map(len, payloads), initial=0))
    ends = [content_ends[bisect_right(frame_ends, end)] for end in body.ends]
    return Unwrapped(Timeline(b"".join(payloads), ends, body.stamps_ns), exception, fault, at == size)


def _is_unfinished(data: bytes, at: int, total: int, headers_length: int) -> bool:
    """Whether the rest of the frame is still to come. Only believed if the checksum of its lengths is right."""
    lengths_are_right = crc32(data[at : at + 8]) == _checksum_at(data, at + 8)[0]
    return lengths_are_right and total >= headers_length + FRAME_OVERHEAD_BYTES and at + total > len(data)


@lru_cache(maxsize=64)
def _kind_of_frame(headers_bytes: bytes) -> _FrameKind:
    """What the headers say; the frames of an answer nearly all have the same."""
    headers = _string_headers(headers_bytes)
    exception = None
    if headers.get(":message-type") != "event":
        exception = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
    read = _READS.get(headers.get(":event-type"), _json_event)
    return _FrameKind(exception, headers.get(":error-message", ""), read)


def _string_headers(data: bytes) -> dict[str, str]:
    """Headers of a frame: name length (1 byte), name, type 7 (the only one in use), value length (2), value."""
    headers, at = {}, 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name = data[at + 1 : name_end].decode()
            if data[name_end] != 7:
                raise BadResponse(f"event-stream header {name!r} has type {data[name_end]}, expected 7 (string)")
            (length,) = struct.unpack_from("!H", data, name_end + 1)
            at = name_end + 3 + length
            headers[name] = data[name_end + 3 : at].decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise BadResponse("an event-stream frame has unreadable headers") from None
    return headers


def _encoded_event(payload: bytes) -> bytes:
    """The event of a `chunk`, as a line."""
    try:
        event = _decode_bedrock(payload)
    except msgspec.DecodeError as error:
        raise BadResponse(f"a Bedrock frame without base64 bytes: {error}", payload) from None
    return ((event.chunk.content if event.chunk else event.content) or b"") + b"\n"


def _json_event(payload: bytes) -> bytes:
    """JSON as a line; a line end in JSON is only a space."""
    return payload.replace(b"\n", b" ") + b"\n"


_READS = {None: None, "PayloadPart": None, "chunk": _encoded_event}
"""Event type -> how its payload is read; frames of all other types hold JSON."""
