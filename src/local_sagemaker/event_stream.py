"""Frames of `application/vnd.amazon.eventstream`, the body of a streaming SageMaker answer.

A frame is, big-endian: total length (4 bytes), headers length (4), CRC32 of these 8 bytes (4), headers, payload,
CRC32 of everything before it (4). Lengths are in bytes. Headers are always strings, the only type that SageMaker Runtime
sends: name length (1 byte), name, type 7, value length (2 bytes), value.
Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING_TYPE = 7
_FRAME_OVERHEAD_BYTES = 16


def payload_part(data: bytes) -> bytes:
    """One frame that carries `data`, a piece of the model server's answer."""
    return _frame(_PAYLOAD_PART_HEADERS, data)


def exception(kind: str, body: bytes) -> bytes:
    """One frame that ends a stream with an error: `kind` is ModelStreamError or InternalStreamFailure, `body` JSON."""
    return _frame(
        _encode_headers({":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}),
        body,
    )


def _encode_headers(headers: dict[str, str]) -> bytes:
    encoded = bytearray()
    for name, value in headers.items():
        name_bytes, value_bytes = name.encode(), value.encode()
        encoded += struct.pack("!B", len(name_bytes)) + name_bytes
        encoded += struct.pack("!BH", _STRING_TYPE, len(value_bytes)) + value_bytes
    return bytes(encoded)


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", _FRAME_OVERHEAD_BYTES + len(headers) + len(payload), len(headers))
    message = b"".join((prelude, struct.pack("!I", crc32(prelude)), headers, payload))
    return message + struct.pack("!I", crc32(message))


_PAYLOAD_PART_HEADERS = _encode_headers(
    {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
)
