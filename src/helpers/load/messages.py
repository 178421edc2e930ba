"""What crosses the pipes between the process that wants load and its load processes: one JSON line per message."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from helpers.config.load import Load
from helpers.config.load_level import LoadLevel
from helpers.config.workload import Bin, Conversations, Generation, ThinkingTags
from helpers.load.address import Address
from helpers.run.records import Attempt

LONGEST_DRAIN_TIMEOUTS = 3
SLACK_S = 60.0
OPENING_AT_ONCE = 64
"""Connections that a load process makes at the same time."""


class SessionSpec(BaseModel):
    """How the conversations of an attempt are sent."""

    model_config = ConfigDict(extra="forbid")
    conversations: Conversations
    context_tokens: int
    """Of prompt and output: a turn that would exceed it is not sent, and ends its session."""
    mean_turns: float
    """Of the dataset's conversations."""
    bins: list[Bin] | None = None
    """Of the context's length at a turn, to be named in the records."""


class AttemptSpec(BaseModel):
    """One attempt to run. Holds secrets (the bearer token): it is piped, never written to a file."""

    model_config = ConfigDict(extra="forbid")
    option: str
    dataset: str
    level: LoadLevel
    repetition: int
    is_control: bool = False
    seed: int
    start_of_prompts: float = 0.0
    """Share of the shuffled prompts at which this attempt starts, so that attempts have as few prompts in common as possible."""
    address: Address
    load: Load
    percentile: float = 95.0
    """The SLO's percentile, in percent: `load.target_relative_ci` is about its interval."""
    fewest_independent: int = 1
    """Independent requests (n divided by their design effect) that the SLO's percentile asks of a window."""
    generation: Generation
    extra_body: dict[str, JsonValue]
    omit_body_keys: list[str] = []
    thinking_tags: ThinkingTags = "auto"
    adapters: dict[str, float] | None = None
    tokenizer: str
    prompts_file: str
    prompt_tokens_column: str
    replays_lengths: bool = False
    """Are the prompts those of the trace's requests, each with its time and the output tokens asked of its answer."""
    sessions: SessionSpec | None = None
    """None: each prompt is a request of its own."""
    base_dir: str = "."
    """Folder that a trace's path is relative to."""
    output_file: str
    request_id_prefix: str = Field(default_factory=lambda: uuid.uuid4().hex[:12])
    """SageMaker takes inference ids of at most 64 characters."""

    @property
    def attempt(self) -> Attempt:
        """What is to be run."""
        return Attempt(self.option, self.dataset, self.level, self.repetition, self.is_control)

    @property
    def spool(self) -> Path:
        """Where load processes keep responses while the attempt is running."""
        output = Path(self.output_file)
        return output.parent / f".{output.stem}.spool"

    def part_folder(self, load_process: int) -> Path:
        """The spool of one load process."""
        return self.spool / str(load_process)

    @property
    def longest_load_s(self) -> float:
        """When this has passed, the load has ended, or the process that should end it has failed."""
        return self.load.max_duration_s + LONGEST_DRAIN_TIMEOUTS * self.load.request_timeout_s + SLACK_S

    @property
    def schedule_file(self) -> Path:
        """Arrivals of an open loop: offsets from the start in ns, as a NumPy file."""
        return self.spool / "schedule.npy"


class Prepare(BaseModel):
    """Prepare to send: bodies, connections. Answered by `Ready`."""

    command: Literal["prepare"] = "prepare"
    spec: AttemptSpec
    load_process: int
    of: int


class Go(BaseModel):
    """Start at this moment of CLOCK_MONOTONIC. Answered by `Sent`, after the load."""

    command: Literal["go"] = "go"
    start_ns: int


class Close(BaseModel):
    """The steady window ends here: keep sending, and report when every request before it is answered. None: not yet."""

    command: Literal["close"] = "close"
    close_ns: int | None


class Stop(BaseModel):
    """Send nothing more, and wait for what is in flight."""

    command: Literal["stop"] = "stop"


class Parse(BaseModel):
    """Turn rows [first, last) of one spool into a part file. Answered by `Parsed`."""

    command: Literal["parse"] = "parse"
    spec: AttemptSpec
    load_process: int
    first: int
    last: int
    open_ns: int | None
    close_ns: int | None
    clock_pairs: list[tuple[int, int]]
    part_file: str


class Write(BaseModel):
    """Join part files into the attempt's request records. Answered by `Written`."""

    command: Literal["write"] = "write"
    part_files: list[str]
    metadata: str
    output_file: str


class Command(BaseModel):
    """To a load process."""

    message: Prepare | Go | Close | Stop | Parse | Write = Field(discriminator="command")


class Ready(BaseModel):
    """Connections are open; what they took, ns."""

    reply: Literal["ready"] = "ready"
    connect_ns: list[int]
    tls_ns: list[int]


class SendingStatus(BaseModel):
    """How a load process is getting on."""

    reply: Literal["sending"] = "sending"
    sent: int
    done: int
    failed: int
    in_flight: int
    oldest_t0_ns: int | None
    """t0 of the oldest request in flight; None if there is none."""
    first_s: list[float]
    """Times to the first byte of the body of requests that ended since the last status; a sample if there are many."""
    ended: bool = False
    """All prompts, or all of the schedule, are used up."""
    clear_ns: int | None = None
    """Every request before this close of the window is answered; None until then."""


class Sent(BaseModel):
    """The load of one process is over."""

    reply: Literal["sent"] = "sent"
    requests: int
    ended: bool
    cpu_s: float
    wall_s: float
    loop_lag_ms: dict[str, float]
    standstills: list[tuple[int, int]] = []
    """[from, to) of CLOCK_MONOTONIC in which the event loop did not run, where that was long."""
    own_failures: dict[str, int] = {}
    """Requests that failed because of this machine, by error message."""
    peak_memory_mb: float
    clock_pairs: list[tuple[int, int]]
    context_ends: int | None = None
    """Sessions that ended because their next turn would have exceeded the context; None where there are no sessions."""


class Parsed(BaseModel):
    """A part file is written."""

    reply: Literal["parsed"] = "parsed"
    requests: int
    failed: int
    answered: int
    """Requests for which at least one byte came back."""
    stamped_by_kernel: int
    cpu_s: float


class Written(BaseModel):
    """The request records are written."""

    reply: Literal["written"] = "written"
    cpu_s: float


class Alive(BaseModel):
    """Still parsing or writing; sent every few seconds."""

    reply: Literal["alive"] = "alive"


class Failed(BaseModel):
    """The load process cannot continue, and exits. Reported here because the disk that holds its log may be what failed."""

    reply: Literal["failed"] = "failed"
    cause: str
    next_step: str


class Reply(BaseModel):
    """From a load process."""

    message: Ready | SendingStatus | Sent | Parsed | Written | Alive | Failed = Field(discriminator="reply")
