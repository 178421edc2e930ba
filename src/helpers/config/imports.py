"""Config of results that another tool measured: which files, in which format, and which part of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from helpers.config.strict import Strict
from helpers.config.unquoted import read_unquoted

ResultFormat = Literal[
    "fmbench_volleys",
    "fmbench_requests",
    "guidellm",
    "aiperf",
    "vllm",
    "vllm_sweep",
    "sglang",
    "inferencex",
    "genai_perf",
    "llmeter",
    "inference_perf",
]
SELECTABLE = ("fmbench_volleys", "fmbench_requests", "vllm", "vllm_sweep", "sglang", "inferencex")
"""Formats whose files may hold several options, distinguished by values of columns (or of top-level keys)."""

HOW_TO_ADD = {
    (
        "vllm",
        "latency_s",
    ): "`--percentile-metrics ttft,tpot,itl,e2el` or `--save-detailed` of `vllm bench serve` adds it",
    ("vllm", "ttft_s"): "`--percentile-metrics ttft,tpot,itl,e2el` of `vllm bench serve` adds it",
    ("vllm", "tpot_s"): "`--percentile-metrics ttft,tpot,itl,e2el` of `vllm bench serve` adds it",
    ("aiperf", "ttft_s"): "`--streaming` of `aiperf profile` adds it",
    ("aiperf", "tpot_s"): "`--streaming` of `aiperf profile` adds it",
    ("guidellm", "ttft_s"): "a streamed request format of `guidellm run --backend` adds it",
    ("guidellm", "tpot_s"): "a streamed request format of `guidellm run --backend` adds it",
    ("fmbench_volleys", "ttft_s"): "streaming in FMBench's inference parameters adds it",
    ("fmbench_volleys", "tpot_s"): "streaming in FMBench's inference parameters adds it",
    ("sglang", "error_rate"): "`--output-details` of `sglang.bench_serving` adds it",
    ("inferencex", "error_rate"): "the client's result, from which InferenceX derived it, has it and is read as `vllm`",
    ("genai_perf", "error_rate"): "`aiperf profile`, the successor of GenAI-Perf, counts them",
    ("inference_perf", "ttft_s"): "`api.streaming: true` of inference-perf adds it",
    ("inference_perf", "tpot_s"): "`api.streaming: true` of inference-perf adds it",
    ("llmeter", "ttft_s"): "an endpoint of LLMeter that streams adds it",
    ("llmeter", "tpot_s"): "an endpoint of LLMeter that streams adds it",
    ("genai_perf", "ttft_s"): "`--streaming` of `genai-perf profile` adds it",
    ("genai_perf", "tpot_s"): "`--streaming` of `genai-perf profile` adds it",
}
"""(format, latency or error_rate) -> the tool's option that adds it to the file."""
PERCENTILES = {
    "vllm": "`--metric-percentiles 50,90,95,99` of `vllm bench serve` adds it",
    "vllm_sweep": "`--metric-percentiles 50,90,95,99` in the sweep's `--bench-cmd` adds it",
    "sglang": "`--output-details` of `sglang.bench_serving` adds all of them",
    "genai_perf": "profile_export.json, in the same folder, has all of them",
    "inference_perf": "`report.request_lifecycle.percentiles` of inference-perf adds it",
}
"""Format -> the tool's option that adds more percentiles to the file."""


class ResultFile(Strict):
    """One file, or several by a pattern, with the facts that it lacks."""

    path: str = Field(description="Relative to the config file; `*`, `?` and `**` match several files.")
    dataset: str | None = Field(default=None, description="Its dataset, if the file does not name one.")
    level: float | None = Field(
        default=None, gt=0, description="Concurrency or requests per second (as load.kind says), if the file lacks it."
    )
    requests: int | None = Field(
        default=None, gt=0, lt=2**31, description="Number of measured requests, if the file lacks it."
    )


def _as_files(value: object) -> object:
    """A list of entries, from a path or a list of paths and entries."""
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list):
        return entries
    return [{"path": entry} if isinstance(entry, str) else entry for entry in entries]


_ENTRY_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {"type": "string"},
        "dataset": {"type": ["string", "null"]},
        "level": {"type": ["number", "null"]},
        "requests": {"type": ["integer", "null"]},
    },
}
_FILES_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [{"type": "string"}, _ENTRY_SCHEMA]}}],
    "description": "Result file, relative to the config file; or a list of files, patterns and {path, dataset, level, requests}.",
}


class ResultFiles(Strict):
    """Where an option's results are."""

    format: ResultFormat | None = Field(
        default=None, description="The tool that wrote the files; default: detected from the files."
    )
    path: Annotated[list[ResultFile], BeforeValidator(_as_files), WithJsonSchema(_FILES_SCHEMA)] = Field(min_length=1)
    select: dict[str, Annotated[str | int | float | bool, BeforeValidator(read_unquoted)]] = Field(
        default_factory=dict, description="Column -> value: the rows of this option, if a file holds several options."
    )
    dataset_names: dict[str, str] = Field(
        default_factory=dict, description="Name in the file -> dataset of this config, if they differ."
    )

    @model_validator(mode="after")
    def _select_where_there_are_columns(self) -> ResultFiles:
        if self.select and self.format is not None and self.format not in SELECTABLE:
            raise ValueError(
                f"`select` chooses rows by columns; {self.format} files have none. Delete it, and give each option its "
                "own files in `path`"
            )
        return self
