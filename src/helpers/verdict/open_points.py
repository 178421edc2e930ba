"""Load points that are neither shown to meet the SLO nor shown to miss it: why, what would settle them, and whether they
could change the ranking.

As a rule, latency and throughput rise with load. So a load beyond one that is shown to miss the SLO changes nothing, and
neither does an untrustworthy one below a load that is shown to meet it. Which loads could change the ranking is decided by what
is shown, never by which side of a limit an estimate lies on: the true one lies on the other side as often as chance has it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.imports import HOW_TO_ADD, PERCENTILES
from helpers.config.load import ROOM, LoadLevel, Search
from helpers.metrics.formulas import CLIENT_LIMITED, MET, MISSED, UNDECIDED
from helpers.run.ledger import EndpointRecord
from helpers.verdict.chosen_points import cheapest_load, estimate_of, mixed_cost, traffic_shares
from helpers.verdict.verdict import CostBasis, Effort, Estimate, OpenLimit, OptionVerdict

ONE_SIDED = 1.6449 / 1.9600
"""Ratio of normal quantiles: a one-sided 95% bound to a two-sided one."""
SEE = "docs/import.md names the option of the tool that adds it"
TO_GO_ON = {"max_duration_s": "a longer load.max_duration_s", "prompts ran out": "a larger count of the dataset"}
"""Why a window ended (`AttemptFacts.ended_because`) -> what would have let it go on."""
LIMIT_WORDS = {"error_rate": "errors", "latency_s": "latency", "ttft_s": "TTFT", "ttfa_s": "TTFA", "tpot_s": "TPOT"}


# --- one load point -----------------------------------------------------------------------------------------------


def open_because(row: pd.Series, config: BenchmarkConfig) -> str:
    """Why a load point is open, as a phrase that follows its name."""
    if row["slo"] == CLIENT_LIMITED:
        return "the client, not the server, limited it"
    if row["load_kind"] == "ramp":
        return "a ramp cannot show whether the SLO is met"
    if row["overloaded"]:
        return "it was overloaded: requests arrived faster than they were answered"
    if row["steady"] == False and row["prompts_ran_out"]:  # noqa: E712 - None and NaN are not False
        return f"it found no steady state before {prompts_that_ran_out([row['dataset']])}"
    if row["steady"] == False:  # noqa: E712
        advice = [TO_GO_ON[end] for end in TO_GO_ON if end in str(row.get("ended_because"))]
        return f"it found no steady state{''.join(f'; {one} may help' for one in advice)}"
    if row.get("shows_room") == False:  # noqa: E712
        enough = LoadLevel(row["load_kind"], float(f"{row['level'] / ROOM:.3g}"))
        return (
            "no higher rate shows that there is room below capacity, so a quiet spell may have hidden what waits there: "
            f"{enough.label} kept up with would show it"
        )
    limits = open_limits(row, config)
    if not limits:
        return "the SLO is not decided there"
    words = " and ".join(_open_words(limit, row, config) for limit in limits)
    return f"{words} ({prompts_that_ran_out([row['dataset']])})" if row["prompts_ran_out"] else words


def not_met_because(row: pd.Series, config: BenchmarkConfig) -> str:
    """Why a load point is not shown to meet the SLO: the limits that it misses, or else why it is open."""
    if row["slo"] != MISSED:
        return open_because(row, config)
    allowed = {"error_rate": config.slo.error_rate} | config.slo.limits_s()
    missed = [_measured(name, limit, row, config) for name, limit in allowed.items() if row[f"slo_{name}"] == MISSED]
    return " and ".join(missed) or "it misses the SLO"


def open_limits(row: pd.Series, config: BenchmarkConfig) -> list[OpenLimit]:
    """The limits that keep a load point from being shown to meet the SLO."""
    slo, found = config.slo, []
    allowed = {"error_rate": slo.error_rate} | slo.limits_s()
    for name, limit in allowed.items():
        if row.get(f"slo_{name}") != UNDECIDED:
            continue
        measured = row["error_rate"] if name == "error_rate" else row[f"{name}_p{slo.percentile:g}"]
        if name == "error_rate" and _part_of(row, name):
            measured = row["part_failures"] / row["part_n"]
        lacking = row.get(f"lacking_{name}")
        found.append(
            OpenLimit(
                dataset=row["dataset"],
                part=_part_of(row, name),
                load=row["load"],
                limit=name,
                measured=None if pd.isna(measured) or math.isinf(measured) else float(measured),
                allowed=limit,
                requests_lacking=None if pd.isna(lacking) else int(lacking),
            )
        )
    return found


def _open_words(limit: OpenLimit, row: pd.Series, config: BenchmarkConfig) -> str:
    """Which limit is open, what was measured, and how many requests it lacks."""
    if limit.measured is None and (lacks := _not_in_file(limit, row, config)):
        return lacks
    measured = _measured(limit.limit, limit.allowed, row, config)
    words = f"{LIMIT_WORDS[limit.limit]} not shown to be within the limit ({measured})"
    if limit.requests_lacking is None:
        return f"{words}, and no number of such requests would show it"
    return f"{words}: {text.plural(limit.requests_lacking, 'more request')} like these would show it"


def _measured(name: str, allowed: float, row: pd.Series, config: BenchmarkConfig) -> str:
    """What was measured against a limit of the SLO."""
    if name == "error_rate":
        failures, n = _failed(row)
        return f"{failures} of {n} requests{_of_part(row, name)} failed, at most {allowed:.1%} may"
    reached = row[f"{name}_p{config.slo.percentile:g}"]
    known = "unknown" if pd.isna(reached) else "infinite" if math.isinf(reached) else text.duration(reached)
    return f"p{config.slo.percentile:g} {LIMIT_WORDS[name]}{_of_part(row, name)} {known}, at most {allowed:g} s"


def _failed(row: pd.Series) -> tuple[int, int]:
    """How many of how many requests failed: of those that the error rate is judged by."""
    columns = ("part_failures", "part_n") if _part_of(row, "error_rate") else ("failures", "n")
    return tuple(int(row[column]) for column in columns)


def _part_of(row: pd.Series, name: str) -> str | None:
    """The part of a mix that a latency of a load point is that of; None where it is of all requests."""
    part = row.get(f"part_{name}")
    return None if pd.isna(part) else part


def _of_part(row: pd.Series, name: str) -> str:
    part = _part_of(row, name)
    return f" of its part {part}" if part else ""


def _not_in_file(limit: OpenLimit, row: pd.Series, config: BenchmarkConfig) -> str | None:
    """What imported files lack (failures, a latency, or the SLO's percentile of it), and what adds it; None otherwise."""
    percentile = f"{limit.limit}_p{config.slo.percentile:g}"
    if not config.imported or not pd.isna(row.get(percentile)):
        return None
    form = next(option.format for option in config.options if option.name == row["option"])
    if limit.limit == "error_rate":
        how = HOW_TO_ADD.get((form, limit.limit), SEE)
        return f"the file does not hold how many requests failed: {how}"
    words = LIMIT_WORDS[limit.limit]
    held = [name for name in row.index if name.startswith((f"{limit.limit}_p", f"{limit.limit}_mean"))]
    if row[held].isna().all():
        how = HOW_TO_ADD.get((form, limit.limit), SEE)
        return f"the file does not hold {words}: {how}"
    if int(row["failures"]) or limit.requests_lacking is not None:  # a printed percentile is of the answers alone
        return None
    how = PERCENTILES.get(form, "with every single latency, more could be shown")
    return f"the file does not hold p{config.slo.percentile:g} of {words}, and what it holds does not decide: {how}"


def prompts_that_ran_out(datasets: list[str]) -> str:
    """That the prompts of datasets ran out, and how to get more."""
    return (
        f"the prompts of {' and '.join(dict.fromkeys(datasets))} ran out: raise `count` there, with a source that has more, or "
        "set load.repeat_prompts: true"
    )


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
        mine = open_limits(row, config)
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
    return reasons[0] if winner is None or may_be_less(mixed, winner.cost) else None


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
    rate follows from that at any other. Latency does not fall as concurrency rises, so the throughput of a closed loop grows at
    most in proportion to it; where only its steadiness is in doubt, it costs what was measured.
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
        is_trusted = (priced["slo"] != CLIENT_LIMITED) & ~priced["steady"].eq(False) & (priced["level"] < level)
        least = float((low * priced["level"] / level)[is_trusted].max()) if is_trusted.any() else 0.0
    return Estimate(value=least, low=least, high=least)


def may_be_less(one: Estimate, other: Estimate) -> bool:
    """Might `one` be less than `other`: is their difference not shown to be positive with 95% confidence, one-sided?

    Distances to the bounds add as squares (Zou and Donner 2008), scaled from two-sided to one-sided.
    """
    if one.low is None or other.high is None:
        return True
    distance = ONE_SIDED * math.hypot(one.value - one.low, other.high - other.value)
    return one.value - other.value <= distance


# --- without a winner ---------------------------------------------------------------------------------------------


def nearest_to_slo(points: pd.DataFrame, config: BenchmarkConfig) -> tuple[str | None, str | None]:
    """The option that came nearest: whose worst ratio of percentile to limit, at its best load, is smallest; and how near.

    Where a percentile is unknown because it takes more requests, its lower bound counts.
    """
    points = points[(points["slo"] != CLIENT_LIMITED) & (points["failures"] < points["n"])]
    ratios = pd.DataFrame(
        {name: _at_least_s(points, name, config) / limit for name, limit in config.slo.limits_s().items()}
    ).dropna(how="all")
    if ratios.empty:
        return None, None
    worst = ratios.max(axis=1)
    keys = [points.loc[worst.index, name] for name in ("option", "dataset")]
    best = worst.groupby(keys).idxmin()
    worst_dataset = worst[best].groupby(points.loc[best, "option"]).idxmax()
    at = worst[worst_dataset].idxmin()
    return str(points.loc[at, "option"]), _how_near(points.loc[at], ratios.loc[at].astype(float).idxmax(), config)


def _at_least_s(points: pd.DataFrame, name: str, config: BenchmarkConfig) -> pd.Series:
    """The percentile of a latency at each load point in seconds, or else its lower bound."""
    column = f"{name}_p{config.slo.percentile:g}"
    return points[column].astype(float).fillna(points[f"{column}_low"].astype(float))


def _how_near(row: pd.Series, name: str, config: BenchmarkConfig) -> str:
    """The percentile against its limit and, where it is within it, why the SLO is still not shown to be met."""
    column, limit = f"{name}_p{config.slo.percentile:g}", config.slo.limits_s()[name]
    is_known = text.is_known(row[column])
    latency = text.duration(row[column]) if is_known else f"at least {text.duration(row[f'{column}_low'])}"
    beyond = not is_known or row[column] > limit
    return (
        f"p{config.slo.percentile:g} {LIMIT_WORDS[name]}{_of_part(row, name)} of {latency} against the limit of {limit:g} s, "
        f"{_failed_words(row)}, "
        f"on {row['dataset']} at {row['load']}{'' if beyond else f'; {not_met_because(row, config)}'}"
    )


def _failed_words(row: pd.Series) -> str:
    """How many requests failed; imported files may not give it."""
    if pd.isna(row["error_rate"]):
        return f"{row['n']} answers, and unknown failures"
    return f"{row['failures']} of {row['n']} requests failed"
