"""What a config says of results that another tool measured: which files, in which format, and which part of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from helpers.strict import Strict
from helpers.unquoted import read_unquoted

ResultFormat = Literal["fmbench_volleys", "fmbench_requests", "guidellm", "aiperf", "vllm"]
SELECTABLE = ("fmbench_volleys", "fmbench_requests", "vllm")
"""Formats whose files may hold several options, told apart by the values of columns (or of keys at the top)."""


class ResultFile(Strict):
    """One file, or several by a pattern, with what the file does not tell itself."""

    path: str = Field(description="Relative to the config file; `*`, `?` and `**` match several files.")
    dataset: str | None = Field(default=None, description="Its dataset, where the file does not name one.")
    level: float | None = Field(
        default=None, gt=0, description="Concurrency or requests per second (as load.kind says), if the file lacks it."
    )


def _as_files(value: object) -> object:
    """A path, or a list of paths and entries, as a list of entries."""
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
    },
}
_FILES_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [{"type": "string"}, _ENTRY_SCHEMA]}}],
    "description": "Result file, relative to the config file; or a list of files, patterns and {path, dataset, level}.",
}


class ResultFiles(Strict):
    """Where an option's results are."""

    format: ResultFormat = Field(description="The tool that wrote the files; see docs/import.md.")
    path: Annotated[list[ResultFile], BeforeValidator(_as_files), WithJsonSchema(_FILES_SCHEMA)] = Field(min_length=1)
    select: dict[str, Annotated[str | int | float | bool, BeforeValidator(read_unquoted)]] = Field(
        default_factory=dict, description="Column -> value: the rows of this option, where a file holds several."
    )
    dataset_names: dict[str, str] = Field(
        default_factory=dict, description="Name in the file -> dataset of this config, where they differ."
    )

    @model_validator(mode="after")
    def _select_where_there_are_columns(self) -> ResultFiles:
        if self.select and self.format not in SELECTABLE:
            raise ValueError(
                f"`select` chooses rows by columns; {self.format} files have none. Delete it, and give each option its "
                "own files in `path`"
            )
        return self
