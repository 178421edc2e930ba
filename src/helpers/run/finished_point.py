"""What the records of a load point that has just ended say of its server: is it still there, and are they worth keeping?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

SET_ASIDE = "set_aside"
"""The folder, beside the records, of those that say nothing of their option."""
LAST_REQUESTS = 10
"""If none of the last N requests of a load point was answered, its server may be gone."""


def error_types(path: Path) -> list[str]:
    """Error types of the requests of a load point that failed."""
    found = pq.read_table(path, columns=["error_type"])["error_type"].to_pylist()
    return [error_type for error_type in found if error_type is not None]


class Silence(NamedTuple):
    """How a load point ended whose last requests all failed."""

    requests: int
    answered: int
    trailing: int
    """Requests after the last that was answered."""
    was_reached: bool
    """Did the server say anything, or time out, at the end; false: no connection could be had, or was kept."""


def silence_at_end(path: Path) -> Silence | None:
    """The end of a load point whose last requests, in the order in which they ended, all failed; None of any other."""
    table = pq.read_table(path, columns=["status", "http_status", "done_ns"]).sort_by("done_ns")
    statuses, http = table["status"].to_pylist(), table["http_status"].to_pylist()
    last = slice(-LAST_REQUESTS, None)
    if not statuses or "ok" in statuses[last]:
        return None
    trailing = next((i for i, status in enumerate(reversed(statuses)) if status == "ok"), len(statuses))
    reached = any(code is not None for code in http[last]) or "timeout" in statuses[last]
    return Silence(len(statuses), statuses.count("ok"), trailing, reached)


def set_aside(path: Path) -> Path:
    """Move the records of a load point that says nothing of its option out of the way; returns where they are now."""
    folder = path.parent / SET_ASIDE
    folder.mkdir(exist_ok=True)
    kept = folder / f"{path.stem}-{time.time_ns()}{path.suffix}"
    path.replace(kept)
    return kept
