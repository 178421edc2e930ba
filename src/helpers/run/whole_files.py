"""Files of a run: whole or absent however a process ends, and readable only by their owner."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import RunFolderError, cut
from helpers.run.disk_errors import os_errors_in_words

if TYPE_CHECKING:
    import pyarrow as pa
    from filelock import FileLock

MOST_WORDS = 300
ONLY_FOR_ME = 0o077
OWNER_ONLY = 0o600
"""Mode of a file that holds a secret."""


def keep_private() -> None:
    """From here on, what this process and its children make is readable by its owner alone: prompts, records, logs."""
    os.umask(os.umask(ONLY_FOR_ME) | ONLY_FOR_ME)


def hidden_beside(path: Path) -> Path:
    """A name next to a file for its unfinished content, used only by this thread."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden path next to `path` to write to; it replaces `path` if the block succeeds, and is deleted if it does not.

    Raises StorageError.
    """
    unfinished = hidden_beside(path)
    with os_errors_in_words(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.unlink(missing_ok=True)
            yield unfinished
            unfinished.replace(path)
        finally:
            with suppress(OSError):  # no second error on top of the first
                unfinished.unlink(missing_ok=True)


def write_atomically(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a text file so that a crash leaves the old or the new content, never half of it. Raises StorageError.

    `mode`: who may read and write it, less what the process's umask takes away.
    """
    with (
        whole_file(path) as unfinished,
        os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file,
    ):
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all. Raises StorageError."""
    import pyarrow.parquet as pq

    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


@contextmanager
def damage_in_words(path: Path, step: str) -> Iterator[None]:
    """Turn what reading a file of a run raises, where its content is not what was written, into a RunFolderError."""
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError) as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # of the system; those of Parquet files have no number
            raise
        words = str(error)
        if hasattr(error, "errors"):  # of pydantic
            first = error.errors()[0]
            words = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        words = cut(" ".join(words.split()), MOST_WORDS).rstrip(".")
        raise RunFolderError(
            f"{path}: damaged: {words or type(error).__name__}. Expected the file as it was written. Next: {step}"
        ) from None


def lock_of(path: Path) -> FileLock:
    """The lock of a file that several processes change."""
    from filelock import FileLock  # not by load processes

    return FileLock(path.with_suffix(".lock"))
