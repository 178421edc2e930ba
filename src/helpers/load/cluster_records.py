"""Times of a load machine on the clock of the machine that puts them together: plain addition, so that no interval changes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from helpers.load.postprocessing import BATCH_ROWS
from helpers.load.spool import INDEX
from helpers.run.records import SCHEMA

RECORD_TIMES = (
    "scheduled_ns",
    "sent_ns",
    "first_byte_ns",
    "first_token_ns",
    "first_answer_ns",
    "last_token_ns",
    "done_ns",
)
"""Columns of the request records that are times; what connecting took is none."""
INDEX_TIMES = ("scheduled_ns", "sent_ns", "first_ns", "done_ns", "idle_since_ns")
"""Columns of an index that are times, or 0 where it did not happen."""


def shifted_rows(rows: bytes, shift_ns: int) -> bytes:
    """Rows of an index, later by `shift_ns`."""
    index = np.frombuffer(rows, INDEX).copy()
    for name in INDEX_TIMES:
        index[name] = np.where(index[name] == 0, 0, index[name] + shift_ns)
    return index.tobytes()


def write_shifted(records: bytes, shift_ns: int, part_file: str) -> None:
    """Write records, a Parquet file, as a part file (Arrow IPC), later by `shift_ns`."""
    with pa.OSFile(part_file, "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for batch in pq.ParquetFile(pa.BufferReader(records)).iter_batches(BATCH_ROWS):
            columns = {name: _shifted(name, batch[name], shift_ns) for name in SCHEMA.names}
            stream.write_batch(pa.RecordBatch.from_pydict(columns, SCHEMA))


def _shifted(name: str, column: pa.Array, shift_ns: int) -> pa.Array:
    if name in RECORD_TIMES:
        return pc.add(column, shift_ns)
    if name == "chunk_ns":
        moved = pc.add(column.flatten(), shift_ns)
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        ends = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))])
        mask = column.is_null() if column.null_count else None
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), moved, mask=mask)
    return column
