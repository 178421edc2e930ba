"""Failed requests by kind, with an example of what the server said: from the request records, of all phases, and from imported
groups, which hold at most how many failed.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.config.load_level import LoadLevel
from helpers.run.records import AttemptFacts, read_requests

KIND = ["status", "http_status", "error_type"]
COLUMNS = ["option", "dataset", "load", "sent", "failed", *KIND, "example"]
LONGEST_EXAMPLE = 300
OK = 200
"""HTTP status of an answer that failed all the same."""
STATUS_WORDS = {
    "http_error": "HTTP error",
    "timeout": "time-out",
    "connection": "no connection",
    "stream_broken": "stream broken off",
    "throttled": "throttled",
    "bad_response": "unreadable answer",
    "cut_short": "answer cut short",
    "empty": "empty answer",
    "error_in_answer": "error in place of an answer",
    "too_few_tokens": "fewer tokens than asked for",
    "not_in_files": "failed, and the files do not say how",
    "left_out": "not known: the files leave failures out",
}


def count_failures(requests_dir: Path, facts: list[AttemptFacts], groups: pd.DataFrame) -> pd.DataFrame:
    """One row per load point and kind of failure, in the order of `facts`, then of `groups` (`group_records.read_groups`):
    `COLUMNS`, of which `sent` counts all requests of the load point, warm-up and drain among them, and `example` is the
    commonest message. `sent` and `failed` are empty where a tool left failures out.
    """
    rows = []
    for of_it in facts:
        here = read_requests(requests_dir, [*KIND, "error"], [of_it.load_point])
        failed = here[here["status"] != "ok"]
        for kind, mine in failed.groupby(KIND, dropna=False, sort=False):
            where = {"option": of_it.option, "dataset": of_it.dataset, "load": of_it.load.label}
            rows.append(
                where
                | {"sent": len(here), "failed": len(mine), "example": _commonest(mine["error"])}
                | dict(zip(KIND, kind, strict=True))
            )
    for (option, dataset, kind, level), here in groups.groupby(["option", "dataset", "load_kind", "level"], sort=False):
        where = {"option": option, "dataset": dataset, "load": LoadLevel(kind, level).label}
        if not here["failures_known"].all():
            rows.append(where | {"status": "left_out"})
        elif here["failures"].any():
            counts = {"sent": int(here["requests"].sum()), "failed": int(here["failures"].sum())}
            rows.append(where | counts | {"status": "not_in_files"})
    return pd.DataFrame(rows, columns=COLUMNS)


def commonest_failure(failed: pd.DataFrame) -> str | None:
    """The kind of failure that occurred most, in words, with its commonest message; None where nothing failed."""
    if failed.empty:
        return None
    kinds = failed.groupby(KIND, dropna=False, sort=False)
    kind, mine = max(kinds, key=lambda both: len(both[1]))
    return failure_words(*kind, _commonest(mine["error"]))


def failure_words(status: str, http_status: int | None, error_type: str | None, message: str | None) -> str:
    """A kind of failure as a phrase: what happened, and what the server or the connection said."""
    is_refused = status != "bad_response" and pd.notna(http_status) and int(http_status) != OK
    what = f"HTTP {int(http_status)}" if is_refused else STATUS_WORDS.get(status, status)
    said = [str(part) for part in (error_type, message) if pd.notna(part) and str(part) not in ("", status, what)]
    if len(said) == 2 and said[0] in said[1]:
        said = said[1:]
    return ": ".join([what, *said])


def _commonest(messages: pd.Series) -> str | None:
    counts = messages.dropna().value_counts()
    return None if counts.empty else str(counts.index[0])[:LONGEST_EXAMPLE]
