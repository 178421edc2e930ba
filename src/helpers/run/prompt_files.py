"""The files that hold a run's prompts: one Parquet file per dataset, whose metadata says how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from helpers.config.strict import slug
from helpers.errors import RunFolderError
from helpers.run.holding import holding
from helpers.run.whole_files import damage_in_words, write_parquet

SCHEMA_VERSION = 1
METADATA_KEY = b"serving_verdict"
IF_DAMAGED = "restore it from a copy, or start a new run: other prompts would be other measurements"
TOKENS_PREFIX = "tokens:"
"""Columns `tokens:<tokenizer>` hold the prompt tokens in the tokenizers of options that have their own."""
ARRIVAL = "arrival_ns"
"""The column of prompts that are those of a trace, in the order of its requests: when each came, since the first of them."""

SAMPLE_CHARACTERS = 160


def prompt_metadata(schema: pa.Schema) -> dict[str, Any]:
    """What the metadata of a prompt table says of it."""
    return json.loads(schema.metadata[METADATA_KEY])


def write_prompts(tables: Mapping[str, pa.Table], payload_dir: Path) -> list[Path]:
    """Write one Parquet file per dataset, `<slug>.parquet`, each whole or not at all; returns their paths.

    `tables` maps datasets to prompts, as made by `prompts.make_prompts`. Columns: `prompt_id` (dataset slug and a hash
    of the text), `dataset`, `text` (the user message), `rendered` (what raw-text APIs send), `prompt_tokens`, `answer`
    (or null), `record_id`, `tokens:<tokenizer>` for each tokenizer of an option that has its own, and for prompts of a
    trace `arrival_ns` and `asked_output_tokens`; of conversations those of `prompt_columns` too. With `prompts.prefix` also
    `prefix_characters` of the text and `prefix_tokens` of the rendered prompt, which are shared; a salt follows when it is sent.
    The file metadata says how they were made.
    """
    payload_dir.mkdir(parents=True, exist_ok=True)
    with holding(payload_dir.parent, "notebook 01"):
        files = {payload_dir / f"{slug(name)}.parquet": table for name, table in tables.items()}
        for path, table in files.items():
            write_parquet(path, table)
    return list(files)


def read_prompts(payload_dir: Path, dataset_name: str) -> pd.DataFrame:
    """The prompts of one dataset, with the columns of `write_prompts`. RunFolderError if they were not made."""
    path = payload_dir / f"{slug(dataset_name)}.parquet"
    if not path.is_file():
        raise RunFolderError(f"{path}: no prompts of dataset {dataset_name!r}. Next: run the notebook 01_generate_data")
    with damage_in_words(path, IF_DAMAGED):
        return pq.read_table(path).to_pandas()


def are_of_a_trace(file: Path) -> bool:
    """Are the prompts of a file those of a trace's requests, in its order?"""
    return ARRIVAL in pq.read_schema(file).names


def smallest_share_of_turns(payload_dir: Path, dataset_name: str) -> float:
    """Share of the turns of conversations that are planned in the bin which has the fewest; 1 without bins."""
    file = payload_dir / f"{slug(dataset_name)}.parquet"
    turns = prompt_metadata(pq.read_schema(file)).get("turns_of_bins") if file.is_file() else None
    return min(turns.values()) / sum(turns.values()) if turns else 1.0


def read_all_prompts(payload_dir: Path) -> pd.DataFrame:
    """The prompts of all datasets, under each other: dataset and prompt_tokens."""
    return pd.concat(
        [pd.read_parquet(path, columns=["dataset", "prompt_tokens"]) for path in _payload_files(payload_dir)]
    )


def read_prompt_warnings(payload_dir: Path) -> list[str]:
    """The warnings of all datasets, in the order of the config; none for a run without prompts."""
    files = _in_order(payload_dir)
    return [warning for path in files for warning in prompt_metadata(pq.read_schema(path))["warnings"]]


def read_prompt_notes(payload_dir: Path) -> list[str]:
    """How the source was read, where that is not as written; the same for all datasets."""
    return next((prompt_metadata(pq.read_schema(path)).get("notes", []) for path in _in_order(payload_dir)), [])


def read_trace_notes(payload_dir: Path) -> list[str]:
    """How prompts were made of a trace's requests; none where they were not."""
    return read_prompt_notes(payload_dir) if any(map(are_of_a_trace, payload_dir.glob("*.parquet"))) else []


def summarise_prompts(payload_dir: Path) -> pd.DataFrame:
    """One row per dataset, in the order of the config.

    Columns: `dataset`, `asked` and `made` (prompts), `min_prompt_tokens`, `median_prompt_tokens`, `max_prompt_tokens`,
    `has_answers` (whether any prompt has one).
    """
    rows = []
    for path in _payload_files(payload_dir):
        table = pq.read_table(path, columns=["prompt_tokens", "answer"])
        tokens, about = table["prompt_tokens"].to_numpy(), prompt_metadata(table.schema)
        rows.append(
            {
                "dataset": about["dataset"],
                "asked": about["asked"],
                "made": len(tokens),
                "min_prompt_tokens": int(tokens.min()),
                "median_prompt_tokens": float(np.median(tokens)),
                "max_prompt_tokens": int(tokens.max()),
                "has_answers": table["answer"].null_count < len(tokens),
            }
        )
    return pd.DataFrame(rows)


def sample_prompts(payload_dir: Path, rows: int, seed: int) -> pd.DataFrame:
    """`rows` prompts drawn at random, spread evenly over the datasets: `dataset`, `prompt_tokens`, `beginning`."""
    files = _payload_files(payload_dir)
    rng = np.random.default_rng(seed)
    samples = []
    for i, path in enumerate(files):
        table = pq.read_table(path, columns=["dataset", "prompt_tokens", "text"])
        wanted = rows // len(files) + (i < rows % len(files))
        picked = table.take(np.sort(rng.permutation(len(table))[:wanted]))
        beginnings = pc.utf8_slice_codeunits(picked["text"], 0, SAMPLE_CHARACTERS)
        samples.append(picked.drop_columns("text").append_column("beginning", beginnings).replace_schema_metadata())
    return pa.concat_tables(samples).to_pandas()


def _payload_files(payload_dir: Path) -> list[Path]:
    """The files of `write_prompts`, in the order of the config."""
    files = _in_order(payload_dir)
    if not files:
        raise RunFolderError(f"{payload_dir}: no prompts. Next: run the notebook 01_generate_data")
    return files


def _in_order(payload_dir: Path) -> list[Path]:
    return sorted(payload_dir.glob("*.parquet"), key=_position)


def _position(path: Path) -> int:
    with damage_in_words(path, IF_DAMAGED):
        return prompt_metadata(pq.read_schema(path))["position"]
