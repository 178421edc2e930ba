"""The rules of the verdict.

An option must meet the SLO, with the config's confidence, on every dataset of the traffic. Of its load points that do,
the cheapest counts. The cheapest option wins; options whose 95% intervals overlap with the winner's are tied with it.
An option that might be as cheap at a load that is not decided is named too: the recommended option, those tied with it
and those that may be cheaper hold the truly cheapest one with the confidence of the intervals.

Prices are per 1,000 requests, or per 1M output tokens where requests are unequal work. A load point that the client
limited is not judged: it speaks neither for an option nor against it.
"""

from __future__ import annotations

import math

import pandas as pd

from helpers.capacity import capacity_of
from helpers.checks import same_model, same_output_length, same_prompts
from helpers.config import BenchmarkConfig
from helpers.ledger import EndpointRecord
from helpers.load_config import Load, Search
from helpers.metrics import CLIENT_LIMITED, MET, MISSED
from helpers.number_text import duration
from helpers.options import OptionBase
from helpers.report_warning import ReportWarning
from helpers.verdict import (
    ChosenPoint,
    CostBasis,
    Estimate,
    InstancePrice,
    OptionVerdict,
    TokenRates,
    Verdict,
)

ONE_SIDED = 1.6449 / 1.9600
"""Quantiles of the normal distribution: what a 95% bound is on one side, as a part of what it is on both."""
LEVEL_WORDS = {"closed_loop": "concurrency", "open_loop": "rate", "trace": "speed", "ramp": "ramp"}


def judge(
    points: pd.DataFrame,
    endpoints: list[EndpointRecord],
    warnings: list[ReportWarning],
    config: BenchmarkConfig,
    run_id: str,
) -> Verdict:
    """Judge the load points of a run (`summary.summarise_load_points`); `endpoints` tell prices and models."""
    comparable = same_model(config, endpoints) and same_output_length(points) and same_prompts(points)
    basis: CostBasis = "usd_per_1k_requests" if comparable else "usd_per_1m_output_tokens"
    record = {endpoint.option: endpoint for endpoint in endpoints}
    options = [
        _assess(option, record.get(option.name), points[points["option"] == option.name], basis, config)
        for option in config.options
    ]
    ranked = sorted((o for o in options if o.status == "feasible"), key=lambda o: (o.cost.value, _slowest(o)))
    winner = ranked[0] if ranked else None
    tied = [o.option for o in ranked[1:] if _overlap(winner.cost, o.cost)]
    unsure = [o.option for o in options if _may_be_cheaper(o, points, winner, tied, basis, config)]
    nearest, reason = (None, None) if winner else _nearest(points, config)
    return Verdict(
        run_id=run_id,
        config_name=config.name,
        model=config.model.name,
        measured_locally=any(getattr(option, "local", False) for option in config.options),
        comparable=comparable,
        cost_basis=basis,
        percentile=config.slo.percentile,
        recommended=winner.option if winner else None,
        tied=tied,
        may_be_cheaper=unsure,
        nearest=nearest,
        nearest_reason=reason,
        options=[_placed(option, winner, tied, unsure) for option in options],
        warnings=warnings,
    )


def main_latency(config: BenchmarkConfig) -> str:
    """The latency that charts and tables show: end-to-end where it has a limit, else the first that has one."""
    return next(iter(config.slo.limits_s()))


# --- one option by itself -----------------------------------------------------------------------------------------


def _assess(
    option: OptionBase, record: EndpointRecord | None, points: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig
) -> OptionVerdict:
    """Where an option stands by itself: feasible, or the first thing that excludes it."""
    verdict = OptionVerdict(
        option=option.name,
        instance_type=record.instance_type if record else option.instance_type,
        instance_count=record.instance_count if record else option.instance_count,
        status="feasible",
        reason="meets the SLO",
        **_prices(option, record),
    )
    chosen, shares = [], traffic_shares(config)
    missing = [dataset for dataset in shares if not (points["dataset"] == dataset).any()]
    if missing:
        reason = f"no measurement on {' and '.join(missing)}"
        if record and record.failure:
            reason += f": {record.cause or 'it failed'}, see the warnings"
        return verdict.model_copy(update={"status": "incomplete", "reason": reason})
    for dataset, share in shares.items():
        here = points[points["dataset"] == dataset]
        met = here[here["slo"] == MET]
        if met.empty:
            return verdict.model_copy(update=_why_not(here, dataset, config))
        chosen.append(_chosen_point(_cheapest(met, basis, config), share, basis, config))
    verdict = verdict.model_copy(update={"points": chosen})
    traffic = config.traffic
    verdict = verdict.model_copy(
        update={"capacity": capacity_of(verdict, traffic.requests_per_minute, traffic.headroom)}
    )
    if any(point.cost is None for point in chosen):
        return verdict.model_copy(update={"status": "unpriced", "reason": "meets the SLO, but its price is unknown"})
    return verdict.model_copy(update={"cost": mixed_cost(chosen)})


def traffic_shares(config: BenchmarkConfig) -> dict[str, float]:
    """Dataset -> share of the traffic, of those that have one."""
    return {name: share for name, share in config.traffic_mix().items() if share > 0}


def _prices(option: OptionBase, record: EndpointRecord | None) -> dict:
    """The option's prices: the one that it was measured at first, then the others that the config names."""
    prices = []
    if record is not None and record.usd_per_instance_hour is not None:
        prices.append(
            InstancePrice(
                name="on demand",
                usd_per_hour=record.usd_per_instance_hour,
                source=record.price_source,
                as_of=record.price_as_of,
            )
        )
    for other in option.other_prices:
        day = other.as_of.isoformat() if other.as_of else None
        prices.append(InstancePrice(name=other.name, usd_per_hour=other.usd_per_hour, source=other.source, as_of=day))
    rates = None
    if record is not None and record.usd_per_1m_output_tokens is not None:
        rates = TokenRates(
            usd_per_1m_input_tokens=record.usd_per_1m_input_tokens,
            usd_per_1m_output_tokens=record.usd_per_1m_output_tokens,
            source=record.price_source,
            as_of=record.price_as_of,
        )
    return {"prices": prices, "token_rates": rates}


def _cheapest(met: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig) -> pd.Series:
    """The cheapest load point, the fastest of equally cheap ones; without a price, that of the highest throughput (the
    same order).
    """
    latency = f"{main_latency(config)}_p{config.slo.percentile:g}"
    keys, ascending = ([basis, latency], True) if met[basis].notna().all() else (["served_requests_per_s"], False)
    return met.sort_values(keys, ascending=ascending, kind="stable").iloc[0]


def _chosen_point(row: pd.Series, share: float, basis: CostBasis, config: BenchmarkConfig) -> ChosenPoint:
    return ChosenPoint(
        dataset=row["dataset"],
        share=share,
        load_kind=row["load_kind"],
        level=row["level"],
        load=row["load"],
        n=int(row["n"]),
        requests_per_s=_estimate(row, "served_requests_per_s"),
        latency_s=_estimate(row, f"{main_latency(config)}_p{config.slo.percentile:g}"),
        prompt_tokens_mean=_finite(row["prompt_tokens_mean"]),
        output_tokens_mean=_finite(row["output_tokens_mean"]),
        cost=_estimate(row, basis),
    )


def _estimate(row: pd.Series, column: str) -> Estimate | None:
    """An estimate whose unknown or infinite bounds are null; null where the value is unknown."""
    if pd.isna(row[column]):
        return None
    return Estimate(value=float(row[column]), low=_finite(row[f"{column}_low"]), high=_finite(row[f"{column}_high"]))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def mixed_cost(points: list[ChosenPoint]) -> Estimate:
    """Σ share x cost. The datasets were measured independently, so half-widths add as squares."""
    value = sum(p.share * p.cost.value for p in points)
    if any(p.cost.low is None or p.cost.high is None for p in points):
        return Estimate(value=value, low=None, high=None)
    below = math.sqrt(sum((p.share * (p.cost.value - p.cost.low)) ** 2 for p in points))
    above = math.sqrt(sum((p.share * (p.cost.high - p.cost.value)) ** 2 for p in points))
    return Estimate(value=value, low=value - below, high=value + above)


# --- why not ------------------------------------------------------------------------------------------------------


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
    if not open_points["steady"].eq(False).all():
        return "more requests would tell"
    return f"no steady state was found at {open_points['load'].iloc[0]}; a longer load.max_duration_s may tell"


# --- options among each other -------------------------------------------------------------------------------------


def _slowest(option: OptionVerdict) -> float:
    return max(point.latency_s.value if point.latency_s else math.inf for point in option.points)


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Do two intervals overlap? Unknown bounds cannot tell them apart, so they do."""
    if None in (one.low, one.high, other.low, other.high):
        return True
    return one.low <= other.high and other.low <= one.high


def _may_be_cheaper(
    option: OptionVerdict,
    points: pd.DataFrame,
    winner: OptionVerdict | None,
    tied: list[str],
    basis: CostBasis,
    config: BenchmarkConfig,
) -> bool:
    """Might an option be cheaper than the winner at a load that is not decided, but by its estimates is within the SLO?

    Without a winner: might it meet the SLO?
    """
    if option.status == "not_judged":
        return True
    if option.status not in ("feasible", "undecided") or option.option in tied or option == winner:
        return False
    at_best = []
    for dataset, share in traffic_shares(config).items():
        here = points[(points["option"] == option.option) & (points["dataset"] == dataset)]
        within = here["estimates_within_slo"].eq(True) & ~here["slo"].isin([MISSED, CLIENT_LIMITED])
        promising = here[(here["slo"] == MET) | (within & (here["load_kind"] != "ramp"))]
        if promising.empty:
            return False
        at_best.append(_chosen_point(_cheapest(promising, basis, config), share, basis, config))
    if winner is None or any(point.cost is None for point in at_best):
        return winner is None
    return _may_be_less(mixed_cost(at_best), winner.cost)


def _may_be_less(one: Estimate, other: Estimate) -> bool:
    """Might `one` be less than `other`: is their difference not shown to be positive with 95% confidence, one-sided?

    Distances to the bounds add as squares (Zou and Donner 2008), cut from two-sided to one-sided.
    """
    if one.low is None or other.high is None:
        return True
    distance = ONE_SIDED * math.hypot(one.value - one.low, other.high - other.value)
    return one.value - other.value <= distance


def _placed(option: OptionVerdict, winner: OptionVerdict | None, tied: list[str], unsure: list[str]) -> OptionVerdict:
    """The option with its final status and reason."""
    changes: dict[str, object] = {"may_be_cheaper": option.option in unsure}
    if winner is not None and option.status == "feasible":
        if option.option == winner.option:
            changes |= {"status": "recommended", "reason": "the cheapest option that meets the SLO"}
        elif option.option in tied:
            changes |= {"status": "tied", "reason": "meets the SLO; its price cannot be told apart from the cheapest"}
        elif winner.cost.value == 0:
            changes |= {"reason": "meets the SLO, but the cheapest costs nothing"}
        else:
            dearer = option.cost.value / winner.cost.value - 1
            changes |= {"reason": f"meets the SLO, {dearer:.0%} dearer than the cheapest"}
        if changes["may_be_cheaper"]:
            changes["reason"] += "; at a higher load, where the SLO is not decided, it may be as cheap"
    return option.model_copy(update=changes)


def _nearest(points: pd.DataFrame, config: BenchmarkConfig) -> tuple[str | None, str | None]:
    """The option whose worst ratio of percentile to limit, at its best load, is smallest, and how near it came."""
    points = points[points["slo"] != CLIENT_LIMITED]
    ratios = pd.concat(
        [points[f"{c}_p{config.slo.percentile:g}"].astype(float) / top for c, top in config.slo.limits_s().items()],
        axis=1,
    )
    ratios = ratios.max(axis=1).dropna()
    if ratios.empty:
        return None, None
    keys = [points.loc[ratios.index, name] for name in ("option", "dataset")]
    best = ratios.groupby(keys).idxmin()
    worst_dataset = ratios[best].groupby(points.loc[best, "option"]).idxmax()
    at = ratios[worst_dataset].idxmin()
    row, column = points.loc[at], main_latency(config)
    value = row[f"{column}_p{config.slo.percentile:g}"]
    reason = (
        f"p{config.slo.percentile:g} of {duration(value)} against the limit of {config.slo.limits_s()[column]:g} s, "
        f"{row['failures']} of {row['n']} requests failed, on {row['dataset']} at {row['load']}"
    )
    return str(row["option"]), reason
