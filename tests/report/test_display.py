"""How numbers are written, and what tables and figures look like in HTML and Markdown."""

import ast
import base64
import dataclasses
import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert.filters import markdown2html

import helpers
from helpers import number_text as text
from helpers.config.benchmark import PROJECT_ROOT
from helpers.report.columns import CATALOGUE, Column, numeric
from helpers.report.display import TABLES, Figure, Folded, Html, Markdown, Prose, Table, code, section, together

INF = math.inf

# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.number(1234567.891, 2), "1,234,567.89"),
        (text.number(0.5), "0"),
        (text.number(None, 2), "–"),
        (text.number(math.nan, 2), "–"),
        (text.number(INF, 2), "∞"),
        (text.number(0.0, 2), "0.00"),
        (text.significant(0.0012345), "0.00123"),
        (text.significant(12.345), "12.3"),
        (text.significant(12345.6), "12,346"),
        (text.significant(None), "–"),
        (text.significant(0), "0"),
        (text.dollars(1234.5), "$1,234"),
        (text.dollars(0.1234), "$0.123"),
        (text.dollars(0.0), "$0"),
        (text.dollars(None), "–"),
        (text.dollars(INF), "$∞"),
        (text.percent(0.305), "30%"),
        (text.percent(0.305, 1), "30.5%"),
        (text.percent(None), "–"),
        (text.duration(0.0456), "45.6 ms"),
        (text.duration(1.0), "1.00 s"),
        (text.duration(12.345), "12.3 s"),
        (text.duration(None), "–"),
        (text.duration(INF), "∞ s"),
        (str(text.Interval(1.234, 5.678, 2)), "[1.23, 5.68]"),
        (str(text.Interval(1.0, INF, 1)), "[1.0, ∞]"),
        (str(text.Interval(1.0, None, 1)), "[1.0, ∞]"),
        (str(text.Interval(None, None, 1)), "–"),
        (str(text.Interval(math.nan, None, 1)), "–"),
        (text.plural(1, "instance"), "1 instance"),
        (text.plural(1200, "instance"), "1,200 instances"),
        (text.plural(0, "file"), "0 files"),
    ],
)
def test_numbers_are_written_as_people_read_them(written, expected):
    assert written == expected


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([], 0),
        ([None, math.nan, INF, 0], 0),
        ([123.4, 5000], 0),
        ([12.3], 1),
        ([1.0, 100], 2),
        ([0.05, 9], 4),
        ([1e-9], 6),
        ([-0.5, 7], 3),
    ],
)
def test_a_column_has_the_decimals_that_its_smallest_value_needs(values, decimals):
    assert text.decimals_for(values) == decimals


# --- tables -------------------------------------------------------------------------------------------------------

NASTY = 'a|b <b>&"\nc'


@pytest.fixture
def table():
    rows = pd.DataFrame(
        {"name": ["x", NASTY, None, "z"], "usd": [0.25, 12.0, math.nan, 0.25], "rate": [5.0, INF, 7.0, None]}
    )
    columns = [
        Column("name", "na|me"),
        numeric("usd", "$/h", best="lowest"),
        numeric("rate", "req/s", "highest", decimals=1),
    ]
    return Table(rows, columns, "Prices <now>.")


def test_a_column_has_equal_digits_and_its_best_value_is_marked_in_words(table):
    names, usd, rate = zip(*table.cells(), strict=True)
    assert names == ("x", NASTY, "–", "z")
    assert usd == ("0.250 (lowest)", "12.000", "–", "0.250 (lowest)")
    assert rate == ("5.0", "∞ (highest)", "7.0", "–")


@pytest.mark.parametrize("values", [[1.0, 1.0], [1.0, None], [None, None]])
def test_nothing_is_best_among_equals(values):
    table = Table(pd.DataFrame({"v": values}), [numeric("v", "v", best="lowest")], "")
    assert "lowest" not in str(table.cells())


def test_html_holds_the_text_of_every_cell_and_aligns_numbers_to_the_right(table):
    page = BeautifulSoup(table._repr_html_(), "html.parser")
    assert page.caption.text == "Prices <now>."
    heads, *rows = [row.find_all(["th", "td"]) for row in page.find_all("tr")]
    assert [th.text for th in heads] == ["na|me", "$/h", "req/s"]
    assert [th["scope"] for th in heads] == ["col"] * 3
    assert [[cell.get("scope") for cell in row] for row in rows] == [["row", None, None]] * len(table.rows)
    assert [[td.text for td in row] for row in rows] == [[" ".join(t.split()) for t in row] for row in table.cells()]
    assert page.find("b") is None
    for row in [heads, *rows]:
        aligned = [re.search(r"text-align:(\w+)", cell["style"]).group(1) for cell in row]
        assert aligned == ["left", "right", "right"]


def test_markdown_escapes_what_would_break_a_row(table):
    lines = table._repr_markdown_().rstrip("\n").split("\n")
    assert lines[2] == "| na\\|me | \\$/h | req/s |"
    assert lines[3] == "| --- | ---: | ---: |"
    assert lines[5] == '| a\\|b &lt;b>&" c | 12.000 | ∞ (highest) |'
    assert len(lines) == 4 + len(table.rows)


def test_an_empty_table_still_has_its_head(table):
    empty = Table(table.rows.iloc[:0], table.columns, "None.")
    assert empty.cells() == []
    assert "na|me" in empty._repr_html_()
    assert empty._repr_markdown_().endswith("| --- | ---: | ---: |\n")


def test_a_folded_table_shows_its_line_and_holds_the_table(table):
    folded = Folded("2 of 3 <kept> up: $5", table)
    page = BeautifulSoup(folded._repr_html_(), "html.parser")
    assert page.details.summary.text == "2 of 3 <kept> up: $5" and page.find("kept") is None
    assert len(page.details.find_all("tr")) == 1 + len(table.rows)
    markdown = markdown2html(folded._repr_markdown_())
    read = BeautifulSoup(markdown, "html.parser")
    assert read.details.summary.text == "2 of 3 <kept> up: $5"
    assert len(read.details.find_all("tr")) == 1 + len(table.rows)


def test_a_section_has_a_heading_and_what_there_is_of_its_parts(table):
    shown = section("How <much>?", None, Prose(Markdown("It is **so**.")), table, None)
    page = BeautifulSoup(shown._repr_html_(), "html.parser")
    assert page.h2.text == "How <much>?" and page.h2["id"] == "How-<much>?"
    assert page.p.strong.text == "so" and page.find("table") is not None
    lines = shown._repr_markdown_().split("\n")
    assert lines[:3] == ["## How &lt;much>?", "", "It is **so**."]


def test_a_section_of_nothing_is_nothing():
    assert section("Errors", None, None) is None


def test_what_stands_together_has_no_heading_of_its_own(table):
    shown = together(None, Prose("One."), table)
    page = BeautifulSoup(shown._repr_html_(), "html.parser")
    assert page.h2 is None and page.p.text == "One." and page.find("table") is not None
    assert shown._repr_markdown_().startswith("One.\n\n")
    assert [one["section"] for one in shown.tables()] == [one["section"] for one in table.tables()]
    assert together(None) is None


def test_a_table_carries_its_values_unrounded_under_headers_that_differ():
    rows = pd.DataFrame({"a": [1 / 3, INF, None], "b": [np.float64(2e-9), 3, math.nan], "c": ["=1", NASTY, True]})
    same = [numeric("a", "p99, ms"), numeric("b", "p99, ms"), Column("c", "c")]
    table = Table(rows.astype(object), same, "Times.")
    expected = {
        "section": None,
        "caption": "Times.",
        "headers": ["p99, ms (a)", "p99, ms (b)", "c"],
        "rows": [[1 / 3, 2e-9, "=1"], ["inf", 3, NASTY.replace("\n", " ")], [None, None, True]],
    }
    assert table._repr_mimebundle_() == {TABLES: [expected]} == Folded("x", table)._repr_mimebundle_(include=None)
    json.dumps(expected, allow_nan=False)
    assert section("S", Prose("x"), Folded("x", table)).tables() == [expected | {"section": "S"}]


# --- figures and prose --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("cost.svg", "image/svg+xml"), ("cost.png", "image/png")])
def test_a_figure_holds_its_picture_its_alternative_text_and_its_caption(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"<svg/>")
    figure = Figure(tmp_path / name, 'Cost of "a" < cost of b & c', "Lower is better, <1 is best.")
    page = BeautifulSoup(figure._repr_html_(), "html.parser")
    assert page.figure["id"] == "cost"
    assert page.img["alt"] == 'Cost of "a" < cost of b & c'
    assert page.img["src"] == f"data:{kind};base64,{base64.b64encode(b'<svg/>').decode()}"
    assert page.figcaption.text == "Lower is better, <1 is best."
    assert f"(figures/{name})" in figure._repr_markdown_()


def test_a_figure_without_a_caption_or_title_leaves_no_marks_and_is_named_by_its_text(tmp_path):
    path = tmp_path / "a.svg"
    path.write_bytes(b"<svg/>")
    figure = Figure(path, "prices", "")
    assert figure._repr_markdown_() == "![prices](figures/a.svg)\n"
    assert 'aria-label="prices"' in figure._repr_html_()


def test_what_a_table_says_stands_below_it_as_text(table):
    said = dataclasses.replace(table, reading="*a* costs $1 <b>")
    assert said._repr_html_().endswith(">*a* costs $1 &lt;b&gt;</p>")
    assert said._repr_markdown_().rstrip().splitlines()[-1] == r"\*a\* costs \$1 &lt;b>"
    assert said.plain().rstrip().splitlines()[-1] == "*a* costs $1 <b>"
    assert "<p" not in table._repr_html_()


def test_prose_and_html_are_shown_as_they_are_but_dollars_are_no_formula():
    assert Prose("It costs $5 to $6.")._repr_markdown_() == "It costs \\$5 to \\$6."
    assert Prose(Markdown("{} of {}").format(code("$HOME"), "$5"))._repr_markdown_() == "`$HOME` of \\$5"
    page = Html(Markup("<p>{}</p>").format("$5 <b>"))
    assert page._repr_html_() == page._repr_markdown_() == "<p>$5 &lt;b&gt;</p>"


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=http://127.0.0.1:9/x onerror=alert(1)>",
    "![x](http://127.0.0.1:9/x.png)",
    "[x](javascript:alert(1))",
    "http://127.0.0.1:9/x or www.example.com",
    "`code` and ``` more",
    "```",
    "**bold** _it_ ~~out~~",
    "$x^2$ and \\\\(y\\\\)",
    "a | b",
    "# head",
    "#head",
    "1. one",
    "- one",
    "> said",
    "***",
    "&lt;b&gt; &amp;",
    "[x]: http://127.0.0.1:9/",
    "_x_http://127.0.0.1:9/_a_*b*",
    "``https://u:p@h.example/$x$`",
    r"C:\http://127.0.0.1:9/ \` \[y\] \<b> ~\\",
    "[^1] [ ] [] &#60;b&#62;",
    '" onload="alert(1)',
    "</td></table><style>*{display:none}</style>",
]
STRUCTURE = {"p", "ul", "ol", "li", "code", "strong", "em", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize(
    "shown",
    [
        lambda words: Prose(words),
        lambda words: Prose(Markdown("* **{}** and so on").format(words)),
        lambda words: Prose(Markdown("Of {}.").format(code(words))),
        lambda words: Table(pd.DataFrame({"a": [words]}), [Column("a", words)], words),
        lambda words: Html(Markup("<p>{}</p>").format(words)),
    ],
    ids=["prose", "bold in a list", "code", "table", "html"],
)
def test_a_value_is_text_whatever_it_holds(words, shown):
    it = shown(words)
    pages = [markdown2html(it._repr_markdown_()), *([it._repr_html_()] if hasattr(it, "_repr_html_") else [])]
    for page in pages:
        read = BeautifulSoup(page, "html.parser")
        assert {tag.name for tag in read.find_all()} <= STRUCTURE | {"div", "caption"}
        assert words in " ".join(read.get_text().split())


def test_any_mix_of_marks_is_text():
    parts = [
        *"`*_~[]()<>!|#+-=:.&;\\/$ a1",
        "http://a.bc/x",
        "www.a.bc",
        "<b>",
        "&lt;",
        "1.",
        "](",
        "[^1]",
        "~~",
        "\\(",
    ]
    draw = random.Random(7)
    for _ in range(300):
        words = " ".join("".join(draw.choices(parts, k=draw.randint(1, 9))).split())
        shown = Markdown("* **{}** [Configuration](config.yml)").format(words)
        page = BeautifulSoup(markdown2html(Prose(shown)._repr_markdown_()), "html.parser")
        assert {tag.name for tag in page.find_all()} <= STRUCTURE | {"a"}, words
        assert [link["href"] for link in page.find_all("a")] == ["config.yml"], words
        assert words in " ".join(page.get_text().split())


@pytest.mark.parametrize(
    ("words", "markdown"),
    [
        ("en_1-500, my_name: [6.34, 9.23]", "en_1-500, my_name: [6.34, 9.23]"),
        ("Sent: POST http://127.0.0.1:9/v1 (no key).", "Sent: POST `http://127.0.0.1:9/v1` (no key)."),
        ("AT&T: 5 < 6 & 7 > 3, 100%", "AT&T: 5 < 6 & 7 > 3, 100%"),
        ("a*b ~ `c`", r"a\*b \~ \`c\`"),
    ],
)
def test_markdown_reads_well_without_being_rendered(words, markdown):
    assert Prose(words)._repr_markdown_() == markdown


@pytest.mark.parametrize("words", ["two\nlines", "two\r\n\r\n# lines", "bell \x07", "\u202egnp.exe", "half \ud83d"])
def test_a_value_stays_in_its_line_and_hides_nothing(words):
    for shown in (
        Prose(words)._repr_markdown_(),
        code(words),
        Table(pd.DataFrame({"a": [words]}, dtype=object), [Column("a", "a")], "").plain(),
    ):
        shown.encode()
        assert not set(shown.removesuffix("\n")) & set("\r\x07\u202e\ud83d")
    assert "\n" not in Prose(words)._repr_markdown_()


def test_what_is_written_is_markdown_and_what_is_put_together_is_text():
    assert Prose(Markdown("**{}**").format("a*b"))._repr_markdown_() == r"**a\*b**"
    assert Markdown(", ").join(["a*", Markdown("**b**")]) == r"a\*, **b**"
    assert Markdown("**a** ") + "*b*" == r"**a** \*b\*"
    name = "*"
    assert Prose(f"**{name}**")._repr_markdown_() == r"\*\*\*\*\*"


def test_no_module_puts_values_into_markdown_or_html_by_itself():
    """`Markdown` and `Markup` are written as literals: an f-string in them would bring values in unescaped."""
    found = []
    for path in Path(helpers.__file__).parent.rglob("*.py"):
        if path.name == "display.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Markdown", "Markup"):
                found += [
                    f"{path.name}:{node.lineno}" for arg in node.args if isinstance(arg, ast.JoinedStr | ast.BinOp)
                ]
    assert found == []


@pytest.mark.parametrize(
    ("usd", "said"), [(74.46, "$74"), (1234.5, "$1,234"), (9.994, "$9.99"), (0, "$0.00"), (None, "–")]
)
def test_money_is_whole_from_ten_dollars_on(usd, said):
    assert text.money(usd) == said


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (0.41, 0.35, ("$0.410", "$0.350")),
        (0.39236, 0.39161, ("$0.3924", "$0.3916")),
        (0.4, 0.4, ("$0.400", "$0.400")),
    ],
)
def test_amounts_that_are_compared_have_the_digits_that_tell_them_apart(one, other, said):
    assert text.dollars_apart(one, other) == said


def test_a_table_names_columns_of_the_catalogue():
    table = Table(pd.DataFrame({"option": ["a"], "requests_per_s": [1.234]}), ["option", "requests_per_s"], "c")
    assert [column.header for column in table.columns] == ["option", "requests/s"] and table.cells() == [["a", "1.23"]]


def test_measurements_in_tables_are_defined_in_the_docs():
    defined = (PROJECT_ROOT / "docs" / "metrics.md").read_text()
    rates = [key for key in CATALOGUE if key.endswith("_per_s") or key in ("error_rate", "achieved_concurrency")]
    assert len(rates) > 5 and [key for key in rates if f"`{key}`" not in defined] == []


def test_of_many_the_first_are_named_and_the_others_counted():
    assert text.some("abc") == "a; b; c"
    assert text.some(map(str, range(1003))) == "0; 1; 2; and 1,000 more"


def test_rows_may_be_dicts_and_a_key_without_an_entry_is_its_own_header():
    table = Table([{"planet": "Mars", "n": 2}], ["planet", "n"], "Moons.")
    assert [column.header for column in table.columns] == ["planet", "n"]
    assert table.cells() == [["Mars", "2"]]
    assert Table([], ["planet", "n"], "Moons.").cells() == []
