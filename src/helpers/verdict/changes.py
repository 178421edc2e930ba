"""What would change the answer: the limit at which another option would be recommended, and the price at which the next would be.

Computed, by judging the same requests again (`what_if`), not guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from helpers.config.benchmark import BenchmarkConfig
from helpers.run.folder import RunFolder, write_atomically
from helpers.verdict.analysis import Measurements
from helpers.verdict.verdict import OptionVerdict, Verdict
from helpers.verdict.what_if import WhatIf, settings_of

CHANGES_FILE = "changes.json"
STEP = 1.1
"""Ratio of two limits that are tried one after the other, until the answer changes."""
FARTHEST = 4.0
"""Limits up to so many times the config's, and down to that part of it, are tried."""
EXACT = 1.005
"""Ratio of two limits between which the answer changes, when the search ends."""


@dataclass(frozen=True)
class Change:
    """The answer from a limit on: to one side of it as the verdict says, to the other side another."""

    limit_s: float
    recommended: str | None
    """None: no option is shown to meet the SLO."""


@dataclass(frozen=True)
class Changes:
    """Where the nearest other answers lie; None where none was found within `FARTHEST`, or nothing is recommended."""

    metric: str
    """The latency that the limits are of (`chosen_points.main_latency`)."""
    stricter: Change | None
    laxer: Change | None


_Content = TypeAdapter(Changes)


def find_changes(measured: Measurements, verdict: Verdict, config: BenchmarkConfig, run: RunFolder) -> Changes:
    """The nearest limits of the main latency, below and above the config's, at which another option is recommended; written to
    metrics/changes.json.

    Limits are tried in steps of 10%, so what changes and changes back between two of them is not seen.
    """
    settings = settings_of(config)
    found = Changes(settings.metric, None, None)
    if verdict.recommended is not None:
        what_if = WhatIf(config, run, measured)

        def recommended(limit_s: float) -> str | None:
            return what_if.recommended_at(replace(settings, limit_s=limit_s), verdict.cost_basis)

        found = replace(
            found,
            stricter=_change(recommended, settings.limit_s, verdict.recommended, 1 / STEP),
            laxer=_change(recommended, settings.limit_s, verdict.recommended, STEP),
        )
    write_atomically(run.metrics / CHANGES_FILE, _Content.dump_json(found, indent=1).decode() + "\n")
    return found


def read_changes(run: RunFolder) -> Changes:
    """As notebook 04 wrote them."""
    return _Content.validate_json(run.require(f"metrics/{CHANGES_FILE}", "04_analyse_metrics").read_bytes())


def _change(recommended: Callable[[float], str | None], limit_s: float, now: str, step: float) -> Change | None:
    """From a limit on in steps, until another option is recommended; then between the last two by halves."""
    same, at = limit_s, limit_s * step
    while recommended(at) == now:
        same, at = at, at * step
        if not 1 / FARTHEST <= at / limit_s <= FARTHEST:
            return None
    while max(same / at, at / same) > EXACT:
        middle = (same * at) ** 0.5
        same, at = (middle, at) if recommended(middle) == now else (same, middle)
    return Change(at, recommended(at))


def runner_up(verdict: Verdict) -> OptionVerdict | None:
    """Of the options that are shown to meet the SLO, the next cheapest after the recommended one; None where there is none."""
    others = [o for o in verdict.options if o.status in ("tied", "feasible") and o.cost is not None]
    return min(others, key=lambda o: o.cost.value, default=None)
