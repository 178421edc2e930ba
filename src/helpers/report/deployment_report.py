"""What was deployed, and with which settings."""

from __future__ import annotations

import pandas as pd

from helpers.report.columns import Column
from helpers.report.display import Table
from helpers.report.table_readings import deployments_reading
from helpers.run.ledger import EndpointRecord


def deployments_table(endpoints: list[EndpointRecord]) -> Table:
    """Container and serving settings of every option that was loaded, or was to be."""
    rows = pd.DataFrame(
        {
            "option": record.option,
            "target": record.target,
            "instances": f"{record.instance_count} × {record.instance_type}",
            "region": "this machine" if record.local else record.region or "–",
            "image": record.image or "–",
            "digest": record.image_digest,
            "settings": ", ".join(f"{name} {value}" for name, value in record.serving.items()) or "–",
        }
        for record in endpoints
        if record.race_outcome != "never loaded"
    )
    columns = [
        "option",
        "target",
        Column("instances", "instances"),
        "region",
        "image",
        *([Column("digest", "image digest", wraps=True)] if any(record.image_digest for record in endpoints) else []),
        "settings",
    ]
    named = {name: name for name in ("target", "instances", "region", "image")} | {"settings": "serving settings"}
    caption = "What served each option. Settings that are not named are the container's own."
    return Table(rows, columns, caption, deployments_reading(rows, named))
