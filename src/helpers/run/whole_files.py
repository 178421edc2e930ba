"""Files of a run: whole or not at all however a process ends, readable by their owner alone, refusals told in words."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from helpers.errors import StorageError, cut

ONLY_FOR_ME = 0o077
OWNER_ONLY = 0o600
"""Mode of a file that holds a secret."""
_ANOTHER_FOLDER = "set run_root (or run_dir) to a folder that you may write"
_NOT_A_FOLDER = "a part of this path is a file: set run_root (or run_dir) to a folder"
_MORE_SPACE = "free space on this disk (df -h shows how much there is) and run it again: what is finished is kept"
_MORE_FILES = "allow more open files (ulimit -n 4096) and run it again: what is finished is kept"
NEXT_STEPS = {
    errno.ENOSPC: _MORE_SPACE,
    errno.EDQUOT: _MORE_SPACE,
    errno.EFBIG: _MORE_SPACE,
    errno.EROFS: _ANOTHER_FOLDER,
    errno.EACCES: _ANOTHER_FOLDER,
    errno.EPERM: _ANOTHER_FOLDER,
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.EISDIR: "a folder stands where a file is to be written: move it away",
    errno.ENAMETOOLONG: "shorten `name` in the config, or run_root (or run_dir)",
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.ELOOP: "the path leads round in circles (ls -l shows its links): set run_root (or run_dir) to a folder",
    errno.EIO: "look whether the disk is there and sound, then run it again",
    errno.ENOENT: "look who moved or deleted the folder, then run it again",
}
"""What to do where the operating system refuses a file; what else it refuses has nothing to do with files."""


@contextmanager
def os_errors_in_words(path: Path) -> Iterator[None]:
    """What the operating system refuses at or below a path becomes a StorageError: path, cause, next step."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in NEXT_STEPS:
            raise
        where = error.filename if isinstance(error.filename, str | Path) else path
        raise StorageError(
            f"{cut(str(where), 300)}: {os.strerror(error.errno)}. Next: {NEXT_STEPS[error.errno]}", error.errno
        ) from error


def keep_private() -> None:
    """From here on, what this process and its children make is readable by its owner alone: prompts, records, logs."""
    os.umask(os.umask(ONLY_FOR_ME) | ONLY_FOR_ME)


def hidden_beside(path: Path) -> Path:
    """A name beside a file for what will become it, of this thread alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")


def write_atomically(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a text file so that a crash leaves the old or the new content, never half of it. Raises StorageError.

    `mode`: who may read and write it, less what the process's umask takes away.
    """
    temporary = hidden_beside(path)
    with os_errors_in_words(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            _delete(temporary)
            raise


def _delete(path: Path) -> None:
    """Without a second error on top of the first."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def lock_of(path: Path) -> FileLock:
    """The lock of a file that several processes change."""
    return FileLock(path.with_suffix(".lock"))
