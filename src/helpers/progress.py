"""Progress in a notebook: a live table while endpoints come up, a bar per option while they are under load."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pandas as pd

from helpers.config import BenchmarkConfig
from helpers.deployments import LoadEvent
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
    """One bar per option, counted in load points. A context manager; call it with each LoadEvent."""

    def __init__(self, config: BenchmarkConfig, style: str = "widget") -> None:
        if style not in STYLES:
            raise ParameterError(f"progress: bad value {style!r}. Expected one of: {', '.join(STYLES)}")
        self._names = [option.name for option in config.options]
        self._style = style
        self._bars: dict[str, object] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *exc: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def __call__(self, event: LoadEvent) -> None:
        """Show what an option is doing."""
        with self._lock:
            bar = self._bars.get(event.option) or self._bars.setdefault(event.option, self._new_bar(event))
            bar.set_postfix_str(f"{event.state} {event.detail}".strip(), refresh=False)
            bar.update(event.points_done - bar.n)
            if self._style == "widget" or event.state in ("done", "failed"):
                bar.refresh()

    def _new_bar(self, event: LoadEvent):
        if self._style == "widget":
            from tqdm.notebook import tqdm

            return tqdm(total=event.points_total, desc=event.option, unit="load point")
        from tqdm import tqdm

        return tqdm(
            total=event.points_total,
            desc=event.option,
            unit="load point",
            mininterval=TEXT_INTERVAL_S,
            position=self._names.index(event.option),
            ascii=True,
        )
