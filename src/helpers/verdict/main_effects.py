"""What each setting of a matrix changes: main effects on price and latency, over the combinations that were measured.

The effect of a value against the first of its setting is the mean difference of logarithms over all pairs of combinations that
are alike in every other setting and were both measured: so each comparison is balanced, also where combinations are missing
(main effects of a factorial design: Box, Hunter and Hunter, *Statistics for Experimenters*, 2005, ch. 5). Its interval is
recovered from those of the combinations, as far as they reach to either side (MOVER: Zou and Donner, *Statistics in Medicine* 27,
2008), which were measured independently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import CLIENT_LIMITED
from helpers.verdict.chosen_points import estimate_of, percentile_column
from helpers.verdict.verdict import Estimate, Verdict

Pair = tuple[Estimate, Estimate]
"""A value with the first value of a setting, and with another one."""


@dataclass(frozen=True)
class Effect:
    """What a value of a setting changes against the setting's first value. Changes are shares: -0.4 is 40% less."""

    matrix: str
    """Name of the option with the matrix."""
    setting: str
    value: str
    against: str
    pairs: int
    """Pairs of combinations of which both have a price."""
    possible: int
    """Pairs of the full matrix, excluded ones included."""
    price: Estimate | None
    lowest: float | None
    highest: float | None
    """Change of the price of single pairs."""
    latency: Estimate | None
    """Of the SLO's percentile of the main latency, at the load points that both of a pair have."""
    load_points: int
    """Such load points with a finite percentile in both, over all pairs."""


def main_effects(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> list[Effect]:
    """The effects of every matrix of the config, in its order; empty without one, or where no two combinations were measured."""
    settings = {o.name: o.from_matrix for o in config.options if o.from_matrix is not None}
    costs = {option.option: option.cost for option in verdict.options}
    column, found = percentile_column(config), []
    judged = points[points["slo"] != CLIENT_LIMITED]
    latencies = {
        name: {(row["dataset"], row["load"]): estimate_of(row, column) for _, row in mine.iterrows()}
        for name, mine in judged.groupby("option")
    }
    for matrix in dict.fromkeys(each.option for each in settings.values()):
        mine = {name: each.settings for name, each in settings.items() if each.option == matrix}
        levels = {
            setting: list(dict.fromkeys(each[setting] for each in mine.values()))
            for setting in next(iter(mine.values()))
        }
        for setting, (first, *others) in levels.items():
            for value in others:
                both = _pairs(mine, setting, first, value)
                prices = [(costs[one], costs[other]) for one, other in both if _has(costs[one]) and _has(costs[other])]
                times = [
                    pair for one, other in both for pair in _shared(latencies.get(one, {}), latencies.get(other, {}))
                ]
                if not prices and not times:
                    continue
                each = [pair[1].value / pair[0].value - 1 for pair in prices]
                found.append(
                    Effect(
                        matrix,
                        setting,
                        value,
                        first,
                        len(prices),
                        math.prod(len(each) for name, each in levels.items() if name != setting),
                        mean_change(prices),
                        min(each, default=None),
                        max(each, default=None),
                        mean_change(times),
                        len(times),
                    )
                )
    return found


def mean_change(pairs: Sequence[Pair]) -> Estimate | None:
    """exp(mean of ln(other / one)) - 1, with its interval; None without pairs, None for an end that is unknown."""
    if not pairs:
        return None
    change = sum(math.log(other.value / one.value) for one, other in pairs) / len(pairs)
    below = _spread([(other.value, other.low) for _, other in pairs] + [(one.value, one.high) for one, _ in pairs])
    above = _spread([(other.value, other.high) for _, other in pairs] + [(one.value, one.low) for one, _ in pairs])
    return Estimate(
        value=math.expm1(change),
        low=None if below is None else math.expm1(change - below / len(pairs)),
        high=None if above is None else math.expm1(change + above / len(pairs)),
    )


def _spread(values_and_ends: Sequence[tuple[float, float | None]]) -> float | None:
    """The root of the sum of squares of ln(value / end); None where an end is unknown, or 0 or less."""
    if any(end is None or end <= 0 for _, end in values_and_ends):
        return None
    return math.sqrt(sum(math.log(value / end) ** 2 for value, end in values_and_ends))


def _pairs(combinations: dict[str, dict[str, str]], setting: str, first: str, value: str) -> list[tuple[str, str]]:
    """(option, option) that differ in one setting only, which has these two values."""
    with_value = {
        tuple((each | {setting: ""}).items()): name for name, each in combinations.items() if each[setting] == value
    }
    return [
        (name, with_value[key])
        for name, each in combinations.items()
        if each[setting] == first and (key := tuple((each | {setting: ""}).items())) in with_value
    ]


def _has(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value > 0


def _shared(one: dict[tuple, Estimate | None], other: dict[tuple, Estimate | None]) -> list[Pair]:
    return [(one[at], other[at]) for at in one if _has(one[at]) and _has(other.get(at))]
