"""What the prompt files of a dataset have in common: the generator that draws from its source, ids, and the metadata."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.strict import slug
from helpers.config.workload import Dataset
from helpers.prompts.tokenizers import render_chat
from helpers.prompts.wording import Wording
from helpers.run.prompt_files import SCHEMA_VERSION


def generator_of(config: BenchmarkConfig, dataset: Dataset, what: str = "") -> np.random.Generator:
    """The dataset's own generator, of `what` belongs to it: a dataset that is added at the end of the config changes no other."""
    digest = hashlib.sha256(f"{dataset.name}{what}".encode()).digest()
    return np.random.default_rng([config.seed, int.from_bytes(digest[:8], "big")])


def prompt_id_of(dataset: Dataset, text: str) -> str:
    """The id of a prompt: of its dataset and its text."""
    return f"{slug(dataset.name)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def describe_dataset(
    config: BenchmarkConfig, dataset: Dataset, wording: Wording, found: int, warnings: list[str]
) -> dict[str, Any]:
    """What a reader must know to make the same prompts again."""
    tokenizer = wording.tokenizer
    empty = wording.count([render_chat(tokenizer, "", wording.chat_template)])[0]
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset.name,
        "position": config.datasets.index(dataset),
        "bin": list(dataset.prompt_tokens),
        "asked": dataset.count,
        "found": found,
        "seed": config.seed,
        "source": config.prompts.source.model_dump(mode="json"),
        "template": {"name": wording.template.name, "sha256": wording.template.sha256},
        "tokenizer": config.model.tokenizer,
        "chat_template": wording.chat_template,
        "special_tokens": {
            "counted": True,
            "added_by": "tokenizer" if wording.chat_template == "none" else "chat template",
            "tokens_of_empty_message": empty,
            "bos_token": tokenizer.bos_token,
            "eos_token": tokenizer.eos_token,
        },
        "max_output_tokens": config.generation.max_output_tokens,
        "context_tokens": config.model.context_tokens,
        "warnings": warnings,
    }
