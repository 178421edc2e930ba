"""A day of traffic: what each option needs by the hour, what that costs, and what autoscaling saves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report import charts
from helpers.report.columns import interval_column, interval_words, numeric
from helpers.report.comparing import listed, quoted
from helpers.report.cost_report import standing, status_words, unequal_work
from helpers.report.display import Figure, Prose, Table
from helpers.report.price_unit import interval_of
from helpers.run.ledger import EndpointRecord
from helpers.verdict.capacity import HOURS_PER_MONTH
from helpers.verdict.traffic_day import (
    LEAST_TIMES,
    MOST_TIMES,
    Day,
    Needed,
    break_even_times,
    days_of,
    hour_ranges,
    ranked,
)
from helpers.verdict.verdict import Verdict

MOST_STRETCHES = 3
"""Stretches of the day that a sentence names."""
NOTHING = 1e-9
"""A smaller share of a bill is the error of a sum."""
LEFT_OUT = "without start-up, which was not measured"
SHORT_S, LONG_S = 120, 7200
"""Start-up times between the two are given in minutes."""


# --- the table ----------------------------------------------------------------------------------------------------


def day_table(verdict: Verdict, endpoints: Sequence[EndpointRecord], config: BenchmarkConfig) -> Table | None:
    """What the day needs of each option that can carry it, and the month's bills; None without a curve or such an option."""
    days = days_of(verdict, endpoints, config.traffic)
    if not days:
        return None
    rows = [
        {
            "option": day.option.option,
            "by_hour": day.instances and _by_hour(day.instances),
            "startup_s": day.startup_s,
            "usd_per_month_fixed": day.fixed_usd_per_month and day.fixed_usd_per_month.value,
            "usd_per_month_of_day": day.usd_per_month and day.usd_per_month.value,
            "interval": interval_of(day.usd_per_month, 0),
            "saved": None if day.saved is None else day.saved * 100,
            "status": status_words(day.option),
        }
        for day in days
    ]
    best = None if len({day.option.is_estimate for day in days}) > 1 else "lowest"
    billed = "autoscaling" if all(day.instances is not None for day in days) else "autoscaling or tokens"
    columns = [
        "option",
        "by_hour",
        *(["startup_s"] if any(day.startup_s is not None for day in days) else []),
        "usd_per_month_fixed",
        numeric("usd_per_month_of_day", f"$/month, {billed}", best, decimals=0),
        interval_column("interval", config),
        "saved",
        "status",
    ]
    return Table(rows, columns, _caption(days, verdict, config))


def _caption(days: Sequence[Day], verdict: Verdict, config: BenchmarkConfig) -> str:
    said = [
        f"A day of {_requests(config)} requests a minute with {text.percent(config.traffic.headroom)} headroom, every day "
        f"alike, at the cheapest load that {standing(verdict)}; in brackets the {interval_words(config)} that follows from that "
        "of the capacity."
    ]
    scaled = [day for day in days if day.instances is not None]
    if scaled:
        said.append(
            "Fixed fleet: the instances of the highest hour, all day. Autoscaling: the instances that each hour needs, created "
            "their start-up time before it, billed from then on, and deleted at its end. "
            f"There is always at least {_at_least(scaled)}."
        )
    if any(day.startup_s is None for day in scaled):
        said.append(f"The start-up of {_unmeasured(scaled)} was not measured and is left out of the bill.")
    stated = config.traffic.startup_s
    if scaled and stated is not None:
        said.append(f"The start-up, {_time(stated)}, is what the config states (traffic.startup_s), not measured.")
    elif any(day.startup_s is not None for day in scaled):
        said.append("The start-up is that of one endpoint of this run each (n = 1): the config states none.")
    if stated is None and verdict.measured_locally and any(day.startup_s is not None for day in scaled):
        said.append("Endpoints on this machine start faster than instances on AWS, where more start-up is billed.")
    bounded = [quoted(day.option.option) for day in scaled if day.option.capacity.at_least]
    if bounded:
        said.append(
            f"Nobody knows whether {listed(bounded)} would meet the SLO at a higher load too, so fewer instances may do."
        )
    if len(scaled) < len(days):
        said.append("What is billed by the token has no instances.")
    said.append(f"A month has {HOURS_PER_MONTH} hours. Bills are at each option's first price.")
    return " ".join(said) + unequal_work(verdict)


def _requests(config: BenchmarkConfig) -> str:
    lowest, highest = min(config.traffic.curve), max(config.traffic.curve)
    return f"{lowest:,g}" if lowest == highest else f"{lowest:,g} to {highest:,g}"


def _at_least(scaled: Sequence[Day]) -> str:
    """The smallest fleet: one instance, or all of those that serve together."""
    if all(day.option.instance_count == 1 for day in scaled):
        return "one instance"
    return "one instance, or as many as serve the model together"


def _unmeasured(scaled: Sequence[Day]) -> str:
    names = [quoted(day.option.option) for day in scaled if day.startup_s is None]
    return "every option" if len(names) == len(scaled) > 1 else " and ".join(names)


def _by_hour(needed: Needed) -> str:
    """Instances of each stretch of hours that need the same, with their interval where it is more than one number."""
    unknown = [None] * len(needed.value)
    each = list(zip(needed.value, needed.low or unknown, needed.high or unknown, strict=True))
    if len(set(each)) == 1:
        return f"every hour: {_with_interval(*each[0])}"
    parts, start = [], 0
    for counts, hours in itertools.groupby(each):
        end = start + len(list(hours))
        parts.append(f"{start}–{end} h: {_with_interval(*counts)}")
        start = end
    return "; ".join(parts)


def _with_interval(value: int, low: int | None, high: int | None) -> str:
    return f"{value:,}" if low == value == high else f"{value:,} {text.Interval(low, high, 0)}"


# --- the sentence -------------------------------------------------------------------------------------------------


def day_sentence(verdict: Verdict, endpoints: Sequence[EndpointRecord], config: BenchmarkConfig) -> Prose | None:
    """Which option is the cheapest over the day, against the recommended one; what autoscaling saves, and when it is busiest.

    None without a curve.
    """
    if config.traffic.curve is None:
        return None
    days = days_of(verdict, endpoints, config.traffic)
    if not days:
        return Prose("No option has a known capacity within the SLO, so what this day of traffic needs is unknown.")
    compared = ranked(days)
    scaled = next((day for day in [*compared, *days] if day.instances is not None), None)
    said = [
        _cheapest(compared, config),
        _against_recommended(compared, verdict),
        *([_saving(scaled, compared, config), _busiest(scaled, config)] if scaled else []),
        _lower_estimates(compared, days),
        *(_break_even(day, scaled, config) for day in compared if day.instances is None and scaled in compared),
    ]
    return Prose(" ".join(filter(None, said)))


def _cheapest(compared: Sequence[Day], config: BenchmarkConfig) -> str:
    if not compared:
        return "No option has a known price, so this day has no bill."
    best, *others = compared
    name, bill = quoted(best.option.option), f"{_bill_words(best, config)}, {_how(best)}"
    by_estimates = "No option is shown to meet the SLO, so these are estimates. " if best.option.is_estimate else ""
    if not others:
        whose = "within the SLO" if best.option.is_estimate else "shown to meet the SLO"
        return f"{by_estimates}For this day {name} takes {bill}; no other option {whose} has a known bill."
    if equal := [quoted(day.option.option) for day in others if _usd(day) == _usd(best)]:
        return f"{by_estimates}Over this day {' and '.join([name, *equal])} have the lowest bill, each {bill}."
    return f"{by_estimates}Over this day {name} has the lowest bill, {bill}."


def _usd(day: Day) -> float:
    return day.usd_per_month.value


def _how(day: Day) -> str:
    if day.instances is None:
        return "billed by the token"
    return "with autoscaling" if day.startup_s is not None else f"with autoscaling, {LEFT_OUT}"


def _bill_words(day: Day, config: BenchmarkConfig) -> str:
    """The bill, with its interval where that is more than one number."""
    bill = day.usd_per_month
    if bill.low == bill.value == bill.high or bill.low is None or bill.high is None:
        return f"{text.money(bill.value)} a month"
    return (
        f"{text.money(bill.value)} a month ({interval_words(config)} {text.money(bill.low)} to {text.money(bill.high)})"
    )


def _against_recommended(compared: Sequence[Day], verdict: Verdict) -> str:
    """How the option that is recommended for constant traffic, at full load, compares with the cheapest over the day."""
    mine = next((day for day in compared if day.option.option == verdict.recommended), None)
    if mine is None or len(compared) == 1:
        return ""
    best = compared[0]
    name = quoted(mine.option.option)
    if _usd(mine) == _usd(best):
        begins = f"{name} is" if _usd(compared[1]) == _usd(best) else "That is"
        return f"{begins} also what is recommended for constant traffic, at full load."
    more = _usd(mine) / _usd(best) - 1 if _usd(best) else math.inf
    words = f", {_share(more)} more" if math.isfinite(more) else ""
    said = f"{name}, which is recommended for constant traffic, at full load, takes {text.money(_usd(mine))}{words}"
    return f"{said}; the intervals overlap, so the order may be chance." if _overlap(best, mine) else f"{said}."


def _overlap(best: Day, other: Day) -> bool:
    ends = best.usd_per_month.high, other.usd_per_month.low
    return None not in ends and ends[1] <= ends[0]


def _share(share: float) -> str:
    return f"{text.significant(share * 100, 2)}%"


def _saving(day: Day, compared: Sequence[Day], config: BenchmarkConfig) -> str:
    """What autoscaling saves of the bill of an option, or why nothing."""
    name, most = quoted(day.option.option), max(day.instances.value)
    if min(day.instances.value) == most:
        return f"{name} needs {text.plural(most, 'instance')} in every hour, so autoscaling saves nothing."
    if day.saved is None:
        return ""
    saved = "nothing" if day.saved < NOTHING else _share(day.saved)
    fixed = f"a fixed fleet of {text.plural(most, 'instance')} of {name}, {text.money(day.fixed_usd_per_month.value)} a month"
    if day.startup_s is not None:
        how = "as measured" if config.traffic.startup_s is None else "as the config states"
        return f"Autoscaling saves {saved} of {fixed}, with a start-up of {_time(day.startup_s)}, {how}."
    left_out = "" if day in compared[:1] else f", {LEFT_OUT}"
    return f"Autoscaling saves {saved} of {fixed}{left_out}."


def _time(seconds: float) -> str:
    if seconds < SHORT_S:
        return text.duration(seconds)
    amount, unit = (seconds / 60, "min") if seconds < LONG_S else (seconds / 3600, "h")
    return f"{text.significant(amount, 2)} {unit}"


def _busiest(day: Day, config: BenchmarkConfig) -> str:
    """In which hours an option, which `_saving` has named where it has a bill, needs most instances; nothing if all are alike."""
    value, low, high = day.instances.value, day.instances.low, day.instances.high
    most = max(value)
    if min(value) == most:
        return ""
    bounds = (
        f" ({interval_words(config)} {_peak(low)} to {_peak(high)})" if not _peak(low) == most == _peak(high) else ""
    )
    where = f"For {quoted(day.option.option)} most" if day.saved is None else "Most"
    return f"{where} instances, {most:,}{bounds}, are needed {_when(value)}, and never fewer than {min(value):,}."


def _peak(instances: list[int] | None) -> int | str:
    return "unknown" if instances is None else max(instances)


def _when(value: list[int]) -> str:
    """The hours of the most instances."""
    hours = [each == max(value) for each in value]
    stretches = [f"from {start}:00 to {end}:00" for start, end in hour_ranges(hours)]
    return " and ".join(stretches) if len(stretches) <= MOST_STRETCHES else f"in {sum(hours)} hours of the day"


def _lower_estimates(compared: Sequence[Day], days: Sequence[Day]) -> str:
    """Estimates below the lowest bill of what is shown to meet the SLO."""
    lower = [
        f"{quoted(day.option.option)} ({text.money(_usd(day))})"
        for day in days
        if compared and day not in compared and day.usd_per_month is not None and _usd(day) < _usd(compared[0])
    ]
    if not lower:
        return ""
    return f"Lower by estimates, but not shown to meet the SLO: {' and '.join(lower)}."


def _break_even(by_token: Day, by_hour: Day, config: BenchmarkConfig) -> str:
    """From how many times the day's requests on an hourly price beats one per token."""
    times = break_even_times(by_token, by_hour, config.traffic)
    token, hour = quoted(by_token.option.option), quoted(by_hour.option.option)
    begins = f"With autoscaling {hour} beats the token prices of {token}"
    if times is None:
        return f"{begins} at no traffic up to {MOST_TIMES:g} times that of this day."
    if times == LEAST_TIMES:
        return f"{begins} even at {text.percent(LEAST_TIMES)} of this day's traffic."
    mean = times * sum(config.traffic.curve) / len(config.traffic.curve)
    on = f"a mean of {text.significant(mean)} requests a minute"
    return f"{begins} from {text.significant(times)} times this day's traffic on, {on}."


# --- the figure ---------------------------------------------------------------------------------------------------


def draw_day_figure(
    verdict: Verdict, endpoints: Sequence[EndpointRecord], config: BenchmarkConfig, folder: Path
) -> Figure | None:
    """Instances by hour of each option over the day's traffic; None without a curve, or where nothing has instances."""
    days = days_of(verdict, endpoints, config.traffic)
    if all(day.instances is None for day in days):
        return None
    return charts.day_of_traffic(days, day_title(days), config, folder)


def day_title(days: Sequence[Day]) -> str:
    """The conclusion of the figure."""
    compared = ranked(days)
    best = compared[0] if compared else next(day for day in days if day.instances is not None)
    name, guess = best.option.option, ", by its estimates" if best.option.is_estimate else ""
    if best.instances is None:
        return f"{name}, billed by the token, has the lowest bill of the day{guess}"
    fewest, most = min(best.instances.value), max(best.instances.value)
    if fewest == most:
        return f"{name} needs {text.plural(most, 'instance')} in every hour{guess}"
    if best.saved is None:
        return f"{name} needs {fewest:,} to {most:,} instances over the day{guess}"
    if best.saved < NOTHING:
        return f"Autoscaling saves nothing of the fixed fleet's bill for {name}{guess}"
    return f"Autoscaling saves {_share(best.saved)} of the fixed fleet's bill for {name}{guess}"
