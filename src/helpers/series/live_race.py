"""A race while it goes on: how each option stands, and what the race took so far. Drawn from the request records and the ledger,
so a race that was stopped and goes on shows all of it; only what an option does right now comes from the load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.endpoints.load_events import LoadEvent
from helpers.errors import AnalysisError
from helpers.load.race_standing import Standing, standings_of
from helpers.metrics.single_requests import with_limits
from helpers.report.charts import race_picture
from helpers.report.display import in_html
from helpers.report.price_unit import unit_for
from helpers.report.race_report import bill_words, standing_words
from helpers.run.folder import RunFolder
from helpers.run.ledger import READY, EndpointRecord, Ledger
from helpers.verdict.judging import work_of

REDRAW_S = 10.0
"""Redraws within a load point, in which only time and dollars change."""


class LiveRace:
    """The picture of a race in an `ipywidgets.HTML`, and its words."""

    def __init__(self, config: BenchmarkConfig, run: RunFolder) -> None:
        from ipywidgets import HTML

        self._config, self._run = config, run
        self._ledger = Ledger(run.ledger_file, run.run_id)
        self._now: dict[str, LoadEvent] = {}
        self._drawn_s = -math.inf
        self.widget = HTML(self._draw())

    def show(self, event: LoadEvent, now_s: float) -> None:
        """Draw it where something changed, or some seconds passed; `now_s` is a monotonic time."""
        before = self._now.get(event.option)
        self._now[event.option] = event
        is_new = event.progress is None or before is None or before.detail != event.detail
        if is_new or now_s - self._drawn_s >= REDRAW_S:
            self._drawn_s = now_s
            with suppress(AnalysisError, OSError):  # a block was set aside meanwhile, because its server was lost
                self.widget.value = self._draw()

    def _draw(self) -> str:
        endpoints = self._ledger.records()
        standings = standings_of(with_limits(self._config, self._run), self._run.requests, endpoints)
        record, leader = {endpoint.option: endpoint for endpoint in endpoints}, leader_among(standings)
        words = {
            s.option: live_words(s, self._now.get(s.option), record.get(s.option))
            + (", in the lead" if s.option == leader else "")
            for s in standings
        }
        rows = pd.DataFrame([row for standing in standings for row in standing.rows])
        basis = "usd_per_1k_requests" if rows.empty else work_of(rows, endpoints, self._config).basis
        unit = unit_for(basis, [row[basis] for row in rows.to_dict("records")])
        alt = "; ".join(f"{option}: {said}" for option, said in words.items())
        picture = race_picture(standings, words, alt, unit, self._config)
        return f"{picture}<div>{in_html(bill_words(standings))}</div>"


def leader_among(standings: Sequence[Standing]) -> str | None:
    """The option that is shown to meet the SLO at the lowest price; None before one is."""
    shown = [s for s in standings if s.prices and math.isfinite(s.prices[0].high)]
    return min(shown, key=lambda s: s.prices[0].high).option if shown else None


def live_words(standing: Standing, event: LoadEvent | None, endpoint: EndpointRecord | None) -> str:
    """What an option does right now; how it left, once it has."""
    if standing.outcome:
        return f"left: {standing_words(standing)}"
    state = event.state if event else "not begun"
    if state == "failed" or (event is None and standing.because):
        return standing_words(standing) if standing.because else f"failed: {event.detail}"
    if state in ("starting", "not begun") and endpoint is not None and endpoint.state in READY:
        return "in service, waits for its turn"
    if state == "loading":
        return f"under load: {event.detail}"
    if state == "not begun" and standing.visits:
        return "still in the race"
    return {"not begun": "not started yet", "waiting": f"waiting: {event.detail if event else ''}"}.get(state, state)
