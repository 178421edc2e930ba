"""An alarm on CLOCK_MONOTONIC that is exact to microseconds; the timers of event loops round to milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from time import monotonic_ns

CLOCK_MONOTONIC = 1
TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1
"""Linux, timerfd_create(2); Python names them only from 3.13 on."""


class Alarm:
    """Calls `ring` on the running event loop at the time last set, once. Elsewhere than on Linux: as exact as the loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = _timerfd() if sys.platform == "linux" else -1
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._expired)

    def set(self, at_ns: int) -> None:
        """Ring at this moment, or at once if it is past."""
        if self._descriptor >= 0:
            times = (ctypes.c_long * 4)(0, 0, *divmod(max(at_ns, 1), 1_000_000_000))
            _libc().timerfd_settime(self._descriptor, TFD_TIMER_ABSTIME, times, None)
        else:
            self._timer = self._loop.call_later(max(0, at_ns - monotonic_ns()) / 1e9, self._ring)

    def close(self) -> None:
        """Never ring again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # set anew in the meantime
            return
        self._ring()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _timerfd() -> int:
    """A timer's file descriptor, or -1 where there is none to be had."""
    return _libc().timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
