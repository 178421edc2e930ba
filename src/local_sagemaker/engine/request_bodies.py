"""Validation of OpenAI request bodies. Counts are in tokens of the answer."""

import random
from dataclasses import dataclass
from typing import Any

from local_sagemaker.engine.errors import BadRequest

COMPLETIONS_DEFAULT_MAX_TOKENS = 16
"""OpenAI's default for `/v1/completions`; chat has none and may fill the context."""

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class GenerationRequest:
    """A valid request. Token counts are of the answer; `stop` has the texts that end it."""

    chat: bool
    prompt: str | list[int] | list[dict[str, str]]
    model: str
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    continuous_usage: bool


def read_request(body: Any, chat: bool, default_model: str, always_usage: bool) -> GenerationRequest:
    """Checks an OpenAI request body; raises `BadRequest` naming the field. Unknown fields are ignored."""
    if not isinstance(body, dict):
        raise BadRequest(f"the body is a JSON {type(body).__name__}, expected an object")
    if _number(body, "n", int, 1, low=1) != 1:
        raise BadRequest(f"n is {body['n']}, this engine gives one answer per request: send n=1 or leave it out")
    max_tokens = _max_tokens(body, chat)
    min_tokens = _number(body, "min_tokens", int, 0, low=0)
    if max_tokens is not None and min_tokens > max_tokens:
        raise BadRequest(f"min_tokens is {min_tokens}, expected at most max_tokens={max_tokens}")
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise BadRequest(f"stream_options is {stream_options!r}, expected an object")
    return GenerationRequest(
        chat=chat,
        prompt=_messages(body) if chat else _prompt(body),
        model=str(body.get("model") or default_model),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=_boolean(body, "ignore_eos"),
        temperature=_number(body, "temperature", float, 1.0, low=0.0, high=2.0),
        top_p=_number(body, "top_p", float, 1.0, low=0.0, high=1.0),
        top_k=_number(body, "top_k", int, 0, low=-1),
        seed=_number(body, "seed", int, random.getrandbits(32), low=0, high=MAX_SEED),
        stop=_stop(body),
        stream=_boolean(body, "stream"),
        include_usage=always_usage or bool(stream_options.get("include_usage")),
        continuous_usage=bool(stream_options.get("continuous_usage_stats")),
    )


def _max_tokens(body: dict[str, Any], chat: bool) -> int | None:
    default = None if chat else COMPLETIONS_DEFAULT_MAX_TOKENS
    older_name = _number(body, "max_tokens", int, default, low=1)
    limit: int | None = _number(body, "max_completion_tokens", int, older_name, low=1)
    return limit


def _number(
    body: dict[str, Any],
    name: str,
    kind: type[int] | type[float],
    default: Any,
    *,
    low: float,
    high: float = float("inf"),
) -> Any:
    value: Any = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or not low <= value <= high:
        noun = "a whole number" if kind is int else "a number"
        limits = f"from {low}" if high == float("inf") else f"from {low} to {high}"
        raise BadRequest(f"{name} is {value!r}, expected {noun} {limits}")
    return kind(value)


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name) or False
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {value!r}, expected true or false")
    return value


def _stop(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop") or []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise BadRequest(f"stop is {value!r}, expected a text or a list of texts, none of them empty")
    return tuple(texts)


def _messages(body: dict[str, Any]) -> list[dict[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages is missing or empty, expected a list of {role, content}")
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"messages[{position}] has no role, expected {{role, content}}")
    return [{"role": m["role"], "content": _content_text(i, m.get("content"))} for i, m in enumerate(messages)]


def _content_text(position: int, content: Any) -> str:
    """A message's text, given as a text or as OpenAI's list of text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise BadRequest(f"messages[{position}].content is not text, expected a text or a list of {{type, text}} parts")


def _prompt(body: dict[str, Any]) -> str | list[int]:
    prompt = body.get("prompt")
    if isinstance(prompt, str) and prompt:
        return prompt
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt
    raise BadRequest("prompt is missing or empty, expected a text or a list of token ids")
