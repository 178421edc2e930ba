"""Answers that are complete by their API's own end, although HTTP's end never comes: the body never ends, or breaks off after it.

Not checked while bytes keep arriving: only once an answer has been silent for a moment, or its connection is lost. Once a
server is known to leave answers open, this end is accepted at once (`ApiEnd`).
"""

from __future__ import annotations

import re

from helpers.load.answer_end import AnswerEnd
from helpers.load.apis import API_READERS
from helpers.load.events import read_events
from helpers.load.http_body import split_http
from helpers.load.timeline import BadResponse, Timeline

SILENCE_NS = 100_000_000
"""HTTP's end follows the API's almost at once if it comes at all."""
TAIL_BYTES = 4096
MOST_READS_OF_HEAD = 500
_SAYS_ITS_END = re.compile(rb'\[DONE\]|"details"\s*:\s*\{')
_BETWEEN_CHUNKS = re.compile(rb"\r\n[0-9A-Fa-f]+(?:;[^\r\n]*)?\r\n")
_JSON = re.compile(rb"\r\ncontent-type:[^\r]*\bjson\b", re.IGNORECASE)


def ends_by_api(pieces: list[bytes], api: str) -> bool:
    """Do the bytes received end the way this API ends an answer: with its last event, or with one complete JSON value?"""
    if not pieces or not _may_be_over(pieces):
        return False
    decoder, read, _ = API_READERS[api]
    try:
        http = split_http(Timeline.of([(0, piece) for piece in pieces]))
        events = read_events(http.body.data, decoder, complete=True)
        if http.status != 200 or http.fault is not None or events.fault is not None:
            return False
        is_openai = api.startswith("openai")
        return events.done or (not events.streamed if is_openai else read(events.events).ended)
    except BadResponse:
        return False


def _may_be_over(pieces: list[bytes]) -> bool:
    """A cheap look at the tail and the head: is it worth parsing the whole answer?"""
    tail: list[bytes] = []
    size = 0
    for piece in reversed(pieces):
        tail.append(piece[-TAIL_BYTES:])
        size += len(tail[-1])
        if size >= TAIL_BYTES:
            break
    end = _BETWEEN_CHUNKS.sub(b"", b"".join(reversed(tail)))
    return bool(_SAYS_ITS_END.search(end) or _JSON.search(b"".join(pieces[:MOST_READS_OF_HEAD])[:TAIL_BYTES]))


class ApiEnd(AnswerEnd):
    """The end of an answer from a server that leaves answers open: HTTP's end or the API's, whichever comes first."""

    __slots__ = ("_api", "_pieces")

    def __init__(self, most_bytes: int, api: str) -> None:
        super().__init__(most_bytes)
        self._api = api
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> bool:
        """Take the next read; true if the answer is over."""
        if super().feed(data):
            return True
        self._pieces.append(data)
        is_over = ends_by_api(self._pieces, self._api)
        self.closes = self.closes or is_over
        return is_over
