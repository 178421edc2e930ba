"""The first screen beside the bottom line: how far the next option is behind, and what would change the answer."""

from __future__ import annotations

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import SELF_HOSTED
from helpers.report.comparing import is_same, more_expensive, quoted
from helpers.report.display import Markdown, Prose
from helpers.report.load_report import LATENCY_NAME
from helpers.report.price_unit import price_unit
from helpers.verdict.capacity import HOURS_PER_MONTH, candidates, cheapest_ranges
from helpers.verdict.changes import Change, Changes, runner_up
from helpers.verdict.verdict import OptionVerdict, Verdict


def what_would_change(verdict: Verdict, changes: Changes, config: BenchmarkConfig) -> Prose | None:
    """The limit, the traffic and the price at which another option would be the answer; None without a recommended option."""
    if verdict.recommended is None:
        return None
    lines = [*_by_limit(changes, verdict, config), *_by_traffic(verdict, config), *_by_price(verdict)]
    head = Markdown("{}\n\n{}What would change the answer:\n\n").format(
        _how_sure(verdict, config), _at_this_traffic(verdict, config)
    )
    return Prose(head + Markdown("\n").join(Markdown("* **{}:** {}").format(*line) for line in lines))


def _how_sure(verdict: Verdict, config: BenchmarkConfig) -> Markdown:
    """How sure it is that the named option meets the SLO, and that it is the cheapest."""
    second, others = runner_up(verdict), [o for o in verdict.options if o.option != verdict.recommended]
    known = ("tied", "feasible", "infeasible", "below_quality", "eliminated")
    unknown = sum(o.status not in known for o in others)
    sure = text.percent(config.slo.confidence)
    said = f"that {quoted(verdict.recommended)} meets each limit of the SLO is shown with {sure} confidence"
    if verdict.tied:
        said += f"; whether {quoted(second.option)} is cheaper is open, as their prices cannot be told apart"
    elif second is not None:
        where = " at the loads that are shown to meet it" if second.may_be_cheaper else ""
        said += f", and with 95% that {quoted(second.option)}, the next cheapest, costs more{where}"
    elif any(o.status == "eliminated" for o in others):
        said += ", and so is that those which left the race do not beat it"
    elif not others:
        said += "; there is no other option to compare it with"
    elif not unknown:
        refused = any(o.status == "below_quality" for o in others)
        said += f"; every other option is shown to miss it{', or to fail the quality gate' if refused else ''}"
    if unknown:
        said += f"; how good {text.plural(unknown, 'other option')} would be is not known"
    return Markdown("**How sure:** {}. That holds for prompts as these, under the loads that were measured.").format(
        said
    )


def _at_this_traffic(verdict: Verdict, config: BenchmarkConfig) -> Markdown:
    """What a request costs where instances are not full, and whose bill is the next lowest."""
    winner, unit = verdict.option(verdict.recommended), price_unit(verdict)
    bills = {o.option: o.capacity.usd_per_month for o in candidates(verdict) if o.capacity.usd_per_month is not None}
    mine = bills.pop(winner.option, None)
    if not mine or winner.capacity.instances is None:
        return Markdown("")
    each = mine / (config.traffic.requests_per_minute * 60 * HOURS_PER_MONTH)
    used = f"{text.plural(winner.capacity.instances, 'instance')} {'is' if winner.capacity.instances == 1 else 'are'}"
    said = f"At this traffic {used} {text.percent(winner.capacity.utilisation)} used"
    if unit.column == "usd_per_1k_requests":
        said += f", so its requests cost {text.dollars(1e3 * each * unit.scale)} {unit.words}"
    if bills:
        second = min(bills, key=bills.get)
        is_as_high, usd = is_same(bills[second], mine), f"{text.money(bills[second])} a month"
        said += "; the bill of" if len(bills) == 1 or is_as_high else "; of the other bills that of"
        said += f" {quoted(second)} is "
        if is_as_high:
            said += f"as high, {usd}"
        else:
            said += f"{'' if len(bills) == 1 else 'lowest, '}{usd} ({more_expensive(bills[second], mine)})"
    return Markdown("{}.\n\n").format(said)


def _by_limit(changes: Changes, verdict: Verdict, config: BenchmarkConfig) -> list[tuple[str, str]]:
    limit_s, name = config.slo.limits_s()[changes.metric], LATENCY_NAME[changes.metric]
    sides = [
        f"with a limit of {text.duration(change.limit_s)} or {side} {_answer(change, verdict)}"
        for side, change in (("less", changes.stricter), ("more", changes.laxer))
        if change is not None
    ]
    if not sides:
        said = f"{quoted(verdict.recommended)} stays recommended from a quarter of {limit_s:g} s to four times as much."
    else:
        said = f"{' and '.join(sides)}."
        said = said[0].upper() + said[1:]
    if config.load.race.enabled:
        said += " That is by what the race measured: an option that left it early might do better."
    return [(f"The {name} limit", said)]


def _answer(change: Change, verdict: Verdict) -> str:
    if change.recommended is None:
        return f"no option would be shown to {verdict.aim}"
    return f"{quoted(change.recommended)} would be recommended"


def _by_traffic(verdict: Verdict, config: BenchmarkConfig) -> list[tuple[str, str]]:
    """The nearest traffic, below and above the config's, at which another option has the lowest bill."""
    wanted, ranges = config.traffic.requests_per_minute, cheapest_ranges(verdict, config.traffic.headroom)
    here = next((i for i, one in enumerate(ranges) if one.low <= wanted <= one.high), None)
    if here is None:
        return []
    mine, cheapest = ranges[here], quoted(ranges[here].option)
    beside = [("below", mine.low, one) for one in ranges[:here][-1:]]
    beside += [("above", mine.high, one) for one in ranges[here + 1 :][:1]]
    sides = [
        f"{side} {text.significant(at)} requests a minute that of {quoted(one.option)}" for side, at, one in beside
    ]
    if not sides:
        span = f"{text.number(ranges[0].low)} to {text.number(ranges[-1].high)} requests a minute"
        said = f"no option that is shown to {verdict.aim} has a lower bill than {cheapest} from {span}."
    else:
        said = f"the lowest bill here is that of {cheapest}; {' and '.join(sides)}."
    return [("Traffic", said + _next_instance(verdict.option(verdict.recommended), config))]


def _next_instance(option: OptionVerdict, config: BenchmarkConfig) -> str:
    """The traffic above which the named option takes more instances."""
    if option.capacity.instances is None:
        return ""
    full = option.capacity.requests_per_minute_per_instance.value * (1 - config.traffic.headroom)
    more = option.capacity.instances + option.instance_count
    return (
        f" Above {text.significant(option.capacity.instances * full)} requests a minute {quoted(option.option)} takes "
        f"{text.plural(more, 'instance')}."
    )


def _by_price(verdict: Verdict) -> list[tuple[str, str]]:
    winner, second = verdict.option(verdict.recommended), runner_up(verdict)
    if second is None:
        return []
    ratio = winner.cost.value / second.cost.value if second.cost.value else 1.0
    behind = more_expensive(second.cost.value, winner.cost.value)
    if verdict.tied:
        return [("Price", f"any: {quoted(second.option)} is tied ({behind}), so a discount on either decides.")]
    if _is_same_instance(winner, second):
        said = f"no discount on {winner.instance_type}: the runner-up, {quoted(second.option)}, runs on the same and is {behind}."
        return [("Price", said)]
    return [
        (
            "Price",
            f"the runner-up, {quoted(second.option)}, is {behind} at full load; it would win if its price fell by more than "
            f"{text.percent(1 - ratio)}{_hourly(second, ratio)}{_for_the_bill(winner, second)}.",
        )
    ]


def _is_same_instance(one: OptionVerdict, other: OptionVerdict) -> bool:
    """Do both run on the same instances at the same price, so that it cannot fall for one of them alone?"""
    is_priced = one.price is not None and one.price == other.price and not one.price.is_per_token
    return (
        is_priced
        and one.instance_type != SELF_HOSTED
        and (one.instance_type, one.instance_count) == (other.instance_type, other.instance_count)
    )


def _for_the_bill(winner: OptionVerdict, second: OptionVerdict) -> str:
    """By how much it would have to fall for the lower bill at this traffic, as instances are whole."""
    mine, other = (o.capacity and o.capacity.usd_per_month for o in (winner, second))
    if not mine or not other or mine >= other:
        return ""
    return f"; for a lower bill than {quoted(winner.option)} at this traffic, by more than {text.percent(1 - mine / other)}"


def _hourly(option: OptionVerdict, ratio: float) -> str:
    if option.price is None or option.price.is_per_token:
        return ""
    usd = option.price.usd_per_instance_hour
    return f", from {text.dollars(usd)} to {text.dollars(usd * ratio)} per instance and hour"
