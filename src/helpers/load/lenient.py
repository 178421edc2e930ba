"""Events whose fields have other types than their API documents: what can be read is read; only what is measured is strict.

Used where the strict decoder fails, so that documented answers are read as fast as before. A text may be a list
of parts or an object that holds it, a number of tokens may be written as 4.0 or "4", a list of one may be that one. A field
that holds nothing measured counts as absent.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from msgspec import inspect

TEXT_KEYS = ("text", "content", "thinking", "reasoning", "reasoning_content", "summary", "value")
"""Where an object that stands for a text holds it; the first that exists."""
WORD_KEYS = ("type", "reason", "name")
"""Where an object that stands for a word (a finish reason) holds it."""
WORDS = frozenset({"finish_reason", "stop_reason", "stopReason", "type"})
MOST_DEPTH = 20


class NotReadable(ValueError):
    """A text or a number of tokens is there, and is none; or the event is no object."""


def read_leniently(event: Any, kind: Any) -> Any:
    """A decoded event as a type of its API (a Struct, or a union with one). Raises NotReadable."""
    expected = _type_of(kind)
    if not isinstance(event, dict if isinstance(expected, inspect.StructType) else dict | list):
        raise NotReadable
    return _as(event, expected, "")


@lru_cache(maxsize=64)
def _type_of(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _as(value: Any, kind: inspect.Type, name: str) -> Any:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    if value is None or any(isinstance(one, inspect.AnyType) for one in kinds):
        return value
    for one in kinds:
        if (convert := _EXACT.get(type(one))) is not None and isinstance(value, convert):
            return _inside(value, one, name)
    for one in kinds:
        if (convert := _CONVERT.get(type(one))) is not None:
            return convert(value, one, name)
    return None


def _inside(value: Any, kind: inspect.Type, name: str) -> Any:
    """A value of the type's own kind of JSON."""
    if isinstance(kind, inspect.StructType):
        return _struct(value, kind, name)
    if isinstance(kind, inspect.ListType):
        return _list(value, kind, name)
    return _count(value, kind, name) if isinstance(value, bool) and isinstance(kind, inspect.IntType) else value


def _struct(value: Any, kind: inspect.StructType, name: str) -> Any:
    if isinstance(value, list):
        if len(value) > 1:
            raise NotReadable
        return _struct(value[0], kind, name) if value else None
    if not isinstance(value, dict):
        value = {_text_field(kind): value} if isinstance(value, str) and _text_field(kind) else {}
    given = {
        field.name: _as(value[field.encode_name], field.type, field.encode_name)
        for field in kind.fields
        if field.encode_name in value
    }
    return kind.cls(**{name: one for name, one in given.items() if one is not None})


def _text_field(kind: inspect.StructType) -> str | None:
    """The field of a Struct that a bare string stands for."""
    return next((field.encode_name for field in kind.fields if field.encode_name in ("content", "text")), None)


def _list(value: Any, kind: inspect.ListType, name: str) -> list:
    if not isinstance(value, dict | list):
        raise NotReadable
    values = value if isinstance(value, list) else [value]
    return [one for one in (_as(each, kind.item_type, name) for each in values) if one is not None]


def _text(value: Any, kind: inspect.StrType, name: str) -> str | None:
    if name in WORDS:
        word = next((value[key] for key in WORD_KEYS if key in value), None) if isinstance(value, dict) else value
        return word if isinstance(word, str) else None
    return text_of(value)


def text_of(value: Any, depth: int = 0) -> str:
    """The text of a string, of a list of parts, or of an object that holds one; parts without text add nothing."""
    if isinstance(value, str) or value is None:
        return value or ""
    if depth > MOST_DEPTH or not isinstance(value, list | dict):
        raise NotReadable
    if isinstance(value, list):
        return "".join([text_of(part, depth + 1) for part in value])
    return next((text_of(value[key], depth + 1) for key in TEXT_KEYS if value.get(key) is not None), "")


def _count(value: Any, kind: inspect.IntType, name: str) -> int | None:
    if isinstance(value, list | dict):
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise NotReadable
    return int(number)


def _flag(value: Any, kind: inspect.BoolType, name: str) -> bool:
    return bool(value)


_EXACT = {
    inspect.StructType: dict,
    inspect.ListType: list,
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.BoolType: bool,
}
_CONVERT = {
    inspect.StrType: _text,
    inspect.IntType: _count,
    inspect.StructType: _struct,
    inspect.ListType: _list,
    inspect.BoolType: _flag,
}
