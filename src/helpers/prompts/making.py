"""Prompts whose length lies in a bin, made from the records of a source.

Lengths are in tokens of `model.tokenizer`, counted over the rendered prompt: template, chat template and special
tokens included. A bin [from, to) includes `from` and excludes `to`. Everything is drawn from the config's seed; each
dataset has its own generator, so one that is added at the end of the config changes no other.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.workload import Dataset
from helpers.errors import PromptError
from helpers.prompts.about_dataset import describe_dataset, generator_of, prompt_id_of
from helpers.prompts.conversations import make_conversations
from helpers.prompts.cutting import CHARACTERS_PER_TOKEN, MOST_CHARACTERS_PER_TOKEN, cut_at_word, cut_prompts
from helpers.prompts.mixing import with_mix
from helpers.prompts.references import too_few_references
from helpers.prompts.shared_prefixes import SharedPrompts, make_shared, with_prefixes, with_salt_room
from helpers.prompts.shortfalls import SourceSearch, context_warnings, reachable_bin, shortfalls, too_few
from helpers.prompts.sources import Record, describe_source, read_records
from helpers.prompts.templates import Template, load_template
from helpers.prompts.tokenizers import load_tokenizer
from helpers.prompts.trace_prompts import PromptsOfTrace, prompts_of_trace, trace_that_brings_prompts
from helpers.prompts.wording import (
    PREFIX,
    Prompt,
    Wording,
    as_counted,
    as_sent,
    count_in,
    other_wordings,
    whole_prompts,
)
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import ARRIVAL, METADATA_KEY, TOKENS_PREFIX, prompt_metadata, write_prompts
from helpers.run.records import ASKED_OUTPUT
from local_sagemaker.tiny_model import default_cache_dir

_POOL_RECORDS = 5_000  # records held in memory; of a longer source a seeded sample is taken


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run."""

    tables: dict[str, pa.Table]
    """Dataset -> one row per prompt, in random order, or in that of a trace; the columns are those of
    `prompt_files.write_prompts`.
    """

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


def make_prompts(config: BenchmarkConfig, base_dir: Path, model_cache_dir: Path | None = None) -> Prompts:
    """The prompts of every dataset of a config.

    Target lengths are drawn uniformly from the bin and the column `prompts.source.cut` is cut at a word to reach them;
    without it, records are taken unchanged if their length lies in the bin. A prompt that leaves no room for
    `max_output_tokens` in `model.context_tokens` is not made. No prompt comes twice in a dataset, and a record whose
    beginning is in use already, in any dataset, comes last. Where the load replays the lengths of a trace, the prompts are
    those of `prompts_of_trace` instead. Relative paths start at `base_dir`; synthetic tokenizers are kept under
    `model_cache_dir`, by default where all runs keep them.

    Raises PromptError if a source, template or tokenizer cannot be read, or a dataset gets no prompt or, in a closed loop,
    fewer than the highest concurrency, or than a load point sends before it can be decided; ConfigError for a trace.
    """
    config.require_measured()
    model_cache_dir = model_cache_dir or default_cache_dir()
    if config.conversations is not None:
        return Prompts(make_conversations(config, base_dir, model_cache_dir))
    template = load_template(config.prompts.template, base_dir)
    tokenizer = load_tokenizer(config.model.tokenizer, model_cache_dir, base_dir)
    wording = Wording(tokenizer, config.prompts.chat_template, template)
    if (trace := trace_that_brings_prompts(config, base_dir)) is not None:
        (dataset,) = config.datasets
        found = prompts_of_trace(config, base_dir, trace, wording, generator_of(config, dataset))
        others = other_wordings(config, base_dir, model_cache_dir, wording)
        return Prompts(
            {dataset.name: _to_table(config, dataset, found.prompts, None, wording, others, found.notes, found)}
        )
    bins = {dataset.name: reachable_bin(config, dataset) for dataset in config.datasets}
    search = SourceSearch()
    pools = _fill_pools(config, base_dir, wording, bins, search)
    others = other_wordings(config, base_dir, model_cache_dir, wording)
    notes = search.notes(describe_source(config.prompts.source))
    used_beginnings: set[str] = set()
    tables: dict[str, pa.Table] = {}
    faults: list[str] = []
    for dataset in config.datasets:
        allowed = bins[dataset.name]
        make = partial(_make, config, dataset, pools[dataset.name], wording, used_beginnings, search)
        shared = None
        if config.prompts.prefix is None:
            prompts = make(allowed)
        else:
            make_shorter, rng = (
                partial(make, with_salt_room(allowed)),
                generator_of(config, dataset, " prefix"),
            )
            shared = make_shared(config, dataset, allowed, wording, rng, make_shorter)
            prompts = shared.prompts
        used_beginnings.update(wording.beginning(prompt.record) for prompt in prompts)
        if fault := too_few(config, dataset, len(prompts), search):
            faults.append(fault)
        else:
            tables[dataset.name] = _to_table(config, dataset, prompts, shared, wording, others, notes)
    if not faults:
        tables = tables if config.load.mix is None else with_mix(tables, config)
        faults = too_few_references(config, tables)
    if faults:
        raise PromptError("\n".join(faults))
    return Prompts(tables)


def _make(
    config: BenchmarkConfig,
    dataset: Dataset,
    pool: list[Record],
    wording: Wording,
    used_beginnings: set[str],
    search: SourceSearch,
    allowed: range,
    prefixes: list[str] | None = None,
) -> list[Prompt]:
    """The prompts of a dataset, in random order; with `prefixes`, each begins with one of them."""
    rng = generator_of(config, dataset)
    shuffled = [pool[i] for i in rng.permutation(len(pool))]
    records = _fresh_beginnings_first(shuffled, wording, used_beginnings)
    if prefixes:
        records, wording = with_prefixes(records, wording, prefixes)
    if config.prompts.source.cut is None:
        candidates = (prompt for prompt in whole_prompts(records, wording) if prompt.tokens in allowed)
    else:
        candidates = cut_prompts(records, config.prompts.source.cut, allowed, wording, rng, search)
    return _take_distinct(candidates, dataset.count)


def _fill_pools(
    config: BenchmarkConfig, base_dir: Path, wording: Wording, bins: dict[str, range], search: SourceSearch
) -> dict[str, list[Record]]:
    """Dataset -> records that its prompts may be made from, in the order of the source."""
    source, columns = config.prompts.source, wording.template.columns
    if source.cut is not None and source.cut not in columns:
        raise PromptError(
            f"prompts.source.cut {source.cut!r} is not in the template {wording.template.path}, which names "
            f"{', '.join(columns) or 'no column'}. Next: cut one of these, or set `cut: null`"
        )
    longest_passage = max(allowed.stop for allowed in bins.values()) * MOST_CHARACTERS_PER_TOKEN
    reference = config.quality and config.quality.reference
    records = _checked(read_records(source, base_dir, longest_passage, reference), wording.template, search)
    size = max(_POOL_RECORDS, 2 * sum(dataset.count for dataset in config.datasets))
    ranks = np.random.default_rng(config.seed)
    if source.cut is None:
        if config.prompts.prefix is not None:  # a prefix of any length may make up for what is missing
            bins = {name: range(allowed.stop) for name, allowed in bins.items()}
        pools = _pool_by_length(records, wording, bins, size, ranks, search)
    else:
        highest_low = max(allowed.start for allowed in bins.values())
        pool = _pool_of_passages(records, source.cut, highest_low, longest_passage, size, ranks)
        pools = dict.fromkeys(bins, pool)
    return pools


def _checked(records: Iterable[Record], template: Template, search: SourceSearch) -> Iterator[Record]:
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
        is_short = len(passage) < highest_low * CHARACTERS_PER_TOKEN
        if len(passage) > longest_passage:
            record = replace(record, columns=record.columns | {cut: cut_at_word(passage, longest_passage)})
        pool.offer(is_short + ranks.random(), record)
    return pool.records()


def _pool_by_length(
    records: Iterable[Record],
    wording: Wording,
    bins: dict[str, range],
    size: int,
    ranks: np.random.Generator,
    search: SourceSearch,
) -> dict[str, list[Record]]:
    """A sample, for each bin, of the records whose natural length lies in it; a repeated prompt counts once."""
    pools, distinct = {name: _Pool(size) for name in bins}, 0
    for prompt in whole_prompts(records, wording):
        search.note([prompt.tokens])
        rank = ranks.random()
        distinct += 1
        search.outside += not any(prompt.tokens in allowed for allowed in bins.values())
        for name, allowed in bins.items():
            if prompt.tokens in allowed:
                pools[name].offer(rank, prompt.record)
    search.repeated = search.records - search.empty - distinct
    return {name: pool.records() for name, pool in pools.items()}


def _fresh_beginnings_first(records: list[Record], wording: Wording, used: set[str]) -> list[Record]:
    """The records in their order, but first those whose beginning no prompt of the run has yet."""
    seen = set(used)
    fresh: list[Record] = []
    shared: list[Record] = []
    for record in records:
        beginning = wording.beginning(record)
        (shared if beginning in seen else fresh).append(record)
        seen.add(beginning)
    return fresh + shared


def _take_distinct(prompts: Iterable[Prompt], count: int) -> list[Prompt]:
    taken: dict[str, Prompt] = {}
    for prompt in prompts:
        taken.setdefault(prompt.text, prompt)
        if len(taken) == count:
            break
    return list(taken.values())


def _to_table(
    config: BenchmarkConfig,
    dataset: Dataset,
    prompts: list[Prompt],
    shared: SharedPrompts | None,
    wording: Wording,
    others: Mapping[str, tuple[Wording, bool]],
    notes: list[str],
    of_trace: PromptsOfTrace | None = None,
) -> pa.Table:
    sent = [as_sent(prompt.rendered, wording) for prompt in prompts]
    counted = [as_counted(prompt) for prompt in prompts]
    counted_raw = [as_sent(prompt.rendered, wording) for prompt in counted]
    other_tokens = {name: count_in(other, chats, counted, counted_raw) for name, (other, chats) in others.items()}
    found = shortfalls(config, dataset, len(prompts)) if of_trace is None else of_trace.warnings
    outputs = of_trace and of_trace.output_tokens
    warnings = found + context_warnings(config, dataset, other_tokens, outputs)
    columns = {
        "prompt_id": pa.array([prompt_id_of(dataset, prompt.text) for prompt in prompts], pa.string()),
        "dataset": pa.array([dataset.name] * len(prompts), pa.string()),
        "text": pa.array([prompt.text for prompt in prompts], pa.string()),
        "rendered": pa.array(sent, pa.string()),
        "prompt_tokens": pa.array([prompt.tokens for prompt in prompts], pa.int64()),
        "answer": pa.array([prompt.record.answer for prompt in prompts], pa.string()),
        "record_id": pa.array([prompt.record.record_id for prompt in prompts], pa.string()),
    }
    if config.quality is not None:
        columns["references"] = pa.array([list(prompt.record.references) for prompt in prompts], pa.list_(pa.string()))
    columns |= {f"{TOKENS_PREFIX}{name}": pa.array(tokens, pa.int64()) for name, tokens in other_tokens.items()}
    metadata = describe_dataset(config, dataset, wording, len(prompts), warnings) | {"notes": notes}
    if of_trace is not None:
        columns |= {ARRIVAL: pa.array(of_trace.arrivals_ns, pa.int64()), ASKED_OUTPUT: pa.array(outputs, pa.int64())}
        metadata |= {"asked": of_trace.in_trace, "max_output_tokens": max(outputs)}
    if shared is not None:
        lengths = [len(prompt.record.columns[PREFIX]) for prompt in prompts]
        columns["prefix_characters"] = pa.array(lengths, pa.int64())
        columns["prefix_tokens"] = pa.array(shared.prefix_tokens, pa.int64())
        metadata["prefix"] = {
            **config.prompts.prefix.model_dump(mode="json"),
            "hit_rate": _asked_hit_rate(config, shared),
        }
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()})


def _asked_hit_rate(config: BenchmarkConfig, shared: SharedPrompts) -> float:
    """As the config gives it, or as it follows from the length of the prefix that it gives."""
    return config.prompts.prefix.hit_rate or shared.hit_rate
