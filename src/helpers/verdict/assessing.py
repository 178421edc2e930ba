"""Each option by itself: whether it meets the SLO on every dataset, at which loads, at what cost, and if not, why not."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Search
from helpers.config.load_level import KIND_WORDS
from helpers.config.options import OptionBase
from helpers.metrics.formulas import CLIENT_LIMITED, MISSED
from helpers.metrics.quality import AnswerQuality
from helpers.price import Price
from helpers.run.ledger import EndpointRecord
from helpers.verdict.capacity import capacity_of, requests_per_minute
from helpers.verdict.chosen_points import (
    cheapest_within_slo,
    chosen_point,
    is_replicated,
    mixed_cost,
    stalls_at_most,
    traffic_shares,
)
from helpers.verdict.open_points import effort_to_settle, estimated_loads
from helpers.verdict.open_words import not_met_because, open_because
from helpers.verdict.quality_gate import gated
from helpers.verdict.verdict import CostBasis, OptionVerdict


def assess_all(
    points: pd.DataFrame,
    endpoints: list[EndpointRecord],
    basis: CostBasis,
    config: BenchmarkConfig,
    quality: Mapping[str, AnswerQuality] | None,
) -> list[OptionVerdict]:
    """Each option of the config by itself, in its order, with prices in `basis`; `quality`: how right its answers are."""
    record = {endpoint.option: endpoint for endpoint in endpoints}
    assessed = [
        _assess(option, record.get(option.name), points[points["option"] == option.name], basis, config)
        for option in config.options
    ]
    return [gated(option, (quality or {}).get(option.option), basis) for option in assessed]


def _assess(
    option: OptionBase, record: EndpointRecord | None, points: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig
) -> OptionVerdict:
    """One option, without regard to the others: feasible, or the first reason that excludes it."""
    verdict = OptionVerdict(
        option=option.name,
        instance_type=record.instance_type if record else option.instance_type,
        instance_count=record.instance_count if record else option.instance_count,
        status="feasible",
        reason="meets the SLO",
        prices=_prices(option, record),
    )
    if record is not None and record.race_outcome in ("more expensive", "never loaded"):
        return verdict.model_copy(update={"status": "eliminated", "reason": f"eliminated {record.race_because}"})
    at = {dataset: points[points["dataset"] == dataset] for dataset in traffic_shares(config)}
    if (excluded := _not_measured(at, record)) is not None:
        return verdict.model_copy(update=excluded)
    loads = {dataset: cheapest_within_slo(here, basis, config) for dataset, here in at.items()}
    for dataset, load in loads.items():
        if load is None:
            verdict = verdict.model_copy(update=_why_not(at[dataset], dataset, record, config))
            return verdict if verdict.status == "infeasible" else _estimated(verdict, at, record, basis, config)
    verdict = _at_loads(verdict, loads, at, basis, config)
    if verdict.cost is None:
        unknown = "price is" if requests_per_minute(verdict.points) else "throughput, and so its price, are"
        return verdict.model_copy(update={"status": "unpriced", "reason": f"meets the SLO, but its {unknown} unknown"})
    return verdict


def _not_measured(at: dict[str, pd.DataFrame], record: EndpointRecord | None) -> dict | None:
    """Status and reason of an option without an answer on some dataset; None where it has answers on each."""
    silent = {name: here for name, here in at.items() if len(here) and (here["failures"] == here["n"]).all()}
    if silent:
        of_them = pd.concat(silent.values())
        said = of_them["commonest_failure"].dropna()
        where = "" if len(silent) == len(at) else f" on {' and '.join(silent)}"
        reason = f"none of its {int(of_them['n'].sum()):,} requests{where} was answered"
        return {"status": "failed", "reason": f"{reason}: {said.iloc[0]}" if len(said) else reason}
    missing = [name for name, here in at.items() if here.empty]
    if not missing:
        return None
    if record and record.failure and record.target != "imported":
        return {"status": "failed", "reason": record.why_failed()}
    left = f"; it left the race {record.race_because}" if record and record.race_because else ""
    return {"status": "incomplete", "reason": f"no measurement on {' and '.join(missing)}{left}"}


def _at_loads(
    verdict: OptionVerdict,
    loads: dict[str, pd.Series],
    at: dict[str, pd.DataFrame],
    basis: CostBasis,
    config: BenchmarkConfig,
) -> OptionVerdict:
    """The option at one load per dataset: its cost there, and the capacity that the traffic needs."""
    shares, traffic = traffic_shares(config), config.traffic
    stalls = stalls_at_most(pd.concat(at.values()), config)
    points = [chosen_point(row, at[dataset], shares[dataset], basis, config, stalls) for dataset, row in loads.items()]
    placed = verdict.model_copy(update={"points": points})
    costs = [(point.share, point.cost) for point in points]
    unseen = [None if point.cost_unseen is None else point.share * point.cost_unseen for point in points]
    changes: dict[str, object] = {
        "cost": None if any(cost is None for _, cost in costs) else mixed_cost(costs, is_replicated(points)),
        "cost_unseen": None if None in unseen else sum(unseen),
    }
    if requests_per_minute(points) is not None:
        changes["capacity"] = capacity_of(placed, traffic.requests_per_minute, traffic.headroom)
    return placed.model_copy(update=changes)


def _estimated(
    verdict: OptionVerdict,
    at: dict[str, pd.DataFrame],
    record: EndpointRecord | None,
    basis: CostBasis,
    config: BenchmarkConfig,
) -> OptionVerdict:
    """An undecided option at the cheapest loads whose estimates are within the SLO, if there is one for each dataset."""
    loads = estimated_loads(at, basis, config)
    if loads is None:
        return verdict
    limits, effort = effort_to_settle(list(loads.values()), record, config)
    placed = _at_loads(verdict, loads, at, basis, config)
    return placed.model_copy(update={"is_estimate": True, "open_limits": limits, "to_settle": effort})


def _prices(option: OptionBase, record: EndpointRecord | None) -> list[Price]:
    """The option's prices: first the one at which it was measured, then the others in the config."""
    measured = [record.price] if record is not None and record.price is not None else []
    return measured + [other.as_price() for other in option.other_prices]


# --- why not ------------------------------------------------------------------------------------------------------


def _why_not(here: pd.DataFrame, dataset: str, record: EndpointRecord | None, config: BenchmarkConfig) -> dict:
    """Status and reason of an option that has no load point within the SLO on a dataset."""
    limits = " and ".join(f"{name.removesuffix('_s')} of {limit:g} s" for name, limit in config.slo.limits_s().items())
    limits += f" at p{config.slo.percentile:g}, errors of {config.slo.error_rate:.1%}"
    judged = here[here["slo"] != CLIENT_LIMITED]
    if judged.empty:
        if record and record.failure:  # it, and not the client, ended the other load points
            return {"status": "failed", "reason": record.why_failed()}
        return {
            "status": "not_judged",
            "reason": f"the client, not the server, limited every load point on {dataset}: more load.processes, or a "
            "machine with more CPUs that does nothing else, would show more",
        }
    if (judged["load_kind"] == "ramp").all():
        return {"status": "undecided", "reason": f"a ramp cannot show whether the SLO is met ({limits}) on {dataset}"}
    if (judged["slo"] == MISSED).all() and judged["level"].min() == here["level"].min():
        every = f"every {KIND_WORDS[config.load.level_kind].noun}{' that was tried' if isinstance(config.load, Search) else ''}"
        lowest = judged.loc[judged["level"].idxmin()]
        because = not_met_because(lowest, config)
        return {
            "status": "infeasible",
            "reason": f"misses the SLO ({limits}) at {every} on {dataset}; at {lowest['load']}, {because}",
        }
    row = _most_informative(here[here["slo"] != MISSED])
    return {
        "status": "undecided",
        "reason": f"not shown to meet the SLO ({limits}) with {config.slo.confidence:.0%} confidence on {dataset}: at "
        f"{row['load']}, {open_because(row, config)}",
    }


def _most_informative(is_open: pd.DataFrame) -> pd.Series:
    """The lowest open load point; first of those whose figures can be trusted and, among these, of those within the SLO."""
    order = is_open.assign(
        doubtful=(is_open["slo"] == CLIENT_LIMITED) | is_open["steady"].eq(False),
        beyond=~is_open["estimates_within_slo"].eq(True),
    )
    return is_open.loc[order.sort_values(["doubtful", "beyond", "level"]).index[0]]
