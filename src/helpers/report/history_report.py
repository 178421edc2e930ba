"""The runs of one config over time: the sentence, the figures and the tables of their page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.history import over_time
from helpers.report.charts.style import LATENCY_WORDS
from helpers.report.columns import Column, interval_words, numeric
from helpers.report.display import Figure, Table
from helpers.report.price_unit import unit_for
from helpers.verdict.chosen_points import main_latency, percentile_column
from helpers.verdict.compare import PRICE, REAL, Comparison, compared_columns
from helpers.verdict.verdict import Verdict

SHOWN = ("recommended", "tied", "feasible")
ALL = "all datasets, mixed as the traffic"
MOST_NAMED = 3


@dataclass(frozen=True)
class PastRun:
    """A finished run, and how it compares with the one before."""

    run_id: str
    started_at: datetime
    verdict: Verdict
    points: pd.DataFrame
    """Its load-point table."""
    comparison: Comparison | None = None
    """With the run before; None for the first, and where the two cannot be compared."""
    why_not_compared: str = ""


def history_summary(runs: Sequence[PastRun]) -> str:
    """What happened over all runs, in a paragraph of plain text."""
    last = runs[-1]
    if len(runs) == 1:
        return (
            f"There is one run, {last.run_id}: {_recommends(last.verdict)}. Nothing can be compared with it yet. Next: run the "
            "config again."
        )
    dates = sorted({f"{run.started_at:%Y-%m-%d}" for run in runs})
    said = f"In {len(runs)} runs {f'from {dates[0]} to {dates[-1]}' if dates[1:] else f'on {dates[0]}'} the recommendation "
    changes = [(old, new) for old, new in pairwise(runs) if old.verdict.recommended != new.verdict.recommended]
    if changes:
        old, new = changes[-1]
        times = "once, with" if len(changes) == 1 else f"{len(changes)} times, the last time with"
        said += f"changed {times} {new.run_id}: before, {_recommends(old.verdict)}; since, {_recommends(new.verdict)}."
    else:
        said += f"stayed the same: {_recommends(last.verdict)}."
    compared = [run.comparison for run in runs if run.comparison]
    real = sum(row.change == REAL for one in compared for row in one.rows)
    if compared:
        total = sum(len(one.rows) for one in compared)
        said += f" Between successive runs {real} of {text.plural(total, 'difference')} {'is' if real == 1 else 'are'} real."
    if last.comparison is None:
        return f"{said} The last run cannot be compared with the one before: {last.why_not_compared}."
    worse = [row.in_words() for row in last.comparison.rows if row.is_worse]
    if not worse:
        return f"{said} Nothing is shown to be worse in the last run than in the one before."
    more = f"; and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
    return f"{said} Worse in the last run than in the one before: {'; '.join(worse[:MOST_NAMED])}{more}."


def history_figures(runs: Sequence[PastRun], config: BenchmarkConfig, folder: Path) -> list[Figure]:
    """The price and the main latency of each option over time; without those of which nothing is known."""
    basis = runs[-1].verdict.cost_basis
    rows = pd.DataFrame([row for run in runs for row in _rows(run, basis, config)])
    config = _with_all_names(config.as_judged(), rows)
    unit = unit_for(basis, rows["price"].tolist())
    prices = rows.drop_duplicates(["run", "option"]).assign(
        dataset=ALL, has_changed=lambda each: each["price_changed"], **_scaled(rows, unit.scale)
    )
    metric = f"p{config.slo.percentile:g} {LATENCY_WORDS[main_latency(config)]}"
    latencies = rows.rename(columns={f"latency{end}": f"value{end}" for end in ("", "_low", "_high")})
    latencies["has_changed"] = rows["latency_changed"]
    of_all = config.model_copy(update={"datasets": [config.datasets[0].model_copy(update={"name": ALL})]})
    drawn = []
    if prices["value"].notna().any():
        title = f"What each option cost, where it is cheapest within the SLO, $ {unit.words}"
        drawn.append(over_time("price", prices, f"$ {unit.words}", "Price", of_all, folder, title))
    if latencies["value"].notna().any():
        title = f"How long requests took at that load: {metric}"
        drawn.append(over_time("latency", latencies, f"{metric}, s", metric, config, folder, title))
    return drawn


def _scaled(rows: pd.DataFrame, scale: float) -> dict[str, object]:
    return {f"value{end}": rows[f"price{end}"].astype(float) * scale for end in ("", "_low", "_high")}


def _with_all_names(config: BenchmarkConfig, rows: pd.DataFrame) -> BenchmarkConfig:
    """The config with an option and a dataset for each name in any run: figures take colours and panels from it."""
    update = {}
    for section, column in (("options", "option"), ("datasets", "dataset")):
        mine = list(getattr(config, section))
        others = [name for name in dict.fromkeys(rows[column]) if name not in [one.name for one in mine]]
        update[section] = [*mine, *(mine[0].model_copy(update={"name": name}) for name in others)]
    return config.model_copy(update=update)


def _rows(run: PastRun, basis: str, config: BenchmarkConfig) -> list[dict]:
    """One row per option and dataset, with the price of the option, if it has one by this basis, and its latency."""
    column = percentile_column(config)
    points = run.points.set_index(["option", "dataset", "load"])
    changed = {
        (row.option, row.dataset, row.metric == PRICE)
        for row in (run.comparison.rows if run.comparison else ())
        if row.change == REAL and row.metric in (PRICE, compared_columns(config)[column])
    }
    datasets = dict.fromkeys([*(d.name for d in config.judged_datasets), *points.index.get_level_values("dataset")])
    rows = []
    for option in run.verdict.options:
        has_price = option.cost is not None and run.verdict.cost_basis == basis
        price = option.cost.model_dump() if has_price else {}
        for dataset in datasets:
            load = next((point.load for point in option.points if point.dataset == dataset), None)
            here = points.loc[[key]].iloc[0] if (key := (option.option, dataset, load)) in points.index else {}
            rows.append(
                {
                    "run": run.run_id,
                    "at": run.started_at,
                    "option": option.option,
                    "dataset": dataset,
                    "is_shown": option.status in SHOWN,
                }
                | {f"price{end}": price.get(name) for end, name in (("", "value"), ("_low", "low"), ("_high", "high"))}
                | {f"latency{end}": here.get(f"{column}{end}") for end in ("", "_low", "_high")}
                | {"price_changed": any(key[0] == option.option and key[2] for key in changed)}
                | {"latency_changed": (option.option, dataset, False) in changed}
            )
    return rows


# --- tables -------------------------------------------------------------------------------------------------------


def verdicts_table(runs: Sequence[PastRun], config: BenchmarkConfig) -> Table:
    """One row per run, the newest first."""
    rows = []
    for run in reversed(runs):
        winner = run.verdict.option(run.verdict.recommended) if run.verdict.recommended else None
        unit = unit_for(run.verdict.cost_basis, [winner.cost.value] if winner else [])
        cost = winner and {end: value and value * unit.scale for end, value in winner.cost}
        real = None if run.comparison is None else sum(row.change == REAL for row in run.comparison.rows)
        rows.append(
            {
                "run": run.run_id,
                "started": f"{run.started_at:%Y-%m-%d %H:%M}",
                "verdict": _recommends(run.verdict),
                "cost": f"{text.dollars(cost['value'])} {unit.words}" if cost else "–",
                "interval": text.Interval(cost["low"], cost["high"], text.decimals_for([cost["value"]]))
                if cost
                else text.NO_INTERVAL,
                "usd_per_month": winner.capacity.usd_per_month if winner and winner.capacity else None,
                "changed": "–" if real is None else f"{real} of {len(run.comparison.rows)}",
                "why": run.why_not_compared or None,
            }
        )
    columns = [
        Column("run", "run"),
        Column("started", "started, UTC"),
        Column("verdict", "verdict", wraps=True),
        Column("cost", "price of the recommended"),
        Column("interval", f"{interval_words(config)}, $"),
        "usd_per_month",
        Column("changed", "real differences"),
    ]
    if any(run.why_not_compared for run in runs):
        columns.append(Column("why", "why not compared", wraps=True))
    return Table(
        pd.DataFrame(rows), columns, "Every run, the newest first, with its real differences from the run before."
    )


def changes_table(runs: Sequence[PastRun], config: BenchmarkConfig) -> Table | None:
    """Each real difference between successive runs, the newest first; None where there is none."""
    rows = [
        row.model_dump()
        | {"run": run.run_id, "interval": text.Interval(row.ratio_low, row.ratio_high, 3)}
        | {"direction": "worse" if row.is_worse else "better"}
        for run in reversed(runs)
        for row in (run.comparison.rows if run.comparison else ())
        if row.change == REAL
    ]
    if not rows:
        return None
    columns = [
        Column("run", "run"),
        "option",
        "dataset",
        "load",
        "metric",
        Column("direction", "is"),
        Column("baseline", "before", lambda value, _: text.significant(value)),
        Column("now", "now", lambda value, _: text.significant(value)),
        numeric("ratio", "now ÷ before", decimals=3),
        Column("interval", f"{interval_words(config)} of the ratio"),
    ]
    caption = (
        "Differences from the run before that are real: the interval of the ratio, widened for as many comparisons as the two "
        "runs have (Bonferroni), does not hold 1. Of twenty pairs of runs in which nothing changed, about one shows a "
        "difference. The cause need not be the option: another instance of the type, or a busier machine, is real too."
    )
    return Table(pd.DataFrame(rows), columns, caption)


def _recommends(verdict: Verdict) -> str:
    if verdict.recommended is None:
        return "no option is recommended"
    tied = f", tied with {', '.join(f'“{name}”' for name in verdict.tied)}" if verdict.tied else ""
    return f"“{verdict.recommended}” is recommended{tied}"
