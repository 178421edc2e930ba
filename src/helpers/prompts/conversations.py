"""Conversations of several user turns, made from the records of a source, whose longest context lies in a bin.

What is sent of a record: its system message, then the turns of user and assistant in their order. What an assistant says before
the user's first turn is left out; turns of one speaker in a row are joined by an empty line; the conversation ends before a
turn of the user without words or of anybody else (a tool, say), and with recorded history after a turn without a reply.

The length of a turn is that of its whole prompt: chat template, system message and history. Of a history that the server is yet
to answer each answer counts as `max_output_tokens`. A conversation is cut before the turn that would leave the bin at its upper
end, or leave no room for the output; its last turn lies in the bin.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.workload import Conversations, Dataset, bin_of
from helpers.errors import PromptError
from helpers.number_text import plural
from helpers.prompts.about_dataset import describe_dataset, generator_of, prompt_id_of
from helpers.prompts.record_shapes import HUMAN_SPEAKERS, MODEL_SPEAKERS
from helpers.prompts.shortfalls import SourceSearch, context_warnings, reachable_bin, shortfalls, too_few
from helpers.prompts.sources import conversations_of_file, describe_source
from helpers.prompts.templates import load_template
from helpers.prompts.tokenizers import count_tokens, load_tokenizer, render_messages
from helpers.prompts.wording import Wording, other_wordings
from helpers.run.prompt_columns import CONVERSATION, TURNS_PREFIX
from helpers.run.prompt_files import METADATA_KEY, TOKENS_PREFIX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM_SPEAKERS = frozenset({"system", "developer"})
_POOL_RECORDS = 5_000


class Turn(NamedTuple):
    """What a user says, and the reply that the record holds; None if it holds none."""

    user: str
    reply: str | None


@dataclass(frozen=True)
class Conversation:
    """What is sent of a record."""

    record_id: str
    system: str
    """Empty if there is none."""
    turns: tuple[Turn, ...]

    def messages(self, turn: int, answered: bool) -> list[dict[str, str]]:
        """The messages of a turn, from 1; replies are empty where the server is yet to answer them."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        for user, reply in self.turns[: turn - 1]:
            said.append({"role": "user", "content": user})
            said.append({"role": "assistant", "content": "" if answered else reply})
        return [*said, {"role": "user", "content": self.turns[turn - 1].user}]


@dataclass
class Reading:
    """How records were read, where that is not as written."""

    counts: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """One sentence for each kind."""
        return [f"{plural(count, 'conversation')} {words}." for words, count in self.counts.items()]


def conversation_of(record_id: str, said: list[tuple[str, str]], reading: Reading) -> Conversation:
    """The conversation of a record, from (speaker, words) of its turns; without turns where it asks nothing."""
    place = next((i for i, (speaker, _) in enumerate(said) if speaker not in SYSTEM_SPEAKERS), len(said))
    system = "\n\n".join(words for _, words in said[:place] if words.strip())
    first = next((i for i, (speaker, _) in enumerate(said) if i >= place and speaker not in MODEL_SPEAKERS), len(said))
    if first > place:
        reading.counts["began with the assistant, whose words before the user's first turn are not sent"] += 1
    turns: list[list[str]] = []
    is_joined = False
    for speaker, words in said[first:]:
        if speaker in HUMAN_SPEAKERS and words.strip():
            if turns and len(turns[-1]) == 1:
                turns[-1][0] += f"\n\n{words}"
                is_joined = True
            else:
                turns.append([words])
        elif speaker in MODEL_SPEAKERS and turns:
            is_joined |= len(turns[-1]) > 1
            turns[-1].append(words)
        else:
            reading.counts["ended before a turn without words, or of neither user nor assistant"] += 1
            break
    if is_joined:
        reading.counts["had several turns of one speaker in a row, which are joined by an empty line"] += 1
    joined = (Turn(user, "\n\n".join(r for r in replies if r.strip()) or None) for user, *replies in turns)
    return Conversation(record_id, system, tuple(joined))


class _Fitted(NamedTuple):
    """A conversation as far as it fits a bin, with the prompt tokens of each of its turns."""

    conversation: Conversation
    tokens: list[int]
    rendered: str
    """Its last turn."""
    is_cut: bool


def make_conversations(config: BenchmarkConfig, base_dir: Path, model_cache_dir: Path) -> dict[str, pa.Table]:
    """Dataset -> one row per conversation, in random order: see `prompt_files.write_prompts`.

    Raises PromptError as `make_prompts` does.
    """
    tokenizer = load_tokenizer(config.model.tokenizer, model_cache_dir, base_dir)
    wording = Wording(tokenizer, "model", load_template("user_turn", base_dir))
    others = other_wordings(config, base_dir, model_cache_dir, wording)
    search, reading = SourceSearch(), Reading()
    pool = _sample(_read(config, base_dir, search, reading), config)
    used: set[int] = set()
    taken: dict[str, list[_Fitted]] = {}
    faults = []
    for dataset in config.datasets:
        order = generator_of(config, dataset).permutation(len(pool)).tolist()
        order.sort(key=used.__contains__)  # those of an earlier dataset come last
        found: dict[str, tuple[int, _Fitted]] = {}
        for place in order:
            if len(found) == dataset.count:
                break
            fitted = _fit(pool[place], config, dataset, tokenizer)
            search.note(fitted.tokens if fitted else [])
            if fitted is not None:
                found.setdefault(fitted.rendered, (place, fitted))
        used.update(place for place, _ in found.values())
        fitted = [one for _, one in found.values()]
        if fault := too_few(config, dataset, len(fitted), search, sum(len(one.tokens) for one in fitted)):
            faults.append(fault)
        taken[dataset.name] = fitted
    if faults:
        raise PromptError("\n".join(faults))
    cuts = [(sum(one.is_cut for one in fitted), name) for name, fitted in taken.items()]
    notes = [
        *search.notes(describe_source(config.prompts.source)),
        *reading.notes(),
        _how_counted(config),
        *(
            f"{plural(cut, 'conversation')} of {name} cut before a turn that would be too long."
            for cut, name in cuts
            if cut
        ),
    ]
    return {
        dataset.name: _to_table(config, dataset, taken[dataset.name], wording, others, notes)
        for dataset in config.datasets
    }


def _how_counted(config: BenchmarkConfig) -> str:
    how = "as recorded"
    if config.conversations.history == "answered":
        how = f"each answer in it counted as {config.generation.max_output_tokens} tokens"
    return f"Each prompt is a conversation, sent turn by turn; its tokens are those of its last turn with the history, {how}."


def _read(config: BenchmarkConfig, base_dir: Path, search: SourceSearch, reading: Reading) -> Iterator[Conversation]:
    for record_id, where, said in conversations_of_file(config.prompts.source, base_dir):
        search.records += 1
        conversation = conversation_of(record_id, said, reading)
        if conversation.turns:
            yield conversation
        else:
            search.empty += 1
            search.first_empty = search.first_empty or where


def _sample(conversations: Iterable[Conversation], config: BenchmarkConfig) -> list[Conversation]:
    """All of them, or where there are many a seeded sample (algorithm R of Vitter, 1985)."""
    size = max(_POOL_RECORDS, 2 * sum(dataset.count for dataset in config.datasets))
    rng, kept = np.random.default_rng(config.seed), []
    for i, conversation in enumerate(conversations):
        if len(kept) < size:
            kept.append(conversation)
        elif (place := int(rng.integers(i + 1))) < size:
            kept[place] = conversation
    return kept


def _fit(
    conversation: Conversation, config: BenchmarkConfig, dataset: Dataset, tokenizer: PreTrainedTokenizerBase
) -> _Fitted | None:
    """The conversation as far as it fits the bin; None where its last turn that does is too short."""
    allowed, settings = reachable_bin(config, dataset), config.conversations
    turns = _possible_turns(conversation, settings)
    rendered, tokens = _lengths(conversation, turns, config, tokenizer)
    fits = next((i for i, length in enumerate(tokens) if length >= allowed.stop), turns)
    if fits == 0 or tokens[fits - 1] < allowed.start:
        return None
    kept = Conversation(conversation.record_id, conversation.system, conversation.turns[:fits])
    return _Fitted(kept, tokens[:fits], rendered[fits - 1], fits < turns)


def _possible_turns(conversation: Conversation, settings: Conversations) -> int:
    turns = len(conversation.turns)
    if settings.history == "recorded":
        turns = next((i for i, turn in enumerate(conversation.turns, 1) if turn.reply is None), turns)
    return min(turns, settings.max_turns or turns)


def _lengths(
    conversation: Conversation, turns: int, config: BenchmarkConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[str], list[int]]:
    """Each turn as the model reads it, and its length."""
    answered = config.conversations.history == "answered"
    rendered = [render_messages(tokenizer, conversation.messages(turn, answered)) for turn in range(1, turns + 1)]
    each = config.generation.max_output_tokens if answered else 0
    counts = count_tokens(tokenizer, rendered, add_special_tokens=False)
    return rendered, [count + i * each for i, count in enumerate(counts)]


def _to_table(
    config: BenchmarkConfig,
    dataset: Dataset,
    fitted: list[_Fitted],
    wording: Wording,
    others: dict[str, tuple[Wording, bool]],
    notes: list[str],
) -> pa.Table:
    by_tokenizer = {"prompt_tokens": [one.tokens for one in fitted]}
    for name, (other, _) in others.items():
        lengths = [_lengths(one.conversation, len(one.tokens), config, other.tokenizer)[1] for one in fitted]
        by_tokenizer[f"{TOKENS_PREFIX}{name}"] = lengths
    last = {name: [lengths[-1] for lengths in of_all] for name, of_all in by_tokenizer.items()}
    others_last = {name.removeprefix(TOKENS_PREFIX): counts for name, counts in last.items() if name != "prompt_tokens"}
    warnings = shortfalls(config, dataset, len(fitted)) + context_warnings(config, dataset, others_last)
    planned = Counter(bin_of(tokens, dataset.bins) for one in fitted for tokens in one.tokens) if dataset.bins else {}
    warnings += [
        f"dataset {dataset.name!r}: no turn is planned in its bin {each.name!r} of {each.prompt_tokens[0]} to "
        f"{each.prompt_tokens[1] - 1} prompt tokens, and without one no option can be shown to meet the SLO there. Next: change "
        "`bins`, or give a source with other conversations"
        for each in dataset.bins or ()
        if not planned[each.name]
    ]
    columns = {
        "prompt_id": [prompt_id_of(dataset, one.rendered) for one in fitted],
        "dataset": [dataset.name] * len(fitted),
        "text": [one.conversation.turns[0].user for one in fitted],
        "rendered": [one.rendered for one in fitted],
        "answer": [None] * len(fitted),
        "record_id": [one.conversation.record_id for one in fitted],
        CONVERSATION: [_as_json(one.conversation) for one in fitted],
    }
    table = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    table |= {name: pa.array(counts, pa.int64()) for name, counts in last.items()}
    table |= {f"{TURNS_PREFIX}{name}": pa.array(of_all, pa.list_(pa.int64())) for name, of_all in by_tokenizer.items()}
    metadata = describe_dataset(config, dataset, wording, len(fitted), warnings) | {
        "notes": notes,
        "conversations": config.conversations.model_dump(mode="json"),
        "turns_mean": float(np.mean([len(one.tokens) for one in fitted])),
        "turns_of_bins": planned,
    }
    return pa.table(table).replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()})


def _as_json(conversation: Conversation) -> str:
    return json.dumps({"system": conversation.system, "turns": conversation.turns}, ensure_ascii=False)
