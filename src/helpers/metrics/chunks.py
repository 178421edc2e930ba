"""Inter-token latencies of a level, from the times at which the chunks of its answers arrived.

A level may hold a billion chunks, so its files are read block by block, twice: the first pass counts the gaps in fine
bins, the second keeps only those of the bins that hold the percentiles asked for. The result is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from helpers.metrics.formulas import inter_token_latencies_s

BIN_SHIFT = 44
"""Bits that are cut off a double: bins are then 0.4% wide, and there are 2^19 of them."""


def inter_token_percentiles(files: list[Path], percents: tuple[float, ...]) -> dict[float, float] | None:
    """Percent -> ITL in seconds over all gaps of the successes of the steady window, inclusive with linear interpolation.

    None where the servers did not say how many tokens a chunk holds, or no answer has two chunks.
    """
    counts = np.zeros(1 << 63 - BIN_SHIFT, dtype=np.int64)
    for gaps in _gaps(files):
        counts += np.bincount(_bins(gaps), minlength=len(counts))
    total = int(counts.sum())
    if not total:
        return None
    ends = np.cumsum(counts)
    positions = {percent: (total - 1) * percent / 100 for percent in percents}
    ranks = sorted({rank for at in positions.values() for rank in (math.floor(at), math.ceil(at))})
    wanted = sorted({int(np.searchsorted(ends, rank, side="right")) for rank in ranks})
    kept: dict[int, list[np.ndarray]] = {one: [] for one in wanted}
    for gaps in _gaps(files):
        bins = _bins(gaps)
        for one in wanted:
            kept[one].append(gaps[bins == one])
    ordered = {one: np.sort(np.concatenate(parts)) for one, parts in kept.items()}

    def value(rank: int) -> float:
        one = int(np.searchsorted(ends, rank, side="right"))
        return float(ordered[one][rank - (ends[one] - counts[one])])

    found = {}
    for percent, at in positions.items():
        low, high = value(math.floor(at)), value(math.ceil(at))
        found[percent] = low + (high - low) * (at - math.floor(at))
    return found


def _gaps(files: list[Path]) -> Iterator[np.ndarray]:
    """The gaps of the answers that count, block by block."""
    for path in files:
        with pq.ParquetFile(path) as file:
            for i in range(file.num_row_groups):
                if _all_null(file, i, "chunk_tokens"):
                    continue
                block = file.read_row_group(i, columns=["phase", "status", "chunk_ns", "chunk_tokens"])
                counts = pc.and_(pc.equal(block["phase"], "steady"), pc.equal(block["status"], "ok"))
                known = pc.and_(pc.is_valid(block["chunk_tokens"]), pc.is_valid(block["chunk_ns"]))
                mine = block.filter(pc.and_(counts, known))
                if len(mine):
                    times, tokens = (_in_one(mine[name]) for name in ("chunk_ns", "chunk_tokens"))
                    offsets = times.offsets.to_numpy()
                    flat = (column.flatten().to_numpy() for column in (times, tokens))
                    yield inter_token_latencies_s(next(flat), offsets - offsets[0], next(flat))


def _in_one(column: pa.ChunkedArray) -> pa.ListArray:
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.ListArray) else joined.chunk(0)


def _all_null(file: pq.ParquetFile, row_group: int, column: str) -> bool:
    """Does a block's own statistics say that a column holds nothing?"""
    group = file.metadata.row_group(row_group)
    for i in range(group.num_columns):
        one = group.column(i)
        if one.path_in_schema.split(".")[0] == column and one.statistics is not None:
            return one.statistics.null_count == one.num_values
    return False


def _bins(gaps: np.ndarray) -> np.ndarray:
    """The bits of a non-negative double order as it does."""
    return np.maximum(gaps, 0.0).view(np.int64) >> BIN_SHIFT
