"""Text files that are there whole or not at all, however a process ends."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from filelock import FileLock

OWNER_ONLY = 0o600
"""Mode of a file that holds a secret."""


def hidden_beside(path: Path) -> Path:
    """A name beside a file for what will become it, of this thread alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")


def write_atomically(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a text file so that a crash leaves the old or the new content, never half of it.

    `mode`: who may read and write it, less what the process's umask takes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden_beside(path)
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def lock_of(path: Path) -> FileLock:
    """The lock of a file that several processes change."""
    return FileLock(path.with_suffix(".lock"))
