"""Latency statistics that a tool printed, under the names of `Group.reported`: `latency_s_p95`, `ttft_s_min` and so on."""

from __future__ import annotations

import re
from collections.abc import Callable

from helpers.importers.rows import Row

PERCENT = re.compile(r"^p\d+(\.\d+)?$")
SAME = {"median": "p50", "min": "min", "max": "max"}


def in_blocks(
    row: Row, columns: dict[str, str], seconds: Callable[[Row, str], float | None] = Row.optional_number
) -> dict[str, float]:
    """From one object per metric (key -> column), whose keys are percentiles; `seconds` reads the value of a key."""
    found = {}
    for metric, column in columns.items():
        block = row.section(metric)
        for key in block.values:
            name = key if PERCENT.match(key) else SAME.get(key)
            if name and (value := seconds(block, key)) is not None:
                found[f"{column}_{name}"] = value
    return found


def in_keys(row: Row, pattern: re.Pattern[str], columns: dict[str, str], per_second: float) -> dict[str, float]:
    """From top-level keys that match `pattern`, with the percentile as `name` and the `metric`; `per_second` of its units make a
    second.
    """
    found = {}
    for key in row.values:
        match = pattern.match(str(key))
        if match and (value := row.optional_number(key)) is not None:
            found[f"{columns[match['metric']]}_{SAME.get(match['name'], match['name'])}"] = value / per_second
    return found
