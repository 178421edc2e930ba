"""A server whose capacity is known, searched by the race's decisions alone, and by doubling and halving on estimates."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from helpers.config.load import Search
from helpers.load.race import Leave, next_step
from helpers.load.race_points import Point, Price
from helpers.metrics.intervals import Interval, share_bounds
from helpers.metrics.looks import Looks

SHARE, CONFIDENCE = 0.05, 0.95
"""The SLO is a p95."""
STEEPNESS = 8
"""By how much the log-odds of a slow request rise with the logarithm of the load: of 5% more load by 0.4."""
PRICE_CV = 0.5
FIRST_LOOK = 30
LOOKS = Looks((30, 60, 120, 240, 480))


class Found(NamedTuple):
    """What a search ends with."""

    level: float
    """The highest that it takes to meet the SLO; 0 for none."""
    measured: list[float]
    requests: int


class Server:
    """Slow requests at each level of a search, drawn from a seed; `planted`: the first look at a level has so many."""

    def __init__(self, capacity: float, seed: int, planted: tuple[float, int] | None = None) -> None:
        self._capacity, self._rng, self._planted = capacity, np.random.default_rng(seed), planted

    def slow(self, level: float, requests: int, *, is_first: bool) -> int:
        """How many of so many requests are beyond the limit."""
        if is_first and self._planted is not None and level == self._planted[0]:
            return self._planted[1] * requests // FIRST_LOOK
        odds = SHARE / (1 - SHARE) * (level / self._capacity) ** STEEPNESS
        return int(self._rng.binomial(requests, odds / (1 + odds)))

    def seconds(self, level: float, requests: int) -> float:
        """How long the requests take: so many workers are always busy."""
        return requests / level * (1 + self._rng.normal() * PRICE_CV / math.sqrt(requests))


@cache
def _bounds(count: int, total: int, low: float, high: float) -> Interval:
    return Interval(share_bounds(count, total, low).low, share_bounds(count, total, high).high)


def raced(search: Search, server: Server) -> Found:
    """The search as it is: bounds that hold at all looks say which level is next."""
    levels, most = [level.value for level in search.levels()], search.most_levels
    held: dict[float, list[float]] = {}  # level -> requests, slow ones, seconds
    measured: list[float] = []
    while True:
        points = [_point(level, held.get(level), is_spent=len(held) >= most) for level in levels]
        step = next_step({"short": points}, {"short": 1.0}, None, 0.05, climbs=True)
        if isinstance(step, Leave):
            met = max((point.level for point in points if point.state == "met"), default=0.0)
            return Found(met, measured, int(sum(n for n, _, _ in held.values())))
        so_far = held.setdefault(step.level, [0, 0, 0.0])
        size = LOOKS.next_total(so_far[0]) - so_far[0]
        slow = server.slow(step.level, size, is_first=so_far[0] == 0)
        held[step.level] = [so_far[0] + size, so_far[1] + slow, so_far[2] + server.seconds(step.level, size)]
        measured.append(step.level)


def _point(level: float, held: list[float] | None, *, is_spent: bool) -> Point:
    if held is None:
        return Point(level, is_spent=is_spent)
    n, slow, seconds = held
    sure = LOOKS.of_limit(CONFIDENCE, n)
    low, high = _bounds(slow, n, sure.low, sure.high)
    state = "met" if high <= SHARE else "missed" if low > SHARE else "undecided"
    half = 3 * PRICE_CV / math.sqrt(n)
    price = Price(seconds / n, seconds / n * (1 - half), seconds / n * (1 + half))
    is_within = slow / n <= SHARE and state != "missed"
    return Point(level, False, n, state, is_within, (price, price), LOOKS.next_total(n) is None)


def by_estimates(search: Search, server: Server, requests: int = 120) -> Found:
    """Doubling and halving in which one probe decides a level for ever."""
    probes: dict[float, bool] = {}
    while True:
        failed = min((level for level, passed in probes.items() if not passed), default=math.inf)
        highest = max((level for level, passed in probes.items() if passed and level < failed), default=0.0)
        between = [level.value for level in search.levels() if highest < level.value < failed]
        if not between:
            return Found(highest, list(probes), requests * len(probes))
        doubled = max((level for level in between if level <= 2 * highest), default=between[0])
        level = between[len(between) // 2] if failed < math.inf else doubled
        probes[level] = server.slow(level, requests, is_first=True) <= SHARE * requests
