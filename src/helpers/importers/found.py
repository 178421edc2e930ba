"""What a reader finds in a result file, whatever its format: load points of requests with times, or of groups."""

from __future__ import annotations

from dataclasses import dataclass, field

from helpers.config.load import LoadLevel
from helpers.run.group_records import Group

CUT_OFF = "cut_off"
"""Error type of a request that the tool ended itself, when its time was up."""

FAILURES = "how many requests failed (so there is no error rate, and percentiles are of the answers alone)"
"""What is not known of a group whose `failures_known` is false."""


@dataclass(frozen=True)
class TimedRequest:
    """One request whose times the file tells: ns of one clock per load point. Unknown is null."""

    sent_ns: int
    done_ns: int | None
    """Null for a request that the tool cut off when its time was up."""
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
    """Null for a success."""
    error: str | None = None
    http_status: int | None = None
    measured: bool = True
    """False for what the tool itself sent as a warm-up, or after its measurement."""


@dataclass(frozen=True)
class TwoCounts:
    """Output tokens of the same answers: as the tool's tokenizer counted them, and as the server did."""

    tool: int
    server: int


@dataclass(frozen=True)
class FoundPoint:
    """One load point of a file. It has either requests or groups."""

    where: str
    """The file, and the place in it where it holds several."""
    dataset: str | None
    """As the file names it; null where it names none."""
    level: LoadLevel | None
    requests: list[TimedRequest] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    """What the file does not tell of it, in words."""
    wall_clock: bool = False
    """Are its times those of the wall clock?"""
    model: str | None = None
    """The id of the model that was served, where the file names it for each load point."""
    counts: TwoCounts | None = None
    """Output tokens as two counted them, where the file holds both."""


@dataclass(frozen=True)
class Served:
    """What a file says of what it measured, and of the tool that did."""

    tool: str
    model: str | None = None
    """The model's id; null where the file names none. The name of a deployment is no model's id."""
    image: str | None = None
    instance_type: str | None = None
    deployment: str | None = None
    """What the deployment was called."""


@dataclass(frozen=True)
class Found:
    """All that a file holds of one option."""

    points: list[FoundPoint]
    served: Served
    left_out: list[str] = field(default_factory=list)
    """Parts of the file that no load point is made of, with the reason."""
