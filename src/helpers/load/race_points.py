"""What a race knows of an option, and what follows from it: what the option costs, and the least that it may cost.

As a rule, latency and throughput rise with load: no level above one that misses the SLO meets it, and a closed loop serves at
most in proportion to its concurrency. That more load is cheaper is not taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from helpers.metrics.intervals import least_difference

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
    return tuple(over_traffic([(share, price[basis]) for share, price in prices]) for basis in range(len(BASES)))


def over_traffic(parts: Sequence[tuple[float, Price]]) -> Price:
    """Σ share x price. The datasets were measured independently, so the distances to the bounds add as squares."""
    value = sum(share * price.value for share, price in parts)
    if not math.isfinite(value):
        return Price(value, sum(share * price.low for share, price in parts), math.inf)
    below = math.hypot(*(share * (price.value - price.low) for share, price in parts))
    above = math.hypot(*(share * (price.high - price.value) for share, price in parts))
    return Price(value, value - below, value + above)


def is_dearer(one: Sequence[Price], other: Sequence[Price]) -> bool:
    """Is `one` shown to cost more than `other`, in each of the `BASES`?"""
    return all(least_difference(mine, of) > 0 for mine, of in zip(one, other, strict=True))


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
    for basis, least in enumerate(at_least(points, shares)):
        seems = sum(
            share * min((p.prices[basis].value for p in not_excluded(points[d]) if p.is_within), default=math.inf)
            for d, share in shares.items()
        )
        prices.append(Price(own[basis].value, least.low, own[basis].high) if own else Price(seems, least.low, math.inf))
    return tuple(prices)


def are_apart(one: Sequence[Price], other: Sequence[Price]) -> bool:
    """Is the one or the other shown to be cheaper?"""
    return is_dearer(one, other) or is_dearer(other, one)


def at_least(
    points: Points, shares: Mapping[str, float], at: Mapping[str, Point] = MappingProxyType({})
) -> tuple[Price, ...]:
    """The least that an option may cost in each of the `BASES`, each dataset at the load at which it may cost least; datasets in
    `at` at the load given there.
    """
    loads = {dataset: [at[dataset]] if dataset in at else not_excluded(points[dataset]) for dataset in shares}
    return tuple(
        over_traffic(
            [
                (share, _least_of([least_price(load, points[d], basis) for load in loads[d]]))
                for d, share in shares.items()
            ]
        )
        for basis in range(len(BASES))
    )


def _least_of(prices: Sequence[Price]) -> Price:
    """The least of the estimates with the least of the lower bounds. What is shown to cost less than that costs less than each of
    the prices, because distances add as squares (triangle inequality).
    """
    value = min(price.value for price in prices)
    return Price(value, min(price.low for price in prices), value)


def lowest_price(point: Point, levels: Sequence[Point], basis: int) -> float:
    """The lower bound of `least_price`."""
    return least_price(point, levels, basis).low


def least_price(point: Point, levels: Sequence[Point], basis: int) -> Price:
    """The least that a level may cost: its own price, or what follows from that of other levels; 0 where nothing does."""
    if point.is_measured:
        return point.prices[basis]
    known = [other for other in levels if other.is_measured and math.isfinite(other.prices[basis].value)]
    below = known if point.is_open else [other for other in known if other.level < point.level]
    above = [other for other in known if other.level > point.level]
    least = [Price(*(end * other.level / point.level for end in other.prices[basis])) for other in below]
    is_flat = len(above) > 1 and above[0].prices[basis].value >= FLAT * above[1].prices[basis].value
    if not point.is_open and is_flat:
        least.append(above[0].prices[basis])
    return max(least, key=lambda price: price.low, default=Price(0.0, 0.0, 0.0))


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
