"""What the load generator observed of itself: for each subject a line that says whether all is well, and a table behind it
with one row per load point, or per measurement where load points were measured repeatedly. Unknown is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from statistics import median

import pandas as pd

from helpers import number_text as text
from helpers.errors import AnalysisError
from helpers.importers.importing import read_origins
from helpers.metrics.attempts import could_be_judged, was_overloaded
from helpers.report.columns import Column, numeric
from helpers.report.display import Folded, Prose, Table
from helpers.run.folder import RunFolder
from helpers.run.records import ArrivalFacts, AttemptFacts
from helpers.verdict.load_point_checks import CONCURRENCY_TOLERANCE, RATE_TOLERANCE


def instrument_table(facts: list[AttemptFacts]) -> Folded | None:
    """How late and how busy the load processes were, and whether that shaped a load point; None where nothing was sent from
    here.
    """
    facts = _in_order(f for f in facts if f.processes)
    if not facts:
        return None
    rows = pd.DataFrame(
        _names(f)
        | {
            "processes": len(f.processes),
            "clock": f.clock_source,
            "cpu": " + ".join(f"{process.cpu_share * 100:.0f}" for process in f.processes),
            "limited": "; ".join(f.client_limited) or "no",
        }
        | _spread("lag", f.loop_lag_ms)
        for f in facts
    )
    columns = [
        *_name_columns(facts),
        "processes",
        "clock",
        *_spread_columns("lag", "event-loop lag", decimals=2),
        "cpu",
        "limited",
    ]
    caption = (
        "The load generator on itself. Event-loop lag: how late its latest process served a timer. A load point that the "
        "client limited feeds no verdict."
    )
    return Folded(_instrument_line(facts), Table(rows, columns, caption))


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
        return f"The load generator kept up at {_share(len(facts), facts)}: it {how}"
    named = text.some(f"{f.words} ({'; '.join(f.client_limited)})" for f in limited)
    return f"The load generator limited {_share(len(limited), facts)}, which the verdict leaves out: {named}. It {how}"


def pacing_table(facts: list[AttemptFacts], points: pd.DataFrame) -> Folded | None:
    """The load that was asked for against the one that was made; None where nothing was measured. `points`:
    `summary.summarise`.
    """
    facts = _in_order(facts)
    if not facts:
        return None
    return _schedule_table(facts) if any(f.load.is_open for f in facts) else _turnaround_table(facts, points)


def _turnaround_table(facts: list[AttemptFacts], points: pd.DataFrame) -> Folded:
    known = points.set_index(["option", "dataset", "load"])["achieved_concurrency"].to_dict()
    achieved = [known.get((f.option, f.dataset, f.load.label)) for f in facts]
    rows = pd.DataFrame(
        _names(f) | {"achieved_concurrency": in_flight} | _spread("turnaround", f.turnaround_ms)
        for f, in_flight in zip(facts, achieved, strict=True)
    )
    columns = [
        *_name_columns(facts),
        "achieved_concurrency",
        *_spread_columns("turnaround", "turnaround", decimals=3),
    ]
    if facts[0].load.kind == "users":
        caption = (
            "Users of conversations: requests in flight (over all repetitions), which are fewer than users because these think, "
            "and the turnaround: how long after its think time a turn was sent."
        )
        return Folded(_users_line(facts), Table(rows, columns, caption))
    caption = (
        "Closed loop: requests in flight against workers (over all repetitions), and the turnaround from an answer's end "
        "to the worker's next send."
    )
    return Folded(_concurrency_line(facts, achieved), Table(rows, columns, caption))


def _users_line(facts: list[AttemptFacts]) -> str:
    turnaround_ms = [f.turnaround_ms["p99"] for f in facts if f.turnaround_ms]
    if not turnaround_ms:
        return "How long after their think time users sent their turns is not known."
    return f"Users sent a turn within {text.significant(max(turnaround_ms))} ms (p99) of the end of its think time."


def _concurrency_line(facts: list[AttemptFacts], achieved: Sequence[float | None]) -> str:
    shares = [
        (f, in_flight / f.level) for f, in_flight in zip(facts, achieved, strict=True) if text.is_known(in_flight)
    ]
    turnaround_ms = [f.turnaround_ms["p99"] for f in facts if f.turnaround_ms]
    again = f" A worker sent again within {text.significant(max(turnaround_ms))} ms (p99)." if turnaround_ms else ""
    if not shares:
        return f"How many requests were in flight is not known.{again}"
    off = [(f, share) for f, share in shares if not CONCURRENCY_TOLERANCE <= share <= 1 / CONCURRENCY_TOLERANCE]
    if off:
        worst = sorted(off, key=lambda one: one[1])
        named = text.some(f"{f.words} ({text.percent(share, 1)} of it)" for f, share in worst)
        return f"{_share(len(off), facts)} did not hold the concurrency that was asked for: {named}.{again}"
    lowest, highest = (text.percent(of(share for _, share in shares), 1) for of in (min, max))
    in_flight = lowest if lowest == highest else f"{lowest} to {highest}"
    held = f"{_share(len(shares), facts)} held the concurrency that was asked for"
    return f"{held}: on average {in_flight} of it was in flight.{again}"


def _schedule_table(facts: list[AttemptFacts]) -> Folded:
    rows = pd.DataFrame(
        _names(f) | _spread("lag", f.schedule_lag_ms) | _arrivals("asked", f.scheduled) | _arrivals("sent", f.achieved)
        for f in facts
    )
    regularity = (
        ("rate", "sessions/s" if facts[0].load.kind == "sessions" else "requests/s", 2),
        ("gap_cv", "gap CV", 3),
        ("dispersion", "dispersion", 2),
        ("autocorrelation", "autocorrelation of gaps", 3),
    )
    columns = [
        *_name_columns(facts),
        *_spread_columns("lag", "schedule lag", decimals=3),
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
    return Folded(_schedule_line(facts), Table(rows, columns, caption))


def _arrivals(prefix: str, arrivals: ArrivalFacts | None) -> dict[str, float | None]:
    names = ("rate", "gap_cv", "dispersion", "autocorrelation")
    return {f"{prefix}_{name}": None if arrivals is None else getattr(arrivals, name) for name in names}


def _schedule_line(facts: list[AttemptFacts]) -> str:
    lag_ms = [f.schedule_lag_ms["p99"] for f in facts if f.schedule_lag_ms]
    late = f" Requests went out at most {text.significant(max(lag_ms))} ms late (p99)." if lag_ms else ""
    changes = [(f, f.achieved.rate / f.scheduled.rate - 1) for f in facts if f.achieved and f.scheduled]
    if not changes:
        return f"How the rates that were sent compare with the schedule's is not known.{late}"
    off = sorted((one for one in changes if abs(one[1]) > RATE_TOLERANCE), key=lambda one: -abs(one[1]))
    if off:
        named = text.some(f"{f.words} ({change:+.1%})" for f, change in off)
        return f"{_share(len(off), facts)} had a rate more than {RATE_TOLERANCE:.0%} off the schedule's: {named}.{late}"
    most = max(abs(change) for _, change in changes)
    return f"{_share(len(changes), facts)} kept the schedule: rates are within {text.percent(most, 1)} of it.{late}"


def connection_table(facts: list[AttemptFacts]) -> Folded | None:
    """What connecting took, which is in no latency; None where no connection is known of."""
    facts = _in_order(facts)
    if not any(f.connect_ms or f.tls_ms for f in facts):
        return None
    rows = pd.DataFrame(
        _names(f)
        | {"count": (f.connect_ms or {}).get("n")}
        | _spread("connect", f.connect_ms)
        | _spread("tls", f.tls_ms)
        for f in facts
    )
    columns = [
        *_name_columns(facts),
        "count",
        *_spread_columns("connect", "TCP connect", decimals=2),
        *_spread_columns("tls", "TLS handshake", decimals=2),
    ]
    return Folded(_connection_line(facts), Table(rows, columns, "Connecting, which no latency contains."))


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
    facts = _in_order(facts)
    if not facts:
        return None
    rows = pd.DataFrame(
        _names(f)
        | {
            "window_s": f.window_s,
            "ended": f.ended_because,
            "steady": "not looked for" if f.steady is None else "yes" if f.steady else "no",
            "because": f.steady_because,
        }
        for f in facts
    )
    columns = [*_name_columns(facts), "window_s", "ended", "steady", "because"]
    caption = "Was a steady state reached? Without one a load point cannot show that the SLO is met."
    if not all(could_be_judged(f) for f in facts):
        caption += " A race measures a load point again, up to twice, where no block of it can be judged."
    return Folded(_steadiness_line(facts), Table(rows, columns, caption))


def _steadiness_line(facts: list[AttemptFacts]) -> str:
    looked_for = [f for f in facts if f.steady is not None]
    if not looked_for:
        return f"No steady state was looked for: {text.some(dict.fromkeys(f.steady_because for f in facts))}."
    overloaded = [f for f in looked_for if was_overloaded(f)]
    unsteady = [f for f in looked_for if not f.steady and f not in overloaded]
    steady = len(looked_for) - len(overloaded) - len(unsteady)
    said = [f"{_share(steady, facts)} reached a steady state."] if steady else []
    if unsteady:
        named = text.some(f.words for f in unsteady)
        said.append(f"{_share(len(unsteady), facts)} did not, and cannot show that the SLO is met: {named}.")
    if overloaded:
        named = text.some(f.words for f in overloaded)
        said.append(f"{_share(len(overloaded), facts)} received more requests than were served: {named}.")
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
            | _spread("ttft", level["ttft_overhead_ms"], "mean")
            | _spread("latency", level["latency_overhead_ms"], "mean")
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
        *_spread_columns("ttft", "TTFT overhead", 3, "mean"),
        *_spread_columns("latency", "latency overhead", 3, "mean"),
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


# --- names and numbers --------------------------------------------------------------------------------------------


def _in_order(facts: Iterable[AttemptFacts]) -> list[AttemptFacts]:
    """By option and dataset, each in order of level and repetition."""
    return sorted(facts, key=lambda f: (f.option, f.dataset, f.level, f.repetition))


def _names(f: AttemptFacts) -> dict[str, str | int]:
    return {"option": f.option, "dataset": f.dataset, "load": f.load.label, "measurement": f.repetition}


def _are_repeated(facts: list[AttemptFacts]) -> bool:
    return len({(f.option, f.dataset, f.level) for f in facts}) < len(facts)


def _name_columns(facts: list[AttemptFacts]) -> list[Column | str]:
    """The columns of `_names`: which measurement of its load point it is, only where one has several."""
    which = [numeric("measurement", "measurement", decimals=0)] if _are_repeated(facts) else []
    return ["option", "dataset", "load", *which]


def _share(count: int, facts: list[AttemptFacts]) -> str:
    """For example `2 of 18 load points`."""
    return f"{count:,} of {text.plural(len(facts), 'measurement' if _are_repeated(facts) else 'load point')}"


def _spread(prefix: str, values: dict[str, float] | None, *more: str) -> dict[str, float | None]:
    """p50, p99 and max (and more) of a measurement under column names of their own; None where it was not made."""
    return {f"{prefix}_{name}": (values or {}).get(name) for name in (*more, "p50", "p99", "max")}


def _spread_columns(prefix: str, header: str, decimals: int, *more: str) -> list[Column]:
    """The columns of `_spread`, in ms; only the first has the whole header."""
    return [
        numeric(f"{prefix}_{name}", f"{header} {name}, ms" if i == 0 else f"{name}, ms", decimals=decimals)
        for i, name in enumerate((*more, "p50", "p99", "max"))
    ]
