"""What is reported of each option while a run is loaded, for progress displays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.load.attempt_progress import AttemptProgress
from helpers.load.plan import count_attempts
from helpers.run.folder import RunFolder


@dataclass(frozen=True)
class LoadEvent:
    """Something that a progress display may show."""

    option: str
    state: str
    """`not begun`, `waiting`, `starting`, `loading`, `stopping`, `deleting`, `done`, `never loaded`, `stopped` or
    `failed`."""
    attempts_done: int
    attempts_total: int
    detail: str = ""
    progress: AttemptProgress | None = None
    """Of the running attempt; None where there is none."""


OnEvent = Callable[[LoadEvent], None]


class Notifier:
    """Reports the state of an option, with how many of its attempts are measured."""

    def __init__(self, option: OptionBase, config: BenchmarkConfig, run: RunFolder, on_event: OnEvent) -> None:
        self._option, self._config, self._run, self._on_event = option, config, run, on_event
        self._done = self._total = 0

    def __call__(self, state: str, detail: str = "") -> None:
        """Report the state, as in `LoadEvent`."""
        self._done, self._total = count_attempts(self._option, self._config, self._run)
        self._on_event(LoadEvent(self._option.name, state, self._done, self._total, detail))

    def progress(self, label: str, progress: AttemptProgress) -> None:
        """Report the running attempt."""
        self._on_event(LoadEvent(self._option.name, "loading", self._done, self._total, label, progress))
