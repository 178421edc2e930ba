"""The level of a load point, and what each kind of load is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class KindWords:
    """What one kind of load is called, wherever it is named."""

    noun: str
    """In a sentence, for example in `every rate`."""
    axis: str
    """On an axis or in the header of a table."""
    label: str
    """One level, as a format of its value."""
    slug: str
    """What precedes the value in file names."""
    measured: str
    """How the traffic arrived that was measured, as a format of `arrivals`."""


KIND_WORDS = {
    "closed_loop": KindWords(
        "concurrency", "concurrency", "concurrency {:g}", "c", "in a closed loop: arrivals in bursts need more"
    ),
    "open_loop": KindWords("rate", "requests/s offered", "{:g} requests/s", "rate", "with {arrivals}arrivals"),
    "trace": KindWords(
        "speed", "speed of the trace", "trace at {:g} times its speed", "trace", "under the arrivals of the trace"
    ),
    "ramp": KindWords("ramp", "highest requests/s", "ramp to {:g} requests/s", "ramp", "on a ramp"),
    "users": KindWords(
        "number of users", "users", "{:g} users", "u", "with a fixed number of users: arrivals in bursts need more"
    ),
    "sessions": KindWords(
        "rate", "sessions/s offered", "{:g} sessions/s", "sessions", "with {arrivals}arrivals of sessions"
    ),
}
OPEN_LOOPS = ("open_loop", "sessions")
"""Kinds of load with a rate that is offered."""
LoadKind = Literal["closed_loop", "open_loop", "trace", "ramp", "users", "sessions"]


@dataclass(frozen=True, order=True)
class LoadLevel:
    """The level of a load point: requests in flight, or requests per second."""

    kind: LoadKind
    value: float
    """Requests in flight (closed loop), requests per second (open loop), speed of the trace (1 is as recorded), the
    maximum requests per second of a ramp, or, of conversations, users (closed loop) or sessions per second (open loop)."""

    @property
    def label(self) -> str:
        """As shown to readers, for example `concurrency 4`."""
        label = KIND_WORDS[self.kind].label.format(self.value)
        return label.removesuffix("s") if (self.kind, self.value) == ("users", 1) else label

    @property
    def slug(self) -> str:
        """As used in file names, for example `c4`."""
        return f"{KIND_WORDS[self.kind].slug}{self.value:g}"

    @property
    def is_open(self) -> bool:
        """True if requests (or sessions) follow a schedule, whether or not earlier ones were answered."""
        return self.kind not in ("closed_loop", "users")

    @property
    def is_held(self) -> bool:
        """True if as many requests are in flight as the level says: no schedule, and nobody who thinks."""
        return self.kind == "closed_loop"
