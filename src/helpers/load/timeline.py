"""Bytes with the time at which each arrived.

Parsers work on the joined bytes and ask afterwards when a byte came, so where the network cut the stream cannot change
what is parsed.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Timeline:
    """Joined bytes; `ends[i]` is the offset after the i-th piece, `stamps_ns[i]` when that piece arrived."""

    data: bytes
    ends: list[int]
    stamps_ns: list[int]

    @classmethod
    def of(cls, pieces: list[tuple[int, bytes]]) -> Timeline:
        """From (stamp, bytes) pieces in order of arrival."""
        pieces = [(stamp, data) for stamp, data in pieces if data]
        ends = list(accumulate(len(data) for _, data in pieces))
        return cls(b"".join(data for _, data in pieces), ends, [stamp for stamp, _ in pieces])

    def arrival_ns(self, end: int) -> int:
        """When the bytes before offset `end` were complete. `end` is at least 1."""
        return self.stamps_ns[bisect_left(self.ends, end)]

    def select(self, spans: list[tuple[int, int]]) -> Timeline:
        """The bytes of the given [start, end) spans, each byte with its own arrival."""
        pieces = []
        for start, end in spans:
            i = bisect_left(self.ends, start + 1)
            while start < end:
                stop = min(end, self.ends[i])
                pieces.append((self.stamps_ns[i], self.data[start:stop]))
                start, i = stop, i + 1
        return Timeline.of(pieces)
