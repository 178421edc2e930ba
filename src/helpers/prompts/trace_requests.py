"""The requests of a recorded trace that are replayed: how long they and their answers were, and what they said."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from helpers.config.load import TraceReplay
from helpers.errors import shown
from helpers.prompts.record_shapes import texts_of_messages
from helpers.prompts.trace_records import (
    BLOCKS,
    CAPTURED,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    TEXTS,
    TraceFormat,
    in_lower_case,
    record_fault,
    records_of,
)
from helpers.prompts.traces import Trace, time_in


class TraceRequest(NamedTuple):
    """A request of a trace. Unknown is None."""

    seconds: float
    """Since the first that is replayed."""
    where: str
    """Its place, for messages."""
    input_tokens: int | None
    output_tokens: int | None
    text: str | None
    answer: str | None
    """What was answered, to be counted where `output_tokens` is unknown."""
    blocks: tuple[Hashable, ...]
    """What its prompt begins with: two requests have as many blocks of tokens in common as their leading ids."""
    messages: int
    """How many messages its text was joined from."""


def read_trace_requests(load: TraceReplay, base_dir: Path, trace: Trace) -> list[TraceRequest]:
    """The requests that are replayed, in the order of their times, up to the end of the longest load point.

    Raises ConfigError for a length that is no whole number of 0 or more, an encoding that cannot be decoded, and a body that
    holds no prompt.
    """
    last_s = load.max_duration_s * max(load.speed)
    kept = trace.kept[trace.seconds <= last_s]
    left_at_last = int((kept == kept[-1]).sum())
    found: list[TraceRequest] = []
    for number, (where, record) in enumerate(records_of(load, base_dir), 1):
        time, _ = time_in(record, trace.column, where, number, load)
        if kept[0] <= time <= kept[-1] and (time < kept[-1] or left_at_last):
            left_at_last -= time == kept[-1]
            seconds = (time - kept[0]) * trace.unit_s
            found.append(_request(in_lower_case(record), seconds, f"record {number} ({where})", load, trace.format))
    return sorted(found, key=lambda request: request.seconds)


def _request(record: dict[str, Any], seconds: float, where: str, load: TraceReplay, form: TraceFormat) -> TraceRequest:
    input_tokens, output_tokens = (_tokens(record, names, where, load) for names in (INPUT_TOKENS, OUTPUT_TOKENS))
    answer = None
    if form is CAPTURED:
        text, messages = _asked(_body(record["endpointinput"], f"{where}: endpointInput", load), where, load)
        output_tokens, answer = _answered(record.get("endpointoutput"), where, load)
    else:
        text, messages = _text(record)
    if text is None and input_tokens is None:
        raise record_fault(
            load,
            where,
            "has neither the length nor the text of its prompt",
            f"one of: {', '.join((*INPUT_TOKENS, *TEXTS))}",
            "correct the file, or write `lengths: prompts`",
        )
    blocks = () if text else _blocks(record.get(BLOCKS), input_tokens, where, load, form)
    return TraceRequest(seconds, where, input_tokens, output_tokens, text, answer, blocks, messages)


def _tokens(record: dict[str, Any], names: tuple[str, ...], where: str, load: TraceReplay) -> int | None:
    """The first of the named columns that is there; None where it is empty."""
    name = next((name for name in names if name in record), None)
    if name is None or record[name] in (None, ""):
        return None
    value = record[name]
    with suppress(ValueError, TypeError, OverflowError):
        if not isinstance(value, bool) and float(value) == int(float(value)) >= 0:
            return int(float(value))
    raise record_fault(load, where, f"bad value {shown(value)} in {name!r}", "a whole number of tokens, 0 or more")


def _text(record: dict[str, Any]) -> tuple[str | None, int]:
    """The text of a prompt, and of how many messages; None where the record has none."""
    for name in TEXTS:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return value, 1
        if isinstance(value, list) and (texts := texts_of_messages(value)):
            return "\n\n".join(texts), len(texts)
    return None, 0


def _blocks(ids: object, input_tokens: int, where: str, load: TraceReplay, form: TraceFormat) -> tuple[Hashable, ...]:
    """What a prompt begins with, block by block."""
    if ids in (None, ""):
        return ()
    if isinstance(ids, str):  # in a table
        with suppress(ValueError):
            ids = json.loads(ids)
    if not isinstance(ids, list) or any(isinstance(one, list | dict) for one in ids):
        raise record_fault(load, where, f"bad value {shown(ids)} in {BLOCKS!r}", "a list of the ids of blocks")
    size = block_tokens(load, form)
    if len(ids) > -(-input_tokens // size):
        raise record_fault(
            load,
            where,
            f"bad value in {BLOCKS!r}: {len(ids)} blocks of {size} tokens for a prompt of {input_tokens}",
            f"{-(-input_tokens // size)} or fewer",
            "set load.block_tokens to the tokens that each id stands for",
        )
    return tuple(ids)


def block_tokens(load: TraceReplay, form: TraceFormat) -> int:
    """Prompt tokens for which each of the trace's `hash_ids` stands."""
    return load.block_tokens or form.block_tokens


# --- what SageMaker captured ---------------------------------------------------------------------------------------


def _body(captured: object, where: str, load: TraceReplay) -> object:
    """What was sent or came back: JSON where it is, else text."""
    data = captured.get("data") if isinstance(captured, dict) else None
    if not isinstance(data, str):
        raise record_fault(load, where, f"bad value {shown(captured)}", "`data` and `encoding`")
    if captured.get("encoding") == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise record_fault(load, where, f"bad value {shown(data)}: {error}", "UTF-8 text in BASE64") from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def _asked(body: object, where: str, load: TraceReplay) -> tuple[str, int]:
    """The text of the prompt in the body of a request, and of how many messages."""
    if isinstance(body, dict):
        inputs = body.get("inputs", body.get("prompt"))
        inputs = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else inputs
        text, messages = _text({"messages": body["messages"]} if "messages" in body else {"text": inputs})
        if text is not None:
            return text, messages
    raise record_fault(
        load,
        where,
        f"endpointInput: bad value {shown(body)}",
        "a request with one prompt as text in `messages`, `prompt` or `inputs`",
        "delete this line",
    )


def _answered(captured: object, where: str, load: TraceReplay) -> tuple[int | None, str | None]:
    """Output tokens as the server counted them, else the text of the answer; None where neither was captured."""
    if captured is None:
        return None, None
    body = _body(captured, f"{where}: endpointOutput", load)
    body = body[0] if isinstance(body, list) and len(body) == 1 else body
    if not isinstance(body, dict):
        return None, None
    for part, name in (("usage", "completion_tokens"), ("details", "generated_tokens")):
        counts = body.get(part)
        if isinstance(counts, dict) and counts.get(name) is not None:
            return _tokens(counts, (name,), f"{where}: endpointOutput: {part}", load), None
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    said = message.get("content") if isinstance(message, dict) else choice.get("text", body.get("generated_text"))
    return None, said if isinstance(said, str) else None
