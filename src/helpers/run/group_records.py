"""Groups: requests that were measured together, with only sums and means, as other tools report them.

A group may be a volley (requests sent at the same moment, the next volley when the slowest has ended), a whole load point
of which a tool printed percentiles, or a single request without times. What a group does not hold is None.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.errors import AnalysisError
from helpers.run.folder import RunFolder
from helpers.run.records import Attempt
from helpers.run.whole_files import write_parquet

SCHEMA_VERSION = 1
METADATA_KEY = b"serving_verdict"
FOLDER = "groups"
SCHEMA = pa.schema(
    [
        ("option", pa.string()),
        ("dataset", pa.string()),
        ("load_point", pa.string()),
        ("load_kind", pa.string()),
        ("level", pa.float64()),
        ("repetition", pa.int32()),
        ("group", pa.int32()),
        ("sent_together", pa.bool_()),
        ("requests", pa.int32()),
        ("failures", pa.int32()),
        ("failures_known", pa.bool_()),
        ("wall_s", pa.float64()),
        ("latency_mean_s", pa.float64()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("echoed", pa.bool_()),
        ("latency_s", pa.list_(pa.float64())),
        ("ttft_s", pa.list_(pa.float64())),
        ("tpot_s", pa.list_(pa.float64())),
        ("reported", pa.map_(pa.string(), pa.float64())),
        ("reported_requests_per_s", pa.float64()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True)
class Group:
    """Requests that were measured together. Times in seconds, tokens as sums over the successes; unknown is None."""

    requests: int
    """Successes and failures."""
    failures: int
    wall_s: float | None
    """From the first send to the end of the last; of a volley at least the latency of the slowest."""
    latency_mean_s: float | None
    """Over the successes."""
    prompt_tokens: int | None
    output_tokens: int | None
    source: str
    """File and line."""
    sent_together: bool = False
    """A volley: all were sent at the same moment."""
    echoed: bool | None = None
    """Did the output tokens count the prompt? It has been subtracted then. None: not looked for."""
    latency_s: list[float] | None = None
    """Of each success, in order of sending where several are known; so ttft_s and tpot_s."""
    ttft_s: list[float] | None = None
    tpot_s: list[float] | None = None
    reported: dict[str, float] = field(default_factory=dict)
    """What the tool printed over the successes: `<column>_p<percent>`, `_min` and `_max`, for example latency_s_p95; and
    prompt_tokens_per_s, output_tokens_per_s where it printed rates without the sums behind them."""
    reported_requests_per_s: float | None = None
    failures_known: bool = True
    """False where the tool left failures out: `requests` are the successes then, and `failures` is 0."""


def without_echo(group: Group, most_output_tokens: int | None) -> Group:
    """The group with an echoed prompt subtracted from its output tokens.

    More output tokens per request than were asked for, and at least as many as the prompt has, cannot be an answer alone.
    """
    if most_output_tokens is None or group.output_tokens is None or group.prompt_tokens is None:
        return group
    beyond = group.output_tokens > most_output_tokens * (group.requests - group.failures)
    echoed = beyond and group.output_tokens >= group.prompt_tokens > 0
    output = group.output_tokens - group.prompt_tokens if echoed else group.output_tokens
    return Group(**{**vars(group), "output_tokens": output, "echoed": echoed})


# --- files --------------------------------------------------------------------------------------------------------


def write_groups(run: RunFolder, attempt: Attempt, groups: list[Group]) -> Path:
    """Write the groups of one attempt, whole or not at all."""
    constant = {
        "option": attempt.option,
        "dataset": attempt.dataset,
        "load_point": attempt.id,
        "load_kind": attempt.level.kind,
        "level": float(attempt.level.value),
        "repetition": attempt.repetition,
    }
    rows = [constant | {"group": i} | asdict(group) for i, group in enumerate(groups)]
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps({"schema_version": SCHEMA_VERSION}).encode()})
    path = run.folder(FOLDER) / f"{attempt.id}.parquet"
    write_parquet(path, pa.Table.from_pylist(rows, schema=schema))
    return path


def read_groups(run: RunFolder) -> pd.DataFrame:
    """The groups of all load points, one row each; no rows where nothing was measured in groups.

    `reported` is a dict, the latencies of single requests are arrays or None.
    """
    files = sorted((run.path / FOLDER).glob("*.parquet"))
    tables = [SCHEMA.empty_table()]
    for path in files:
        version = json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")).get("schema_version")
        if version != SCHEMA_VERSION:
            raise AnalysisError(
                f"{path}: schema_version {version}, expected {SCHEMA_VERSION}. Next: import the results again"
            )
        tables.append(pq.read_table(path).replace_schema_metadata())
    groups = pa.concat_tables(tables, promote_options="default").to_pandas(maps_as_pydicts="strict")
    known = groups["failures_known"].astype("boolean").fillna(True)  # earlier versions knew all failures
    groups = groups.assign(failures_known=known.astype(bool), ttfa_s=None)  # no tool tells thinking from answers
    return groups.astype({"echoed": "boolean"})
