"""What a race knows of an option, and what follows from it: what the option costs, and the least that it may cost.

As a rule, latency and throughput rise with load: no level above one that misses the SLO meets it, and a closed loop serves at
most in proportion to its concurrency. That more load is cheaper is not taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

BASES = ("usd_per_1k_requests", "usd_per_1m_output_tokens")
"""Prices in which options may be compared: one is dropped only where it is more expensive in both."""
FLAT = 0.97
"""The price of a load is taken not to fall any more where that of the next lower load is at least this share of it."""


class Price(NamedTuple):
    """A price with its bounds."""

    value: float
    low: float
    high: float


UNKNOWN = Price(math.inf, 0.0, math.inf)


@dataclass(frozen=True)
class Point:
    """What is known of an option at a level of a dataset."""

    level: float
    is_open: bool = False
    """Does the schedule bound what is served?"""
    n: int = 0
    """Requests that count."""
    state: Literal["met", "missed", "undecided"] = "undecided"
    is_within: bool = False
    """Is the SLO met as measured, however sure that is?"""
    prices: tuple[Price, ...] = (UNKNOWN,) * len(BASES)
    """In each of the `BASES`."""
    is_spent: bool = False
    """No further look is possible."""
    is_futile: bool = False
    """Further looks would hardly decide whether it meets the SLO."""
    most: float = math.inf
    """As many requests as its last look may hold."""
    needs: float | None = None
    """Another level that has to be measured before this one can be shown to meet the SLO (`metrics.room`)."""
    is_unjudged: bool = False
    """All looks that it may have said nothing about the server."""

    @property
    def is_measured(self) -> bool:
        """Was it looked at?"""
        return self.n > 0

    @property
    def may_be_decided(self) -> bool:
        """May further looks decide whether it meets the SLO?"""
        return not self.is_spent and not self.is_futile


Points = Mapping[str, Sequence[Point]]
"""Dataset -> its levels, ascending."""


def own_price(points: Points, shares: Mapping[str, float], *, in_the_end: bool = False) -> tuple[Price, ...] | None:
    """What an option costs over the traffic, each dataset at the cheapest load that is shown to meet the SLO; None where one has
    none. `in_the_end`: with the bounds that its last looks would give.
    """
    best = [(share, best_of(points[dataset])) for dataset, share in shares.items()]
    if any(point is None for _, point in best):
        return None
    prices = [(share, prices_in_the_end(point) if in_the_end else point.prices) for share, point in best]
    return tuple(
        Price(*(sum(share * price[basis][i] for share, price in prices) for i in range(3)))
        for basis in range(len(BASES))
    )


def prices_in_the_end(point: Point) -> list[Price]:
    """Prices as they would be after the last look, if nothing but the number of requests changed."""
    shrunk = math.sqrt(point.n / max(point.n, point.most))
    return [
        Price(value, value - (value - low) * shrunk, value + (high - value) * shrunk)
        for value, low, high in point.prices
    ]


def price_so_far(points: Points, shares: Mapping[str, float]) -> tuple[Price, ...] | None:
    """What an option seems to cost in each of the `BASES`, for readers; None once it is shown to miss the SLO.

    `low` is the least that it may cost at loads that are not ruled out, `high` the most where it is shown to meet the SLO, and
    infinite until it is. `value` is infinite while no load seems to meet the SLO.
    """
    if not all(not_excluded(points[dataset]) for dataset in shares):
        return None
    own, prices = own_price(points, shares), []
    for basis in range(len(BASES)):
        low = at_least(points, shares, basis)
        seems = sum(
            share * min((p.prices[basis].value for p in not_excluded(points[d]) if p.is_within), default=math.inf)
            for d, share in shares.items()
        )
        prices.append(Price(own[basis].value, low, own[basis].high) if own else Price(seems, low, math.inf))
    return tuple(prices)


def are_apart(one: Sequence[Price], other: Sequence[Price]) -> bool:
    """Is the one or the other shown to be cheaper?"""
    pairs = list(zip(one, other, strict=True))
    return all(a.high < b.low for a, b in pairs) or all(a.low > b.high for a, b in pairs)


def at_least(points: Points, shares: Mapping[str, float], basis: int) -> float:
    """The least that an option may cost, each dataset at the load at which it may cost least."""
    return sum(
        share * min(lowest_price(point, points[dataset], basis) for point in not_excluded(points[dataset]))
        for dataset, share in shares.items()
    )


def lowest_price(point: Point, levels: Sequence[Point], basis: int) -> float:
    """The least that a level may cost: its lower bound, or what follows from other levels; 0 where nothing does."""
    if point.is_measured:
        return point.prices[basis].low
    known = [other for other in levels if other.is_measured and math.isfinite(other.prices[basis].value)]
    if point.is_open:
        return max((other.prices[basis].low * other.level / point.level for other in known), default=0.0)
    below = [other for other in known if other.level < point.level]
    from_below = max((other.prices[basis].low * other.level / point.level for other in below), default=0.0)
    above = [other for other in known if other.level > point.level]
    if len(above) < 2 or above[0].prices[basis].value < FLAT * above[1].prices[basis].value:
        return from_below
    return max(from_below, above[0].prices[basis].low)


def best_of(levels: Sequence[Point]) -> Point | None:
    """The cheapest load that is shown to meet the SLO; None where none is."""
    met = [point for point in levels if point.state == "met"]
    return min(met, key=order_by_price, default=None)


def not_excluded(levels: Sequence[Point]) -> list[Point]:
    """Levels that are not shown to miss the SLO, by themselves or because a lower one does."""
    floor = max((point.level for point in levels if point.state == "met"), default=-math.inf)
    missed = min((p.level for p in levels if p.state == "missed" and p.level > floor), default=math.inf)
    return [p for p in levels if p.state != "missed" and (p.level < missed or p.state == "met")]


def order_by_price(point: Point) -> tuple[float, float]:
    """By price, and by what is served where none is known."""
    return point.prices[0].value, -point.level
