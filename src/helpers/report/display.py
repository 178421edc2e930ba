"""What a notebook cell shows: prose, tables and figures that render in JupyterLab, in the HTML page and in Markdown.

A value is text, whatever it holds: names, prices' sources and what servers said come from others. It is escaped here and
nowhere else. What is shown as Markdown or HTML is of the types `Markdown` and `Markup`; anything else that enters them is
escaped on the way. JupyterLab strips styles from notebooks that it does not trust, so nothing here depends on any.

What is shown carries the data of its tables, numbers unrounded, as a further kind of output: see `TABLES`.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
import pandas as pd
from markupsafe import Markup

from helpers import number_text
from helpers.report.columns import CATALOGUE, Column

NO_FORMULAS = "mathjax_ignore tex2jax_ignore"  # classes that keep `$` from being read as the start of a formula
TABLES = "application/vnd.llm-serving-verdict.tables+json"
"""The kind of output that holds the data of tables: a list of `{"section", "caption", "headers", "rows"}`."""
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Controls, marks that reverse text, and halves of characters, which no file can hold."""
_READ_AS_MARKDOWN = re.compile(
    r"""
    (?P<address> (?: [a-z][a-z0-9+.-]*:// | www\. ) [^\s|<>`\\]* [^\s|<>`\\.,:;!?'"”)\]*_~] )  # GitHub links it
    | (?P<entity> < (?= [a-z/!?]|$ ) | & (?= \#?\w{1,40}; ) | \\ (?= [()[\]]|$ ) )              # HTML, a formula
    | (?P<mark> [\\`*~|] | \[ (?= \^|[ x]\] ) | \] (?= [(:[] )
        | (?<![a-z0-9_])_+ | _+ (?![a-z0-9_])
        | ^\ ? (?: [#>] | [+=:-] (?= [+=:-]*(?:\s|$) ) | \d{1,9}[.)] (?= \s|$ ) ) )               # opens a block
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""An underscore or a bracket that marks nothing stays as it is, so that reports read well without being rendered."""
_SVG_WIDTH = re.compile(rb'<svg\b[^>]*? width="(?P<width>[\d.]+)(?P<unit>pt)?"')
PX_PER_PT = 4 / 3
READABLE_FROM = 0.8
"""Share of its own size from which a picture can be read: letters of 9 pt are then 9.6 pixels high."""
_ENTITIES = {"<": "&lt;", "&": "&amp;", "\\": "&#92;"}
_CODE_OR_DOLLAR = re.compile(r"(?P<kept>\\.|(?P<fence>`+).+?(?<!`)(?P=fence)(?!`))|\$", re.DOTALL)


# --- values become text -------------------------------------------------------------------------------------------


def one_line(value: object) -> str:
    """A value as text in one line, without what a reader could not see."""
    return _INVISIBLE.sub("\ufffd", re.sub(r"\s+", " ", str(value)))


def in_html(value: object) -> Markup:
    """A value as text of a page: in an element or, quoted, in an attribute."""
    return Markup.escape(value if isinstance(value, Markup) else one_line(value))


class Markdown(Markup):
    """Markdown that is shown as such. It is written as a literal; values enter by `format`, `join` or `+`, as text."""

    __slots__ = ()

    @classmethod
    def escape(cls, value: object) -> Markdown:
        """A value as text: no character of it is read as Markdown, HTML or a link."""
        if isinstance(value, cls):
            return value
        return cls(_READ_AS_MARKDOWN.sub(_as_text, one_line(value)))

    def as_html(self) -> Markup:
        """As the page shows it."""
        from nbconvert.filters import markdown2html

        return Markup(markdown2html(_no_formulas(self)))


def _as_text(found: re.Match[str]) -> str:
    """An address as code; `<` as an entity, for not all dialects know a backslash before it; backslashes before the rest."""
    if found["address"]:
        return f"`{found[0]}`"
    if found["entity"]:
        return _ENTITIES[found[0]]
    if found[0].startswith("_"):
        return "\\_" * len(found[0])
    return f"{found[0][:-1]}\\{found[0][-1]}"


def code(value: object) -> Markdown:
    """A value as a code span, between more backticks than it holds in a row."""
    text = one_line(value)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return Markdown(f"{fence}{pad}{text}{pad}{fence}")


# --- what is shown ------------------------------------------------------------------------------------------------


class Shown(Protocol):
    """What a cell can show: all types below."""

    def _repr_markdown_(self) -> str: ...


class WithTables:
    """What carries the data of tables beside what is shown of them."""

    def tables(self) -> list[dict[str, object]]:
        """The data of each table, as `TABLES` holds them."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        return {TABLES: self.tables()}


@dataclass(frozen=True)
class Prose:
    """A paragraph or list. What is not of the type `Markdown` is text and is shown as it stands."""

    markdown: Markdown | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "markdown", Markdown.escape(self.markdown))

    def _repr_markdown_(self) -> str:
        return _no_formulas(self.markdown)


@dataclass(frozen=True)
class Html:
    """A piece of HTML, which Markdown may contain too. What is not of the type `Markup` is text."""

    html: Markup | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "html", Markup.escape(self.html))

    def _repr_html_(self) -> str:
        return self.html

    def _repr_markdown_(self) -> str:
        return self.html


@dataclass(frozen=True)
class Table(WithTables):
    """Rows under a caption; the first column heads them. Its frame can be focused, so that keys scroll what is too wide."""

    rows: pd.DataFrame | Sequence[Mapping[str, object]]
    columns: Sequence[Column | str]
    """Each may be a key of `columns.CATALOGUE`; one that is not there is text and its own header."""
    caption: str
    reading: str = ""
    """A sentence below that says what to see; empty where there is nothing to say."""

    def __post_init__(self) -> None:
        named = [CATALOGUE.get(each, Column(each, each)) if isinstance(each, str) else each for each in self.columns]
        object.__setattr__(self, "columns", named)
        if not isinstance(self.rows, pd.DataFrame):
            keys = None if self.rows else [column.key for column in named]
            object.__setattr__(self, "rows", pd.DataFrame(self.rows, columns=keys))

    def cells(self) -> list[list[str]]:
        """The text of every cell, row by row."""
        written = [self._column(column) for column in self.columns]
        return [list(row) for row in zip(*written, strict=True)]

    def tables(self) -> list[dict[str, object]]:
        """The values of all columns, unrounded, under headers of which no two are equal; an interval has two columns."""
        times, found = Counter(column.header for column in self.columns), {}
        for column in self.columns:
            header = column.header if times[column.header] == 1 else f"{column.header} ({column.key})"
            values = self.rows[column.key].tolist()
            if values and all(isinstance(value, number_text.Interval) for value in values):
                found[f"{header}, low"] = [value.low for value in values]
                found[f"{header}, high"] = [value.high for value in values]
            else:
                found[header] = values
        rows = [list(map(_as_data, row)) for row in zip(*found.values(), strict=True)]
        return [{"section": None, "caption": one_line(self.caption), "headers": list(found), "rows": rows}]

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
        head = Markup().join(
            Markup('<th scope="col" style="text-align:{}">{}</th>').format(a, in_html(c.header))
            for c, a in zip(self.columns, align, strict=True)
        )
        heading, others = Markup('<th scope="row" style="{}">{}</th>'), Markup('<td style="{}">{}</td>')
        kinds = [heading, *[others] * (len(styles) - 1)]
        body = Markup().join(
            Markup("<tr>{}</tr>").format(
                Markup().join(kind.format(style, in_html(t)) for kind, t, style in zip(kinds, row, styles, strict=True))
            )
            for row in self.cells()
        )
        return Markup(
            '<div class="table {}" role="region" tabindex="0" aria-label="{}"><table>'
            '<caption style="caption-side:top;text-align:left">{}</caption>'
            "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>{}"
        ).format(
            NO_FORMULAS,
            in_html(self.caption),
            in_html(self.caption),
            head,
            body,
            Markup('<p class="{}">{}</p>').format(NO_FORMULAS, in_html(self.reading)) if self.reading else "",
        )

    def _repr_markdown_(self) -> str:
        said = Markdown("\n{}\n").format(self.reading) if self.reading else ""
        return _no_formulas(Markdown("*{}*\n\n{}").format(self.caption, self._grid(Markdown.escape)) + said)

    def plain(self) -> str:
        """The table for a terminal, where nothing is read as Markdown."""
        said = f"\n{one_line(self.reading)}\n" if self.reading else ""
        return f"*{one_line(self.caption)}*\n\n{self._grid(one_line)}{said}"

    def _grid(self, written: Callable[[object], str]) -> Markdown:
        rules = ["---" if column.write is None else "---:" for column in self.columns]
        rows = [map(written, row) for row in ([c.header for c in self.columns], *self.cells())]
        first, *others = (f"| {' | '.join(row)} |\n" for row in rows)
        return Markdown(f"{first}| {' | '.join(rules)} |\n{''.join(others)}")


@dataclass(frozen=True)
class Folded(WithTables):
    """One line that says what matters, and the table that it is taken from folded behind it."""

    summary: str
    inside: Table

    def tables(self) -> list[dict[str, object]]:
        """The data of the table."""
        return self.inside.tables()

    def _repr_html_(self) -> str:
        details = Markup('<details><summary class="{}">{}</summary>{}</details>')
        return details.format(NO_FORMULAS, in_html(self.summary), Markup(self.inside._repr_html_()))

    def _repr_markdown_(self) -> str:
        details = Markup("<details><summary>{}</summary>\n\n{}\n</details>\n")
        return details.format(in_html(self.summary), Markup(self.inside._repr_markdown_()))


@dataclass(frozen=True)
class Section(WithTables):
    """What stands together, under a second-level heading of its own or under the one before it."""

    title: str
    """Empty: none of its own."""
    shown: Sequence[Shown]

    def tables(self) -> list[dict[str, object]]:
        """The data of all tables under the heading."""
        found = [table for it in self.shown if isinstance(it, WithTables) for table in it.tables()]
        return [{**table, "section": one_line(self.title)} for table in found] if self.title else found

    def _repr_html_(self) -> str:
        heading = Markup('<h2 id="{}">{}</h2>').format(one_line(self.title).replace(" ", "-"), in_html(self.title))
        return Markup("\n").join([*([heading] if self.title else []), *map(_in_page, self.shown)])

    def _repr_markdown_(self) -> str:
        heading = [Markdown("## {}").format(self.title)] if self.title else []
        return "\n\n".join([*heading, *(it._repr_markdown_() for it in self.shown)])


def section(title: str, *shown: Shown | None) -> Section | None:
    """A section with those of its parts that there are; None where there is none."""
    there = [it for it in shown if it is not None]
    return Section(title, there) if there else None


def together(*shown: Shown | None) -> Section | None:
    """Those of some parts that there are, in one output; None where there is none."""
    return section("", *shown)


def _in_page(shown: Shown) -> Markup:
    return shown.markdown.as_html() if isinstance(shown, Prose) else Markup(shown._repr_html_())


@dataclass(frozen=True)
class Figure:
    """A picture with its alternative text, the caption that says how to read it, and a title that says what it shows."""

    path: Path
    alt: str
    caption: str
    title: str = ""

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.path.read_bytes()).decode()
        kind = {".svg": "svg+xml", ".png": "png"}[self.path.suffix]
        title = Markup("<p><strong>{}</strong></p>").format(in_html(self.title)) if self.title else ""
        return Markup(
            '<figure id="{}">{}<div class="picture" role="group" tabindex="0" aria-label="{}">'
            '<img src="data:image/{};base64,{}" alt="{}" style="max-width:100%{}"></div><figcaption>{}</figcaption></figure>'
        ).format(
            self.path.stem,
            title,
            in_html(self.title or self.caption or self.alt),
            kind,
            data,
            in_html(self.alt),
            self._least(),
            in_html(self.caption),
        )

    def _least(self) -> str:
        """The width below which the letters of an SVG could not be read, as a style; nothing where it has no width."""
        found = _SVG_WIDTH.search(self.path.read_bytes())
        if found is None:
            return ""
        pixels = float(found["width"]) * (PX_PER_PT if found["unit"] else 1)
        return f";min-width:{READABLE_FROM * pixels:.0f}px"

    def _repr_markdown_(self) -> str:
        title = Markdown("**{}**\n\n").format(self.title) if self.title else ""
        picture = Markdown("![{}](figures/{})\n").format(self.alt, Markdown(quote(self.path.name)))
        caption = Markdown("\n*{}*\n").format(self.caption) if self.caption else ""
        return _no_formulas(title + picture + caption)


def _no_formulas(markdown: str) -> str:
    """Escape dollars outside code, which Jupyter and GitHub would read as formulas."""
    return _CODE_OR_DOLLAR.sub(lambda found: found["kept"] or "\\$", str(markdown))


def _as_data(value: object) -> str | float | bool | None:
    """A value as JSON can hold it: unknown is None, what is infinite or no number is text."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value != value:
        return None
    is_number = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_number else one_line(value)
