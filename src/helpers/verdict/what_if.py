"""What the verdict would be at another SLO, traffic or price, from requests that are held in memory. Times in seconds.

Requests are read once. At other settings only what depends on them is computed again, by the functions that the report's
numbers come from, so at the settings of the config the verdict is that of the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import LATENCIES
from helpers.metrics.groups import read_groups, summarise_groups
from helpers.metrics.level_latencies import PERCENTS, LevelLatencies
from helpers.metrics.looks import Looks, looks_of
from helpers.metrics.summary import Level, prices_of, read_levels
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.verdict.analysis import Measurements
from helpers.verdict.capacity import HOURS_PER_MONTH, fleet
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.judging import judge
from helpers.verdict.verdict import Capacity, Estimate, OptionVerdict, Verdict

KEYS = ["option", "dataset", "load_kind", "level"]
MONTH = "usd_per_month"
REMEMBERED = 50
"""Tables of load points that are kept."""
DEPENDS_ON_SLO = ("goodput_per_s", "estimates_within_slo", "slo", "lacking")
"""Beginnings of the columns that are not taken over from the run's own table."""


@dataclass(frozen=True)
class Settings:
    """What may be changed."""

    dataset: str | None
    """None: all datasets, in the traffic's mix."""
    metric: str
    """The latency that `limit_s` is on: a column of the request records."""
    percentile: float
    """In percent."""
    limit_s: float
    keeps_other_limits: bool
    """Do the limits that the config puts on other latencies hold too?"""
    error_rate: float
    """Largest share of failed requests."""
    requests_per_minute: float
    headroom: float
    """Share of the capacity that is kept free."""
    price: str | None
    """One of the config's other prices, for the options that have it; None: the price that was measured at."""


@dataclass(frozen=True)
class Outcome:
    """The verdict at some settings, and what it rests on."""

    config: BenchmarkConfig
    """The config with the settings in place."""
    points: pd.DataFrame
    """The load points that count, with the columns of `summary.summarise` that depend on no SLO or on this one."""
    endpoints: list[EndpointRecord]
    """With the price in place."""
    verdict: Verdict


def settings_of(config: BenchmarkConfig) -> Settings:
    """The settings that a config has itself."""
    metric = main_latency(config)
    return Settings(
        dataset=None,
        metric=metric,
        percentile=config.slo.percentile,
        limit_s=config.slo.limits_s()[metric],
        keeps_other_limits=True,
        error_rate=config.slo.error_rate,
        requests_per_minute=config.traffic.requests_per_minute,
        headroom=config.traffic.headroom,
        price=None,
    )


def config_at(config: BenchmarkConfig, settings: Settings) -> BenchmarkConfig:
    """The config with these settings in place: one that a file might hold."""
    others = config.slo.limits_s() if settings.keeps_other_limits else {}
    limits = dict.fromkeys(LATENCIES) | others | {settings.metric: settings.limit_s}
    slo = limits | {"percentile": settings.percentile, "error_rate": settings.error_rate}
    traffic = {"requests_per_minute": settings.requests_per_minute, "headroom": settings.headroom}
    changes: dict[str, object] = {"slo": config.slo.model_copy(update=slo)}
    if settings.dataset is not None:
        traffic["mix"] = {settings.dataset: 1.0}
        changes["datasets"] = [dataset for dataset in config.datasets if dataset.name == settings.dataset]
    return config.model_copy(update=changes | {"traffic": config.traffic.model_copy(update=traffic)})


class WhatIf:
    """A run's requests in memory, and the verdict at any settings."""

    def __init__(self, config: BenchmarkConfig, run: RunFolder, measured: Measurements) -> None:
        self.config, self.run, self.measured = config, run, measured
        steady = measured.points.drop(columns=[c for c in measured.points if c.startswith(DEPENDS_ON_SLO)])
        known = {tuple(row[key] for key in KEYS): row for row in steady.to_dict("records")}
        self._levels = []
        for level in read_levels(run.requests, measured.facts, config):
            first = level.facts[0]
            row = known[first.option, first.dataset, first.load_kind, float(first.level)]
            self._levels.append(_HeldLevel(level, row, looks_of(config)))
        self._has_groups = not read_groups(run).empty
        self._points_at = lru_cache(REMEMBERED)(self._points_at)

    @property
    def measured_latencies(self) -> list[str]:
        """The latencies that at least one request has."""
        points = self.measured.points
        return [c for c in LATENCIES if points[f"{c}_mean_ok"].notna().any() or c in self.config.slo.limits_s()]

    @property
    def price_names(self) -> list[str]:
        """The other prices that the config names."""
        names = [price.name for option in self.config.options for price in option.other_prices]
        return list(dict.fromkeys(names))

    def latency_range_s(self, metric: str) -> tuple[float, float] | None:
        """The smallest and the largest percentile of a latency that was measured at any load; None where none is known."""
        columns = [f"{metric}_p{percent:g}" for percent in PERCENTS]
        values = self.measured.points[columns].to_numpy(dtype=float)
        values = values[np.isfinite(values) & (values > 0)]
        return (float(values.min()), float(values.max())) if len(values) else None

    def at(self, settings: Settings) -> Outcome:
        """The verdict at these settings."""
        config = config_at(self.config, settings)
        endpoints = [self._at_price(record, settings.price) for record in self.measured.endpoints]
        points = self._points_at(config.slo.model_dump_json(), settings.metric, settings.price)
        if settings.dataset is not None:
            points = points[points["dataset"] == settings.dataset].reset_index(drop=True)
        verdict = judge(points, endpoints, self.measured.warnings, config, self.run.run_id)
        return Outcome(config, points, endpoints, verdict)

    def _points_at(self, slo: str, metric: str, price: str | None) -> pd.DataFrame:
        """The table of load points at an SLO (as JSON) and a price."""
        config = self.config.model_copy(update={"slo": type(self.config.slo).model_validate_json(slo)})
        endpoints = [self._at_price(record, price) for record in self.measured.endpoints]
        changed = {record.option: record for record in endpoints} if price is not None else {}
        rows = [level.row_at(config, metric, changed.get(level.option)) for level in self._levels]
        if not self._has_groups:
            return pd.DataFrame(rows)
        return pd.concat([pd.DataFrame(rows), summarise_groups(self.run, endpoints, config)], ignore_index=True)

    def _at_price(self, record: EndpointRecord, name: str | None) -> EndpointRecord:
        option = next((option for option in self.config.options if option.name == record.option), None)
        named = {price.name: price for price in option.other_prices} if option else {}
        if name not in named:
            return record
        return record.model_copy(update={"usd_per_instance_hour": named[name].usd_per_hour})


class _HeldLevel:
    """One level: the row of the run's table, and the latencies from which its SLO columns follow."""

    def __init__(self, level: Level, row: dict, looks: Looks | None) -> None:
        self.option, self._row = row["option"], row
        self._steady = None if pd.isna(row["steady"]) else bool(row["steady"])
        self._latencies = LevelLatencies(level.steady, looks)
        self._percentiles = cache(self._latencies.percentiles)

    def row_at(self, config: BenchmarkConfig, metric: str, endpoint: EndpointRecord | None) -> dict:
        """The row at another SLO, and at the price of `endpoint` if one is given."""
        slo, row = config.slo, dict(self._row)
        if endpoint is not None:
            row["usd_per_hour"] = endpoint.usd_per_hour()
            row |= prices_of(row, endpoint)
        for column in dict.fromkeys([*slo.limits_s(), metric]):
            row |= self._percentiles(column, slo.percentile)
        return row | self._latencies.slo_columns(slo, self._steady, row["client_limited"])


# --- bills --------------------------------------------------------------------------------------------------------


def with_bills(outcome: Outcome) -> pd.DataFrame:
    """The points with what the traffic would cost a month if all of it were of the point's dataset, $: `usd_per_month`,
    with an interval from that of the served rate.
    """
    points, record = outcome.points, {endpoint.option: endpoint for endpoint in outcome.endpoints}
    bills = {}
    for bound, of_rate in (("", ""), ("_low", "_high"), ("_high", "_low")):
        rows = zip(
            points["option"], points[f"served_requests_per_s{of_rate}"], points["usd_per_1k_requests"], strict=True
        )
        bills[f"{MONTH}{bound}"] = np.array(
            [_monthly_usd(record.get(name), rate, each, outcome.config) for name, rate, each in rows], dtype=float
        )
    return points.assign(**bills)


def _monthly_usd(
    record: EndpointRecord | None,
    served_per_s: float | None,
    usd_per_1k_requests: float | None,
    config: BenchmarkConfig,
) -> float | None:
    """The bill at a served rate, in whole instances, or by the request; None where price or rate is unknown."""
    traffic = config.traffic
    if record is not None and record.usd_per_1m_output_tokens is not None:
        each = usd_per_1k_requests
        return None if each is None else each / 1e3 * traffic.requests_per_minute * 60 * HOURS_PER_MONTH
    if record is None or record.usd_per_instance_hour is None or served_per_s is None or not served_per_s > 0:
        return None
    one = Estimate(value=served_per_s * 60 / record.instance_count, low=None, high=None)
    option = OptionVerdict.model_construct(
        instance_count=record.instance_count,
        token_rates=None,
        capacity=Capacity.model_construct(requests_per_minute_per_instance=one),
    )
    need = fleet(option, traffic.requests_per_minute, traffic.headroom, record.usd_per_instance_hour)
    return need.usd_per_hour * HOURS_PER_MONTH
