"""The prompts of a trace that brings its own: its texts, or texts of its lengths made from the words of the prompts source.

Lengths are in tokens of `model.tokenizer`, over the rendered prompt, as in `making`. A made text is within one token of the
trace's length. It is cut from the running words of the source, for each request at another word, so that no two begin alike;
requests whose leading `hash_ids` agree begin with the same blocks of text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import TraceReplay
from helpers.config.workload import Dataset
from helpers.errors import ConfigError, PromptError
from helpers.metrics.sample_size import levels_of, requests_for_slo
from helpers.number_text import plural
from helpers.prompts.sources import Record, describe_source, read_records
from helpers.prompts.tokenizers import count_tokens, render_chat, token_ends
from helpers.prompts.trace_requests import TraceRequest, block_tokens, read_trace_requests
from helpers.prompts.traces import Trace, read_trace
from helpers.prompts.wording import Prompt, Wording, batches

MOST_TOKENS = 100_000_000
"""Of all prompts together: some 500 MB of text, which every load process holds."""
WORD_CHARACTERS = 1_000_000
"""Of the source that are read for made texts."""
FIT_ROUNDS = 8
WITHOUT_OUTPUT = "without output, as what failed is recorded"
_CHUNK_WORDS = 2_000
_PLACE_OF_TEXT = "fe82b1"


@dataclass(frozen=True)
class PromptsOfTrace:
    """The prompts of the requests that are replayed, in the order of their times."""

    prompts: list[Prompt]
    arrivals_ns: list[int]
    """Since the first request of the trace's window, at the trace's own speed."""
    output_tokens: list[int]
    """Asked of each answer."""
    in_trace: int
    """Requests that were to be replayed."""
    warnings: list[str]
    notes: list[str]


class _Sized(NamedTuple):
    """A request and its prompt, if it has a text; the tokens asked of its answer."""

    request: TraceRequest
    prompt: Prompt | None
    output_tokens: int


def trace_that_brings_prompts(config: BenchmarkConfig, base_dir: Path) -> Trace | None:
    """The trace whose lengths a config replays; None for any other load. Raises ConfigError where other keys forbid that."""
    load = config.load
    if not isinstance(load, TraceReplay) or not load.may_bring_prompts:
        return None
    trace = read_trace(load, base_dir)
    if not trace.brings_prompts:
        return None
    instead = ", or replay only the times: `lengths: prompts` in load"
    if len(config.datasets) > 1:
        raise ConfigError(
            f"datasets: {len(config.datasets)} datasets, and the prompts are those of {load.path!r}, which has lengths. Expected "
            f"one dataset, whose prompt_tokens say which of them are replayed. Next: write one, such as {{name: trace, "
            f"prompt_tokens: [1, {config.model.context_tokens}]}}{instead}"
        )
    if config.prompts.prefix is not None:
        raise ConfigError(
            f"prompts.prefix: the prompts are those of {load.path!r}, which has lengths, and share what they share there. "
            f"Expected no prefix where lengths are those of a trace. Next: delete it{instead}"
        )
    if load.prefix_cache_salt:
        raise ConfigError(
            f"load.prefix_cache_salt: bad value true: it makes each prompt longer than in {load.path!r}, and no two would begin "
            f"alike. Expected false where lengths are those of a trace. Next: delete it{instead}"
        )
    return trace


def prompts_of_trace(
    config: BenchmarkConfig, base_dir: Path, trace: Trace, wording: Wording, rng: np.random.Generator
) -> PromptsOfTrace:
    """The prompts of the requests of a trace, in its order.

    Left out and counted, as warnings: what failed when it was recorded (no output), what does not fit the dataset's bin or, with
    its output, the model's context, and what is shorter than the chat template alone.

    Raises ConfigError where nothing is left or the texts would not fit in memory.
    """
    load, dataset = config.load, config.datasets[0]
    requests = read_trace_requests(load, base_dir, trace)
    left_out: Counter[str] = Counter()
    sized = list(_worth_making(_sized(requests, config, wording), config, dataset, wording, left_out))
    total = sum(one.prompt.tokens if one.prompt else one.request.input_tokens for one in sized)
    if total > MOST_TOKENS:
        raise ConfigError(
            f"load.path {load.path!r}: the prompts of {len(sized):,} requests have {total:,} tokens. Expected at most "
            f"{MOST_TOKENS:,}, because all are made and held before the load. Next: replay a part, with load.window or "
            "load.max_requests"
        )
    prompts: dict[int, Prompt] = {i: one.prompt for i, one in enumerate(sized) if one.prompt is not None}
    to_make = [i for i, one in enumerate(sized) if one.prompt is None]
    if to_make:
        made = _Maker(_source_words(config, base_dir, wording), wording, rng, block_tokens(load, trace.format))
        prompts |= {i: prompt for i, prompt in made.prompts(sized, to_make) if prompt is not None}
        left_out["of a length to which no text could be cut"] += len(sized) - len(prompts)
    if not prompts:
        raise ConfigError(
            f"load.path {load.path!r}: none of its {plural(len(requests), 'request')} can be replayed. Left out: "
            f"{_counted(left_out)}. Expected prompts of {dataset.prompt_tokens[0]} to {dataset.prompt_tokens[1] - 1} tokens. "
            "Next: widen the dataset's prompt_tokens, or choose another part with load.window"
        )
    kept = [sized[i] for i in sorted(prompts)]
    return PromptsOfTrace(
        prompts=[prompts[i] for i in sorted(prompts)],
        arrivals_ns=[round(one.request.seconds * 1e9) for one in kept],
        output_tokens=[one.output_tokens for one in kept],
        in_trace=len(requests),
        warnings=list(_warnings(config, len(requests), len(kept), left_out)),
        notes=list(_notes(config, trace, kept)),
    )


# --- which requests -----------------------------------------------------------------------------------------------


def _sized(requests: list[TraceRequest], config: BenchmarkConfig, wording: Wording) -> Iterator[_Sized]:
    """The requests with their own texts as prompts, and with the tokens asked of their answers."""
    for batch in batches(requests):
        with_text = [request for request in batch if request.text is not None]
        rendered = [render_chat(wording.tokenizer, request.text, wording.chat_template) for request in with_text]
        own = {
            id(request): Prompt(_record(request), request.text, text, tokens)
            for request, text, tokens in zip(with_text, rendered, wording.count(rendered), strict=True)
        }
        answered = [r for r in batch if r.output_tokens is None and r.answer is not None]
        counts = count_tokens(wording.tokenizer, [r.answer for r in answered], add_special_tokens=False)
        by_answer = {id(request): tokens for request, tokens in zip(answered, counts, strict=True)}
        for request in batch:
            known = request.output_tokens if request.output_tokens is not None else by_answer.get(id(request))
            yield _Sized(request, own.get(id(request)), config.generation.max_output_tokens if known is None else known)


def _record(request: TraceRequest) -> Record:
    return Record(request.where, request.where, {}, answer=None)


def _template_tokens(wording: Wording) -> int:
    """Tokens of a prompt without text."""
    return wording.count([render_chat(wording.tokenizer, "", wording.chat_template)])[0]


def _worth_making(
    sized: Iterable[_Sized], config: BenchmarkConfig, dataset: Dataset, wording: Wording, left_out: Counter[str]
) -> Iterator[_Sized]:
    """Those that can be sent; counts the others by reason."""
    low, high = dataset.prompt_tokens
    least = _template_tokens(wording)
    for one in sized:
        tokens = one.request.input_tokens if one.prompt is None else one.prompt.tokens
        if one.output_tokens == 0:
            left_out[WITHOUT_OUTPUT] += 1
        elif tokens + one.output_tokens > config.model.context_tokens:
            left_out[f"longer than model.context_tokens {config.model.context_tokens}, prompt and output"] += 1
        elif one.prompt is None and tokens <= least:
            left_out[f"of no more tokens than the chat template alone ({least})"] += 1
        elif not low <= tokens < high:
            left_out[f"outside the dataset's prompt_tokens [{low}, {high})"] += 1
        else:
            yield one


# --- made texts ---------------------------------------------------------------------------------------------------


def _source_words(config: BenchmarkConfig, base_dir: Path, wording: Wording) -> list[str]:
    """The first words of the source: of the column that is cut, else of its prompts. PromptError if there are none."""
    source = config.prompts.source
    words: list[str] = []
    characters = 0
    for record in read_records(source, base_dir, passage_characters=1):
        text = record.columns.get(source.cut, "") if source.cut else wording.template.fill(record.columns)
        words += text.split()
        characters += len(text)
        if characters > WORD_CHARACTERS:
            break
    if not words:
        raise PromptError(
            f"{describe_source(source)}: holds no words, and the trace has lengths without texts. Expected words to make them "
            "of. Next: give another prompts.source, such as {kind: python_reference}"
        )
    return words


class _Words:
    """Running words, of which any number of tokens can be taken from any word on; after the last comes the first."""

    def __init__(self, words: list[str], wording: Wording) -> None:
        chunks = [
            "".join(f" {word}" for word in words[i : i + _CHUNK_WORDS]) for i in range(0, len(words), _CHUNK_WORDS)
        ]
        begins = np.cumsum([0, *map(len, chunks)])
        ends = zip(token_ends(wording.tokenizer, chunks), begins, strict=False)
        self._text = "".join(chunks)
        self._ends = np.concatenate([np.maximum.accumulate(np.array(one or [0])) + begin for one, begin in ends])
        self._starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, word: int, tokens: int) -> str:
        """About as many tokens from a word on, with the space before it."""
        begin = int(self._starts[word])
        last = int(np.searchsorted(self._ends, begin, "right")) + tokens - 1
        laps, place = divmod(last, len(self._ends))
        end = int(self._ends[place])
        return self._text[begin:end] if laps == 0 else self._text[begin:] + self._text * (laps - 1) + self._text[:end]


class _Maker:
    """Makes texts of given lengths. Each id of a block, and each request without one, begins at a word of its own."""

    def __init__(self, words: list[str], wording: Wording, rng: np.random.Generator, size: int) -> None:
        self._words, self._wording, self._block = _Words(words, wording), wording, size
        self._order = rng.permutation(len(self._words))
        self._begun = 0
        self._place_of: dict[Hashable, int] = {}
        self._length_of: dict[tuple[int, int], int] = {}
        head = render_chat(wording.tokenizer, _PLACE_OF_TEXT, wording.chat_template).partition(_PLACE_OF_TEXT)[0]
        self._head_tokens, self._template_tokens = wording.count([head])[0], _template_tokens(wording)

    def prompts(self, sized: list[_Sized], to_make: list[int]) -> Iterator[tuple[int, Prompt | None]]:
        """(place, prompt) of each request; None where no cut is within one token of its length."""
        for batch in batches(to_make):
            wanted = {i: sized[i].request for i in batch}
            pieces = {i: self._pieces(request) for i, request in wanted.items()}
            best: dict[int, Prompt] = {}
            pending = list(batch)
            for _ in range(FIT_ROUNDS):
                tried = self._prompts([(wanted[i], pieces[i]) for i in pending])
                for i, prompt in zip(pending, tried, strict=True):
                    off = wanted[i].input_tokens - prompt.tokens
                    if i not in best or abs(off) < abs(wanted[i].input_tokens - best[i].tokens):
                        best[i] = prompt
                    pieces[i] = _resized(pieces[i], off)
                pending = [i for i in pending if best[i].tokens != wanted[i].input_tokens]
                if not pending:
                    break
            yield from ((i, p if abs(p.tokens - wanted[i].input_tokens) <= 1 else None) for i, p in best.items())

    def _prompts(self, wanted: list[tuple[TraceRequest, list[tuple[int, int]]]]) -> list[Prompt]:
        texts = ["".join(self._take(*piece) for piece in pieces).lstrip() for _, pieces in wanted]
        rendered = [render_chat(self._wording.tokenizer, text, self._wording.chat_template) for text in texts]
        rows = zip(wanted, texts, rendered, self._wording.count(rendered), strict=True)
        return [Prompt(_record(request), text, sent, tokens) for (request, _), text, sent, tokens in rows]

    def _pieces(self, request: TraceRequest) -> list[tuple[int, int]]:
        """(place, tokens) of each piece of a text: one for each block, and one for what follows.

        What the chat template puts before the text belongs to the first block, so that all blocks end where the trace's do.
        """
        pieces, done, all_tokens = [], 0, request.input_tokens - self._template_tokens
        for number, block in enumerate(request.blocks, 1):
            end = number * self._block - self._head_tokens
            until = max(done, min(end, all_tokens))
            if until > done:
                place = self._place(block)
                pieces.append((place, self._whole_block(place, until - done) if end <= all_tokens else until - done))
            done = until
        rest = all_tokens - done
        return [*pieces, (self._next_place(), rest)] if rest > 0 else pieces

    def _whole_block(self, place: int, tokens: int) -> int:
        """The length to take so that a block has as many tokens when it stands alone."""
        known = self._length_of.get((place, tokens))
        if known is None:
            known = tokens
            for _ in range(FIT_ROUNDS):
                off = tokens - count_tokens(self._wording.tokenizer, [self._take(place, known)], False)[0]
                if off == 0 or known + off < 1:
                    break
                known += off
            self._length_of[place, tokens] = known
        return known

    def _take(self, place: int, tokens: int) -> str:
        laps, at = divmod(place, len(self._words))
        text = self._words.take(int(self._order[at]), tokens)
        return f" {laps}{text}" if laps else text  # a word at which another text began

    def _place(self, block: Hashable) -> int:
        if block not in self._place_of:
            self._place_of[block] = self._next_place()
        return self._place_of[block]

    def _next_place(self) -> int:
        self._begun += 1
        return self._begun - 1


def _resized(pieces: list[tuple[int, int]], tokens: int) -> list[tuple[int, int]]:
    """The pieces with so many tokens more or fewer at their end."""
    pieces = list(pieces)
    while True:
        place, length = pieces.pop()
        if length + tokens > 0 or not pieces:
            return [*pieces, (place, max(1, length + tokens))]
        tokens += length


# --- what to say --------------------------------------------------------------------------------------------------


def _counted(left_out: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)


def _warnings(config: BenchmarkConfig, in_trace: int, kept: int, left_out: Counter[str]) -> Iterator[str]:
    if kept < in_trace:
        next_step = "widen the dataset's prompt_tokens, or raise model.context_tokens where every server accepts that"
        yield (
            f"Of the {plural(in_trace, 'request')} of the trace {in_trace - kept:,} are not replayed: {_counted(left_out)}. "
            "The load is lighter than the recorded one by these"
            + (f". Next: {next_step}" if left_out[WITHOUT_OUTPUT] < in_trace - kept else "")
        )
    needed = requests_for_slo(config.slo, levels_of(config))
    if config.slo.error_rate and kept < needed:
        yield (
            f"The trace gives {plural(kept, 'request')}, and the SLO can be shown only by {needed:,}: no option can be "
            "recommended. Next: replay more of it (load.window, load.max_requests, load.max_duration_s), or allow more in `slo`"
        )


def _notes(config: BenchmarkConfig, trace: Trace, kept: list[_Sized]) -> Iterator[str]:
    """How the requests were made. No numbers: these sentences stand in the report, too."""
    requests = [one.request for one in kept]
    made = [request for request in requests if request.text is None]
    name = trace.format.name if trace.format.marks else "its own columns"
    yield f"Times and lengths are those of the trace ({name})."
    if made:
        none = (
            "It holds no texts of prompts: they are"
            if len(made) == len(kept)
            else "Where it holds no text of a prompt, it is"
        )
        yield f"{none} made of the words of {describe_source(config.prompts.source)}, as long as the request's prompt was."
        if any(request.blocks for request in made):
            yield "Requests whose hash_ids begin alike begin with the same text; what follows is alike in no two."
        else:
            yield (
                "It does not say which prompts began alike: no two that are made do, so a prefix cache finds less than it may "
                "have found."
            )
    else:
        yield "The texts of prompts are its own, as long as they are in the model's tokenizer."
    if any(request.messages > 1 for request in requests):
        yield "Prompts of several messages are sent as one message of the user, which holds their texts."
    if any(request.output_tokens is None and request.answer is None for request in requests):
        yield "Where it has no output length, generation.max_output_tokens are requested."
    if trace.is_to_the_second:
        yield "Its times are whole seconds: the requests of a second are sent at once."
