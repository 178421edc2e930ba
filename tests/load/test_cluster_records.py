"""Times of another machine, put on the clock of this one."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.load.cluster_records import INDEX_TIMES, RECORD_TIMES, shifted_rows, write_shifted
from helpers.load.spool import INDEX
from helpers.run.records import SCHEMA, ClockOffset, NodeFacts

HOURS_NS = 25 * 3600 * 10**9


def test_every_time_of_a_record_is_shifted_and_nothing_else(tmp_path):
    row = {name: 7 if pa.types.is_integer(SCHEMA.field(name).type) else None for name in SCHEMA.names}
    rows = [
        {**row, "option": "a", "chunk_ns": [1, 2, 5], "chunk_tokens": [4, 4, 4]},
        {**row, "option": "b", "chunk_ns": [], "first_token_ns": None, "scheduled_ns": None},
        {**row, "option": "c", "chunk_ns": None},
        {**row, "option": "d", "chunk_ns": [9]},
    ]
    before = pa.Table.from_pylist(rows, SCHEMA)
    there = io.BytesIO()
    pq.write_table(before, there)
    write_shifted(there.getvalue(), HOURS_NS, str(tmp_path / "part"))
    with pa.OSFile(str(tmp_path / "part")) as file:
        after = pa.ipc.open_stream(file).read_all()
    assert after.schema == SCHEMA
    known = {name for name in SCHEMA.names if name.endswith("_ns")}
    assert known - set(RECORD_TIMES) == {"chunk_ns", "connect_ns", "tls_ns"}, "a new column of times: is it shifted?"
    for name in SCHEMA.names:
        was, now = before[name].to_pylist(), after[name].to_pylist()
        if name in RECORD_TIMES:
            assert now == [None if value is None else value + HOURS_NS for value in was]
        elif name == "chunk_ns":
            assert now == [[1 + HOURS_NS, 2 + HOURS_NS, 5 + HOURS_NS], [], None, [9 + HOURS_NS]]
        else:
            assert now == was


def test_of_an_index_what_did_not_happen_stays_so():
    rows = np.zeros(2, INDEX)
    for name in INDEX.names:
        rows[name] = [0, 3 * HOURS_NS]
    found = np.frombuffer(shifted_rows(rows.tobytes(), -HOURS_NS), INDEX)
    for name in INDEX.names:
        assert found[name].tolist() == [0, (2 if name in INDEX_TIMES else 3) * HOURS_NS]
    assert {name for name in INDEX.names if name.endswith("_ns")} - set(INDEX_TIMES) == {"connect_ns", "tls_ns"}


def test_a_clock_has_moved_only_by_what_its_errors_do_not_explain():
    def moved_ns(after_ns: int) -> int:
        clocks = ClockOffset(HOURS_NS, 300_000), ClockOffset(HOURS_NS + after_ns, 200_000)
        return NodeFacts("10.0.0.1", "ab", [0], *clocks, None).clock_moved_ns

    assert [moved_ns(ns) for ns in (0, 500_000, -500_000, 500_001, -700_000)] == [0, 0, 0, 1, 200_000]
