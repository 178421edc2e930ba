"""Finding result files and taking values out of them. What cannot be read is told with file, place, value and next step."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from helpers.errors import ConfigError, ResultFileError
from helpers.importers.settings import ResultFile, ResultFiles

LARGEST_FIELD = 2**31 - 1
"""Characters in one CSV field: prompts and answers stand in some."""


class OpenedFile(NamedTuple):
    """A result file, the entry of the config that names it, and how messages name it."""

    path: Path
    entry: ResultFile
    shown: str


class Row(NamedTuple):
    """A row of a table, or an object of a file, with its place as messages name it."""

    where: str
    values: Mapping[str, object]


def find_files(option: ResultFiles, key: str, base_dir: Path) -> list[OpenedFile]:
    """The files of an option in the order of its entries, those of a pattern by name. ConfigError where there is none.

    `key` is the option's place in the config, as messages name it.
    """
    found = []
    for j, entry in enumerate(option.path):
        given = Path(entry.path).expanduser()
        if given.is_absolute():
            paths = sorted(Path(given.anchor).glob(str(given.relative_to(given.anchor))))
        else:
            paths = sorted(base_dir.glob(entry.path))
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise ConfigError(
                f"{key}.path[{j}]: no file matches {entry.path!r} in {base_dir}. Expected the path of a {option.format} "
                "file relative to the config file. Next: correct the path, or copy the file there"
            )
        found += [OpenedFile(path, entry, _shown(path, base_dir)) for path in paths]
    return found


def _shown(path: Path, base_dir: Path) -> str:
    return str(path.relative_to(base_dir)) if path.is_relative_to(base_dir) else str(path)


def read_table(file: OpenedFile, columns: Iterable[str], tool: str) -> list[Row]:
    """The rows of a CSV file, which must have these columns."""
    csv.field_size_limit(LARGEST_FIELD)
    with file.path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        header = reader.fieldnames or []
        missing = [column for column in columns if column not in header]
        if missing:
            raise ResultFileError(
                f"{file.shown}:1: no column {missing[0]!r}. Expected {tool} with the columns {', '.join(columns)}; found: "
                f"{', '.join(header[:30]) or 'nothing'}. Next: correct `format` or `path` in the config"
            )
        rows, before = [], reader.line_num
        for values in reader:
            rows.append(Row(f"{file.shown}:{before + 1}", values))
            before = reader.line_num
    if not rows:
        raise ResultFileError(f"{file.shown}: holds a header and no rows. Next: correct `path` in the config")
    return rows


def read_objects(file: OpenedFile, tool: str) -> list[Row]:
    """The JSON objects of a file: one, or one after the other, as JSON lines and appended results are."""
    text = file.path.read_text(encoding="utf-8")
    decoder, rows, at, line, counted = json.JSONDecoder(), [], 0, 1, 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ResultFileError(
                f"{file.shown}:{error.lineno}: not valid JSON: {error.msg}. Expected {tool}. Next: correct `format` or `path` "
                "in the config, or export the file again"
            ) from None
        if not isinstance(value, dict):
            raise ResultFileError(
                f"{file.shown}:{line}: holds a {type(value).__name__}. Expected an object of {tool}. Next: correct `format` "
                "or `path` in the config"
            )
        rows.append(Row(f"{file.shown}:{line}", value))
    if not rows:
        raise ResultFileError(f"{file.shown}: is empty. Expected {tool}. Next: correct `path` in the config")
    return rows


def selected(rows: list[Row], option: ResultFiles, file: OpenedFile) -> list[Row]:
    """The rows whose columns hold the values that the config selects. ResultFileError where there are none."""
    for column, wanted in option.select.items():
        if not any(column in row.values for row in rows):
            raise ResultFileError(
                f"{file.shown}: select.{column}: there is no such column. Expected one of: {', '.join(rows[0].values)}. Next: "
                "correct `select` in the config"
            )
        held = sorted({_as_text(row.values.get(column)) for row in rows})
        rows = [row for row in rows if _as_text(row.values.get(column)) == _as_text(wanted)]
        if not rows:
            raise ResultFileError(
                f"{file.shown}: select.{column}: no row holds {wanted!r}. Expected one of: {', '.join(held[:20])}. Next: "
                "correct `select` in the config"
            )
    return rows


def _as_text(value: object) -> str:
    """Equal for numbers that are equal, however they are written."""
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)


def number(row: Row, key: str) -> float:
    """A finite number that must be there."""
    value = optional_number(row, key)
    if value is None:
        raise ResultFileError(
            f"{row.where}: {key}: there is no value. Expected a number. Next: look at the file, or leave the row out by `select`"
        )
    return value


def optional_number(row: Row, key: str) -> float | None:
    """A number; null where the file has none, or one that is not finite."""
    value = row.values.get(key)
    if value is None or value == "":
        return None
    try:
        read = float(value)
    except (TypeError, ValueError):
        raise ResultFileError(
            f"{row.where}: {key}: bad value {value!r}. Expected a number. Next: look at the file, or leave the row out by "
            "`select`"
        ) from None
    return read if math.isfinite(read) else None


def numbers(row: Row, key: str) -> list[float] | None:
    """A list of numbers; null where the file has none."""
    values = row.values.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        raise ResultFileError(
            f"{row.where}: {key}: bad value of type {type(values).__name__}. Expected a list of numbers. Next: export the file "
            "again"
        )
    return [float(value) for value in values]


def section(row: Row, key: str) -> Row:
    """A part of an object, whose place messages name; empty where the file has none."""
    value = row.values.get(key)
    return Row(f"{row.where}: {key}", value if isinstance(value, dict) else {})
