"""The requests of a recorded trace: when they came, how long they and their answers were, and what they said.

Formats are recognised by the columns of the first record. A file is read record by record, twice: once for the times, 8 bytes
each, and once for the requests that are replayed, so that memory grows with these and not with the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from array import array
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from helpers.config.load import UNITS_S, TraceReplay
from helpers.errors import ConfigError, PromptError, cut, shown
from helpers.prompts.record_shapes import texts_of_messages
from helpers.prompts.source_files import read_values

USUAL_COLUMNS = (
    "timestamp",
    "arrival_time",
    "arrived_at",
    "arrival",
    "time",
    "ts",
    "start_time",
    "request_time",
    "created_at",
)
USUAL_COLUMNS += ("datetime", "date")
"""Looked for in this order where the config names no column; upper and lower case are one."""
INPUT_TOKENS = ("input_tokens", "prompt_tokens", "input_length", "contexttokens", "request tokens", "input_lens")
OUTPUT_TOKENS = (
    "output_tokens",
    "completion_tokens",
    "output_length",
    "generatedtokens",
    "response tokens",
    "output_lens",
)
TEXTS = ("text", "text_input", "prompt", "messages")
BLOCKS = "hash_ids"
"""Columns that a replay of lengths reads, in lower case, the first that is there."""
LIKELY_SECONDS = 10.0
"""A median gap below this, in numbers with fractions, is one in seconds: in milliseconds it would be over 100 requests/s."""
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EPOCHS = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}
"""Unit -> 2001-09-09 as a time since 1970; four times that is 2096."""


@dataclass(frozen=True)
class TraceFormat:
    """A format that is known by its columns."""

    name: str
    marks: frozenset[str]
    """Columns that its records have, in lower case."""
    unit: str | None = None
    """Of its times, where they are numbers."""
    block_tokens: int = 512
    """Prompt tokens for which each of its `hash_ids` stands."""


CAPTURED = TraceFormat("SageMaker Data Capture", frozenset({"endpointinput"}))
MEASURED = TraceFormat("a result of vllm bench serve", frozenset({"input_lens"}), "s")
OWN_COLUMNS = TraceFormat("own columns", frozenset())
FORMATS = (
    CAPTURED,
    MEASURED,
    TraceFormat("Azure LLM inference trace", frozenset({"contexttokens", "generatedtokens"})),
    TraceFormat("BurstGPT", frozenset({"request tokens", "response tokens"}), "s"),
    TraceFormat("Qwen Bailian", frozenset({"hash_ids", "chat_id"}), "s", 16),
    TraceFormat("Mooncake", frozenset({"hash_ids"}), "ms"),
    TraceFormat("AIPerf", frozenset({"text_input"}), "ms"),
    OWN_COLUMNS,
)
"""The first whose marks are all there. SageMaker's records are read as they are nested, those of vLLM's results item by item.

Sources: github.com/Azure/AzurePublicDataset (AzureLLMInferenceDataset2023, 2024),
github.com/HPMLL/BurstGPT, github.com/alibaba-edu/qwen-bailian-usagetraces-anon (seconds, 16 tokens: vllm-project/vllm#39795,
whose timed-trace reads it and Mooncake's), github.com/kvcache-ai/Mooncake (FAST'25 traces), AIPerf's mooncake_trace
(docs.nvidia.com/aiperf), `vllm bench serve --save-detailed`, and "Data capture" in the SageMaker developer guide."""


@dataclass(frozen=True)
class Trace:
    """When the requests of a trace arrived that are to be replayed, and what else it knows of them."""

    seconds: np.ndarray
    """Since the first of them, ascending."""
    read_as: str
    """How its times were read, for people."""
    format: TraceFormat
    has_lengths: bool
    """Does the file know more than times."""
    brings_prompts: bool
    """Are lengths and texts replayed too; False: the times alone."""
    in_file: int
    """Requests in the file."""
    column: str
    """Of the times."""
    unit_s: float
    kept: np.ndarray
    """The same times as the file gives them."""

    @property
    def is_to_the_second(self) -> bool:
        """True if all times are whole seconds apart, so that the requests of a second come at once."""
        return bool(len(self.seconds) > 2 and not (np.round(self.seconds, 6) % 1).any())

    @property
    def words(self) -> str:
        """How many requests it has, for how long, and how its times were read."""
        length_s = float(self.seconds[-1])
        rate = f", {len(self.seconds) / length_s:.3g} a second" if length_s else ""
        of = f" of the {self.in_file:,} in the file" if len(self.seconds) < self.in_file else ""
        at_once = "; they are whole seconds: the requests of a second are sent at once" if self.is_to_the_second else ""
        lengths = (
            "; its lengths are not replayed (load.lengths)" if self.has_lengths and not self.brings_prompts else ""
        )
        return (
            f"{len(self.seconds):,} requests{of} in {length_s:,.6g} s{rate}; format: {self.format.name}; times read as "
            f"{self.read_as}{at_once}{lengths}"
        )


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


# --- times --------------------------------------------------------------------------------------------------------


def read_trace(load: TraceReplay, base_dir: Path) -> Trace:
    """The times of the trace that a load replays, at its own speed. Raises ConfigError where it cannot be read."""
    times, dates = array("d"), 0
    first: dict[str, Any] = {}
    column = ""
    for number, (where, record) in enumerate(_records(load, base_dir), 1):
        if number == 1:
            first, column = record, _column(load, record)
        time, is_date = _time_in(record, column, where, number, load)
        times.append(time)
        dates += is_date
    if len(times) < 2:
        raise ConfigError(
            f"load.path {load.path!r}: {len(times)} times. Expected two or more. Next: give a longer trace"
        )
    if dates not in (0, len(times)):
        raise ConfigError(
            f"load.path {load.path!r}: {dates} of {len(times)} times are dates, the others numbers. Expected one kind. "
            "Next: correct the file"
        )
    values, form = np.sort(np.frombuffer(times)), _format_of(first)
    unit, read_as = ("s", "dates") if dates else _unit(load, values, column, form)
    if dates and load.unit is not None:
        raise ConfigError(
            f"load.unit: bad value {load.unit!r}: the times of {load.path!r} are dates, which have no unit. Next: delete "
            "load.unit"
        )
    has_lengths = form is CAPTURED or any(name in _lower(first) for name in (*INPUT_TOKENS, *TEXTS))
    if load.lengths == "trace" and not has_lengths:
        raise ConfigError(
            f"load.lengths: bad value 'trace': {load.path!r} has the columns {cut(', '.join(map(str, first)), 400)}. Expected a "
            f"length of the prompt, one of: {', '.join(INPUT_TOKENS)}; or its text, one of: {', '.join(TEXTS)}. Next: write "
            "`lengths: prompts`, or name the columns so"
        )
    kept = _kept(load, values, UNITS_S[unit])
    return Trace(
        seconds=(kept - kept[0]) * UNITS_S[unit],
        read_as=read_as,
        format=form,
        has_lengths=has_lengths,
        brings_prompts=has_lengths and load.lengths != "prompts",
        in_file=len(values),
        column=column,
        unit_s=UNITS_S[unit],
        kept=kept,
    )


def _kept(load: TraceReplay, values: np.ndarray, unit_s: float) -> np.ndarray:
    """The times that are replayed, of all, which are sorted."""
    since_first = (values - values[0]) * unit_s
    start, end = load.window or (0.0, np.inf)
    kept = values[(since_first >= start) & (since_first < end)][: load.max_requests]
    if not len(kept):
        raise ConfigError(
            f"load.window: bad value [{start:g}, {end:g}]: none of the {len(values):,} requests of {load.path!r} came then. "
            f"Expected a part of [0, {since_first[-1]:,.6g}], in seconds since its first. Next: correct load.window"
        )
    return kept


def _records(load: TraceReplay, base_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of each request, in the order of the file; a value that is no object is a time."""
    try:
        for where, value in read_values(load.path, base_dir, hub=False, key="load.path"):
            if not isinstance(value, dict):
                yield where, {load.timestamp: value}
            elif "captureData" in value:
                yield where, _captured(value, where, load)
            elif "start_times" in value:
                yield from _measured(value, where, load)
            else:
                yield where, value
    except PromptError as error:
        raise ConfigError(f"load.path {load.path!r}: cannot be read: {error}") from None


def _lower(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its names in lower case."""
    return {str(name).strip().lower(): value for name, value in record.items() if name is not None}


def _format_of(record: dict[str, Any]) -> TraceFormat:
    """The format whose columns a record has."""
    there = _lower(record).keys()
    return next(form for form in FORMATS if form.marks <= there)


def _fault(
    load: TraceReplay, where: str, found: str, expected: str, next_step: str = "correct the file"
) -> ConfigError:
    """What is wrong with a record."""
    return ConfigError(f"load.path {load.path!r}: {where}: {found}. Expected {expected}. Next: {next_step}")


def _column(load: TraceReplay, record: dict[str, Any]) -> str:
    """The column of times: as named, in any case; without a name a usual one, also followed by a unit."""
    there = {str(name).strip().lower(): name for name in record if name is not None}
    named = "timestamp" in load.model_fields_set
    for name in (load.timestamp,) if named else USUAL_COLUMNS:
        for ending in ("",) if named else ("", *(f"_{unit}" for unit in UNITS_S)):
            if (found := there.get(f"{name.lower()}{ending}")) is not None:
                return found
    return load.timestamp


def _time_in(record: dict[str, Any], column: str, where: str, number: int, load: TraceReplay) -> tuple[float, bool]:
    """The time of a record, and whether it is a date."""
    if column not in record:
        raise ConfigError(
            f"load.path {load.path!r}: record {number} ({where}) has no column {column!r}. Expected load.timestamp to be one of: "
            f"{cut(', '.join(map(str, record)), 400)}. Next: set load.timestamp"
        )
    time = _time(record[column])
    if time is None or not math.isfinite(time[0]):
        raise ConfigError(
            f"load.path {load.path!r}: record {number} ({where}): bad value {shown(record[column])} in {column!r}. Expected a "
            "number, or a date such as 2023-11-16T18:15:46.68Z. Next: correct the file, or set load.timestamp to the column of "
            "times"
        )
    return time


def _time(value: object) -> tuple[float, bool] | None:
    """(number, False) or (seconds since 1970, True) of a date; None for anything else. A date without a zone is UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | datetime):
        return None
    with suppress(ValueError, OverflowError, TypeError):
        return float(value), False
    with suppress(ValueError, OverflowError):
        date = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp(), True
    return None


def _unit(load: TraceReplay, values: np.ndarray, column: str, form: TraceFormat) -> tuple[str, str]:
    """The unit of numbers, and why; ConfigError where it is neither stated nor certain."""
    if load.unit is not None:
        return load.unit, f"{UNIT_NAMES[load.unit]} (load.unit)"
    for unit, since_1970 in _EPOCHS.items():
        if since_1970 <= values[0] and values[-1] < 4 * since_1970:
            return unit, f"{UNIT_NAMES[unit]} since 1970, by their size"
        if column.lower().endswith(f"_{unit}"):
            return unit, f"{UNIT_NAMES[unit]}, as {column!r} says"
    if form.unit is not None:
        return form.unit, f"{UNIT_NAMES[form.unit]}: its columns are those of {form.name}"
    if (values % 1).any() and np.median(np.diff(values)) < LIKELY_SECONDS:
        return "s", "seconds: numbers with fractions, a few seconds apart at most"
    length = max(float(values[-1] - values[0]), 1e-9)
    as_s = len(values) / length
    raise ConfigError(
        f"load.unit: the times of {load.path!r} ({values[0]:,.12g} to {values[-1]:,.12g} in {column!r}) may be seconds or "
        f"milliseconds: {as_s:.3g} requests a second, or {1000 * as_s:.3g}. Expected load.unit, one of: {', '.join(UNITS_S)}. "
        "Next: write `unit: s` or `unit: ms`"
    )


# --- lengths and texts --------------------------------------------------------------------------------------------


def read_trace_requests(load: TraceReplay, base_dir: Path, trace: Trace) -> list[TraceRequest]:
    """The requests that are replayed, in the order of their times, up to the end of the longest load point.

    Raises ConfigError for a length that is no whole number of 0 or more, an encoding that cannot be decoded, and a body that
    holds no prompt.
    """
    last_s = load.max_duration_s * max(load.speed)
    kept = trace.kept[trace.seconds <= last_s]
    left_at_last = int((kept == kept[-1]).sum())
    found: list[TraceRequest] = []
    for number, (where, record) in enumerate(_records(load, base_dir), 1):
        time, _ = _time_in(record, trace.column, where, number, load)
        if kept[0] <= time <= kept[-1] and (time < kept[-1] or left_at_last):
            left_at_last -= time == kept[-1]
            seconds = (time - kept[0]) * trace.unit_s
            found.append(_request(_lower(record), seconds, f"record {number} ({where})", load, trace.format))
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
        raise _fault(
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
    raise _fault(load, where, f"bad value {shown(value)} in {name!r}", "a whole number of tokens, 0 or more")


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
        raise _fault(load, where, f"bad value {shown(ids)} in {BLOCKS!r}", "a list of the ids of blocks")
    size = block_tokens(load, form)
    if len(ids) > -(-input_tokens // size):
        raise _fault(
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


# --- SageMaker Data Capture, and results of vLLM ------------------------------------------------------------------


def _captured(value: dict[str, Any], where: str, load: TraceReplay) -> dict[str, Any]:
    """A captured call as one flat record."""
    capture, about = value["captureData"], value.get("eventMetadata")
    if not isinstance(capture, dict) or not isinstance(about, dict) or "endpointInput" not in capture:
        raise _fault(
            load,
            where,
            f"bad value {shown(value)}",
            "captureData.endpointInput and eventMetadata.inferenceTime",
            "capture Input as well (CaptureOptions), or delete this line",
        )
    there = {"timestamp": about["inferenceTime"]} if "inferenceTime" in about else {}
    return there | {"endpointInput": capture["endpointInput"], "endpointOutput": capture.get("endpointOutput")}


def _body(captured: object, where: str, load: TraceReplay) -> object:
    """What was sent or came back: JSON where it is, else text."""
    data = captured.get("data") if isinstance(captured, dict) else None
    if not isinstance(data, str):
        raise _fault(load, where, f"bad value {shown(captured)}", "`data` and `encoding`")
    if captured.get("encoding") == "BASE64":
        try:
            data = base64.b64decode(data, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _fault(load, where, f"bad value {shown(data)}: {error}", "UTF-8 text in BASE64") from None
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
    raise _fault(
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


def _measured(value: dict[str, Any], where: str, load: TraceReplay) -> Iterator[tuple[str, dict[str, Any]]]:
    """The requests of a result with one item per request in parallel lists; what failed has no output."""
    starts, lists = value["start_times"], {name: value.get(name) for name in ("input_lens", "output_lens")}
    errors = value.get("errors") or [""] * len(starts or ())
    for name, items in {"start_times": starts, **lists, "errors": errors}.items():
        if not isinstance(items, list) or len(items) != len(starts):
            raise _fault(load, where, f"bad value {shown(items)} in {name!r}", "a list with one item per request")
    for i, (start, error) in enumerate(zip(starts, errors, strict=True)):
        sizes = {name: items[i] for name, items in lists.items()}
        yield f"{where}, item {i}", {"timestamp": start, **sizes, **({"output_lens": 0} if error else {})}
