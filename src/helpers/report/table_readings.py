"""What to see in a table: one or two sentences from its rows, empty where they would say nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd

from helpers import number_text as text
from helpers.metrics.control import LEAST, Move
from helpers.metrics.formulas import CLIENT_LIMITED, MET, MISSED, UNDECIDED
from helpers.report.comparing import compared, counted, is_same, listed, more_expensive, quoted
from helpers.report.price_unit import price_unit
from helpers.run.ledger import EndpointRecord, JudgeBill
from helpers.verdict.verdict import OptionVerdict, Verdict

SLO_STATES = {
    "is shown to meet the SLO": MET,
    "is shown to miss the SLO": MISSED,
    "is undecided": UNDECIDED,
    "is not judged, as the client limited it": CLIENT_LIMITED,
}
RACE_WORDS = {"never loaded": "was never loaded", "failed": "failed", "still in it": "is still in it"}


# --- capacity, loads, prices --------------------------------------------------------------------------------------


def capacity_reading(options: Sequence[OptionVerdict], headroom: float) -> str:
    """How much traffic the first option's instances carry, and how many requests one of them serves against another option's.

    `options`: those with a capacity, the cheapest first.
    """
    scaled = [option for option in options if option.capacity is not None and option.capacity.instances is not None]
    if not scaled:
        return ""
    first, *others = scaled
    count, rate = first.capacity.instances, _rate(first)
    said = (
        f"{text.plural(count, 'instance')} of {quoted(first.option)} {'carries' if count == 1 else 'carry'} "
        f"{'at least' if first.capacity.at_least else 'up to'} {text.significant(count * rate * (1 - headroom))} requests a "
        f"minute with this headroom{', by its estimates' if first.is_estimate else ''}."
    )
    best = max(others, key=_rate, default=None)
    if best is None or is_same(_rate(best), rate):
        return said
    than = compared(_rate(best), rate, "more", "fewer", "as many")
    which = "Of the others an instance" if len(others) > 1 else "An instance"
    return (
        f"{said} {which} of {quoted(best.option)} serves {'most, ' if len(others) > 1 else ''}{than} requests a minute."
    )


def _rate(option: OptionVerdict) -> float:
    return option.capacity.requests_per_minute_per_instance.value


def loads_reading(loads: Mapping[tuple[str, str], str | None]) -> str:
    """How many pairs of dataset and option have a load that is shown to meet the SLO, and whether one load suits all datasets.

    `loads`: (dataset, option) -> the cheapest of these loads; None where there is none.
    """
    if len(loads) < 2:
        return ""
    known = {pair: load for pair, load in loads.items() if load is not None}
    if not known:
        return "No option has a load that is shown to meet the SLO on any dataset."
    how_many = f"Each of the {len(loads)}" if len(known) == len(loads) else f"{len(known)} of {len(loads)}"
    has = "has" if len(known) in (1, len(loads)) else "have"
    said = f"{how_many} pairs of dataset and option {has} a load that is shown to meet the SLO."
    of_option: dict[str, list[str]] = {}
    for (_, option), load in known.items():
        of_option.setdefault(option, []).append(load)
    several = {option: set(mine) for option, mine in of_option.items() if len(mine) > 1}
    differ = [quoted(option) for option, mine in several.items() if len(mine) > 1]
    if not several:
        return said
    apart = "cheapest at different loads on different datasets"
    if not differ:
        return f"{said} No option is {apart}, so one limit on the load will do."
    verb, suits = ("is", "it") if len(differ) == 1 else ("are", "them")
    return f"{said} {listed(differ)} {verb} {apart}: no one limit suits {suits}."


def load_points_reading(points: pd.DataFrame, latency: str) -> str:
    """How many load points show what of the SLO, and which sample says least. `latency`: the column that the SLO is judged by."""
    if points.empty:
        return ""
    said = counted("load point", {words: int((points["slo"] == state).sum()) for words, state in SLO_STATES.items()})
    known = points[points[f"{latency}_effective_n"].notna()]
    if known[f"{latency}_effective_n"].nunique() < 2:
        return said
    least = known.loc[known[f"{latency}_effective_n"].astype(float).idxmin()]
    worth, n = least[f"{latency}_effective_n"], int(least["n"])
    counts = f"{text.plural(n, 'request')} {'counts' if n == 1 else 'count'} as {text.number(worth)} independent ones"
    where = f"{quoted(least['option'])} on {least['dataset']} at {least['load']}"
    return f"{said} The sample that says least is that of {where}: {counts if round(worth) < n else text.plural(n, 'request')}."


def cost_reading(points: pd.DataFrame, verdict: Verdict) -> str:
    """Where the load moves the price most: the option and dataset with the largest ratio of two prices."""
    column = verdict.cost_basis
    unit = price_unit(verdict, points, column)
    prices = points[points["slo"] != CLIENT_LIMITED].assign(price=points[column].astype(float) * unit.scale)
    prices = prices[prices["price"].between(0, math.inf, inclusive="neither")]
    pairs = [(m.loc[m["price"].idxmin()], m.loc[m["price"].idxmax()]) for _, m in prices.groupby(["option", "dataset"])]
    if not pairs:
        return ""
    least, most = max(pairs, key=lambda both: both[1]["price"] / both[0]["price"])
    if is_same(most["price"], least["price"]):
        return ""
    return (
        f"The load moves the price most for {quoted(most['option'])} on {most['dataset']}: from {text.dollars(least['price'])} "
        f"{unit.words} at {least['load']} to {text.dollars(most['price'])} at {most['load']}, which is "
        f"{more_expensive(most['price'], least['price'])}."
    )


def prices_reading(dates: Sequence[date | None]) -> str:
    """Of which days several prices are."""
    known = sorted(day for day in dates if day is not None)
    if len(dates) < 2:
        return ""
    if not known:
        return counted("price", {"has no date": len(dates)})
    days = f"of {known[0]}" if known[0] == known[-1] else f"of days from {known[0]} to {known[-1]}"
    return counted("price", {"has no date": len(dates) - len(known), f"is {days}": len(known)})


# --- what was deployed, and what became of it ---------------------------------------------------------------------


def deployments_reading(rows: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """In what the deployments differ, and in what they are alike. `columns`: key -> name in prose; what is "–" in all rows is
    not named.
    """
    if len(rows) < 2:
        return ""
    told = {name: rows[key].nunique() for key, name in columns.items() if (rows[key] != text.UNKNOWN).any()}
    differ, same = ([name for name, kinds in told.items() if (kinds > 1) is many] for many in (True, False))
    if not differ:
        return f"The {len(rows)} options are alike in {listed(same)}." if same else ""
    alike = f", and are alike in {listed(same)}" if same else ""
    return f"The options differ in {listed(differ)}{alike}."


def run_cost_reading(endpoints: Sequence[EndpointRecord], judge: JudgeBill | None = None) -> str:
    """What the run spent and on which option most of it, what on the judge, and which start-up was the longest."""
    spent = {r.option: r.cost_usd() for r in endpoints if not r.local and (r.is_billed_per_token or r.billed_hours())}
    return " ".join(filter(None, [_spent(spent), judge and _judged(judge), _longest_startup(endpoints)]))


def _judged(judge: JudgeBill) -> str:
    """What the judge cost, or why that is not known."""
    asked = f"The judge {quoted(judge.name)} gave {text.plural(judge.judgements, 'judgement')}"
    if judge.price is None:
        return f"{asked}; what they cost is not known, as quality.judge.model has no price."
    if judge.cost_usd() is None:
        return f"{asked}; what they cost is not known, as its server counted no tokens of {judge.uncounted:,} of them."
    if not judge.price.is_per_token:
        return f"{asked}, which added nothing to the bill: its server is billed by the hour and runs anyway."
    return f"{asked} for {text.money(judge.cost_usd())}, beside what was spent on endpoints."


def _spent(spent: Mapping[str, float | None]) -> str:
    known = {option: usd for option, usd in spent.items() if usd is not None}
    unknown = [quoted(option) for option in spent if option not in known]
    if not known:
        return f"What {listed(unknown)} cost is not known." if unknown else ""
    said = f"The run spent {text.money(sum(known.values()))} on endpoints"
    most = max(known, key=known.get)
    if len(known) > 1 and not is_same(known[most], min(known.values())):
        said += f", most on {quoted(most)} ({text.money(known[most])})"
    return f"{said}{f'; what {listed(unknown)} cost is not known' if unknown else ''}."


def _longest_startup(endpoints: Sequence[EndpointRecord]) -> str:
    known = {r.option: r.startup_s() for r in endpoints if r.startup_s() is not None}
    if len(known) < 2:
        return ""
    most, least = max(known, key=known.get), min(known, key=known.get)
    if is_same(known[most], known[least]):
        return ""
    return f"{quoted(most)} took longest to start, {text.duration(known[most])}; {quoted(least)} {text.duration(known[least])}."


def race_reading(outcomes: Sequence[str], missing: Mapping[str, int]) -> str:
    """How the options left the race, and of which most load points were left out. `missing`: option -> its load points that
    were not measured.
    """
    said = counted("option", {RACE_WORDS.get(each, f"left as {each}"): n for each, n in Counter(outcomes).items()})
    left_out = sum(missing.values())
    if not left_out:
        return said
    most = max(missing, key=missing.get)
    of = "" if missing[most] == left_out else f", {missing[most]} of them"
    were = "was" if left_out == 1 else "were"
    return f"{said} {text.plural(left_out, 'load point')} {were} not measured{of} of {quoted(most)}."


def moves_reading(moves: Sequence[Move]) -> str:
    """Which options changed while they were measured."""
    moved = [move for move in moves if move.is_shown]
    if not moved:
        named = quoted(moves[0].option) if len(moves) == 1 else f"any of {len(moves)} options"
        return f"No change of {named} by {text.percent(LEAST)} or more is shown."
    each = [
        f"{quoted(m.option)} was {text.percent(abs(m.change.value))} {'slower' if m.change.value > 0 else 'faster'}"
        for m in moved
    ]
    others = len(moves) - len(moved)
    rest = f"; of the other{'' if others == 1 else f' {others}'} no change is shown" if others else ""
    return f"Late in its measurement {listed(each)} than early{rest}."


def failures_reading(rows: Sequence[Mapping[str, object]]) -> str:
    """What failed most, of all that failed; and of which options that is not known. `rows`: option, kind, failed (or None)."""
    known = [row for row in rows if row["failed"] is not None]
    unknown = list(dict.fromkeys(quoted(row["option"]) for row in rows if row["failed"] is None))
    said = []
    if known:
        worst, total = max(known, key=lambda row: row["failed"]), sum(row["failed"] for row in known)
        which = f"All {total:,}" if len(known) == 1 else f"Of {total:,}"
        most = "" if len(known) == 1 else f" {worst['failed']:,}"
        said.append(f"{which} failed requests{most} were of {quoted(worst['option'])}: {worst['kind']}.")
    if unknown:
        said.append(f"How many of {listed(unknown)} failed is not known.")
    return " ".join(said)
