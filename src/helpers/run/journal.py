"""Rows of a file that grows for minutes, kept as they come: one line of JSON each, so that what was interrupted continues."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from helpers.run.disk_errors import os_errors_in_words
from helpers.run.whole_files import write_atomically


class Journal:
    """The rows that there are so far of a file that is not whole yet, by the values of their key. Safe across threads.

    Failures behind the last row that is `ok` are dropped when it is opened again: nobody knows whether there was still a server.
    """

    def __init__(self, file: Path, key: Sequence[str]) -> None:
        self._path, self._key = file.with_suffix(".part.jsonl"), key
        self._lock = threading.Lock()
        rows = _whole_lines(self._path)
        while rows and rows[-1]["status"] != "ok":
            rows.pop()
        self.rows = {self._key_of(row): row for row in rows}
        if self._path.is_file():
            write_atomically(self._path, "".join(map(_line, rows)))

    def add(self, row: dict) -> None:
        """Keep a row; it outlives the process. Raises StorageError."""
        with self._lock, os_errors_in_words(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
            self.rows[self._key_of(row)] = row

    def delete(self) -> None:
        """Once the file is whole, or its rows are worth nothing."""
        self._path.unlink(missing_ok=True)

    def _key_of(self, row: dict) -> tuple:
        return tuple(row[name] for name in self._key)


def _line(row: dict) -> str:
    return json.dumps(row) + "\n"


def _whole_lines(path: Path) -> list[dict]:
    """Without a last line that the end of the process cut off."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
