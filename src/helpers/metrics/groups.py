"""One row per load point that was measured in groups of requests, of whose single latencies only bounds are known.

How a group looks is in `group_records`. Unknown is None; an SLO is met or missed only where the bounds decide it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.config.benchmark import BenchmarkConfig, ServiceLevel
from helpers.config.load_level import LoadLevel
from helpers.metrics import formulas as metrics
from helpers.metrics.attempts import end_columns
from helpers.metrics.formulas import LATENCIES, MET, MISSED, UNDECIDED
from helpers.metrics.group_bounds import misses, tops_of
from helpers.metrics.intervals import (
    CONFIDENCE,
    NO_INTERVAL,
    design_effect,
    ratio_interval,
    samples_to_show,
    share_bounds,
)
from helpers.metrics.load_point_latencies import PERCENTS, percentile_columns
from helpers.metrics.rates import prices_of, served_rates
from helpers.metrics.reasoning import NO_REASONING
from helpers.metrics.sample_size import requests_lacking
from helpers.metrics.token_samples import no_sample
from helpers.price import Price
from helpers.run.folder import RunFolder
from helpers.run.group_records import read_groups
from helpers.run.ledger import EndpointRecord


def summarise_groups(run: RunFolder, endpoints: list[EndpointRecord], config: BenchmarkConfig) -> pd.DataFrame:
    """One row per level that was measured in groups, with the columns of `summary.summarise`: options and datasets in the
    config's order, levels ascending, repetitions pooled. No rows where a run has no groups.

    Rates are totals by totals, with a 95% interval from the groups as batches. Percentiles are exact where all single
    latencies are known, as printed where one group is the whole load point, else None. What depends on the order of
    requests (autocorrelation, steadiness) is unknown: a closed loop of c is taken as if c requests counted as one.
    """
    return HeldGroups(run, config).summarise(endpoints, config)


class HeldGroups:
    """The groups of a run in memory, and their table at any limits and prices."""

    def __init__(self, run: RunFolder, config: BenchmarkConfig) -> None:
        groups, self._points = read_groups(run), []
        for option in config.options:
            for dataset in config.datasets_of(option):
                mine = groups[(groups["option"] == option.name) & (groups["dataset"] == dataset.name)]
                for (kind, value), here in mine.groupby(["load_kind", "level"]):
                    self._points.append((option.name, LoadLevel(kind, value), here))
        self._known: dict[tuple, _Measured] = {}

    def __len__(self) -> int:
        return len(self._points)

    def summarise(self, endpoints: list[EndpointRecord], config: BenchmarkConfig) -> pd.DataFrame:
        """The table, as `summarise_groups` describes it."""
        endpoint, rows = {record.option: record for record in endpoints}, []
        for i, (option, load, here) in enumerate(self._points):
            record, percent = endpoint.get(option), config.slo.percentile
            key = i, record and (record.price, record.instance_count), percent
            if key not in self._known:
                self._known[key] = _measure(here, load, record, percent)
            rows.append(_judge(self._known[key], config.slo))
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Measured:
    """A load point but for what follows from the limits."""

    here: pd.DataFrame
    groups: list[dict]
    """Its rows."""
    row: dict
    effect: float
    """Of `_effect`."""


def _measure(here: pd.DataFrame, load: LoadLevel, endpoint: EndpointRecord | None, slo_percent: float) -> _Measured:
    n, failures = int(here["requests"].sum()), int(here["failures"].sum())
    ok = here["requests"] - here["failures"]
    wall_s = _sum(here["wall_s"]) or None  # no time at all: the tool did not measure it
    in_flight_s = _sum((ok * here["latency_mean_s"]).where(ok > 0, 0.0))
    row = {
        "option": here["option"].iloc[0],
        "dataset": here["dataset"].iloc[0],
        "load_kind": load.kind,
        "level": load.value,
        "load": load.label,
        "repetitions": int(here["repetition"].nunique()),
        "steady": None,
        "not_steady": None,
        **end_columns([]),
        "client_limited": False,
        "n": n,
        "failures": failures,
        "window_s": wall_s,
        "error_rate": metrics.error_rate(failures, n) if here["failures_known"].all() else None,
        "commonest_failure": None,
        "achieved_concurrency": in_flight_s / wall_s if wall_s and in_flight_s is not None else None,
        "asked_rate_per_s": None,
        "achieved_rate_per_s": None,
        "schedule_lag_p99_ms": None,
        "usd_per_hour": endpoint and endpoint.usd_per_option_hour(),
    }
    for name in ("prompt_tokens", "output_tokens"):
        row[f"{name}_mean"], row[f"{name}_sd"] = _mean_and_sd(here[name], ok)
    row["cached_tokens_mean"] = 0.0  # no tool reports them
    row |= {f"{known}_hit_rate": None for known in ("asked", "sent", "found")}
    row |= NO_REASONING | no_sample()
    effect = _effect(here, load)
    failed_alike = effect if 0 < failures < n else 1.0
    row["error_rate_low"], row["error_rate_high"] = share_bounds(failures, n, (1 + CONFIDENCE) / 2, failed_alike)
    row |= {"failure_effect": failed_alike, "failures_pooled_over": 1}
    row |= {"saturated_per_s_low": None, "saturated_per_s_high": None, "shows_room": None, "stalls": None}
    for name, values in (
        ("requests", ok.astype(float)),
        ("goodput", None),
        ("output_tokens", here["output_tokens"].astype("float64")),
        ("prompt_tokens", here["prompt_tokens"].astype("float64")),
    ):
        row |= _rate(here, name, values, wall_s)
    row |= served_rates(row, {})
    row |= _prices(row, endpoint and endpoint.price)
    for column in LATENCIES:
        row |= _percentiles(here, column, effect, slo_percent)
    row |= {f"itl_s_p{p:g}": None for p in PERCENTS}
    return _Measured(here, here.to_dict("records"), row, effect)


def _judge(of: _Measured, slo: ServiceLevel) -> dict:
    """The row of a load point at an SLO."""
    row, n, failures = dict(of.row), of.row["n"], of.row["failures"]
    limits, states = slo.limits_s().items(), {}
    missed = {column: np.array([misses(group, column, limit) for group in of.groups]) for column, limit in limits}
    row |= _rate(of.here, "goodput", _good(of.here, missed), row["window_s"])
    for column, limit in limits:
        tops = [tops_of(group, column) for group in of.groups]
        states[f"slo_{column}"] = _state(n, missed[column], tops, limit, of.effect, slo)
    of_errors = failures, n, slo.error_rate, slo.confidence, row["failure_effect"]
    states["slo_error_rate"] = metrics.share_is_met(*of_errors)
    row |= {f"{what}_{column}": None for column, _ in limits for what in ("beyond", "limit_effect")}
    row |= {f"lacking_{column}": _lacking(n, missed[column], of.effect, slo) for column, _ in limits}
    row["lacking_error_rate"] = requests_lacking(*of_errors)
    if row["error_rate"] is None:
        row |= {"error_rate_low": None, "error_rate_high": None, "lacking_error_rate": None}
        states["slo_error_rate"] = UNDECIDED
    row |= states | {"estimates_within_slo": _estimates_within(row, missed, slo)}
    state = metrics.all_of(states.values())
    endless = row["load_kind"] != "closed_loop"  # a queue may have been growing unnoticed
    return row | {"slo": UNDECIDED if state == MET and endless else state}


def _sum(values: pd.Series) -> float | None:
    """None where any is."""
    return None if values.isna().any() else float(values.sum())


def _mean_and_sd(tokens: pd.Series, ok: pd.Series) -> tuple[float | None, float | None]:
    """Tokens of a mean request, and the standard deviation between requests as the means of groups let expect it."""
    known = tokens.notna() & (ok > 0)
    counts, sums = ok[known].to_numpy(float), tokens[known].to_numpy(float)
    if not len(counts):
        return None, None
    mean = sums.sum() / counts.sum()
    if len(counts) < 2:
        return float(mean), None
    return float(mean), math.sqrt(float((counts * (sums / counts - mean) ** 2).sum() / (len(counts) - 1)))


def _effect(here: pd.DataFrame, load: LoadLevel) -> float:
    """How many requests carry the information of one independent request (`intervals.design_effect`).

    Where all latencies of a load point are known in order of sending it is estimated, else a closed loop's requests in
    flight at once, which waited in the same queue, are taken for one.
    """
    streams = max(1, round(load.value)) if load.kind == "closed_loop" else 1
    in_order = here["latency_s"].notna().all() and (here["requests"] > 1).all()
    if in_order:
        return max(design_effect([np.asarray(one)], 100) for one in here["latency_s"])
    return float(streams)


def _rate(here: pd.DataFrame, name: str, amounts: pd.Series | None, wall_s: float | None) -> dict[str, float | None]:
    """What was served per second: the total of what groups count by the total of their time, groups as batches."""
    total = None if amounts is None else _sum(amounts)
    printed = here["reported"].iloc[0].get(f"{name}_per_s") if len(here) == 1 else None
    known = bool(wall_s) and total is not None
    low, high = ratio_interval(amounts.to_numpy(float), here["wall_s"].to_numpy(float)) if known else NO_INTERVAL
    rate = total / wall_s if known else printed
    return {f"{name}_per_s": rate, f"{name}_per_s_low": low, f"{name}_per_s_high": high}


def _good(here: pd.DataFrame, missed: dict[str, np.ndarray]) -> pd.Series | None:
    """Requests of each group that met every limit; None where that is not certain.

    `missed`, here and below: latency -> the fewest and the most misses (`misses`) of each group, shape (groups, 2).
    """
    if any((bounds[:, 0] != bounds[:, 1]).any() for bounds in missed.values()):
        return None
    most = pd.DataFrame({column: bounds[:, 1] for column, bounds in missed.items()}, here.index)
    if len(missed) > 1 and (most.sub(here["failures"], axis=0) > 0).any(axis=None):
        return None  # one request may have missed several limits
    return (here["requests"] - most.max(axis=1)).astype(float)


def _prices(row: dict, price: Price | None) -> dict:
    """Prices where the rates that they follow from are known."""
    by_the_token = price is not None and price.is_per_token
    unknown = [name for name in ("requests", "output_tokens", "prompt_tokens") if row[f"served_{name}_per_s"] is None]
    if by_the_token or not unknown:
        return prices_of(row, price)
    found = prices_of(row | {f"served_{name}_per_s": 0.0 for name in unknown}, price)
    return found | {"usd_per_1m_tokens": None}


def _percentiles(here: pd.DataFrame, column: str, effect: float, slo_percent: float) -> dict:
    """Of all requests where each is known; else as printed, if all of the load point is one group without failures."""
    failures = int(here["failures"].sum())
    ok = here["requests"] - here["failures"]
    known = here.loc[ok > 0, column]
    if len(known) and known.notna().all() and (column == "tpot_s" or sum(map(len, known)) == ok.sum()):
        values = np.concatenate([*known, np.full(failures, np.inf)])
        return percentile_columns(column, values, min(effect, len(values)), slo_percent)
    total = _sum((ok * here["latency_mean_s"]).where(ok > 0, 0.0)) if column == "latency_s" and ok.sum() else None
    row = {f"{column}_n": int(here["requests"].sum()), f"{column}_effective_n": None}
    row[f"{column}_mean_ok"] = None if total is None else total / int(ok.sum())
    printed = here["reported"].iloc[0] if len(here) == 1 and not failures else {}
    for percent in sorted({*PERCENTS, slo_percent}):
        row[f"{column}_p{percent:g}"] = printed.get(f"{column}_p{percent:g}")
    return row | {f"{column}_p{slo_percent:g}_low": None, f"{column}_p{slo_percent:g}_high": None}


def _state(n: int, missed: np.ndarray, tops: list[np.ndarray], limit: float, effect: float, slo: ServiceLevel) -> str:
    """`met` only if even the most misses that there can have been allow it, `missed` only if even the fewest forbid it.

    What no request can exceed (`tops`) may show that a limit is met as well: the percentile of those bounds lies above that of
    the latencies.
    """
    fewest, most = missed.sum(axis=0)
    if metrics.share_is_met(int(fewest), n, 1 - slo.percentile / 100, slo.confidence, effect) == MISSED:
        return MISSED
    if n < samples_to_show(slo.percentile):
        return UNDECIDED
    by_tops = metrics.limit_is_met(np.concatenate(tops), limit, slo.percentile, slo.confidence, effect, effect)
    by_count = metrics.share_is_met(int(most), n, 1 - slo.percentile / 100, slo.confidence, effect)
    return MET if MET in (by_tops, by_count) else UNDECIDED


def _lacking(n: int, missed: np.ndarray, effect: float, slo: ServiceLevel) -> int | None:
    """Further requests that would show the limit to be met, if as many miss it as may have missed it so far."""
    return requests_lacking(int(missed[:, 1].sum()), n, 1 - slo.percentile / 100, slo.confidence, effect)


def _estimates_within(row: dict, missed: dict[str, np.ndarray], slo: ServiceLevel) -> bool | None:
    """Are error rate and percentiles within the SLO as measured; None where that is not known."""
    if row["failures"] == row["n"] or (row["error_rate"] or 0.0) > slo.error_rate:
        return False
    answers: list[bool | None] = [None] if row["error_rate"] is None else []
    for column, limit in slo.limits_s().items():
        value = row[f"{column}_p{slo.percentile:g}"]
        if value is not None:
            answers.append(value <= limit)
            continue
        fewest, most = missed[column].sum(axis=0)
        allowed = (1 - slo.percentile / 100) * row["n"]
        answers.append(True if most <= allowed else False if fewest > allowed else None)
    return False if False in answers else None if None in answers else True
