"""One real request before any load: the config's key, model name and stream settings, its bodies, connections and reader.

What fails becomes a DeployError that says what was sent, what came back and what to do; what comes back is kept in
`preflight.json` of the run, and feeds no measurement.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import TraceReplay
from helpers.config.options import Option
from helpers.config.price import TokenPrice
from helpers.config.secret_words import secret_hider
from helpers.endpoints.failures import NEXT_STEP
from helpers.endpoints.no_answer import (
    NoAnswer,
    kind_of_answer,
    kind_of_error,
    next_step,
    proofs_of,
    shown_url,
    words_of,
)
from helpers.errors import CredentialsError, DeployError, LoadError
from helpers.load.address import Address
from helpers.load.bodies import RequestWriter, asked_output_tokens, prepare_requests
from helpers.load.connection import Exchange, HttpConnection, RawExchange, Server, words_of_refusal
from helpers.load.responses import Answer, read_answer
from helpers.load.thinking import divide
from helpers.metrics.looks import refuse_short_race
from helpers.metrics.sample_size import refuse_what_cannot_decide
from helpers.prompts.traces import read_trace
from helpers.run.aws_errors import CREDENTIAL_CODES, Cause
from helpers.run.folder import RunFolder
from helpers.run.ledger import utc_now
from helpers.run.prompt_files import read_prompts
from helpers.run.whole_files import lock_of, write_atomically

FILE = "preflight.json"
FIRST_REQUEST = "no answer to its first request"
SHORTEST_TIMEOUT_S = 20.0
"""The first request of all may take longer than those under load."""
LOOK_S = 0.2
PAUSES_S = (1.0, 3.0)
"""A first request that is throttled is sent again after each of these: the limit may be that of a moment."""
PASSING = (500, 502, 504)
"""HTTP status of faults that may be those of a moment, in front of a server or in it: asked again in the same way."""
_FROM_CACHE = re.compile(rb'"(?:cacheReadInputTokens|cacheWriteInputTokens|cached_tokens)"\s*:\s*[1-9]')


@dataclass(frozen=True)
class FirstAnswer:
    """What came back for the first request of an option. Unknown is None."""

    option: str
    asked_at: str
    sent: str
    """Method, URL, model and stream flag; never a key."""
    latency_s: float
    prompt_tokens: int | None
    """As the server counts."""
    output_tokens: int | None
    """As the server counts."""
    notes: list[str]
    """What the report will lack or count otherwise because of how this server answers."""


# --- without a server ---------------------------------------------------------------------------------------------


def check_files(config: BenchmarkConfig, base_dir: Path) -> list[str]:
    """Can the config lead to a verdict, and can the trace be read that the load replays? Raises ConfigError.

    Returns how the trace was read.

    (Prompts, template and tokenizers: `make_prompts`.)
    """
    refuse_what_cannot_decide(config)
    refuse_short_race(config)
    if not isinstance(config.load, TraceReplay):
        return []
    return [f"Trace {config.load.path}: {read_trace(config.load, base_dir).words}."]


# --- one request --------------------------------------------------------------------------------------------------


def ask(
    option: Option, address: Address, config: BenchmarkConfig, run: RunFolder, situation: str = FIRST_REQUEST
) -> FirstAnswer:
    """Send the longest prompt of an option once, and read the answer. Not to be called from a running event loop.

    Raises DeployError, whose message begins with the situation, where nothing usable comes back, CredentialsError where AWS
    credentials have expired.
    """
    asked_at, sent = utc_now(), _sent(option, address)
    fail = partial(_failure, option, address, situation)
    timeout_s = timeout_of(config)
    prompt, hide = _longest_prompt(option, config, run), secret_hider(address.secrets())
    try:
        exchange, answer = ask_until_not_throttled(option, address, config, prompt, timeout_s)
        before = None
        for pause_s in PAUSES_S:
            if answer.http_status not in PASSING:
                break
            time.sleep(pause_s)
            before = answer
            exchange, answer = ask_until_not_throttled(option, address, config, prompt, timeout_s)
    except (OSError, ValueError) as error:  # a ValueError is one of the address: a host or key that cannot be sent
        kind = kind_of_error(error)
        words = words_of_refusal(error) if isinstance(error, OSError) else str(error)
        raise fail(f"{kind}: {hide(words).removesuffix(f': {kind}')}", kind) from None
    except LoadError as error:  # no credentials to sign with
        raise DeployError(f"option {option.name!r}: {error}", Cause.CREDENTIALS) from None
    if answer.error_type in CREDENTIAL_CODES:
        words = f"option {option.name!r}: {sent} was refused: {words_of(answer)}"
        raise CredentialsError(f"{words}. Next: {NEXT_STEP[Cause.CREDENTIALS]}", Cause.CREDENTIALS)
    if answer.status != "ok":
        kind = kind_of_answer(answer, address.sigv4 is not None)
        raise fail(f"{kind}: {words_of(answer)}", kind)
    return FirstAnswer(
        option=option.name,
        asked_at=asked_at,
        sent=sent,
        latency_s=(answer.last_token_ns - exchange.sent_ns) / 1e9,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        notes=_notes(option, address, exchange, answer, config)
        + ([f"a request before this one failed: {words_of(before)}"] if before is not None else []),
    )


def timeout_of(config: BenchmarkConfig) -> float:
    """Seconds that a request outside of the load is waited for: it is to be answered, not to be fast."""
    return max(config.load.request_timeout_s, SHORTEST_TIMEOUT_S)


def _failure(option: Option, address: Address, situation: str, came_back: str, kind: NoAnswer) -> DeployError:
    sent, next_one = _sent(option, address), next_step(kind, option.target, proofs_of(address, option.target))
    text = f"option {option.name!r}: {situation}. Sent: {sent}. Came back: {came_back.rstrip('.')}. "
    return DeployError(f"{text}Next: {next_one}", kind)


def _sent(option: Option, address: Address) -> str:
    """What is sent, as a person may see it."""
    model = next(iter(option.adapters or ()), option.extra_body.get("model", address.served_model))
    model = f"model {model!r}, " if model else ""
    streams = "stream" if _is_streamed(option, address) else "no stream"
    key = " and ".join(proof.words for proof in proofs_of(address, option.target)) or "no key"
    return f"POST {shown_url(address.url)} ({model}{streams}, {key})"


def _is_streamed(option: Option, address: Address) -> bool:
    if address.api == "bedrock_converse":
        return address.framing == "aws_event_stream"
    return bool(option.extra_body.get("stream", True)) and "stream" not in option.omit_body_keys


def ask_until_not_throttled(
    option: Option,
    address: Address,
    config: BenchmarkConfig,
    prompt: pa.Table,
    timeout_s: float,
    is_stopped: Callable[[], bool] = lambda: False,
) -> tuple[Exchange, Answer]:
    """Send the one prompt of a table, and read the answer; what is throttled is sent again after a pause, and again.

    Once `is_stopped`, an answer is no longer waited for. Raises OSError where no connection can be had, ValueError for an address
    that cannot be sent to, LoadError without credentials.
    """
    salt = config.load.prefix_cache_salt
    keys, adapters = (option.extra_body, salt, option.omit_body_keys), list(option.adapters or [None])
    (prepared,) = prepare_requests(prompt, address, config.generation, *keys, adapters[:1])
    (asked,) = asked_output_tokens(prompt, config.generation)
    fixed = asked if config.generation.fixed_output_length else None
    pauses = iter(PAUSES_S)
    while True:
        request = RequestWriter(address).write(uuid.uuid4().hex[:12], prepared)
        exchange = asyncio.run(_exchange(address, request, timeout_s, config.load.max_answer_bytes, is_stopped))
        hide = secret_hider(address.secrets())
        answer = read_answer(exchange, address.api, address.framing, fixed, hide)
        pause_s = next(pauses, None) if answer.status == "throttled" else None
        if pause_s is None:
            divide(answer, address.api, option.thinking_tags, prompt["rendered"][0].as_py())
            return exchange, answer
        time.sleep(pause_s)


async def _exchange(
    address: Address, request: bytes, timeout_s: float, most_bytes: int, is_stopped: Callable[[], bool]
) -> Exchange:
    """One request on a separate connection. Raises OSError if it cannot be opened."""
    server = Server(address.url, address.ca_file, address.api)
    connection = await HttpConnection.open(server, timeout_s, most_bytes)
    ended: asyncio.Future[RawExchange] = asyncio.get_running_loop().create_future()
    try:
        connection.send(request, lambda _, exchange: ended.set_result(exchange))
        deadline = time.monotonic() + timeout_s
        while not ended.done() and time.monotonic() < deadline and not is_stopped():
            await asyncio.wait([ended], timeout=min(LOOK_S, timeout_s))
            connection.look()
        if not ended.done():
            connection.give_up("timeout", f"no complete answer after {timeout_s:g} s from {server.name}")
        raw = await ended
    finally:
        connection.close()
    return Exchange(
        sent_ns=raw.sent_ns,
        done_ns=raw.done_ns,
        reads=[(stamp, data) for stamp, _, data in raw.reads],
        complete=raw.complete,
        failure=raw.failure,
        detail=raw.detail,
    )


def _longest_prompt(option: Option, config: BenchmarkConfig, run: RunFolder) -> pa.Table:
    """The longest prompt of the option's datasets: one that is too long for the server shows at once."""
    longest = max(config.datasets_of(option), key=lambda dataset: dataset.prompt_tokens[1])
    prompts = read_prompts(run.payloads, longest.name)
    return pa.Table.from_pandas(prompts.loc[[prompts["prompt_tokens"].idxmax()]])


def _notes(option: Option, address: Address, exchange: Exchange, answer: Answer, config: BenchmarkConfig) -> list[str]:
    """How the answer differs from what a report needs, and what is done about it."""
    notes = []
    tokenizer = config.tokenizer_of(option)
    if _is_streamed(option, address) and answer.first_token_ns is None:
        notes.append("a stream was asked for and the answer came in one piece: there is no time to first token")
    if answer.output_tokens is None:
        notes.append(f"the server counts no output tokens (no usage): they are counted with the tokenizer {tokenizer}")
    elif answer.output_tokens < len(answer.chunk_texts):
        pieces = f"{answer.output_tokens} output tokens for {len(answer.chunk_texts)} pieces of text"
        notes.append(f"the server counts {pieces}: prices per token by its count are wrong")
    if answer.prompt_tokens is None:
        notes.append(f"the server counts no prompt tokens (no usage): they are counted with the tokenizer {tokenizer}")
    body = b"".join(data for _, data in exchange.reads)
    if isinstance(option.price, TokenPrice) and _FROM_CACHE.search(body):
        cached = option.price.usd_per_1m_cached_input_tokens
        counted = "usd_per_1m_input_tokens" if cached is None else "usd_per_1m_cached_input_tokens (those read)"
        notes.append(
            "some prompt tokens were written to or read from a prompt cache: they are billed at different prices, and are "
            f"counted here at {counted}"
        )
    if answer.answered is False:
        notes.append("all of the answer was reasoning, which counts as output: the requested output tokens ended it")
    return notes


# --- the result ---------------------------------------------------------------------------------------------------


def keep(answer: FirstAnswer, run: RunFolder) -> None:
    """Put the first answer of an option into the run's file, in place of an earlier one."""
    path = run.path / FILE
    with lock_of(path):
        kept = {one.option: one for one in first_answers(run)} | {answer.option: answer}
        write_atomically(path, json.dumps([asdict(one) for one in kept.values()], indent=1) + "\n")


def first_answers(run: RunFolder) -> list[FirstAnswer]:
    """The first answers of the run's options so far."""
    path = run.path / FILE
    if not path.is_file():
        return []
    return [FirstAnswer(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
