"""Request records: one row per request, failures included. Every number of a report comes from them.

Times are `CLOCK_MONOTONIC` nanoseconds of the machine that ran notebook 03, which as a rule sent the requests; those of other
load machines are shifted to its clock (`NodeFacts`). `clock_pairs` in the file metadata hold
(monotonic, wall) pairs that anchor them. Unknown is null. The counts `_by_tokenizer` are those of a sample of the answers
whose tokens the server counted, to hold its counts against; elsewhere they are null. `first_token_ns` is the first token of any
kind, `first_answer_ns` the first behind the thinking of a reasoning model; `answered` is false where an answer ended while it
thought, and null of failures. `turn`, from 1, and `session_id` are those of conversations.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config.load_level import LoadLevel
from helpers.config.strict import slug
from helpers.errors import AnalysisError
from helpers.run.machine import MachineFacts
from helpers.run.whole_files import damage_in_words, write_parquet

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2
METADATA_KEY = b"serving_verdict"
IF_DAMAGED = "move it out of the folder, then make report RUN=<run folder> measures this load point again"

SCHEMA = pa.schema(
    [
        ("option", pa.string()),
        ("dataset", pa.string()),
        ("load_point", pa.string()),
        ("level", pa.float64()),
        ("repetition", pa.int32()),
        ("request_id", pa.string()),
        ("prompt_id", pa.string()),
        ("part", pa.string()),
        ("adapter", pa.string()),
        ("phase", pa.string()),
        ("scheduled_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("first_byte_ns", pa.int64()),
        ("first_token_ns", pa.int64()),
        ("first_answer_ns", pa.int64()),
        ("last_token_ns", pa.int64()),
        ("done_ns", pa.int64()),
        ("connect_ns", pa.int64()),
        ("tls_ns", pa.int64()),
        ("resent", pa.bool_()),
        ("chunk_ns", pa.list_(pa.int64())),
        ("chunk_tokens", pa.list_(pa.int32())),
        ("load_process", pa.int32()),
        ("clock_source", pa.string()),
        ("cached_tokens", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("asked_output_tokens", pa.int32()),
        ("reasoning_tokens", pa.int32()),
        ("reasoning_tokens_source", pa.string()),
        ("answered", pa.bool_()),
        ("prompt_tokens_source", pa.string()),
        ("output_tokens_source", pa.string()),
        ("prompt_tokens_by_tokenizer", pa.int32()),
        ("output_tokens_by_tokenizer", pa.int32()),
        ("status", pa.string()),
        ("http_status", pa.int32()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("finish_reason", pa.string()),
        ("echoed_prompt", pa.bool_()),
        ("session_id", pa.string()),
        ("turn", pa.int32()),
    ]
)
ASKED_OUTPUT = "asked_output_tokens"
"""The column of the output tokens that a request asked for; prompts of a trace have it too."""
PART = "part"
"""The column of the dataset that a request, or a prompt, of a mix comes from, or of the bin of a turn's context length; null of
requests that are of neither."""
ENOUGH_REQUESTS, WHOLE_SCHEDULE, PROMPTS_RAN_OUT = "enough requests", "end of the schedule", "prompts ran out"
"""Why a load point ended, where it ended as it was meant to."""
OVERLOAD = "overload: latency rises throughout"
"""Why a load point ended early: more came than was served. Not steady, but the server's doing."""
NOTHING_ANSWERED = "nothing was answered"
"""Why a load point ended without an answer: more requests would add nothing."""
LIST_COLUMNS = ("chunk_ns", "chunk_tokens")


@dataclass(frozen=True)
class Attempt:
    """One repetition of a load point (option x dataset x load)."""

    option: str
    dataset: str
    level: LoadLevel
    repetition: int
    is_control: bool = False
    """Measured once more at the end of the option's visit, to be compared, and kept apart from the repetitions."""

    @property
    def id(self) -> str:
        """Also the name of its file."""
        which = "control" if self.is_control else f"r{self.repetition}"
        return f"{slug(self.option)}__{slug(self.dataset)}__{self.level.slug}__{which}"

    @property
    def words(self) -> str:
        """In messages about its option."""
        return f"{self.dataset} at {self.level.label}{', once more' if self.is_control else ''}"


@dataclass(frozen=True)
class LoadProcessFacts:
    """What one load process observed of itself."""

    load_process: int
    pid: int
    requests: int
    cpu_s: float
    """CPU seconds while it sent."""
    cpu_share: float
    """CPU seconds per second of load."""
    parse_cpu_s: float
    """CPU seconds of post-processing."""
    loop_lag_ms: dict[str, float]
    """p50, p99 and max of how late the event loop served a timer."""
    peak_memory_mb: float
    node: str | None = None
    """The load machine, where there are several; None for the one that ran notebook 03."""


@dataclass(frozen=True)
class ClockOffset:
    """How far one machine's CLOCK_MONOTONIC is ahead of another's, by round trips between them."""

    offset_ns: int
    """By the shortest round trip: the other's reading less the middle of the trip (as NTP, RFC 5905, section 8)."""
    error_ns: int
    """Half of that trip: the offset is wrong by no more."""


@dataclass(frozen=True)
class NodeFacts:
    """One of several load machines, during one attempt."""

    ip: str
    node_id: str
    """Of Ray."""
    load_processes: list[int]
    clock_before: ClockOffset
    """Against the machine that ran notebook 03; it shifted the times of the records."""
    clock_after: ClockOffset
    round_trip_ms: float | None
    """To the endpoint: the shortest of a few TCP connects just before the attempt; None where none succeeded."""

    @property
    def words(self) -> str:
        """As messages name it."""
        return node_words(self.ip, self.node_id)

    @property
    def clock_moved_ns(self) -> int:
        """How far the offset moved beyond what both errors explain; 0 if they explain it."""
        moved = abs(self.clock_after.offset_ns - self.clock_before.offset_ns)
        return max(0, moved - self.clock_after.error_ns - self.clock_before.error_ns)


def node_words(ip: str, node_id: str) -> str:
    """A load machine, as messages name it."""
    return f"{ip} (Ray node {node_id})"


@dataclass(frozen=True)
class ArrivalFacts:
    """An open loop's arrivals as they were to be, or as they were sent. Definitions: `load.schedule.arrival_facts`."""

    requests: int
    rate: float
    """Per second."""
    gap_cv: float | None
    dispersion: float | None
    autocorrelation: float | None


@dataclass(frozen=True)
class AttemptFacts:
    """What is known about an attempt besides its requests. Times in ns, shares as fractions; unknown is None."""

    option: str
    dataset: str
    load_point: str
    load_kind: str
    level: float
    repetition: int
    window_open_ns: int | None
    window_close_ns: int | None
    ended_because: str
    steady: bool | None
    """Was a steady state found; None where none is looked for (ramps)."""
    steady_because: str
    """What speaks for or against it, with figures."""
    asked_output_tokens: int | None
    """None for imported results whose config does not give it, and where each request asks for its own, as a trace gives it."""
    fixed_output_length: bool | None
    processes: list[LoadProcessFacts]
    """Empty for imported results."""
    scheduled: ArrivalFacts | None
    """Of the whole schedule up to the end of the window; None for a closed loop."""
    achieved: ArrivalFacts | None
    """The same of the times at which requests were sent."""
    schedule_lag_ms: dict[str, float] | None
    """p50, p99 and max of sent - scheduled; None for a closed loop."""
    turnaround_ms: dict[str, float] | None
    """p50, p99 and max of the time from an answer's end to the worker's next send; None for an open loop."""
    connect_ms: dict[str, float] | None
    """n, p50, p99 and max of the TCP connects; None if none was made."""
    tls_ms: dict[str, float] | None
    """The same for TLS handshakes; None without TLS."""
    clock_source: str
    """`kernel`, `user`, or `mixed`: who stamped the socket reads."""
    client_limited: list[str]
    """Why the client, not the server, shaped this load point; empty if it did not. Such a point feeds no verdict."""
    clock_pairs: list[tuple[int, int]]
    machine: MachineFacts | None = None
    """What else the machine did; None for imported results, and where other machines sent the load."""
    nodes: list[NodeFacts] = field(default_factory=list)
    """The load machines, where the config has `load.cluster`."""
    voided: list[str] = field(default_factory=list)
    """Why this attempt was begun again: what made each earlier measurement of it void."""
    context_ends: int | None = None
    """Sessions that ended because their next turn would have exceeded the context; None where there are no sessions."""

    @property
    def window_s(self) -> float | None:
        """Length of the steady window; None if there was none."""
        if self.window_open_ns is None or self.window_close_ns is None:
            return None
        return (self.window_close_ns - self.window_open_ns) / 1e9

    @property
    def words(self) -> str:
        """Option, dataset and load, as messages name them; after the first measurement of a load point, which one it is."""
        which = f", measurement {self.repetition}" if self.repetition > 1 else ""
        return f"{self.option}, {self.dataset}, {self.load.label}{which}"

    @property
    def load(self) -> LoadLevel:
        """The level, with its kind."""
        return LoadLevel(self.load_kind, self.level)

    @property
    def loop_lag_ms(self) -> dict[str, float] | None:
        """p50, p99 and max of the load process that was latest; None if none reported it."""
        return max((process.loop_lag_ms for process in self.processes), key=lambda lag: lag["p99"], default=None)


def facts_metadata(facts: AttemptFacts) -> str:
    """The facts as text, for the file's metadata under `METADATA_KEY`."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(facts)})


def write_requests(path: Path, rows: list[dict], facts: AttemptFacts) -> None:
    """Write the records of one attempt, whole or not at all."""
    schema = SCHEMA.with_metadata({METADATA_KEY: facts_metadata(facts).encode()})
    write_parquet(path, pa.Table.from_pylist(rows, schema=schema))


def read_facts(requests_dir: Path) -> list[AttemptFacts]:
    """The facts of every finished attempt, from the file metadata."""
    found: dict[str, AttemptFacts] = {}
    for path in sorted(requests_dir.glob("*.parquet")):
        facts = read_attempt_facts(path)
        if facts.load_point in found:
            raise AnalysisError(
                f"{path}: holds {facts.load_point}, as another file of this folder does. Expected each load point once: its "
                "requests would count twice. Next: move one of the two out of the folder"
            )
        found[facts.load_point] = facts
    return list(found.values())


def read_requests(
    requests_dir: Path, columns: list[str] | None = None, attempts: list[str] | None = None
) -> pd.DataFrame:
    """The records of all finished attempts, or of those named; without the per-chunk lists unless asked for.

    Null is NA.
    """
    files = sorted(requests_dir.glob("*.parquet"))
    files = [file for file in files if attempts is None or file.stem in attempts]
    if not files:
        raise AnalysisError(
            f"{requests_dir}: holds no request records. Next: run notebooks/03_run_inference on this run"
        )
    columns = columns or [name for name in SCHEMA.names if name not in LIST_COLUMNS]
    tables = [_read_columns(path, columns) for path in files]
    return pa.concat_tables(tables).to_pandas(types_mapper=nullable)


def _read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Columns of one file; those that its release did not know are null."""
    with damage_in_words(path, IF_DAMAGED):
        known = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in columns if name in known]).replace_schema_metadata()
    for place, name in enumerate(columns):
        if name not in known:
            kind = SCHEMA.field(name)
            table = table.add_column(place, kind, pa.nulls(len(table), kind.type))
    return table


def tokens_of(path: Path) -> tuple[int, int, int]:
    """Prompt and output tokens of a load point, warm-up and drain among them, as far as they are known; and, of the prompt
    tokens, those from a prompt cache.
    """
    table = _read_columns(path, ["prompt_tokens", "output_tokens", "cached_tokens"])
    return tuple(sum(tokens or 0 for tokens in table[name].to_pylist()) for name in table.column_names)


def nullable(kind: pa.DataType) -> pd.api.extensions.ExtensionDtype | None:
    """The pandas type of a column of records: integers and flags keep their nulls instead of becoming floats."""
    import pandas as pd  # not by load processes, which only write

    return {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}.get(kind)


def read_attempt_facts(path: Path) -> AttemptFacts:
    """The facts of one attempt, from its file's metadata."""
    with damage_in_words(path, IF_DAMAGED):
        return _attempt_facts(path)


def _attempt_facts(path: Path) -> AttemptFacts:
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
    content["processes"] = [LoadProcessFacts(**process) for process in content["processes"]]
    for name in ("scheduled", "achieved"):
        content[name] = content[name] and ArrivalFacts(**content[name])
    content["nodes"] = [_node_facts(node) for node in content.get("nodes", [])]
    content["machine"] = MachineFacts(**content["machine"]) if content.get("machine") else None
    return AttemptFacts(**content)


def _node_facts(content: dict) -> NodeFacts:
    clocks = {name: ClockOffset(**content[name]) for name in ("clock_before", "clock_after")}
    return NodeFacts(**{**content, **clocks})
