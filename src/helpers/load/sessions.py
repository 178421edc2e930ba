"""Sessions: conversations as a server sees them, one request per turn, each with the history so far.

Everything that can be made before the start is: the bytes of each message of a user, and of the whole first request. Later
requests need the answer before them. Their bytes are made as soon as it has ended, while its user thinks, by joining messages:
the history is byte for byte what was sent and what was streamed, decoded and encoded again as JSON.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from helpers.config.workload import ExponentialTime
from helpers.load.apis import API_READERS, said_in
from helpers.load.bodies import BODIES, PreparedRequest
from helpers.load.connection import Exchange, RawExchange
from helpers.load.event_stream import unwrap_event_stream
from helpers.load.events import read_events
from helpers.load.http_body import split_http
from helpers.load.messages import AttemptSpec
from helpers.load.responses import read_answer
from helpers.load.thinking import without_thinking
from helpers.load.timeline import Timeline
from helpers.prompts.salts import salt_of
from helpers.run.prompt_columns import CONVERSATION, TURNS_PREFIX

if TYPE_CHECKING:
    import pyarrow as pa

SESSIONS = 10**9
"""More than an attempt has: request `number` is turn `number // SESSIONS + 1` of session `number % SESSIONS`."""


def number_of(session: int, turn: int) -> int:
    """The number of a request: that of its session for the first turn."""
    return session + (turn - 1) * SESSIONS


def session_and_turn(number: int) -> tuple[int, int]:
    """Session, and turn from 1, of a request's number."""
    return number % SESSIONS, number // SESSIONS + 1


def think_times_ns(spec: AttemptSpec, session: int, turns: int) -> list[int]:
    """The think time after each of the turns of a session, ns: the same for all options."""
    time = spec.sessions.conversations.think_time_s
    if not isinstance(time, ExponentialTime):
        return [round(time * 1e9)] * turns
    words = [spec.seed, *spec.dataset.encode(), spec.repetition, *spec.level.slug.encode(), session]
    drawn = np.random.default_rng(np.random.SeedSequence(words)).exponential(time.mean, turns)
    return np.round(drawn * 1e9).astype("int64").tolist()


def known_turn_tokens(prompts: pa.Table, spec: AttemptSpec) -> list[list[int | None]] | None:
    """Prompt tokens of each turn of each conversation by the tokenizer; None of a turn whose history the server wrote, and None
    where there are no conversations.
    """
    if spec.sessions is None:
        return None
    planned = prompts[TURNS_PREFIX + spec.prompt_tokens_column].to_pylist()
    if spec.sessions.conversations.history == "recorded":
        return planned
    return [[tokens[0], *[None] * (len(tokens) - 1)] for tokens in planned]


@dataclass(frozen=True, slots=True)
class Script:
    """What the users of a conversation say, as messages in JSON, and the replies to put in between; None: as answered."""

    prompt_id: str
    opening: tuple[bytes, bytes | None]
    """The first message, or its parts around the salt's place."""
    has_system: bool
    """Is that a system message?"""
    users: list[bytes]
    """The messages of the user that follow, beginning with the first if the opening is a system message."""
    replies: list[bytes] | None
    turns: int
    growth: list[int]
    """By how many tokens the prompt of each turn is longer than that of the turn before and the answer to it."""


class Scripts:
    """The conversations of an attempt in the order in which they are sent: the same for all options."""

    def __init__(self, prompts: pa.Table, spec: AttemptSpec) -> None:
        address = spec.address
        self._signed = address.sigv4 is not None
        content = {**BODIES[address.api]("", "", address, spec.generation), **spec.extra_body}
        content = {name: value for name, value in content.items() if name not in spec.omit_body_keys}
        self._frames = {has_system: _frame(content, address.api, has_system) for has_system in (False, True)}
        columns = ("prompt_id", CONVERSATION, TURNS_PREFIX + spec.prompt_tokens_column)
        self.scripts = [
            _script(prompt_id, json.loads(conversation), tokens, spec)
            for prompt_id, conversation, tokens in zip(*(prompts[name].to_pylist() for name in columns), strict=True)
        ]
        self.first_requests = [self._first(script) for script in self.scripts]

    def _first(self, script: Script) -> PreparedRequest:
        before, after = script.opening
        head, joint, tail = self._frames[script.has_system]
        rest = b"".join(joint + message for message in script.users[: _users_of_turn(script, 1)]) + tail
        if after is not None:
            return PreparedRequest(script.prompt_id, head + before, after + rest)
        return self._prepared(script, head + before + rest)

    def request(self, script: Script, messages: list[bytes]) -> PreparedRequest:
        """The request with these messages."""
        head, joint, tail = self._frames[script.has_system]
        return self._prepared(script, head + messages[0] + joint + b", ".join(messages[1:]) + tail)

    def _prepared(self, script: Script, body: bytes) -> PreparedRequest:
        return PreparedRequest(script.prompt_id, body, sha256=sha256(body).hexdigest() if self._signed else None)


def _frame(content: dict, api: str, has_system: bool) -> tuple[bytes, bytes, bytes]:
    """What of a body comes before the first message, between it and the second, and behind the last: Converse has the system
    message apart.
    """
    first, second = uuid.uuid4().hex, uuid.uuid4().hex  # in no prompt
    is_apart = has_system and api == "bedrock_converse"
    messages = {"system": [first], "messages": [second]} if is_apart else {"messages": [first, second]}
    head, _, rest = _json(
        messages | {name: value for name, value in content.items() if name not in messages}
    ).partition(f'"{first}"'.encode())
    joint, _, tail = rest.partition(f'"{second}"'.encode())
    return head, joint, tail


def _script(prompt_id: str, conversation: dict, tokens: list[int], spec: AttemptSpec) -> Script:
    settings, api = spec.sessions.conversations, spec.address.api
    answered = settings.history == "answered"
    turns = conversation["turns"]
    said = [("user", user) for user, _ in turns]
    if conversation["system"]:
        said.insert(0, ("system", conversation["system"]))
    replies = None if answered else [_message("assistant", reply, api) for _, reply in turns[:-1]]
    each = spec.generation.max_output_tokens if answered else 0
    return Script(
        prompt_id=prompt_id,
        opening=_opening(*said[0], api, spec.load.prefix_cache_salt),
        has_system=bool(conversation["system"]),
        users=[_message(*message, api) for message in said[1:]],
        replies=replies,
        turns=len(turns),
        growth=[0, *(after - before - each for before, after in pairwise(tokens))],
    )


def _users_of_turn(script: Script, turn: int) -> int:
    """How many of the messages in `users` have been said with a turn: one less where the opening is the user's first."""
    return turn - (not script.has_system)


def _opening(role: str, content: str, api: str, salt: bool) -> tuple[bytes, bytes | None]:
    if not salt:
        return _message(role, content, api), None
    place = uuid.uuid4().hex
    before, _, after = _message(role, place + content, api).partition(place.encode())
    return before, after


def _message(role: str, content: str, api: str) -> bytes:
    if api != "bedrock_converse":
        return _json({"role": role, "content": content})
    return _json({"text": content} if role == "system" else {"role": role, "content": [{"text": content}]})


def _json(value: object) -> bytes:
    """As `bodies` writes it; text that UTF-8 cannot hold (half a surrogate pair) is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


class Session:
    """A conversation that is being sent: which turn is next, and its request."""

    def __init__(self, number: int, prompt: int, scripts: Scripts, spec: AttemptSpec) -> None:
        self._spec, self._scripts = spec, scripts
        self._script = scripts.scripts[prompt]
        self.index, self.prompt, self.turn = number, prompt, 1
        self.request = scripts.first_requests[prompt]
        self.is_too_long = False
        """Its next turn would have exceeded the context."""
        self._messages: list[bytes] = []
        self._think_ns: list[int] = []

    @property
    def number(self) -> int:
        """Of the request of its turn."""
        return number_of(self.index, self.turn)

    def go_on(self, exchange: RawExchange) -> tuple[bool, int]:
        """After the end of an exchange: is there a further turn, which is then ready to be sent, and the think time before what
        comes next, ns.
        """
        if not self._think_ns:
            self._think_ns = think_times_ns(self._spec, self.index, self._script.turns)
        think_ns = self._think_ns[self.turn - 1]
        return self._is_ready_for_next(exchange), think_ns

    def _is_ready_for_next(self, exchange: RawExchange) -> bool:
        script, spec = self._script, self._spec
        if self.turn == script.turns or not exchange.looks_ok:
            return False
        whole = Exchange(
            exchange.sent_ns, exchange.done_ns, [(at, data) for at, _, data in exchange.reads], exchange.complete
        )
        generation = spec.generation
        asked = generation.max_output_tokens if generation.fixed_output_length else None
        answer = read_answer(whole, spec.address.api, spec.address.framing, asked)
        if answer.status != "ok":
            return False
        if answer.prompt_tokens is not None:
            answered = generation.max_output_tokens if answer.output_tokens is None else answer.output_tokens
            answered = answered if script.replies is None else 0
            wanted = answer.prompt_tokens + answered + script.growth[self.turn] + generation.max_output_tokens
            if wanted > spec.sessions.context_tokens:
                self.is_too_long = True
                return False
        if not self._messages:
            before, after = script.opening
            salt = b"" if after is None else salt_of(f"{spec.request_id_prefix}-{self.index}").encode()
            self._messages = [before + salt + (after or b""), *script.users[: _users_of_turn(script, 1)]]
        reply = (
            _message("assistant", content_of(whole, spec), spec.address.api)
            if script.replies is None
            else script.replies[self.turn - 1]
        )
        self.turn += 1
        self._messages += [reply, script.users[_users_of_turn(script, self.turn) - 1]]
        self.request = self._scripts.request(script, self._messages)
        return True


def content_of(exchange: Exchange, spec: AttemptSpec) -> str:
    """The text of an assistant message as it was streamed, without what was thought before it."""
    body = split_http(Timeline.of(exchange.reads))
    data = body.body
    if spec.address.framing == "aws_event_stream" and "eventstream" in body.headers.get("content-type", ""):
        data, *_ = unwrap_event_stream(data)
    events = read_events(data.data, API_READERS[spec.address.api].decoder, True).events
    return without_thinking(said_in(events, spec.address.api), spec.thinking_tags)
