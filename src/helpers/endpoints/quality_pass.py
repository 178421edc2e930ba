"""The pass that collects an option's answers to score: after its load, on the same endpoint, one natural answer to each prompt.

Few requests are under way at once, each on a connection of its own, with temperature 0 and no smallest length. What comes back
is no measurement: it is in no request record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.config.secret_words import secret_hider
from helpers.config.workload import Generation
from helpers.endpoints.preflight import ask_until_not_throttled, timeout_of
from helpers.errors import CredentialsError, LoadError
from helpers.load.adapters import adapters_by_prompt
from helpers.load.address import Address
from helpers.load.connection import words_of_refusal
from helpers.load.responses import Answer
from helpers.metrics.answers import KEY, SCHEMA, answers_file, prompts_to_score
from helpers.metrics.looks import looks_of
from helpers.metrics.quality import quality_of, read_all_scores
from helpers.run.aws_errors import Cause
from helpers.run.folder import RunFolder
from helpers.run.journal import Journal
from helpers.run.ledger import Ledger
from helpers.run.records import ASKED_OUTPUT
from helpers.run.whole_files import write_parquet

AT_ONCE = 4
"""Requests under way at once."""
LOOK_S = 2.0
"""Time after which what has come since is added to the bill."""
OF_THE_LOAD = ("min_tokens", "min_new_tokens", "ignore_eos", "temperature", "top_p", "topP", "top_k")
"""Keys of `extra_body` and its parts that are left out: answers end by themselves, and are the likeliest."""
LONGEST = ("max_tokens", "max_completion_tokens", "max_new_tokens", "maxTokens")
"""Keys of the same that say how long an answer may be."""
PARTS = ("inferenceConfig", "additionalModelRequestFields", "parameters")
"""Of Bedrock, TGI and DJL; one that `extra_body` gives replaces that of the load."""
ONLY_OF_THE_LOAD = (ASKED_OUTPUT, "prefix_characters")
"""Columns of prompts by which the load's requests differ from each other: lengths of a trace, the place of a salt."""
NoteRows = Callable[[list[dict]], None]
CANNOT_WIN = ("infeasible", "more expensive", "never loaded")
"""Outcomes of a race after which nobody needs to know how right the answers would be."""


def lacks_answers(option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> bool:
    """Is an option's pass still to be run? Not if it left a race without a chance, unless others are compared with it. Of
    replicates one answers for all.
    """
    if config.quality is None or option.replicate not in (None, 1) or answers_file(option.name, run).is_file():
        return False
    record = ledger.record(option.name)
    has_lost = record is not None and record.race_outcome in CANNOT_WIN
    return not has_lost or option.name == compared_with(config)


def compared_with(config: BenchmarkConfig) -> str | None:
    """The option with whose answers the gate compares those of the others, if any."""
    gate = config.quality and config.quality.gate
    return gate.not_worse_than.option if gate and gate.not_worse_than else None


def collect_answers(
    option: OptionBase,
    address: Address,
    config: BenchmarkConfig,
    run: RunFolder,
    is_stopped: Callable[[], bool],
    note: NoteRows = lambda rows: None,
) -> bool:
    """Ask an option the prompts that an interrupted pass has not, and write all answers; False if it was stopped: then they are
    kept for the next pass.

    A request that fails is a row, unless the pass was stopped. After `quality.max_duration_s` no further prompt is asked. `note`
    is given what came. Raises CredentialsError.
    """
    asker = _Asker(option, address, config, is_stopped, time.monotonic() + config.quality.max_duration_s)
    rows = ask_missing(_questions(option, config, run), asker.ask, answers_so_far(option.name, run), note)
    if is_stopped():
        return False
    write_parquet(answers_file(option.name, run), pa.Table.from_pylist(rows, schema=SCHEMA))
    return True


def answers_so_far(option: str, run: RunFolder) -> Journal:
    """Those of a pass that is under way, was interrupted, or lost its server."""
    return Journal(answers_file(option, run), KEY)


def ask_missing(
    questions: Mapping[tuple, tuple],
    ask: Callable[..., dict | None],
    journal: Journal,
    note: NoteRows,
    may_go_on: Callable[[], None] = lambda: None,
) -> list[dict]:
    """The rows of all questions, in their order, of which those in the journal are not asked again; None is no row.

    `questions`: key of the row -> arguments of `ask`. New rows go into the journal at once, and to `note` every `LOOK_S`;
    `may_go_on` raises what ends the pass.
    """
    new: list[dict] = []

    def ask_one(key: tuple) -> None:
        row = ask(*questions[key])
        if row is not None:
            journal.add(row)
            new.append(row)

    def note_new() -> None:
        count = len(new)
        note(new[:count])
        del new[:count]

    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="quality")
    missing = [key for key in questions if key not in journal.rows]
    try:
        if missing:
            may_go_on()
        pending = {pool.submit(ask_one, key) for key in missing}
        while pending:
            done, pending = wait(pending, timeout=LOOK_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            note_new()
            if pending:
                may_go_on()
    finally:
        pool.shutdown(cancel_futures=True)
        note_new()
    return [journal.rows[key] for key in questions if key in journal.rows]


def note_gate(option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> None:
    """In a race, write into the ledger what the gate says of an option: only one that has passed it may lead."""
    if looks_of(config) is not None and config.quality is not None and config.quality.gate is not None:
        ledger.update(option.name, quality_gate=quality_of(option.name, read_all_scores(config, run), 0, config).gate)


def natural(config: BenchmarkConfig) -> Generation:
    """The load's generation settings, for answers that end by themselves and are the likeliest."""
    changed = {"fixed_output_length": False, "temperature": 0.0, "top_p": None, "top_k": None}
    changed["max_output_tokens"] = config.quality.max_output_tokens or config.generation.max_output_tokens
    return config.generation.model_copy(update=changed)


def natural_keys(extra_body: dict, most_tokens: int, part: str = "") -> dict:
    """The same of an option's `extra_body`: a part of it replaces what `natural` says."""
    kept = {}
    for name, value in extra_body.items():
        if name in PARTS and isinstance(value, dict):
            kept[name] = natural_keys(value, most_tokens, name)
        elif name in LONGEST:
            kept[name] = most_tokens
        elif name == "do_sample":
            kept[name] = False
        elif name == "temperature" and part == "inferenceConfig":
            kept[name] = 0.0
        elif name not in OF_THE_LOAD:
            kept[name] = value
    return kept


def _questions(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> dict[tuple, tuple]:
    """Dataset and id of each prompt -> the prompt as a table of one row, and the adapter that answers it."""
    found = {}
    for dataset, prompts in prompts_to_score(option, config, run).items():
        prompts = prompts.drop_columns([name for name in ONLY_OF_THE_LOAD if name in prompts.column_names])
        adapters = adapters_by_prompt(option.adapters, len(prompts), config.seed, dataset)
        for i, (adapter, prompt_id) in enumerate(zip(adapters, prompts["prompt_id"].to_pylist(), strict=True)):
            found[dataset, prompt_id] = prompts.slice(i, 1), adapter
    return found


@dataclass(frozen=True)
class _Asker:
    """Asks one prompt at a time, from several threads."""

    option: OptionBase
    address: Address
    config: BenchmarkConfig
    is_stopped: Callable[[], bool]
    until: float
    """When no further prompt is asked, by the monotonic clock."""

    def ask(self, prompt: pa.Table, adapter: str | None) -> dict | None:
        """The row of an answer, or of a failure; None for a prompt that is not asked any more."""
        if self.is_stopped() or time.monotonic() >= self.until:
            return None
        kept = natural_keys(self.option.extra_body, natural(self.config).max_output_tokens)
        option = self.option.model_copy(update={"extra_body": kept, "adapters": {adapter: 1.0} if adapter else None})
        load = self.config.load.model_copy(update={"prefix_cache_salt": False})
        config = self.config.model_copy(update={"generation": natural(self.config), "load": load})
        hide = secret_hider(self.address.secrets())
        try:
            _, answer = ask_until_not_throttled(
                option, self.address, config, prompt, timeout_of(config), self.is_stopped
            )
        except (OSError, ValueError) as error:
            words = words_of_refusal(error) if isinstance(error, OSError) else str(error)
            answer = Answer("connection", error_type="connection", error=hide(words))
        except LoadError as error:  # no credentials to sign with
            raise CredentialsError(f"option {option.name!r}: {error}", Cause.CREDENTIALS) from None
        if answer.status != "ok" and self.is_stopped():
            return None
        columns = {name: getattr(answer, name) for name in SCHEMA.names if hasattr(answer, name)}
        return columns | {
            "dataset": prompt["dataset"][0].as_py(),
            "prompt_id": prompt["prompt_id"][0].as_py(),
            "answer": hide(_without_thinking(answer)) if answer.status == "ok" else None,
            "done_ns": time.monotonic_ns(),
            "wall_ns": time.time_ns(),
        }


def _without_thinking(answer: Answer) -> str:
    return "".join(text[answer.thought.get(place, 0) :] for place, text in enumerate(answer.chunk_texts))
