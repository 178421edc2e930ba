"""Load points that are neither shown to meet the SLO nor shown to miss it: what would settle them, and whether they could change
the ranking. Why they are open: `open_words`.

As a rule, latency and throughput rise with load. So a load beyond one that is shown to miss the SLO changes nothing, and
neither does an untrustworthy one below a load that is shown to meet it. Which loads could change the ranking is decided by what
is shown, never by which side of a limit an estimate lies on: the true one lies on the other side as often as chance has it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Search
from helpers.load.race_points import Point, Price, lowest_price
from helpers.metrics.formulas import CLIENT_LIMITED, MET, MISSED, UNDECIDED
from helpers.metrics.intervals import CONFIDENCE, least_difference
from helpers.metrics.looks import surely
from helpers.run.ledger import EndpointRecord
from helpers.verdict.chosen_points import cheapest_load, estimate_of, mixed_cost, traffic_shares
from helpers.verdict.open_words import open_because, open_limits, prompts_that_ran_out
from helpers.verdict.verdict import CostBasis, Effort, Estimate, OpenLimit, OptionVerdict

# --- an option that is not shown to meet the SLO ------------------------------------------------------------------


def estimated_loads(
    at: dict[str, pd.DataFrame], basis: CostBasis, config: BenchmarkConfig
) -> dict[str, pd.Series] | None:
    """Dataset -> the cheapest load whose estimates are within the SLO, shown or not; None if a dataset has none."""
    found = {}
    for dataset, here in at.items():
        within = here[(here["slo"] == MET) | (here["estimates_within_slo"].eq(True) & _may_be_met(here))]
        if within.empty:
            return None
        found[dataset] = cheapest_load(within, basis, config)
    return found


def _may_be_met(here: pd.DataFrame) -> pd.Series:
    return (here["slo"] != MISSED) & (here["load_kind"] != "ramp")


def effort_to_settle(
    rows: list[pd.Series], record: EndpointRecord | None, config: BenchmarkConfig
) -> tuple[list[OpenLimit], Effort | None]:
    """The limits that are open at the loads of an estimate, and the effort that would show that they are met.

    The effort is None where more requests alone would not show it: the client limited a load, it was not steady, or its
    estimates are too near a limit.
    """
    limits, requests, minutes, usd = [], 0, 0.0, 0.0
    is_possible, still_open = True, [row for row in rows if row["slo"] != MET]
    for row in still_open:
        mine = [] if row["slo"] == CLIENT_LIMITED else open_limits(row, config)
        limits += mine
        lacking = [limit.requests_lacking for limit in mine]
        if not lacking or None in lacking or row["slo"] == CLIENT_LIMITED or not row["requests_per_s"]:
            is_possible = False
            continue
        seconds = max(lacking) * row["window_s"] / row["n"]
        requests, minutes = requests + max(lacking), minutes + seconds / 60
        usd += _dollars(row, record, max(lacking), seconds)
    known = is_possible and requests > 0 and not pd.isna(minutes)
    if not known:
        return limits, None
    how = _how_to_send_more(still_open, config)
    return limits, Effort(requests=requests, minutes=minutes, usd=None if math.isnan(usd) else usd, how=how)


def _how_to_send_more(rows: list[pd.Series], config: BenchmarkConfig) -> str | None:
    """What to change in the config so that load points run for longer; it depends on what ended them."""
    if config.imported:
        return None
    ran_out = [row["dataset"] for row in rows if row["prompts_ran_out"]]
    ways = [prompts_that_ran_out(ran_out)] if ran_out else []
    if len(ran_out) < len(rows):
        ways.append("raise load.min_requests or load.max_duration_s")
    return "; elsewhere, ".join(ways)


def _dollars(row: pd.Series, record: EndpointRecord | None, requests: int, seconds: float) -> float:
    """NaN where no price is known."""
    by_the_token = record is not None and record.is_billed_per_token
    each, quantity = ("usd_per_1k_requests", requests / 1e3) if by_the_token else ("usd_per_hour", seconds / 3600)
    return math.nan if pd.isna(row[each]) else float(row[each]) * quantity


# --- could it change the ranking? ---------------------------------------------------------------------------------


class _Candidate(NamedTuple):
    """The least that a dataset might cost at a load, and why the load is open; None where it is shown to meet the SLO."""

    load: str
    cost: Estimate
    because: str | None


def cheaper_because(
    option: OptionVerdict, points: pd.DataFrame, winner: OptionVerdict | None, basis: CostBasis, config: BenchmarkConfig
) -> str | None:
    """Why an option might be cheaper than the winner (the winner itself: than reported); None if it cannot, even if each
    dataset costs the least that it may.

    Without a winner: why it might meet the SLO.
    """
    if option.status not in ("feasible", "undecided", "not_judged"):
        return None
    mine, picked = points[points["option"] == option.option], []
    for dataset, share in traffic_shares(config).items():
        candidates = _candidates(mine, dataset, basis, config)
        if not candidates:
            return None
        picked.append((share, min(candidates, key=lambda one: one.cost.value)))
    reasons = [best.because for _, best in picked if best.because]
    if not reasons:
        return None
    mixed = mixed_cost([(share, best.cost) for share, best in picked], config.endpoints.replicates > 1)
    return reasons[0] if winner is None or may_be_less(mixed, winner.cost, config) else None


def cheaper_loads(
    option: OptionVerdict, points: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig
) -> dict[str, list[str]]:
    """Dataset -> the loads that are not shown to meet the SLO, or to miss it, at which an option may cost less than where it is
    judged by more than `load.race.indifference`.
    """
    mine, most = points[points["option"] == option.option], 1 - config.load.race.indifference
    return {
        point.dataset: [
            one.load
            for one in _candidates(mine, point.dataset, basis, config)
            if one.because and point.cost is not None and one.cost.value < most * point.cost.value
        ]
        for point in option.points
    }


def _candidates(mine: pd.DataFrame, dataset: str, basis: CostBasis, config: BenchmarkConfig) -> list[_Candidate]:
    """The loads of an option at which a dataset is, or might be, within the SLO."""
    here = mine[mine["dataset"] == dataset]
    where = f" on {dataset}" if len(traffic_shares(config)) > 1 else ""
    met = here[here["slo"] == MET]
    floor = met["level"].max() if len(met) else -math.inf
    ceiling = _lowest_missed(mine, dataset, floor, config)
    found = [_Candidate(row["load"], estimate_of(row, basis), None) for _, row in met.iterrows()]
    if any(one.cost is None for one in found):
        return []  # options without a price are not compared
    for _, row in here[_may_be_met(here) & (here["slo"] != MET)].iterrows():
        because = f"at {row['load']}{where}, {open_because(row, config)}"
        is_trusted = row["slo"] == UNDECIDED and row["steady"] != False  # noqa: E712
        if is_trusted and row["level"] < ceiling and not pd.isna(row[basis]):
            found.append(_Candidate(row["load"], estimate_of(row, basis), because))
        elif not is_trusted and floor < row["level"] < ceiling:
            found.append(_Candidate(row["load"], _at_best(row["level"], row, here, basis), because))
    known = set(here["level"])
    for level in [] if isinstance(config.load, Search) and config.imported else config.load.levels():
        if level.kind != "ramp" and level.value not in known and floor < level.value < ceiling:
            least = _at_best(level.value, None, here, basis)
            found.append(_Candidate(level.label, least, f"{level.label}{where} was not measured"))
    return found


def _lowest_missed(mine: pd.DataFrame, dataset: str, floor: float, config: BenchmarkConfig) -> float:
    """The lowest level above `floor` at which an option misses the SLO on a dataset, or on one with shorter prompts, which
    take no longer; inf if there is none.
    """
    longest = {one.name: one.prompt_tokens[1] for one in config.loaded_datasets}
    shortest = next(one.prompt_tokens[0] for one in config.loaded_datasets if one.name == dataset)
    no_longer = [name for name, most in longest.items() if name == dataset or most <= shortest]
    missed = mine[mine["dataset"].isin(no_longer) & (mine["slo"] == MISSED) & (mine["level"] > floor)]
    return missed["level"].min() if len(missed) else math.inf


def _at_best(level: float, row: pd.Series | None, here: pd.DataFrame, basis: CostBasis) -> Estimate:
    """The least that a load may cost if it was not measured or its figures cannot be trusted; 0 where nothing is known.

    What is billed by the token costs the same at every load. An open loop serves at most what is offered, so its price at one
    rate follows from that at any other. That of a closed loop follows from lower and higher ones as in a race
    (`race_points.lowest_price`); where only its steadiness is in doubt, it costs what was measured.
    """
    is_measured = row is not None and row["slo"] != CLIENT_LIMITED and row["load_kind"] in ("closed_loop", "users")
    if is_measured and (measured := estimate_of(row, basis)) is not None:
        return measured
    priced = here[here[basis].notna() & (here["served_requests_per_s"] > 0)]
    kinds, low, least = set(priced["load_kind"]), priced[f"{basis}_low"].fillna(0.0).astype(float), 0.0
    if len(priced) and priced["usd_per_hour"].isna().all():
        least = float(low.min())
    elif kinds == {"open_loop"}:
        one = priced.iloc[0]
        least = float(one[basis] * one["served_requests_per_s"] / level)
    elif kinds <= {"closed_loop", "users"}:
        trusted = priced[(priced["slo"] != CLIENT_LIMITED) & ~priced["steady"].eq(False)].sort_values("level")
        known = [
            Point(other["level"], n=other["n"], prices=(Price(other[basis], low[at], math.inf),))
            for at, other in trusted.iterrows()
        ]
        least = lowest_price(Point(level), known, 0)
    return Estimate(value=least, low=least, high=least)


def may_be_less(one: Estimate, other: Estimate, config: BenchmarkConfig) -> bool:
    """Might the cost of an option, `one`, be less than that of another: is it not shown to be more? With unknown bounds it might.

    So sure that no option is wrongly shown to cost more than any other of the config (`looks.of_difference`).
    """
    if one.low is None or other.high is None:
        return True
    return least_difference(one, other, surely(config).of_difference(CONFIDENCE, len(config.options) - 1)) <= 0
