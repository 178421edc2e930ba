"""The traffic of a day in a config: requests per minute for each hour, as a list or in a CSV file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from helpers.config.yaml import expanded, why_unreadable
from helpers.errors import cut, shown

HOURS_PER_DAY = 24
BASE_DIR = "base_dir"
"""Key of the validation context: the folder that relative paths start at."""
COLUMNS = ("hour", "requests_per_minute")
EXPECTED = (
    f"{HOURS_PER_DAY} numbers of requests per minute, of hour 0 to 23, or the path of a CSV file with the columns "
    f"{' and '.join(COLUMNS)}"
)
_HEAD_CHARACTERS = 4096
_DELIMITERS = ",;\t"


def _by_hour(value: object, info: ValidationInfo) -> object:
    """The list, or what the file holds that a path names."""
    if isinstance(value, str):
        value = read_curve((info.context or {}).get(BASE_DIR, Path()) / expanded(value))
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected {EXPECTED}")
    if len(value) != HOURS_PER_DAY:
        raise ValueError(f"expected {EXPECTED}; these are {len(value)}. Next: give one for each hour")
    return value


def _some_request(curve: tuple[float, ...]) -> tuple[float, ...]:
    if not any(curve):
        raise ValueError("expected requests in at least one hour. Next: give the day's traffic, or delete this key")
    return curve


Curve = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...],
    BeforeValidator(_by_hour),
    AfterValidator(_some_request),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0},
                    "minItems": HOURS_PER_DAY,
                    "maxItems": HOURS_PER_DAY,
                },
                {"type": "string"},
            ]
        }
    ),
]
"""Requests per minute of hour 0 to 23. A path in a file is read at once, so that a run keeps the numbers."""


def read_curve(path: Path) -> list[float]:
    """Requests per minute by hour, from a CSV file. Raises ValueError that names the file, its line and the next step."""
    if (reason := why_unreadable(path)) is not None:
        raise ValueError(
            f"expected {EXPECTED}, and {cut(str(path))} {reason}. Next: give its path relative to the config file"
        )
    found: dict[int, float] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.read(_HEAD_CHARACTERS).partition("\n")[0]
            stream.seek(0)
            rows = csv.DictReader(stream, delimiter=max(_DELIMITERS, key=header.count), strict=True)
            _require_columns(path, rows.fieldnames or [])
            for row in rows:
                where = f"{path}:{rows.line_num}"
                hour = _hour(where, row[COLUMNS[0]])
                if hour in found:
                    raise ValueError(f"{where}: hour: {hour} is there twice. Expected each hour once. Next: delete one")
                found[hour] = _requests_per_minute(where, row[COLUMNS[1]])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as CSV: {error}. Next: save it as CSV in UTF-8") from None
    missing = [hour for hour in range(HOURS_PER_DAY) if hour not in found]
    if missing:
        raise ValueError(
            f"{path}: hour: {', '.join(map(str, missing))} not there. Expected the hours 0 to 23, each once. "
            "Next: add these rows, with 0 where no request comes"
        )
    return [found[hour] for hour in range(HOURS_PER_DAY)]


def _require_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(
            f"{path}:1: no column {' and '.join(missing)}, but {shown(', '.join(map(str, names)))}. Expected a header with "
            f"{' and '.join(COLUMNS)}. Next: correct the header"
        )


def _hour(where: str, text: str | None) -> int:
    try:
        hour = int(text or "")
    except ValueError:
        hour = -1
    if not 0 <= hour < HOURS_PER_DAY:
        raise ValueError(
            f"{where}: hour: bad value {shown(text)}. Expected a whole number from 0 to 23. Next: correct it"
        )
    return hour


def _requests_per_minute(where: str, text: str | None) -> float:
    try:
        rate = float(text or "")
    except ValueError:
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ValueError(
            f"{where}: requests_per_minute: bad value {shown(text)}. Expected a number, 0 or more, such as 1200.5. "
            "Next: correct it"
        )
    return rate
