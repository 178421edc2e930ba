"""The parts of a mix beside what each of them is alone, and the bins of conversations, from the request records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import OPEN_LOOPS
from helpers.config.mix import MIXED
from helpers.metrics.load_point_latencies import LoadPointLatencies
from helpers.metrics.summary import read_load_points
from helpers.run.records import PART, AttemptFacts

SHOWN = ("ttft_s", "latency_s")


def read_parts(requests_dir: Path, facts: list[AttemptFacts], config: BenchmarkConfig) -> pd.DataFrame:
    """One row for each part of each load point of a mix, and for each load point of a dataset alone; options and loads in order.
    Of conversations, for each bin of each load point of a dataset with bins.

    Columns: option, dataset, load, level, part (of a mix the dataset), is_alone, n (of the steady window), share (of the window's
    requests; None alone), and those of `percentile_columns` of ttft_s and latency_s.
    """
    rows = []
    for point in read_load_points(requests_dir, facts, config):
        first, steady = point.facts[0], point.steady
        is_alone = config.load.mix is not None and first.dataset != MIXED
        parts = [(first.dataset, steady)] if is_alone else steady.groupby(PART, observed=False)
        for name, mine in parts:
            latencies = LoadPointLatencies(mine, is_open=first.load_kind in OPEN_LOOPS)
            row = {"option": first.option, "dataset": first.dataset, "load": first.load.label, "level": first.level}
            row |= {
                "part": name,
                "is_alone": is_alone,
                "n": len(mine),
                "share": None if is_alone else len(mine) / len(steady),
            }
            for column in SHOWN:
                row |= latencies.percentiles(column, config.slo.percentile)
            rows.append(row)
    place = {name: i for i, name in enumerate([o.name for o in config.options] + [d.name for d in config.datasets])}
    if config.load.mix is not None:  # bins are in order
        rows.sort(key=lambda row: (place[row["option"]], row["level"], place[row["part"]], not row["is_alone"]))
    return pd.DataFrame(rows)
