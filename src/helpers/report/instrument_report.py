"""What the load generator observed of itself, as tables: one row per load point and repetition. Unknown is None."""

from __future__ import annotations

import json

import pandas as pd

from helpers.errors import AnalysisError
from helpers.importers.importing import read_origins
from helpers.metrics.attempts import could_be_judged
from helpers.report.columns import Column, numeric
from helpers.report.display import Prose, Table
from helpers.run.folder import RunFolder
from helpers.run.records import ArrivalFacts, AttemptFacts


def instrument_table(facts: list[AttemptFacts]) -> Table | Prose:
    """How late and how busy the load processes were, and whether that shaped a load point."""
    if not any(f.processes for f in facts):
        return Prose(
            "Nothing was sent from here, so there is no load generator to report on: the results were imported."
        )
    rows = pd.DataFrame(
        {
            "load_point": f.load_point,
            "processes": len(f.processes),
            "clock": f.clock_source,
            "cpu": " + ".join(f"{process.cpu_share * 100:.0f}" for process in f.processes),
            "limited": "; ".join(f.client_limited) or "no",
        }
        | _spread("lag", f.loop_lag_ms)
        for f in facts
    )
    columns = [
        "load_point",
        "processes",
        "clock",
        *_spread_columns("lag", "event-loop lag", "ms", decimals=2),
        "cpu",
        "limited",
    ]
    caption = (
        "The load generator on itself. Event-loop lag: how late its latest process served a timer. A load point that the "
        "client limited feeds no verdict."
    )
    return Table(rows, columns, caption)


def pacing_table(facts: list[AttemptFacts], points: pd.DataFrame) -> Table | Prose:
    """The load that was asked for against the one that was made. `points`: `summary.summarise`."""
    if not facts:
        return Prose("")
    return _schedule_table(facts) if any(f.load.is_open for f in facts) else _turnaround_table(facts, points)


def _turnaround_table(facts: list[AttemptFacts], points: pd.DataFrame) -> Table:
    achieved = points.set_index(["option", "dataset", "load"])["achieved_concurrency"].to_dict()
    rows = pd.DataFrame(
        {
            "load_point": f.load_point,
            "asked": f.level,
            "achieved_concurrency": achieved.get((f.option, f.dataset, f.load.label)),
        }
        | _spread("turnaround", f.turnaround_ms)
        for f in facts
    )
    columns = [
        "load_point",
        numeric("asked", "asked concurrency", decimals=0),
        "achieved_concurrency",
        *_spread_columns("turnaround", "turnaround", "ms", decimals=3),
    ]
    caption = (
        "Closed loop: requests in flight against workers (over all repetitions), and the turnaround from an answer's end "
        "to the worker's next send."
    )
    return Table(rows, columns, caption)


def _schedule_table(facts: list[AttemptFacts]) -> Table:
    rows = pd.DataFrame(
        {"load_point": f.load_point}
        | _spread("lag", f.schedule_lag_ms)
        | _arrivals("asked", f.scheduled)
        | _arrivals("sent", f.achieved)
        for f in facts
    )
    regularity = (
        ("rate", "requests/s", 2),
        ("gap_cv", "gap CV", 3),
        ("dispersion", "dispersion", 2),
        ("autocorrelation", "autocorrelation of gaps", 3),
    )
    columns = [
        "load_point",
        *_spread_columns("lag", "schedule lag", "ms", decimals=3),
        *(
            numeric(f"{when}_{name}", f"{header}, {'scheduled' if when == 'asked' else 'sent'}", decimals=decimals)
            for name, header, decimals in regularity
            for when in ("asked", "sent")
        ),
    ]
    caption = (
        "Open loop: how late requests were sent, and the arrivals as scheduled and as sent. Gap CV and dispersion are 0 for "
        "evenly spaced arrivals and 1 for Poisson ones; gaps that do not depend on each other have autocorrelation 0."
    )
    return Table(rows, columns, caption)


def _arrivals(prefix: str, arrivals: ArrivalFacts | None) -> dict[str, float | None]:
    names = ("rate", "gap_cv", "dispersion", "autocorrelation")
    return {f"{prefix}_{name}": None if arrivals is None else getattr(arrivals, name) for name in names}


def connection_table(facts: list[AttemptFacts]) -> Table | Prose:
    """What connecting took, which is in no latency."""
    if not facts:
        return Prose("")
    rows = pd.DataFrame(
        {"load_point": f.load_point, "count": (f.connect_ms or {}).get("n")}
        | _spread("connect", f.connect_ms)
        | _spread("tls", f.tls_ms)
        for f in facts
    )
    columns = [
        "load_point",
        "count",
        *_spread_columns("connect", "TCP connect", "ms", decimals=2),
        *_spread_columns("tls", "TLS handshake", "ms", decimals=2),
    ]
    return Table(rows, columns, "Connecting, which no latency contains.")


def steadiness_table(facts: list[AttemptFacts]) -> Table | Prose:
    """The steady window of each load point, and what speaks for or against its being steady."""
    if not facts:
        return Prose("")
    rows = pd.DataFrame(
        {
            "load_point": f.load_point,
            "window_s": f.window_s,
            "ended": f.ended_because,
            "steady": "not looked for" if f.steady is None else "yes" if f.steady else "no",
            "because": f.steady_because,
        }
        for f in facts
    )
    columns = ["load_point", "window_s", "ended", "steady", "because"]
    caption = "Was a steady state reached? Without one a load point cannot show that the SLO is met."
    if not all(could_be_judged(f) for f in facts):
        caption += " A race measures a load point again, up to twice, where no block of it can be judged."
    return Table(rows, columns, caption)


def calibration_table(run: RunFolder) -> Table | Prose:
    """What the load generator itself adds, from its calibration against a stub on loopback; or that there was none.

    Raises AnalysisError where the calibration cannot be read.
    """
    path = run.instrument_file
    if read_origins(run):
        return Prose("")
    if not path.is_file():
        return Prose("The load generator was not calibrated in this run: what it adds to a latency is not known.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = pd.DataFrame(
            {name: level[name] for name in ("concurrency", "requests_per_s", "cpu_ms_per_request")}
            | _spread("ttft", level["ttft_overhead_ms"], "mean")
            | _spread("latency", level["latency_overhead_ms"], "mean")
            for level in found["levels"]
        )
        clock, processes = found["clock_source"], found["load_processes"]
    except (ValueError, KeyError, TypeError) as error:
        raise AnalysisError(
            f"{path}: is no calibration ({type(error).__name__}: {error}). Expected clock_source, load_processes and "
            "levels. Next: delete it, or run notebooks/03_run_inference again"
        ) from None
    columns = [
        "concurrency",
        numeric("requests_per_s", "requests/s", decimals=0),
        *_spread_columns("ttft", "TTFT overhead", "ms", decimals=3, first="mean"),
        *_spread_columns("latency", "latency overhead", "ms", decimals=3, first="mean"),
        "cpu_ms_per_request",
    ]
    caption = (
        f"Calibration: what the load generator (load processes: {processes}, receive stamps by {clock}) added "
        "to the times of a server on loopback that knows when it sent each byte."
    )
    return Table(rows, columns, caption)


def _spread(prefix: str, values: dict[str, float] | None, *more: str) -> dict[str, float | None]:
    """p50, p99 and max (and more) of a measurement under column names of their own; None where it was not made."""
    return {f"{prefix}_{name}": (values or {}).get(name) for name in (*more, "p50", "p99", "max")}


def _spread_columns(prefix: str, header: str, unit: str, decimals: int, first: str | None = None) -> list[Column]:
    """The columns of `_spread`; only the first has the whole header."""
    names = [*([first] if first else []), "p50", "p99", "max"]
    return [
        numeric(f"{prefix}_{name}", f"{header} {name}, {unit}" if i == 0 else f"{name}, {unit}", decimals=decimals)
        for i, name in enumerate(names)
    ]
