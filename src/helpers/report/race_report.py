"""What a race left out, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Search
from helpers.config.options import OptionBase
from helpers.metrics.looks import looks_of
from helpers.number_text import plural
from helpers.report.columns import Column, numeric
from helpers.report.display import Table
from helpers.run.ledger import EndpointRecord


def race_table(endpoints: Sequence[EndpointRecord], points: pd.DataFrame, config: BenchmarkConfig) -> Table | None:
    """What was not measured, and why: for each option how it left the race, and its loads without a look; None without a race."""
    looks = looks_of(config)
    if looks is None:
        return None
    record = {endpoint.option: endpoint for endpoint in endpoints}
    rows = []
    for option in config.options:
        mine = points[points["option"] == option.name]
        known = set(zip(mine["dataset"], mine["load"], strict=True))
        left = record.get(option.name)
        rows.append(
            {
                "option": option.name,
                "requests": int(mine["n"].sum()),
                "outcome": (left and left.race_outcome) or "still in it",
                "because": (left and (left.race_because or left.why_failed())) or "",
                "unseen": "; ".join(_unseen(option, known, config)) or "nothing",
            }
        )
    columns = [
        Column("option", "option"),
        numeric("requests", "requests measured", decimals=0),
        Column("outcome", "left the race as"),
        Column("because", "why, with the bounds at that moment", wraps=True),
        Column("unseen", "not measured", wraps=True),
    ]
    caption = (
        f"What was not measured, and why. Load points were looked at {' / '.join(f'{n:,}' for n in looks.totals)} requests, "
        "and only as long as they could change the verdict. Bounds hold at all of these looks, so intervals are wider than those "
        "of single measurements."
    )
    return Table(pd.DataFrame(rows), columns, caption)


def _unseen(option: OptionBase, known: set[tuple[str, str]], config: BenchmarkConfig) -> list[str]:
    """The load points of an option that are not among the `known` (dataset, load); of a search, which has many, their number."""
    found, levels = [], config.load.levels()
    for dataset in config.datasets_of(option):
        missing = [level.label for level in levels if (dataset.name, level.label) not in known]
        if missing and isinstance(config.load, Search):
            found.append(f"{dataset.name} at {len(missing)} of the search's {plural(len(levels), 'level')}")
        else:
            found += [f"{dataset.name} at {label}" for label in missing]
    return found
