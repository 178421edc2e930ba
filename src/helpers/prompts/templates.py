"""The wording of prompts: text files in data/prompt_templates whose `{column}` stands for a column of the source."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.config.benchmark import DATA_DIR
from helpers.config.yaml import expanded
from helpers.errors import PromptError

TEMPLATE_DIR = DATA_DIR / "prompt_templates"


@dataclass(frozen=True)
class Template:
    """The wording of a prompt: `{column}` stands for a column of the source, `{{` and `}}` for braces."""

    name: str
    path: Path
    sha256: str
    """Of the file's bytes."""
    pieces: tuple[tuple[str, str | None], ...]
    """(literal text, column that follows it); None where no column follows."""

    @property
    def columns(self) -> list[str]:
        """The columns that the template names, in its order, each once."""
        return list(dict.fromkeys(column for _, column in self.pieces if column is not None))

    def fill(self, columns: Mapping[str, str]) -> str:
        """The user message. Braces in the columns stay as they are. KeyError if a column is missing."""
        return "".join(text + ("" if column is None else columns[column]) for text, column in self.pieces)


def load_template(name_or_path: str, base_dir: Path) -> Template:
    """A template of data/prompt_templates by its name, or a file (relative to `base_dir`) by its path.

    Raises PromptError if there is none, or its braces are not `{column}`.
    """
    named = TEMPLATE_DIR / f"{name_or_path}.txt"
    path = named if named.is_file() else base_dir / expanded(name_or_path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8").removesuffix("\n")
        pieces = tuple(_pieces(text))
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in TEMPLATE_DIR.glob("*.txt")))
        raise PromptError(
            f"prompts.template {name_or_path!r}: {path}: {error.strerror}. Next: give a path, or one of {known}"
        ) from None
    except ValueError as error:  # braces, or not UTF-8
        raise PromptError(
            f"{path}: not a prompt template: {error}. Next: write {{column}} for a column, {{{{ and }}}} for braces"
        ) from None
    return Template(path.stem, path, hashlib.sha256(content).hexdigest(), pieces)


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    for literal, column, format_spec, conversion in string.Formatter().parse(text):
        if column == "" or format_spec or conversion:
            raise ValueError("braces must hold a column name and nothing else")
        yield literal, column
