"""Cuts a column of records so that the length of the prompt lies in a bin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from helpers.prompts.shortfalls import SourceSearch
from helpers.prompts.sources import Record
from helpers.prompts.tokenizers import token_ends
from helpers.prompts.wording import Prompt, Wording, batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CHARACTERS_PER_TOKEN = 5  # what tokenizers reach over an English passage is 3 to 5
MOST_CHARACTERS_PER_TOKEN = 10
_CUT_ROUNDS = 6
_LONGEST_WORD_CHARACTERS = 60  # beyond this a text has no spaces between words, as in Chinese


def cut_prompts(
    records: list[Record], cut: str, allowed: range, wording: Wording, rng: np.random.Generator, search: SourceSearch
) -> Iterator[Prompt]:
    """Prompts of the records, in their order, with column `cut` cut so that the length lies in the bin.

    The target is uniform over the part of the bin that the template leaves. What cannot be fitted is left out.
    """
    for batch in batches(records):
        fixed = [prompt.tokens for prompt in wording.prompts([_with(record, cut, "") for record in batch])]
        search.note(fixed)
        lows = [max(allowed.start, tokens + 1) for tokens in fixed]
        shares = rng.random(len(batch))
        targets = [low + int(share * (allowed.stop - low)) for low, share in zip(lows, shares, strict=True)]
        cuttable = [i for i in range(len(batch)) if lows[i] < allowed.stop]
        fitted = _fit(
            [batch[i] for i in cuttable],
            cut,
            [fixed[i] for i in cuttable],
            [targets[i] for i in cuttable],
            allowed,
            wording,
            search,
        )
        yield from fitted


def _fit(
    records: list[Record],
    cut: str,
    fixed: list[int],
    targets: list[int],
    allowed: range,
    wording: Wording,
    search: SourceSearch,
) -> list[Prompt]:
    """The prompts that could be brought into the bin. `fixed`: tokens of each prompt without the passage."""
    budgets = [target - tokens for target, tokens in zip(targets, fixed, strict=True)]
    ends = _ends_of_first_tokens([record.columns[cut] for record in records], budgets, wording.tokenizer)
    pending = [i for i in range(len(records)) if ends[i]]
    fitted: dict[int, Prompt] = {}
    for _ in range(_CUT_ROUNDS):
        budgets = [min(max(budget, 1), len(ends[i])) for i, budget in enumerate(budgets)]
        passages = {i: cut_at_word(records[i].columns[cut], ends[i][budgets[i] - 1]) for i in pending}
        prompts = wording.prompts([_with(records[i], cut, passages[i]) for i in pending])
        misses = []
        for i, prompt in zip(pending, prompts, strict=True):
            search.note([prompt.tokens])
            if prompt.tokens in allowed and passages[i]:
                fitted[i] = replace(prompt, record=records[i])
            elif prompt.tokens > targets[i] or budgets[i] < len(ends[i]):
                budgets[i] += targets[i] - prompt.tokens or 1
                misses.append(i)
        pending = misses
    return [fitted[i] for i in sorted(fitted)]


def _ends_of_first_tokens(
    passages: list[str], budgets: list[int], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Where the tokens of each passage end, for at least as many tokens as its budget; fewer where it has no more."""
    lengths = [budget * CHARACTERS_PER_TOKEN for budget in budgets]
    ends = token_ends(tokenizer, [passage[:length] for passage, length in zip(passages, lengths, strict=True)])
    missing = [i for i, budget in enumerate(budgets) if len(ends[i]) < budget and lengths[i] < len(passages[i])]
    longer = token_ends(tokenizer, [passages[i][: budgets[i] * MOST_CHARACTERS_PER_TOKEN] for i in missing])
    for i, found in zip(missing, longer, strict=True):
        ends[i] = found
    return ends


def cut_at_word(text: str, end: int) -> str:
    """`text` up to `end` at most, without a broken last word; a text without spaces is cut at `end` itself."""
    if end >= len(text):
        return text
    head = text[:end]
    if text[end].isspace() or not head or head[-1].isspace():
        return head.rstrip()
    shorter = head.rsplit(maxsplit=1)[0] if any(map(str.isspace, head)) else ""
    return shorter if len(head) - len(shorter) <= _LONGEST_WORD_CHARACTERS else head


def _with(record: Record, column: str, text: str) -> Record:
    return replace(record, columns=record.columns | {column: text})
