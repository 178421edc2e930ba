"""What a run would make and cost, before anything is made. No resource is created and nothing is called."""

from __future__ import annotations

import pandas as pd

from helpers.config import BenchmarkConfig
from helpers.display import Column, Table, numeric
from helpers.load_config import Ramp, Search
from helpers.pricing import price_of
from helpers.run_folder import describe_machine

STARTUP_MINUTES = {"local": 0.2, "sagemaker": 12.0, "openai": 0.0}
STARTUP_BASIS = "12 min assumed on AWS"


def plan_table(config: BenchmarkConfig) -> Table:
    """Endpoints, load points, upper bounds of minutes and dollars, prices with date and source."""
    vcpus = describe_machine()["vcpus"]
    rows = []
    for option in config.options:
        price = price_of(option, config.aws.region, vcpus)
        points = len(config.datasets_of(option)) * config.load.most_levels * config.load.repetitions
        local = getattr(option, "local", False)
        minutes = STARTUP_MINUTES["local" if local else option.target] + points * _minutes_per_point(config)
        usd_per_hour = price and price.usd_per_hour and price.usd_per_hour * option.instance_count
        rows.append(
            {
                "option": option.name,
                "makes": "nothing" if option.target == "openai" else "a local endpoint" if local else "an endpoint",
                "instances": f"{option.instance_count} x {option.instance_type}",
                "points": points,
                "minutes": minutes,
                "usd_per_hour": usd_per_hour,
                "usd": 0.0 if local else None if usd_per_hour is None else usd_per_hour * minutes / 60,
                "source": "unknown" if price is None else f"{price.source}{f', {price.as_of}' if price.as_of else ''}",
            }
        )
    columns = [
        Column("option", "option"),
        Column("makes", "makes"),
        Column("instances", "instances"),
        numeric("points", "load points, at most" if isinstance(config.load, Search) else "load points", decimals=0),
        numeric("minutes", "estimate, min", decimals=0),
        numeric("usd_per_hour", "$/h", decimals=3),
        numeric("usd", "estimate, $", decimals=2),
        Column("source", "price from", wraps=True),
    ]
    total = sum(row["usd"] or 0.0 for row in rows)
    budget = f"; budget_usd is {config.budget_usd:g}" if config.budget_usd else ""
    caption = (
        f"Estimated: ${total:,.2f} in {config.aws.region}{budget}. Minutes: start-up ({STARTUP_BASIS}) plus, for each load "
        f"point, at most {_longest_s(config):g} s of load and, for the drain, {config.load.request_timeout_s:g} s."
    )
    return Table(pd.DataFrame(rows), columns, caption)


def _minutes_per_point(config: BenchmarkConfig) -> float:
    """The longest load point, and the time-out that its drain may take."""
    return (_longest_s(config) + config.load.request_timeout_s) / 60


def _longest_s(config: BenchmarkConfig) -> float:
    return config.load.duration_s if isinstance(config.load, Ramp) else config.load.max_duration_s
