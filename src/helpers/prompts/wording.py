"""How records are worded as prompts, and how long those are in a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from helpers.config.benchmark import BenchmarkConfig
from helpers.prompts.salts import salt_of, salted_prompt
from helpers.prompts.sources import Record
from helpers.prompts.templates import Template
from helpers.prompts.tokenizers import ChatTemplate, count_tokens, load_tokenizer, render_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


PREFIX = "\0prefix"
"""The column that holds the shared beginning of a record's prompt, where it has one; no source can name it."""
Item = TypeVar("Item")
_BATCH_RECORDS = 100
_BEGINNING_CHARACTERS = 100


@dataclass(frozen=True)
class Prompt:
    """A record as a prompt, and its length in tokens of the model's tokenizer."""

    record: Record
    text: str
    rendered: str
    tokens: int


@dataclass(frozen=True)
class Wording:
    """How a record becomes the prompt that a server reads, and how long that is in a tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    chat_template: ChatTemplate
    template: Template

    def prompts(self, records: list[Record]) -> list[Prompt]:
        """One prompt per record."""
        texts = [self.template.fill(record.columns) for record in records]
        rendered = [render_chat(self.tokenizer, text, self.chat_template) for text in texts]
        made = [Prompt(*row, 0) for row in zip(records, texts, rendered, strict=True)]
        tokens = self.count([as_counted(prompt).rendered for prompt in made])
        return [replace(prompt, tokens=n) for prompt, n in zip(made, tokens, strict=True)]

    def count(self, rendered: list[str]) -> list[int]:
        """Tokens of each rendered prompt, special tokens included."""
        return count_tokens(self.tokenizer, rendered, add_special_tokens=self.chat_template == "none")

    def beginning(self, record: Record) -> str:
        """The first words that differ between prompts: two with the same ones share their start on a server."""
        return "".join(record.columns[column][:_BEGINNING_CHARACTERS] for column in self.template.columns)[
            :_BEGINNING_CHARACTERS
        ]


def as_counted(prompt: Prompt) -> Prompt:
    """The prompt with a salt behind its prefix, as each request has one of its own; without a prefix as it is."""
    if (prefix := prompt.record.columns.get(PREFIX)) is None:
        return prompt
    text, rendered = salted_prompt(prompt.text, prompt.rendered, salt_of(prompt.text), len(prefix))
    return replace(prompt, text=text, rendered=rendered)


def other_wordings(
    config: BenchmarkConfig, base_dir: Path, model_cache_dir: Path, wording: Wording
) -> dict[str, tuple[Wording, bool]]:
    """Tokenizer -> (wording, whether the server applies its own chat template), for all but the model's tokenizer.

    A server behind a raw-text API reads the prompt as the model's tokenizer rendered it; a chat API renders it itself.
    """
    others: dict[str, tuple[Wording, bool]] = {}
    for option in config.options:
        name = config.tokenizer_of(option)
        if name != config.model.tokenizer:
            if name not in others:
                tokenizer = load_tokenizer(name, model_cache_dir, base_dir)
                others[name] = replace(wording, tokenizer=tokenizer), False
            other, renders_itself = others[name]
            others[name] = other, renders_itself or option.server_renders
    return others


def count_in(other: Wording, renders_itself: bool, prompts: list[Prompt], as_sent: list[str]) -> list[int]:
    """Tokens of each prompt in another tokenizer; `as_sent` is what raw-text APIs send."""
    if renders_itself:
        return other.count([render_chat(other.tokenizer, prompt.text, other.chat_template) for prompt in prompts])
    return other.count(as_sent)


def as_sent(rendered: str, wording: Wording) -> str:
    """The prompt for raw-text APIs, without the BOS that the chat template wrote where the server adds one itself."""
    tokenizer = wording.tokenizer
    adds_bos = tokenizer.bos_token is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return rendered.removeprefix(tokenizer.bos_token) if adds_bos else rendered


def whole_prompts(records: Iterable[Record], wording: Wording) -> Iterator[Prompt]:
    """The prompts of unchanged records, without repeats."""
    for batch in batches(_without_repeats(records, wording.template)):
        yield from wording.prompts(batch)


def _without_repeats(records: Iterable[Record], template: Template) -> Iterator[Record]:
    seen: set[bytes] = set()
    for record in records:
        digest = hashlib.sha256(template.fill(record.columns).encode()).digest()
        if digest not in seen:
            seen.add(digest)
            yield record


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items, at most 100 at a time."""
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH_RECORDS)):
        yield batch
