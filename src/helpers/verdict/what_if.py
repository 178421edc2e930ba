"""What the verdict would be at another SLO, traffic or price, from requests that are held in memory. Times in seconds.

Requests are read once. Only what depends on the settings is computed again, by the functions that compute the report, so at
the settings of the config the verdict is that of the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import OPEN_LOOPS
from helpers.metrics.formulas import LATENCIES
from helpers.metrics.groups import HeldGroups
from helpers.metrics.load_point_latencies import PERCENTS
from helpers.metrics.looks import AsAsked, surely
from helpers.metrics.mix import latencies_of
from helpers.metrics.pooled_failures import judge_across_loads
from helpers.metrics.rates import prices_of
from helpers.metrics.summary import LoadPoint, read_load_points
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.verdict.analysis import Measurements
from helpers.verdict.capacity import HOURS_PER_MONTH, instances_for
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.judging import judge, recommended
from helpers.verdict.verdict import CostBasis, Verdict

KEYS = ["option", "dataset", "load_kind", "level"]
MONTH = "usd_per_month"
REMEMBERED = 50
"""Number of load-point tables that are cached."""
DEPENDS_ON_SLO = ("goodput_per_s", "estimates_within_slo", "slo", "lacking")
"""Prefixes of the columns that are not copied from the run's own table."""


@dataclass(frozen=True)
class Settings:
    """The settings that may be changed."""

    dataset: str | None
    """None: all datasets, in the traffic's mix."""
    metric: str
    """The latency that `limit_s` limits: a column of the request records."""
    percentile: float
    """In percent."""
    limit_s: float
    keeps_other_limits: bool
    """True if the config's limits on other latencies apply too."""
    error_rate: float
    """Largest share of failed requests."""
    requests_per_minute: float
    headroom: float
    """Share of the capacity that is kept free."""
    price: str | None
    """One of the config's other prices, for the options that have it; None: the price at which the run was measured."""


@dataclass(frozen=True)
class Outcome:
    """The verdict at some settings, and what it follows from."""

    config: BenchmarkConfig
    """The config with the settings in place."""
    points: pd.DataFrame
    """The load points that count, with the columns of `summary.summarise` that depend on no SLO or on this one."""
    endpoints: list[EndpointRecord]
    """At the price of the settings."""
    verdict: Verdict


def settings_of(config: BenchmarkConfig) -> Settings:
    """The settings of a config."""
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
    """The config with these settings in place, as a file might hold it."""
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
        self._points = []
        for point in read_load_points(run.requests, measured.facts, config):
            first = point.facts[0]
            row = known[first.option, first.dataset, first.load_kind, float(first.level)]
            self._points.append(_HeldLoadPoint(point, row, surely(config)))
        self._groups = HeldGroups(run, config)
        self._points_at = lru_cache(REMEMBERED)(self._points_at)

    @property
    def measured_latencies(self) -> list[str]:
        """The latencies that at least one request has; TTFA, where nothing reasoned, is TTFT."""
        points, limits = self.measured.points, self.config.slo.limits_s()
        known = [c for c in LATENCIES if points[f"{c}_mean_ok"].notna().any() or c in limits]
        return [c for c in known if c != "ttfa_s" or c in limits or (points["reasoned"] > 0).any()]

    @property
    def price_names(self) -> list[str]:
        """The other prices that the config names."""
        names = [price.name for option in self.config.options for price in option.other_prices]
        return list(dict.fromkeys(names))

    def latency_range_s(self, metric: str) -> tuple[float, float] | None:
        """The smallest and largest percentiles of a latency that were measured at any load; None where none is known."""
        columns = [f"{metric}_p{percent:g}" for percent in PERCENTS]
        values = self.measured.points[columns].to_numpy(dtype=float)
        values = values[np.isfinite(values) & (values > 0)]
        return (float(values.min()), float(values.max())) if len(values) else None

    def at(self, settings: Settings) -> Outcome:
        """The verdict at these settings."""
        config, points, endpoints = self._measured_at(settings)
        measured = self.measured
        verdict = judge(points, endpoints, measured.warnings, config, self.run.run_id, measured.quality)
        return Outcome(config, points, endpoints, verdict)

    def recommended_at(self, settings: Settings, basis: CostBasis) -> str | None:
        """The option that the verdict at these settings recommends, where it compares prices in `basis`: in a fraction of the
        time of the whole verdict.
        """
        config, points, endpoints = self._measured_at(settings)
        return recommended(points, endpoints, basis, config, self.measured.quality)

    def _measured_at(self, settings: Settings) -> tuple[BenchmarkConfig, pd.DataFrame, list[EndpointRecord]]:
        config = config_at(self.config, settings)
        endpoints = [self._at_price(record, settings.price) for record in self.measured.endpoints]
        points = self._points_at(config.slo.model_dump_json(), settings.metric, settings.price)
        if settings.dataset is not None:
            points = points[points["dataset"] == settings.dataset].reset_index(drop=True)
        return config, points, endpoints

    def _points_at(self, slo: str, metric: str, price: str | None) -> pd.DataFrame:
        """The table of load points at an SLO (as JSON) and a price."""
        config = self.config.model_copy(update={"slo": type(self.config.slo).model_validate_json(slo)})
        endpoints = [self._at_price(record, price) for record in self.measured.endpoints]
        changed = {record.option: record for record in endpoints} if price is not None else {}
        rows = [point.row_at(config, metric, changed.get(point.option)) for point in self._points]
        if not len(self._groups):
            return judge_across_loads(pd.DataFrame(rows), config)
        groups = self._groups.summarise(endpoints, config)
        return judge_across_loads(pd.concat([pd.DataFrame(rows), groups], ignore_index=True), config)

    def _at_price(self, record: EndpointRecord, name: str | None) -> EndpointRecord:
        option = next((option for option in self.config.options if option.name == record.option), None)
        named = {price.name: price for price in option.other_prices} if option else {}
        if name not in named:
            return record
        return record.model_copy(update={"price": named[name].as_price()})


class _HeldLoadPoint:
    """One load point: the row of the run's table, and the latencies from which its SLO columns follow."""

    def __init__(self, point: LoadPoint, row: dict, sure: AsAsked) -> None:
        self.option, self._row = row["option"], row
        self._steady = None if pd.isna(row["steady"]) else bool(row["steady"])
        self._latencies = latencies_of(point.steady, is_open=row["load_kind"] in OPEN_LOOPS, sure=sure)
        self._percentiles = cache(self._latencies.percentiles)

    def row_at(self, config: BenchmarkConfig, metric: str, endpoint: EndpointRecord | None) -> dict:
        """The row at another SLO, and at the price of `endpoint` if one is given."""
        slo, row = config.slo, dict(self._row)
        if endpoint is not None:
            row["usd_per_hour"] = endpoint.usd_per_option_hour()
            row |= prices_of(row, endpoint.price)
        for column in dict.fromkeys([*slo.limits_s(), metric]):
            row |= self._percentiles(column, slo.percentile)
        row |= {"failures_pooled_over": 1, "shows_room": None}
        return row | self._latencies.slo_columns(slo, self._steady, row["client_limited"])


# --- bills --------------------------------------------------------------------------------------------------------


def with_bills(outcome: Outcome) -> pd.DataFrame:
    """The points with `usd_per_month`: what the traffic would cost a month if all of it came from the point's dataset, $, with
    an interval that follows from that of the served rate.
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
    """The bill at a served rate, in whole instances or by the token; None where price or rate is unknown."""
    if record is None or record.price is None:
        return None
    traffic, together = config.traffic, record.instance_count
    if record.price.is_per_token:
        each = usd_per_1k_requests
        return None if each is None else each / 1e3 * traffic.requests_per_minute * 60 * HOURS_PER_MONTH
    if served_per_s is None or not served_per_s > 0:
        return None
    per_instance = served_per_s * 60 / together
    instances = instances_for(traffic.requests_per_minute, per_instance, together, traffic.headroom)
    return record.price.usd_per_instance_hour * instances * HOURS_PER_MONTH
