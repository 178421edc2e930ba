"""Bytes with the time at which each arrived.

Parsers work on the joined bytes and ask afterwards when a byte came, so where the network cut the stream cannot change
what is parsed. A layer that is peeled off (HTTP chunks, event-stream frames) keeps the reads and their stamps, and only
counts anew how many of its own bytes each read completed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple


class Timeline(NamedTuple):
    """Joined bytes; `ends[i]` of them were there after the i-th read (never fewer than before), at `stamps_ns[i]`."""

    data: bytes
    ends: list[int]
    stamps_ns: list[int]

    @classmethod
    def of(cls, reads: list[tuple[int, bytes]]) -> Timeline:
        """From (stamp, bytes) of the reads in order of arrival."""
        pieces = [data for _, data in reads]
        return cls(b"".join(pieces), list(accumulate(map(len, pieces))), [stamp for stamp, _ in reads])

    def arrivals_ns(self, ends: list[int]) -> list[int]:
        """For each offset (1 or more): when all bytes before it were there."""
        stamps_ns = self.stamps_ns
        if len(stamps_ns) == 1:
            return stamps_ns * len(ends)
        reads_ends = self.ends
        return [stamps_ns[bisect_left(reads_ends, end)] for end in ends]


SHOWN_CHARACTERS = 80
SEARCHED_BYTES = 20_000
"""Of the words of a server: what follows is not kept."""


class BadResponse(Exception):
    """Bytes that are not what the protocol says; becomes status `bad_response`. `shown`: those bytes, whole."""

    def __init__(self, why: str, shown: bytes | None = None) -> None:
        super().__init__(why)
        self.why, self.shown = why, shown

    def words(self, hide: Callable[[str], str]) -> str:
        """The reason, with the first of the bytes. Secrets are hidden before the rest is cut off, so no part of one remains."""
        if self.shown is None:
            return self.why
        text = hide(self.shown[:SEARCHED_BYTES].decode("utf-8", "replace"))
        return f"{self.why}: {text[:SHOWN_CHARACTERS]!r}"
