"""What a given traffic needs: instances, utilisation and dollars, at the load at which an option was shown to meet the SLO.

Instances are whole, so the bill rises in steps with the traffic, and the cheapest option depends on the traffic.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from helpers.price import Price
from helpers.verdict.chosen_points import is_replicated, mixed_cost
from helpers.verdict.verdict import Capacity, ChosenPoint, Estimate, OptionVerdict, Verdict

HOURS_PER_MONTH = 730
LOWEST_TRAFFIC, HIGHEST_TRAFFIC = 1.0, 10_000.0
"""The range of the table and the chart, in requests per minute."""


@dataclass(frozen=True)
class Fleet:
    """What one option needs for the traffic. Instances and utilisation are None for what is billed by the token."""

    instances: int | None
    utilisation: float | None
    usd_per_fleet_hour: float | None

    @property
    def usd_per_month(self) -> float | None:
        """The bill; None where the price is unknown."""
        return None if self.usd_per_fleet_hour is None else self.usd_per_fleet_hour * HOURS_PER_MONTH


@dataclass(frozen=True)
class CheapestRange:
    """A range of traffic, in requests per minute, over which one option is the cheapest."""

    low: float
    high: float
    option: str


def requests_per_minute(points: list[ChosenPoint]) -> Estimate | None:
    """Requests per minute of the traffic's mix that all instances of the option serve together; None where unknown.

    A mean request takes the option Σ share / throughput seconds, whose interval is made as that of a price over the mix is.
    """
    rates = [point.requests_per_s for point in points]
    if any(rate is None or rate.value <= 0 for rate in rates):
        return None
    seconds = mixed_cost(
        [
            (p.share, Estimate(value=1 / r.value, low=_inverse(r.high), high=_inverse(r.low)))
            for p, r in zip(points, rates, strict=True)
        ],
        is_replicated(points),
    )
    return Estimate(value=60 / seconds.value, low=_inverse(seconds.high, 60), high=_inverse(seconds.low, 60))


def _inverse(value: float | None, of: float = 1.0) -> float | None:
    """`of` / value; None where the value is unknown or nothing."""
    return of / value if value and value > 0 else None


def instances_for(traffic: float, per_instance: float, together: int, headroom: float) -> int:
    """Instances for `traffic` requests per minute, each loaded up to 1 - `headroom` of the `per_instance` that it serves.

    They come in replicas of `together` instances, as measured (tensor parallel over several instances needs all of them).
    """
    return together * max(1, math.ceil(traffic / (per_instance * together * (1 - headroom)) - 1e-9))


def fleet(
    option: OptionVerdict, traffic: float, headroom: float, price: Price | None, per_instance: float | None = None
) -> Fleet:
    """What `traffic` requests per minute need of an option, at a price. `per_instance`: what an instance serves, requests per
    minute; None: as the option's capacity says.
    """
    if price is not None and price.is_per_token:
        return Fleet(None, None, _usd_per_fleet_hour_of_tokens(option.points, price, traffic))
    if per_instance is None:
        per_instance = option.capacity.requests_per_minute_per_instance.value
    instances = instances_for(traffic, per_instance, option.instance_count, headroom)
    usd = None if price is None else price.usd_per_instance_hour * instances
    return Fleet(instances, traffic / (per_instance * instances), usd)


def capacity_of(option: OptionVerdict, traffic: float, headroom: float) -> Capacity:
    """The capacity of an option at its points, and what `traffic` requests per minute need of it."""
    count = option.instance_count
    rates = requests_per_minute(option.points)
    per_instance = Estimate(**{bound: None if rate is None else rate / count for bound, rate in rates})
    need = fleet(option, traffic, headroom, option.price, per_instance.value)
    usd = need.usd_per_fleet_hour
    prompt, output = (mean_tokens(option.points, kind) for kind in ("prompt", "output"))
    return Capacity(
        requests_per_minute_per_instance=per_instance,
        instances=need.instances,
        utilisation=need.utilisation,
        usd_per_fleet_hour=usd,
        usd_per_month=need.usd_per_month,
        usd_per_1m_output_tokens=_per_million(usd, traffic, output),
        usd_per_1m_tokens=_per_million(usd, traffic, None if None in (prompt, output) else prompt + output),
        at_least=any(point.may_serve_more for point in option.points),
    )


def mean_tokens(points: list[ChosenPoint], kind: str) -> float | None:
    """Mean `prompt`, `output` or `cached` tokens of a request of the traffic's mix; None where a dataset's is unknown."""
    means = [getattr(point, f"{kind}_tokens_mean") for point in points]
    if any(mean is None for mean in means):
        return None
    return sum(point.share * mean for point, mean in zip(points, means, strict=True))


def _per_million(usd_per_fleet_hour: float | None, traffic: float, tokens: float | None) -> float | None:
    if usd_per_fleet_hour is None or not tokens:
        return None
    return usd_per_fleet_hour / (traffic * 60 * tokens) * 1e6


def _usd_per_fleet_hour_of_tokens(points: list[ChosenPoint], price: Price, traffic: float) -> float | None:
    prompt, output, cached = (mean_tokens(points, kind) for kind in ("prompt", "output", "cached"))
    each = price.usd_of_tokens(prompt, output, cached or 0.0)
    return None if each is None else each * traffic * 60


# --- over a range of traffic --------------------------------------------------------------------------------------


def candidates(verdict: Verdict) -> list[OptionVerdict]:
    """The options that meet the SLO and have a price, as the verdict lists them."""
    return [o for o in verdict.options if o.status in ("recommended", "tied", "feasible")]


def cheapest_ranges(verdict: Verdict, headroom: float) -> list[CheapestRange]:
    """Which option costs least at which traffic, from 1 to 10,000 requests per minute, at each option's first price.

    The cheapest option changes only where an option needs another instance, and where the bill of an option that is billed
    by the token crosses that of one that is not. Of equal bills, that of the option that is cheaper at full load wins,
    and where that is equal too, that of the recommended one.
    """
    options = candidates(verdict)
    found: list[CheapestRange] = []
    for low, high in itertools.pairwise(_edges(options, headroom)):
        bills = [(fleet(o, math.sqrt(low * high), headroom, o.price).usd_per_fleet_hour, o) for o in options]
        known = [(usd, o.cost.value, o.status != "recommended", o.option) for usd, o in bills if usd is not None]
        if not known:
            continue
        cheapest = min(known)[-1]
        if found and found[-1].option == cheapest:
            found[-1] = CheapestRange(found[-1].low, high, cheapest)
        else:
            found.append(CheapestRange(low, high, cheapest))
    return found


def as_cheap(verdict: Verdict, headroom: float, name: str) -> list[str]:
    """The other candidates whose bill is that of the option `name` at any traffic of the range, to within the error of a sum."""
    one, options = verdict.option(name), candidates(verdict)
    middles = [math.sqrt(low * high) for low, high in itertools.pairwise(_edges(options, headroom))]

    def has_its_bill(other: OptionVerdict) -> bool:
        bills = [[fleet(o, at, headroom, o.price).usd_per_fleet_hour for o in (one, other)] for at in middles]
        return all(None not in both and math.isclose(*both) for both in bills)

    return [other.option for other in options if other.option != name and has_its_bill(other)]


def _edges(options: list[OptionVerdict], headroom: float) -> list[float]:
    """Traffic at which a bill steps up or two bills cross, ascending, with both ends of the range."""
    edges = {LOWEST_TRAFFIC, HIGHEST_TRAFFIC}
    for option in options:
        if not option.is_billed_per_token:
            full = _full_replica(option, headroom)
            edges |= {full * k for k in range(1, math.ceil(HIGHEST_TRAFFIC / full))}
    for one in options:
        for other in options:
            if one.is_billed_per_token and not other.is_billed_per_token:
                edges |= set(_crossings(one, other, headroom))
    return sorted(edge for edge in edges if LOWEST_TRAFFIC <= edge <= HIGHEST_TRAFFIC)


def _full_replica(option: OptionVerdict, headroom: float) -> float:
    """Requests per minute that fill one replica (the instances of one endpoint), headroom left free."""
    per_instance = option.capacity.requests_per_minute_per_instance.value
    return per_instance * option.instance_count * (1 - headroom)


def break_even(by_token: OptionVerdict, by_hour: OptionVerdict, headroom: float) -> float | None:
    """The traffic in requests per minute above which an option billed by the hour stays cheaper than one billed by the
    token; None if it is not cheaper at 10,000.
    """
    for low, high in reversed(list(itertools.pairwise(_edges([by_token, by_hour], headroom)))):
        middle = math.sqrt(low * high)
        one, other = (fleet(o, middle, headroom, o.price).usd_per_fleet_hour for o in (by_token, by_hour))
        if one is None or other is None or one <= other:
            return None if high == HIGHEST_TRAFFIC else high
    return LOWEST_TRAFFIC


def _crossings(by_token: OptionVerdict, by_hour: OptionVerdict, headroom: float) -> list[float]:
    """Traffic at which both bills are equal: k x price of a replica / price of a request, where k replicas carry it."""
    per_minute = _usd_per_fleet_hour_of_tokens(by_token.points, by_token.price, 1.0)
    if not per_minute or by_hour.price is None:
        return []
    full = _full_replica(by_hour, headroom)
    usd_per_replica_hour = by_hour.price.usd_per_option_hour(by_hour.instance_count)
    equal = [(k, k * usd_per_replica_hour / per_minute) for k in range(1, math.ceil(HIGHEST_TRAFFIC / full) + 1)]
    return [at for k, at in equal if (k - 1) * full < at <= k * full and LOWEST_TRAFFIC <= at <= HIGHEST_TRAFFIC]
