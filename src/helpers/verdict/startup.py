"""How long each option took to start: from the create call to in service, its first answer, and its first requests under load.

Only of servers that the run made: of others nobody knows when they started. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.strict import slug
from helpers.endpoints.preflight import first_answers
from helpers.metrics.formulas import with_latencies
from helpers.metrics.replicates import replicate_of
from helpers.metrics.single_requests import FOLDER
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.records import read_attempt_facts, read_requests

FIRST = 10
"""Requests that are compared with those of the steady window, which has at least as many others."""


@dataclass(frozen=True)
class Startup:
    """The start of one endpoint, the option's last."""

    option: str
    startup_s: float
    """From the create call to in service."""
    first_answer_s: float | None
    """Of the first request, which has the option's longest prompt; None if none was answered."""
    first_n: int
    """Answers among the first requests under load."""
    first_ratio: float | None
    """Their median latency ÷ that of the steady window of the same load point; None where either is unknown."""


def read_startups(run: RunFolder, endpoints: Sequence[EndpointRecord], config: BenchmarkConfig) -> list[Startup]:
    """The start of the endpoint of each option that the run made and that came into service; of replicates the first."""
    names = [option.name for option in config.options]
    answered = {answer.option: answer.latency_s for answer in first_answers(run)}
    return [
        Startup(
            record.option, record.startup_s(), answered.get(record.option), *_first_against_steady(record, run, config)
        )
        for record in endpoints
        if record.startup_s() is not None and record.option in names
    ]


def _first_against_steady(record: EndpointRecord, run: RunFolder, config: BenchmarkConfig) -> tuple[int, float | None]:
    """Of the load point that was measured first on this endpoint, single requests among them: answers among the first FIRST
    requests, and the ratio of medians.
    """
    created_ns = datetime.fromisoformat(record.create_called_at).timestamp() * 1e9
    begun = [
        (facts.clock_pairs[0][1], path)
        for folder in (run.path / FOLDER, run.requests)
        for path in folder.glob(f"{slug(record.option)}__*.parquet")
        if (facts := read_attempt_facts(path)).clock_pairs
        and (config.endpoints.replicates == 1 or replicate_of(facts, config) == 1)
    ]
    begun = [(at, path) for at, path in begun if at >= created_ns]  # others were of an earlier endpoint
    if not begun:
        return 0, None
    _, path = min(begun)
    rows = with_latencies(read_requests(path.parent, attempts=[path.stem])).sort_values("sent_ns")
    first, later = rows.head(FIRST), rows.iloc[FIRST:]
    steady = later[later["ok"] & (later["phase"] == "steady")]["latency_s"]
    first = first[first["ok"]]["latency_s"]
    if first.empty or len(steady) < FIRST:
        return len(first), None
    return len(first), float(first.median() / steady.median())
