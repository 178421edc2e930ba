"""Did the service of an option move during its visit? An early measurement of a load point beside a late one.

The interval of a load point is made of its own window, so what changes from one load point to the next is not in it. Where a
load point was measured both early and late in the visit of its option, these two are compared; else a control block at the
end of the visit comes back to an early one (`helpers.load.control`). Control blocks are compared and do not count as
repetitions: they are short, and when they are measured the load points have been chosen and judged by what came before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.metrics.attempts import could_be_judged, was_overloaded
from helpers.metrics.formulas import with_latencies
from helpers.metrics.intervals import FEWEST_FREEDOM, LEAST_KEPT, memory
from helpers.run.records import AttemptFacts, read_facts, read_requests

FOLDER = "control_blocks"
"""Of a run, with the records of control blocks."""
APART = 0.5
"""Two measurements whose middles are this share of the visit apart stand for its start and its end."""
FALSE_ALARMS = 0.05
"""Probability that any option of a run is said to have moved where none did."""
LEAST = 0.02
"""A smaller change is not worth a warning."""
FEWEST = 20
"""Answers that are compared, of each measurement."""
COLUMNS = ["phase", "status", "output_tokens", "answered"]
COLUMNS += ["scheduled_ns", "sent_ns", "first_token_ns", "first_answer_ns", "last_token_ns"]


class Change(NamedTuple):
    """Of a mean latency, as a share of what it was at first, with its bounds."""

    value: float
    low: float
    high: float


class Move(NamedTuple):
    """How the latency of a load point changed over the visit of its option."""

    option: str
    dataset: str
    load: str
    first_n: int
    """Answers that are compared, of the early measurement."""
    last_n: int
    change: Change

    @property
    def is_shown(self) -> bool:
        """Is it more than chance, and large enough to matter?"""
        return not self.change.low <= 0 <= self.change.high and abs(self.change.value) >= LEAST


def is_controlled(option: OptionBase, config: BenchmarkConfig) -> bool:
    """Is an option to be measured both early and late? If `load.control` does not say: where it has several load points.

    Closed loops only: in an open one latency follows the queue, which comes and goes more slowly than a short block can tell.
    With replicates none: several endpoints differ anyway.
    """
    load = config.load
    if config.imported or load.level_kind != "closed_loop" or config.endpoints.replicates > 1:
        return False
    if load.control is not None:
        return load.control
    return len(config.datasets_of(option)) * load.most_levels * load.repetitions > 1


class Visit(NamedTuple):
    """When an option was measured, by the wall clock, in ns."""

    begin_ns: int
    end_ns: int

    @property
    def middle_ns(self) -> float:
        """Half-way."""
        return (self.begin_ns + self.end_ns) / 2


def visit_of(facts: Sequence[AttemptFacts]) -> Visit:
    """From the begin of the first attempt to the end of the last one."""
    return Visit(min(f.clock_pairs[0][1] for f in facts), max(f.clock_pairs[-1][1] for f in facts))


def comparable(facts: Sequence[AttemptFacts]) -> list[AttemptFacts]:
    """The attempts of an option that say how fast it answers, in the order of time."""
    usable = [f for f in facts if could_be_judged(f) and not was_overloaded(f)]
    return sorted(usable, key=lambda f: f.clock_pairs[0][1])


def apart(facts: Sequence[AttemptFacts]) -> tuple[AttemptFacts, AttemptFacts] | None:
    """Two attempts of an option at the same load point that stand for start and end of its visit; None where there are none."""
    pairs = []
    for last in (usable := comparable(facts)):
        first = next(f for f in usable if (f.dataset, f.load) == (last.dataset, last.load))
        pairs.append((visit_of([last]).middle_ns - visit_of([first]).middle_ns, first, last))
    distance_ns, *pair = max(pairs, key=lambda one: one[0], default=(0.0,))
    visit = visit_of(facts) if facts else Visit(0, 0)
    return tuple(pair) if distance_ns > 0 and distance_ns >= APART * (visit.end_ns - visit.begin_ns) else None


def read_moves(requests: Path, controls: Path, config: BenchmarkConfig) -> list[Move]:
    """How each option moved, of those that can be compared. `requests` and `controls` are the folders of records."""
    of_controls = read_facts(controls)
    pairs = []
    facts = read_facts(requests) if any(is_controlled(option, config) for option in config.options) else []
    for option in config.options:
        mine = [f for f in facts if f.option == option.name]
        control = next((f for f in of_controls if f.option == option.name), None)
        if control is not None and control.window_s is not None and not control.client_limited:
            firsts = [f for f in comparable(mine) if (f.dataset, f.load) == (control.dataset, control.load)]
            pairs += [(firsts[0], requests, control, controls)] if firsts else []
        elif is_controlled(option, config) and (pair := apart(mine)) is not None:
            pairs.append((pair[0], requests, pair[1], requests))
    confidence, moves = 1 - FALSE_ALARMS / max(1, len(pairs)), []
    for first, folder, last, of_last in pairs:
        latencies = _latencies_s(first, folder), _latencies_s(last, of_last)
        change = change_between(*latencies, confidence)
        if change is not None:
            moves.append(Move(first.option, first.dataset, first.load.label, *map(len, latencies), change))
    return moves


def _latencies_s(facts: AttemptFacts, folder: Path) -> np.ndarray:
    """Of the answers in a window, in the order of t0."""
    rows = with_latencies(read_requests(folder, COLUMNS, [facts.load_point]))
    rows = rows[(rows["phase"] == "steady") & rows["ok"] & (rows["latency_s"] > 0)].sort_values("t0_ns")
    return rows["latency_s"].to_numpy(dtype=float)


def change_between(first_s: np.ndarray, last_s: np.ndarray, confidence: float) -> Change | None:
    """By which share latency changed, with a two-sided interval; None where there are too few values.

    The difference of the mean logarithms, so that a few stalls decide nothing, by Student's t for two samples. Both are of the
    same load, so their variance and their memory (`intervals.memory`) are taken to be the same, and the longer one says more of
    them; with a memory of m lags the degrees of freedom are n / m - 2, and 2 m / n of the variance is lost with the means
    (Priestley, Spectral Analysis and Time Series, 1981, sections 5.3 and 6.2).
    """
    parts = [np.log(values) for values in (first_s, last_s)]
    n = sum(map(len, parts))
    if min(map(len, parts)) < FEWEST:
        return None
    about_own = [part - part.mean() for part in parts]
    effect, lags = memory(about_own)
    variance = sum(float((part**2).sum()) for part in about_own) / (n - 2)
    variance *= effect / max(LEAST_KEPT, 1 - 2 * lags / n) if lags > 1 else 1.0
    from scipy import special

    freedom = max(FEWEST_FREEDOM, n / lags - 2)
    error = math.sqrt(variance * sum(1 / len(part) for part in parts))
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    change = float(parts[1].mean() - parts[0].mean())
    return Change(*(math.expm1(value) for value in (change, change - half, change + half)))
