"""Why a load point is not shown to meet the SLO: which limits are open or missed, by what was measured, and what it lacks."""

from __future__ import annotations

import math

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.imports import HOW_TO_ADD, PERCENTILES
from helpers.config.load import ROOM
from helpers.config.load_level import LoadLevel
from helpers.metrics.formulas import CLIENT_LIMITED, MISSED, UNDECIDED
from helpers.verdict.verdict import OpenLimit

SEE = "docs/import.md names the option of the tool that adds it"
TO_GO_ON = {"max_duration_s": "a longer load.max_duration_s", "prompts ran out": "a larger count of the dataset"}
"""Why a window ended (`AttemptFacts.ended_because`) -> what would have let it go on."""
LIMIT_WORDS = {"error_rate": "errors", "latency_s": "latency", "ttft_s": "TTFT", "ttfa_s": "TTFA", "tpot_s": "TPOT"}


def open_because(row: pd.Series, config: BenchmarkConfig) -> str:
    """Why a load point is open, as a phrase that follows its name."""
    if row["slo"] == CLIENT_LIMITED:
        return "the client, not the server, limited it"
    if row["load_kind"] == "ramp":
        return "a ramp cannot show whether the SLO is met"
    if row["overloaded"]:
        if row["load_kind"] in ("closed_loop", "users"):  # where nobody sends more than is answered
            return "latency rose throughout, to more than twice what it was: the server became slower while it was measured"
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
    missed = [name for name in allowed if row.get(f"slo_{name}") == MISSED]
    if "error_rate" in missed:  # which makes a percentile infinite
        missed = [name for name in missed if name == "error_rate" or _is_finite(row, name, config)]
    return " and ".join(_measured(name, allowed[name], row, config) for name in missed) or "it misses the SLO"


def _is_finite(row: pd.Series, name: str, config: BenchmarkConfig) -> bool:
    reached = row[f"{name}_p{config.slo.percentile:g}"]
    return not pd.isna(reached) and math.isfinite(reached)


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
    reached, beyond = row[f"{name}_p{config.slo.percentile:g}"], row.get(f"beyond_{name}")
    if pd.isna(reached) and row.get(f"slo_{name}") == MISSED and not pd.isna(beyond):
        of = f"{int(beyond)} of {int(row[f'{name}_n'])} requests{_of_part(row, name)}"
        return f"{of} were beyond the limit of {allowed:g} s for {LIMIT_WORDS[name]}"
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
