"""Tables of endpoints: how each first answered, and what runs left behind."""

from __future__ import annotations

from dataclasses import asdict

from helpers.endpoints.orphans import Orphan
from helpers.endpoints.preflight import first_answers
from helpers.endpoints.targets.sagemaker_resources import CREATED_BY
from helpers.report.columns import Column, numeric
from helpers.report.display import Table
from helpers.run.folder import RunFolder


def preflight_table(run: RunFolder) -> Table | None:
    """The first answer of each option that gave one; null where none was asked yet. Failures stand in the ledger."""
    answers = first_answers(run)
    if not answers:
        return None
    rows = [{**asdict(one), "notes": "; ".join(one.notes) or "as asked for"} for one in answers]
    columns = [
        "option",
        "sent",
        "latency_s",
        numeric("prompt_tokens", "prompt tokens, by the server", decimals=0),
        "output_tokens",
        "notes",
    ]
    return Table(rows, columns, "One request before any load. It is not measured.")


def orphans_table(orphans: list[Orphan]) -> Table:
    """What was found, with its age: a run that is still under way looks the same as a forgotten one but for its time."""
    rows = [
        {
            "name": orphan.name,
            "run": orphan.run_id,
            "what": ", ".join(orphan.kinds),
            "status": orphan.status or "no endpoint: costs nothing",
            "created": f"{orphan.created_at:%Y-%m-%d %H:%M}",
            "expires": f"{orphan.expires_at:%Y-%m-%d %H:%M}" if orphan.expires_at else "unknown",
            "expired": "yes" if orphan.has_expired else "no",
        }
        for orphan in orphans
    ]
    times = Column("created", "created, UTC"), Column("expires", "expires, UTC")
    columns = [Column("name", "name"), "run", "what", Column("status", "status"), *times, "expired"]
    return Table(
        rows, columns, f"Everything tagged created-by={CREATED_BY}. What has not expired may be in use by a run."
    )
