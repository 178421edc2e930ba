"""Progress in a notebook: a live table while endpoints come up, a bar and a plot per option while they are under load."""

from __future__ import annotations

import threading
import time
import warnings
from datetime import UTC, datetime

import pandas as pd
from tqdm import tqdm

from helpers.campaign import LoadEvent
from helpers.config import BenchmarkConfig
from helpers.display import Column, Table, numeric
from helpers.errors import ParameterError
from helpers.ledger import EndpointRecord
from helpers.live_plot import LivePlot, progress_words
from helpers.load_plan import load_points_of
from helpers.run_folder import RunFolder

TEXT_INTERVAL_S = 5.0
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
    """State, time since the create call, and failure of every endpoint."""
    now = datetime.now(UTC)
    rows = pd.DataFrame(
        {
            "option": record.option,
            "instance_type": record.instance_type,
            "state": record.state,
            "elapsed_s": record.startup_s()
            or (None if record.billed_hours(now) is None else record.billed_hours(now) * 3600),
            "usd": 0.0 if record.local else record.cost_usd(),
            "failure": record.failure or "",
        }
        for record in endpoints
    )
    columns = [
        Column("option", "option"),
        Column("instance_type", "instance type"),
        Column("state", "state"),
        numeric("elapsed_s", "s since create", decimals=1),
        numeric("usd", "cost so far, $", decimals=2),
        Column("failure", "failure", wraps=True),
    ]
    return Table(rows, columns, "Endpoints. The time stops when an endpoint is in service.")


class ProgressBars:
    """Progress in load points: a bar and a live plot per option in JupyterLab, one bar of text in batch.

    A context manager; call it with each LoadEvent. Events come from the threads that load, so a fault of the display
    never reaches them: the display stops, and says why at the end.
    """

    def __init__(self, config: BenchmarkConfig, run: RunFolder, style: str = "widget") -> None:
        if style not in STYLES:
            raise ParameterError(f"progress: bad value {style!r}. Expected one of: {', '.join(STYLES)}")
        totals = {option.name: len(load_points_of(option, config, run)) for option in config.options}
        self.view = _Panels(totals) if style == "widget" else _TextBar(totals)
        self._lock = threading.Lock()
        self._fault: Exception | None = None

    def __enter__(self) -> ProgressBars:
        self.view.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.view.close()
        if self._fault is not None:
            warnings.warn(f"the progress display stopped, the load went on: {self._fault!r}", stacklevel=2)

    def __call__(self, event: LoadEvent) -> None:
        """Show what an option is doing."""
        with self._lock:
            if self._fault is None:
                try:
                    self.view.show(event)
                except Exception as fault:  # noqa: BLE001 (no display may stop a load)
                    self._fault = fault


class _TextBar:
    """All load points in one bar of text."""

    def __init__(self, totals: dict[str, int]) -> None:
        self._totals = dict(totals)
        self._done = dict.fromkeys(totals, 0)
        self._bar: tqdm | None = None

    def open(self) -> None:
        total = sum(self._totals.values())
        self._bar = tqdm(total=total, desc="load points", mininterval=TEXT_INTERVAL_S, miniters=0, ascii=True)

    def close(self) -> None:
        self._bar.close()

    def show(self, event: LoadEvent) -> None:
        self._done[event.option], self._totals[event.option] = event.points_done, event.points_total
        self._bar.total = sum(self._totals.values())
        self._bar.set_postfix_str(f"{event.option}: {event_words(event)}", refresh=False)
        self._bar.update(sum(self._done.values()) - self._bar.n)


class _Panels:
    """A name, a bar, a line of text and a live plot per option."""

    def __init__(self, totals: dict[str, int]) -> None:
        import ipywidgets as widgets

        self._bars = {name: widgets.IntProgress(value=0, max=total) for name, total in totals.items()}
        self._words = {name: widgets.Label() for name in totals}
        self._plots = {name: LivePlot() for name in totals}
        rows = []
        for name in totals:
            head = widgets.HBox([widgets.Label(name), self._bars[name], self._words[name]])
            rows.append(widgets.VBox([head, self._plots[name].widget]))
        self.widget = widgets.VBox(rows)

    def open(self) -> None:
        from IPython.display import display

        display(self.widget)

    def close(self) -> None:
        """Nothing to do: the widgets stay as they were last."""

    def show(self, event: LoadEvent) -> None:
        plot = self._plots[event.option]
        if event.progress is not None and not plot.show(event.progress, event.points_done, time.monotonic()):
            return
        if event.state in ("deleting", "done", "failed"):
            plot.finish("no load under way")
        bar = self._bars[event.option]
        bar.max, bar.value = event.points_total, event.points_done
        self._words[event.option].value = f"{event.points_done} of {event.points_total}: {event_state(event)}"


def event_state(event: LoadEvent) -> str:
    """What an option is doing, and on what."""
    return f"{event.state} {event.detail}".strip()


def event_words(event: LoadEvent) -> str:
    """The same with the progress of the load point under way."""
    return event_state(event) + (f": {progress_words(event.progress)}" if event.progress else "")
