"""The formats of result files: the reader of each, and the keys by which its files are recognised."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.imports import SELECTABLE, ResultFormat
from helpers.config.options import ImportedOption
from helpers.errors import ConfigError
from helpers.importers import (
    aiperf,
    fmbench,
    genai_perf,
    guidellm,
    inference_perf,
    inferencex,
    llmeter,
    sglang,
    vllm,
    vllm_sweep,
)
from helpers.importers.files import OpenedFile, read_text
from helpers.importers.found import Found


class Format(NamedTuple):
    """One format of result files."""

    reader: Callable[[OpenedFile, ImportedOption, BenchmarkConfig], Found]
    marks: tuple[tuple[str, ...], ...]
    """Sets of keys in a file's first object (or of columns), any one of which suffices; `a.b` is key `b` of the object at `a`."""


FORMATS: dict[ResultFormat, Format] = {
    "fmbench_volleys": Format(fmbench.read_volleys, (fmbench.VOLLEY_COLUMNS,)),
    "fmbench_requests": Format(fmbench.read_requests, (fmbench.REQUEST_COLUMNS,)),
    "sglang": Format(sglang.read, (sglang.NEEDED,)),
    "vllm_sweep": Format(vllm_sweep.read, (vllm_sweep.MARKS,)),
    "vllm": Format(vllm.read, (("duration", "completed", "request_rate"),)),
    "inferencex": Format(inferencex.read, (inferencex.NEEDED, inferencex.NESTED)),
    "guidellm": Format(guidellm.read, (("benchmarks",),)),
    "genai_perf": Format(genai_perf.read, (genai_perf.STATISTICS_MARKS, genai_perf.PROFILE_MARKS)),
    "aiperf": Format(aiperf.read, (("metadata.request_start_ns", "metrics"), ("request_latency", "input_config"))),
    "llmeter": Format(llmeter.read, (llmeter.RESPONSE, llmeter.SUMMARY, llmeter.STATISTICS)),
    "inference_perf": Format(inference_perf.read, (inference_perf.REPORT, inference_perf.REQUEST)),
}
"""The first format whose marks a file has is used, so a format comes before those that have a subset of its marks."""
LISTED = "["
"""Marks a file whose objects are in a list."""


def format_of(file: OpenedFile, option: ImportedOption, key: str) -> ResultFormat:
    """The format that the config states, else the detected one. ConfigError if they differ.

    A file without marks is left to the reader of the stated format, which reports what is missing. `key` is the option's
    place in the config.
    """
    seen = recognised(file)
    known = ", ".join(FORMATS)
    if seen is None and option.format is None:
        raise ConfigError(
            f"{key}.path: {file.shown} is not in a known format. Expected one of: {known}. Next: correct `path`, or write "
            "`format: ...` to see what the file lacks"
        )
    if seen is not None and option.format not in (None, seen):
        raise ConfigError(
            f"{key}.format: bad value {option.format!r}: {file.shown} looks like {seen}. Expected the format of the file. Next: "
            f"write `format: {seen}`, or leave `format` out"
        )
    if option.select and (option.format or seen) not in SELECTABLE:
        raise ConfigError(
            f"{key}.select: {file.shown} is {seen}, whose files have no columns to choose by. Expected one of: "
            f"{', '.join(SELECTABLE)}. Next: delete `select`, and give each option its own files in `path`"
        )
    return option.format or seen


def recognised(file: OpenedFile) -> ResultFormat | None:
    """The format whose marks a file has; None if it has none, or is neither JSON nor a table."""
    keys = set(_keys(read_text(file)))
    return next((name for name, one in FORMATS.items() if any(keys.issuperset(marks) for marks in one.marks)), None)


def _keys(text: str) -> Iterator[str]:
    text = text.lstrip()
    if text[:1] not in ("{", "["):
        yield from next(csv.reader(text[:10000].splitlines()[:1]), [])
        return
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return
    if isinstance(value, list):
        yield LISTED
        value = value[0] if value else {}
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        yield key
        if isinstance(inner, dict):
            yield from (f"{key}.{name}" for name in inner)
