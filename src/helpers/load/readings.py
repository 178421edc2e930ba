"""What a reader of an API found in the events of an answer, and which of it shows that the answer broke off."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

BREAKS = re.compile(
    r"(error|abort|cancel|fail|timeout|insufficient_system_resource|content_filter|guardrail_intervened)", re.IGNORECASE
)
"""Beginnings of reasons for which no answer ends that is whole."""


class ErrorInAnswer(NamedTuple):
    """An error that the server reported inside an answer that started well."""

    kind: str
    text: str


@dataclass(slots=True)
class Reading:
    """What a reader found. It stops at the first error object."""

    texts: list[str] = field(default_factory=list)
    """Visible text of the events that had any."""
    places: list[int] = field(default_factory=list)
    """Index of the event of each text."""
    tokens: list[int | None] | None = None
    """Tokens of each text; None where the API does not report them."""
    by_token: bool = False
    """The API's events for single tokens came: it was streamed even if there is but one."""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    thought: dict[int, int] = field(default_factory=dict)
    """Index of a text -> how many of its first characters the API marks as thinking."""
    reasoning_tokens: int | None = None
    """Of the output tokens, those that the server counts as thinking, which it may hide."""
    calls_tools: bool = False
    """Some of the texts are calls of tools: names and arguments, without what stands around them."""
    cached_tokens: int | None = None
    """Of the prompt tokens, those that were read from a prompt cache."""
    ended: bool = False
    """The API's own end of an answer came."""
    error: ErrorInAnswer | None = None
    broken: ErrorInAnswer | None = None
    """The server broke off the answer, and said so in the place of its end."""


def adds_up(counted: int, total: int) -> bool:
    """May the tokens of chunks be all tokens of an answer? Its end, or that of a call, is a token or a few without text."""
    return abs(total - counted) <= max(4, 0.02 * total)


def broken_off(reading: Reading, error_frame: bytes | None) -> ErrorInAnswer | None:
    """What the server said where it broke an answer off: in its last choice, in an event named `error`, or as the reason why
    it finished; None where it did not.
    """
    if reading.broken is not None or reading.error is not None:
        return reading.broken or reading.error
    if error_frame is not None:
        try:
            said = msgspec.json.decode(error_frame)
        except (msgspec.DecodeError, ValueError, RecursionError):
            said = error_frame.decode("utf-8", "replace")
        return error_of(said or "an event named error without words")
    if reading.finish_reason is not None and BREAKS.match(reading.finish_reason):
        return ErrorInAnswer(reading.finish_reason, f"the server broke off the answer: {reading.finish_reason}")
    return None


def error_of(error: Any, kind: Any = None) -> ErrorInAnswer:
    """An error that a server reported as an object or in words, by its kind and its message."""
    text = error
    if isinstance(error, dict):
        text = error.get("message") or error.get("detail") or error
        kind = kind or error.get("type") or error.get("error_type") or error.get("code")
    return ErrorInAnswer(str(kind or "error"), str(text))
