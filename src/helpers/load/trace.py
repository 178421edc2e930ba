"""The times of a recorded trace: found in its file, read as numbers or dates, in a unit that is stated or certain."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from helpers.config.load import UNITS_S, TraceReplay
from helpers.errors import ConfigError, PromptError, cut, shown
from helpers.prompts.source_files import read_values

USUAL_COLUMNS = (
    "timestamp",
    "arrival_time",
    "arrived_at",
    "arrival",
    "time",
    "ts",
    "start_time",
    "request_time",
    "created_at",
)
USUAL_COLUMNS += ("datetime", "date")
"""Looked for in this order where the config names no column; upper and lower case are one."""
LIKELY_SECONDS = 10.0
"""A median gap below this, in numbers with fractions, is one in seconds: in milliseconds it would be over 100 requests/s."""
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EPOCHS = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}
"""Unit -> 2001-09-09 as a time since 1970; four times that is 2096."""
_MARKS = {
    "hash_ids": ("ms", "its records are those of Mooncake"),
    "request tokens": ("s", "its columns are those of BurstGPT"),
}


@dataclass(frozen=True)
class Trace:
    """When the requests of a trace arrived."""

    seconds: np.ndarray
    """Since the first, ascending."""
    read_as: str
    """How its times were read, for people."""

    @property
    def words(self) -> str:
        """How many requests it has, for how long, and how its times were read."""
        length_s = float(self.seconds[-1])
        rate = f", {len(self.seconds) / length_s:.3g} a second" if length_s else ""
        return f"{len(self.seconds):,} requests in {length_s:,.6g} s{rate}; times read as {self.read_as}"


def read_trace(load: TraceReplay, base_dir: Path) -> Trace:
    """The trace that a load replays, at its own speed. Raises ConfigError where it cannot be read."""
    try:
        records = [
            (where, value if isinstance(value, dict) else {load.timestamp: value})
            for where, value in read_values(load.path, base_dir, hub=False, key="load.path")
        ]
    except PromptError as error:
        raise ConfigError(f"load.path {load.path!r}: cannot be read: {error}") from None
    if len(records) < 2:
        raise ConfigError(
            f"load.path {load.path!r}: {len(records)} times. Expected two or more. Next: give a longer trace"
        )
    first = records[0][1]
    column = _column(load, first)
    times = [_time_in(record, column, where, number, load) for number, (where, record) in enumerate(records, 1)]
    values, dates = np.sort([time for time, _ in times]), sum(is_date for _, is_date in times)
    if dates not in (0, len(times)):
        raise ConfigError(
            f"load.path {load.path!r}: {dates} of {len(times)} times are dates, the others numbers. Expected one kind. "
            "Next: correct the file"
        )
    unit, read_as = ("s", "dates") if dates else _unit(load, values, column, first)
    if dates and load.unit is not None:
        raise ConfigError(
            f"load.unit: bad value {load.unit!r}: the times of {load.path!r} are dates, which have no unit. Next: delete "
            "load.unit"
        )
    return Trace((values - values[0]) * UNITS_S[unit], read_as)


def _column(load: TraceReplay, record: dict[str, Any]) -> str:
    """The column of times: as named, in any case; without a name a usual one, also followed by a unit."""
    there = {str(name).strip().lower(): name for name in record if name is not None}
    named = "timestamp" in load.model_fields_set
    for name in (load.timestamp,) if named else USUAL_COLUMNS:
        for ending in ("",) if named else ("", *(f"_{unit}" for unit in UNITS_S)):
            if (found := there.get(f"{name.lower()}{ending}")) is not None:
                return found
    return load.timestamp


def _time_in(record: dict[str, Any], column: str, where: str, number: int, load: TraceReplay) -> tuple[float, bool]:
    """The time of a record, and whether it is a date."""
    fault = f"load.path {load.path!r}: record {number} ({where})"
    if column not in record:
        raise ConfigError(
            f"{fault} has no column {column!r}. Expected load.timestamp to be one of: "
            f"{cut(', '.join(map(str, record)), 400)}. Next: set load.timestamp"
        )
    time = _time(record[column])
    if time is None or not np.isfinite(time[0]):
        raise ConfigError(
            f"{fault}: bad value {shown(record[column])} in {column!r}. Expected a number, or a date such as "
            "2023-11-16T18:15:46.68Z. Next: correct the file, or set load.timestamp to the column of times"
        )
    return time


def _time(value: object) -> tuple[float, bool] | None:
    """(number, False) or (seconds since 1970, True) of a date; None for anything else. A date without a zone is UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | datetime):
        return None
    with suppress(ValueError, OverflowError, TypeError):
        return float(value), False
    with suppress(ValueError, OverflowError):
        date = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp(), True
    return None


def _unit(load: TraceReplay, values: np.ndarray, column: str, record: dict[str, Any]) -> tuple[str, str]:
    """The unit of numbers, and why; ConfigError where it is neither stated nor certain."""
    if load.unit is not None:
        return load.unit, f"{UNIT_NAMES[load.unit]} (load.unit)"
    for unit, since_1970 in _EPOCHS.items():
        if since_1970 <= values[0] and values[-1] < 4 * since_1970:
            return unit, f"{UNIT_NAMES[unit]} since 1970, by their size"
        if column.lower().endswith(f"_{unit}"):
            return unit, f"{UNIT_NAMES[unit]}, as {column!r} says"
    for name in record:
        if str(name).lower() in _MARKS:
            unit, why = _MARKS[str(name).lower()]
            return unit, f"{UNIT_NAMES[unit]}: {why}"
    if (values % 1).any() and np.median(np.diff(values)) < LIKELY_SECONDS:
        return "s", "seconds: numbers with fractions, a few seconds apart at most"
    length = max(float(values[-1] - values[0]), 1e-9)
    as_s = len(values) / length
    raise ConfigError(
        f"load.unit: the times of {load.path!r} ({values[0]:,.12g} to {values[-1]:,.12g} in {column!r}) may be seconds or "
        f"milliseconds: {as_s:.3g} requests a second, or {1000 * as_s:.3g}. Expected load.unit, one of: {', '.join(UNITS_S)}. "
        "Next: write `unit: s` or `unit: ms`"
    )
