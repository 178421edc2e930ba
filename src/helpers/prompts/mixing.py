"""The prompts of a mix (`load.mix`): those of all datasets in one table, in an order that keeps their shares everywhere."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.mix import MIXED, prompts_in_mix
from helpers.number_text import plural
from helpers.prompts.about_dataset import generator_of
from helpers.run.prompt_files import METADATA_KEY, prompt_metadata
from helpers.run.records import PART


def with_mix(tables: dict[str, pa.Table], config: BenchmarkConfig) -> dict[str, pa.Table]:
    """The tables of the datasets, without what of them is in the mix if they are loaded alone too, and that of the mix.

    The column `part` of the mix names the dataset of each prompt; its metadata has `parts`: what of each was asked for, and is
    there.
    """
    shares, (mixed, *_) = config.shares_of_parts(), config.loaded_datasets
    before, tables = sum(map(len, tables.values())), _distinct(tables)
    twice = before - sum(map(len, tables.values()))
    parts = {name: table.slice(0, prompts_in_mix(config, len(table))) for name, table in tables.items()}
    order = spread({name: len(part) for name, part in parts.items()}, shares, generator_of(config, mixed))
    labels = pa.array([name for name, part in parts.items() for _ in range(len(part))], pa.string())
    every = pa.concat_tables([part.replace_schema_metadata() for part in parts.values()])
    every = every.append_column(PART, labels).take(order)
    every = every.set_column(
        every.column_names.index("dataset"), "dataset", pa.array([MIXED] * len(every), pa.string())
    )
    counts = {name: every[PART].to_pylist().count(name) for name in parts}
    about = {
        **prompt_metadata(next(iter(tables.values())).schema),
        "dataset": MIXED,
        "position": len(tables),
        "bin": list(mixed.prompt_tokens),
        "asked": mixed.count,
        "found": len(every),
        "warnings": [f"{plural(twice, 'prompt')} that two datasets share: sent as the first one's alone"]
        if twice
        else [],
        "parts": {name: {"share": shares[name], "prompts": counts[name]} for name in parts},
    }
    if config.load.mix.alone:
        tables = {name: _alone(table, len(parts[name])) for name, table in tables.items()}
    return {**tables, MIXED: _with_metadata(every, about)}


def spread(available: dict[str, int], shares: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """The places, in the tables of all parts one after the other, of the prompts of a mix in the order in which they are sent.

    Prompt j of a part with share s comes at a random moment between j / s and (j + 1) / s, which is where an even spread would
    have it: so any prompts in a row hold the shares to within a few prompts, and yet none foretells the next. The order ends
    where the first part does.
    """
    moments, ends = [], min(count / shares[name] for name, count in available.items())
    for name, count in available.items():
        moments.append((np.arange(count) + rng.random(count)) / shares[name])
    every = np.concatenate(moments)
    order = np.argsort(every, kind="stable")
    return order[every[order] < ends]


def _distinct(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables, each without prompts of an earlier one: bins may overlap."""
    seen: set[str] = set()
    kept = {}
    for name, table in tables.items():
        sent = table["rendered"].to_pylist()
        kept[name] = table.filter(pa.array([prompt not in seen for prompt in sent], pa.bool_()))
        seen.update(sent)
    return kept


def _alone(table: pa.Table, in_mix: int) -> pa.Table:
    about = prompt_metadata(table.schema)
    kept = table.slice(in_mix)
    return _with_metadata(kept, {**about, "asked": about["asked"] - about["asked"] // 2, "found": len(kept)})


def _with_metadata(table: pa.Table, about: dict) -> pa.Table:
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
