"""What failed: by option and kind, where, and with which message."""

from __future__ import annotations

import pandas as pd

from helpers.metrics.failure_counts import KIND, failure_words
from helpers.number_text import some
from helpers.report.display import Table
from helpers.report.table_readings import failures_reading


def errors_table(failures: pd.DataFrame) -> Table | None:
    """What failed, by option and kind, with an example of what the server said, and of which options that is not known; None
    where it is known that nothing did.
    """
    if failures.empty:
        return None
    sent = failures.drop_duplicates(["option", "dataset", "load"]).groupby("option")["sent"].sum()
    rows = [
        _failed(mine, sent[option]) | {"option": option, "kind": failure_words(status, http_status, error_type, None)}
        for (option, status, http_status, error_type), mine in failures.groupby(
            ["option", *KIND], dropna=False, sort=False
        )
    ]
    columns = ["option", "kind", "failed", "share", "where", "example"]
    caption = (
        "Requests that failed, by kind, warm-up and drain among them; the share is of all requests of the load points at which "
        "something failed."
    )
    if any(row["example"] for row in rows):
        caption += " The example is the commonest message, in the words of the server or of the connection."
    return Table(rows, columns, caption, failures_reading(rows))


def _failed(mine: pd.DataFrame, sent: float) -> dict[str, object]:
    """How many failed in one way, where, and an example; unknown where the results leave failures out."""
    found = {"failed": None, "share": None, "where": _where(mine), "example": None}
    if mine["failed"].isna().all():
        return found
    failed, example = int(mine["failed"].sum()), mine.loc[mine["failed"].idxmax(), "example"]
    return found | {"failed": failed, "share": 100 * failed / sent, "example": None if pd.isna(example) else example}


def _where(failed: pd.DataFrame) -> str:
    """The load points at which something failed, at most three by name, the worst first."""
    worst = failed.sort_values("failed", ascending=False, kind="stable")
    return some(f"{row.dataset}, {row.load}" for row in worst.itertuples())
