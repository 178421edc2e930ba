"""Prompts whose length lies in a bin, made from the records of a source.

Lengths are in tokens of `model.tokenizer`, counted over the rendered prompt: template, chat template and special
tokens included. A bin [from, to) includes `from` and excludes `to`. Everything is drawn from the config's seed; each
dataset has a generator of its own, so one that is added at the end of the config changes no other.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig, slug
from helpers.config.workload import Dataset
from helpers.errors import PromptError
from helpers.metrics.sample_size import fewest_prompts_to_decide
from helpers.number_text import plural
from helpers.prompts.sources import Record, describe_source, read_records
from helpers.prompts.templates import Template, load_template
from helpers.prompts.tokenizers import ChatTemplate, count_tokens, load_tokenizer, render_chat, token_ends
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import METADATA_KEY, SCHEMA_VERSION, TOKENS_PREFIX, prompt_metadata, write_prompts
from local_sagemaker.tiny_model import default_cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARACTERS_PER_TOKEN = 5  # what tokenizers reach over an English passage is 3 to 5
_MOST_CHARACTERS_PER_TOKEN = 10
_POOL_RECORDS = 5_000  # records held in memory; of a longer source a seeded sample is taken
_BATCH_RECORDS = 100
_CUT_ROUNDS = 6
_LONGEST_WORD_CHARACTERS = 60  # beyond this a text has no spaces between words, as in Chinese
_BEGINNING_CHARACTERS = 100


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run."""

    tables: dict[str, pa.Table]
    """Dataset -> one row per prompt, in random order; the columns are those of `prompt_files.write_prompts`."""

    def write(self, run: RunFolder) -> list[Path]:
        """Into the run folder: `prompt_files.write_prompts`."""
        return write_prompts(self.tables, run.payloads)

    @property
    def warnings(self) -> list[str]:
        """What the config asks and the source could not give, dataset by dataset."""
        return [warning for table in self.tables.values() for warning in prompt_metadata(table.schema)["warnings"]]

    @property
    def notes(self) -> list[str]:
        """How the source was read, where that is not as written: what was left out, and what `text` was made from."""
        return next(iter(prompt_metadata(table.schema)["notes"] for table in self.tables.values()), [])


@dataclass(frozen=True)
class _Prompt:
    record: Record
    text: str
    rendered: str
    tokens: int


@dataclass(frozen=True)
class _Wording:
    """How a record becomes the prompt that a server reads, and how long that is in a tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    chat_template: ChatTemplate
    template: Template

    def prompts(self, records: list[Record]) -> list[_Prompt]:
        texts = [self.template.fill(record.columns) for record in records]
        rendered = [render_chat(self.tokenizer, text, self.chat_template) for text in texts]
        return [_Prompt(*row) for row in zip(records, texts, rendered, self.count(rendered), strict=True)]

    def count(self, rendered: list[str]) -> list[int]:
        return count_tokens(self.tokenizer, rendered, add_special_tokens=self.chat_template == "none")

    def beginning(self, record: Record) -> str:
        """The first words that differ between prompts: two with the same ones share their start on a server."""
        return "".join(record.columns[column][:_BEGINNING_CHARACTERS] for column in self.template.columns)[
            :_BEGINNING_CHARACTERS
        ]


class _Search:
    """What was read from the source, what of it was left out, and which prompt lengths it gave, for messages."""

    def __init__(self) -> None:
        self.records = self.empty = self.repeated = self.outside = 0
        self.first_empty = ""
        self.text_from: dict[tuple[str, ...], None] = {}
        self.shortest: int | None = None
        self.longest: int | None = None

    def note(self, tokens: Iterable[int]) -> None:
        seen = [*tokens, *(known for known in (self.shortest, self.longest) if known is not None)]
        if seen:
            self.shortest, self.longest = min(seen), max(seen)

    def note_empty(self, record: Record) -> None:
        self.first_empty = self.first_empty or record.where
        self.empty += 1

    @property
    def left_out(self) -> list[str]:
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


class _Pool:
    """Items of the lowest ranks of a stream of unknown length, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._offered = 0
        self._heap: list[tuple[float, int, Record]] = []

    def offer(self, rank: float, record: Record) -> None:
        self._offered += 1
        push = heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
        push(self._heap, (-rank, -self._offered, record))

    def records(self) -> list[Record]:
        """What was kept, in the order of the stream."""
        return [record for _, _, record in sorted(self._heap, key=lambda entry: -entry[1])]


# --- making -------------------------------------------------------------------------------------------------------


def make_prompts(config: BenchmarkConfig, base_dir: Path, model_cache_dir: Path | None = None) -> Prompts:
    """The prompts of every dataset of a config.

    Target lengths are drawn uniformly from the bin and the column `prompts.source.cut` is cut at a word to reach them;
    without it, records are taken as they are, where their length lies in the bin. A prompt that leaves no room for
    `max_output_tokens` in `model.context_tokens` is not made. No prompt comes twice in a dataset, and a record whose
    beginning is in use already, in any dataset, comes last. Relative paths start at `base_dir`; synthetic tokenizers
    are kept under `model_cache_dir`, by default where all runs keep them.

    Raises PromptError if a source, template or tokenizer cannot be read, or a dataset gets no prompt or, in a closed loop,
    fewer than the highest concurrency, or than a load point sends before it can be decided.
    """
    config.require_measured()
    model_cache_dir = model_cache_dir or default_cache_dir()
    template = load_template(config.prompts.template, base_dir)
    tokenizer = load_tokenizer(config.model.tokenizer, model_cache_dir, base_dir)
    wording = _Wording(tokenizer, config.prompts.chat_template, template)
    bins = {dataset.name: _reachable_bin(config, dataset) for dataset in config.datasets}
    search = _Search()
    pools = _fill_pools(config, base_dir, wording, bins, search)
    others = _other_wordings(config, base_dir, model_cache_dir, wording)
    notes = search.notes(describe_source(config.prompts.source))
    used_beginnings: set[str] = set()
    tables: dict[str, pa.Table] = {}
    faults: list[str] = []
    for dataset in config.datasets:
        rng = _generator(config.seed, dataset.name)
        shuffled = [pools[dataset.name][i] for i in rng.permutation(len(pools[dataset.name]))]
        records = _fresh_beginnings_first(shuffled, wording, used_beginnings)
        if config.prompts.source.cut is None:
            candidates = _whole_prompts(records, wording)
        else:
            candidates = _cut_prompts(records, config.prompts.source.cut, bins[dataset.name], wording, rng, search)
        prompts = _take_distinct(candidates, dataset.count)
        used_beginnings.update(wording.beginning(prompt.record) for prompt in prompts)
        if fault := _too_few(config, dataset, len(prompts), search):
            faults.append(fault)
        else:
            tables[dataset.name] = _to_table(config, dataset, prompts, wording, others, notes)
    if faults:
        raise PromptError("\n".join(faults))
    return Prompts(tables)


def _reachable_bin(config: BenchmarkConfig, dataset: Dataset) -> range:
    """The lengths of the bin that leave room for the output."""
    low, high = dataset.prompt_tokens
    return range(low, min(high, _longest_prompt_tokens(config) + 1))


def _longest_prompt_tokens(config: BenchmarkConfig) -> int:
    return config.model.context_tokens - config.generation.max_output_tokens


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _fill_pools(
    config: BenchmarkConfig, base_dir: Path, wording: _Wording, bins: dict[str, range], search: _Search
) -> dict[str, list[Record]]:
    """Dataset -> records that its prompts may be made from, in the order of the source."""
    source, columns = config.prompts.source, wording.template.columns
    if source.cut is not None and source.cut not in columns:
        raise PromptError(
            f"prompts.source.cut {source.cut!r} is not in the template {wording.template.path}, which names "
            f"{', '.join(columns) or 'no column'}. Next: cut one of these, or set `cut: null`"
        )
    longest_passage = max(allowed.stop for allowed in bins.values()) * _MOST_CHARACTERS_PER_TOKEN
    records = _checked(read_records(source, base_dir, longest_passage), wording.template, search)
    size = max(_POOL_RECORDS, 2 * sum(dataset.count for dataset in config.datasets))
    ranks = np.random.default_rng(config.seed)
    if source.cut is None:
        pools = _pool_by_length(records, wording, bins, size, ranks, search)
    else:
        highest_low = max(allowed.start for allowed in bins.values())
        pool = _pool_of_passages(records, source.cut, highest_low, longest_passage, size, ranks)
        pools = dict.fromkeys(bins, pool)
    return pools


def _checked(records: Iterable[Record], template: Template, search: _Search) -> Iterator[Record]:
    """The records that ask something; PromptError for one without a column that the template names."""
    for record in records:
        search.records += 1
        for column in template.columns:
            if column not in record.columns:
                usable = ": user_turn, which takes `text`" if "text" in record.columns else ""
                raise PromptError(
                    f"{template.path}: the template names {{{column}}}, which {record.where} does not have; its "
                    f"columns are {', '.join(sorted(record.columns))}. Next: name one of these, or set prompts.template{usable}"
                )
        if template.columns and not any(record.columns[column].strip() for column in template.columns):
            search.note_empty(record)
            continue
        if record.text_from and "text" in template.columns:
            search.text_from[record.text_from] = None
        yield record


def _pool_of_passages(
    records: Iterable[Record], cut: str, highest_low: int, longest_passage: int, size: int, ranks: np.random.Generator
) -> list[Record]:
    """A sample of records whose column `cut` is clipped to what any bin can need; long ones are kept first."""
    pool = _Pool(size)
    for record in records:
        passage = record.columns[cut]
        is_short = len(passage) < highest_low * _CHARACTERS_PER_TOKEN
        if len(passage) > longest_passage:
            record = replace(record, columns=record.columns | {cut: cut_at_word(passage, longest_passage)})
        pool.offer(is_short + ranks.random(), record)
    return pool.records()


def _pool_by_length(
    records: Iterable[Record],
    wording: _Wording,
    bins: dict[str, range],
    size: int,
    ranks: np.random.Generator,
    search: _Search,
) -> dict[str, list[Record]]:
    """A sample, for each bin, of the records whose natural length lies in it; a repeated prompt counts once."""
    pools, distinct = {name: _Pool(size) for name in bins}, 0
    for prompt in _whole_prompts(records, wording):
        search.note([prompt.tokens])
        rank = ranks.random()
        distinct += 1
        search.outside += not any(prompt.tokens in allowed for allowed in bins.values())
        for name, allowed in bins.items():
            if prompt.tokens in allowed:
                pools[name].offer(rank, prompt.record)
    search.repeated = search.records - search.empty - distinct
    return {name: pool.records() for name, pool in pools.items()}


def _fresh_beginnings_first(records: list[Record], wording: _Wording, used: set[str]) -> list[Record]:
    """The records in their order, those after which no prompt of the run begins yet before the others."""
    seen = set(used)
    fresh: list[Record] = []
    shared: list[Record] = []
    for record in records:
        beginning = wording.beginning(record)
        (shared if beginning in seen else fresh).append(record)
        seen.add(beginning)
    return fresh + shared


def _whole_prompts(records: Iterable[Record], wording: _Wording) -> Iterator[_Prompt]:
    """The prompts of records as they are, without repeats."""
    for batch in _batches(_without_repeats(records, wording.template)):
        yield from wording.prompts(batch)


def _without_repeats(records: Iterable[Record], template: Template) -> Iterator[Record]:
    seen: set[bytes] = set()
    for record in records:
        digest = hashlib.sha256(template.fill(record.columns).encode()).digest()
        if digest not in seen:
            seen.add(digest)
            yield record


def _cut_prompts(
    records: list[Record], cut: str, allowed: range, wording: _Wording, rng: np.random.Generator, search: _Search
) -> Iterator[_Prompt]:
    """Prompts of the records, in their order, with column `cut` cut so that the length lies in the bin.

    The target is uniform over the part of the bin that the template leaves. What cannot be fitted is left out.
    """
    for batch in _batches(records):
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
    wording: _Wording,
    search: _Search,
) -> list[_Prompt]:
    """The prompts that could be brought into the bin. `fixed`: tokens of each prompt without the passage."""
    budgets = [target - tokens for target, tokens in zip(targets, fixed, strict=True)]
    ends = _ends_of_first_tokens([record.columns[cut] for record in records], budgets, wording.tokenizer)
    pending = [i for i in range(len(records)) if ends[i]]
    fitted: dict[int, _Prompt] = {}
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
    """Where the tokens of each passage end, for at least so many tokens as its budget; fewer where it has no more."""
    lengths = [budget * _CHARACTERS_PER_TOKEN for budget in budgets]
    ends = token_ends(tokenizer, [passage[:length] for passage, length in zip(passages, lengths, strict=True)])
    missing = [i for i, budget in enumerate(budgets) if len(ends[i]) < budget and lengths[i] < len(passages[i])]
    longer = token_ends(tokenizer, [passages[i][: budgets[i] * _MOST_CHARACTERS_PER_TOKEN] for i in missing])
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


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, _BATCH_RECORDS)):
        yield batch


def _take_distinct(prompts: Iterable[_Prompt], count: int) -> list[_Prompt]:
    taken: dict[str, _Prompt] = {}
    for prompt in prompts:
        taken.setdefault(prompt.text, prompt)
        if len(taken) == count:
            break
    return list(taken.values())


# --- what was asked and could not be given ------------------------------------------------------------------------


def _too_few(config: BenchmarkConfig, dataset: Dataset, found: int, search: _Search) -> str | None:
    """What is wrong unless every worker of a closed loop has a prompt to begin with, and a load point enough to be decided."""
    highest, fewest = config.load.largest_level(), 0 if config.load.repeat_prompts else fewest_prompts_to_decide(config)
    needed, why = (1, "") if highest.is_open else (int(highest.value), " (the highest concurrency of the load)")
    advice = _advice(config)
    if found >= needed and found < fewest:
        needed, why = (
            fewest,
            (
                ": a load point sends that many before it can be decided (warm-up, what the SLO takes, drain), and none twice"
            ),
        )
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


def _warnings(config: BenchmarkConfig, dataset: Dataset, found: int) -> list[str]:
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
    allowed = _reachable_bin(config, dataset)
    return f"{allowed.start} to {allowed.stop - 1}"


def _advice(config: BenchmarkConfig) -> str:
    way_out = "change the dataset's prompt_tokens, or give a source with more or longer records"
    return way_out if config.prompts.source.cut else f"{way_out}, or name the column to cut in prompts.source.cut"


# --- tokens of options with their own tokenizer -------------------------------------------------------------------


def _other_wordings(
    config: BenchmarkConfig, base_dir: Path, model_cache_dir: Path, wording: _Wording
) -> dict[str, tuple[_Wording, bool]]:
    """Tokenizer -> (wording, whether the server applies its own chat template), for all but the model's tokenizer.

    A server behind a raw-text API reads the prompt as the model's tokenizer rendered it; a chat API renders it itself.
    """
    others: dict[str, tuple[_Wording, bool]] = {}
    for option in config.options:
        name = config.tokenizer_of(option)
        if name != config.model.tokenizer:
            if name not in others:
                tokenizer = load_tokenizer(name, model_cache_dir, base_dir)
                others[name] = replace(wording, tokenizer=tokenizer), False
            other, renders_itself = others[name]
            others[name] = other, renders_itself or option.server_renders
    return others


def _count_in(other: _Wording, renders_itself: bool, prompts: list[_Prompt], as_sent: list[str]) -> list[int]:
    if renders_itself:
        return other.count([render_chat(other.tokenizer, prompt.text, other.chat_template) for prompt in prompts])
    return other.count(as_sent)


def _context_warnings(config: BenchmarkConfig, dataset: Dataset, tokens: Mapping[str, list[int]]) -> list[str]:
    longest = _longest_prompt_tokens(config)
    return [
        f"dataset {dataset.name!r}: {sum(n > longest for n in counts)} prompts of up to {max(counts)} tokens in "
        f"tokenizer {name} and {config.generation.max_output_tokens} output tokens exceed model.context_tokens "
        f"{config.model.context_tokens}: options that count with it may refuse them. "
        "Next: lower the dataset's prompt_tokens"
        for name, counts in tokens.items()
        if max(counts) > longest
    ]


# --- tables and their metadata ------------------------------------------------------------------------------------


def _to_table(
    config: BenchmarkConfig,
    dataset: Dataset,
    prompts: list[_Prompt],
    wording: _Wording,
    others: Mapping[str, tuple[_Wording, bool]],
    notes: list[str],
) -> pa.Table:
    as_sent = [_as_sent(prompt.rendered, wording) for prompt in prompts]
    other_tokens = {name: _count_in(other, chats, prompts, as_sent) for name, (other, chats) in others.items()}
    warnings = _warnings(config, dataset, len(prompts)) + _context_warnings(config, dataset, other_tokens)
    columns = {
        "prompt_id": pa.array([_prompt_id(dataset, prompt.text) for prompt in prompts], pa.string()),
        "dataset": pa.array([dataset.name] * len(prompts), pa.string()),
        "text": pa.array([prompt.text for prompt in prompts], pa.string()),
        "rendered": pa.array(as_sent, pa.string()),
        "prompt_tokens": pa.array([prompt.tokens for prompt in prompts], pa.int64()),
        "answer": pa.array([prompt.record.answer for prompt in prompts], pa.string()),
        "record_id": pa.array([prompt.record.record_id for prompt in prompts], pa.string()),
    }
    columns |= {f"{TOKENS_PREFIX}{name}": pa.array(tokens, pa.int64()) for name, tokens in other_tokens.items()}
    metadata = _describe(config, dataset, wording, len(prompts), warnings) | {"notes": notes}
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()})


def _as_sent(rendered: str, wording: _Wording) -> str:
    """The prompt for raw-text APIs, without the BOS that the chat template wrote where the server adds one itself."""
    tokenizer = wording.tokenizer
    adds_bos = tokenizer.bos_token is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return rendered.removeprefix(tokenizer.bos_token) if adds_bos else rendered


def _prompt_id(dataset: Dataset, text: str) -> str:
    return f"{slug(dataset.name)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _describe(
    config: BenchmarkConfig, dataset: Dataset, wording: _Wording, found: int, warnings: list[str]
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
