"""The load point at which an option serves a dataset: which one it is, its cost, and the cost of the traffic's mix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.mix import MIXED
from helpers.metrics.formulas import LATENCIES, MET
from helpers.metrics.intervals import CONFIDENCE, share_bounds
from helpers.run.records import AttemptFacts
from helpers.verdict.verdict import ChosenPoint, CostBasis, Estimate


def main_latency(config: BenchmarkConfig) -> str:
    """The latency that charts and tables show: end-to-end where it has a limit, else the first that has one."""
    return next(name for name in LATENCIES if getattr(config.slo, name) is not None)


def percentile_column(config: BenchmarkConfig) -> str:
    """The column of the SLO's percentile of the main latency, for example `latency_s_p95`."""
    return f"{main_latency(config)}_p{config.slo.percentile:g}"


def traffic_shares(config: BenchmarkConfig) -> dict[str, float]:
    """Dataset -> share of the traffic, without those that have none."""
    return {name: share for name, share in config.traffic_mix().items() if share > 0}


def judged_points(points: pd.DataFrame, config: BenchmarkConfig) -> pd.DataFrame:
    """What the verdict is about: where datasets are mixed, not what each of them is alone."""
    return points if config.load.mix is None else points[points["dataset"] == MIXED]


def judged_facts(facts: list[AttemptFacts], config: BenchmarkConfig) -> list[AttemptFacts]:
    """The same of attempts."""
    return facts if config.load.mix is None else [f for f in facts if f.dataset == MIXED]


def cheapest_within_slo(here: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig) -> pd.Series | None:
    """Of the load points of one option and dataset, the cheapest that is shown to meet the SLO; None if there is none."""
    met = here[here["slo"] == MET]
    return None if met.empty else cheapest_load(met, basis, config)


def cheapest_load(rows: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig) -> pd.Series:
    """The cheapest of some load points of one option and dataset, and of equally cheap ones the fastest.

    Without a price it is the one with the highest throughput, which gives the same order.
    """
    keys, ascending = ([basis, percentile_column(config)], True)
    if rows[basis].isna().any():
        keys, ascending = ["served_requests_per_s"], False
    return rows.sort_values(keys, ascending=ascending, kind="stable").iloc[0]


def chosen_point(
    row: pd.Series,
    here: pd.DataFrame,
    share: float,
    basis: CostBasis,
    config: BenchmarkConfig,
    stalls: float | None,
) -> ChosenPoint:
    """One row of the load-point table as data; `here` holds all rows of its option and dataset, `stalls` is `stalls_at_most`."""
    cost = estimate_of(row, basis)
    return ChosenPoint(
        dataset=row["dataset"],
        share=share,
        load_kind=row["load_kind"],
        level=row["level"],
        load=row["load"],
        n=int(row["n"]),
        endpoints=int(row.get("endpoints", 1)),
        requests_per_s=estimate_of(row, "served_requests_per_s"),
        latency_s=estimate_of(row, percentile_column(config)),
        cached_tokens_mean=_finite(row.get("cached_tokens_mean", 0.0)) or 0.0,
        asked_hit_rate=_finite(row.get("asked_hit_rate")),
        found_hit_rate=_finite(row.get("found_hit_rate")),
        prompt_tokens_mean=_finite(row["prompt_tokens_mean"]),
        output_tokens_mean=_finite(row["output_tokens_mean"]),
        cost=cost,
        cost_unseen=None if cost is None or stalls is None else cost.value * _more_if_stalled(row, stalls, config),
        may_serve_more=not ((here["level"] > row["level"]) & here["slo"].isin(["met", "missed"])).any(),
    )


def stalls_at_most(mine: pd.DataFrame, config: BenchmarkConfig) -> float | None:
    """The share of an option's requests that may hang until the time-out, with 95% confidence, given how many did at all its
    load points: 3 in n where none did (Hanley and Lippman-Hand, JAMA 249, 1983). None of open loops, which serve what is offered,
    and of imported results, whose time-out is unknown.
    """
    known = mine[mine["stalls"].notna()]
    if config.imported or known.empty:
        return None
    return share_bounds(int(known["stalls"].sum()), int(known["n"].sum()), CONFIDENCE).high


def _more_if_stalled(row: pd.Series, share: float, config: BenchmarkConfig) -> float:
    """By which share a request costs more if this share of them hang. Nothing where it is billed by the token, and where stalls
    were seen: the interval holds them.
    """
    if row["stalls"] or pd.isna(row["usd_per_hour"]):
        return 0.0
    mean_s = row["window_s"] * row["level"] / row["n"]
    return (1 + share * max(0.0, config.load.request_timeout_s / mean_s - 1)) / (1 - share) - 1


def estimate_of(row: pd.Series, column: str) -> Estimate | None:
    """An estimate whose unknown or infinite bounds are None; None where the value is unknown or infinite."""
    value = _finite(row[column])
    if value is None:
        return None
    return Estimate(value=value, low=_finite(row[f"{column}_low"]), high=_finite(row[f"{column}_high"]))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def mixed_cost(shares_and_costs: list[tuple[float, Estimate]], replicated: bool = False) -> Estimate:
    """Σ share x cost. The datasets were measured independently, so the half-widths of intervals add as squares; but as they are
    where intervals contain how much endpoints differ (`replicated`): a slow endpoint is slow on each dataset.
    """
    value = sum(share * cost.value for share, cost in shares_and_costs)
    if any(cost.low is None or cost.high is None for _, cost in shares_and_costs):
        return Estimate(value=value, low=None, high=None)
    total = sum if replicated else lambda widths: math.hypot(*widths)
    below = total([share * (cost.value - cost.low) for share, cost in shares_and_costs])
    above = total([share * (cost.high - cost.value) for share, cost in shares_and_costs])
    return Estimate(value=value, low=value - below, high=value + above)


def is_replicated(points: Sequence[ChosenPoint]) -> bool:
    """Was any of them measured on several endpoints?"""
    return any(point.endpoints > 1 for point in points)
