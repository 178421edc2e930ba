"""What servers say of themselves while they are loaded: `server/<load point>.parquet`, beside the requests.

Times are on the clock of the request records. A value is that of the moment, or of a counter since the server started; one with
a period is of the period that begins at its time. Absent is absent: a server that does not report a quantity has no row of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.errors import AnalysisError
from helpers.run.folder import RunFolder
from helpers.run.whole_files import write_parquet

SCHEMA_VERSION = 1
METADATA_KEY = b"serving_verdict"
FOLDER = "server"
PROMETHEUS, CLOUDWATCH = "prometheus", "cloudwatch"
SCHEMA = pa.schema(
    [
        ("time_ns", pa.int64()),
        ("name", pa.string()),
        ("value", pa.float64()),
        ("period_s", pa.float64()),
        ("source", pa.string()),
    ]
)


class Sample(NamedTuple):
    """One value."""

    time_ns: int
    name: str
    value: float
    period_s: float | None
    """None: of the moment."""
    source: str


def write_samples(path: Path, samples: Sequence[Sample], trouble: str | None) -> None:
    """Write the samples of one attempt, whole or not at all; `trouble`: why there are not more, in words."""
    about = {"schema_version": SCHEMA_VERSION, "trouble": trouble}
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(about).encode()})
    write_parquet(path, pa.Table.from_pylist([each._asdict() for each in samples], schema=schema))


def add_samples(run: RunFolder, load_point: str, source: str, samples: Sequence[Sample], trouble: str | None) -> None:
    """Write the samples of one source in place of its earlier ones, beside those of others."""
    path, others, earlier = run.folder(FOLDER) / f"{load_point}.parquet", [], None
    if path.is_file():
        _, earlier = read_samples(run, load_point)
        others = [Sample(**row) for row in pq.read_table(path).to_pylist() if row["source"] != source]
    write_samples(path, [*others, *samples], trouble or earlier)


def read_samples(run: RunFolder, load_point: str) -> tuple[pd.DataFrame, str | None] | None:
    """The samples of one attempt in the order of time, and why there are not more; None where nothing was asked of its server.

    Raises AnalysisError for a file of another schema.
    """
    path = run.path / FOLDER / f"{load_point}.parquet"
    if not path.is_file():
        return None
    about = json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}"))
    if about.get("schema_version") != SCHEMA_VERSION:
        raise AnalysisError(
            f"{path}: schema_version {about.get('schema_version')}, expected {SCHEMA_VERSION}. Next: move it away, and run "
            "notebooks 04 and 05 again; the requests are not affected"
        )
    rows = pq.read_table(path).replace_schema_metadata().to_pandas()
    return rows.sort_values("time_ns", kind="stable", ignore_index=True), about["trouble"]
