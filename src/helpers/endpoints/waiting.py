"""Waiting for what takes from a moment (on this machine) to an hour (on AWS)."""

from __future__ import annotations

import time
from collections.abc import Iterator

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
GROWTH = 1.2


def growing_pauses() -> Iterator[None]:
    """Yields at once, and then after pauses that grow from 0.1 s to 5 s."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield
        time.sleep(pause_s)
        pause_s = min(pause_s * GROWTH, LONGEST_PAUSE_S)
