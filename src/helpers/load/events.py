"""The events of an answer's body: server-sent events, JSON lines, or one JSON value that is the whole answer.

Sources: the HTML standard, "Server-sent events"; https://jsonlines.org. More is understood than they allow, because
servers are careless: `data:` lines without an empty line between them, JSON lines among server-sent events, fields of other
types than documented (`lenient`), errors of which only the event's name or the line's beginning says that they are some.
"""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from helpers.load.lenient import NotReadable, read_leniently
from helpers.load.timeline import BadResponse

DONE = b"[DONE]"
"""The last event of an OpenAI stream, and no JSON."""
ERROR = b"error"
"""Name of an event that is an error; some servers write it in the place of `data`."""
SSE_FIELDS = (b"", b"event", b"id", b"retry")
"""In addition to `data`; the first is a comment's."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_SHAPE = "an event of the answer has another shape than its API says"
NOT_DECODABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Events(NamedTuple):
    """Decoded events, and for each the offset behind the line that completed it."""

    events: list[Any]
    ends: list[int]
    streamed: bool
    """False for one JSON value: it shows nothing about when the first token arrived."""
    done: bool = False
    """`[DONE]` came."""
    fault: BadResponse | None = None
    """Why the next event cannot be read."""
    error_frame: bytes | None = None
    """What the server said in an event named `error`. It is the last; if it can be decoded, it is among the events too."""


def read_events(data: bytes, decoder: msgspec.json.Decoder, complete: bool) -> Events:
    """The events of a body. Where the answer is not complete, a last line without its end is left out."""
    if data.startswith(BYTE_ORDER_MARK):
        data = data.replace(BYTE_ORDER_MARK, b"   ", 1)
    if not complete:
        data = data[: data.rfind(b"\n") + 1]
    found = _regular_sse(data) if data.startswith(b"data:") else _json_lines(data)
    if found is not None:
        payloads, ends, streamed = found
        done = payloads[-1].strip() == DONE
        if done:
            del payloads[-1], ends[-1]
        try:
            return Events(list(map(decoder.decode, payloads)), ends, streamed, done)
        except NOT_DECODABLE:
            pass  # not so regular
    return _Walk(decoder).read(data, complete)


def _regular_sse(data: bytes) -> tuple[list[bytes], list[int], bool] | None:
    """Payloads where every event is one `data:` line and an empty line; else None."""
    newline = b"\r\n" if data.endswith(b"\r\n") else b"\n"
    between = newline + newline
    if not data.endswith(between):
        return None
    payloads = data[5 : -len(between)].split(between + b"data:")
    if data.count(b"\n") != 2 * len(payloads):
        return None
    around = 5 + len(between)
    ends = list(accumulate([len(payload) + around for payload in payloads], initial=-len(newline)))
    return payloads, ends[1:], True


def _json_lines(data: bytes) -> tuple[list[bytes], list[int], bool] | None:
    """Lines where each may be a JSON value; else None."""
    if not data.startswith((b"{", b"[")):
        return None
    lines = data.split(b"\n")
    ends = list(accumulate([len(line) + 1 for line in lines]))
    if not lines[-1]:
        del lines[-1], ends[-1]
    else:
        ends[-1] -= 1
    return lines, ends, len(lines) > 1


class _Walk:
    """Line by line, for all that is not regular."""

    def __init__(self, decoder: msgspec.json.Decoder) -> None:
        self._decoder = decoder
        self._events: list[Any] = []
        self._ends: list[int] = []
        self._done = False
        self._error_frame: bytes | None = None

    def read(self, data: bytes, complete: bool) -> Events:
        """All events of a body."""
        if data.lstrip()[:1] in (b"{", b"["):
            try:
                return Events([self._decode(data)], [len(data)], streamed=False)
            except BadResponse:
                pass  # more than one value
        groups, last_is_open, is_sse = _grouped_lines(data)
        fault = None
        for i, group in enumerate(groups):
            try:
                self._read_group(group)
            except BadResponse as error:
                half_an_event = last_is_open and i == len(groups) - 1 and (self._events or not complete)
                fault = None if half_an_event else error
            if fault is not None or self._error_frame is not None:
                break
        if complete and data.strip() and not (groups or is_sse):
            fault = BadResponse("no event in the answer", data.strip())
        return Events(self._events, self._ends, True, self._done, fault, self._error_frame)

    def _read_group(self, group: list[Line]) -> None:
        """The lines of one event; or, from servers that leave out the empty lines, one event a line."""
        try:
            is_error = any(line.is_error for line in group)
            self._read_event(b"\n".join([line.content for line in group]), group[-1].end, is_error)
        except BadResponse:
            if len(group) == 1:
                raise
            for line in group:
                self._read_event(*line)
                if self._error_frame is not None:
                    break

    def _read_event(self, payload: bytes, end: int, is_error: bool) -> None:
        payload = payload.strip()
        if payload == DONE:
            self._done = True
        elif is_error:
            self._read_error(payload, end)
        elif payload:
            self._events.append(self._decode(payload))
            self._ends.append(end)

    def _read_error(self, payload: bytes, end: int) -> None:
        """Its words may be no JSON, and need no field that the API knows."""
        self._error_frame = payload
        with suppress(BadResponse):
            self._events.append(self._decode(payload))
            self._ends.append(end)

    def _decode(self, payload: bytes) -> Any:
        """One event. Also where it is JSON as Python writes it (NaN), or has fields of other types. Raises BadResponse."""
        try:
            return self._decoder.decode(payload)
        except NOT_DECODABLE as error:
            strict = error
        try:
            is_json = isinstance(strict, msgspec.ValidationError)
            value = msgspec.json.decode(payload) if is_json else json.loads(payload)
            try:
                event = msgspec.convert(value, self._decoder.type)
            except msgspec.ValidationError as error:
                strict = error
                event = read_leniently(value, self._decoder.type)
            msgspec.json.encode(event)
            return event
        except UnicodeEncodeError:
            raise BadResponse("half a character (a lone surrogate) in the answer", payload) from None
        except (*NOT_DECODABLE, NotReadable):
            why = f"{OTHER_SHAPE}: {strict}" if isinstance(strict, msgspec.ValidationError) else "not JSON"
            raise BadResponse(why, payload) from None


class Line(NamedTuple):
    """A line with content."""

    content: bytes
    end: int
    """Offset behind the end of the line."""
    is_error: bool = False


def _grouped_lines(data: bytes) -> tuple[list[list[Line]], bool, bool]:
    """The lines with content, those of one event together; whether the last event lacks its end; whether it is SSE."""
    groups: list[list[Line]] = [[]]
    is_open = is_sse = named_error = False
    end = 0
    for line in data.splitlines(keepends=True):
        end += len(line)
        content = line.strip()
        field, colon, value = content.partition(b":")
        if colon and field in (b"data", ERROR):
            groups[-1].append(Line(value, end, named_error or field == ERROR))
            is_open = is_sse = True
        elif content[:1] in (b"{", b"["):
            groups += [[Line(content, end)], []]
            is_open = not line.endswith(b"\n")
        elif not content:
            if named_error and groups[-1]:  # the name may follow the data
                groups[-1][-1] = groups[-1][-1]._replace(is_error=True)
            groups.append([])
            is_open = named_error = False
        elif field in SSE_FIELDS:
            is_sse = True
            named_error = value.strip().lower() == ERROR if field == b"event" else named_error
    return [group for group in groups if group], is_open, is_sse
