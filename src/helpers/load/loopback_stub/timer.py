"""What wakes the server when something is due."""

from __future__ import annotations

import selectors
from time import monotonic_ns

from helpers.load.system import open_timer, set_timer


class Timer:
    """Wakes a selector at an absolute time: with its own timer on Linux (nanoseconds), else by the selector's timeout,
    which is rounded up to a millisecond.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._armed_ns: int | None = None
        self._descriptor = open_timer()
        if self._descriptor is not None:
            selector.register(self._descriptor, selectors.EVENT_READ, self._rang)

    def wait(self, due_ns: int | None) -> float | None:
        """The timeout in s for a selector that must return by `due_ns` (None: when something else happens)."""
        if due_ns is None:
            return None
        now = monotonic_ns()
        if due_ns <= now:
            return 0.0
        if self._descriptor is None:
            return (due_ns - now) / 1e9
        if due_ns != self._armed_ns:
            set_timer(self._descriptor, due_ns)
            self._armed_ns = due_ns
        return None

    def _rang(self) -> None:
        """Setting it to never makes it silent again."""
        set_timer(self._descriptor, 0)
        self._armed_ns = None
