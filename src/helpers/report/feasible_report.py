"""The options at other settings than the config's: which meet the SLO, with their loads, price and bill."""

from __future__ import annotations

import math

import pandas as pd

from helpers import number_text as text
from helpers.report.columns import column, interval_column, numeric
from helpers.report.display import Table
from helpers.report.load_report import LATENCY_NAME
from helpers.report.price_unit import interval_of, price_unit, scaled
from helpers.verdict.chosen_points import is_replicated, mixed_cost
from helpers.verdict.verdict import Estimate, OptionVerdict
from helpers.verdict.what_if import MONTH, Outcome


def feasible_set(outcome: Outcome, metric: str, unit: str) -> Table:
    """The options that meet the SLO, cheapest first, with their loads, price and bill; then the others, with reasons."""
    verdict, config = outcome.verdict, outcome.config
    basis = verdict.cost_basis if unit == MONTH else unit
    price = price_unit(verdict, outcome.points, basis)
    percentile = f"p{config.slo.percentile:g}"
    at = outcome.points.set_index(["option", "dataset", "load_kind", "level"])
    rows = []
    for option in verdict.options:
        chosen = [at.loc[(option.option, p.dataset, p.load_kind, p.level)] for p in option.points]
        cost = scaled(_cost(option, chosen, basis, verdict.cost_basis), price)
        capacity = option.capacity
        rows.append(
            {
                "option": option.option,
                "load": _loads(option),
                "latency": _slowest([row[f"{metric}_{percentile}"] for row in chosen]),
                "cost": cost and cost.value,
                "interval": interval_of(cost),
                "instances": capacity and capacity.instances,
                "usd_per_month": capacity and capacity.usd_per_month,
                "why": option.reason,
            }
        )
    order = ["usd_per_month", "cost"] if unit == MONTH else ["cost"]
    rows.sort(key=lambda row: (row["load"] == "–", *(math.inf if row[key] is None else row[key] for key in order)))
    columns = [
        "option",
        "load",
        numeric("latency", f"{LATENCY_NAME[metric]} {percentile}, s"),
        numeric("cost", f"$ {price.words}", best="lowest"),
        interval_column("interval", config),
        "instances",
        column("usd_per_month", best="lowest"),
        "why",
    ]
    met = sum(bool(option.points) for option in verdict.options)
    slowest = "; its latency is that of the slowest dataset" if len(config.datasets) > 1 else ""
    if config.part_in_words and len(config.judged_datasets) == 1:
        slowest = f"; its latency is that of the {config.part_in_words} that comes off worst"
    elif config.part_in_words:
        slowest += f", where it has bins in the {config.part_in_words} that comes off worst"
    caption = (
        f"{met} of {text.plural(len(rows), 'option')} shown to meet the SLO, at the cheapest load that does{slowest}."
    )
    return Table(rows, columns, caption)


def _slowest(latencies_s: list[float | None]) -> float | None:
    """The longest latency; unknown if any dataset's is, for example for lack of requests for the percentile."""
    return None if not latencies_s or any(pd.isna(one) for one in latencies_s) else max(latencies_s)


def _cost(option: OptionVerdict, chosen: list[pd.Series], basis: str, judged_by: str) -> Estimate | None:
    """The option's price over the traffic's mix, in the unit `basis`."""
    if basis == judged_by or not chosen:
        return option.cost
    if any(pd.isna(row[basis]) for row in chosen):
        return None
    costs = [Estimate(value=row[basis], low=row[f"{basis}_low"], high=row[f"{basis}_high"]) for row in chosen]
    return mixed_cost(
        [(point.share, cost) for point, cost in zip(option.points, costs, strict=True)], is_replicated(option.points)
    )


def _loads(option: OptionVerdict) -> str:
    """The load at which the option serves each dataset; given once if it is the same for all."""
    loads = {point.load for point in option.points}
    if len(loads) <= 1:
        return next(iter(loads), "–")
    return ", ".join(f"{point.load} on {point.dataset}" for point in option.points)
