"""What the load generator observed of itself: for each subject a line that says whether all is well, and a table behind it.

Unknown is None. The load that it made, against the one that was asked for, is in `pacing_report`.
"""

from __future__ import annotations

import json
from statistics import median

import pandas as pd

from helpers import number_text as text
from helpers.errors import AnalysisError
from helpers.importers.importing import read_origins
from helpers.metrics.attempts import could_be_judged, was_overloaded
from helpers.report.columns import Column, numeric
from helpers.report.display import Folded, Prose, Table
from helpers.report.per_measurement import folded, in_order, share_of, spread, spread_columns
from helpers.run.folder import RunFolder
from helpers.run.records import AttemptFacts


def instrument_table(facts: list[AttemptFacts]) -> Folded | None:
    """How late and how busy the load processes were, and whether that shaped a load point; None where nothing was sent from
    here.
    """
    facts = in_order(f for f in facts if f.processes)
    if not facts:
        return None

    def cells(f: AttemptFacts) -> dict[str, object]:
        return spread("lag", f.loop_lag_ms) | {
            "processes": len(f.processes),
            "clock": f.clock_source,
            "cpu": " + ".join(f"{process.cpu_share * 100:.0f}" for process in f.processes),
            "limited": "; ".join(f.client_limited) or "no",
        }

    columns = [
        "processes",
        "clock",
        *spread_columns("lag", "event-loop lag", decimals=2),
        "cpu",
        "limited",
    ]
    caption = (
        "The load generator on itself. Event-loop lag: how late its latest process served a timer. A load point that the "
        "client limited feeds no verdict."
    )
    return folded(_instrument_line(facts), facts, cells, columns, caption)


def node_table(facts: list[AttemptFacts]) -> Folded | None:
    """The load machines of a cluster: one row for each; None where this machine sent the load."""
    nodes = dict.fromkeys(node.words for f in facts for node in f.nodes)
    if not nodes:
        return None
    rows = pd.DataFrame([_node_row(words, facts) for words in nodes])
    columns = [
        Column("node", "load machine", wraps=True),
        numeric("measurements", "measurements", decimals=0),
        numeric("requests", "requests", decimals=0),
        numeric("cpu", "most of a core, %", decimals=0),
        numeric("lag_ms", "event-loop lag p99, ms", decimals=2),
        numeric("round_trip_ms", "to the endpoint, ms", decimals=2),
        numeric("clock_ms", "clock known to, ms", decimals=3),
        numeric("moved_ms", "clock moved by, ms", decimals=3),
    ]
    caption = (
        "The machines that sent the load, over all measurements; CPU and lag are those of the process that had most. To the "
        "endpoint: the median of the shortest TCP connects before each measurement. Clock: the times of each machine are "
        "shifted to the clock of the machine that ran notebook 03; the offset was found by round trips, is wrong by at most the "
        "figure given, and moved by at most the last one during a measurement."
    )
    return Folded(_node_line(rows), Table(rows, columns, caption))


def _node_row(words: str, facts: list[AttemptFacts]) -> dict[str, object]:
    of_node = [node for f in facts for node in f.nodes if node.words == words]
    processes = [process for f in facts for process in f.processes if process.node == words]
    trips_ms = [node.round_trip_ms for node in of_node if node.round_trip_ms is not None]
    clocks = [(node.clock_before, node.clock_after) for node in of_node]
    return {
        "node": words,
        "measurements": len(of_node),
        "requests": sum(process.requests for process in processes),
        "cpu": max((process.cpu_share * 100 for process in processes), default=None),
        "lag_ms": max((process.loop_lag_ms["p99"] for process in processes), default=None),
        "round_trip_ms": median(trips_ms) if trips_ms else None,
        "clock_ms": max(clock.error_ns for pair in clocks for clock in pair) / 1e6,
        "moved_ms": max(abs(after.offset_ns - before.offset_ns) for before, after in clocks) / 1e6,
    }


def _node_line(rows: pd.DataFrame) -> str:
    known = text.significant(rows["clock_ms"].max())
    return f"{text.plural(len(rows), 'load machine')} sent the load, on clocks whose difference is known to {known} ms."


def _instrument_line(facts: list[AttemptFacts]) -> str:
    limited = [f for f in facts if f.client_limited]
    late_ms = max(f.loop_lag_ms["p99"] for f in facts)
    share = max(process.cpu_share for f in facts for process in f.processes)
    how = (
        f"served its timers at most {text.significant(late_ms)} ms late (p99), and none of its processes used more than "
        f"{text.percent(share)} of a core."
    )
    if not limited:
        return f"The load generator kept up at {share_of(len(facts), facts)}: it {how}"
    named = text.some(f"{f.words} ({'; '.join(f.client_limited)})" for f in limited)
    return (
        f"The load generator limited {share_of(len(limited), facts)}, which the verdict leaves out: {named}. It {how}"
    )


def connection_table(facts: list[AttemptFacts]) -> Folded | None:
    """What connecting took, which is in no latency; None where no connection is known of."""
    facts = in_order(facts)
    if not any(f.connect_ms or f.tls_ms for f in facts):
        return None

    def cells(f: AttemptFacts) -> dict[str, object]:
        return {"count": (f.connect_ms or {}).get("n")} | spread("connect", f.connect_ms) | spread("tls", f.tls_ms)

    columns = [
        "count",
        *spread_columns("connect", "TCP connect", decimals=2),
        *spread_columns("tls", "TLS handshake", decimals=2),
    ]
    return folded(_connection_line(facts), facts, cells, columns, "Connecting, which no latency contains.")


def _connection_line(facts: list[AttemptFacts]) -> str:
    connects, handshakes = ([f for f in of if f] for of in zip(*((f.connect_ms, f.tls_ms) for f in facts), strict=True))
    made = [
        f"{text.plural(int(sum(one['n'] for one in many)), noun)} took at most {text.significant(longest)} ms"
        for many, noun in ((connects, "TCP connect"), (handshakes, "TLS handshake"))
        for longest in [max((one["max"] for one in many), default=None)]
        if many
    ]
    return f"Connecting is in no latency: {' each, '.join(made)} each."


def steadiness_table(facts: list[AttemptFacts]) -> Folded | None:
    """The steady window of each load point, and what speaks for or against its being steady; None where nothing was measured."""
    facts = in_order(facts)
    if not facts:
        return None

    def cells(f: AttemptFacts) -> dict[str, object]:
        steady = "not looked for" if f.steady is None else "yes" if f.steady else "no"
        return {"window_s": f.window_s, "ended": f.ended_because, "steady": steady, "because": f.steady_because}

    caption = "Was a steady state reached? Without one a load point cannot show that the SLO is met."
    if not all(could_be_judged(f) for f in facts):
        caption += " A race measures a load point again, up to twice, where no block of it can be judged."
    return folded(_steadiness_line(facts), facts, cells, ["window_s", "ended", "steady", "because"], caption)


def _steadiness_line(facts: list[AttemptFacts]) -> str:
    looked_for = [f for f in facts if f.steady is not None]
    if not looked_for:
        return f"No steady state was looked for: {text.some(dict.fromkeys(f.steady_because for f in facts))}."
    overloaded = [f for f in looked_for if was_overloaded(f)]
    unsteady = [f for f in looked_for if not f.steady and f not in overloaded]
    steady = len(looked_for) - len(overloaded) - len(unsteady)
    said = [f"{share_of(steady, facts)} reached a steady state."] if steady else []
    if unsteady:
        named = text.some(f.words for f in unsteady)
        said.append(f"{share_of(len(unsteady), facts)} did not, and cannot show that the SLO is met: {named}.")
    if overloaded:
        named = text.some(f.words for f in overloaded)
        said.append(
            f"In {share_of(len(overloaded), facts)} latency rose throughout, to more than twice what it was: {named}."
        )
    return " ".join(said)


def calibration_table(run: RunFolder) -> Folded | Prose | None:
    """What the load generator itself adds, from its calibration against a stub on loopback; or that there was none. None where
    the results were imported.

    Raises AnalysisError where the calibration cannot be read.
    """
    path = run.instrument_file
    if read_origins(run):
        return None
    if not path.is_file():
        return Prose("The load generator was not calibrated in this run: what it adds to a latency is not known.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        machines = found.get("nodes", [found])
        rows = pd.DataFrame(
            {"node": machine.get("node")}
            | {name: level[name] for name in ("concurrency", "requests_per_s", "cpu_ms_per_request")}
            | spread("ttft", level["ttft_overhead_ms"], "mean")
            | spread("latency", level["latency_overhead_ms"], "mean")
            for machine in machines
            for level in machine["levels"]
        )
        clock = ", ".join(dict.fromkeys(machine["clock_source"] for machine in machines))
        processes = machines[0]["load_processes"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise AnalysisError(
            f"{path}: is no calibration ({type(error).__name__}: {error}). Expected clock_source, load_processes and "
            "levels. Next: delete it, or run notebooks/03_run_inference again"
        ) from None
    columns = [
        *([Column("node", "load machine", wraps=True)] if rows["node"].notna().any() else []),
        "concurrency",
        numeric("requests_per_s", "requests/s", decimals=0),
        *spread_columns("ttft", "TTFT overhead", 3, "mean"),
        *spread_columns("latency", "latency overhead", 3, "mean"),
        "cpu_ms_per_request",
    ]
    caption = (
        f"Calibration: what the load generator (load processes: {processes}, receive stamps by {clock}) added "
        "to the times of a server on loopback that knows when it sent each byte."
    )
    return Folded(_calibration_line(rows), Table(rows, columns, caption))


def _calibration_line(rows: pd.DataFrame) -> str:
    most = {
        name: text.significant(rows[name].max()) for name in ("ttft_mean", "latency_mean", "ttft_p99", "latency_p99")
    }
    levels = " and ".join(f"{level:g}" for level in dict.fromkeys(rows["concurrency"]))
    return (
        f"By its calibration at concurrency {levels}, the load generator adds at most {most['ttft_mean']} ms to a TTFT and "
        f"{most['latency_mean']} ms to a latency on average (p99: {most['ttft_p99']} and {most['latency_p99']} ms)."
    )
