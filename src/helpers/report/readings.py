"""What to see in a figure or a table: sentences from the verdict and the load points, absent where there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import CLIENT_LIMITED
from helpers.report.comparing import compared, counted, is_same, listed, quoted
from helpers.report.display import Prose
from helpers.report.price_unit import price_unit
from helpers.run.ledger import EndpointRecord
from helpers.verdict.changes import runner_up
from helpers.verdict.chosen_points import cheapest_load, is_replicated
from helpers.verdict.verdict import ChosenPoint, OptionVerdict, Verdict

WORTH_SAYING = 0.01
"""A share below which a difference is not said."""


def price_reading(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Prose | None:
    """Why the runner-up is more expensive, what the SLO costs, and which dataset decides."""
    named = verdict.recommended or verdict.best_estimate
    if named is None:
        return None
    option = verdict.option(named)
    said = [
        _why_behind(verdict),
        _left_out(option, verdict),
        _cost_of_the_slo(points, option, verdict, config),
        _deciding_dataset(option),
    ]
    words = " ".join(filter(None, said))
    return Prose(words) if words else None


def _why_behind(verdict: Verdict) -> str:
    """The runner-up's price, from what it costs an hour and what it serves."""
    second = runner_up(verdict)
    if verdict.recommended is None or second is None:
        return ""
    winner = verdict.option(verdict.recommended)
    if not (_has_hourly_price(winner) and _has_hourly_price(second)):
        return ""
    rate = _per_minute(second) / _per_minute(winner)
    serves = "as many" if is_same(rate, 1) else compared(rate, 1, "more", "fewer", "as many")
    usd, of = _per_hour(second), _per_hour(winner)
    hourly = "at the same price" if is_same(usd, of) else f"and costs {compared(usd, of, 'more', 'less', 'as much')}"
    return f"{quoted(second.option)} is the runner-up: it serves {serves} requests a minute {hourly} an hour."


def _left_out(named: OptionVerdict, verdict: Verdict) -> str:
    """Options that would cost less, and whose answers do not pass the gate."""
    refused = [
        o for o in verdict.options if o.status == "below_quality" and o.cost is not None and named.cost is not None
    ]
    cheaper = [quoted(o.option) for o in refused if o.cost.value < named.cost.value]
    if not cheaper:
        return ""
    cost, whose = ("costs", "its") if len(cheaper) == 1 else ("cost", "their")
    return f"{listed(cheaper)} {cost} less within the SLO, but {whose} answers fail the quality gate."


def _has_hourly_price(option: OptionVerdict) -> bool:
    return option.price is not None and not option.price.is_per_token and option.capacity is not None


def _per_hour(option: OptionVerdict) -> float:
    return option.price.usd_per_option_hour(option.instance_count)


def _per_minute(option: OptionVerdict) -> float:
    return option.capacity.requests_per_minute_per_instance.value * option.instance_count


def _cost_of_the_slo(points: pd.DataFrame, option: OptionVerdict, verdict: Verdict, config: BenchmarkConfig) -> str:
    """What an option would cost at its cheapest loads, whatever their latency, against what it costs within the SLO."""
    mine = points[(points["option"] == option.option) & (points["slo"] != CLIENT_LIMITED)]
    basis, free, at = verdict.cost_basis, 0.0, []
    for point in option.points:
        here = mine[(mine["dataset"] == point.dataset) & mine[basis].notna()]
        if here.empty or point.cost is None:
            return ""
        best = cheapest_load(here, basis, config)
        free += point.share * best[basis]
        if best["load"] != point.load:
            at.append(f"{best['load']}{f' on {point.dataset}' if len(option.points) > 1 else ''}")
    if not option.points or not option.cost or option.cost.value <= 0:
        return ""
    saved = 1 - free / option.cost.value
    if saved < WORTH_SAYING or not at:
        return (
            f"The SLO costs nothing: no load at which {quoted(option.option)} could be judged is cheaper by 1% or more."
        )
    unit = price_unit(verdict)
    return (
        f"The SLO costs: without it {quoted(option.option)} would take {text.dollars(free * unit.scale)} {unit.words} at "
        f"{' and '.join(at)}, {text.percent(saved)} less."
    )


def _deciding_dataset(option: OptionVerdict) -> str:
    """Which dataset makes most of the price, where there are several."""
    if len(option.points) < 2 or any(p.cost is None for p in option.points) or not option.cost or not option.cost.value:
        return ""
    most = max(option.points, key=_part)
    return (
        f"{most.dataset} makes {text.percent(_part(most) / option.cost.value)} of its price with "
        f"{text.percent(most.share)} of the requests."
    )


def _part(point: ChosenPoint) -> float:
    return point.share * point.cost.value


ONE_ENDPOINT = (
    "Each option was measured on one endpoint, so no interval contains the differences between instances of one type: identical "
    "GPUs of five computing centres differed by 8% on average, and by up to 22% (Sinha et al., SC 2022). "
    "endpoints.replicates measures more of them."
)


def interval_reading(verdict: Verdict, endpoints: Sequence[EndpointRecord] = ()) -> Prose | None:
    """How wide the price's interval is, and which load point makes it so; and, of endpoints that the run made, whether it
    contains how much they differ.
    """
    words = " ".join(filter(None, [_how_wide(verdict), _on_how_many(verdict, endpoints)]))
    return Prose(words) if words else None


def _on_how_many(verdict: Verdict, endpoints: Sequence[EndpointRecord]) -> str:
    """On how many endpoints the options were measured that the run made, and what intervals then contain."""
    made = {record.option for record in endpoints if record.create_called_at is not None}
    counts = {o.option: min(p.endpoints for p in o.points) for o in verdict.options if o.points and o.option in made}
    if not counts:
        return ""
    if max(counts.values()) == 1:
        return ONE_ENDPOINT
    said = (
        "Intervals of prices contain how much the endpoints of an option differ (endpoints.replicates), those of latencies only "
        f"as far as their requests show it. They were measured on at least {text.plural(min(counts.values()), 'endpoint')} each"
    )
    alone = [quoted(name) for name, count in counts.items() if count == 1]
    if alone:
        said += f"; on one endpoint alone there is no difference in the interval: {listed(alone)}"
    return f"{said}."


def _how_wide(verdict: Verdict) -> str:
    """How wide the price's interval is, and which load point makes it so."""
    named = verdict.recommended or verdict.best_estimate
    if named is None:
        return ""
    option = verdict.option(named)
    known = [p for p in option.points if p.cost and p.cost.low is not None and p.cost.high is not None]
    cost = option.cost
    if cost is None or cost.low is None or cost.high is None or cost.value <= 0 or len(known) < len(option.points):
        return ""
    farthest = max(cost.high - cost.value, cost.value - cost.low) / cost.value
    if farthest == 0:
        return ""
    said = f"The price of {quoted(named)} is known to within {text.percent(farthest, 1)}"
    if is_replicated(option.points):  # endpoints, not requests, may be what is lacking
        return f"{said}."
    if len(known) == 1:
        return f"{said}, from {text.plural(known[0].n, 'request')} at {known[0].load}."
    squares = [((p.cost.high - p.cost.low) * p.share) ** 2 for p in known]
    widest = max(range(len(known)), key=squares.__getitem__)
    point = known[widest]
    share = squares[widest] / sum(squares)
    return (
        f"{said}. {text.percent(share)} of that (of the variance) comes from {point.dataset} at {point.load}, where "
        f"{text.plural(point.n, 'request')} count: more of them would narrow it most."
    )


def options_reading(verdict: Verdict) -> Prose | None:
    """How many options meet the SLO, and which do not; None of a single one."""
    if len(verdict.options) < 2:
        return None
    groups = {
        f"is shown to {verdict.aim}" if verdict.has_gate else "meets the SLO": ("recommended", "tied", "feasible"),
        "is shown to miss the SLO": ("infeasible",),
        "fails the quality gate": ("below_quality",),
        "left the race": ("eliminated",),
        "is not decided": ("undecided", "not_judged"),
        "has no price": ("unpriced",),
        "was not measured": ("failed", "incomplete"),
    }
    counts = {words: sum(o.status in statuses for o in verdict.options) for words, statuses in groups.items()}
    return Prose(counted("option", counts))
