"""Values in result files. A bad one is refused with file, place, value and next step.

No number that is read may be negative. A missing value, or NaN, is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from helpers.errors import ResultFileError, cut, shown

MOST = 1e15
"""Above any count, and any time in any unit; nanoseconds since 1970 are read by `Row.optional_nanoseconds`."""
LAST_NS = 2**62
LONGEST_TEXT = 500


@dataclass(frozen=True)
class Row:
    """A table row or JSON object, with its place as messages name it. What has to be there, and is not, is refused."""

    where: str
    values: Mapping[str, object]

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise the error for a bad value."""
        refuse(f"{self.where}: {key}", self.values.get(key), expected)

    def require(self, keys: Iterable[str], tool: str) -> None:
        """Raise ResultFileError if one of these keys is missing."""
        for key in keys:
            if key not in self.values:
                raise ResultFileError(
                    f"{self.where}: no key {key!r}. Expected {tool}. Next: correct `format` or `path` in the config"
                )

    def number(self, key: str) -> float:
        """A number that has to be there."""
        value = self.optional_number(key)
        if value is None:
            found = self.values.get(key)
            but = f" but {found}" if isinstance(found, float) else ""
            raise ResultFileError(
                f"{self.where}: {key}: there is no value{but}. Expected a number. Next: look at the file, or leave the row out "
                "by `select`"
            )
        return value

    def optional_number(self, key: str) -> float | None:
        """A number from 0."""
        value = self.values.get(key)
        return None if value is None or value == "" else _number(value, f"{self.where}: {key}")

    def count(self, key: str) -> int:
        """A whole number that has to be there, of requests for example."""
        return self._whole(self.number(key), key)

    def optional_count(self, key: str) -> int | None:
        """A whole number."""
        value = self.optional_number(key)
        return None if value is None else self._whole(value, key)

    def _whole(self, value: float, key: str) -> int:
        if abs(value - round(value)) > 1e-6 * max(1.0, value):
            refuse(f"{self.where}: {key}", value, "a whole number")
        return round(value)

    def optional_nanoseconds(self, key: str) -> int | None:
        """A time in ns, which a float would round."""
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LAST_NS):
            self.refuse(key, "nanoseconds as a whole number")
        return value

    def numbers(self, key: str) -> list[float] | None:
        """A list of numbers without gaps."""
        values = self.values.get(key)
        return None if values is None else all_numbers(values, f"{self.where}: {key}")

    def section(self, *keys: str) -> Row:
        """A nested object; empty if it is missing."""
        found = self
        for key in keys:
            value = found.values.get(key)
            if value is not None and not isinstance(value, dict):
                found.refuse(key, "an object")
            found = Row(f"{found.where}: {key}", value or {})
        return found

    def objects(self, key: str, where: str | None = None) -> list[Row]:
        """The objects of a list; none if it is missing. `where` names the list."""
        values, where = self.values.get(key), where or f"{self.where}: {key}"
        if values is not None and not isinstance(values, list):
            refuse(where, values, "a list of objects")
        for i, value in enumerate(values or []):
            if not isinstance(value, dict):
                refuse(f"{where}[{i}]", value, "an object")
        return [Row(f"{where}[{i}]", value) for i, value in enumerate(values or [])]

    def optional_text(self, key: str) -> str | None:
        """A name or a message."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, dict | list):
            self.refuse(key, "a text")
        return clean(value)


def refuse(where: str, value: object, expected: str) -> NoReturn:
    """Raise the error for a bad value."""
    raise ResultFileError(
        f"{where}: bad value {shown(value)}. Expected {expected}. Next: look at the file, or export it again"
    )


def _number(value: object, where: str) -> float | None:
    try:
        read = math.nan if isinstance(value, bool) else float(value)  # in a table it is text
    except (TypeError, ValueError, OverflowError):
        refuse(where, value, "a number")
    if isinstance(value, bool) or read < 0 or read > MOST:
        refuse(where, value, f"a number from 0 to {MOST:g}")
    return None if math.isnan(read) else read


def all_numbers(values: object, where: str) -> list[float]:
    """The numbers of the list at `where`."""
    if not isinstance(values, list):
        refuse(where, values, "a list of numbers")
    read = [_number(value, f"{where}[{i}]") for i, value in enumerate(values)]
    if None in read:
        refuse(f"{where}[{read.index(None)}]", values[read.index(None)], "a number")
    return read


def clean(value: object) -> str:
    """A text that can be stored and shown: limited in length, without lone surrogates."""
    return cut(str(value), LONGEST_TEXT).encode("utf-8", "replace").decode("utf-8")


def nanoseconds(seconds: float | None) -> int | None:
    """A time in ns; None if it is unknown."""
    return None if seconds is None else round(seconds * 1e9)
