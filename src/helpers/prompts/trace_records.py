"""The records of a trace file, one for each request, whatever the format; formats are recognised by the columns of the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.config.load import TraceReplay
from helpers.errors import ConfigError, PromptError, shown
from helpers.prompts.source_files import read_values

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


def records_of(load: TraceReplay, base_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
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


def in_lower_case(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its names in lower case."""
    return {str(name).strip().lower(): value for name, value in record.items() if name is not None}


def format_of(record: dict[str, Any]) -> TraceFormat:
    """The format whose columns a record has."""
    there = in_lower_case(record).keys()
    return next(form for form in FORMATS if form.marks <= there)


def record_fault(
    load: TraceReplay, where: str, found: str, expected: str, next_step: str = "correct the file"
) -> ConfigError:
    """What is wrong with a record."""
    return ConfigError(f"load.path {load.path!r}: {where}: {found}. Expected {expected}. Next: {next_step}")


def _captured(value: dict[str, Any], where: str, load: TraceReplay) -> dict[str, Any]:
    """A captured call as one flat record."""
    capture, about = value["captureData"], value.get("eventMetadata")
    if not isinstance(capture, dict) or not isinstance(about, dict) or "endpointInput" not in capture:
        raise record_fault(
            load,
            where,
            f"bad value {shown(value)}",
            "captureData.endpointInput and eventMetadata.inferenceTime",
            "capture Input as well (CaptureOptions), or delete this line",
        )
    there = {"timestamp": about["inferenceTime"]} if "inferenceTime" in about else {}
    return there | {"endpointInput": capture["endpointInput"], "endpointOutput": capture.get("endpointOutput")}


def _measured(value: dict[str, Any], where: str, load: TraceReplay) -> Iterator[tuple[str, dict[str, Any]]]:
    """The requests of a result with one item per request in parallel lists; what failed has no output."""
    starts, lists = value["start_times"], {name: value.get(name) for name in ("input_lens", "output_lens")}
    errors = value.get("errors") or [""] * len(starts or ())
    for name, items in {"start_times": starts, **lists, "errors": errors}.items():
        if not isinstance(items, list) or len(items) != len(starts):
            raise record_fault(load, where, f"bad value {shown(items)} in {name!r}", "a list with one item per request")
    for i, (start, error) in enumerate(zip(starts, errors, strict=True)):
        sizes = {name: items[i] for name, items in lists.items()}
        yield f"{where}, item {i}", {"timestamp": start, **sizes, **({"output_lens": 0} if error else {})}
