"""Unquoted numbers and booleans of a config, kept as text until the type of their field is known.

YAML reads `012345670123`, `22:22` and `1.10` as numbers, `no` and `on` as booleans, and its versions differ. So each stays
text until a field reads it: a text field gets the file's text, a number or boolean field parses it, and a field of any type
(JSON that is passed on) accepts only what all YAML versions read alike.
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
    """A number or boolean as written in a config, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def read_unquoted(value: object) -> object:
    """A value with each number and boolean in it parsed. Raises ValueError for what YAML versions read differently."""
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
"""Any JSON value, passed on unchanged."""
