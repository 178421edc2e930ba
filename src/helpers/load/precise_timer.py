"""A timer on CLOCK_MONOTONIC that is exact to microseconds; the timers of event loops round to milliseconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic_ns

from helpers.load.system import open_timer, set_timer


class PreciseTimer:
    """Calls `ring` on the running event loop at the time last set, once. Elsewhere than on Linux: as exact as the loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = open_timer()
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._expired)

    def set(self, at_ns: int) -> None:
        """Ring at this moment, or at once if it is past."""
        if self._descriptor is not None:
            set_timer(self._descriptor, max(at_ns, 1))
        else:
            self._timer = self._loop.call_later(max(0, at_ns - monotonic_ns()) / 1e9, self._ring)

    def close(self) -> None:
        """Never ring again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # set anew in the meantime
            return
        self._ring()
