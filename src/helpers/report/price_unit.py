"""The unit in which a page gives its prices: of so many requests or output tokens that most can be read at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from helpers import number_text as text
from helpers.report.columns import Column
from helpers.verdict.verdict import Estimate, Verdict
from helpers.verdict.what_if import MONTH

PRICES = {
    "usd_per_1k_requests": (1e3, "requests"),
    "usd_per_1m_output_tokens": (1e6, "output tokens"),
    "usd_per_1m_input_tokens": (1e6, "input tokens"),
    "usd_per_1m_tokens": (1e6, "tokens"),
}
"""Column of a price -> of how many it is, and of what."""


@dataclass(frozen=True)
class PriceUnit:
    """`scale`: what a value of `column` is multiplied by; `words`: "per 1M requests"."""

    column: str
    scale: float
    words: str


def price_unit(verdict: Verdict, points: pd.DataFrame | None = None, column: str | None = None) -> PriceUnit:
    """The unit of the verdict's prices, or of the load points' where it has none or `column` is another than its basis."""
    column = column or verdict.cost_basis
    if column == MONTH:
        return PriceUnit(column, 1.0, "a month")
    prices = [option.cost.value for option in verdict.options if option.cost] if column == verdict.cost_basis else []
    if not prices and points is not None:
        prices = points[column].tolist()
    return unit_for(column, prices)


def unit_for(column: str, prices: Sequence[float | None]) -> PriceUnit:
    """The unit in which most of these values of a price (a key of PRICES) can be read at a glance."""
    usual, counted = PRICES[column]
    multiple = text.multiple_for([None if price is None else price / usual for price in prices], usual)
    return PriceUnit(column, multiple / usual, f"per {text.MULTIPLES[multiple]} {counted}")


def scaled(cost: Estimate | None, unit: PriceUnit) -> Estimate | None:
    """A price with its interval in the unit."""
    return cost and cost.times(unit.scale)


def interval_of(estimate: Estimate | None, decimals: int | None = None) -> text.Interval:
    """The interval as a cell; None: with as many decimals as the value needs."""
    if estimate is None:
        return text.NO_INTERVAL
    return text.Interval(
        estimate.low, estimate.high, text.decimals_for([estimate.value]) if decimals is None else decimals
    )


def price_column(rows: pd.DataFrame, column: str, verdict: Verdict, best: str | None = None) -> Column:
    """A price in a table, all rows in one unit."""
    unit = price_unit(verdict, rows, column)
    decimals = text.decimals_for([value * unit.scale for value in rows[column] if text.is_known(value)])
    return Column(column, f"$ {unit.words}", lambda value, _: text.number(value and value * unit.scale, decimals), best)
