"""What is asked of the server, and what it logs of each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Schedule:
    """When the events of an answer are sent, counted from the moment its request had arrived in full."""

    ttft_us: int = 0
    """To the first event."""
    itl_us: int = 0
    """From each event to the next."""
    events: int = 64
    """Events with text, a token each."""
    workers: int = 0
    """Requests in service at once, others wait in line; 0: no limit. With it the server has a known capacity:
    workers / (ttft + (events - 1) * itl) requests per second."""
    stall_at_us: int = 0
    """From the first request on to the start of a stall: nothing is sent, requests are still read."""
    stall_us: int = 0
    """Length of the stall; what was due in it is sent at its end. 0: none."""
    send_each: int = 0
    """1: also an answer without delays is sent event by event, which is as much work as the network ever makes."""
    event_times: int = 0
    """1: the log holds the time of every event."""

    @property
    def at_once(self) -> bool:
        """True where an answer can be sent whole, as soon as its request was read."""
        return not (self.ttft_us or self.itl_us or self.workers or self.stall_us or self.send_each or self.event_times)


class ServedRequest(NamedTuple):
    """One answered request. Times in ns; those of writes are taken just before."""

    request_id: str
    connection: int
    arrival_ns: int
    """When its last segment was received: the kernel's stamp on Linux, elsewhere taken after the read."""
    first_ns: int
    """Before the write of the first event, which carries the HTTP head too."""
    last_ns: int
    """Before the write of the last event with text; equal to `first_ns` in an answer sent whole."""
    end_ns: int
    """Before the write of the closing events (finish reason, usage, `[DONE]`, last HTTP chunk)."""
    event_ns: list[int] | None
    """Of every event with text, where the schedule asks for them."""
