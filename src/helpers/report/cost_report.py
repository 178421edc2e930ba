"""What the traffic costs: the capacity table, the bill over a range of traffic, and how each price was worked out."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.price import Price
from helpers.report.columns import column, interval_column, numeric
from helpers.report.comparing import listed, quoted
from helpers.report.display import Prose, Table
from helpers.report.load_report import as_measured, level_column
from helpers.report.price_unit import interval_of, price_column
from helpers.report.report import STATUS_WORDS, by_cost
from helpers.report.table_readings import capacity_reading, cost_reading, prices_reading, run_cost_reading
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.verdict.capacity import (
    HIGHEST_TRAFFIC,
    HOURS_PER_MONTH,
    LOWEST_TRAFFIC,
    as_cheap,
    break_even,
    candidates,
    cheapest_ranges,
    fleet,
)
from helpers.verdict.chosen_points import judged_points
from helpers.verdict.verdict import OptionVerdict, Verdict

TRAFFIC_STEPS = (1, 10, 30, 100, 300, 1000, 3000, 10_000)
"""Requests per minute of the rows of the table."""
MOST_RANGES = 6


# --- capacity -----------------------------------------------------------------------------------------------------


def capacity_table(verdict: Verdict, config: BenchmarkConfig) -> Table | Prose:
    """What the traffic needs, per option that can carry it, at each price that the config names; a sentence where none can.

    Options that are not shown to meet the SLO stand at their estimates, marked.
    """
    rows = []
    for option in by_cost(verdict):
        if option.capacity is None:
            continue
        for i, price in enumerate(option.prices or [None]):
            need = fleet(option, config.traffic.requests_per_minute, config.traffic.headroom, price)
            rate = option.capacity.requests_per_minute_per_instance
            rows.append(
                {
                    "option": option.option,
                    "instance_type": option.instance_type,
                    "price": "unknown" if price is None else price.name,
                    "capacity": rate.value,
                    "interval": interval_of(rate, 0),
                    "bound": "at least" if option.capacity.at_least and not option.is_billed_per_token else "about",
                    "instances": need.instances,
                    "utilisation": None if need.utilisation is None else need.utilisation * 100,
                    "usd_per_fleet_hour": need.usd_per_fleet_hour,
                    "usd_per_month": need.usd_per_month,
                    "status": status_words(option) if i == 0 else "",
                }
            )
    if not rows:
        return Prose("No option has such a load, so there are no instances to count.")
    columns = [
        "option",
        "instance_type",
        *(["price"] if len({row["price"] for row in rows}) > 1 else []),
        "bound",
        column("capacity", best="highest"),
        interval_column("interval", config),
        "instances",
        "utilisation",
        "usd_per_fleet_hour",
        column("usd_per_month", best="lowest"),
        "status",
    ]
    at_least = ""
    if any(row["bound"] == "at least" for row in rows):
        at_least = " At least: on a dataset nobody knows whether a higher load meets the SLO too, so an instance may serve more."
    caption = (
        f"Capacity for {text.number(config.traffic.requests_per_minute)} requests a minute with "
        f"{text.percent(config.traffic.headroom)} headroom, at the cheapest load that {standing(verdict)}, "
        f"{as_measured(config.load)}.{at_least} A month has {HOURS_PER_MONTH} hours."
    )
    return Table(rows, columns, caption, capacity_reading(by_cost(verdict), config.traffic.headroom))


def standing(verdict: Verdict) -> str:
    """What is known of the loads at which the options of the capacity table stand."""
    kinds = {option.is_estimate for option in verdict.options if option.capacity is not None}
    shown, within = "is shown to meet the SLO", "by its estimates is within the SLO"
    if kinds == {False}:
        return shown
    return f"{within}, as none is shown to meet it" if kinds == {True} else f"{shown} or, for an estimate, {within}"


def status_words(option: OptionVerdict) -> str:
    """Where the option stands in the verdict; marked where its load is an estimate."""
    return STATUS_WORDS[option.status] + (" (estimate)" if option.is_estimate else "")


# --- over a range of traffic --------------------------------------------------------------------------------------


def traffic_table(verdict: Verdict, config: BenchmarkConfig) -> Table | Prose:
    """The monthly bill of each option from 1 to 10,000 requests a minute."""
    options = candidates(verdict)
    if not options:
        return Prose(f"No option is shown to {verdict.aim} and has a price, so there is no bill to compare.")
    rows = []
    for traffic in TRAFFIC_STEPS:
        needs = [fleet(option, traffic, config.traffic.headroom, option.price) for option in options]
        bills = {i: need.usd_per_month for i, need in enumerate(needs)}
        known = {i: usd for i, usd in bills.items() if usd is not None}
        best = min(known, key=lambda i: (known[i], options[i].cost.value)) if known else None
        rows.append(
            {"traffic": traffic, **{f"usd_{i}": usd for i, usd in bills.items()}}
            | {"cheapest": "–" if best is None else options[best].option}
        )
    columns = [
        "traffic",
        *(numeric(f"usd_{i}", f"{option.option}, $/month", decimals=0) for i, option in enumerate(options)),
        "cheapest",
    ]
    caption = (
        f"The monthly bill over a range of traffic, in whole instances with {text.percent(config.traffic.headroom)} "
        "headroom, at each option's first price. Of equal bills the option that is cheaper at full load counts."
    )
    return Table(rows, columns, caption + unequal_work(verdict))


def unequal_work(verdict: Verdict) -> str:
    """What a caption says of bills for answers that are not equally long; nothing where they are."""
    if verdict.comparable:
        return ""
    were = "may have been" if verdict.counted_apart else "were"
    return f" Requests {were} unequal work: an option whose answers are shorter has a lower bill for less."


def cheapest_by_traffic(verdict: Verdict, config: BenchmarkConfig) -> Prose:
    """Where the cheapest option changes, and from which traffic an hourly price beats one per token."""
    headroom = config.traffic.headroom
    ranges = cheapest_ranges(verdict, headroom)
    if not ranges:
        return Prose("")
    if len(candidates(verdict)) == 1:
        return Prose(
            f"{quoted(ranges[0].option)} is the only option that is shown to {verdict.aim}, so no bills are compared."
        )
    if len(ranges) == 1:
        span = f"from {text.number(LOWEST_TRAFFIC)} to {text.number(HIGHEST_TRAFFIC)} requests a minute"
        names = [quoted(name) for name in (ranges[0].option, *as_cheap(verdict, headroom, ranges[0].option))]
        one = f"No bill is lower than that of {names[0]}"
        said = [f"{one if len(names) == 1 else f'{listed(names)} have the same, lowest bill'} at any traffic {span}."]
    else:
        parts = [f"{quoted(r.option)} up to {text.significant(r.high)}" for r in ranges[:MOST_RANGES]]
        more = "" if len(ranges) <= MOST_RANGES else f", and so on, in turns ({len(ranges)} ranges in all)"
        said = [f"The cheapest option, by requests a minute: {', then '.join(parts)}{more}."]
    options = candidates(verdict)
    for by_token in (o for o in options if o.is_billed_per_token):
        for by_hour in (o for o in options if not o.is_billed_per_token):
            at = break_even(by_token, by_hour, headroom)
            where = f"from {text.significant(at)} requests a minute on" if at else "at no traffic in this range"
            said.append(f"{quoted(by_hour.option)} beats the token prices of {quoted(by_token.option)} {where}.")
    return Prose(" ".join(said))


# --- how prices were worked out -----------------------------------------------------------------------------------


def cost_table(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Table:
    """How each price follows from $/h and throughput."""
    points = judged_points(points, config)
    columns = [
        "option",
        "dataset",
        level_column(config),
        "usd_per_hour",
        "served_requests_per_s",
        "served_output_tokens_per_s",
        price_column(points, "usd_per_1k_requests", verdict, best="lowest"),
        price_column(points, "usd_per_1m_output_tokens", verdict, best="lowest"),
        price_column(points, "usd_per_1m_input_tokens", verdict),
        price_column(points, "usd_per_1m_tokens", verdict),
    ]
    caption = (
        "Cost working: $/h ÷ (requests/s × 3,600), and $/h ÷ (tokens/s × 3,600), times the number that the price is for. Each "
        "column puts the whole price on what it counts."
    )
    return Table(points, columns, caption, cost_reading(points, verdict))


def price_table(verdict: Verdict) -> Table:
    """The prices that were used, with source and date."""
    rows = [
        {
            "option": option.option,
            "name": price.name,
            "amount": _price_words(price),
            "source": price.source or "unknown",
            "as_of": str(price.as_of or "unknown"),
        }
        for option in verdict.options
        for price in option.prices
    ]
    columns = ["option", "name", "amount", "source", "as_of"]
    said = prices_reading([price.as_of for option in verdict.options for price in option.prices])
    return Table(rows, columns, "The prices behind the costs.", said)


def _price_words(price: Price) -> str:
    if not price.is_per_token:
        return f"${text.number(price.usd_per_instance_hour, 4)} per instance and hour"
    cached = price.usd_per_1m_cached_input_tokens
    return (
        f"{text.dollars(price.usd_per_1m_input_tokens)} per 1M input, "
        + ("" if cached is None else f"{text.dollars(cached)} per 1M of them from a cache, ")
        + f"{text.dollars(price.usd_per_1m_output_tokens)} per 1M output tokens"
    )


def run_cost_table(endpoints: list[EndpointRecord], run: RunFolder) -> Table:
    """What each endpoint of the run cost, from the create call to the deletion, and the judge of answers if there is one."""
    rows = [
        {
            "option": r.option,
            "endpoint": r.endpoint_name,
            "state": r.state,
            "startup_s": r.startup_s(),
            "minutes": None if r.billed_hours() is None else r.billed_hours() * 60,
            "usd_per_option_hour": r.usd_per_option_hour(),
            "usd": 0.0 if r.local else r.cost_usd(),
            "price_source": r.price.origin if r.price else "unknown",
        }
        for r in endpoints
    ]
    judge = Ledger(run.ledger_file, run.run_id).judge()
    if judge is not None:
        usd, source = judge.cost_usd(), judge.price.origin if judge.price else "unknown"
        rows.append({"option": judge.name, "state": "judge", "usd": usd, "price_source": source})
    columns = ["option", "endpoint", "state", "startup_s", "minutes", "usd_per_option_hour", "usd", "price_source"]
    local = " Endpoints on this machine cost nothing." if any(r.local for r in endpoints) else ""
    caption = f"Endpoints of this run, from the create call to the deletion.{local}"
    return Table(pd.DataFrame(rows), columns, caption, run_cost_reading(endpoints, judge))
