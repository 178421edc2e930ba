"""What the events of each serving API say.

An `Api` decodes one event into the few fields that matter and skips the rest unread; its reader takes all events of an
answer at once. Where a field has another type, `lenient` finds what it says; where it says neither text nor number of tokens
as it must, the answer is a `bad_response`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from helpers.load.readings import Reading, adds_up, error_of


class Api(NamedTuple):
    """How the answers of one serving API are read."""

    decoder: msgspec.json.Decoder
    read: Callable[[list], Reading]
    end: str
    """What its streams end with, in words."""


class _Fields(msgspec.Struct, gc=False):
    """A JSON object; fields that are not named are skipped. It cannot be part of a cycle."""


# --- OpenAI -------------------------------------------------------------------------------------------------------


class _OpenAIFunction(_Fields):
    name: str | None = None
    arguments: str | None = None


class _OpenAIToolCall(_Fields):
    function: _OpenAIFunction | None = None


class _OpenAIText(_Fields):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_OpenAIToolCall] | None = None


class _OpenAIChoice(_Fields):
    delta: _OpenAIText | None = None
    message: _OpenAIText | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: Any = None


class _OpenAIUsage(_Fields):
    prompt_tokens_details: Any = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: Any = None
    reasoning_tokens: Any = None


class _GroqUsage(_Fields):
    usage: _OpenAIUsage | None = None


class _OpenAIEvent(_Fields):
    choices: list[_OpenAIChoice] | None = None
    usage: _OpenAIUsage | None = None
    error: Any = None
    object: Any = None
    message: Any = None
    detail: Any = None
    type: Any = None
    x_groq: _GroqUsage | None = None


def read_openai(events: list[_OpenAIEvent]) -> Reading:
    """OpenAI chat and text completions, streamed or whole. A role-only delta has no text and is not a token.

    Thinking is output like any other, and comes before the answer in a delta that has both: DeepSeek, SGLang and vLLM before 0.11
    give it in `reasoning_content`, OpenRouter, Groq and vLLM in `reasoning`, some alike in both. Calls of tools are output of the
    answer. With `stream_options.continuous_usage_stats` (vLLM, SGLang) each event counts the tokens so far.
    """
    reading = Reading(tokens=[])
    texts, places = reading.texts, reading.places
    counted = 0
    for place, event in enumerate(events):
        if event.error or event.object == "error" or (event.choices is None and _is_openai_error(event)):
            reading.error = error_of(event.error or {"message": event.message or event.detail, "type": event.type})
            break
        if event.choices:
            choice = event.choices[0]
            if choice.error:
                reading.broken = error_of(choice.error)
            said = choice.delta or choice.message
            if said is None:
                text = choice.text
            else:
                text = said.content
                if said.tool_calls and (calls := _called(said.tool_calls)):
                    text, reading.calls_tools = (text or "") + calls, True
                if thought := said.reasoning_content or said.reasoning:
                    reading.thought[len(texts)] = len(thought)
                    text = thought + (text or "")
            if text:
                texts.append(text)
                places.append(place)
                so_far = event.usage and event.usage.completion_tokens
                reading.tokens.append(None if so_far is None or so_far < counted else so_far - counted)
                counted = counted if so_far is None else so_far
            if choice.finish_reason:
                reading.finish_reason = choice.finish_reason
        usage = event.usage or (event.x_groq and event.x_groq.usage)
        if usage is not None:
            cached = _count_in(usage.prompt_tokens_details, "cached_tokens")
            reading.cached_tokens = reading.cached_tokens if cached is None else cached
            reading.prompt_tokens = usage.prompt_tokens
            reading.output_tokens = usage.completion_tokens
            said = _count_in(usage.completion_tokens_details, "reasoning_tokens")
            reading.reasoning_tokens = _count_in({"of": usage.reasoning_tokens}, "of") if said is None else said
    if None in reading.tokens or not adds_up(sum(reading.tokens), reading.output_tokens or 0):
        reading.tokens = None  # no running count
    reading.ended = reading.finish_reason is not None
    return reading


def _called(calls: list[_OpenAIToolCall]) -> str:
    functions = [call.function for call in calls if call.function is not None]
    return "".join([(function.name or "") + (function.arguments or "") for function in functions])


def _count_in(details: Any, name: str) -> int | None:
    count = details.get(name) if isinstance(details, dict) else None
    return count if type(count) is int else None


def _is_openai_error(event: _OpenAIEvent) -> bool:
    """Has neither choices nor usage, and says something: gateways put their own errors there."""
    return event.usage is None and bool(event.message or event.detail or event.type == "error")


# --- TGI ----------------------------------------------------------------------------------------------------------


class _TgiToken(_Fields):
    text: str | None = None
    special: bool = False


class _TgiDetails(_Fields):
    finish_reason: str | None = None
    generated_tokens: int | None = None
    input_length: int | None = None
    prefill: list[Any] | None = None


class _TgiEvent(_Fields):
    token: _TgiToken | None = None
    generated_text: str | None = None
    details: _TgiDetails | None = None
    error: Any = None
    error_type: Any = None


def read_tgi(events: list[_TgiEvent | list[_TgiEvent]]) -> Reading:
    """Hugging Face TGI: one token per event, `details` in the last; or one object with `generated_text`.

    Tokens without visible text (a part of a character) are counted with the text that follows.
    """
    reading = Reading(tokens=[])
    waiting = 0
    for place, event in enumerate(_flat(events)):
        if event.error:
            reading.error = error_of(event.error, event.error_type)
            break
        token = event.token
        if token is None:
            text, tokens = event.generated_text, None
        else:
            reading.by_token = True
            waiting += not token.special
            text, tokens = (None if token.special else token.text), waiting
        if text:
            reading.texts.append(text)
            reading.places.append(place)
            reading.tokens.append(tokens)
            waiting = 0
        if (details := event.details) is not None:
            reading.finish_reason = details.finish_reason
            reading.output_tokens = details.generated_tokens
            prefill = len(details.prefill or []) or None
            reading.prompt_tokens = prefill if details.input_length is None else details.input_length
        reading.ended = reading.ended or event.details is not None or event.generated_text is not None
    return reading


# --- DJL ----------------------------------------------------------------------------------------------------------


class _DjlToken(_Fields):
    id: int | list[int] | None = None
    text: str | None = None


class _DjlDetails(_Fields):
    finish_reason: str | None = None
    generated_tokens: int | None = None
    input_length: int | None = None


class _DjlEvent(_Fields):
    token: _DjlToken | None = None
    generated_text: str | None = None
    details: _DjlDetails | None = None
    outputs: str | list[str] | None = None
    error: Any = None
    message: Any = None
    code: Any = None


def read_djl(events: list[_DjlEvent | list[_DjlEvent]]) -> Reading:
    """DJL Serving (LMI) JSON lines: a token per line, `details` in the last; or one object with `generated_text`."""
    reading = Reading(tokens=[])
    waiting: int | None = 0
    for place, event in enumerate(_flat(events)):
        details = event.details
        failed = details is not None and details.finish_reason == "error"
        if event.error or failed or (isinstance(event.code, int) and event.code >= 400):
            reading.error = error_of(event.error or event.message or "finish_reason is error")
            break
        token = event.token
        if token is not None:
            reading.by_token = True
            new = None if token.id is None else len(token.id) if isinstance(token.id, list) else 1
            waiting = None if waiting is None or new is None else waiting + new
            text, tokens = token.text, waiting
        else:
            outputs = event.outputs
            text, tokens = event.generated_text or ("".join(outputs) if outputs else None), None
        if text:
            reading.texts.append(text)
            reading.places.append(place)
            reading.tokens.append(tokens)
            waiting = 0
        if details is not None:
            reading.finish_reason = details.finish_reason
            reading.prompt_tokens = details.input_length
            # Only LMI's asynchronous vLLM reports input_length, and its generated_tokens is one too many.
            reading.output_tokens = details.generated_tokens if details.input_length is None else None
        reading.ended = reading.ended or event.generated_text is not None or reading.finish_reason is not None
    return reading


# --- Bedrock Converse ---------------------------------------------------------------------------------------------


class _ConverseText(_Fields):
    text: str | None = None


class _ConverseReasoning(_Fields, rename="camel"):
    """Of a delta, `text`; of a whole message, `reasoningText`."""

    text: str | None = None
    reasoning_text: _ConverseText | None = None


class _ConverseToolUse(_Fields):
    """At the start of a block, `name`; of a delta, `input` as text; of a whole message, both."""

    name: str | None = None
    input: Any = None


class _ConverseContent(_Fields, rename="camel"):
    """A content block, its start, or a delta of one."""

    text: str | None = None
    reasoning_content: _ConverseReasoning | None = None
    tool_use: _ConverseToolUse | None = None


class _ConverseMessage(_Fields):
    content: list[_ConverseContent] | None = None


class _ConverseOutput(_Fields):
    message: _ConverseMessage | None = None


class _ConverseUsage(_Fields, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None


class _ConverseEvent(_Fields, rename="camel"):
    start: _ConverseContent | None = None
    delta: _ConverseContent | None = None
    output: _ConverseOutput | None = None
    stop_reason: str | None = None
    usage: _ConverseUsage | None = None


def read_bedrock_converse(events: list[_ConverseEvent]) -> Reading:
    """ConverseStream's events, which are distinguished by their fields, or the whole message of Converse.

    Prompt tokens include those from and to a prompt cache, which `inputTokens` leaves out. Source:
    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    reading = Reading()
    for place, event in enumerate(events):
        blocks = _converse_blocks(event)
        reading.by_token |= event.output is None and bool(blocks)
        thought = "".join(map(_converse_thought, blocks))
        text = thought + "".join([block.text or "" for block in blocks])
        if calls := "".join([_tool_text(block.tool_use) for block in blocks if block.tool_use is not None]):
            text, reading.calls_tools = text + calls, True
        if thought:
            reading.thought[len(reading.texts)] = len(thought)
        if text:
            reading.texts.append(text)
            reading.places.append(place)
        reading.finish_reason = event.stop_reason or reading.finish_reason
        if (usage := event.usage) is not None:
            reading.output_tokens = usage.output_tokens
            reading.cached_tokens = usage.cache_read_input_tokens
            if usage.input_tokens is not None:
                cached = (usage.cache_read_input_tokens or 0) + (usage.cache_write_input_tokens or 0)
                reading.prompt_tokens = usage.input_tokens + cached
    reading.ended = reading.finish_reason is not None
    return reading


def _converse_blocks(event: _ConverseEvent) -> Sequence[_ConverseContent]:
    if (block := event.delta or event.start) is not None:
        return [block]
    return (event.output and event.output.message and event.output.message.content) or ()


def _converse_thought(content: _ConverseContent) -> str:
    if (reasoning := content.reasoning_content) is None:
        return ""
    whole = reasoning.reasoning_text
    return reasoning.text or (whole.text if whole else None) or ""


def _tool_text(use: _ConverseToolUse) -> str:
    given = use.input
    return (use.name or "") + (given if isinstance(given, str) else json.dumps(given) if given else "")


# --- conversations ------------------------------------------------------------------------------------------------


def said_in(events: list[_OpenAIEvent] | list[_ConverseEvent], api: str) -> str:
    """The text of an assistant's message, without thinking that its API marks as such, and without calls of tools.

    Of OpenAI's chat API, the `content` of each delta of the first choice, or of its message; of Converse, the text of each block.
    """
    if api == "bedrock_converse":
        return "".join([block.text or "" for event in events for block in _converse_blocks(event)])
    said = [event.choices[0].delta or event.choices[0].message for event in events if event.choices]
    return "".join([each.content for each in said if each is not None and each.content])


# --- all ----------------------------------------------------------------------------------------------------------


_OPENAI = Api(msgspec.json.Decoder(_OpenAIEvent), read_openai, "[DONE] or a finish_reason")
API_READERS = {
    "openai_chat": _OPENAI,
    "openai_completions": _OPENAI,
    "tgi": Api(msgspec.json.Decoder(_TgiEvent | list[_TgiEvent]), read_tgi, "details or generated_text"),
    "djl": Api(msgspec.json.Decoder(_DjlEvent | list[_DjlEvent]), read_djl, "a finish_reason or generated_text"),
    "bedrock_converse": Api(msgspec.json.Decoder(_ConverseEvent), read_bedrock_converse, "a stopReason"),
}


def _flat(events: list) -> list:
    """Whole answers of TGI and DJL may be lists with one object."""
    return [event[0] if isinstance(event, list) and event else event for event in events if event != []]
