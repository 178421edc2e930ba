"""How a load is worded, and which load is the best for each dataset and option."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ClosedLoop, Load, OpenLoop, Search, TraceReplay
from helpers.config.load_level import KIND_WORDS, OPEN_LOOPS
from helpers.metrics.formulas import CLIENT_LIMITED, MET, MISSED, UNDECIDED
from helpers.report.columns import Column
from helpers.report.display import Table
from helpers.report.price_unit import PriceUnit, price_unit
from helpers.report.table_readings import loads_reading
from helpers.verdict.chosen_points import cheapest_within_slo, main_latency, percentile_column
from helpers.verdict.open_words import not_met_because
from helpers.verdict.verdict import Verdict

LATENCY_NAME = {"latency_s": "latency", "ttft_s": "TTFT", "ttfa_s": "TTFA", "tpot_s": "TPOT"}
SLO_WORDS = {MET: "met", MISSED: "missed", UNDECIDED: "undecided", CLIENT_LIMITED: "not judged (client-limited)"}


def load_words(load: Load) -> str:
    """The load as a phrase that says under what something was measured."""
    if isinstance(load, Search):
        noun = KIND_WORDS[load.level_kind].noun
        unit = noun if load.over == "concurrency" else f"{noun} of {_arrivals(load)}arrivals"
        return (
            f"in search of the highest {unit} from {load.lowest:g} to {load.highest:g}"
            f"{'' if load.over == 'concurrency' else ' requests/s'} that meets the SLO, to within {load.tolerance:.0%}"
        )
    levels = ", ".join(f"{level.value:g}" for level in load.levels())
    if load.level_kind == "users":
        return f"to {levels} users in conversations"
    if isinstance(load, ClosedLoop):
        return f"at concurrency {levels}"
    if isinstance(load, OpenLoop):
        unit = "sessions/s of conversations" if load.level_kind == "sessions" else "requests/s"
        return f"at {levels} {unit} with {_arrivals(load)}arrivals"
    if isinstance(load, TraceReplay):
        return f"under the recorded arrivals of “{Path(load.path).name}” at {levels} times their speed"
    return f"on a ramp from {load.from_rate:g} to {load.to_rate:g} requests/s within {load.duration_s:g} s"


def _arrivals(load: OpenLoop | Search) -> str:
    if load.arrivals == "gamma":
        return f"gamma (burstiness {load.burstiness:g}) "
    return {"constant": "evenly spaced ", "poisson": "Poisson "}[load.arrivals]


def as_measured(load: Load) -> str:
    """What the traffic was like that capacity was measured with."""
    arrivals = _arrivals(load) if load.level_kind in OPEN_LOOPS else ""
    return f"as measured {KIND_WORDS[load.level_kind].measured.format(arrivals=arrivals)}"


def level_column(config: BenchmarkConfig) -> Column:
    """The level of the load, whole or not."""
    return Column("level", config.load.level_name, lambda level, _: f"{level:,.10g}")


def recommendations(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Table:
    """One sentence per dataset and option: the cheapest load within the SLO, or why there is none; for a search also the
    highest one.
    """
    searched, unit = isinstance(config.load, Search), price_unit(verdict)
    rows, loads = [], {}
    for dataset in config.judged_datasets:
        for option in config.options:
            if dataset not in config.datasets_of(option):
                continue
            here = points[(points["option"] == option.name) & (points["dataset"] == dataset.name)]
            row = {"dataset": dataset.name, "option": option.name, "instance_type": option.instance_type}
            has_left = verdict.option(option.name).status == "eliminated"
            row["recommendation"] = _recommendation(here, unit, config, has_left)
            row["highest"] = _highest_found(here, config) if searched else ""
            best = cheapest_within_slo(here, unit.column, config)
            loads[dataset.name, option.name] = None if best is None else best["load"]
            rows.append(row)
    columns = [
        "dataset",
        "option",
        "instance_type",
        *(["highest"] if searched else []),
        "recommendation",
    ]
    caption = "For each dataset and option, the cheapest load that is shown to meet the SLO, or why there is none."
    if searched:
        caption += (
            " Beside it: the highest load that is shown to meet the SLO, and what is known of the next one above it."
        )
    return Table(rows, columns, caption, loads_reading(loads))


def _recommendation(here: pd.DataFrame, unit: PriceUnit, config: BenchmarkConfig, has_left: bool) -> str:
    """The sentence; the load is the one that the verdict stands on (`cheapest_within_slo`). Of an option that has left the race
    what is lacking to show the SLO is not said: it would change nothing.
    """
    column, percentile = percentile_column(config), f"p{config.slo.percentile:g}"
    if here.empty:
        return "Not measured."
    if (here["failures"] == here["n"]).all():
        failure = here["commonest_failure"].dropna()
        return "No request was answered" + (f": {failure.iloc[0]}" if len(failure) else ".")
    judged = here[here["slo"] != CLIENT_LIMITED]
    if judged.empty:
        return "Not judged: the client, not the server, limited every load."
    best = cheapest_within_slo(here, unit.column, config)
    if best is None:
        known = judged.dropna(subset=[column])
        if known.empty:
            lowest = judged.loc[judged["level"].idxmin()]
            return f"No load is shown to meet the SLO; at {lowest['load']}, {not_met_because(lowest, config)}."
        best = known.loc[known[column].astype(float).idxmin()]
        reached, because = _reached(best, config), not_met_because(best, config)
        if has_left:
            return (
                f"It left the race before a load was shown to meet the SLO; the nearest is {best['load']}: {reached}."
            )
        said = because if reached in because else f"{reached}, but {because}"
        return f"No load is shown to meet the SLO; the nearest is {best['load']}: {said}."
    price = best[unit.column]
    price = "" if pd.isna(price) else f", {text.dollars(price * unit.scale)} {unit.words}"
    name = LATENCY_NAME[main_latency(config)]
    reached = _reached(best, config)
    if pd.isna(best[column]):
        mean = text.duration(best[f"{main_latency(config)}_mean_ok"])
        reached = f"mean {name} {mean} ({percentile} is not in the file)"
    return (
        f"{best['load'][0].upper()}{best['load'][1:]}: {reached} and {text.number(best['requests_per_s'] * 60)} requests/min "
        f"for a mean of {text.number(best['prompt_tokens_mean'])} prompt and {text.number(best['output_tokens_mean'])} "
        f"output tokens{price}."
    )


def _reached(row: pd.Series, config: BenchmarkConfig) -> str:
    """The percentile at a load point, and the part of a mix that it is of."""
    name, part = main_latency(config), row.get(f"part_{main_latency(config)}")
    words = f"{LATENCY_NAME[name]}{'' if pd.isna(part) else f' of its part {part}'}"
    return f"p{config.slo.percentile:g} {words} {text.duration(row[percentile_column(config)])}"


def _highest_found(here: pd.DataFrame, config: BenchmarkConfig) -> str:
    """What a search found: the highest load that is shown to meet the SLO, or else seems to, and the next one above it."""
    if here.empty:
        return "not measured"
    here = here.sort_values("level")
    met = here[here["slo"] == MET]
    unsure = f"not shown with {text.percent(config.slo.confidence)} confidence"
    if met.empty:
        within = here[here["estimates_within_slo"].eq(True) & ~here["slo"].isin([MISSED, CLIENT_LIMITED])]
        if within.empty:
            return f"none: {here.iloc[0]['load']}, the lowest tried, {_beyond(here.iloc[0], unsure)}"
        found = within.iloc[-1]
        said = f"{found['load']} by its estimates, {unsure}"
    else:
        found = met.iloc[-1]
        said = str(found["load"])
        below = here[(here["slo"] == MISSED) & (here["level"] < found["level"])]
        said += f", although {below.iloc[-1]['load']} misses it" if len(below) else ""
    above = here[here["level"] > found["level"]]
    if above.empty:
        is_highest = found["level"] >= config.load.highest
        return said + (", the highest allowed" if is_highest else "; no higher load was measured")
    following = above.iloc[0]
    said += f"; {following['load']} {_beyond(following, unsure)}"
    is_whole = config.load.over == "concurrency" and following["level"] - found["level"] <= 1
    is_next = is_whole or following["level"] <= found["level"] * (1 + config.load.tolerance) * (1 + 1e-9)
    return said if is_next else f"{said}, and nothing between them was measured"


def _beyond(row: pd.Series, unsure: str) -> str:
    """What is known of a load that is not shown to meet the SLO."""
    if row["slo"] == MISSED:
        return "misses the SLO"
    if row["client_limited"]:
        return "was limited by the client"
    if row["steady"] is not None and row["steady"] == False:  # noqa: E712
        return "had no steady state"
    return f"is {'within' if row['estimates_within_slo'] else 'beyond'} the SLO by its estimates, {unsure}"
