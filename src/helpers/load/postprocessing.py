"""After an attempt: responses become request records. Done by load processes in parallel, batch by batch, so that memory
does not grow with the length of the attempt.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config.secret_words import secret_hider
from helpers.config.workload import bin_of
from helpers.errors import PromptError
from helpers.load.adapters import adapters_by_prompt
from helpers.load.bodies import asked_output_tokens, prefix_characters
from helpers.load.connection import Exchange
from helpers.load.messages import AttemptSpec, Parse, Parsed, Write, Written
from helpers.load.responses import Answer, read_answer, unreadable
from helpers.load.sessions import known_turn_tokens, session_and_turn
from helpers.load.spool import ExchangeReader
from helpers.load.thinking import count_thinking, divide, tokens_by_text
from helpers.prompts.salts import salt_of, salted_prompt
from helpers.run.prompt_columns import TURNS_PREFIX
from helpers.run.records import METADATA_KEY, PART, SCHEMA

BATCH_ROWS = 2000
BATCH_CHUNKS = 500_000
"""A batch is written once it has this many rows or chunks of text: a single answer may have any number of chunks."""
ROW_GROUP_BYTES = 64_000_000
ECHO_MIN_CHARACTERS = 16
COUNTED_ANSWERS, COUNTED_CHARACTERS = 32, 100_000
"""Of each part, about this many answers are also counted by the tokenizer, to check the server's counts; longer answers
are not.
"""


def ordered_prompts(spec: AttemptSpec) -> pa.Table:
    """The prompts of an attempt in the order in which they are sent: the same for all options. Where they share prefixes, one
    of each comes first, so that a cache holds them once the warm-up has sent as many.
    """
    prompts = pq.read_table(spec.prompts_file)
    if spec.replays_lengths and spec.level.is_open:
        return prompts  # each at its time
    order = np.random.default_rng([spec.seed, *spec.dataset.encode()]).permutation(len(prompts))
    if PART in prompts.column_names:
        order = np.arange(len(prompts))  # in which its parts keep their shares: see `prompts.mixing`
    ordered = prompts.take(np.roll(order, -round(spec.start_of_prompts * len(prompts))))
    if not any(lengths := prefix_characters(ordered)):
        return ordered
    prefixes = [text[:length] for text, length in zip(ordered["text"].to_pylist(), lengths, strict=True)]
    firsts = set({prefix: place for place, prefix in reversed(list(enumerate(prefixes)))}.values())
    return ordered.take([*sorted(firsts), *(place for place in range(len(ordered)) if place not in firsts)])


def parse(message: Parse, alive: Callable[[], None]) -> Parsed:
    """Write the records of some rows of a spool to a part file (Arrow IPC); calls `alive` after each row."""
    cpu = time.process_time()
    reader = ExchangeReader(message.spec.part_folder(message.load_process), message.clock_pairs)
    rows = _RowBuilder(message)
    every = math.ceil((message.last - message.first) / COUNTED_ANSWERS)
    answered = by_kernel = failed = chunks = 0
    batch: list[dict] = []
    with pa.OSFile(message.part_file, "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        exchanges = reader.exchanges(message.first, message.last)
        for place, (index_row, exchange, stamped_by_kernel) in enumerate(exchanges):
            alive()
            row = rows.row(index_row, exchange, stamped_by_kernel, place % every == 0)
            answered += bool(exchange.reads)
            by_kernel += stamped_by_kernel
            failed += row["status"] != "ok"
            chunks += len(row["chunk_ns"])
            batch.append(row)
            if len(batch) == BATCH_ROWS or chunks > BATCH_CHUNKS:
                stream.write_batch(_record_batch(batch))
                batch, chunks = [], 0
        if batch:
            stream.write_batch(_record_batch(batch))
    return Parsed(
        requests=message.last - message.first,
        failed=failed,
        answered=answered,
        stamped_by_kernel=by_kernel,
        cpu_s=time.process_time() - cpu,
    )


def write(message: Write, alive: Callable[[], None]) -> Written:
    """Join part files to the request records of a load point, whole or not at all; calls `alive` after each batch."""
    cpu = time.process_time()
    output = Path(message.output_file)
    temporary = output.with_suffix(".tmp")
    try:
        _join(message, temporary, alive)
        temporary.replace(output)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return Written(cpu_s=time.process_time() - cpu)


def _join(message: Write, output: Path, alive: Callable[[], None]) -> None:
    schema = SCHEMA.with_metadata({METADATA_KEY: message.metadata.encode()})
    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        for batch in _batches(message.part_files):
            alive()
            group.append(batch.replace_schema_metadata(schema.metadata))
            if sum(one.nbytes for one in group) > ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group))


def _batches(part_files: list[str]) -> Iterator[pa.RecordBatch]:
    for part in part_files:
        with pa.OSFile(part, "rb") as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def _record_batch(rows: list[dict]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: [row[name] for row in rows] for name in SCHEMA.names}, SCHEMA)


class _RowBuilder:
    """Makes the record of one request from its index row and its exchange."""

    def __init__(self, message: Parse) -> None:
        spec = message.spec
        self._message, self._spec = message, spec
        prompts = ordered_prompts(spec)
        self._prompt_ids = prompts["prompt_id"].to_pylist()
        self._parts = prompts[PART].to_pylist() if PART in prompts.column_names else [None] * len(prompts)
        self._text = prompts["text"].to_pylist()
        self._rendered = prompts["rendered"].to_pylist()
        self._prefix_characters = prefix_characters(prompts)
        self._prompt_tokens = prompts[spec.prompt_tokens_column].to_pylist()
        self._turns = known_turn_tokens(prompts, spec)
        self._bins = spec.sessions and spec.sessions.bins
        self._planned = prompts[TURNS_PREFIX + spec.prompt_tokens_column].to_pylist() if self._bins else None
        self._asked = asked_output_tokens(prompts, spec.generation)
        self._adapters = adapters_by_prompt(spec.adapters, len(prompts), spec.seed, spec.dataset)
        self._hide = secret_hider(spec.address.secrets())
        self._constant = {
            "option": spec.option,
            "dataset": spec.dataset,
            "load_point": spec.attempt.id,
            "level": float(spec.level.value),
            "repetition": spec.repetition,
            "load_process": message.load_process,
        }

    def row(self, index: np.void, exchange: Exchange, by_kernel: bool, in_sample: bool) -> dict:
        """The record of one request; of one in the sample the server's counts are held against the tokenizer's."""
        spec = self._spec
        number, prompt, scheduled_ns = int(index["number"]), int(index["prompt"]), int(index["scheduled_ns"])
        request_id = f"{spec.request_id_prefix}-{number}"
        prompt_id, counted, session_id, turn = self._prompt_ids[prompt], self._prompt_tokens[prompt], None, None
        if self._turns is not None:
            session, turn = session_and_turn(number)
            session_id = f"{spec.request_id_prefix}-{session}"
            prompt_id, counted = f"{prompt_id}-turn{turn}", self._turns[prompt][turn - 1]
        answer, echoed, output_source = self._answer(exchange, self._sent_prompt(prompt, request_id), prompt)
        is_compared = in_sample and answer.status == "ok"
        by_tokenizer = answer.prompt_tokens is None and counted is not None
        return {
            **self._constant,
            "request_id": request_id,
            "prompt_id": prompt_id,
            "part": self._part(prompt, turn, answer.prompt_tokens),
            "adapter": self._adapters[prompt],
            "phase": self._phase(scheduled_ns or exchange.sent_ns),
            "scheduled_ns": scheduled_ns or None,
            "sent_ns": exchange.sent_ns,
            "first_byte_ns": answer.first_byte_ns,
            "first_token_ns": answer.first_token_ns,
            "first_answer_ns": answer.first_answer_ns,
            "last_token_ns": answer.last_token_ns,
            "done_ns": exchange.done_ns,
            "connect_ns": int(index["connect_ns"]) or None,
            "tls_ns": int(index["tls_ns"]) or None,
            "resent": bool(index["resent"]),
            "chunk_ns": answer.chunk_ns,
            "chunk_tokens": answer.chunk_tokens,
            "clock_source": "kernel" if by_kernel else "user",
            "prompt_tokens": counted if by_tokenizer else answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "output_tokens": answer.output_tokens,
            "asked_output_tokens": self._asked[prompt],
            "reasoning_tokens": answer.reasoning_tokens,
            "reasoning_tokens_source": answer.reasoning_tokens_source,
            "answered": answer.answered,
            "prompt_tokens_source": "tokenizer" if by_tokenizer else None if answer.prompt_tokens is None else "server",
            "output_tokens_source": output_source,
            "prompt_tokens_by_tokenizer": (counted if is_compared and answer.prompt_tokens is not None else None),
            "output_tokens_by_tokenizer": (
                self._counted_again(answer) if is_compared and output_source == "server" else None
            ),
            "status": answer.status,
            "http_status": answer.http_status,
            "error_type": answer.error_type,
            "error": answer.error,
            "finish_reason": answer.finish_reason,
            "echoed_prompt": echoed,
            "session_id": session_id,
            "turn": turn,
        }

    def _answer(self, exchange: Exchange, sent: str, prompt: int) -> tuple[Answer, bool, str | None]:
        """What came back, whether it started with the prompt that was sent, and who counted its tokens."""
        address = self._spec.address
        fixed = self._asked[prompt] if self._spec.generation.fixed_output_length else None
        answer = read_answer(exchange, address.api, address.framing, fixed, self._hide)
        try:
            echoed = _strip_echo(answer, sent)
            divide(answer, address.api, self._spec.thinking_tags, sent)
            if answer.status == "bad_response" or not answer.text or (answer.output_tokens is not None and not echoed):
                self._count_parts(answer)
                return answer, echoed, None if answer.output_tokens is None else "server"
            answer.output_tokens = _count_tokens(self._spec.tokenizer, answer.text)
            self._count_parts(answer)
        except Exception as error:  # noqa: BLE001 - a text that a tokenizer cannot take spoils one row and no other
            return unreadable(answer.first_byte_ns, answer.http_status, error), False, None
        return answer, echoed, None if answer.output_tokens is None else "tokenizer"

    def _count_parts(self, answer: Answer) -> None:
        """Tokens that are thinking, and those of each chunk of a stream: by the tokenizer where the server counts none."""
        tokenizer = _tokenizer_at_hand(self._spec.tokenizer)

        def ends(text: str) -> list[int] | None:
            if tokenizer is None or len(text) > COUNTED_CHARACTERS:
                return None
            try:
                return [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]
            except Exception:  # noqa: BLE001 - of a text that a tokenizer cannot take the parts are unknown
                return None

        count_thinking(answer, ends)
        is_whole = answer.status == "ok" and answer.output_tokens is not None and not answer.calls_tools
        if is_whole and answer.chunk_tokens is None and answer.first_token_ns is not None:
            answer.chunk_tokens = tokens_by_text(answer.chunk_texts, ends(answer.text), answer.output_tokens)

    def _counted_again(self, answer: Answer) -> int | None:
        """Output tokens by the tokenizer; None where it is not available, for reasoning, which a server may hide, and for
        calls of tools, which have tokens around them.
        """
        tokenizer = _tokenizer_at_hand(self._spec.tokenizer)
        if (
            tokenizer is None
            or answer.calls_tools
            or self._counts_thinking(answer)
            or len(answer.text) > COUNTED_CHARACTERS
        ):
            return None
        try:
            return len(tokenizer.encode(answer.text, add_special_tokens=False))
        except Exception:  # noqa: BLE001 - a text that a tokenizer cannot take is not compared
            return None

    @staticmethod
    def _counts_thinking(answer: Answer) -> bool:
        return answer.reasoning_tokens_source == "server" and bool(answer.reasoning_tokens)

    def _sent_prompt(self, prompt: int, request_id: str) -> str:
        """The prompt as it was sent; empty for a turn of a conversation, whose history no chat API echoes."""
        if self._turns is not None:
            return ""
        prefix = self._prefix_characters[prompt]
        if not (self._spec.load.prefix_cache_salt or prefix):
            return self._rendered[prompt]
        return salted_prompt(self._text[prompt], self._rendered[prompt], salt_of(request_id), prefix)[1]

    def _part(self, prompt: int, turn: int | None, tokens: int | None) -> str | None:
        """The part of a mix, or the bin of the context's length, by the plan where the server did not count it."""
        if not self._bins:
            return self._parts[prompt]
        return bin_of(self._planned[prompt][turn - 1] if tokens is None else tokens, self._bins)

    def _phase(self, t0_ns: int) -> str:
        opened, closed = self._message.open_ns, self._message.close_ns
        if opened is None or t0_ns < opened:
            return "warmup"
        return "steady" if t0_ns < closed else "drain"


def _strip_echo(answer: Answer, rendered: str) -> bool:
    """Remove the prompt from the head of the answer where a server echoes it; true if it did."""
    prompt = rendered.strip()
    if answer.thought:
        return False  # it begins with thinking, which may quote the prompt
    if len(prompt) < ECHO_MIN_CHARACTERS or not answer.text.lstrip().startswith(prompt):
        return False
    to_drop = len(answer.text) - len(answer.text.lstrip()) + len(prompt)
    while answer.chunk_texts and to_drop >= len(answer.chunk_texts[0]):
        to_drop -= len(answer.chunk_texts.pop(0))
        answer.chunk_ns.pop(0)
    if answer.chunk_texts:
        answer.chunk_texts[0] = answer.chunk_texts[0][to_drop:]
    answer.chunk_tokens = None
    if answer.first_token_ns is not None:
        answer.first_token_ns = answer.chunk_ns[0] if answer.chunk_ns else None
    return True


@lru_cache(maxsize=4)
def _tokenizer(name: str):
    from helpers.prompts.tokenizers import load_tokenizer
    from local_sagemaker.tiny_model import default_cache_dir

    return load_tokenizer(name, default_cache_dir())


@lru_cache(maxsize=4)
def _tokenizer_at_hand(name: str):
    from helpers.prompts.tokenizers import local_tokenizer
    from local_sagemaker.tiny_model import default_cache_dir

    return local_tokenizer(name, default_cache_dir())


def _count_tokens(tokenizer: str, text: str) -> int | None:
    """Tokens of an answer; None where the tokenizer is not available, which must not cost the measurement."""
    try:
        return len(_tokenizer(tokenizer).encode(text, add_special_tokens=False))
    except PromptError as error:
        sys.stderr.write(f"output tokens are unknown: {error}\n")
        return None
