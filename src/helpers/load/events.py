"""The events of an answer's body: server-sent events, JSON lines, or one JSON value that is the whole answer.

Sources: the HTML standard, "Server-sent events"; https://jsonlines.org. More is understood than they allow, because
servers are careless: `data:` lines without an empty line between them, JSON lines among server-sent events.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from helpers.load.timeline import BadResponse

DONE = b"[DONE]"
"""The last event of an OpenAI stream, and no JSON."""
NOT_DECODABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Events(NamedTuple):
    """Decoded events, and for each the offset behind the line that completed it."""

    events: list[Any]
    ends: list[int]
    streamed: bool
    """False for one JSON value: it tells nothing about when the first token was there."""
    done: bool = False
    """`[DONE]` came."""
    fault: BadResponse | None = None
    """Why the next event cannot be read."""


def read_events(data: bytes, decoder: msgspec.json.Decoder, complete: bool) -> Events:
    """The events of a body. Where the answer is not complete, a last line without its end is left out."""
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
    """Payloads where every event is one `data:` line and an empty line; else null."""
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
    """Lines where each may be a JSON value; else null."""
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
                break
        if complete and data.strip() and not (groups or is_sse):
            fault = BadResponse("no event in the answer", data.strip())
        return Events(self._events, self._ends, True, self._done, fault)

    def _read_group(self, group: list[Line]) -> None:
        """The lines of one event; or, from servers that leave out the empty lines, one event a line."""
        try:
            self._read_event(b"\n".join([content for content, _ in group]), group[-1][1])
        except BadResponse:
            if len(group) == 1:
                raise
            for content, end in group:
                self._read_event(content, end)

    def _read_event(self, payload: bytes, end: int) -> None:
        payload = payload.strip()
        if payload == DONE:
            self._done = True
        elif payload:
            self._events.append(self._decode(payload))
            self._ends.append(end)

    def _decode(self, payload: bytes) -> Any:
        """One event. Also where it is JSON as Python writes it (NaN). Raises BadResponse."""
        try:
            try:
                return self._decoder.decode(payload)
            except msgspec.ValidationError:
                raise
            except NOT_DECODABLE:
                event = msgspec.convert(json.loads(payload), self._decoder.type)
                msgspec.json.encode(event)
                return event
        except msgspec.ValidationError as error:
            raise BadResponse(str(error), payload) from None
        except UnicodeEncodeError:
            raise BadResponse("half a character (a lone surrogate) in the answer", payload) from None
        except NOT_DECODABLE:
            raise BadResponse("not JSON", payload) from None


Line = tuple[bytes, int]
"""Content of a line, and the offset behind its end."""


def _grouped_lines(data: bytes) -> tuple[list[list[Line]], bool, bool]:
    """The lines with content, those of one event together; whether the last event lacks its end; whether it is SSE."""
    groups: list[list[Line]] = [[]]
    is_open = is_sse = False
    end = 0
    for line in data.splitlines(keepends=True):
        end += len(line)
        content = line.strip()
        if content.startswith(b"data:"):
            groups[-1].append((content[5:], end))
            is_open = is_sse = True
        elif content[:1] in (b"{", b"["):
            groups += [[(content, end)], []]
            is_open = not line.endswith(b"\n")
        elif not content:
            groups.append([])
            is_open = False
        else:
            is_sse = is_sse or content.startswith((b":", b"event:", b"id:", b"retry:"))
    return [group for group in groups if group], is_open, is_sse
