"""What a reader finds in a result file of any format: load points of requests with times, or of groups."""

from __future__ import annotations

from dataclasses import dataclass, field

from helpers.config.load_level import LoadLevel
from helpers.run.group_records import Group

CUT_OFF = "cut_off"
"""Error type of a request that the tool cut off at the end of its measurement."""

FAILURES = "how many requests failed (so there is no error rate, and percentiles are only over answers)"
"""What is unknown about a group whose `failures_known` is false."""


@dataclass(frozen=True)
class TimedRequest:
    """One request with times, in ns of one clock per load point. Unknown values are None."""

    sent_ns: int
    done_ns: int | None
    """None for a request that the tool cut off at the end of its measurement."""
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    chunk_ns: list[int] | None = None
    request_id: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_source: str | None = None
    output_tokens_source: str | None = None
    error_type: str | None = None
    """None for a success."""
    error: str | None = None
    http_status: int | None = None
    measured: bool = True
    """False for requests that the tool sent as a warm-up, or after its measurement."""


@dataclass(frozen=True)
class TwoCounts:
    """Output tokens of the same answers, counted by the tool's tokenizer and by the server."""

    tool: int
    server: int


@dataclass(frozen=True)
class FoundPoint:
    """One load point of a file. It has either requests or groups."""

    where: str
    """The file and, if it has several load points, the place in it."""
    dataset: str | None
    """The file's name for it; None if it has none."""
    level: LoadLevel | None
    requests: list[TimedRequest] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    """What the file lacks, as phrases for the report."""
    wall_clock: bool = False
    """True if times are wall-clock times."""
    model: str | None = None
    """The served model's id, if the file has one per load point."""
    counts: TwoCounts | None = None
    """Output tokens by both counts, if the file has both."""


@dataclass(frozen=True)
class Served:
    """What a file says about what was measured, and by which tool."""

    tool: str
    model: str | None = None
    """The model's id; None if the file has none. A deployment's name is not a model id."""
    image: str | None = None
    instance_type: str | None = None
    deployment: str | None = None
    """The deployment's name."""


@dataclass(frozen=True)
class Found:
    """Everything that a file has for one option."""

    points: list[FoundPoint]
    served: Served
    left_out: list[str] = field(default_factory=list)
    """Parts of the file that were not used, with the reason."""
