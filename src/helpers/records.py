"""Request records: one row per request, failures included. Every number of a report comes from them.

Times are `CLOCK_MONOTONIC` nanoseconds of the machine that sent the request; `clock_pairs` in the file metadata hold
(monotonic, wall) pairs that anchor them. Unknown is null.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config import slug
from helpers.errors import AnalysisError

SCHEMA_VERSION = 1
METADATA_KEY = b"serving_verdict"

SCHEMA = pa.schema(
    [
        ("option", pa.string()),
        ("dataset", pa.string()),
        ("load_point", pa.string()),
        ("concurrency", pa.int32()),
        ("repetition", pa.int32()),
        ("request_id", pa.string()),
        ("prompt_id", pa.string()),
        ("phase", pa.string()),
        ("scheduled_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("first_byte_ns", pa.int64()),
        ("first_token_ns", pa.int64()),
        ("last_token_ns", pa.int64()),
        ("done_ns", pa.int64()),
        ("connect_ns", pa.int64()),
        ("chunk_ns", pa.list_(pa.int64())),
        ("chunk_tokens", pa.list_(pa.int32())),
        ("load_process", pa.int32()),
        ("clock_source", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("prompt_tokens_source", pa.string()),
        ("output_tokens_source", pa.string()),
        ("status", pa.string()),
        ("http_status", pa.int32()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("finish_reason", pa.string()),
        ("echoed_prompt", pa.bool_()),
    ]
)
LIST_COLUMNS = ("chunk_ns", "chunk_tokens")


@dataclass(frozen=True)
class LoadPoint:
    """Option x dataset x load, one repetition of it."""

    option: str
    dataset: str
    concurrency: int
    repetition: int

    @property
    def id(self) -> str:
        """Also the name of its file."""
        return f"{slug(self.option)}__{slug(self.dataset)}__c{self.concurrency}__r{self.repetition}"


@dataclass(frozen=True)
class LoadPointFacts:
    """What is known of a load point beside its requests. Times in ns, shares as fractions."""

    option: str
    dataset: str
    load_point: str
    concurrency: int
    repetition: int
    window_open_ns: int | None
    window_close_ns: int | None
    ended_because: str
    asked_output_tokens: int
    fixed_output_length: bool
    loop_lag_ms: dict[str, float]
    """p50, p99 and max lateness of the load process's event loop."""
    load_process_cpu_share: float
    clock_pairs: list[tuple[int, int]]

    @property
    def window_s(self) -> float | None:
        """Length of the steady window; null if there was none."""
        if self.window_open_ns is None or self.window_close_ns is None:
            return None
        return (self.window_close_ns - self.window_open_ns) / 1e9


def write_requests(path: Path, rows: list[dict], facts: LoadPointFacts) -> None:
    """Write the records of one load point, whole or not at all."""
    metadata = {"schema_version": SCHEMA_VERSION, **asdict(facts)}
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata).encode()})
    table = pa.Table.from_pylist(rows, schema=schema)
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def read_facts(requests_dir: Path) -> list[LoadPointFacts]:
    """The facts of every finished load point, from the file metadata."""
    return [_facts(path) for path in sorted(requests_dir.glob("*.parquet"))]


def read_requests(requests_dir: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """The records of all finished load points, without the per-chunk lists unless asked for. Null is NA."""
    files = sorted(requests_dir.glob("*.parquet"))
    if not files:
        raise AnalysisError(
            f"{requests_dir}: holds no request records. Next: run notebooks/03_run_inference on this run"
        )
    columns = columns or [name for name in SCHEMA.names if name not in LIST_COLUMNS]
    tables = [pq.read_table(path, columns=columns).replace_schema_metadata() for path in files]
    return pa.concat_tables(tables).to_pandas(types_mapper=_nullable)


def _nullable(kind: pa.DataType) -> pd.api.extensions.ExtensionDtype | None:
    """Integers and flags keep their nulls instead of becoming floats."""
    return {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}.get(kind)


def _facts(path: Path) -> LoadPointFacts:
    metadata = pq.read_schema(path).metadata or {}
    if METADATA_KEY not in metadata:
        raise AnalysisError(f"{path}: is not a request file of this project (no {METADATA_KEY.decode()} metadata)")
    content = json.loads(metadata[METADATA_KEY])
    version = content.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise AnalysisError(
            f"{path}: schema_version {version}, expected {SCHEMA_VERSION}. Next: analyse it with the "
            "release that measured it"
        )
    return LoadPointFacts(**content)
