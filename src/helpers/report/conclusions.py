"""What each figure shows, as its title: one sentence with the numbers, from the same data as the figure."""

from __future__ import annotations

import math

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.metrics.formulas import percentile
from helpers.report.charts.load_points import latency_to_draw
from helpers.report.comparing import compared, listed, more_expensive, quoted
from helpers.verdict.capacity import as_cheap, candidates, cheapest_ranges
from helpers.verdict.changes import runner_up
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.verdict import Verdict

FULL = 0.95
"""A load from which more load raises the throughput by less than 5% fills an option."""


def price_title(verdict: Verdict, config: BenchmarkConfig) -> str:
    """Who is cheapest within the limit, and how far the next one is behind."""
    limit = f"{config.slo.limits_s()[main_latency(config)]:g} s"
    limit += " and the quality gate" if verdict.has_gate and verdict.recommended else ""
    if verdict.recommended is None:
        none = f"No option is shown to {verdict.aim}"
        if verdict.best_estimate:
            return f"{none}; by its estimates {quoted(verdict.best_estimate)} is the cheapest that does"
        return f"{none}; {quoted(verdict.nearest)} comes nearest" if verdict.nearest else none
    winner, second = verdict.option(verdict.recommended), runner_up(verdict)
    if second is None:
        return f"Only {quoted(winner.option)} is shown to meet the limit of {limit}"
    behind = more_expensive(second.cost.value, winner.cost.value)
    if verdict.tied:
        names = listed([quoted(name) for name in (winner.option, *verdict.tied)])
        return f"{names} cost the same within {limit}, as far as was measured"
    return f"{quoted(winner.option)} is cheapest within {limit}; {quoted(second.option)} is {behind}"


def bill_title(verdict: Verdict, config: BenchmarkConfig) -> str:
    """Who has the lowest bill at the planned traffic, and where that changes."""
    ranges = cheapest_ranges(verdict, config.traffic.headroom)
    if not ranges:
        return ""
    if len(candidates(verdict)) == 1:
        return f"The bill of {quoted(ranges[0].option)} rises with each further instance"
    if len(ranges) == 1:
        names = [
            quoted(name) for name in (ranges[0].option, *as_cheap(verdict, config.traffic.headroom, ranges[0].option))
        ]
        have = "has the lowest bill" if len(names) == 1 else "have the same, lowest bill"
        return f"{listed(names)} {have} up to {text.number(ranges[0].high)} requests a minute"
    wanted = config.traffic.requests_per_minute
    here = next((one for one in ranges if one.low <= wanted <= one.high), None)
    turns = text.plural(len(ranges) - 1, "time")
    if here is None:
        return f"The option with the lowest bill changes {turns} up to {text.number(ranges[-1].high)} requests a minute"
    return f"At {text.number(wanted)} requests a minute {quoted(here.option)} has the lowest bill; the lowest changes {turns}"


def load_title(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> str:
    """Up to which load the recommended option, or else each, stays within the limit, by what was measured."""
    column, words = latency_to_draw(points, config)
    limit = config.slo.limits_s()[main_latency(config)]
    is_mean = column.endswith("_mean_ok")
    parts: dict[str, list[str]] = {}
    for option in _first(verdict, points):
        mine = points[(points["option"] == option) & points[column].notna()]
        highest = [_highest_within(rows, column, limit) for _, rows in mine.groupby("dataset", sort=False)]
        if highest:
            level = None if None in highest else min(highest)
            parts.setdefault(_up_to(level, mine["level"].max(), config), []).append(quoted(option))
    if not parts:
        return ""
    told = "; ".join(f"{listed(names)} {up_to}" for up_to, names in parts.items())
    of = f", the limit of the p{config.slo.percentile:g}" if is_mean else ""
    return f"{words[0].upper()}{words[1:]} stays within {limit:g} s{of}: {told}"


def _first(verdict: Verdict, points: pd.DataFrame) -> list[str]:
    """The recommended option and the next one; else the one that is best by its estimates or comes nearest, else the first two
    that were measured.
    """
    measured, second = list(dict.fromkeys(points["option"])), runner_up(verdict)
    if verdict.recommended is None:
        best = verdict.best_estimate or verdict.nearest
        return [best] if best else measured[:2]
    return [verdict.recommended, *([second.option] if second else [])]


def _highest_within(rows: pd.DataFrame, column: str, limit: float) -> float | None:
    """The highest level below which none is beyond the limit."""
    found = None
    for _, row in rows.sort_values("level").iterrows():
        if not row[column] <= limit:
            break
        found = float(row["level"])
    return found


def _up_to(level: float | None, most: float, config: BenchmarkConfig) -> str:
    if level is None:
        return "at no load"
    return f"{'even at' if level == most else 'up to'} {LoadLevel(config.load.level_kind, level).label}"


def throughput_title(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> str:
    """From which load on an option serves no more."""
    found: dict[float | None, list[str]] = {}
    for option in _first(verdict, points):
        mine = points[(points["option"] == option) & (points["requests_per_s"] > 0)]
        if mine["level"].nunique() < 2:
            continue  # one load says nothing of another
        levels = [_full_from(rows) for _, rows in mine.groupby("dataset", sort=False)]
        found.setdefault(None if None in levels else max(levels), []).append(quoted(option))
    return "; ".join(
        f"{listed(names)} still {'gain' if len(names) > 1 else 'gains'} at the highest load"
        if level is None
        else f"{listed(names)} {'are' if len(names) > 1 else 'is'} full at {LoadLevel(config.load.level_kind, level).label}"
        for level, names in found.items()
    )


def _full_from(rows: pd.DataFrame) -> float | None:
    """The lowest level that serves at least `FULL` of the most; None where that is the highest of several."""
    rows = rows.sort_values("level")
    full = rows[rows["requests_per_s"] >= FULL * rows["requests_per_s"].max()]
    lowest = float(full["level"].iloc[0])
    return None if lowest == rows["level"].max() else lowest


def prompt_title(samples: pd.DataFrame) -> str:
    """How much longer the longest third of the prompts takes than the shortest, of the option that suffers most and least.
    `samples` are the requests that are drawn.
    """
    ok = samples[samples["ok"].astype(bool) & samples["latency_s"].notna() & samples["prompt_tokens"].notna()]
    ratios = {}
    for option, mine in ok.groupby("option", sort=False):
        low, high = mine["prompt_tokens"].quantile([1 / 3, 2 / 3])
        short, long = mine[mine["prompt_tokens"] <= low], mine[mine["prompt_tokens"] >= high]
        if len(short) and len(long) and low < high and short["latency_s"].median() > 0:
            ratios[option] = float(long["latency_s"].median() / short["latency_s"].median())
    if not ratios:
        return ""
    return _longer("The longest third of the prompts", "the shortest", ratios)


def mean_prompt_title(points: pd.DataFrame) -> str:
    """The same of imported results without single requests: the dataset with the longest prompts against that with the
    shortest, by means, at the lowest load of each.
    """
    known = points.dropna(subset=["prompt_tokens_mean", "latency_s_mean_ok"])
    lowest = known[known["level"] == known.groupby(["option", "dataset"])["level"].transform("min")]
    length = lowest.groupby("dataset")["prompt_tokens_mean"].mean()
    if length.nunique() < 2:
        return ""
    latency = lowest.set_index(["option", "dataset"])["latency_s_mean_ok"]
    long, short = length.idxmax(), length.idxmin()
    both = [
        option for option in dict.fromkeys(lowest["option"]) if {(option, long), (option, short)} <= set(latency.index)
    ]
    ratios = {option: latency[option, long] / latency[option, short] for option in both if latency[option, short] > 0}
    return _longer(long, short, ratios) if ratios else ""


def _longer(long: str, short: str, ratios: dict[str, float]) -> str:
    """How much longer the long prompts take than the short ones, of the option that suffers most and least."""
    least, most = min(ratios, key=ratios.get), max(ratios, key=ratios.get)
    high, low = (text.significant(ratios[option], 2) for option in (most, least))
    if high == low:
        return f"{long} takes {'as long' if high == '1.0' else f'{high} times as long'} as {short}"
    return f"{long} takes {high} times as long as {short} on {quoted(most)}, {low} times on {quoted(least)}"


def median_title(samples: pd.DataFrame, column: str, what: str) -> str:
    """Whose median is lowest and whose is highest, of the requests that are drawn."""
    known = samples[samples[column].notna()]
    medians = {name: percentile(mine[column].to_numpy(float), 50) for name, mine in known.groupby("option", sort=False)}
    medians = {name: value for name, value in medians.items() if math.isfinite(value)}
    if not medians:
        return ""
    low, high = min(medians, key=medians.get), max(medians, key=medians.get)
    if low == high:
        return f"{what} {text.duration(medians[low])} on {quoted(low) if len(medians) == 1 else 'each option'}"
    said = f"{what} {text.duration(medians[low])} on {quoted(low)}"
    slower = compared(medians[high], medians[low], "more", "less", "as much")
    return f"{said}, {text.duration(medians[high])} on {quoted(high)}: {slower}"


def error_title(points: pd.DataFrame, config: BenchmarkConfig) -> str:
    """Where most requests failed, against the limit."""
    known = points[points["error_rate"].notna()]
    if known.empty or not known["failures"].any():
        return ""
    worst = known.loc[known["error_rate"].astype(float).idxmax()]
    return (
        f"{quoted(worst['option'])} failed most: {text.percent(worst['error_rate'], 1)} on {worst['dataset']} at "
        f"{worst['load']}, where {text.percent(config.slo.error_rate, 1)} may"
    )
