"""What a load process keeps of an attempt: two files that grow while it runs, so that its memory does not.

    index.bin   one fixed-size row per request (`INDEX`), for progress, the steady window and post-processing;
    data.bin    what came back, as it came: one marshalled tuple per request, `length` bytes at the row's `offset`.

The files exist only while the attempt runs. Kernel stamps are wall-clock times; they are converted here, with
clock pairs taken during the attempt, so that a step of the wall clock moves no result.
"""

from __future__ import annotations

import marshal
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns, time_ns
from typing import NamedTuple

import numpy as np

from helpers.load.connection import Exchange, RawExchange

INDEX = np.dtype(
    [
        ("number", "<i8"),
        ("prompt", "<i8"),
        ("worker", "<i8"),
        ("scheduled_ns", "<i8"),
        ("sent_ns", "<i8"),
        ("first_ns", "<i8"),
        ("done_ns", "<i8"),
        ("idle_since_ns", "<i8"),
        ("connect_ns", "<i8"),
        ("tls_ns", "<i8"),
        ("resent", "<i8"),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("ok", "<i8"),
    ]
)
"""`first_ns`: a first look at the first byte of the body; `ok`: a first look at the outcome; `idle_since_ns`: when the
worker's last answer ended; `connect_ns`, `tls_ns`: of a connection made for this request; `resent`: it was sent again.
0: it did not happen."""

PACK_ROW = struct.Struct(f"<{len(INDEX)}q").pack
UNPACK_STAMP = struct.Struct("=qq").unpack
"""struct timespec: seconds and nanoseconds."""
BUFFER_BYTES = 1 << 18
BLOCK_ROWS = 1 << 16
CLOCK_TRIES = 3
CLOCK_READING_NS = 5_000
CLOCK_SLACK_NS = 50_000
"""A kernel stamp this much after the user-space stamp of the same read is taken as a step of the wall clock."""


class Row(NamedTuple):
    """One row of the index, as the sender writes it."""

    number: int
    prompt: int
    worker: int
    scheduled_ns: int
    idle_since_ns: int
    connect_ns: int
    tls_ns: int
    resent: int = 0
    """1: sent again, because the kept-alive connection was closed before the first byte; the times are of the second send."""


class SpoolWriter:
    """Appends requests as they end. Writing blocks when the disk is slower than the load."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._index = (folder / "index.bin").open("wb", BUFFER_BYTES)
        self._data = (folder / "data.bin").open("wb", BUFFER_BYTES)
        self._offset = 0

    def append(self, row: Row, exchange: RawExchange, first_ns: int, looks_ok: bool) -> None:
        """Keep one request, with a first look at its first byte of body and its outcome."""
        number, prompt, worker, scheduled_ns, idle_since_ns, connect_ns, tls_ns, resent = row
        data = marshal.dumps((exchange.complete, exchange.failure, exchange.detail, exchange.reads))
        self._data.write(data)
        self._index.write(
            PACK_ROW(
                number, prompt, worker, scheduled_ns, exchange.sent_ns, first_ns, exchange.done_ns,
                idle_since_ns, connect_ns, tls_ns, resent, self._offset, len(data), looks_ok,
            )
        )  # fmt: skip
        self._offset += len(data)

    def flush(self) -> None:
        """Let readers of the index see all rows so far."""
        self._index.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self._index.close()
        self._data.close()


class IndexReader:
    """Follows the index of a load process while it grows."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "index.bin"
        self._read_bytes = 0

    def new_rows(self) -> np.ndarray:
        """The rows since the last call, in order of their end."""
        if not self._path.exists():
            return np.empty(0, INDEX)
        size = self._path.stat().st_size
        whole = (size - self._read_bytes) // INDEX.itemsize
        rows = np.fromfile(self._path, INDEX, whole, offset=self._read_bytes)
        self._read_bytes += whole * INDEX.itemsize
        return rows


def index_blocks(folder: Path, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
    """Rows [first, last) of an index, in blocks, because there may be many. `last` None: all written so far."""
    path = folder / "index.bin"
    last = path.stat().st_size // INDEX.itemsize if last is None else last
    for start in range(first, last, BLOCK_ROWS):
        yield np.fromfile(path, INDEX, min(BLOCK_ROWS, last - start), offset=start * INDEX.itemsize)


class ClockPairs:
    """(monotonic, wall clock) pairs taken while an attempt runs, ns."""

    def __init__(self) -> None:
        self.monotonic_ns = array("q")
        self.offset_ns = array("q")

    def take(self) -> None:
        """Note how far the wall clock is ahead of the monotonic one now; not if something delayed the readings."""
        for _ in range(CLOCK_TRIES):
            before = monotonic_ns()
            wall = time_ns()
            after = monotonic_ns()
            if after - before < CLOCK_READING_NS:
                break
        else:
            if self.offset_ns:
                return
        self.monotonic_ns.append(after)
        self.offset_ns.append(wall - (before + after) // 2)

    def monotonic_of(self, stamp: bytes) -> int:
        """A kernel stamp on the monotonic clock, by the last pair."""
        seconds, ns = UNPACK_STAMP(stamp)
        return seconds * 1_000_000_000 + ns - self.offset_ns[-1]

    def pairs(self) -> list[tuple[int, int]]:
        """As (monotonic, offset of the wall clock), the first, and each whose offset moved by more than `CLOCK_SLACK_NS`."""
        kept: list[tuple[int, int]] = []
        for at, offset in zip(self.monotonic_ns, self.offset_ns, strict=True):
            if not kept or abs(offset - kept[-1][1]) > CLOCK_SLACK_NS:
                kept.append((at, offset))
        return kept


class ExchangeReader:
    """Reads requests back, with every stamp on the monotonic clock."""

    def __init__(self, folder: Path, clock_pairs: list[tuple[int, int]]) -> None:
        self._folder = folder
        self._from_ns = [at for at, _ in clock_pairs]
        self._offset_ns = [offset for _, offset in clock_pairs]

    def exchanges(self, first: int, last: int) -> Iterator[tuple[np.void, Exchange, bool]]:
        """(row, exchange, were its stamps the kernel's) of rows [first, last)."""
        with (self._folder / "data.bin").open("rb", BUFFER_BYTES) as data:
            for rows in index_blocks(self._folder, first, last):
                data.seek(rows["offset"][0])
                for row in rows:
                    complete, failure, detail, raw_reads = marshal.loads(data.read(row["length"]))
                    sent_ns, done_ns = int(row["sent_ns"]), int(row["done_ns"])
                    reads, by_kernel = self._on_one_clock(raw_reads, sent_ns)
                    if complete and reads:
                        done_ns = reads[-1][0]
                    yield row, Exchange(sent_ns, done_ns, reads, complete, failure, detail), by_kernel

    def _on_one_clock(self, raw_reads: list, sent_ns: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Reads with the kernel's stamps where they can be right: after the send, before the read returned, in order.

        Otherwise all with those of user space, so that one answer has one clock.
        """
        if not raw_reads:
            return [], False
        offset_ns = self._offset_ns[max(0, bisect_right(self._from_ns, raw_reads[0][0]) - 1)]
        user_ns, stamps, pieces = zip(*raw_reads, strict=True)
        if None not in stamps:
            # struct timespec: seconds and nanoseconds, two 64-bit integers
            parts = np.frombuffer(b"".join(stamps), "=i8").reshape(-1, 2)
            kernel_ns = parts[:, 0] * 1_000_000_000 + parts[:, 1] - offset_ns
            at_ns = np.minimum(kernel_ns, user_ns)
            if at_ns[0] >= sent_ns and (kernel_ns - user_ns).max() <= CLOCK_SLACK_NS and (np.diff(at_ns) >= 0).all():
                return list(zip(at_ns.tolist(), pieces, strict=True)), True
        return list(zip(user_ns, pieces, strict=True)), False
