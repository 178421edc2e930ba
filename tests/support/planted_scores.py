"""How right an answer is, campaign by campaign, and what went wrong where it is not."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from planted_campaigns import ERROR_LIMIT, TIMEOUT_S, Campaign, draw_campaign, load_of
from planted_race import race, raced_config
from planted_records import write_campaign
from planted_rules import QUANTITIES, RULES, Answer, Stated, our_rules
from planted_worlds import draw_world

from helpers.config.load_level import LoadLevel
from helpers.metrics.control import FOLDER, read_moves
from helpers.run.records import read_requests

STARTUP_S = 600.0
"""Of each endpoint."""
CLEAR = 0.10
"""Options whose true prices differ by more are clearly apart; the same margin makes an option clearly feasible."""


SPENT = ("requests", "billed_h", "usd")


@dataclass
class Outcome:
    """Of one rule on one campaign; null where the question does not arise."""

    seed: int
    has_winner: bool
    contained: bool
    single_winner: bool | None
    """Is the true winner the only one left? Asked where the next cheapest feasible option is clearly more expensive, and stays so
    if every limit of the SLO were 10% stricter for the winner and 10% laxer for the others (`is_clear`)."""
    one_left: bool | None
    """Is there one option left, whichever it is? Asked as well where the winner is clear."""
    infeasible_named: bool | None
    """Does the named option truly miss the SLO? Asked where one meets it by a clear margin."""
    infeasible_load_point_named: bool | None
    """Or at the load point at which it is to run?"""
    left: int
    within_5_percent: bool | None = None
    """Does the named option cost, where it is to run, at most 5% more than the truly cheapest, or is the load at which it does
    among those that the verdict names beside? Asked of what is feasible."""
    why: dict[str, str] = field(default_factory=dict)
    """Which of the above went wrong -> the cause."""
    alarmed: bool = False
    """Is an option said to have changed during its visit?"""
    intervals: list[tuple[str, str, str, bool]] = field(default_factory=list)
    """(quantity, kind of load point, `covered`, `low`, `high` or `none`, is its option said to have changed?): `low` if the
    interval lies below the truth."""


def score_campaign(seed: int, requests: int, truth_requests: int, cache: Path | None) -> dict[str, dict]:
    """Rule -> its outcome on the campaign of a seed."""
    campaign = draw_campaign(seed, requests, truth_requests, cache)
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        write_campaign(campaign, folder)
        return {rule: asdict(outcome(campaign, judged(campaign, folder))) for rule, judged in RULES.items()}


def score_world(
    world_and_seed: tuple[str, int], requests: int, truth_requests: int, cache: Path | None, *, raced: bool = False
) -> dict:
    """The outcome of our rules on the campaign of a seed in a world, measured in full or raced, with what it took."""
    campaign = draw_world(*world_and_seed, requests, truth_requests, cache)
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        if raced:
            answer = race(campaign, folder).answer
        else:
            write_campaign(campaign, folder)
            answer = our_rules(campaign, folder)
        config = raced_config(campaign) if raced else campaign.config
        moved = {move.option for move in read_moves(folder, folder / FOLDER, config) if move.is_shown}
        return asdict(outcome(campaign, answer, moved)) | _spent(campaign, folder)


def _spent(campaign: Campaign, folder: Path) -> dict[str, float]:
    """Requests sent, and the hours and dollars of the endpoints that were loaded one after the other, each with its start-up."""
    folders = [folder, *folder.glob(FOLDER)]
    sent = pd.concat([read_requests(each, ["option", "load_point", "sent_ns", "done_ns"]) for each in folders])
    blocks = sent.groupby(["option", "load_point"]).agg(first=("sent_ns", "min"), last=("done_ns", "max"))
    loaded_s = ((blocks["last"] - blocks["first"]) / 1e9).groupby("option").sum()
    hours = (loaded_s + STARTUP_S) / 3600
    usd = sum(float(hours[option]) * campaign.stations[option].usd_per_hour for option in hours.index)
    return {"requests": len(sent), "billed_h": float(hours.sum()), "usd": usd}


def outcome(campaign: Campaign, answer: Answer, moved: Collection[str] = ()) -> Outcome:
    """Compare an answer with the truth. `moved` are the options that are said to have changed during their visit."""
    prices = campaign.true_prices()
    winner = next(iter(prices), None)
    clear = is_clear(campaign)
    feasible_by_margin = bool(campaign.true_prices(CLEAR))
    named = answer.recommended
    contained = winner in answer.candidates if winner else named is None
    single = answer.candidates == {winner}
    infeasible = named is not None and named not in prices
    infeasible_point = named is not None and bool(_missed_points(campaign, answer))
    found = Outcome(
        seed=campaign.seed,
        has_winner=winner is not None,
        contained=contained,
        single_winner=single if clear else None,
        one_left=len(answer.candidates) == 1 if clear else None,
        infeasible_named=infeasible if feasible_by_margin else None,
        infeasible_load_point_named=infeasible_point if feasible_by_margin else None,
        left=len(answer.candidates),
        within_5_percent=None
        if named is None or infeasible_point or answer.chosen.keys() != campaign.shares.keys()
        else _is_near_best(campaign, answer, prices),
    )
    if not contained:
        found.why["contained"] = _why_not_contained(campaign, answer, winner)
    if clear and not single:
        found.why["single"] = _why_not_single(campaign, answer, winner, prices)
    if feasible_by_margin and infeasible_point:
        found.why["infeasible"] = "; ".join(_missed_points(campaign, answer))
    found.alarmed = bool(moved)
    found.intervals = [
        (*_interval(campaign, stated), stated.option in moved)
        for stated in answer.intervals
        if _has_truth(campaign, stated)
    ]
    return found


def is_clear(campaign: Campaign) -> bool:
    """Is the winner more than `CLEAR` cheaper than any other option, however the limits of the SLO are moved by that much?
    Options that miss a limit by 1% can be told from those that meet it by no number of requests that anybody sends.
    """
    strict, lax = campaign.true_prices(CLEAR), campaign.true_prices(1 / (1 + CLEAR) - 1)
    winner = next(iter(campaign.true_prices()), None)
    if winner not in strict:
        return False
    return all(price > (1 + CLEAR) * strict[winner] for option, price in lax.items() if option != winner)


def _is_near_best(campaign: Campaign, answer: Answer, prices: dict[str, float]) -> bool:
    points = {} if answer.verdict is None else {p.dataset: p for p in answer.verdict.option(answer.recommended).points}
    cost = 0.0
    for dataset, share in campaign.shares.items():
        beside = points[dataset].or_at if points else []
        named = [level for level in campaign.levels if level == answer.chosen[dataset] or level.label in beside]
        cost += share * min(campaign.price(answer.recommended, dataset, level) for level in named)
    return cost <= 1.05 * min(prices.values())


# --- causes -------------------------------------------------------------------------------------------------------


def _missed_points(campaign: Campaign, answer: Answer) -> list[str]:
    """Load points at which the named option is to run and truly misses the SLO: which limit, by how much, where."""
    missed = []
    for dataset, level in answer.chosen.items():
        truth = campaign.truths[answer.recommended, dataset, level]
        if campaign.is_feasible(answer.recommended, dataset, level):
            continue
        what, over = "errors", truth.error_rate / ERROR_LIMIT - 1
        for name, limit in campaign.limits_s.items():
            if getattr(truth, f"p_{name}") > limit:
                what, over = "p95", getattr(truth, f"p_{name}") / limit - 1
        size = "by 5% at most" if over <= 0.05 else "by 5-15%" if over <= 0.15 else "by more than 15%"
        missed.append(f"{what} beyond its limit {size}, {_place(campaign, answer.recommended, dataset, level)}")
    return missed


def _place(campaign: Campaign, option: str, dataset: str, level: LoadLevel) -> str:
    """The kind of load point: what makes its requests alike or not."""
    station = campaign.stations[option]
    if not level.is_open:
        return "closed loop with queue" if level.value > station.slots else "closed loop without queue"
    load = level.value / station.capacity_per_s(load_of(dataset, level).mean_prompt_tokens, TIMEOUT_S)
    if load < 0.6:
        return "open loop below 60% load"
    return "open loop at 60-85%" if load < 0.85 else "open loop beyond 85%"


def _cheapest_levels(campaign: Campaign, option: str) -> dict[str, LoadLevel]:
    """Dataset -> the level at which an option is truly cheapest within the SLO."""
    best = {}
    for dataset in campaign.shares:
        feasible = [level for level in campaign.levels if campaign.is_feasible(option, dataset, level)]
        best[dataset] = min(feasible, key=lambda level, d=dataset: campaign.price(option, d, level))
    return best


def _why_not_contained(campaign: Campaign, answer: Answer, winner: str | None) -> str:
    if winner is None:
        return "nothing is feasible, but an option is named"
    if answer.verdict is None:
        return "not the winner"
    judged = answer.verdict.option(winner)
    if judged.status in ("infeasible", "undecided", "not_judged"):
        return f"the winner is called {judged.status} ({_state_at_best(campaign, answer, winner)})"
    if answer.recommended and _missed_points(campaign, answer):
        return "an option that is truly infeasible at its load point undercuts the winner"
    best = _cheapest_levels(campaign, winner)
    if {p.dataset: p.level for p in judged.points} != {dataset: level.value for dataset, level in best.items()}:
        state = _state_at_best(campaign, answer, winner)
        return f"the winner is taken at a more expensive load point (its best one is {state})"
    return "the price intervals of two feasible options do not overlap, though the winner is cheaper"


def _state_at_best(campaign: Campaign, answer: Answer, option: str) -> str:
    """What the rules found at an option's truly best load points."""
    states = []
    for dataset, level in _cheapest_levels(campaign, option).items():
        rows = answer.points[(answer.points["option"] == option) & (answer.points["dataset"] == dataset)]
        rows = rows[rows["level"] == level.value]
        truth = campaign.truths[option, dataset, level]
        room = min(1 - getattr(truth, f"p_{name}") / limit for name, limit in campaign.limits_s.items())
        near = "p95 within 10% of its limit" if room < 0.1 else "p95 clear of its limit"
        if campaign.truths[option, dataset, level].error_rate > 0:
            near += ", with errors"
        if rows.empty:
            states.append(f"not measured: {near}")
        else:
            steady = "" if rows["steady"].iloc[0] else ", not steady"
            states.append(f"{rows['slo'].iloc[0]}{steady}: {near}")
    return "; ".join(sorted(set(states) - {"met: p95 clear of its limit"}) or ["met"])


def _why_not_single(campaign: Campaign, answer: Answer, winner: str, prices: dict[str, float]) -> str:
    if not answer.candidates:
        state = "" if answer.verdict is None else f": the winner is {_state_at_best(campaign, answer, winner)}"
        return f"nothing is named{state}"
    if len(answer.candidates) == 1:
        return "another option alone"
    if winner not in answer.candidates:
        return "others, without the winner"
    causes = set()
    for option in answer.candidates - {winner}:
        status = answer.verdict.option(option).status if answer.verdict else "left"
        if option not in prices:
            causes.add(f"{status}, truly infeasible")
        else:
            dearer = prices[option] / prices[winner] - 1
            size = "10-20%" if dearer <= 0.2 else "20-50%" if dearer <= 0.5 else "more than 50%"
            causes.add(f"{status}, truly {size} more expensive")
    if answer.verdict and answer.verdict.option(winner).status != "recommended":
        causes.add(f"the winner itself is {answer.verdict.option(winner).status}")
    return " + ".join(sorted(causes))


# --- intervals ----------------------------------------------------------------------------------------------------


def _has_truth(campaign: Campaign, stated: Stated) -> bool:
    """An overloaded open loop has no steady state."""
    return not campaign.truths[stated.option, stated.dataset, stated.level].overloaded


def _interval(campaign: Campaign, stated: Stated) -> tuple[str, str, str]:
    where = stated.option, stated.dataset, stated.level
    truth = campaign.truths[where]
    values = truth.p_latency_s, truth.requests_per_s, campaign.price(*where)
    value = dict(zip(QUANTITIES, values, strict=True))[stated.quantity]
    place = _place(campaign, *where) + (", with errors" if campaign.stations[stated.option].error_rate else "")
    place += "" if stated.steady else ", not steady"
    if stated.low is None and stated.high is None:
        return stated.quantity, place, "none"
    low = -math.inf if stated.low is None else stated.low
    high = math.inf if stated.high is None else stated.high
    return stated.quantity, place, "low" if high < value else "high" if low > value else "covered"


def campaign_parser(description: str, campaigns: int, output: Path) -> argparse.ArgumentParser:
    """The options of a benchmark that scores campaigns."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--campaigns", type=int, default=campaigns)
    parser.add_argument("--seed", type=int, default=1, help="of the first campaign; the others follow")
    parser.add_argument("--requests", type=int, default=120, help="that a steady window must hold")
    parser.add_argument("--truth-requests", type=int, default=60_000, help="per load point, for its truth")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--causes", action="store_true", help="print what went wrong")
    return parser


# --- over all campaigns -------------------------------------------------------------------------------------------


def share(values: Iterable[bool | None]) -> float | None:
    """Of the known ones."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def totals(outcomes: list[dict]) -> dict:
    """The figures of one rule over all campaigns, with how often each question arose and the causes of what went wrong."""
    names = (
        "contained",
        "single_winner",
        "one_left",
        "infeasible_named",
        "infeasible_load_point_named",
        "within_5_percent",
    )
    asked = {name: sum(o[name] is not None for o in outcomes) for name in names}
    stated = [tuple(interval) for o in outcomes for interval in o["intervals"]]
    return {
        "contains_true_winner": share(o["contained"] for o in outcomes),
        "single_winner_when_clear": share(o["single_winner"] for o in outcomes),
        "one_left_when_clear": share(o["one_left"] for o in outcomes),
        "infeasible_named": share(o["infeasible_named"] for o in outcomes),
        "infeasible_load_point_named": share(o["infeasible_load_point_named"] for o in outcomes),
        "within_5_percent": share(o["within_5_percent"] for o in outcomes),
        "coverage_95": coverage(stated),
        "coverage_95_by_quantity": {q: coverage(s for s in stated if s[0] == q) for q in QUANTITIES},
        "coverage_95_by_place": _by_place(stated),
        "alarmed": share(o["alarmed"] for o in outcomes),
        "coverage_95_where": {
            words: {q: coverage(s for s in stated if s[0] == q and s[3] == moved) for q in QUANTITIES}
            | {"intervals": sum(s[3] == moved for s in stated)}
            for words, moved in (("quiet", False), ("alarmed", True))
        },
        "intervals": sum(s[2] != "none" for s in stated),
        "asked": asked,
        "spent": {name: sum(o[name] for o in outcomes) for name in SPENT if name in outcomes[0]},
        "causes": {
            what: dict(Counter(o["why"][what] for o in outcomes if what in o["why"]).most_common())
            for what in ("contained", "single", "infeasible")
        },
    }


def coverage(stated: Iterable[tuple[str, str, str, bool]]) -> float | None:
    """Share of the intervals that contain the truth; where none was stated is not counted."""
    return share(None if where == "none" else where == "covered" for _, _, where, _ in stated)


def _by_place(stated: list[tuple[str, str, str, bool]]) -> dict[str, dict]:
    found = {}
    for key in sorted({s[:2] for s in stated}):
        here = [s for s in stated if s[:2] == key]
        counts = Counter(s[2] for s in here)
        found[", ".join(key)] = {
            "coverage": coverage(here),
            "below": counts["low"],
            "above": counts["high"],
            "none": counts["none"],
            "n": len(here),
        }
    return found
