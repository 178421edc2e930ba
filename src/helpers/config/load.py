"""The `load` section of a config: how requests arrive, for how long, and what ends a load point."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from helpers.config.cluster import ClusterSettings
from helpers.config.load_level import KIND_WORDS, LoadLevel
from helpers.config.mix import MixSettings
from helpers.config.race import Race, RaceSettings
from helpers.config.strict import PositiveInt, PositiveSeconds, Strict

Arrivals = Literal["constant", "poisson", "gamma"]


MOST_LEVELS = 500
"""Of a search."""
RACED = ("closed_loop", "open_loop", "search")
"""Kinds of load that may be raced: those of which any number of requests may be sent at a level."""


class LoadBase(Strict):
    """Settings of every kind of load."""

    min_requests: PositiveInt = Field(default=100, description="Minimum requests in a steady window.")
    min_duration_s: float = Field(default=0, ge=0, description="Minimum length of the steady window.")
    max_duration_s: PositiveSeconds = Field(
        default=600, description="Maximum length of a load point before its drain; in a race, of all its blocks."
    )
    target_relative_ci: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Continue until the 95% intervals of throughput and of the SLO's percentile are at most this share "
        "of the value on either side, for example 0.05, looked at when a window holds min_requests and twice, four times, ... "
        "as many; null: min_requests and min_duration_s decide. Not in a race.",
    )
    repetitions: PositiveInt = 1
    race: RaceSettings = Field(
        default=Race(enabled=False),
        description="Measure options only as long as they may win; `true`: as the defaults say; `false`: every load point.",
    )
    mix: MixSettings = Field(
        default=None,
        description="Send all datasets at once, in the shares of traffic.mix; `true`: the mix alone; {alone: true}: each dataset "
        "by itself too, for comparison. The verdict is that of the mix. Not in a race.",
    )
    control: bool | None = Field(
        default=None,
        description="Come back to an early load point at the end of an option's visit, to see whether the service moved: up to "
        "5% more requests and time. Closed loops only; null: where an option has more than one load point.",
    )
    request_timeout_s: PositiveSeconds = 60
    max_answer_bytes: PositiveInt = Field(
        default=64_000_000,
        description="A longer answer, including its HTTP head, is abandoned as a bad_response.",
    )
    repeat_prompts: bool = Field(default=False, description="Whether a load point may send a prompt twice.")
    prefix_cache_salt: bool = Field(
        default=False, description="Put a few unique characters before each prompt, so that prefix caches do not help."
    )
    processes: PositiveInt | None = Field(
        default=None,
        description="Load processes, one per CPU; default as many as the level needs (128 streams or 500 requests/s each).",
    )

    cluster: ClusterSettings | None = Field(
        default=None, description="Send from several machines; null: from this one. Needs requirements-ray.txt."
    )

    _of_sessions: bool = PrivateAttr(default=False)

    def is_made_by_sessions(self) -> None:
        """From now on its levels are users, or sessions per second: the config's prompts are conversations."""
        self._of_sessions = True

    @field_validator("concurrency", "rate", "speed", check_fields=False)
    @classmethod
    def _distinct(cls, value: list, info: ValidationInfo) -> list:
        if len(set(value)) < len(value):
            raise ValueError(f"{value} names a {info.field_name} twice")
        return value

    @model_validator(mode="after")
    def _durations_in_order(self) -> LoadBase:
        if self.min_duration_s > self.max_duration_s:
            raise ValueError(f"min_duration_s {self.min_duration_s} exceeds max_duration_s {self.max_duration_s}")
        return self

    @model_validator(mode="after")
    def _repeated_or_raced(self) -> LoadBase:
        if self.race.enabled and self.kind not in RACED:
            raise ValueError(f"only {', '.join(RACED)} loads are raced, and this is a {self.kind}: write `race: false`")
        instead = "" if isinstance(self, Search) else ", or write `race: false`"
        if self.race.enabled and self.repetitions > 1:
            raise ValueError(f"the race decides how often a load point is measured: leave out `repetitions`{instead}")
        if self.race.enabled and self.target_relative_ci is not None:
            raise ValueError(
                "the race decides how long a load point is measured, until the verdict is certain: leave out "
                f"`target_relative_ci`{instead}"
            )
        return self

    @model_validator(mode="after")
    def _mixed_in_full(self) -> LoadBase:
        if self.mix is None:
            return self
        if self.race.enabled:
            instead = "write `race: false`"
            if self.kind == "search":
                instead = "list the levels of a closed_loop or an open_loop"
            raise ValueError(
                "the looks of a race are sized for all requests of a load point, and each part of a `mix`, which has to meet the "
                f"SLO by itself, has only its share of them. Expected loads that are measured in full. Next: {instead}, or leave "
                "out `mix`"
            )
        if self.may_bring_prompts:
            raise ValueError(
                "the prompts of a trace that has lengths are those of its requests, so there are no datasets to `mix`. Expected "
                "the times of the trace alone. Next: write `lengths: prompts`, or leave out `mix`"
            )
        return self

    @model_validator(mode="after")
    def _processes_in_one_place(self) -> LoadBase:
        if self.cluster is not None and self.processes is not None:
            raise ValueError(
                "`cluster.processes_per_node` says how many load processes there are: leave out `processes`"
            )
        return self

    @model_validator(mode="after")
    def _can_be_controlled(self) -> LoadBase:
        if self.control and self.level_kind != "closed_loop":
            raise ValueError(
                f"`control: true` needs a closed loop, or a search over concurrency, and this has levels of the kind "
                f"{self.level_kind}: leave out `control`"
            )
        return self

    @property
    def level_kind(self) -> str:
        """The kind of its load points, a key of KIND_WORDS."""
        return {"closed_loop": "users", "open_loop": "sessions"}[self.kind] if self._of_sessions else self.kind

    @abstractmethod
    def levels(self) -> list[LoadLevel]:
        """The levels that may be measured."""

    def possible_levels(self) -> list[LoadLevel]:
        """The same, ascending, with what a race may add."""
        return sorted(self.levels())

    @property
    def level_name(self) -> str:
        """What the level is called on an axis or in a table's head."""
        return KIND_WORDS[self.level_kind].axis

    @property
    def most_levels(self) -> int:
        """Most levels that are measured per dataset."""
        return len(self.possible_levels())

    def fewest_prompts(self) -> int:
        """Minimum number of prompts that the largest load point sends."""
        return self.min_requests

    @property
    def may_bring_prompts(self) -> bool:
        """True if the prompts may be the load's own, so that the `count` of a dataset says nothing about them."""
        return False

    def largest_level(self) -> LoadLevel:
        """The highest level that may be run."""
        return max(self.levels())


class ClosedLoop(LoadBase):
    """Closed loop: c workers, each of which sends its next request as soon as its last answer has ended."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: list[PositiveInt] = Field(min_length=1, description="Workers; of prompts.conversations: users.")
    warmup_requests: int = Field(default=4, ge=0, description="Requests per worker before measuring, at least one.")

    def levels(self) -> list[LoadLevel]:  # noqa: D102
        return [LoadLevel(self.level_kind, c) for c in self.concurrency]

    def fewest_prompts(self) -> int:  # noqa: D102
        return closed_loop_prompts(self, max(self.concurrency))


class OpenLoop(LoadBase):
    """Open loop: requests follow a schedule, however slow the answers; latency counts from the scheduled time."""

    kind: Literal["open_loop"]
    rate: list[Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="Requests per second; of prompts.conversations: sessions per second."
    )
    arrivals: Arrivals = Field(default="poisson", description="How the gaps between requests are distributed.")
    burstiness: float | None = Field(
        default=None,
        gt=0,
        description="Shape of gamma gaps: 1 is Poisson, less is burstier; the CV is 1/sqrt(shape).",
    )
    warmup_s: float = Field(default=0, ge=0, description="Minimum warm-up; it continues until answers are steady.")

    @model_validator(mode="after")
    def _burstiness_with_gamma(self) -> OpenLoop:
        return burstiness_with_gamma(self)

    def levels(self) -> list[LoadLevel]:  # noqa: D102
        return [LoadLevel(self.level_kind, rate) for rate in self.rate]

    def possible_levels(self) -> list[LoadLevel]:
        """A race adds the rate that shows whether there is room at the highest; the verdict never names it."""
        least = max(self.rate) / ROOM
        added = [LoadLevel("open_loop", _short(least, 1.05 * least))] if self.race.enabled else []
        return [*sorted(self.levels()), *added]


class TraceReplay(LoadBase):
    """Open loop with the arrival times of a recorded trace, and with the lengths and texts of its requests where it has them."""

    kind: Literal["trace"]
    path: str = Field(description="CSV, TSV, JSON lines, a JSON list or Parquet with a column of times, in any order.")
    lengths: Literal["trace", "prompts"] | None = Field(
        default=None,
        description="`trace`: each request has the prompt of the trace's request (its text, else one of its length) and asks for "
        "its output length; needs one dataset. `prompts`: only the times are replayed. null: `trace` where it has lengths.",
    )
    window: tuple[float, float] | None = Field(
        default=None, description="[from, to) in seconds since the first request of the trace; null: all of it."
    )
    max_requests: PositiveInt | None = Field(
        default=None, description="Replay only the first N requests of the window."
    )
    block_tokens: PositiveInt | None = Field(
        default=None,
        description="Prompt tokens for which each of a trace's `hash_ids` stands; default 512 (Mooncake), 16 for Qwen Bailian.",
    )
    timestamp: str = Field(
        default="timestamp", description="The column with the times, as numbers or dates; default: a common name."
    )
    unit: Literal["s", "ms", "us", "ns"] | None = Field(
        default=None, description="Unit of numeric times; needed if it is not clear from the file."
    )
    speed: list[Annotated[float, Field(gt=0)]] = Field(default=[1.0], min_length=1, description="2: twice as fast.")
    warmup_s: float = Field(default=0, ge=0, description="Beginning of the trace that is sent but not measured.")

    @field_validator("window")
    @classmethod
    def _window_in_order(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError(
                f"[{value[0]:g}, {value[1]:g}] is empty: expected [from, to) with 0 <= from < to, in seconds"
            )
        return value

    @property
    def may_bring_prompts(self) -> bool:  # noqa: D102
        return self.lengths != "prompts"

    def levels(self) -> list[LoadLevel]:  # noqa: D102
        return [LoadLevel("trace", speed) for speed in self.speed]


class Ramp(LoadBase):
    """Open loop with a rate that rises (or falls) linearly. It shows where latency starts to climb; it is never steady, so it
    never shows that an SLO is met.
    """

    kind: Literal["ramp"]
    from_rate: float = Field(ge=0, description="Requests per second at the start.")
    to_rate: float = Field(gt=0, description="Requests per second at the end.")
    duration_s: PositiveSeconds
    arrivals: Literal["constant", "poisson"] = "poisson"

    @model_validator(mode="after")
    def _fits_into_the_load_point(self) -> Ramp:
        if self.duration_s > self.max_duration_s:
            raise ValueError(
                f"duration_s {self.duration_s:g} exceeds max_duration_s {self.max_duration_s:g}: the ramp would be cut off"
            )
        return self

    def levels(self) -> list[LoadLevel]:  # noqa: D102
        return [LoadLevel("ramp", max(self.from_rate, self.to_rate))]

    def fewest_prompts(self) -> int:  # noqa: D102
        return math.ceil((self.from_rate + self.to_rate) / 2 * self.duration_s)


class Search(LoadBase):
    """Search for the highest level that meets the SLO: a race over many levels from `lowest` to `highest`, each at most
    `tolerance` above the one before. Probes double from the lowest, then halve the bracket.
    """

    kind: Literal["search"]
    over: Literal["concurrency", "rate"]
    lowest: float = Field(default=1, gt=0, description="First probe.")
    highest: float = Field(description="Upper limit of all probes.")
    tolerance: float = Field(
        default=0.05,
        ge=0.001,
        lt=1,
        description="Each level is at most this share above the one before, and at least 1 with `over: concurrency`.",
    )
    race: RaceSettings = Field(
        default=Race(), description="How the race of its levels is run; a search is always a race."
    )
    arrivals: Arrivals = Field(default="poisson", description="With `over: rate`: how the gaps are distributed.")
    burstiness: float | None = Field(default=None, gt=0, description="Shape of gamma gaps.")
    warmup_requests: int = Field(
        default=4, ge=0, description="With `over: concurrency`: requests completed per worker first."
    )
    warmup_s: float = Field(default=0, ge=0, description="With `over: rate`: minimum warm-up.")

    @model_validator(mode="after")
    def _bounds(self) -> Search:
        if self.highest < self.lowest:
            raise ValueError(f"highest {self.highest:g} is below lowest {self.lowest:g}")
        if self.over == "concurrency" and (self.lowest % 1 or self.highest % 1):
            raise ValueError("concurrency is a whole number: give whole `lowest` and `highest`")
        if not self.race.enabled:
            raise ValueError(
                "a search is a race: without one, a single unlucky probe would bound it. Leave out `race: false`, or list the "
                "levels of a closed_loop or an open_loop"
            )
        if len(self.levels()) > MOST_LEVELS:
            raise ValueError(
                f"there are more than {MOST_LEVELS} levels from {self.lowest:g} to {self.highest:g} with tolerance "
                f"{self.tolerance:g}: bring `lowest` and `highest` closer together, or raise `tolerance`"
            )
        return burstiness_with_gamma(self)

    @property
    def level_kind(self) -> str:  # noqa: D102
        return "closed_loop" if self.over == "concurrency" else "open_loop"

    def levels(self) -> list[LoadLevel]:
        """From `lowest` to `highest`, each at most `tolerance` above the one before, in as few digits as that leaves; one more
        than MOST_LEVELS where there are too many.
        """
        values = [self.lowest]
        while values[-1] < self.highest and len(values) <= MOST_LEVELS:
            most = values[-1] * (1 + self.tolerance) * (1 + 1e-12)  # 1.001, where floats give 1.0009999999999999
            following = max(values[-1] + 1, most // 1) if self.over == "concurrency" else _short(values[-1], most)
            values.append(min(following, self.highest))
        return [LoadLevel(self.level_kind, value) for value in values]

    @property
    def most_levels(self) -> int:
        """As many as two searches by doubling and halving take, should the first bracket have been one by luck."""
        doublings = math.ceil(math.log2(self.highest / self.lowest)) + 1
        return min(len(self.levels()), 2 * (doublings + math.ceil(math.log2(1 / self.tolerance))))

    def fewest_prompts(self) -> int:  # noqa: D102
        return closed_loop_prompts(self, int(self.highest)) if self.over == "concurrency" else self.min_requests

    def largest_level(self) -> LoadLevel:  # noqa: D102
        return LoadLevel(self.level_kind, self.highest)


def _short(low: float, high: float) -> float:
    """The number of fewest digits in the upper half between two, the upper one included."""
    for digits in range(1, 17):
        unit = 10.0 ** (math.floor(math.log10(high)) + 1 - digits)
        found = float(f"{math.floor(high / unit) * unit:.{digits}g}")
        if (low + high) / 2 <= found <= high:
            return found
    return high


ROOM = 0.76
"""A rate up to this share of what an option is known to keep up with has room: three quarters, of rates that may be rounded
(`metrics.room`)."""
UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Unit of a trace's times -> seconds."""
ROUNDS = 3
"""Minimum requests per stream in a steady window, so that every stream is seen."""
STREAMS_PER_PROCESS = 128
REQUESTS_PER_S_PER_PROCESS = 500

Load = Annotated[ClosedLoop | OpenLoop | TraceReplay | Ramp | Search, Field(discriminator="kind")]


def processes_for(load: LoadBase, level: LoadLevel, most: int, nodes: int = 1) -> int:
    """Load processes that share a level: the config's number, else as many as needed, up to `most`; on several load machines as
    many on each.
    """
    per_process = REQUESTS_PER_S_PER_PROCESS if level.is_open else STREAMS_PER_PROCESS
    wanted = load.processes or math.ceil(level.value / per_process)
    wanted = math.ceil(wanted / nodes) * nodes
    streams = most if level.is_open else int(level.value)
    return max(1, min(wanted, most, streams))


def shares_of_nodes(load: LoadBase, level: LoadLevel) -> list[float]:
    """What each node of `load.cluster` sends of a level: streams, or its share of the level's value."""
    nodes = load.cluster.nodes
    senders = processes_for(load, level, nodes * load.cluster.processes_per_node, nodes)
    if level.is_open:
        by_process = [level.value / senders] * senders
    else:
        by_process = [len(range(i, int(level.value), senders)) for i in range(senders)]
    return [sum(by_process[node::nodes]) for node in range(nodes)]


def warmup_answers(load: ClosedLoop | Search, concurrency: int) -> int:
    """Requests completed before the steady window may open: at least one per worker."""
    return max(load.warmup_requests, 1) * concurrency


def closed_loop_prompts(load: ClosedLoop | Search, concurrency: int) -> int:
    """Requests of the warm-up, a minimal window and a drain."""
    window = max(load.min_requests, ROUNDS * concurrency)
    return warmup_answers(load, concurrency) + window + 2 * concurrency


def burstiness_with_gamma(load: OpenLoop | Search) -> OpenLoop | Search:
    """The load unchanged; ValueError unless burstiness is given exactly with gamma arrivals."""
    if (load.arrivals == "gamma") != (load.burstiness is not None):
        raise ValueError("give `burstiness` with `arrivals: gamma`, and only with it")
    return load
