"""Where an answer ends (RFC 9112, section 6): at its last chunk, at its Content-Length, or where the connection closes.

Found while the bytes arrive. `http_body` reads the same heads and chunk sizes afterwards, with the same functions, so the
two cannot disagree. Bytes not framed as HTTP/1.1 end the answer at once: where it ends cannot be known.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from helpers.load.timeline import BadResponse

HEADERS_END = b"\r\n\r\n"
CHUNK_END = b"\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"
END_OF_EVENTS = b"[DONE]\n\n" + LAST_CHUNK
"""Events of JSON hold no line ends as bytes, so no chunk's content looks like this."""
EVENT_STREAM = "eventstream"
"""Content type of AWS's binary frames: inside those of JSON there are no line ends either, and where a checksum has one, no
frame ends on it."""
MOST_HEAD_BYTES = 1 << 16
MOST_SIZE_LINE_BYTES = 1 << 12
MOST_DIGITS = 18
"""Of a Content-Length: more is no length that could ever arrive."""
MOST_SIZE_BITS = 64
ZERO = ord("0")
_BEGIN = b"HTTP/1."
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: .*)?", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)
_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)


class Head(NamedTuple):
    """The head of an answer. Headers by lower-case name; the values of one that came twice are joined by a comma."""

    status: int
    headers: dict[str, str]
    chunked: bool
    length: int | None
    """Bytes of the body by Content-Length; None where it has chunks or ends with the connection."""
    closes: bool
    """No further answer comes over this connection."""
    fault: str | None
    """Why the end of the answer cannot be known."""

    @property
    def is_interim(self) -> bool:
        """The final head is still to come."""
        return self.status < 200 and self.status != _SWITCHING_PROTOCOLS


@lru_cache(maxsize=32)
def read_head(data: bytes) -> Head:
    """The head without its empty line. Raises BadResponse if it does not start like one.

    Cached, because most answers of a server start alike; callers must not modify it.
    """
    status_line, *lines = data.decode("latin-1").split("\r\n")
    begin = _STATUS_LINE.fullmatch(status_line)
    if begin is None:
        raise not_http(data)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    status, fault, length = int(begin[2]), None, None
    coding = headers.get("transfer-encoding", "identity").lower()
    chunked = coding == "chunked"
    if not chunked and coding != "identity":
        fault = "the answer has a Transfer-Encoding other than chunked, which was not asked for"
    elif status in _WITHOUT_BODY:
        chunked, length = False, 0
    elif (said := headers.get("content-length")) is not None:
        length = _length(said)
        if length is None:
            fault = "the Content-Length is not one whole number of bytes"
        elif chunked:
            fault = "the answer has a Content-Length and chunks: where it ends cannot be known"
    closes = begin[1] == "0" or "close" in headers.get("connection", "").lower()
    return Head(status, headers, chunked, length, closes, fault)


def not_http(data: bytes) -> BadResponse:
    """The error for bytes that do not start like an answer."""
    return BadResponse("not an HTTP status line", data.partition(b"\r\n")[0])


def begins_like_http(data: bytes) -> bool:
    """Whether bytes may be the beginning of an answer."""
    return data.startswith(_BEGIN) or _BEGIN.startswith(data)


def _length(said: str) -> int | None:
    """A Content-Length that came once, or again and again the same; else None."""
    values = {value.strip() for value in said.split(",")}
    [one, *others] = values
    return int(one) if not others and one.isascii() and one.isdigit() and len(one) <= MOST_DIGITS else None


def chunk_size(line: bytes) -> int | None:
    """The size in a chunk's first line, which may have extensions; None where it is none."""
    size = _CHUNK_SIZE.fullmatch(line)
    return None if size is None else int(size[1], 16)


class AnswerEnd:
    """Looks for the end of one answer; `feed` it every read."""

    __slots__ = (
        "_chunked",
        "_head_seen",
        "_is_over",
        "_kept",
        "_left",
        "_most",
        "_room",
        "_sure_end",
        "_trailers",
        "_unwalked",
        "closes",
        "fault",
        "until_close",
    )

    def __init__(self, most_bytes: int) -> None:
        self._most = self._room = most_bytes
        self._head_seen = self._chunked = self._trailers = self._is_over = False
        self._kept = b""
        """The received part of a head, of a chunk's first line or of the trailers."""
        self._unwalked = bytearray()
        """The part of the chunks received since they were last walked."""
        self._sure_end = END_OF_EVENTS
        self._left = 0
        """Bytes until the next chunk's first line, or until the end."""
        self.closes = False
        """The connection must not be used again."""
        self.until_close = False
        self.fault: str | None = None
        """Why the answer is given up."""

    def feed(self, data: bytes) -> bool:
        """Take the next read; true if the answer is over.

        Chunks are walked where they may have ended, and by `look`: most reads of a stream are only kept.
        """
        self._room -= len(data)
        if self._room < 0:
            return self.give_up(f"the answer is longer than load.max_answer_bytes ({self._most})")
        if not self._chunked:
            data = self._unchunked(data)
            if data is None:
                return self._is_over
        if data.endswith(self._sure_end) and data.find(self._sure_end) + len(self._sure_end) == len(data):
            return True  # `http_body` walks all chunks after the load
        self._unwalked += data
        may_be_over = self._unwalked.endswith(HEADERS_END) or (not data.endswith(CHUNK_END) and LAST_CHUNK in data)
        return may_be_over and self.look()

    def _unchunked(self, data: bytes) -> bytes | None:
        """Take a read of the head, or of a body without chunks; what there is of chunks behind the head, else None."""
        if not self._head_seen:
            data = self._after_head(data)
            if data is None:
                self._is_over = self.fault is not None
                return None
            if self._chunked:
                return data
        if not self.until_close:
            self._left -= len(data)
            if self._left < 0:
                self.closes = True  # bytes that were not asked for, with an unknown end
            self._is_over = self._left <= 0
        return None

    def look(self) -> bool:
        """Walk what came so far: true if the answer is over, also where it is none that HTTP knows."""
        if not self._unwalked:
            return False
        data, self._unwalked = bytes(self._unwalked), bytearray()
        return self._walk(data)

    @property
    def is_too_long(self) -> bool:
        """Given up for its length alone."""
        return self._room < 0

    def give_up(self, why: str) -> bool:
        """The answer is over, and none."""
        self.closes, self.fault = True, why
        return True

    def break_off(self, error: Exception) -> bool:
        """The answer is over because it could not be read: a bad answer must spoil only its own row."""
        return self.give_up(f"the answer could not be read: {type(error).__name__}")

    def _after_head(self, data: bytes) -> bytes | None:
        """What follows the final head; None while that is not whole, or if it is none."""
        data, start = self._kept + data, 0
        while (end := data.find(HEADERS_END, start)) >= 0:
            try:
                head = read_head(data[start:end])
            except BadResponse as error:
                self.give_up(error.why)
                return None
            start = end + len(HEADERS_END)
            if not head.is_interim:
                return data[start:] if self._begin_body(head) else None
        self._kept = data[start:]
        if not begins_like_http(self._kept):
            self.give_up("not an HTTP status line")
        elif len(self._kept) > MOST_HEAD_BYTES:
            self.give_up("the head has no end")
        return None

    def _begin_body(self, head: Head) -> bool:
        self._head_seen, self._kept = True, b""
        self.closes, self._chunked = head.closes, head.chunked
        self.until_close = not head.chunked and head.length is None
        self._left = head.length or 0
        if EVENT_STREAM in head.headers.get("content-type", ""):
            self._sure_end = LAST_CHUNK
        if head.fault is not None or self._left > self._most:
            self.give_up(head.fault or self._announced(self._left))
        return self.fault is None

    def _announced(self, size: int) -> str:
        return f"the answer announces {size} bytes, more than load.max_answer_bytes ({self._most})"

    def _walk(self, data: bytes) -> bool:
        """From one chunk's first line to the next."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        if self._trailers:
            return self._after_trailers(data)
        at, size = self._left, len(data)
        while at < size:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._kept, self._left = data[at:], 0
                return len(self._kept) > MOST_SIZE_LINE_BYTES and self.give_up("not a chunk size")
            line = data[at:line_end]
            if line.isalnum() and line[0] != ZERO:  # nearly all: neither sign nor extension, nor the last
                try:
                    length = int(line, 16)
                except ValueError:
                    return self.give_up("not a chunk size")
            else:
                length = chunk_size(line)
                if length is None:
                    return self.give_up("not a chunk size")
                if not length:
                    self._trailers = True
                    return self._after_trailers(data[line_end:])
            at = line_end + 4 + length
        self._left = at - size
        if self._left <= self._room:
            return False
        return self.give_up("not a chunk size" if self._left >> MOST_SIZE_BITS else self._announced(self._left))

    def _after_trailers(self, data: bytes) -> bool:
        """Trailers and an empty line; `data` starts with the end of the last chunk's first line."""
        end = data.find(HEADERS_END)
        if end < 0:
            self._kept = data
            return len(data) > MOST_HEAD_BYTES and self.give_up("the trailers have no end")
        if end + len(HEADERS_END) < len(data):
            self.closes = True
        return True
