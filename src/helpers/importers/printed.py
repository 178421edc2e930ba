"""Latency statistics that a tool printed, under the names of `Group.reported`: `latency_s_p95`, `ttft_s_min` and so on."""

from __future__ import annotations

import re

from helpers.importers.files import Row, optional_number, section

PERCENT = re.compile(r"^p\d+(\.\d+)?$")
SAME = {"median": "p50", "min": "min", "max": "max"}


def in_blocks(row: Row, columns: dict[str, str], per_second: float) -> dict[str, float]:
    """From one object per metric (key -> column), whose keys are percentiles; `per_second` of its units make a second."""
    found = {}
    for metric, column in columns.items():
        block = section(row, metric)
        for key in block.values:
            name = key if PERCENT.match(key) else SAME.get(key)
            if name and (value := optional_number(block, key)) is not None:
                found[f"{column}_{name}"] = value / per_second
    return found


def in_keys(row: Row, pattern: re.Pattern[str], columns: dict[str, str], per_second: float) -> dict[str, float]:
    """From top-level keys that match `pattern`: its first group is the percentile, its second the metric."""
    found = {}
    for key in row.values:
        match = pattern.match(str(key))
        if match and (value := optional_number(row, key)) is not None:
            found[f"{columns[match[2]]}_{SAME.get(match[1], match[1])}"] = value / per_second
    return found
