"""Summaries of `vllm bench sweep serve`: `summary.json` (the runs of one combination) or `summary.csv` (all of them).

Each entry is a result of `vllm bench serve` plus the parameters of its combination and its `run_number`; runs of one
combination are repetitions. In `summary.csv` lists are text, so results of `--save-detailed` must be read from
`summary.json`.
"""

from __future__ import annotations

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import ImportedOption
from helpers.importers import vllm
from helpers.importers.files import OpenedFile, read_objects, read_table, selected
from helpers.importers.found import Found
from helpers.importers.rows import Row

TOOL = "a summary of vllm bench sweep"
MARKS = ("run_number", "duration", "completed", "request_rate")


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point per run of a combination; `select` chooses among combinations."""
    is_table = file.path.suffix == ".csv"
    rows = read_table(file, MARKS, TOOL) if is_table else read_objects(file, TOOL, listed=True)
    for row in rows:
        row.require(MARKS, TOOL)
    rows = selected(rows, option, file)
    return vllm.found_in([_without_empty(row) for row in rows] if is_table else rows, file)


def _without_empty(row: Row) -> Row:
    """A table row without empty cells and without lists, which only JSON preserves."""
    for key in ("start_times", "itls"):
        if row.values.get(key):
            row.refuse(key, "a sweep without --save-detailed, or its summary.json files")
    return Row(row.where, {key: value for key, value in row.values.items() if value not in ("", None)})
