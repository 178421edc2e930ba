"""What to say where a file or folder cannot be written: the path, the cause, and the next step."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

_FULL = "free some space there, or set run_root to a folder on another disk"
_CLOSED = "make it writable, or set run_root to a folder that is"
_KNOWN = {
    errno.ENOSPC: ("the disk is full", _FULL),
    errno.EDQUOT: ("the disk quota is used up", _FULL),
    errno.EFBIG: ("the file would be larger than the system allows", "raise the limit on file sizes (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", _CLOSED),
    errno.EACCES: ("writing there is not allowed", _CLOSED),
    errno.EPERM: ("writing there is not allowed", _CLOSED),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "set run_root to a folder"),
    errno.ENOENT: ("it was deleted meanwhile", "leave the run folder alone while a run is under way"),
    errno.EIO: ("the disk reports an input/output error", "check the disk, or set run_root to a folder on another one"),
}


class DiskFault(NamedTuple):
    """Why something could not be written, and what to do."""

    cause: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.cause}. Next: {self.next_step}"


def disk_fault(error: OSError, place: Path | str) -> DiskFault:
    """The words for an error of writing; `place` is named where the error itself names no file."""
    path = Path(os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else place)
    why, next_step = _KNOWN.get(error.errno, (error.strerror or str(error), "check the path and its disk"))
    left = f" ({_free_mb(path)} MB free)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return DiskFault(f"{path} cannot be written: {why}{left}", next_step)


def _free_mb(path: Path) -> str:
    there = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    return f"{shutil.disk_usage(there).free / 1e6:.0f}"
