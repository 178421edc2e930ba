"""Finding and opening result files. What cannot be read is refused with file, place and next step."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from helpers.config.imports import SELECTABLE, ResultFile, ResultFiles
from helpers.config.yaml import expanded
from helpers.errors import ConfigError, ResultFileError, shown
from helpers.importers.rows import Row

LARGEST_FIELD = 2**31 - 1
"""Characters in one CSV field: some hold prompts and answers."""
NEXT = "Next: correct `format` or `path` in the config, or export the file again"
GZIP = b"\x1f\x8b"


class OpenedFile(NamedTuple):
    """A result file, its entry in the config, and how messages name it."""

    path: Path
    entry: ResultFile
    shown: str


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
            rows += Row(file.shown, {"": value}).objects("", file.shown)
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
