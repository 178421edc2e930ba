"""Are there enough prompts with a reference answer to score? Said before anything is deployed."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.answers import samples_of, with_reference
from helpers.number_text import plural


def too_few_references(config: BenchmarkConfig, tables: Mapping[str, pa.Table]) -> list[str]:
    """What is wrong where a dataset has fewer prompts with a usable reference than `quality.samples` asks of it."""
    if config.quality is None:
        return []
    column = config.quality.reference or getattr(config.prompts.source, "answer", "the reply")
    found = []
    for name, wanted in samples_of(config).items():
        usable = with_reference(tables[name], config).num_rows
        if usable < wanted:
            found.append(
                f"quality.samples: {plural(wanted, 'prompt')} of dataset {name!r} are to be scored, and {usable} of its "
                f"{tables[name].num_rows} have a reference in {column} that scorer {config.quality.scorer} can compare. Expected "
                f"{wanted} or more. Next: lower quality.samples, raise `count`, or correct quality.reference"
            )
    return found
