"""The race: what is measured next of an option, or why its endpoint may go. Pure functions of what was measured so far.

Within an option the levels are bracketed by first looks (is the SLO met there, as measured?), and then the level is measured
that matters most: the highest that seems to meet the SLO, until it is shown to; any other that may be cheaper by more than the
indifference, until it is shown to miss the SLO, or not to be cheaper. A bracket itself excludes nothing: a level above one that
only seems to miss the SLO is excluded once that one, or another one between them, is shown to miss it. Against a leader an
option goes on only until it is shown to be infeasible, more expensive, or not cheaper by more than the indifference, or until
it is the new leader. Every bound holds at all looks and for all load points at once (`metrics.looks`), so an option is wrongly
dropped with at most the error that the config allows.
(Best arm identification with feasibility tests: Cai and Kandasamy, arXiv:2511.09808; Katz-Samuels and Scott, AISTATS 2019.
Stopping within an indifference: Even-Dar, Mannor and Mansour, JMLR 7, 2006.)

Latency and throughput rise with load, as a rule (`race_points`). That more load is cheaper is not taken for granted: the level
below the cheapest is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from helpers.load.race_points import (
    FLAT,
    Point,
    Points,
    Price,
    are_apart,
    at_least,
    best_of,
    is_dearer,
    lowest_price,
    not_excluded,
    order_by_price,
    own_price,
    prices_in_the_end,
)

PRECISE = 2
"""A price is known well enough where its upper bound is within so many times the indifference."""
FARTHEST = 2
"""A search climbs from a level to one at most so many times as high; so does a look beyond a level that seems to miss."""
LEFT_OPEN = 2
"""A level that holds so many times the requests of a first look is left open by it."""
Outcome = Literal["infeasible", "more expensive", "not cheaper", "settled", "undecided", "never loaded"]


class Measure(NamedTuple):
    """Measure the next block of a load point."""

    dataset: str
    level: float


class Leave(NamedTuple):
    """The option's endpoint may go."""

    outcome: Outcome
    prices: tuple[Price, ...] = ()
    """The least that the option may cost, where it is dropped because of what the leader costs."""


def next_step(
    points: Points,
    shares: Mapping[str, float],
    leader: Sequence[Price] | None,
    indifference: float,
    *,
    climbs: bool = False,
) -> Measure | Leave:
    """What to do with the option whose endpoint is up. `shares` are those of the datasets in the traffic; `leader` is what the
    best of the other options costs, None while none is shown to meet the SLO; `climbs`: first looks begin at the lowest level.
    """
    for dataset in shares:
        if not not_excluded(points[dataset]):
            return Leave("infeasible")
    least, own = at_least(points, shares), own_price(points, shares)
    if leader is not None and is_dearer(least, leader):
        return Leave("more expensive", least)
    if leader is not None and own is not None and _is_tied(own, least, leader, indifference):
        return Leave("not cheaper", least)
    if leader is not None:
        points = _that_may_win(points, shares, leader)
        if (behind := _to_show_behind(points, shares, leader, climbs)) is not None:
            return behind
    if any(best_of(points[d]) is None and not any(p.may_be_decided for p in not_excluded(points[d])) for d in shares):
        return Leave("undecided")
    wanted = [(d, level) for d in shares if (level := _next_level(points[d], indifference, climbs)) is not None]
    if not wanted and own is not None:
        wanted = _loads_to_refine(points, shares, leader, indifference)
    if not wanted:
        return Leave("undecided" if own is None else "settled")
    return _measure(*max(wanted, key=lambda one: _urgency(points[one[0]], shares[one[0]])), points)


def _measure(dataset: str, level: float, points: Points) -> Measure:
    """A level, or first the one that it needs."""
    needs = next(point.needs for point in points[dataset] if point.level == level)
    return Measure(dataset, level if needs is None else needs)


def _is_tied(own: Sequence[Price], least: Sequence[Price], leader: Sequence[Price], indifference: float) -> bool:
    """Is an option that seems to cost as much as the leader shown not to be cheaper by more than the indifference?"""
    seems = all(price.value <= (1 + indifference) * of.value for price, of in zip(own, leader, strict=True))
    return seems and is_dearer(least, [Price(*((1 - indifference) * end for end in of)) for of in leader])


def _that_may_win(points: Points, shares: Mapping[str, float], leader: Sequence[Price]) -> Points:
    """The points; those at which the option would cost more than the leader, whatever its other datasets cost, are spent."""
    return {
        dataset: [
            replace(p, is_spent=p.is_spent or is_dearer(at_least(points, shares, {dataset: p}), leader))
            for p in points[dataset]
        ]
        for dataset in shares
    }


def _to_show_behind(
    points: Points, shares: Mapping[str, float], leader: Sequence[Price], climbs: bool
) -> Measure | None:
    """Of an option that seems more expensive than the leader, and would be shown to be by its last looks: the load point at which
    it may yet be cheaper.
    """
    if any(_pilot(points[dataset], climbs) is not None for dataset in shares):
        return None
    seems, at_best, in_the_end = 0.0, [], {}
    for dataset, share in shares.items():
        possible = not_excluded(points[dataset])
        likely = [p for p in possible if p.is_within or p.state == "met"] or possible
        seems += share * min(point.prices[0].value for point in likely)
        in_the_end[dataset] = [replace(p, prices=prices_in_the_end(p)) for p in possible if p.is_measured]
        point = _gate(min(possible, key=lambda p: (lowest_price(p, points[dataset], 0), -p.level)), points[dataset])
        if not point.is_spent:
            at_best.append((share * (point.prices[0].value - point.prices[0].low), dataset, point.level))
    would_show = all(in_the_end.values()) and is_dearer(at_least(in_the_end, shares), leader)
    if seems <= leader[0].value or not would_show or not at_best:
        return None
    return Measure(*max(at_best)[1:])


def _next_level(levels: Sequence[Point], indifference: float, climbs: bool) -> float | None:
    """The level of a dataset that matters most; None where nothing more is to be learnt."""
    possible = not_excluded(levels)
    if (pilot := _pilot(levels, climbs)) is not None:
        return pilot
    open_levels = [p for p in possible if p.state == "undecided" and p.may_be_decided]
    best, floor = best_of(levels), max((p for p in possible if p.is_within), key=lambda p: p.level, default=None)
    if best is None:
        known = [p for p in levels if p.is_measured] if climbs else levels
        if floor is not None and (likely := _easiest(floor, known, indifference)) is not None:
            return likely
        below = [p.level for p in open_levels if floor is not None and p.level < floor.level]
        return max(below, default=min((p.level for p in open_levels), default=None))
    margin = (1 - indifference) * best.prices[0].value
    cheaper = [p for p in open_levels if lowest_price(p, levels, 0) < margin and _may_be_cheaper(p, best, levels)]
    if not cheaper:
        return None
    most = min(cheaper, key=lambda p: (not p.is_measured, not p.is_within, lowest_price(p, levels, 0), -p.level))
    return _gate(most, levels).level


def _may_be_cheaper(point: Point, best: Point, levels: Sequence[Point]) -> bool:
    """Does a level seem cheaper than the best, or, without a look, may it be? Below the best none is looked at where the next
    lower that was is not cheaper.
    """
    if point.is_measured:
        return order_by_price(point) < order_by_price(best)
    below = [p for p in levels if p.is_measured and p.level < best.level]
    falls = bool(below) and below[-1].prices[0].value >= FLAT * best.prices[0].value
    return point.level > best.level or not falls


def _gate(point: Point, levels: Sequence[Point]) -> Point:
    """What to measure for a level: itself, or, where it had no look and lies beyond levels that seem to miss the SLO, the next
    lower of these, which excludes it once it is shown to miss. Beyond them all no level is tried that is farther than `FARTHEST`.
    """
    below = [p for p in levels if p.is_measured and p.level < point.level]
    if point.is_measured or not below:
        return point
    for lower in reversed(below):
        if lower.is_within:
            break
        if lower.state == "undecided" and lower.may_be_decided:
            return lower
    highest = below[-1].level
    unseen = [p for p in levels if highest < p.level <= point.level and not p.is_measured and not p.is_spent]
    near = [p for p in unseen if p.level <= FARTHEST * highest]
    return near[-1] if near else unseen[0] if unseen else point


def _loads_to_refine(
    points: Points, shares: Mapping[str, float], leader: Sequence[Price] | None, indifference: float
) -> list[tuple[str, float]]:
    """Datasets, with the cheapest load that is shown to meet the SLO, of which the price is not known well enough: to compare
    others with, or to tell the option from the leader.
    """
    best = {dataset: best_of(points[dataset]) for dataset in shares}
    wanted = {dataset: point.level for dataset, point in best.items() if not point.is_spent}
    most = 1 + PRECISE * indifference
    inexact = [(d, level) for d, level in wanted.items() if best[d].prices[0].high > most * best[d].prices[0].value]
    if inexact or leader is None or not _may_be_told_apart(points, shares, leader, indifference):
        return inexact
    return list(wanted.items())


def _may_be_told_apart(
    points: Points, shares: Mapping[str, float], leader: Sequence[Price], indifference: float
) -> bool:
    """Is it open which is cheaper, the option or the leader, and would its last looks show it? Within the indifference it is not
    asked.
    """
    now, in_the_end = own_price(points, shares), own_price(points, shares, in_the_end=True)
    pairs = list(zip(now, leader, strict=True))
    if all(abs(price.value / of.value - 1) <= indifference for price, of in pairs) or are_apart(now, leader):
        return False
    return are_apart(in_the_end, leader)


def _easiest(floor: Point, levels: Sequence[Point], indifference: float) -> float | None:
    """The level at which an option is most easily shown to meet the SLO at its price; None where no look is left there.

    It is the highest that seems to meet it, or a lower one that costs no more, as where requests only wait longer.
    Below a level that its first look leaves open one more is looked at.
    """
    most = (1 + indifference) * floor.prices[0].value
    first, chosen = min(point.n for point in levels if point.is_measured), floor
    for point in reversed([point for point in levels if point.level < floor.level]):
        if not point.is_measured and not point.is_spent and chosen.n >= LEFT_OPEN * first:
            return point.level
        if not point.is_measured or point.prices[0].value > most or point.state == "missed":
            break
        chosen = point
    return chosen.level if chosen.may_be_decided else None


def _pilot(levels: Sequence[Point], climbs: bool) -> float | None:
    """Bracketing by first looks: the middle of the levels between the highest that seems to meet the SLO and the lowest above it
    that does not, or that could not be judged.

    A search climbs until one does not, from its lowest level to twice the last, and so on: its bounds do not say where its limit
    may lie, and a load far beyond it costs more than a few first looks, be it a queue that grows as long as requests come (open
    loop) or rounds of many requests that all wait for each other (closed loop).
    """
    tried = [point for point in levels if point.is_measured or point.is_unjudged]
    floor = max((p.level for p in tried if p.is_within), default=-math.inf)
    ceiling = min((p.level for p in tried if not p.is_within and p.level > floor), default=math.inf)
    between = [p.level for p in levels if floor < p.level < ceiling and not p.is_measured and not p.is_spent]
    if climbs and ceiling == math.inf:
        return max((level for level in between if level <= FARTHEST * floor), default=min(between, default=None))
    if floor == -math.inf and any(point.state == "missed" for point in tried):
        return min(between, default=None)
    return between[len(between) // 2] if between else None


def _urgency(levels: Sequence[Point], share: float) -> tuple[bool, bool, float]:
    """Datasets without a feasible load come first: one that may exclude the option, as no load of it seems to meet the SLO and
    one is shown to miss it, and then those of which least is known. Then wide prices.
    """
    best = best_of(levels)
    if best is None:
        may_exclude = any(p.state == "missed" for p in levels) and not any(p.is_within for p in levels)
        return True, may_exclude, -sum(point.n for point in levels)
    return False, False, share * (best.prices[0].high - best.prices[0].low)
