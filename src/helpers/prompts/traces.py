"""When the requests of a recorded trace came.

A file is read record by record, twice: once for the times, 8 bytes each, and once for the requests that are replayed
(`trace_requests`), so that memory grows with these and not with the file.
"""

from __future__ import annotations

import math
from array import array
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from helpers.config.load import UNITS_S, TraceReplay
from helpers.errors import ConfigError, cut, shown
from helpers.prompts.trace_records import (
    CAPTURED,
    INPUT_TOKENS,
    TEXTS,
    TraceFormat,
    format_of,
    in_lower_case,
    records_of,
)

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


@dataclass(frozen=True)
class Trace:
    """When the requests of a trace arrived that are to be replayed, and what else it knows of them."""

    seconds: np.ndarray
    """Since the first of them, ascending."""
    read_as: str
    """How its times were read, for people."""
    format: TraceFormat
    has_lengths: bool
    """Does the file know more than times."""
    brings_prompts: bool
    """Are lengths and texts replayed too; False: the times alone."""
    in_file: int
    """Requests in the file."""
    column: str
    """Of the times."""
    unit_s: float
    kept: np.ndarray
    """The same times as the file gives them."""

    @property
    def is_to_the_second(self) -> bool:
        """True if all times are whole seconds apart, so that the requests of a second come at once."""
        return bool(len(self.seconds) > 2 and not (np.round(self.seconds, 6) % 1).any())

    @property
    def words(self) -> str:
        """How many requests it has, for how long, and how its times were read."""
        length_s = float(self.seconds[-1])
        rate = f", {len(self.seconds) / length_s:.3g} a second" if length_s else ""
        of = f" of the {self.in_file:,} in the file" if len(self.seconds) < self.in_file else ""
        at_once = "; they are whole seconds: the requests of a second are sent at once" if self.is_to_the_second else ""
        lengths = (
            "; its lengths are not replayed (load.lengths)" if self.has_lengths and not self.brings_prompts else ""
        )
        return (
            f"{len(self.seconds):,} requests{of} in {length_s:,.6g} s{rate}; format: {self.format.name}; times read as "
            f"{self.read_as}{at_once}{lengths}"
        )


def read_trace(load: TraceReplay, base_dir: Path) -> Trace:
    """The times of the trace that a load replays, at its own speed. Raises ConfigError where it cannot be read."""
    times, dates = array("d"), 0
    first: dict[str, Any] = {}
    column = ""
    for number, (where, record) in enumerate(records_of(load, base_dir), 1):
        if number == 1:
            first, column = record, _column(load, record)
        time, is_date = time_in(record, column, where, number, load)
        times.append(time)
        dates += is_date
    if len(times) < 2:
        raise ConfigError(
            f"load.path {load.path!r}: {len(times)} times. Expected two or more. Next: give a longer trace"
        )
    if dates not in (0, len(times)):
        raise ConfigError(
            f"load.path {load.path!r}: {dates} of {len(times)} times are dates, the others numbers. Expected one kind. "
            "Next: correct the file"
        )
    values, form = np.sort(np.frombuffer(times)), format_of(first)
    unit, read_as = ("s", "dates") if dates else _unit(load, values, column, form)
    if dates and load.unit is not None:
        raise ConfigError(
            f"load.unit: bad value {load.unit!r}: the times of {load.path!r} are dates, which have no unit. Next: delete "
            "load.unit"
        )
    has_lengths = form is CAPTURED or any(name in in_lower_case(first) for name in (*INPUT_TOKENS, *TEXTS))
    if load.lengths == "trace" and not has_lengths:
        raise ConfigError(
            f"load.lengths: bad value 'trace': {load.path!r} has the columns {cut(', '.join(map(str, first)), 400)}. Expected a "
            f"length of the prompt, one of: {', '.join(INPUT_TOKENS)}; or its text, one of: {', '.join(TEXTS)}. Next: write "
            "`lengths: prompts`, or name the columns so"
        )
    kept = _kept(load, values, UNITS_S[unit])
    return Trace(
        seconds=(kept - kept[0]) * UNITS_S[unit],
        read_as=read_as,
        format=form,
        has_lengths=has_lengths,
        brings_prompts=has_lengths and load.lengths != "prompts",
        in_file=len(values),
        column=column,
        unit_s=UNITS_S[unit],
        kept=kept,
    )


def _kept(load: TraceReplay, values: np.ndarray, unit_s: float) -> np.ndarray:
    """The times that are replayed, of all, which are sorted."""
    since_first = (values - values[0]) * unit_s
    start, end = load.window or (0.0, np.inf)
    kept = values[(since_first >= start) & (since_first < end)][: load.max_requests]
    if not len(kept):
        raise ConfigError(
            f"load.window: bad value [{start:g}, {end:g}]: none of the {len(values):,} requests of {load.path!r} came then. "
            f"Expected a part of [0, {since_first[-1]:,.6g}], in seconds since its first. Next: correct load.window"
        )
    return kept


def _column(load: TraceReplay, record: dict[str, Any]) -> str:
    """The column of times: as named, in any case; without a name a usual one, also followed by a unit."""
    there = {str(name).strip().lower(): name for name in record if name is not None}
    named = "timestamp" in load.model_fields_set
    for name in (load.timestamp,) if named else USUAL_COLUMNS:
        for ending in ("",) if named else ("", *(f"_{unit}" for unit in UNITS_S)):
            if (found := there.get(f"{name.lower()}{ending}")) is not None:
                return found
    return load.timestamp


def time_in(record: dict[str, Any], column: str, where: str, number: int, load: TraceReplay) -> tuple[float, bool]:
    """The time of a record, and whether it is a date."""
    if column not in record:
        raise ConfigError(
            f"load.path {load.path!r}: record {number} ({where}) has no column {column!r}. Expected load.timestamp to be one of: "
            f"{cut(', '.join(map(str, record)), 400)}. Next: set load.timestamp"
        )
    time = _time(record[column])
    if time is None or not math.isfinite(time[0]):
        raise ConfigError(
            f"load.path {load.path!r}: record {number} ({where}): bad value {shown(record[column])} in {column!r}. Expected a "
            "number, or a date such as 2023-11-16T18:15:46.68Z. Next: correct the file, or set load.timestamp to the column of "
            "times"
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


def _unit(load: TraceReplay, values: np.ndarray, column: str, form: TraceFormat) -> tuple[str, str]:
    """The unit of numbers, and why; ConfigError where it is neither stated nor certain."""
    if load.unit is not None:
        return load.unit, f"{UNIT_NAMES[load.unit]} (load.unit)"
    for unit, since_1970 in _EPOCHS.items():
        if since_1970 <= values[0] and values[-1] < 4 * since_1970:
            return unit, f"{UNIT_NAMES[unit]} since 1970, by their size"
        if column.lower().endswith(f"_{unit}"):
            return unit, f"{UNIT_NAMES[unit]}, as {column!r} says"
    if form.unit is not None:
        return form.unit, f"{UNIT_NAMES[form.unit]}: its columns are those of {form.name}"
    if (values % 1).any() and np.median(np.diff(values)) < LIKELY_SECONDS:
        return "s", "seconds: numbers with fractions, a few seconds apart at most"
    length = max(float(values[-1] - values[0]), 1e-9)
    as_s = len(values) / length
    raise ConfigError(
        f"load.unit: the times of {load.path!r} ({values[0]:,.12g} to {values[-1]:,.12g} in {column!r}) may be seconds or "
        f"milliseconds: {as_s:.3g} requests a second, or {1000 * as_s:.3g}. Expected load.unit, one of: {', '.join(UNITS_S)}. "
        "Next: write `unit: s` or `unit: ms`"
    )
