"""The load that was asked for against the one that was made: concurrency, think times, or the arrivals of a schedule."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from helpers import number_text as text
from helpers.report.columns import numeric
from helpers.report.display import Folded
from helpers.report.per_measurement import folded, in_order, share_of, spread, spread_columns
from helpers.run.records import ArrivalFacts, AttemptFacts
from helpers.verdict.load_point_checks import CONCURRENCY_TOLERANCE, RATE_TOLERANCE


def pacing_table(facts: list[AttemptFacts], points: pd.DataFrame) -> Folded | None:
    """The load that was asked for against the one that was made; None where nothing was measured. `points`:
    `summary.summarise`.
    """
    facts = in_order(facts)
    if not facts:
        return None
    return _schedule_table(facts) if any(f.load.is_open for f in facts) else _turnaround_table(facts, points)


def _turnaround_table(facts: list[AttemptFacts], points: pd.DataFrame) -> Folded:
    known = points.set_index(["option", "dataset", "load"])["achieved_concurrency"].to_dict()

    def in_flight(f: AttemptFacts) -> float | None:
        return known.get((f.option, f.dataset, f.load.label))

    def cells(f: AttemptFacts) -> dict[str, object]:
        return {"achieved_concurrency": in_flight(f)} | spread("turnaround", f.turnaround_ms)

    columns = ["achieved_concurrency", *spread_columns("turnaround", "turnaround", decimals=3)]
    if facts[0].load.kind == "users":
        caption = (
            "Users of conversations: requests in flight (over all repetitions), which are fewer than users because these think, "
            "and the turnaround: how long after its think time a turn was sent."
        )
        return folded(_users_line(facts), facts, cells, columns, caption)
    caption = (
        "Closed loop: requests in flight against workers (over all repetitions), and the turnaround from an answer's end "
        "to the worker's next send."
    )
    return folded(_concurrency_line(facts, in_flight), facts, cells, columns, caption)


def _users_line(facts: list[AttemptFacts]) -> str:
    turnaround_ms = [f.turnaround_ms["p99"] for f in facts if f.turnaround_ms]
    if not turnaround_ms:
        return "How long after their think time users sent their turns is not known."
    return f"Users sent a turn within {text.significant(max(turnaround_ms))} ms (p99) of the end of its think time."


def _concurrency_line(facts: list[AttemptFacts], in_flight: Callable[[AttemptFacts], float | None]) -> str:
    shares = [(f, in_flight(f) / f.level) for f in facts if text.is_known(in_flight(f))]
    turnaround_ms = [f.turnaround_ms["p99"] for f in facts if f.turnaround_ms]
    again = f" A worker sent again within {text.significant(max(turnaround_ms))} ms (p99)." if turnaround_ms else ""
    if not shares:
        return f"How many requests were in flight is not known.{again}"
    off = [(f, share) for f, share in shares if not CONCURRENCY_TOLERANCE <= share <= 1 / CONCURRENCY_TOLERANCE]
    if off:
        worst = sorted(off, key=lambda one: one[1])
        named = text.some(f"{f.words} ({text.percent(share, 1)} of it)" for f, share in worst)
        return f"{share_of(len(off), facts)} did not hold the concurrency that was asked for: {named}.{again}"
    lowest, highest = (text.percent(of(share for _, share in shares), 1) for of in (min, max))
    average = lowest if lowest == highest else f"{lowest} to {highest}"
    held = f"{share_of(len(shares), facts)} held the concurrency that was asked for"
    return f"{held}: on average {average} of it was in flight.{again}"


def _schedule_table(facts: list[AttemptFacts]) -> Folded:
    def cells(f: AttemptFacts) -> dict[str, object]:
        return spread("lag", f.schedule_lag_ms) | _arrivals("asked", f.scheduled) | _arrivals("sent", f.achieved)

    regularity = (
        ("rate", "sessions/s" if facts[0].load.kind == "sessions" else "requests/s", 2),
        ("gap_cv", "gap CV", 3),
        ("dispersion", "dispersion", 2),
        ("autocorrelation", "autocorrelation of gaps", 3),
    )
    columns = [
        *spread_columns("lag", "schedule lag", decimals=3),
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
    return folded(_schedule_line(facts), facts, cells, columns, caption)


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
        return (
            f"{share_of(len(off), facts)} had a rate more than {RATE_TOLERANCE:.0%} off the schedule's: {named}.{late}"
        )
    most = max(abs(change) for _, change in changes)
    return f"{share_of(len(changes), facts)} kept the schedule: rates are within {text.percent(most, 1)} of it.{late}"
