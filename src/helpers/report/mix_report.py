"""What the parts of a mix do to each other: each alone and beside the others."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.parts import SHOWN, read_parts
from helpers.report.columns import Column, interval_column, numeric
from helpers.report.comparing import listed, quoted
from helpers.report.display import Table
from helpers.report.load_report import LATENCY_NAME
from helpers.run.folder import RunFolder
from helpers.run.records import read_facts
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.compare import ratio_interval
from helpers.verdict.verdict import Verdict

BOUNDS = ("", "_low", "_high")


def mix_table(run: RunFolder, verdict: Verdict, config: BenchmarkConfig) -> Table | None:
    """TTFT and latency of each part of the mix, beside the others and alone; None without a mix, or where none was measured."""
    if config.load.mix is None or (parts := read_parts(run.requests, read_facts(run.requests), config)).empty:
        return None
    rows = with_intervals(parts, config).assign(
        how=["alone" if is_alone else "in the mix" for is_alone in parts["is_alone"]],
    )
    columns = [
        "option",
        "load",
        Column("part", "dataset"),
        Column("how", "sent"),
        *part_columns("% of the mix", config),
    ]
    asked = listed(f"{text.percent(share, 1)} {name}" for name, share in config.shares_of_parts().items())
    caption = f"Each part of the mix beside the others (asked: {asked}), n of them in the steady window."
    if config.load.mix.alone:
        caption += (
            " Alone: for comparison, under the same load, all of it from that dataset; the verdict does not go by it."
        )
    return Table(rows, columns, caption, parts_reading(parts, verdict, config))


def with_intervals(parts: pd.DataFrame, config: BenchmarkConfig) -> pd.DataFrame:
    """The rows of `read_parts` as they are shown: shares in percent, and the bounds of each interval in one."""
    percent = f"p{config.slo.percentile:g}"
    intervals = {
        f"{name}_interval": [
            text.Interval(*bounds, 3)
            for bounds in zip(*(parts[f"{name}_{percent}{bound}"] for bound in BOUNDS[1:]), strict=True)
        ]
        for name in SHOWN
    }
    return parts.assign(share=100 * parts["share"].astype(float), **intervals)


def part_columns(share: str, config: BenchmarkConfig) -> list[Column | str]:
    """The columns of the measurements of a part; `share` is the header of its share."""
    percent = f"p{config.slo.percentile:g}"
    columns: list[Column | str] = ["n", numeric("share", share, decimals=1)]
    for name, words in zip(SHOWN, ("TTFT", "latency"), strict=True):
        columns += [numeric(f"{name}_p50", f"{words} p50, s", decimals=3)]
        columns += [numeric(f"{name}_{percent}", f"{words} {percent}, s", decimals=3)]
        columns += [interval_column(f"{name}_interval", config)]
    return columns


def parts_reading(parts: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> str:
    """What the others do to the dataset with the shortest prompts, at the highest load of the option that the report is about."""
    column, percent = main_latency(config), f"p{config.slo.percentile:g}"
    name = verdict.recommended or verdict.best_estimate or verdict.nearest or parts["option"].iloc[0]
    shortest = min(config.datasets, key=lambda dataset: dataset.prompt_tokens).name
    mine = parts[(parts["option"] == name) & (parts["part"] == shortest)]
    both = mine[mine["is_alone"]].merge(mine[~mine["is_alone"]], on="load", suffixes=("_alone", ""))
    if both.empty:
        return ""
    row = both.loc[both["level"].idxmax()]
    key = f"{column}_{percent}"
    beside = listed(dataset.name for dataset in config.datasets if dataset.name != shortest)
    said = f"Of {quoted(name)} at {row['load']}, the {percent} {LATENCY_NAME[column]} of {shortest} is"
    alone, mixed = row[f"{key}_alone"], row[key]
    if not all(text.is_known(value) and 0 < value < float("inf") for value in (alone, mixed)):
        return f"{said} not known both alone and beside {beside}, so what they do to it is not shown."
    ratio = {f"{key}{bound}": row[f"{key}{bound}"] for bound in BOUNDS}
    ratio |= {f"{key}{bound}_before": row[f"{key}{bound}_alone"] for bound in BOUNDS}
    low, high = ratio_interval(ratio, key)
    said += f" {text.duration(alone)} alone and {text.duration(mixed)} beside {beside}: "
    if low is None:
        return f"{said}that it differs is not shown, as an interval of one of them is unknown."
    times = f"{text.significant(mixed / alone, 2)} times"
    interval = f"95% interval {text.significant(low, 2)} to {text.significant(high, 2)}"
    if low <= 1 <= high:
        return f"{said}{times} as long, which may be chance ({interval}), so that they change it is not shown."
    return f"{said}{times} as long ({interval})."
