"""Progress in a notebook: a live table while endpoints come up, a bar per option while they are under load."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pandas as pd
from tqdm import tqdm

from helpers.config import BenchmarkConfig
from helpers.deployments import LoadEvent, load_points_of
from helpers.display import Column, Table, numeric
from helpers.errors import ParameterError
from helpers.ledger import EndpointRecord

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
            "failure": record.failure or "",
        }
        for record in endpoints
    )
    columns = [
        Column("option", "option"),
        Column("instance_type", "instance type"),
        Column("state", "state"),
        numeric("elapsed_s", "s since create", decimals=1),
        Column("failure", "failure", wraps=True),
    ]
    return Table(rows, columns, "Endpoints. The time stops when an endpoint is in service.")


class ProgressBars:
    """Progress in load points: a widget per option in JupyterLab, one bar of text in batch.

    A context manager; call it with each LoadEvent. Events come from several threads.
    """

    def __init__(self, config: BenchmarkConfig, style: str = "widget") -> None:
        if style not in STYLES:
            raise ParameterError(f"progress: bad value {style!r}. Expected one of: {', '.join(STYLES)}")
        self._style = style
        self._total = sum(len(load_points_of(option, config)) for option in config.options)
        self._done: dict[str, int] = {}
        self._bars: dict[str, tqdm] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *exc: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def __call__(self, event: LoadEvent) -> None:
        """Show what an option is doing."""
        with self._lock:
            self._done[event.option] = event.points_done
            if self._style == "widget":
                self._show(event.option, event.points_done, event.points_total, f"{event.state} {event.detail}")
            else:
                words = f"{event.option}: {event.state} {event.detail}"
                self._show("load points", sum(self._done.values()), self._total, words)

    def _show(self, name: str, done: int, total: int, words: str) -> None:
        if name not in self._bars:
            self._bars[name] = self._new_bar(name, total)
        bar = self._bars[name]
        bar.set_postfix_str(words.strip(), refresh=self._style == "widget")
        bar.update(done - bar.n)

    def _new_bar(self, name: str, total: int) -> tqdm:
        if self._style == "widget":
            from tqdm.notebook import tqdm as widget

            return widget(total=total, desc=name)
        return tqdm(total=total, desc=name, mininterval=TEXT_INTERVAL_S, ascii=True)
