"""Three sets of rules put before the same request records: the project's own, plain intervals, and the published report's.

Each gives an `Answer`: which option it names, which ones it leaves as possible winners, at which load point it would run
the named one, and the intervals that it states.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from examples import summarise_load_points
from planted_campaigns import ERROR_LIMIT, LENGTH_TOLERANCE, PERCENT, Campaign

from helpers.config.load_level import LoadLevel
from helpers.metrics.intervals import percentile
from helpers.run.records import read_facts, read_requests
from helpers.verdict.judging import judge
from helpers.verdict.verdict import Verdict

RESAMPLES = 400
QUANTITIES = ("latency", "requests_per_s", "price")


class Stated(NamedTuple):
    """A 95% interval that a rule states of a load point; null bounds are unknown."""

    option: str
    dataset: str
    level: LoadLevel
    quantity: str
    value: float
    low: float | None
    high: float | None
    steady: bool


class Answer(NamedTuple):
    """What a rule says of a campaign."""

    recommended: str | None
    candidates: frozenset[str]
    """The recommended option and all that the rule does not rule out."""
    chosen: dict[str, LoadLevel]
    """Dataset -> load point at which the recommended option is to run."""
    intervals: list[Stated]
    verdict: Verdict | None = None
    points: pd.DataFrame | None = None


NOTHING = Answer(None, frozenset(), {}, [])


# --- the project's rules ------------------------------------------------------------------------------------------


def our_rules(campaign: Campaign, folder: Path) -> Answer:
    """Through the front door: the summary of the records, and the verdict on it."""
    config = campaign.config
    points = summarise_load_points(folder, read_facts(folder), campaign.endpoints, config)
    return answer_of(campaign, points, judge(points, campaign.endpoints, [], config, "planted"))


def answer_of(campaign: Campaign, points: pd.DataFrame, verdict: Verdict) -> Answer:
    """What a verdict says of a campaign."""
    left = [verdict.recommended, *verdict.tied, *verdict.may_be_cheaper]
    chosen = {}
    if verdict.recommended:
        chosen = {p.dataset: LoadLevel(p.load_kind, p.level) for p in verdict.option(verdict.recommended).points}
    basis = "usd_per_1m_output_tokens" if campaign.per_token else "usd_per_1k_requests"
    columns = dict(zip(QUANTITIES, (f"latency_s_p{PERCENT}", "requests_per_s", basis), strict=True))
    stated = []
    for row in points.to_dict("records"):
        level = LoadLevel(row["load_kind"], row["level"])
        if level not in campaign.levels:  # it was measured to show room at another: its truth is not known
            continue
        for quantity, column in columns.items():
            value, low, high = (_known(row[column + suffix]) for suffix in ("", "_low", "_high"))
            where = row["option"], row["dataset"], level
            stated.append(Stated(*where, quantity, value, low, high, bool(row["steady"])))
    return Answer(verdict.recommended, frozenset(left) - {None}, chosen, stated, verdict, points)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


# --- plain intervals ----------------------------------------------------------------------------------------------


def plain_interval_rule(campaign: Campaign, folder: Path) -> Answer:
    """What one would write first: a load point is feasible if its p95 and error rate are, as measured; each option at its
    cheapest feasible one; the cheapest leads, and options whose price intervals overlap with its are tied. Intervals are
    bootstrapped from single requests, as if they were independent.
    """
    rng = np.random.default_rng([campaign.seed, 4])
    steady = _steady(folder)
    lengths = steady[steady["ok"]].groupby(["dataset", "option"])["output_tokens"].mean().groupby("dataset")
    per_token = bool((lengths.max() > (1 + LENGTH_TOLERANCE) * lengths.min()).any())
    stated, best = [], {}
    for (option, dataset, level), here in steady.groupby(["option", "dataset", "level"]):
        where = option, dataset, LoadLevel(campaign.levels[0].kind, level)
        found = _bootstrapped(where, here, campaign, rng, per_token)
        stated += [one for one in found if one.quantity in QUANTITIES]
        latency, price = found[0], found[-1]
        within = latency.value <= campaign.limit_s and (~here["ok"]).mean() <= ERROR_LIMIT
        if within and price.value < best.get((option, dataset), (math.inf,))[0]:
            best[option, dataset] = price.value, price.low, price.high, where[2]
    options = [o for o in campaign.stations if all((o, d) in best for d in campaign.shares)]
    if not options:
        return NOTHING._replace(intervals=stated)
    value, low, high = (
        {o: sum(share * best[o, d][i] for d, share in campaign.shares.items()) for o in options} for i in range(3)
    )
    winner = min(options, key=value.get)
    left = frozenset(o for o in options if low[o] <= high[winner])
    return Answer(winner, left, {d: best[winner, d][3] for d in campaign.shares}, stated)


def _bootstrapped(
    where: tuple[str, str, LoadLevel], here: pd.DataFrame, campaign: Campaign, rng: np.random.Generator, per_token: bool
) -> list[Stated]:
    """Intervals of the three quantities, and last the price in the unit in which the rule compares."""
    latency_s, ok, gap_s = (here[name].to_numpy() for name in ("latency_s", "ok", "gap_s"))
    tokens = here["output_tokens"].to_numpy()
    draws = rng.integers(len(here), size=(RESAMPLES, len(here)))
    rank = math.ceil(len(here) * PERCENT / 100) - 1
    resampled = np.partition(latency_s[draws], rank, axis=1)[:, rank]
    usd_per_s = campaign.stations[where[0]].usd_per_hour / 3600

    def rates(amounts: np.ndarray) -> tuple[float, np.ndarray]:
        return amounts.sum() / gap_s.sum(), amounts[draws].sum(1) / gap_s[draws].sum(1)

    def stated(quantity: str, value: float, values: np.ndarray) -> Stated:
        low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
        return Stated(*where, quantity, float(value), float(low), float(high), True)

    def price(quantity: str, per_token: bool) -> Stated:
        rate, values = rates(tokens if per_token else ok.astype(float))
        unit = usd_per_s * (1e6 if per_token else 1e3)
        with np.errstate(divide="ignore"):
            return stated(quantity, np.divide(unit, rate), unit / values)

    return [
        stated("latency", percentile(latency_s, PERCENT), resampled),
        stated("requests_per_s", *rates(ok.astype(float))),
        price("price", campaign.per_token),
        price("price compared", per_token),
    ]


def _steady(folder: Path) -> pd.DataFrame:
    """Requests of the steady windows in order of being sent, with latency (failures: inf; `lasted_s`: until they
    failed) and the gap to the next one.
    """
    closes = {facts.load_point: facts.window_close_ns for facts in read_facts(folder)}
    columns = ["option", "dataset", "level", "load_point", "phase", "sent_ns", "done_ns", "status", "output_tokens"]
    rows = read_requests(folder, columns)
    rows = rows[rows["phase"] == "steady"].sort_values(["load_point", "sent_ns"])
    ok = rows["status"] == "ok"
    following = rows.groupby("load_point")["sent_ns"].shift(-1)
    following = following.fillna(rows["load_point"].map(closes).astype("Int64"))
    lasted_s = ((rows["done_ns"] - rows["sent_ns"]) / 1e9).astype(float)
    return rows.assign(
        ok=ok.to_numpy(bool),
        lasted_s=lasted_s,
        latency_s=lasted_s.where(ok, math.inf),
        gap_s=((following - rows["sent_ns"]) / 1e9).astype(float),
        output_tokens=rows["output_tokens"].astype("Float64").fillna(0).astype(float).where(ok, 0.0),
    )


# --- the published report's rules ---------------------------------------------------------------------------------


def reference_rules(campaign: Campaign, folder: Path) -> Answer:
    """The published report's, as near as may be: on the dataset with the longest prompts, of all load points whose mean
    latency of answers is within the limit, the one with the lowest price per transaction. That is $/h / 60 / transactions
    per minute, which are the truncated mean of the volleys' rates. A volley is as many consecutive requests as are in
    flight, and lasts as long as the slowest of them, as if they were sent together. No intervals, nothing is tied.
    """
    dataset = list(campaign.shares)[-1]
    best, winner, chosen = math.inf, None, {}
    for (option, name, level), here in _steady(folder).groupby(["option", "dataset", "level"]):
        latency_s, ok = here["latency_s"].to_numpy(), here["ok"].to_numpy()
        mean_s = latency_s[ok].mean() if ok.any() else math.inf
        if name != dataset or mean_s > campaign.limit_s:
            continue
        size = max(1, round(level * mean_s if campaign.is_open else level))
        volleys = len(here) // size
        lasted_s = here["lasted_s"].to_numpy()[: volleys * size].reshape(volleys, size).max(axis=1)
        rates = 60 * ok[: volleys * size].reshape(volleys, size).sum(axis=1) / lasted_s
        per_minute = int(rates.mean()) if volleys else 0
        price = campaign.stations[option].usd_per_hour / 60 / per_minute if per_minute else math.inf
        if price < best:
            best, winner, chosen = price, option, {dataset: LoadLevel(campaign.levels[0].kind, level)}
    return NOTHING if winner is None else Answer(winner, frozenset([winner]), chosen, [])


RULES = {"our_rules": our_rules, "plain_interval_rule": plain_interval_rule, "reference_rules": reference_rules}
