"""The answer in words: what to serve the model with, or what comes nearest to an answer, and what is not known."""

from __future__ import annotations

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.cache_report import price_holds_at
from helpers.report.columns import interval_words
from helpers.report.comparing import listed, quoted
from helpers.report.display import Markdown, Prose
from helpers.report.load_report import LATENCY_NAME
from helpers.report.price_unit import price_unit, scaled
from helpers.report.quality_report import score_words, served_by
from helpers.run.machine import machine_sentence
from helpers.verdict.capacity import candidates, fleet
from helpers.verdict.chosen_points import is_replicated, mixed_cost
from helpers.verdict.judging import loads_of
from helpers.verdict.open_points import may_be_less
from helpers.verdict.verdict import Capacity, Estimate, OpenLimit, OptionVerdict, Verdict

MOST_NAMED = 2
MOST_REASONS = 4
"""Options whose failures are told in the first lines; of more, their names."""


def bottom_line(verdict: Verdict, config: BenchmarkConfig) -> Prose:
    """The answer in one paragraph, with its interval; then, as a list, what is not known; then what a reader must know."""
    answer = _recommendation(verdict, config) if verdict.recommended else _no_recommendation(verdict, config)
    unknown = Markdown().join(Markdown("\n* {}").format(line) for line in _not_known(verdict, config))
    return Prose(
        Markdown().join(
            [answer, Markdown("\n") if unknown else "", unknown, _comparison_note(verdict), _local_note(verdict)]
        )
    )


def _recommendation(verdict: Verdict, config: BenchmarkConfig) -> Markdown:
    winner, unit = verdict.option(verdict.recommended), price_unit(verdict)
    gate = " and passes the quality gate" if verdict.has_gate else ""
    served = Markdown("**Serve {} with {}: it meets the SLO ({}){} at the lowest price, {} {}, {}.**").format(
        served_by(winner.option, verdict, config),
        quoted(winner.option),
        slo_words(config),
        gate,
        cost_words(scaled(winner.cost, unit), config),
        unit.words,
        loads_of(winner),
    )
    takes = (
        f" For {text.number(config.traffic.requests_per_minute)} requests a minute{_mix(winner, config)} with "
        f"{text.percent(config.traffic.headroom)} headroom it takes {_need(winner.capacity)}{_need_within(winner, config)}."
    )
    scores = f" {score_words(winner)}" if winner.quality is not None else ""
    return Markdown().join([served, scores, price_holds_at(winner), takes, _lower_bill(verdict, config), _tie(verdict)])


def _lower_bill(verdict: Verdict, config: BenchmarkConfig) -> str:
    """At some traffic another option than the recommended costs less: instances are whole, and a bill follows requests, which
    are not what is compared where they are unequal work.
    """
    bills = {o.option: o.capacity.usd_per_month for o in candidates(verdict) if o.capacity.usd_per_month is not None}
    lowest = min(bills, key=bills.get, default=None)
    if verdict.recommended not in bills or bills[lowest] >= bills[verdict.recommended]:
        return ""
    return (
        f" At {text.number(config.traffic.requests_per_minute)} requests a minute {quoted(lowest)} has the lower bill, "
        f"{text.money(bills[lowest])} a month, because {_why_lower(verdict, verdict.option(lowest))}."
    )


def _why_lower(verdict: Verdict, option: OptionVerdict) -> str:
    """Why an option has a lower bill than the recommended one: whole instances, unless the bill per request is lower without
    them, which it can only be where options are compared by what is not a request.
    """
    apart = [one.capacity for one in (option, verdict.option(verdict.recommended))]
    if verdict.cost_basis == "usd_per_1k_requests" or any(capacity.instances is None for capacity in apart):
        return "instances are whole"
    per_request, recommended = (
        capacity.usd_per_month / capacity.instances / capacity.requests_per_minute_per_instance.value
        for capacity in apart
    )
    if per_request >= recommended:
        return "instances are whole"
    return "a bill follows requests, and the options did unequal work"


def _tie(verdict: Verdict) -> Markdown:
    if not verdict.tied:
        return Markdown()
    names = " and ".join(map(quoted, verdict.tied))
    words = Markdown(" It is **tied** with {}: the difference of their prices may be chance.")
    return words.format(names)


def _need(capacity: Capacity) -> str:
    """Instances and dollars; what is billed by the token has no instances."""
    money = "" if capacity.usd_per_month is None else f"{text.money(capacity.usd_per_month)} a month"
    if capacity.instances is None:
        return money or "no instance"
    return ", ".join(filter(None, [text.plural(capacity.instances, "instance"), money]))


def _mix(option: OptionVerdict, config: BenchmarkConfig) -> str:
    """The shares of the datasets in the traffic, the largest first, where there are several."""
    shares = {point.dataset: point.share for point in option.points}
    shares = shares if config.load.mix is None else config.shares_of_parts()
    if len(shares) < 2:
        return ""
    ordered = sorted(shares, key=lambda name: -shares[name])
    together = "" if config.load.mix is None else " together"
    return f" ({_listed([f'{text.percent(shares[name])} {name}' for name in ordered])}{together})"


def _need_within(option: OptionVerdict, config: BenchmarkConfig) -> str:
    """The same over the interval of what an instance serves."""
    rate = option.capacity.requests_per_minute_per_instance
    if option.capacity.instances is None or not rate.low or not rate.high:
        return ""
    traffic = config.traffic.requests_per_minute, config.traffic.headroom
    few, many = (fleet(option, *traffic, option.price, bound) for bound in (rate.high, rate.low))
    if few.instances == many.instances:
        return f" (the same at both ends of the {interval_words(config)} of what an instance serves)"
    usd = [one.usd_per_month for one in (few, many)]
    money = "" if None in usd else f", {' to '.join(map(text.money, usd))}"
    return f" ({interval_words(config)}: {few.instances} to {many.instances} instances{money})"


# --- without a recommendation -------------------------------------------------------------------------------------


def _no_recommendation(verdict: Verdict, config: BenchmarkConfig) -> Markdown:
    if len(verdict.not_measured) == len(verdict.options):
        if any(option.status == "incomplete" for option in verdict.options):
            return Markdown("**Nothing can be judged: no option was measured on every dataset of the traffic.**")
        return Markdown("**Nothing was measured: no option gave an answer that could be judged.**")
    unpriced = [o.option for o in verdict.options if o.status == "unpriced"]
    if unpriced:
        meet = "meets" if len(unpriced) == 1 else "meet"
        said = f"{' and '.join(map(quoted, unpriced))} {meet} the SLO, but without a price none can be recommended."
        return Markdown("**{}**").format(said)
    said = Markdown("**No option is shown to {} ({}).**").format(verdict.aim, slo_words(config))
    if verdict.best_estimate:
        return said + Markdown(" {}").format(_if_you_must(verdict, config))
    if verdict.nearest:
        return said + Markdown(" {} came nearest: {}.").format(quoted(verdict.nearest), verdict.nearest_reason)
    return said


def _if_you_must(verdict: Verdict, config: BenchmarkConfig) -> str:
    """The ranking by estimates, what is open, and what would settle it."""
    ranked = sorted((o for o in verdict.options if o.may_be_named), key=lambda o: o.cost.value)
    best, *others = ranked
    unit = price_unit(verdict)
    prices = {o.option: text.dollars(o.cost.value * unit.scale) for o in ranked}
    said = (
        f"If you must choose now: {quoted(best.option)}, by the best estimate, at {prices[best.option]} {unit.words}, "
        f"{loads_of(best)}"
    )
    if others:
        behind = [f"{quoted(o.option)} ({prices[o.option]})" for o in others]
        said += f", before {_listed(behind)}"
    is_open, settles = _what_is_open(best, config), _what_would_settle(best)
    return f"{said}. That is an estimate, not a verdict: {is_open}. {settles}{price_holds_at(best)}"


def _listed(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return " and ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMED])} and {more} more"


def _what_is_open(option: OptionVerdict, config: BenchmarkConfig) -> str:
    if not option.open_limits:
        return option.reason
    by_limit: dict[str, list[OpenLimit]] = {}
    for limit in option.open_limits:
        by_limit.setdefault(limit.limit, []).append(limit)
    return "; ".join(_open_limit(limits, config) for limits in by_limit.values())


def _open_limit(limits: list[OpenLimit], config: BenchmarkConfig) -> str:
    """One limit of the SLO that is open at one load or more."""
    first, is_error = limits[0], limits[0].limit == "error_rate"
    name = "the error rate" if is_error else f"the p{config.slo.percentile:g} {LATENCY_NAME[first.limit]}"
    allowed = text.percent(first.allowed, 1) if is_error else f"{first.allowed:g} s"
    write = (lambda value: text.percent(value, 1)) if is_error else text.duration
    where = [
        f"{'unknown' if limit.measured is None else write(limit.measured)} on {limit.part or limit.dataset} at {limit.load}"
        for limit in limits
    ]
    return f"{name} is not shown to stay within {allowed} ({_listed(where)})"


def _what_would_settle(option: OptionVerdict) -> str:
    effort = option.to_settle
    if not option.is_estimate:
        return "To settle it: a new run with more quality.samples."
    if effort is None:
        return "More requests alone would not settle it: the reasons stand in the table of all options."
    minutes = "less than a minute" if effort.minutes < 1 else f"about {text.plural(round(effort.minutes), 'minute')}"
    money = "" if effort.usd is None else f", {text.dollars(effort.usd)}"
    how = f"; {effort.how}" if effort.how else ""
    return (
        f"To settle it: {text.plural(effort.requests, 'more request')} like these at the same loads ({minutes} of "
        f"load{money}){how}."
    )


# --- what is not known --------------------------------------------------------------------------------------------


def _not_known(verdict: Verdict, config: BenchmarkConfig) -> list[Markdown]:
    """One line for each thing that could change the answer."""
    lines, missing = [], verdict.not_measured
    if len(missing) > MOST_REASONS:
        why = "why, and what to do, stands in the table of all options"
        lines.append(Markdown("**Not measured:** {}: {}").format(", ".join(map(quoted, missing)), why))
    for name in missing if len(missing) <= MOST_REASONS else []:
        lines.append(Markdown("**Not measured:** {}: {}").format(quoted(name), verdict.option(name).reason))
    for option in verdict.options:
        if option.status == "below_quality":
            lines.append(Markdown("**Fails the quality gate:** {}{}: {}").format(*_refused(option, verdict)))
    winner = verdict.option(verdict.recommended) if verdict.recommended else None
    if winner is None:
        return lines
    for name in verdict.may_be_cheaper:
        than = "it is shown here" if name in (winner.option, *verdict.tied) else "the recommended option"
        words = Markdown("**May be cheaper than {}:** {}: {}")
        lines.append(words.format(than, quoted(name), verdict.option(name).may_be_cheaper_because))
    if lower := _lower_bounds(verdict, winner, config):
        lines.append(Markdown("**At least:** {}").format(lower))
    return lines


def _refused(option: OptionVerdict, verdict: Verdict) -> tuple[Markdown, str, str]:
    """An option whose answers do not pass the gate, what it would cost, and why it does not pass."""
    unit = price_unit(verdict)
    price = f" ({text.dollars(option.cost.value * unit.scale)} {unit.words})" if option.cost is not None else ""
    return quoted(option.option), price, option.reason


def _lower_bounds(verdict: Verdict, winner: OptionVerdict, config: BenchmarkConfig) -> str:
    """What the capacity and the ranking rest on, where nobody knows what a higher load would do."""
    ranked = [o for o in verdict.options if o.status in ("recommended", "tied", "feasible") and o.capacity is not None]
    at_least = [o for o in ranked if o.capacity.at_least and not o.is_billed_per_token]
    bounded = [o for o in at_least if may_be_less(_least(o), winner.cost, config)]
    if not bounded:
        return ""
    names = listed(map(_where_bounded, bounded))
    said = f"nobody knows whether {names} would meet the SLO at a load above the chosen one, so "
    if winner in bounded:
        rate = winner.capacity.requests_per_minute_per_instance.value
        said += f"an instance of the recommended option serves at least {text.number(rate)} requests a minute, and "
    order = "" if bounded == [winner] else " and another order"
    return said + f"measuring higher loads, or these for longer, may show lower prices{order}."


def _least(option: OptionVerdict) -> Estimate:
    """What an option costs if a load above the chosen one, where nobody knows whether one meets the SLO, cost nothing."""
    nothing = Estimate(value=0.0, low=0.0, high=0.0)
    return mixed_cost(
        [(p.share, nothing if p.may_serve_more else p.cost) for p in option.points], is_replicated(option.points)
    )


def _where_bounded(option: OptionVerdict) -> str:
    """The option, with the datasets on which nothing is known of a higher load unless these are all."""
    on = [point.dataset for point in option.points if point.may_serve_more]
    return quoted(option.option) + ("" if len(on) == len(option.points) else f" on {' and '.join(on)}")


def _comparison_note(verdict: Verdict) -> Markdown:
    if verdict.comparable:
        return Markdown()
    if verdict.counted_apart:
        return Markdown(
            "\n\n> **Tokens were not counted alike** ({}), so nobody knows whether the answers are equally long. The options are "
            "compared {}, and no order by price per token is shown. Next: have every server send usage, with counts that are "
            "right, or set the same tokenizer for all options. See the warnings."
        ).format("; ".join(_by_counter(verdict.counted_apart)), price_unit(verdict).words)
    return Markdown(
        "\n\n> **The options did unequal work** (other models, prompts or answers of another length), so they are compared "
        "{}. See the warnings."
    ).format(price_unit(verdict).words)


def _by_counter(rows: list[str]) -> list[str]:
    """Rows of `option: who counted`, those of the same words as one."""
    options: dict[str, list[str]] = {}
    for row in rows:
        option, _, words = row.partition(": ")
        options.setdefault(words, []).append(option)
    return [f"{', '.join(names)}: {words}" for words, names in options.items()]


def _local_note(verdict: Verdict) -> Markdown:
    if not verdict.measured_locally:
        return Markdown()
    local = Markdown(
        "\n\n> The endpoints ran on the machine that ran the notebooks. The measurements are real, **but they are of this "
        "machine**: instance types stand for its cores, at the price of as many vCPUs on AWS, and cannot be ordered as such."
    )
    said = machine_sentence(verdict.warnings)
    return local + (Markdown("\n\n> **{}**").format(said) if said else "")


# --- phrases ------------------------------------------------------------------------------------------------------


def slo_words(config: BenchmarkConfig) -> str:
    """The SLO as a phrase."""
    limits = [f"{LATENCY_NAME[name]} within {limit:g} s" for name, limit in config.slo.limits_s().items()]
    return (
        f"p{config.slo.percentile:g} {' and '.join(limits)}, at most {text.percent(config.slo.error_rate, 1)} errors, "
        f"with {text.percent(config.slo.confidence)} confidence"
        f"{f', in each {config.part_in_words}' if config.part_in_words else ''}"
    )


def cost_words(cost: Estimate, config: BenchmarkConfig) -> str:
    """A price with its interval, as a phrase."""
    if cost.low is None or cost.high is None:
        return f"{text.dollars(cost.value)} (interval unknown)"
    decimals = text.decimals_for([cost.value])
    return (
        f"${text.number(cost.value, decimals)} ({interval_words(config)} {text.number(cost.low, decimals)} to "
        f"{text.number(cost.high, decimals)})"
    )
