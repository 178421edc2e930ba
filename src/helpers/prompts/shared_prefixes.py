"""Shared beginnings of prompts, as `prompts.prefix` asks. Lengths are in tokens of `model.tokenizer`, of the rendered prompt.

A prompt is: what the chat template puts first, the prefix of its group, an empty line, the salt of the request, and its own
words. All up to the salt is shared; the salt is new in each request, so a cache finds no more, however often a prompt is sent.
Prompts are counted with a salt, as they are sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from pathlib import Path

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.workload import Dataset, PythonReferenceSource
from helpers.errors import PromptError
from helpers.prompts.cutting import MOST_CHARACTERS_PER_TOKEN, cut_at_word
from helpers.prompts.salts import SALT_CHARACTERS
from helpers.prompts.sources import Record, read_records
from helpers.prompts.tokenizers import render_chat, token_ends
from helpers.prompts.wording import PREFIX, Prompt, Wording

HIT_RATE_TOLERANCE = 0.05
_CLOSE_ENOUGH = 0.005
_ROUNDS = 6
_LONGEST_WORD_TOKENS = 5
_SALTS = ("0f3a9c71 ", "c41e07ab ")
"""Two salts that differ from the first character on."""


@dataclass(frozen=True)
class SharedPrompts:
    """The prompts of a dataset, which share their beginnings."""

    prompts: list[Prompt]
    prefix_tokens: list[int]
    """Of each prompt, the tokens that it shares with the others of its group."""

    @property
    def hit_rate(self) -> float:
        """The share of all tokens that a cache which holds the prefixes can serve, if each prompt is sent equally often."""
        return sum(self.prefix_tokens) / sum(prompt.tokens for prompt in self.prompts)


def with_salt_room(allowed: range) -> range:
    """The lengths of a bin, less at both ends by how much the lengths of two salts may differ, where the bin is wide enough."""
    room = min(SALT_CHARACTERS - 4, len(allowed) // 4)
    return range(allowed.start + room, allowed.stop - room)


def with_prefixes(records: list[Record], wording: Wording, prefixes: list[str]) -> tuple[list[Record], Wording]:
    """Records and wording of prompts that begin with these texts, which take turns."""
    turns = (prefixes[i % len(prefixes)] for i in count())
    given = [
        replace(record, columns=record.columns | {PREFIX: prefix})
        for record, prefix in zip(records, turns, strict=False)
    ]
    template = replace(wording.template, pieces=(("", PREFIX), *wording.template.pieces))
    return given, replace(wording, template=template)


def make_shared(
    config: BenchmarkConfig,
    dataset: Dataset,
    allowed: range,
    wording: Wording,
    rng: np.random.Generator,
    make: Callable[[list[str]], list[Prompt]],
) -> SharedPrompts:
    """The prompts of a dataset that `make(prefixes)` gives for prefixes of the length that the config asks; for a hit rate, of
    the length that reaches it. `allowed`: the lengths of the bin. Raises PromptError where the bin is too short.
    """
    asked = config.prompts.prefix
    tokens = asked.tokens or max(1, round(asked.hit_rate * (allowed.start + allowed.stop - 1) / 2))
    passages = _passages(asked.groups, allowed.stop, rng)
    best: SharedPrompts | None = None
    for _ in range(_ROUNDS):
        if tokens >= allowed.stop:
            raise _too_short(config, dataset, allowed, tokens)
        prefixes = [_prefix_of(passage, tokens, wording, config, dataset) for passage in passages]
        prompts = make(prefixes)
        if not prompts:
            raise _too_short(config, dataset, allowed, tokens)
        shared = SharedPrompts(prompts, _shared_tokens(prompts, wording))
        if asked.hit_rate is None:
            return shared
        best = min(best or shared, shared, key=lambda one: abs(one.hit_rate - asked.hit_rate))
        if abs(best.hit_rate - asked.hit_rate) <= _CLOSE_ENOUGH:
            return best
        tokens = max(1, round(asked.hit_rate * sum(prompt.tokens for prompt in prompts) / len(prompts)))
    if abs(best.hit_rate - asked.hit_rate) > HIT_RATE_TOLERANCE:
        raise PromptError(
            f"dataset {dataset.name!r}: prompts.prefix.hit_rate {asked.hit_rate:g} cannot be reached: the prompts found share "
            f"{best.hit_rate:.2f} of their tokens. Expected to come within {HIT_RATE_TOLERANCE}. Next: set prompts.prefix.tokens "
            "instead, or make the bin of prompt_tokens narrower"
        )
    return best


def _too_short(config: BenchmarkConfig, dataset: Dataset, allowed: range, tokens: int) -> PromptError:
    asked = config.prompts.prefix
    key = f"tokens {asked.tokens}" if asked.tokens else f"hit_rate {asked.hit_rate:g}, which takes {tokens} tokens,"
    return PromptError(
        f"dataset {dataset.name!r}: prompts.prefix.{key} leaves no room in prompts of {allowed.start} to {allowed.stop - 1} "
        f"tokens for words of their own and what template {config.prompts.template} adds. Expected a shorter prefix, or longer "
        "prompts. Next: lower it, or raise the dataset's prompt_tokens"
    )


def _passages(groups: int, longest_tokens: int, rng: np.random.Generator) -> list[str]:
    """A text for each group, long enough for any prefix, from the language reference that ships with Python; they differ from
    their first characters on.
    """
    source = PythonReferenceSource(kind="python_reference")
    known = sum(1 for _ in read_records(source, Path(), 1))
    chosen = [int(place) for place in rng.permutation(known)[:groups]]
    long = longest_tokens * MOST_CHARACTERS_PER_TOKEN
    contexts = {
        i: record.columns["context"] for i, record in enumerate(read_records(source, Path(), long)) if i in chosen
    }
    marks = [blake2b(rng.bytes(8), digest_size=4).hexdigest() for _ in range(groups)]
    return [f"{mark} {contexts[chosen[i % len(chosen)]]}" for i, mark in enumerate(marks)]


def _prefix_of(passage: str, tokens: int, wording: Wording, config: BenchmarkConfig, dataset: Dataset) -> str:
    """The beginning of the passage, cut at a word, with which prompts share about that many tokens."""
    ends = token_ends(wording.tokenizer, [passage])[0]
    least = next(
        i for i, end in enumerate(ends, start=1) if end > SALT_CHARACTERS
    )  # the mark is what differs between groups
    budget, found = tokens, {}
    while (budget := min(max(budget, least), len(ends))) not in found and len(found) < _ROUNDS:
        prefix = cut_at_word(passage, ends[budget - 1]) + "\n\n"
        found[budget] = len(_common(prefix, wording)), prefix
        budget += tokens - found[budget][0]
    reached, prefix = min(found.values(), key=lambda one: abs(one[0] - tokens))
    if reached > tokens + _LONGEST_WORD_TOKENS:
        key = "tokens" if config.prompts.prefix.tokens else "hit_rate"
        raise PromptError(
            f"dataset {dataset.name!r}: a prefix of {tokens} tokens, as prompts.prefix.{key} asks, cannot be made. Expected at "
            f"least {reached}, with what the chat template puts first. Next: raise it, or give the dataset longer prompts"
        )
    return prefix


def _common(prefix: str, wording: Wording) -> list[int]:
    """The tokens that two prompts with this prefix share, whatever their salts are."""
    one, other = (_ids(prefix + salt, wording) for salt in _SALTS)
    return one[: common_length(one, other)]


def _shared_tokens(prompts: list[Prompt], wording: Wording) -> list[int]:
    common = lru_cache(maxsize=None)(lambda prefix: _common(prefix, wording))
    return [
        common_length(_ids(prefix + salted_end(prompt, prefix), wording), common(prefix))
        for prompt in prompts
        for prefix in [prompt.record.columns[PREFIX]]
    ]


def salted_end(prompt: Prompt, prefix: str) -> str:
    """The first characters behind the prefix as they are sent."""
    return _SALTS[0] + prompt.text[len(prefix) : len(prefix) + 2 * SALT_CHARACTERS]


def _ids(text: str, wording: Wording) -> list[int]:
    rendered = render_chat(wording.tokenizer, text, wording.chat_template)
    return wording.tokenizer.encode(rendered, add_special_tokens=wording.chat_template == "none")


def common_length(one: list[int], other: list[int]) -> int:
    """Length of the longest common beginning."""
    differs = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))
