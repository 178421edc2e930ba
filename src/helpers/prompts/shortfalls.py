"""What a source could not give of what the config asks: words for errors, warnings and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.mix import prompts_asked_of
from helpers.config.workload import Dataset
from helpers.metrics.sample_size import fewest_prompts_to_decide
from helpers.number_text import plural
from helpers.prompts.sources import Record, describe_source


class SourceSearch:
    """What was read from the source, what of it was left out, and which prompt lengths it gave, for messages."""

    def __init__(self) -> None:
        self.records = self.empty = self.repeated = self.outside = 0
        self.first_empty = ""
        self.text_from: dict[tuple[str, ...], None] = {}
        self.shortest: int | None = None
        self.longest: int | None = None

    def note(self, tokens: Iterable[int]) -> None:
        """Note the lengths of prompts."""
        seen = [*tokens, *(known for known in (self.shortest, self.longest) if known is not None)]
        if seen:
            self.shortest, self.longest = min(seen), max(seen)

    def note_empty(self, record: Record) -> None:
        """Note a record without words to send."""
        self.first_empty = self.first_empty or record.where
        self.empty += 1

    @property
    def left_out(self) -> list[str]:
        """How many records were left out, reason by reason."""
        counts = (
            (self.empty, f"without words to send (the first: {self.first_empty})"),
            (self.repeated, "repeated"),
            (self.outside, "shorter or longer than every dataset asks"),
        )
        return [f"{count:,} {words}" for count, words in counts if count]

    def notes(self, source: str) -> list[str]:
        """What a reader should know of how the source was read; nothing where all is as written."""
        notes = []
        if self.left_out:
            notes.append(f"Left out of the {plural(self.records, 'record')} of {source}: {', '.join(self.left_out)}.")
        if self.text_from:
            keys = "; ".join(", then ".join(f"`{key}`" for key in keys) for keys in list(self.text_from)[:3])
            notes.append(f"The records have no column `text`: it was made from {keys}.")
        return notes

    def __str__(self) -> str:
        said = plural(self.records, "record")
        if self.shortest is not None:
            said += f", which gave prompts of {self.shortest} to {self.longest} tokens"
        return said + (f" (left out: {', '.join(self.left_out)})" if self.left_out else "")


def reachable_bin(config: BenchmarkConfig, dataset: Dataset) -> range:
    """The lengths of the bin that leave room for the output."""
    low, high = dataset.prompt_tokens
    return range(low, min(high, _longest_prompt_tokens(config) + 1))


def _longest_prompt_tokens(config: BenchmarkConfig) -> int:
    return config.model.context_tokens - config.generation.max_output_tokens


def too_few(
    config: BenchmarkConfig, dataset: Dataset, found: int, search: SourceSearch, turns: int | None = None
) -> str | None:
    """What is wrong unless each worker of a closed loop has a first prompt, and a load point enough to be decided.

    `turns`: of all conversations found, each of which is one prompt; None where a prompt is one request.
    """
    highest, fewest = config.load.largest_level(), 0 if config.load.repeat_prompts else fewest_prompts_to_decide(config)
    needed, why = (1, "") if highest.is_open else (int(highest.value), " (the highest concurrency of the load)")
    advice = _advice(config)
    needed, fewest = (prompts_asked_of(config, dataset, prompts) for prompts in (needed, fewest))
    requests = found if turns is None else turns
    if found >= needed and requests < fewest:
        why = ": a load point sends that many before it can be decided (warm-up, what the SLO takes, drain), and none twice"
        if turns is None:
            needed = fewest
        else:
            needed, why = math.ceil(fewest * found / turns), f", with {fewest} turns in all{why}"
        advice += ", set load.repeat_prompts: true, or ask less of `slo`"
    if found >= needed:
        return None
    if search.empty == search.records:
        advice = "give a source whose records hold words" if search.records else "give a source that holds records"
    return (
        f"dataset {dataset.name!r}: {found} prompts of {_bin_text(config, dataset)} tokens found; {dataset.count} "
        f"are asked and {needed} needed{why}. Searched: "
        f"{describe_source(config.prompts.source)} with template {config.prompts.template}, {search}. "
        f"Next: {advice}"
    )


def shortfalls(config: BenchmarkConfig, dataset: Dataset, found: int) -> list[str]:
    """Warnings about lengths that are not made and prompts that were not found."""
    warnings = []
    longest, longest_asked = _longest_prompt_tokens(config), dataset.prompt_tokens[1] - 1
    if longest_asked > longest:
        warnings.append(
            f"dataset {dataset.name!r}: no prompts of {longest + 1} to {longest_asked} tokens are made: with "
            f"generation.max_output_tokens {config.generation.max_output_tokens} they exceed model.context_tokens "
            f"{config.model.context_tokens}"
        )
    if found < dataset.count:
        warnings.append(
            f"dataset {dataset.name!r}: {found} prompts of {_bin_text(config, dataset)} tokens found of the "
            f"{dataset.count} asked, in {describe_source(config.prompts.source)}. "
            f"Next: lower `count`, or {_advice(config)}"
        )
    return warnings


def _bin_text(config: BenchmarkConfig, dataset: Dataset) -> str:
    allowed = reachable_bin(config, dataset)
    return f"{allowed.start} to {allowed.stop - 1}"


def _advice(config: BenchmarkConfig) -> str:
    way_out = "change the dataset's prompt_tokens, or give a source with more or longer records"
    way_out = way_out if config.prompts.prefix is None else f"ask less of prompts.prefix, {way_out}"
    is_whole = config.prompts.source.cut or config.conversations
    return way_out if is_whole else f"{way_out}, or name the column to cut in prompts.source.cut"


def context_warnings(
    config: BenchmarkConfig, dataset: Dataset, tokens: Mapping[str, list[int]], outputs: list[int] | None = None
) -> list[str]:
    """Warnings about prompts that are too long in the tokenizer of an option (tokenizer -> tokens of each prompt). `outputs`:
    asked of each answer, where that is not `generation.max_output_tokens`.
    """
    asked = f"{config.generation.max_output_tokens} output tokens" if outputs is None else "their output tokens"
    warnings = []
    for name, counts in tokens.items():
        most = outputs or [config.generation.max_output_tokens] * len(counts)
        too_long = [n for n, output in zip(counts, most, strict=True) if n + output > config.model.context_tokens]
        if too_long:
            warnings.append(
                f"dataset {dataset.name!r}: {len(too_long)} prompts of up to {max(too_long)} tokens in tokenizer {name} and "
                f"{asked} exceed model.context_tokens {config.model.context_tokens}: options that count with it may refuse them. "
                "Next: lower the dataset's prompt_tokens"
            )
    return warnings
