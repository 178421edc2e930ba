"""Answers that are scored: which prompts are asked, and the files that hold what came back.

They come from a pass of their own after the load, one file for each option, and are in no measurement. A file is there once its
pass has ended; before, its rows are in a journal beside it (`run.journal`). Columns: `dataset`, `prompt_id`, `status`,
`http_status`, `error_type`, `error`, `answer` (without the thinking; null for a failure), `finish_reason`, `prompt_tokens`,
`output_tokens`, `cached_tokens`, `done_ns`, and `wall_ns`, the time of day.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.config.strict import slug
from helpers.metrics.scorers import can_score
from helpers.run.folder import RunFolder

FOLDER = "quality"
KEY = ["dataset", "prompt_id"]
CUT = ("length", "max_tokens", "max_new_tokens")
"""Finish reasons of answers that did not end by themselves."""
SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in ("dataset", "prompt_id", "status", "error_type", "error", "answer", "finish_reason")
    ]
    + [
        (name, pa.int64())
        for name in ("http_status", "prompt_tokens", "output_tokens", "cached_tokens", "done_ns", "wall_ns")
    ]
)


def answers_file(option: str, run: RunFolder) -> Path:
    """Where the answers of an option are, once its pass has ended."""
    return run.path / FOLDER / f"{slug(option)}.parquet"


def count_answers(option: str, run: RunFolder, since_ns: float = 0) -> tuple[int, int]:
    """Requests of an option's pass, and how many of them were answered; 0 without one. Later ones than a time of day alone, if
    it is given.
    """
    path = answers_file(option, run)
    if not path.is_file():
        return 0, 0
    rows = pd.read_parquet(path)
    if since_ns:
        rows = rows[rows.get("wall_ns", pd.Series(0, rows.index)) >= since_ns]
    return len(rows), int((rows["status"] == "ok").sum())


def samples_of(config: BenchmarkConfig) -> dict[str, int]:
    """Dataset -> how many of its prompts are asked: `quality.samples` in the shares of the traffic, by the largest remainder."""
    exact = {name: share * config.quality.samples for name, share in config.traffic_mix().items()}
    counts = {name: math.floor(wanted + 1e-9) for name, wanted in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: config.quality.samples - sum(counts.values())]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def read_answers(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> pd.DataFrame | None:
    """The answers of an option with `text` and `references` of their prompts; None before its pass."""
    path = answers_file(option.name, run)
    if config.quality is None or not path.is_file():
        return None
    chosen = [table.to_pandas() for table in prompts_to_score(option, config, run).values()]
    prompts = pd.concat(chosen, ignore_index=True)[[*KEY, "text", "references"]]
    return prompts.merge(pd.read_parquet(path), on=KEY)


def with_reference(prompts: pa.Table, config: BenchmarkConfig) -> pa.Table:
    """The prompts with a reference that the scorer can compare, in their order."""
    references = prompts["references"].to_pylist() if "references" in prompts.column_names else [[]] * len(prompts)
    return prompts.filter(pa.array([any(can_score(one, config.quality.scorer) for one in each) for each in references]))


def prompts_to_score(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> dict[str, pa.Table]:
    """Dataset -> the prompts that an option is asked: the same of all options that run the dataset."""
    runs, counts = {dataset.name for dataset in config.datasets_of(option)}, samples_of(config)
    tables = {name: pq.read_table(run.payloads / f"{slug(name)}.parquet") for name in counts if name in runs}
    return {name: with_reference(table, config).slice(0, counts[name]) for name, table in tables.items()}
