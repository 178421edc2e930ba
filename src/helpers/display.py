"""What a notebook cell shows: prose, tables and figures that render in JupyterLab, in the HTML page and in Markdown.

JupyterLab strips styles from notebooks that it does not trust, so nothing here depends on any.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers import number_text

NO_FORMULAS = "mathjax_ignore tex2jax_ignore"  # classes that keep `$` from being read as the start of a formula


@dataclass(frozen=True)
class Prose:
    """A paragraph or list in Markdown."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return _no_formulas(self.markdown)


@dataclass(frozen=True)
class Html:
    """A piece of HTML, which Markdown may contain too."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

    def _repr_markdown_(self) -> str:
        return self.html


@dataclass(frozen=True)
class Column:
    """A column of a table: where its values are, its header with the unit, and how they are written."""

    key: str
    header: str
    write: Callable[[float | None, int], str] | None = None
    """(value, decimals of the column) -> text; null: text as it is."""
    best: str | None = None
    """`lowest` or `highest`: that value is marked in words."""
    wraps: bool = False
    """Long text that may be broken into lines."""


def numeric(key: str, header: str, best: str | None = None, decimals: int | None = None) -> Column:
    """A right-aligned column of numbers, all with the same decimals."""
    return Column(key, header, lambda v, d: number_text.number(v, d if decimals is None else decimals), best)


@dataclass(frozen=True)
class Table:
    """Rows under a caption."""

    rows: pd.DataFrame
    columns: Sequence[Column]
    caption: str

    def cells(self) -> list[list[str]]:
        """The text of every cell, row by row."""
        written = [self._column(column) for column in self.columns]
        return [list(row) for row in zip(*written, strict=True)]

    def _column(self, column: Column) -> list[str]:
        values = self.rows[column.key].tolist()
        if column.write is None:
            return ["–" if value is None or value != value else str(value) for value in values]
        decimals = number_text.decimals_for(values)
        texts = [column.write(value, decimals) for value in values]
        known = [value for value in values if number_text.is_known(value)]
        if column.best and len(set(known)) > 1:
            best = min(known) if column.best == "lowest" else max(known)
            texts = [f"{t} ({column.best})" if v == best else t for t, v in zip(texts, values, strict=True)]
        return texts

    def _repr_html_(self) -> str:
        align = ["left" if column.write is None else "right" for column in self.columns]
        styles = [
            f"text-align:{a};{'min-width:16rem' if c.wraps else 'white-space:nowrap'}"
            for c, a in zip(self.columns, align, strict=True)
        ]
        head = "".join(
            f'<th scope="col" style="text-align:{a}">{html.escape(c.header)}</th>'
            for c, a in zip(self.columns, align, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(f'<td style="{style}">{html.escape(t)}</td>' for t, style in zip(row, styles, strict=True))
            + "</tr>"
            for row in self.cells()
        )
        caption = f'<caption style="caption-side:top;text-align:left">{html.escape(self.caption)}</caption>'
        return (
            f'<div class="table {NO_FORMULAS}"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            "</div>"
        )

    def _repr_markdown_(self) -> str:
        return _no_formulas(self.plain())

    def plain(self) -> str:
        """The table as Markdown for a terminal, where dollars need no escape."""
        lines = [
            "| " + " | ".join(_in_markdown_cell(c.header) for c in self.columns) + " |",
            "| " + " | ".join("---" if c.write is None else "---:" for c in self.columns) + " |",
            *("| " + " | ".join(_in_markdown_cell(text) for text in row) + " |" for row in self.cells()),
        ]
        return f"*{self.caption}*\n\n" + "\n".join(lines) + "\n"


def _in_markdown_cell(text: str) -> str:
    """Text that neither ends a cell or a row nor becomes HTML."""
    return html.escape(" ".join(text.splitlines()), quote=False).replace("|", "\\|")


@dataclass(frozen=True)
class Figure:
    """A picture with its alternative text and the caption that says how to read it."""

    path: Path
    alt: str
    caption: str

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.path.read_bytes()).decode()
        kind = {".svg": "svg+xml", ".png": "png"}[self.path.suffix]
        return (
            f'<figure id="{self.path.stem}"><img src="data:image/{kind};base64,{data}" alt="{html.escape(self.alt)}" '
            f'style="max-width:100%"><figcaption>{html.escape(self.caption)}</figcaption></figure>'
        )

    def _repr_markdown_(self) -> str:
        return f"![{self.alt}](figures/{self.path.name})\n\n*{self.caption}*\n"


def _no_formulas(markdown: str) -> str:
    """Escape dollars, which Jupyter and GitHub would read as formulas."""
    return markdown.replace("$", "\\$")
