"""One process at a time works on a run folder, and who it is can be read.

    runner (make report)      holds <run>/held.lock for the whole series
      kernel of a notebook    finds that an ancestor holds it, and holds <run>/held-inside.lock instead
    anybody else              is refused, with who holds the folder and since when

A kernel that outlives its runner still holds the inner lock, so that no other process starts before it ends. Both are locks
of the operating system: they are free again however their process ends. Reading takes none.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.errors import RunFolderError
from helpers.run.disk_errors import os_errors_in_words

OUTER, INNER = "held.lock", "held-inside.lock"


@contextmanager
def holding(run_path: Path, doing: str) -> Iterator[None]:
    """While this block runs, no other process works on the run folder except those that this one starts.

    Raises RunFolderError if one does, and StorageError for what the operating system refuses in the folder.
    """
    with os_errors_in_words(run_path):
        run_path.mkdir(parents=True, exist_ok=True)
        lock = _acquired(run_path, doing)
        try:
            yield
        finally:
            with suppress(OSError):
                Path(lock.lock_file).write_text("")
            lock.release()


def _acquired(run_path: Path, doing: str) -> FileLock:
    outer, inner = FileLock(run_path / OUTER), FileLock(run_path / INNER)
    is_outer = take(outer)
    if not is_outer and not _is_mine(_holder(outer)):
        raise _refusal(run_path, _holder(outer))
    if not take(inner):
        outer.release()
        raise _refusal(run_path, _holder(inner))
    if is_outer:
        inner.release()
    lock = outer if is_outer else inner
    about = {"pid": os.getpid(), "user": _user(), "host": socket.gethostname(), "doing": doing}
    about["since"] = datetime.now(UTC).isoformat(timespec="seconds")
    Path(lock.lock_file).write_text(json.dumps(about))
    return lock


def take(lock: FileLock) -> bool:
    """True if the lock is now held by this process."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _holder(lock: FileLock) -> dict:
    """What the holder of a lock wrote of itself; empty where it has not yet."""
    try:
        return json.loads(Path(lock.lock_file).read_text())
    except (OSError, ValueError):
        return {}


def _is_mine(holder: dict) -> bool:
    """True where this process holds a lock, or one that it comes from."""
    import psutil

    family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return holder.get("host") == socket.gethostname() and holder.get("pid") in family


def _refusal(run_path: Path, holder: dict) -> RunFolderError:
    if not holder:
        return RunFolderError(f"{run_path}: another process works on this run folder. Next: try again in a few seconds")
    return RunFolderError(
        f"{run_path}: {holder['doing']} works on this run folder: process {holder['pid']} of {holder['user']} on "
        f"{holder['host']}, since {holder['since']}. Next: wait until it ends, or end it on that machine (kill "
        f"{holder['pid']}: it keeps what is finished and deletes its endpoints), then run this again; notebooks 04 and 05 only "
        "read and may run meanwhile"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
