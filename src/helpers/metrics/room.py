"""Open loops: is there room below capacity, so that a window speaks for the long run?

Near its capacity a queue remembers for a time that grows as (1 - ρ)^-2 (Whitt, Management Science 35, 1989): a window may lie
within one quiet spell, and nothing in it says so. So an open loop shows that a latency limit is met only where other load points
of the same option show room: a rate well below one that was kept up with, or below what a saturated server answered; or where
the window is long against that memory. Where more comes than can be served latency grows without end, and every limit is missed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.config.load import ROOM
from helpers.config.load_level import OPEN_LOOPS
from helpers.metrics.formulas import CLIENT_LIMITED, LATENCIES, MET, MISSED, UNDECIDED, judged_state
from helpers.metrics.intervals import Interval, ratio_interval

if TYPE_CHECKING:
    from helpers.config.benchmark import BenchmarkConfig, ServiceLevel

PARTS = 10
"""Into which the answers of a saturated server are divided: single ones come in step."""
MEMORIES = 100.0
"""A window of so many times service time / (1 - ρ)^2 needs no other load point."""


def saturated_rate(requests: pd.DataFrame, opened_ns: int, closed_ns: int) -> Interval:
    """95% interval of the requests per second that an overloaded server ends, from the second half of its window, in which
    requests wait all the time. `requests` are those of one repetition, all phases.
    """
    done = np.sort(requests["done_ns"].dropna().to_numpy(dtype="int64"))
    done = done[(done >= (opened_ns + closed_ns) // 2) & (done <= closed_ns)]
    edges = np.unique(np.linspace(0, len(done) - 1, PARTS + 1).astype(int)) if len(done) else np.array([], int)
    return ratio_interval(np.diff(edges).astype(float), np.diff(done[edges]) / 1e9)


def show_room(points: pd.DataFrame, slo: ServiceLevel, highest: float = math.inf) -> pd.DataFrame:
    """The table of load points (`summary.summarise`) with `shows_room` of each open loop, and what follows: without room no
    latency limit is met, and a percentile has no upper bound; beyond capacity each limit is missed. Rates above `highest` were
    measured for the others only.
    """
    if points.empty or not points["load_kind"].isin(OPEN_LOOPS).any():
        return points
    rows, highs = points.to_dict("index"), [f"{name}_p{slo.percentile:g}_high" for name in LATENCIES]
    for _, mine in points[points["load_kind"].isin(OPEN_LOOPS)].groupby(["option", "dataset"], sort=False):
        kept_up = mine[mine["steady"].eq(True) & ~mine["overloaded"] & ~mine["client_limited"]]
        answered = mine.loc[
            mine["overloaded"] & ~mine["client_limited"], ["saturated_per_s_low", "saturated_per_s_high"]
        ]
        answered = answered.astype(float).dropna()
        lowest = mine.loc[mine["level"].idxmin(), "latency_s_mean_ok"]
        for at, row in mine.iterrows():
            others = kept_up.loc[kept_up.index != at, "level"]
            known = max([*others, *answered["saturated_per_s_low"]], default=0.0)
            if len(answered) and row["level"] > answered["saturated_per_s_high"].min():
                _overwrite(rows[at], slo, {UNDECIDED: MISSED, MET: MISSED})
                rows[at]["shows_room"] = False
                continue
            has_room = row["level"] <= ROOM * known or _is_long(row, lowest, answered["saturated_per_s_low"].min())
            rows[at]["shows_room"] = has_room = bool(has_room and row["level"] <= highest)
            if not has_room:
                _overwrite(rows[at], slo, {MET: UNDECIDED})
                for name in highs:
                    if row[name] is not None:
                        rows[at][name] = math.inf
    return with_changes(points, rows, [*state_columns(slo), "shows_room", *highs])


def highest_asked(config: BenchmarkConfig) -> float:
    """The highest rate that a config names; a race measures a higher one to show room (`OpenLoop.possible_levels`)."""
    is_raced = config.load.kind == "open_loop" and config.load.race.enabled and not config.imported
    return config.load.largest_level().value if is_raced else math.inf


def state_columns(slo: ServiceLevel) -> list[str]:
    """What says whether load points meet the SLO, and what is lacking to show it."""
    names = ["error_rate", *slo.limits_s()]
    return ["slo", *(f"slo_{name}" for name in names), *(f"lacking_{name}" for name in names)]


def with_changes(points: pd.DataFrame, rows: dict[int, dict], changed: list[str]) -> pd.DataFrame:
    """The table with some columns from its changed rows (index -> row)."""
    return points.assign(**{name: [rows[at][name] for at in points.index] for name in changed}).copy()


def _is_long(row: pd.Series, service_s: float, capacity_per_s: float) -> bool:
    """Is the window long against the memory of the queue, at the utilisation that a saturated load point gives?"""
    if not capacity_per_s > row["level"]:  # NaN: none was saturated
        return False
    return row["window_s"] * (1 - row["level"] / capacity_per_s) ** 2 >= MEMORIES * service_s


def _overwrite(row: dict, slo: ServiceLevel, changed: dict[str, str]) -> None:
    """Change the states of the latency limits, and the state of the load point that follows from them."""
    for name in slo.limits_s():
        before = row[f"slo_{name}"]
        if before in changed:
            row[f"slo_{name}"] = changed[before]
            row[f"lacking_{name}"] = 0 if changed[before] == MISSED else np.nan
    rejudge(row, slo)


def rejudge(row: dict, slo: ServiceLevel) -> None:
    """Write the state of a load point from those of its limits. Of results that came in groups (`groups`) nobody knows whether a
    load point was steady; a closed loop of them may show that its limits are met.
    """
    steady = row["load_kind"] == "closed_loop" if pd.isna(row["steady"]) else bool(row["steady"])
    states = [row[f"slo_{name}"] for name in ("error_rate", *slo.limits_s())]
    row["slo"] = judged_state(states, steady, row["slo"] == CLIENT_LIMITED)
