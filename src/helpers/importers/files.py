"""Finding result files and reading values from them. What cannot be read is refused with file, place, value and next step.

No number that is read may be negative. A missing value, or NaN, is None.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from helpers.config.imports import SELECTABLE, ResultFile, ResultFiles
from helpers.config.yaml import expanded
from helpers.errors import ConfigError, ResultFileError, cut, shown

LARGEST_FIELD = 2**31 - 1
"""Characters in one CSV field: some hold prompts and answers."""
NEXT = "Next: correct `format` or `path` in the config, or export the file again"

MOST = 1e15
"""Above any count, and any time in any unit; nanoseconds since 1970 are read by `optional_nanoseconds`."""
LAST_NS = 2**62
LONGEST_TEXT = 500
GZIP = b"\x1f\x8b"


class OpenedFile(NamedTuple):
    """A result file, its entry in the config, and how messages name it."""

    path: Path
    entry: ResultFile
    shown: str


class Row(NamedTuple):
    """A table row or JSON object, with its place as messages name it."""

    where: str
    values: Mapping[str, object]


def find_files(option: ResultFiles, key: str, base_dir: Path) -> list[OpenedFile]:
    """The files of an option in the order of its entries; those of a pattern are sorted by name. ConfigError if there are none.

    `key` is the option's place in the config, for messages.
    """
    found = []
    for j, entry in enumerate(option.path):
        try:
            given = base_dir / expanded(entry.path)
            paths = sorted(
                path for path in Path(given.anchor).glob(str(given.relative_to(given.anchor))) if path.is_file()
            )
        except (ValueError, RuntimeError, OSError):  # not a pattern: empty, a NUL, an unknown user's home
            paths = []
        if not paths and _is_folder(base_dir, entry):
            raise ConfigError(
                f"{key}.path[{j}]: {shown(entry.path)} is a folder. Expected result files. Next: name the file in it, as "
                f"`{entry.path.rstrip('/')}/responses.jsonl`, or write a pattern"
            )
        if not paths:
            kind = option.format or "result"
            raise ConfigError(
                f"{key}.path[{j}]: no file matches {shown(entry.path)} in {base_dir}. Expected the path of a {kind} "
                "file relative to the config file. Next: correct the path, or copy the file there"
            )
        found += [OpenedFile(path, entry, _shown(path, base_dir)) for path in paths]
    return found


def _is_folder(base_dir: Path, entry: ResultFile) -> bool:
    try:
        return (base_dir / expanded(entry.path)).is_dir()
    except (ValueError, RuntimeError, OSError):
        return False


def _shown(path: Path, base_dir: Path) -> str:
    return str(path.relative_to(base_dir)) if path.is_relative_to(base_dir) else str(path)


def read_text(file: OpenedFile) -> str:
    """The text of a UTF-8 file, with or without a byte order mark."""
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise ResultFileError(
            f"{file.shown}: cannot be read: {error.strerror or error}. Next: correct `path`, or who may read the file"
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(GZIP):
            raise ResultFileError(
                f"{file.shown}: is compressed (gzip). Expected a result file. Next: unpack it (`tar -xzf` or `gunzip`) and name "
                "the file in it"
            ) from None
        line = content.count(b"\n", 0, error.start) + 1
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise ResultFileError(
            f"{file.shown}:{line}: not UTF-8: byte 0x{content[error.start]:02x}. Expected text in UTF-8. Next: convert the file, "
            f"for example `iconv -f {'UTF-16' if is_utf16 else 'LATIN1'} -t UTF-8`"
        ) from None


def read_table(file: OpenedFile, columns: Iterable[str], tool: str) -> list[Row]:
    """The rows of a CSV file, which must have these columns; a row that lacks cells is refused, as the file was truncated."""
    csv.field_size_limit(LARGEST_FIELD)
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        missing = [column for column in columns if column not in header]
        if missing:
            raise ResultFileError(
                f"{file.shown}:1: no column {missing[0]!r}. Expected {tool} with the columns {', '.join(columns)}; found: "
                f"{', '.join(header[:30]) or 'nothing'}. Next: correct `format` or `path` in the config"
            )
        rows, before = [], reader.line_num
        for values in reader:
            rows.append(Row(_whole_row(values, header, f"{file.shown}:{before + 1}"), values))
            before = reader.line_num
    except csv.Error as error:
        raise ResultFileError(
            f"{file.shown}:{reader.line_num}: not valid CSV: {error}. Expected {tool}. {NEXT}"
        ) from None
    if not rows:
        raise ResultFileError(f"{file.shown}: holds a header and no rows. Next: correct `path` in the config")
    return rows


def _whole_row(values: dict, header: list[str], where: str) -> str:
    """The place of a row; refuses one that does not have as many cells as the header."""
    cells = sum(value is not None for value in values.values()) + len(values.get(None) or [None]) - 1
    if cells != len(header):
        raise ResultFileError(
            f"{where}: holds {cells} cells, the header {len(header)}. Expected one per column. Next: the file was cut, or is no "
            "CSV with commas; export it again"
        )
    return where


def read_objects(file: OpenedFile, tool: str, listed: bool = False) -> list[Row]:
    """The JSON objects of a file: one, or a sequence (JSON lines, appended results); with `listed`, also a list of them."""
    text = read_text(file)
    decoder, rows, at, line, counted = json.JSONDecoder(), [], 0, 1, 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            where, words = f"{file.shown}:{getattr(error, 'lineno', line)}", _what_is_wrong(error, text)
            raise ResultFileError(f"{where}: not valid JSON: {words}. Expected {tool}. {NEXT}") from None
        if listed and isinstance(value, list):
            rows += objects(Row(file.shown, {"": value}), "", file.shown)
            continue
        if not isinstance(value, dict):
            raise ResultFileError(
                f"{file.shown}:{line}: holds a {type(value).__name__}. Expected an object of {tool}. Next: correct `format` "
                "or `path` in the config"
            )
        rows.append(Row(f"{file.shown}:{line}", value))
    if not rows:
        raise ResultFileError(f"{file.shown}: is empty. Expected {tool}. Next: correct `path` in the config")
    return rows


def _what_is_wrong(error: ValueError | RecursionError, text: str) -> str:
    """The decoder's message, with the text at that place."""
    if isinstance(error, RecursionError):
        return "brackets are nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return "a number of more than 4,300 digits"
    found = text[error.pos : error.pos + 20].split("\n")[0]
    return f"{error.msg}, found {shown(found)}" if found else f"{error.msg}, found the end of the text"


def selected(rows: list[Row], option: ResultFiles, file: OpenedFile) -> list[Row]:
    """The rows with the values that the config selects. ResultFileError if there are none."""
    for column, wanted in option.select.items():
        if not any(column in row.values for row in rows):
            raise ResultFileError(
                f"{file.shown}: select.{column}: no such column. Expected one of: {', '.join(rows[0].values)}. Next: "
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
    """A text that is the same for equal numbers, however they are written."""
    try:
        return repr(float(value))
    except (TypeError, ValueError, OverflowError):
        return str(value)


# --- values ---------------------------------------------------------------------------------------------------------


def refuse(where: str, value: object, expected: str) -> NoReturn:
    """Raise the error for a bad value."""
    raise ResultFileError(
        f"{where}: bad value {shown(value)}. Expected {expected}. Next: look at the file, or export it again"
    )


def number(row: Row, key: str) -> float:
    """A required number."""
    value = optional_number(row, key)
    if value is None:
        raise ResultFileError(
            f"{row.where}: {key}: there is no value{_nan(row.values.get(key))}. Expected a number. Next: look at the file, or "
            "leave the row out by `select`"
        )
    return value


def _nan(value: object) -> str:
    return f" but {value}" if isinstance(value, float) else ""


def optional_number(row: Row, key: str) -> float | None:
    """A number from 0; None if it is missing or NaN."""
    value = row.values.get(key)
    return None if value is None or value == "" else _number(value, f"{row.where}: {key}")


def _number(value: object, where: str) -> float | None:
    try:
        read = math.nan if isinstance(value, bool) else float(value)  # in a table it is text
    except (TypeError, ValueError, OverflowError):
        refuse(where, value, "a number")
    if isinstance(value, bool) or read < 0 or read > MOST:
        refuse(where, value, f"a number from 0 to {MOST:g}")
    return None if math.isnan(read) else read


def count(row: Row, key: str) -> int:
    """A required whole number, of requests for example."""
    return _whole(number(row, key), row, key)


def optional_count(row: Row, key: str) -> int | None:
    """A whole number; None if it is missing."""
    value = optional_number(row, key)
    return None if value is None else _whole(value, row, key)


def _whole(value: float, row: Row, key: str) -> int:
    if abs(value - round(value)) > 1e-6 * max(1.0, value):
        refuse(f"{row.where}: {key}", value, "a whole number")
    return round(value)


def optional_nanoseconds(row: Row, key: str) -> int | None:
    """A time in ns, which a float would round; None if it is missing."""
    value = row.values.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LAST_NS):
        refuse(f"{row.where}: {key}", value, "nanoseconds as a whole number")
    return value


def numbers(row: Row, key: str) -> list[float] | None:
    """A list of numbers without gaps; None if it is missing."""
    values = row.values.get(key)
    return None if values is None else all_numbers(values, f"{row.where}: {key}")


def all_numbers(values: object, where: str) -> list[float]:
    """The numbers of the list at `where`."""
    if not isinstance(values, list):
        refuse(where, values, "a list of numbers")
    read = [_number(value, f"{where}[{i}]") for i, value in enumerate(values)]
    if None in read:
        refuse(f"{where}[{read.index(None)}]", values[read.index(None)], "a number")
    return read


def section(row: Row, key: str) -> Row:
    """A nested object, with its place for messages; empty if it is missing."""
    value = row.values.get(key)
    if value is not None and not isinstance(value, dict):
        refuse(f"{row.where}: {key}", value, "an object")
    return Row(f"{row.where}: {key}", value or {})


def objects(row: Row, key: str, where: str | None = None) -> list[Row]:
    """The objects of a list, with their places for messages; empty if it is missing. `where` names the list."""
    values, where = row.values.get(key), where or f"{row.where}: {key}"
    if values is not None and not isinstance(values, list):
        refuse(where, values, "a list of objects")
    for i, value in enumerate(values or []):
        if not isinstance(value, dict):
            refuse(f"{where}[{i}]", value, "an object")
    return [Row(f"{where}[{i}]", value) for i, value in enumerate(values or [])]


def optional_text(row: Row, key: str) -> str | None:
    """A name or a message; None if it is missing."""
    value = row.values.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, dict | list):
        refuse(f"{row.where}: {key}", value, "a text")
    return clean(value)


def texts(row: Row, key: str, count: int) -> list[str]:
    """A list of `count` texts; empty texts if it is missing."""
    values = row.values.get(key)
    if values is None:
        return [""] * count
    if not isinstance(values, list) or len(values) != count:
        refuse(f"{row.where}: {key}", values, f"a list of {count}, one per request")
    return ["" if value is None else clean(value) for value in values]


def require(row: Row, keys: Iterable[str], tool: str) -> None:
    """Raise ResultFileError if an object lacks one of these keys."""
    for key in keys:
        if key not in row.values:
            raise ResultFileError(
                f"{row.where}: no key {key!r}. Expected {tool}. Next: correct `format` or `path` in the config"
            )


def clean(value: object) -> str:
    """A text that can be stored and shown: limited in length, without lone surrogates."""
    return cut(str(value), LONGEST_TEXT).encode("utf-8", "replace").decode("utf-8")


def only_model(names: Iterable[str | None], where: str, option: ResultFiles) -> str | None:
    """The model that all these names agree on; None if there are no names, or if the config states the option's model.

    ResultFileError if there are several: measurements of two models together describe neither.
    """
    held = sorted(set(names) - {None})
    if getattr(option, "model", None):
        return None
    if len(held) > 1:
        names, apart = ", ".join(map(shown, held[:5])), "`select`, or " if option.format in SELECTABLE else ""
        raise ResultFileError(
            f"{where}: model: holds {len(held)} models: {names}. Expected one per option. Next: make an option of each "
            f"({apart}separate files in `path`); or, if the names mean the same, write `model: ...` in the option"
        )
    return held[0] if held else None
