"""A day of traffic: the instances that each hour needs of an option, and the month's bill, with a fixed and a scaled fleet.

Every day is alike, so that hour 0 follows hour 23. A fixed fleet is that of the highest hour. With autoscaling an hour has
the instances that it needs: they are created their start-up time before it, billed from then on, and deleted at its end,
unless they are needed again within that time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers.config.benchmark import Traffic
from helpers.config.traffic_curve import HOURS_PER_DAY
from helpers.run.ledger import EndpointRecord
from helpers.verdict.capacity import HOURS_PER_MONTH, fleet, instances_for
from helpers.verdict.verdict import Estimate, OptionVerdict, Verdict

LEAST_TIMES, MOST_TIMES = 0.01, 10.0
"""The range in which a break-even is looked for, in multiples of the day's requests."""
TOLERANCE = 1e-4
"""Of a break-even, relative."""
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Needed:
    """Instances by hour, at the measured capacity and at the ends of its interval; an end that is unknown is None."""

    value: list[int]
    low: list[int] | None
    high: list[int] | None


@dataclass(frozen=True)
class Day:
    """What a day of traffic takes of one option, at its first price. Dollars are None where the price is unknown."""

    option: OptionVerdict
    instances: Needed | None
    """None for what is billed by the token."""
    startup_s: float | None
    """From the create call to in service: the config's `traffic.startup_s`, else as measured; None: unknown, and left out of the
    bill."""
    fixed_usd_per_month: Estimate | None
    """With the instances of the highest hour, all day; None for what is billed by the token."""
    usd_per_month: Estimate | None
    """With autoscaling, or by the token."""

    @property
    def saved(self) -> float | None:
        """Share of the fixed fleet's bill that autoscaling saves; None without one."""
        if not self.fixed_usd_per_month or not self.fixed_usd_per_month.value:
            return None
        return 1 - self.usd_per_month.value / self.fixed_usd_per_month.value


def days_of(verdict: Verdict, endpoints: Sequence[EndpointRecord], traffic: Traffic) -> list[Day]:
    """The day of each option with a capacity: those that are shown to meet the SLO before the estimates, the lowest bill first.

    Empty where the config gives no curve.
    """
    if traffic.curve is None:
        return []
    record = {endpoint.option: endpoint for endpoint in endpoints}
    days = [
        day_of(option, record[option.option].startup_s() if option.option in record else None, traffic)
        for option in verdict.options
        if option.capacity is not None
    ]
    return sorted(
        days, key=lambda day: (day.option.may_be_named, day.usd_per_month.value if day.usd_per_month else math.inf)
    )


def ranked(days: Sequence[Day]) -> list[Day]:
    """Of `days_of` those whose bills are compared: of the options that are shown to meet the SLO, else of the estimates."""
    billed = [day for day in days if day.usd_per_month is not None]
    return [day for day in billed if not day.option.may_be_named] or billed


def day_of(option: OptionVerdict, startup_s: float | None, traffic: Traffic) -> Day:
    """The day of an option that has its capacity; `startup_s`, as measured, counts where the config gives none."""
    price, together, headroom = option.price, option.instance_count, traffic.headroom
    if option.is_billed_per_token:
        usd = [fleet(option, each, headroom, price).usd_per_fleet_hour for each in traffic.curve]
        per_month = None if None in usd else sum(usd) / HOURS_PER_DAY * HOURS_PER_MONTH
        return Day(
            option, None, None, None, None if per_month is None else Estimate(value=per_month, low=None, high=None)
        )
    startup_s = startup_s if traffic.startup_s is None else traffic.startup_s
    capacity = option.capacity.requests_per_minute_per_instance
    value, low, high = (
        None if rate is None else [instances_for(each, rate, together, headroom) for each in traffic.curve]
        for rate in (capacity.value, capacity.high, capacity.low)  # the more an instance serves, the fewer there are
    )
    needed, startup_h = Needed(value, low, high), (startup_s or 0.0) / SECONDS_PER_HOUR
    return Day(
        option,
        needed,
        startup_s,
        _usd_per_month(option, needed, lambda instances: max(instances) * HOURS_PER_DAY),
        _usd_per_month(option, needed, lambda instances: billed_instance_hours(instances, startup_h)),
    )


def billed_instance_hours(instances: Sequence[int], startup_h: float) -> float:
    """Instance-hours of a day whose hours need these instances, where each is created `startup_h` before the hour that needs it.

    At any time as many are billed as the fullest hour needs of those that have begun or begin within the start-up time.
    """
    whole = math.floor(startup_h)
    part = startup_h - whole
    return sum(
        (1 - part) * _most(instances, hour, whole) + part * _most(instances, hour, whole + 1)
        for hour in range(len(instances))
    )


def _most(instances: Sequence[int], hour: int, further: int) -> int:
    """The most instances of an hour and the `further` ones after it."""
    return max(instances[(hour + ahead) % len(instances)] for ahead in range(further + 1))


def _usd_per_month(
    option: OptionVerdict, needed: Needed, instance_hours: Callable[[list[int]], float]
) -> Estimate | None:
    """The bill of a month of days, with the ends that follow from those of the instances; None without a price."""
    if option.price is None:
        return None
    usd_per_hour = option.price.usd_per_instance_hour
    bills = {
        end: None if instances is None else instance_hours(instances) * usd_per_hour / HOURS_PER_DAY * HOURS_PER_MONTH
        for end, instances in vars(needed).items()
    }
    return Estimate(**bills)


def break_even_times(by_token: Day, by_hour: Day, traffic: Traffic) -> float | None:
    """Multiple of the day's requests above which an option billed by the hour stays cheaper, with autoscaling, than one billed by
    the token; None if it is not cheaper at MOST_TIMES, LEAST_TIMES if it is at all from there on. Within TOLERANCE.
    """
    if by_token.usd_per_month is None or by_hour.usd_per_month is None:
        return None
    once = by_token.usd_per_month.value

    def bill(times: float) -> float:
        more = traffic.model_copy(update={"curve": tuple(each * times for each in traffic.curve)})
        return day_of(by_hour.option, by_hour.startup_s, more).usd_per_month.value

    if bill(MOST_TIMES) >= once * MOST_TIMES:
        return None
    return _last_where_higher(bill, once, LEAST_TIMES, MOST_TIMES) or LEAST_TIMES


def _last_where_higher(bill: Callable[[float], float], once: float, low: float, high: float) -> float | None:
    """The end of the last stretch of (low, high) on which a bill that never falls exceeds `once` x times; None without one."""
    if bill(high) <= once * low:
        return None
    if high - low < TOLERANCE * high:
        return high
    middle = (low + high) / 2
    return _last_where_higher(bill, once, middle, high) or _last_where_higher(bill, once, low, middle)


def hour_ranges(hours: Sequence[bool]) -> list[tuple[int, int]]:
    """(first hour, end) of each stretch of the day that is marked; one may go past midnight. All hours are (0, 24)."""
    if all(hours):
        return [(0, len(hours))]
    starts = [hour for hour in range(len(hours)) if hours[hour] and not hours[hour - 1]]
    ends = [hour for hour in range(len(hours)) if not hours[hour] and hours[hour - 1]]
    return [(start, next((end for end in ends if end > start), ends[0] or len(hours))) for start in starts]
