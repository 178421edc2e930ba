"""Converts benchmarks of GuideLLM 0.2 and 0.3 to the layout of 0.4 and later, which `guidellm` reads.

Earlier versions have the strategy in `args`, the model in `worker`, a request's times at its top level, and request
counts in `request_totals`. Nothing is computed here; what cannot be read is refused by the reader.
"""

from __future__ import annotations

from helpers.importers.rows import Row

TIMES = {
    "start_time": "request_start",
    "first_token_time": "first_token_iteration",
    "last_token_time": "last_token_iteration",
    "end_time": "request_end",
}
STATUSES = ("successful", "incomplete", "errored")


def in_later_shape(row: Row) -> Row:
    """A benchmark with the keys of 0.4, whichever version wrote it."""
    if "config" in row.values or not row.section("args").values.get("strategy"):
        return row
    listed = row.section("requests")
    requests = {status: [_request(one) for one in listed.objects(status)] for status in STATUSES}
    totals = row.section("request_totals").values
    return Row(
        row.where,
        {
            **row.values,
            "config": {
                "strategy": row.values["args"]["strategy"],
                "backend": {"model": row.section("worker").values.get("backend_model")},
            },
            "metrics": {**row.section("metrics").values, "request_totals": totals},
            "requests": requests,
        },
    )


def _request(row: Row) -> dict:
    """Drops times below 0, which mean a missing time."""
    info = row.section("scheduler_info").values
    times = {later: row.values.get(early) for early, later in TIMES.items()}
    times["targeted_start"] = info.get("targeted_start_time") if info.get("targeted_start_time") != -1 else None
    return {**row.values, "info": {"error": row.values.get("error"), "timings": times}}
