"""Progress in a notebook: a live table while endpoints start, and a bar and a plot per option while they are under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from helpers.config.benchmark import BenchmarkConfig
from helpers.endpoints.load_events import LoadEvent
from helpers.errors import AnalysisError, ParameterError
from helpers.load.plan import count_attempts
from helpers.load.race_standing import Standing, standings_of
from helpers.metrics.looks import looks_of
from helpers.metrics.single_requests import with_limits
from helpers.report.columns import numeric
from helpers.report.display import Table
from helpers.report.plan_report import longest_point_s
from helpers.report.race_report import bill_words, standing_words
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.records import read_attempt_facts
from helpers.series.live_plot import LivePlot
from helpers.series.live_race import LiveRace
from helpers.series.status import Clock, OptionProgress, RunProgress, attempt_words, write_progress

STYLES = ("widget", "text")


class LiveEndpoints:
    """A table of endpoints that is redrawn in place."""

    def __init__(self) -> None:
        self._handle = None

    def show(self, endpoints: list[EndpointRecord]) -> None:
        """Draw the table, or redraw it."""
        from IPython.display import display

        table = endpoints_table(endpoints)
        if self._handle is None:
            self._handle = display(table, display_id=True)
        else:
            self._handle.update(table)


def endpoints_table(endpoints: list[EndpointRecord]) -> Table:
    """State, time since the create call, and failure reason of every endpoint."""
    now = datetime.now(UTC)
    rows = [
        {
            "option": record.option,
            "instance_type": record.instance_type,
            "state": record.state,
            "elapsed_s": record.startup_s()
            or (None if record.billed_hours(now) is None else record.billed_hours(now) * 3600),
            "usd": 0.0 if record.local else record.cost_usd(),
            "failure": record.why_failed() or "",
        }
        for record in endpoints
    ]
    columns = [
        "option",
        "instance_type",
        "state",
        "elapsed_s",
        numeric("usd", "cost so far, $", decimals=2),
        "failure",
    ]
    return Table(rows, columns, "Endpoints. The time stops when an endpoint is in service.")


class ProgressBars:
    """Progress in load points and the total time left: a bar and a live plot per option in JupyterLab, a line of
    text per load point in batch. It is also written to the run folder, for `status`.

    A context manager; call it with each LoadEvent. Events come from the load threads, so an error in the display
    never reaches them: the display stops, and reports the reason at the end.
    """

    def __init__(self, config: BenchmarkConfig, run: RunFolder, style: str = "widget") -> None:
        if style not in STYLES:
            raise ParameterError(f"progress: bad value {style!r}. Expected one of: {', '.join(STYLES)}")
        self._run, self._config = run, (config := config.deployed())
        counts = {option.name: count_attempts(option, config, run) for option in config.options}
        self._options = {
            name: OptionProgress(state="not begun", done=done, total=total) for name, (done, total) in counts.items()
        }
        done = sum(done for done, _ in counts.values())
        self._clock = Clock(longest_point_s(config), config.max_parallel_loads(), done)
        self._is_total_known = looks_of(config) is None
        self._is_stopping = False
        totals = {name: total for name, (_, total) in counts.items()}
        self.view = _Panels(totals, config, run) if style == "widget" else _Lines(config, run)
        self._lock = threading.Lock()
        self._fault: Exception | None = None

    def __enter__(self) -> ProgressBars:
        self.view.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._guarded(self.view.close)
        if self._fault is not None:
            print(f"The progress display stopped, the load went on: {self._fault!r}")  # noqa: T201

    def __call__(self, event: LoadEvent) -> None:
        """Show what an option is doing."""
        self._guarded(lambda: self._show(event))

    def _guarded(self, show: Callable[[], None]) -> None:
        with self._lock:
            if self._fault is None:
                try:
                    show()
                except Exception as fault:  # noqa: BLE001 (a display error must not stop the load)
                    self._fault = fault

    def _show(self, event: LoadEvent) -> None:
        if event.progress is None:
            self._options[event.option] = OptionProgress(
                state=event.state, detail=event.detail, done=event.attempts_done, total=event.attempts_total
            )
        progress = RunProgress(
            options=self._options,
            seconds_left=None,
            is_bound=False,
            is_total_known=self._is_total_known,
            at=datetime.now(UTC).replace(microsecond=0),
        )
        done, total = progress.counts()
        progress.seconds_left, progress.is_bound = self._clock.left(done, total)
        if event.progress is None:
            write_progress(self._run, progress)
        if event.state == "stopping" and not self._is_stopping:
            self._is_stopping = True
            print(f"Stopping: {done} load points are kept; endpoints are being deleted.", flush=True)  # noqa: T201
        self.view.show(event, progress)


class _Lines:
    """One line of text per load point, and per option that fails."""

    def __init__(self, config: BenchmarkConfig, run: RunFolder) -> None:
        self._config, self._run = config, run
        self._is_race = looks_of(config) is not None
        self._reported: set[str] = set()

    def open(self) -> None:
        self._reported = self._finished()

    def _finished(self) -> set[str]:
        return {path.stem for path in self._run.requests.glob("*.parquet")}

    def close(self) -> None:
        if self._is_race and any(self._run.requests.glob("*.parquet")):
            print(bill_words(self._standings()), flush=True)  # noqa: T201

    def _standings(self) -> list[Standing]:
        endpoints = Ledger(self._run.ledger_file, self._run.run_id).records()
        return standings_of(with_limits(self._config, self._run), self._run.requests, endpoints)

    def show(self, event: LoadEvent, progress: RunProgress) -> None:
        if event.progress is not None:
            return
        done, total = progress.counts()
        left = f"; {progress.left_words()}" if done < total and progress.is_total_known else ""
        for load_point in sorted(self._finished() - self._reported):
            with suppress(AnalysisError, OSError):  # it was set aside meanwhile, because its server was lost
                facts = read_attempt_facts(self._run.requests / f"{load_point}.parquet")
                measured = attempt_words(self._run, load_point, self._config)
                where = f"{facts.option}, {facts.dataset}, {facts.load.label}"
                print(f"{progress.count_words()}: {where}: {measured}{left}", flush=True)  # noqa: T201
                self._reported.add(load_point)
        if event.state in ("failed", "not begun", "never loaded", "stopped"):
            print(f"{progress.count_words()}: {event.option}: {event_state(event)}", flush=True)  # noqa: T201
        if self._is_race and event.state == "done":
            standing = next(one for one in self._standings() if one.option == event.option)
            print(f"{progress.count_words()}: {event.option}: {standing_words(standing)}", flush=True)  # noqa: T201


class _Panels:
    """A name, a bar, a line of text and a live plot per option; above them the race, if it is one."""

    def __init__(self, totals: dict[str, int], config: BenchmarkConfig, run: RunFolder) -> None:
        import ipywidgets as widgets

        self._bars = {name: widgets.IntProgress(value=0, max=total) for name, total in totals.items()}
        self._words = {name: widgets.Label() for name in totals}
        self._plots = {name: LivePlot() for name in totals}
        rows = []
        for name in totals:
            head = widgets.HBox([widgets.Label(name), self._bars[name], self._words[name]])
            rows.append(widgets.VBox([head, self._plots[name].widget]))
        self._left = widgets.Label()
        self._race = LiveRace(config, run) if looks_of(config) is not None else None
        self.widget = widgets.VBox([self._left, *([self._race.widget] if self._race else []), *rows])

    def open(self) -> None:
        from IPython.display import display

        display(self.widget)

    def close(self) -> None:
        """The widgets stay as they are."""

    def show(self, event: LoadEvent, progress: RunProgress) -> None:
        done, total = progress.counts()
        left = f"; {progress.left_words()}" if done < total else ""
        of_total = f" of {total}" if progress.is_total_known else ""
        self._left.value = f"{done}{of_total} load points{left}"
        if self._race:
            self._race.show(event, time.monotonic())
        plot = self._plots[event.option]
        if event.progress is not None and not plot.show(event.progress, event.attempts_done, time.monotonic()):
            return
        if event.state in ("deleting", "done", "never loaded", "stopping", "stopped", "failed"):
            plot.finish("no load in progress")
        bar = self._bars[event.option]
        bar.max, bar.value = event.attempts_total, event.attempts_done
        self._words[event.option].value = f"{event.attempts_done} of {event.attempts_total}: {event_state(event)}"


def event_state(event: LoadEvent) -> str:
    """What an option is doing, and on what; or why it failed."""
    if event.state == "failed" and event.detail:
        return f"failed: {event.detail.removeprefix(f'option {event.option!r}: ')}"
    return f"{event.state} {event.detail}".strip()
