"""The verdict as data: which option to take, which are tied with it, what each costs, and why the others fall out.

The rules: an option must meet the SLO, with the config's confidence, on every dataset of the traffic. Of its load
points that do, the cheapest counts. The cheapest option wins; options whose 95% intervals overlap with the winner's
are tied with it. Prices are per 1,000 requests, or per 1M output tokens where requests are unequal work. A load point
that the client limited is not judged: it speaks neither for an option nor against it.
"""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from helpers.checks import ReportWarning, same_model, same_output_length
from helpers.config import BenchmarkConfig
from helpers.load_config import Load, Search
from helpers.metrics import CLIENT_LIMITED, MET, MISSED

SCHEMA_VERSION = 2
HOURS_PER_MONTH = 730
LEVEL_WORDS = {"closed_loop": "concurrency", "open_loop": "rate", "trace": "speed", "ramp": "ramp"}
Status = Literal["recommended", "tied", "feasible", "undecided", "not_judged", "infeasible", "unpriced", "incomplete"]
CostBasis = Literal["usd_per_1k_requests", "usd_per_1m_output_tokens"]


class Data(BaseModel):
    """Base of all parts of a verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(Data):
    """A value with its 95% interval; a null bound is unknown or unbounded."""

    value: float
    low: float | None
    high: float | None


class ChosenPoint(Data):
    """The load point at which an option serves a dataset."""

    dataset: str
    load_kind: Literal["closed_loop", "open_loop", "trace", "ramp"]
    level: float
    """Requests in flight (closed loop), requests per second (open loop), or speed of the trace."""
    load: str
    """The level in words, for example `concurrency 4`."""
    n: int
    requests_per_s: Estimate
    latency_s: Estimate
    cost: Estimate | None


class Capacity(Data):
    """What the traffic of the config needs."""

    requests_per_minute_per_instance: Estimate
    instances: int
    utilisation: float
    usd_per_hour: float | None
    usd_per_month: float | None


class OptionVerdict(Data):
    """One option: where it stands, why, and what it costs."""

    option: str
    instance_type: str
    status: Status
    reason: str
    cost: Estimate | None = None
    """In the unit of the verdict's `cost_basis`, over the traffic mix."""
    points: list[ChosenPoint] = []
    capacity: Capacity | None = None


class Verdict(Data):
    """What the run says."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    config_name: str
    model: str
    measured_locally: bool
    comparable: bool
    cost_basis: CostBasis
    percentile: float
    recommended: str | None
    tied: list[str]
    nearest: str | None
    """Where nothing is feasible: the option that came nearest to the SLO."""
    options: list[OptionVerdict]
    warnings: list[ReportWarning]

    def option(self, name: str) -> OptionVerdict:
        """The verdict on one option; KeyError if the run has none of that name."""
        for option in self.options:
            if option.option == name:
                return option
        raise KeyError(name)


def judge(points: pd.DataFrame, warnings: list[ReportWarning], config: BenchmarkConfig, run_id: str) -> Verdict:
    """Judge the load points of a run (`metrics.summarise_load_points`)."""
    basis: CostBasis = "usd_per_1k_requests" if same_output_length(points) else "usd_per_1m_output_tokens"
    options = [_assess(option, points[points["option"] == option.name], basis, config) for option in config.options]
    ranked = sorted((o for o in options if o.status == "feasible"), key=lambda option: option.cost.value)
    winner = ranked[0] if ranked else None
    tied = [o.option for o in ranked[1:] if _overlap(winner.cost, o.cost)]
    options = [_placed(option, winner, tied) for option in options]
    return Verdict(
        run_id=run_id,
        config_name=config.name,
        model=config.model.name,
        measured_locally=any(getattr(option, "local", False) for option in config.options),
        comparable=same_model(config) and basis == "usd_per_1k_requests",
        cost_basis=basis,
        percentile=config.slo.percentile,
        recommended=winner.option if winner else None,
        tied=tied,
        nearest=None if winner else _nearest(points, config),
        options=options,
        warnings=warnings,
    )


def _assess(option, points: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig) -> OptionVerdict:
    """Where an option stands by itself: feasible, or the first thing that excludes it."""
    mix = {name: share for name, share in config.traffic_mix().items() if share > 0}
    verdict = {"option": option.name, "instance_type": option.instance_type}
    chosen = {}
    for dataset in mix:
        here = points[points["dataset"] == dataset]
        if here.empty:
            return OptionVerdict(**verdict, status="incomplete", reason=f"no measurement on {dataset}")
        met = here[here["slo"] == MET]
        if met.empty:
            return OptionVerdict(**verdict, **_why_not(here, dataset, config))
        chosen[dataset] = met.loc[_cheapest(met, basis)]
    verdict["points"] = [_chosen_point(row, basis, config) for row in chosen.values()]
    verdict["capacity"] = _capacity(option, chosen, mix, config)
    if any(point.cost is None for point in verdict["points"]):
        return OptionVerdict(**verdict, status="unpriced", reason="meets the SLO, but its price is unknown")
    return OptionVerdict(**verdict, status="feasible", reason="meets the SLO", cost=_mixed_cost(verdict["points"], mix))


def _cheapest(met: pd.DataFrame, basis: CostBasis) -> int:
    """Index of the cheapest load point; without a price, of the one with the highest throughput (same order)."""
    return met[basis].idxmin() if met[basis].notna().all() else met["requests_per_s"].idxmax()


def _why_not(here: pd.DataFrame, dataset: str, config: BenchmarkConfig) -> dict:
    """Status and reason of an option that has no load point within the SLO on a dataset."""
    limits = " and ".join(f"{name.removesuffix('_s')} of {limit:g} s" for name, limit in config.slo.limits_s().items())
    limits += f" at p{config.slo.percentile:g}, errors of {config.slo.error_rate:.1%}"
    judged = here[here["slo"] != CLIENT_LIMITED]
    if judged.empty:
        return {
            "status": "not_judged",
            "reason": f"the client, not the server, limited every load point on {dataset}: more load.processes, or a "
            "machine with more CPUs, would tell",
        }
    if (judged["load_kind"] == "ramp").all():
        return {"status": "undecided", "reason": f"a ramp cannot show whether the SLO is met ({limits}) on {dataset}"}
    if (judged["slo"] == MISSED).all() and judged["level"].min() == here["level"].min():
        return {"status": "infeasible", "reason": f"misses the SLO ({limits}) at {_every(config.load)} on {dataset}"}
    return {
        "status": "undecided",
        "reason": f"not shown to meet the SLO ({limits}) with {config.slo.confidence:.0%} confidence on {dataset}: "
        + _what_would_tell(here),
    }


def _every(load: Load) -> str:
    return f"every {LEVEL_WORDS[load.level_kind]}{' that was tried' if isinstance(load, Search) else ''}"


def _what_would_tell(here: pd.DataFrame) -> str:
    """What could turn an undecided option into a decided one."""
    open_points = here[~here["slo"].isin([CLIENT_LIMITED, MISSED])]
    if open_points.empty:
        return "the client, not the server, limited the lowest load"
    if open_points["steady"].eq(True).any():
        return "more requests would tell"
    return f"no steady state was found at {open_points['load'].iloc[0]}; a longer load.max_duration_s may tell"


def _chosen_point(row: pd.Series, basis: CostBasis, config: BenchmarkConfig) -> ChosenPoint:
    column = main_latency(config)
    percent = f"{column}_p{config.slo.percentile:g}"
    cost = None
    if not pd.isna(row[basis]):
        cost = estimate(row[basis], row[f"{basis}_low"], row[f"{basis}_high"])
    return ChosenPoint(
        dataset=row["dataset"],
        load_kind=row["load_kind"],
        level=row["level"],
        load=row["load"],
        n=int(row["n"]),
        requests_per_s=estimate(row["requests_per_s"], row["requests_per_s_low"], row["requests_per_s_high"]),
        latency_s=estimate(row[percent], row[f"{percent}_low"], row[f"{percent}_high"]),
        cost=cost,
    )


def main_latency(config: BenchmarkConfig) -> str:
    """The latency that charts and tables show: end-to-end where it has a limit, else the first that has one."""
    return next(iter(config.slo.limits_s()))


def estimate(value: float, low: float | None, high: float | None) -> Estimate:
    """An estimate whose unknown or infinite bounds are null."""
    return Estimate(value=float(value), low=_finite(low), high=_finite(high))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _mixed_cost(points: list[ChosenPoint], mix: dict[str, float]) -> Estimate:
    """Σ share x cost. The datasets were measured independently, so half-widths add as squares."""
    value = sum(mix[p.dataset] * p.cost.value for p in points)
    if any(p.cost.low is None or p.cost.high is None for p in points):
        return Estimate(value=value, low=None, high=None)
    below = math.sqrt(sum((mix[p.dataset] * (p.cost.value - p.cost.low)) ** 2 for p in points))
    above = math.sqrt(sum((mix[p.dataset] * (p.cost.high - p.cost.value)) ** 2 for p in points))
    return Estimate(value=value, low=value - below, high=value + above)


def _capacity(option, chosen: dict[str, pd.Series], mix: dict[str, float], config: BenchmarkConfig) -> Capacity:
    """Instances for the traffic: one spends Σ share / throughput seconds on a mean request."""
    count = option.instance_count

    def per_minute(column: str) -> float | None:
        rates = {dataset: row[column] for dataset, row in chosen.items()}
        if any(pd.isna(rate) or rate <= 0 for rate in rates.values()):
            return None
        return 60 / sum(share / rates[dataset] for dataset, share in mix.items()) / count

    capacity = Estimate(
        value=per_minute("requests_per_s"), low=per_minute("requests_per_s_low"), high=per_minute("requests_per_s_high")
    )
    wanted = config.traffic.requests_per_minute
    instances = max(count, math.ceil(wanted / (capacity.value * (1 - config.traffic.headroom)) - 1e-9))
    usd = next(iter(chosen.values()))["usd_per_hour"]
    usd_per_hour = None if usd is None or pd.isna(usd) else usd / count * instances
    return Capacity(
        requests_per_minute_per_instance=capacity,
        instances=instances,
        utilisation=wanted / (capacity.value * instances),
        usd_per_hour=usd_per_hour,
        usd_per_month=None if usd_per_hour is None else usd_per_hour * HOURS_PER_MONTH,
    )


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Do two intervals overlap? Unknown bounds cannot tell them apart, so they do."""
    if None in (one.low, one.high, other.low, other.high):
        return True
    return one.low <= other.high and other.low <= one.high


def _placed(option: OptionVerdict, winner: OptionVerdict | None, tied: list[str]) -> OptionVerdict:
    if winner is None or option.status != "feasible":
        return option
    if option.option == winner.option:
        return option.model_copy(update={"status": "recommended", "reason": "the cheapest option that meets the SLO"})
    if option.option in tied:
        return option.model_copy(
            update={"status": "tied", "reason": "meets the SLO; its price cannot be told apart from the cheapest"}
        )
    if winner.cost.value == 0:
        return option.model_copy(update={"reason": "meets the SLO, but the cheapest costs nothing"})
    dearer = option.cost.value / winner.cost.value - 1
    return option.model_copy(update={"reason": f"meets the SLO, {dearer:.0%} dearer than the cheapest"})


def _nearest(points: pd.DataFrame, config: BenchmarkConfig) -> str | None:
    """The option whose worst ratio of percentile to limit, at its best load, is smallest."""
    points = points[points["slo"] != CLIENT_LIMITED]
    if points.empty:
        return None
    percent = f"p{config.slo.percentile:g}"
    ratios = pd.concat(
        [points[f"{column}_{percent}"] / limit for column, limit in config.slo.limits_s().items()], axis=1
    ).max(axis=1)
    best = points.assign(ratio=ratios).groupby(["option", "dataset"])["ratio"].min().groupby("option").max()
    return None if best.dropna().empty else str(best.idxmin())
