"""What to say where the operating system refuses a file or folder: the path, the cause, and the next step."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from helpers.errors import StorageError, cut

_ANOTHER_FOLDER = "set run_root (or run_dir) to a folder that you may write"
_NOT_A_FOLDER = "set run_root (or run_dir) to a folder: a part of this path is a file"
_MORE_SPACE = "free space on this disk (df -h shows how much there is)"
_MORE_FILES = "allow more open files (ulimit -n 4096)"
_KEEPS_THE_RUN = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""Their next step leaves the run folder where it is, so that the run can be continued."""
NEXT_STEPS = {
    errno.ENOSPC: _MORE_SPACE,
    errno.EDQUOT: _MORE_SPACE,
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or set run_root to a folder on a disk that takes larger files",
    errno.EROFS: _ANOTHER_FOLDER,
    errno.EACCES: _ANOTHER_FOLDER,
    errno.EPERM: _ANOTHER_FOLDER,
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.EISDIR: "there is a folder where a file must be written: move it away",
    errno.ENAMETOOLONG: "shorten `name` in the config, or run_root (or run_dir)",
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.ELOOP: "the path leads round in circles (ls -l shows its links): set run_root (or run_dir) to a folder",
    errno.EIO: "check that the disk is there and sound",
    errno.ENOENT: "find out who moved or deleted the folder",
}
"""What to do where the operating system refuses a file; its other errors have nothing to do with files."""


class DiskFault(NamedTuple):
    """Why a file or folder was refused, and what to do."""

    cause: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.cause}. Next: {self.next_step}"


def disk_fault(error: OSError, place: Path | str) -> DiskFault:
    """The words for an error of the operating system; `place` is named where the error itself names no file."""
    path = Path(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else place)
    why = os.strerror(error.errno) if error.errno is not None else str(error)
    left = f" ({_free_mb(path)} MB free)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    next_step = NEXT_STEPS.get(error.errno, "check the path and its disk")
    return DiskFault(f"{cut(str(path), 300)}: {why}{left}", next_step)


@contextmanager
def os_errors_in_words(path: Path) -> Iterator[None]:
    """What the operating system refuses at or below a path becomes a StorageError: path, cause, next step.

    Where the run can be continued after that step, the message says so.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in NEXT_STEPS:
            raise
        again = " and run it again: what is finished is kept" if error.errno in _KEEPS_THE_RUN else ""
        raise StorageError(f"{disk_fault(error, path)}{again}", error.errno) from error


def _free_mb(path: Path) -> str:
    there = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    return f"{shutil.disk_usage(there).free / 1e6:.0f}"
