"""Numbers and switches of a config as they stand there: what they mean is decided where it is known what belongs there.

YAML reads `012345670123`, `22:22` and `1.10` as numbers, `no` and `on` as switches, and its versions differ in how. So each
stays text until a field reads it: a field for text gets what stands in the file, one for numbers or switches reads it, and
where anything may stand (JSON that is handed on) only what all versions read alike is taken.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, JsonValue

from helpers.errors import cut

_SWITCHES = {"true": True, "false": False}
_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


class Unquoted(str):
    """A number or a switch as it stands in a config, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def read_unquoted(value: object) -> object:
    """A value with each number and switch in it read. Raises ValueError for what the versions of YAML read differently."""
    if isinstance(value, dict):
        return {key: read_unquoted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [read_unquoted(each) for each in value]
    return _read(str(value)) if isinstance(value, Unquoted) else value


def _read(text: str) -> int | float | bool:
    if text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    raise ValueError(
        f"{cut(text)} is not the same in all versions of YAML. Expected text in quotes, a number such as 60 or 1.5, true or "
        "false. Next: quote it if it is text"
    )


Json = Annotated[JsonValue, BeforeValidator(read_unquoted)]
"""Anything that JSON can hold: it is handed on as it is."""
