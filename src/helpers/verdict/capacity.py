"""What a traffic needs: instances, utilisation and dollars, at the load at which an option was shown to meet the SLO.

Instances are whole, so the bill is a staircase over the traffic, and the cheapest option changes with it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from helpers.metrics.formulas import usd_per_request
from helpers.verdict.verdict import Capacity, ChosenPoint, Estimate, OptionVerdict, TokenRates, Verdict

HOURS_PER_MONTH = 730
LOWEST_TRAFFIC, HIGHEST_TRAFFIC = 1.0, 10_000.0
"""Requests per minute over which the table and the chart go."""


@dataclass(frozen=True)
class Fleet:
    """What one option needs for a traffic. Instances and utilisation are None for what is billed by the token."""

    instances: int | None
    utilisation: float | None
    usd_per_hour: float | None


@dataclass(frozen=True)
class CheapestRange:
    """A range of traffic, in requests per minute, over which one option is the cheapest."""

    low: float
    high: float
    option: str


def requests_per_minute(points: list[ChosenPoint], bound: str = "value") -> float | None:
    """Requests per minute of the traffic's mix, all instances of the option together; None where unknown.

    A mean request takes Σ share / throughput seconds of the option.
    """
    rates = [point.requests_per_s and getattr(point.requests_per_s, bound) for point in points]
    if any(rate is None or rate <= 0 for rate in rates):
        return None
    return 60 / sum(point.share / rate for point, rate in zip(points, rates, strict=True))


def fleet(option: OptionVerdict, traffic: float, headroom: float, usd_per_instance_hour: float | None) -> Fleet:
    """Instances for `traffic` requests per minute, of which each is loaded up to 1 - `headroom` of its capacity.

    Instances come in the number that was measured together (tensor parallel over several needs all of them).
    """
    if option.token_rates is not None:
        return Fleet(None, None, _usd_per_hour_by_token(option.points, option.token_rates, traffic))
    per_instance = option.capacity.requests_per_minute_per_instance.value
    together = option.instance_count
    replicas = max(1, math.ceil(traffic / (per_instance * together * (1 - headroom)) - 1e-9))
    instances = replicas * together
    usd = None if usd_per_instance_hour is None else usd_per_instance_hour * instances
    return Fleet(instances, traffic / (per_instance * instances), usd)


def capacity_of(option: OptionVerdict, traffic: float, headroom: float) -> Capacity:
    """The capacity of an option that has its points, and what `traffic` requests per minute need of it."""
    value, low, high = (requests_per_minute(option.points, bound) for bound in ("value", "low", "high"))
    count = option.instance_count
    per_instance = Estimate(
        value=value / count, low=None if low is None else low / count, high=None if high is None else high / count
    )
    empty = Capacity(
        requests_per_minute_per_instance=per_instance,
        instances=None,
        utilisation=None,
        usd_per_hour=None,
        usd_per_month=None,
        usd_per_1m_output_tokens=None,
        usd_per_1m_tokens=None,
        at_least=any(point.may_serve_more for point in option.points),
    )
    price = option.prices[0].usd_per_hour if option.prices else None
    need = fleet(option.model_copy(update={"capacity": empty}), traffic, headroom, price)
    usd = need.usd_per_hour
    prompt, output = (mean_tokens(option.points, kind) for kind in ("prompt", "output"))
    return empty.model_copy(
        update={
            "instances": need.instances,
            "utilisation": need.utilisation,
            "usd_per_hour": usd,
            "usd_per_month": None if usd is None else usd * HOURS_PER_MONTH,
            "usd_per_1m_output_tokens": _per_million(usd, traffic, output),
            "usd_per_1m_tokens": _per_million(usd, traffic, None if None in (prompt, output) else prompt + output),
        }
    )


def mean_tokens(points: list[ChosenPoint], kind: str) -> float | None:
    """Mean `prompt` or `output` tokens of a request of the traffic's mix; None where a dataset's is unknown."""
    means = [getattr(point, f"{kind}_tokens_mean") for point in points]
    if any(mean is None for mean in means):
        return None
    return sum(point.share * mean for point, mean in zip(points, means, strict=True))


def _per_million(usd_per_hour: float | None, traffic: float, tokens: float | None) -> float | None:
    if usd_per_hour is None or not tokens:
        return None
    return usd_per_hour / (traffic * 60 * tokens) * 1e6


def _usd_per_hour_by_token(points: list[ChosenPoint], rates: TokenRates, traffic: float) -> float | None:
    prompt, output = mean_tokens(points, "prompt"), mean_tokens(points, "output")
    cached = (mean_tokens(points, "cached") or 0.0, rates.usd_per_1m_cached_input_tokens)
    each = usd_per_request(prompt, output, rates.usd_per_1m_input_tokens, rates.usd_per_1m_output_tokens, *cached)
    return None if each is None else each * traffic * 60


# --- over a range of traffic --------------------------------------------------------------------------------------


def candidates(verdict: Verdict) -> list[OptionVerdict]:
    """The options that meet the SLO and have a price, as the verdict lists them."""
    return [o for o in verdict.options if o.status in ("recommended", "tied", "feasible")]


def cheapest_ranges(verdict: Verdict, headroom: float) -> list[CheapestRange]:
    """Which option costs least at which traffic, from 1 to 10,000 requests per minute, at each option's first price.

    The bill changes only where an option needs another instance, and where what is billed by the token crosses one
    that is not; between these the cheapest stays the same. Of equal bills the option that is cheaper at full load counts.
    """
    options = candidates(verdict)
    found: list[CheapestRange] = []
    for low, high in itertools.pairwise(_edges(options, headroom)):
        bills = [(fleet(o, math.sqrt(low * high), headroom, _price(o)).usd_per_hour, o) for o in options]
        known = [(usd, o.cost.value, o.option) for usd, o in bills if usd is not None]
        if not known:
            continue
        cheapest = min(known)[-1]
        if found and found[-1].option == cheapest:
            found[-1] = CheapestRange(found[-1].low, high, cheapest)
        else:
            found.append(CheapestRange(low, high, cheapest))
    return found


def _edges(options: list[OptionVerdict], headroom: float) -> list[float]:
    """Traffic at which some bill changes its course, ascending, with both ends of the range."""
    edges = {LOWEST_TRAFFIC, HIGHEST_TRAFFIC}
    for option in options:
        if option.token_rates is None:
            full = _full_replica(option, headroom)
            edges |= {full * k for k in range(1, math.ceil(HIGHEST_TRAFFIC / full))}
    for one in options:
        for other in options:
            if one.token_rates is not None and other.token_rates is None:
                edges |= set(_crossings(one, other, headroom))
    return sorted(edge for edge in edges if LOWEST_TRAFFIC <= edge <= HIGHEST_TRAFFIC)


def _full_replica(option: OptionVerdict, headroom: float) -> float:
    """Requests per minute that fill one replica (the instances of one endpoint), headroom left free."""
    per_instance = option.capacity.requests_per_minute_per_instance.value
    return per_instance * option.instance_count * (1 - headroom)


def break_even(by_token: OptionVerdict, by_hour: OptionVerdict, headroom: float) -> float | None:
    """The traffic in requests per minute from which an option billed by the hour stays cheaper than one billed by the
    token; None where at 10,000 it is not.
    """
    for low, high in reversed(list(itertools.pairwise(_edges([by_token, by_hour], headroom)))):
        middle = math.sqrt(low * high)
        one, other = (fleet(o, middle, headroom, _price(o)).usd_per_hour for o in (by_token, by_hour))
        if one is None or other is None or one <= other:
            return None if high == HIGHEST_TRAFFIC else high
    return LOWEST_TRAFFIC


def _crossings(by_token: OptionVerdict, by_hour: OptionVerdict, headroom: float) -> list[float]:
    """Traffic at which both bills are equal: k x price of a replica / price of a request, as long as k replicas carry it."""
    per_minute = _usd_per_hour_by_token(by_token.points, by_token.token_rates, 1.0)
    price = _price(by_hour)
    if not per_minute or price is None:
        return []
    full, replica = _full_replica(by_hour, headroom), price * by_hour.instance_count
    equal = [(k, k * replica / per_minute) for k in range(1, math.ceil(HIGHEST_TRAFFIC / full) + 1)]
    return [at for k, at in equal if (k - 1) * full < at <= k * full and LOWEST_TRAFFIC <= at <= HIGHEST_TRAFFIC]


def _price(option: OptionVerdict) -> float | None:
    return option.prices[0].usd_per_hour if option.prices else None
