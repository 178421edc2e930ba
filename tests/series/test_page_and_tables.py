"""What is made of an executed report notebook: the contents list of its page, and its tables as files."""

import csv
import zipfile
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.number_text import NO_INTERVAL, Interval
from helpers.report.columns import Column, numeric
from helpers.report.display import Folded, Prose, Table, section
from helpers.series.page import write_page
from helpers.series.tables import write_tables

NS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
FORMULAS = ['=HYPERLINK("http://127.0.0.1:9")', "+1", "-a", "@a", "a=b"]


def table(caption="Prices.", values=(1 / 3, 2e-9, None)):
    rows = pd.DataFrame({"name": FORMULAS[: len(values)], "usd": values})
    return Table(rows, [Column("name", "option"), numeric("usd", "$/h")], caption)


def executed(*cells):
    """A notebook with these cells: headings as text, what cells show as IPython writes it down."""
    notebook = new_notebook(cells=[new_markdown_cell("# A question?")])
    for cell in cells:
        if isinstance(cell, str):
            notebook.cells.append(new_markdown_cell(cell))
        elif cell is not None:
            data, _ = InteractiveShell.instance().display_formatter.format(cell)
            notebook.cells.append(new_code_cell("report", outputs=[new_output("execute_result", data)]))
    return notebook


def sheets_of(path):
    """Sheet -> rows of a workbook: its texts and numbers, as far as there are any. A formula is none of them."""
    with zipfile.ZipFile(path) as book:
        files = {name: ElementTree.fromstring(book.read(name)) for name in book.namelist() if name.endswith(".xml")}
    texts = [item.find(f"{NS}t").text for item in files["xl/sharedStrings.xml"].iter(f"{NS}si")]
    names = [sheet.get("name") for sheet in files["xl/workbook.xml"].iter(f"{NS}sheet")]
    found = {}
    for number, name in enumerate(names, start=1):
        rows = files[f"xl/worksheets/sheet{number}.xml"].iter(f"{NS}row")
        found[name] = [[value_of(cell, texts) for cell in row] for row in rows]
    return found


def value_of(cell, texts):
    assert cell.find(f"{NS}f") is None
    value = cell.find(f"{NS}v").text
    return texts[int(value)] if cell.get("t") == "s" else float(value)


@pytest.fixture
def notebook(tmp_path):
    def write(*cells):
        path = tmp_path / "05.ipynb"
        nbformat.write(executed(*cells), path)
        return path

    return write


def test_a_conditional_section_is_in_the_contents_list_and_in_markdown(notebook, tmp_path):
    path = notebook(
        "## First", table(), section("Errors of <b>", Prose("See."), table()), section("None", None), "## Last"
    )
    html, markdown = tmp_path / "report.html", tmp_path / "report.md"
    write_page(path, html, markdown)
    page = BeautifulSoup(html.read_text(), "html.parser")
    links = page.nav.find_all("a")
    assert [link.text for link in links] == ["First", "Errors of <b>", "Last"]
    assert [page.find(id=link["href"].removeprefix("#")).text for link in links] == ["First", "Errors of <b>", "Last"]
    headings = [line for line in markdown.read_text().splitlines() if line.startswith("## ")]
    assert headings == ["## First", "## Errors of &lt;b>", "## Last"]


def test_a_folded_table_is_a_table_in_both_pages(notebook, tmp_path):
    html, markdown = tmp_path / "report.html", tmp_path / "report.md"
    write_page(notebook("## How", Folded("All is well.", table())), html, markdown)
    assert BeautifulSoup(html.read_text(), "html.parser").details.table is not None
    assert "<details><summary>All is well.</summary>\n\n*Prices.*\n\n| option |" in markdown.read_text()


def test_tables_are_written_with_all_digits_and_named_after_their_sections(notebook, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "09-of-an-earlier-report.csv").write_text("old")
    shown = (Folded("x", table("Folded.")), section("Errors", Prose("x"), table("Last.")))
    write_tables(notebook("## All options", table(), *shown), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "01-all-options.csv",
        "02-all-options.csv",
        "03-errors.csv",
        "tables.xlsx",
    ]
    read = pd.read_csv(folder / "01-all-options.csv", float_precision="round_trip")
    assert read["$/h"].tolist()[:2] == [1 / 3, 2e-9] and pd.isna(read["$/h"][2])
    sheets = sheets_of(folder / "tables.xlsx")
    assert list(sheets) == ["Tables", "01 All options", "02 All options", "03 Errors"]
    assert [row[2] for row in sheets["Tables"][1:]] == ["Prices.", "Folded.", "Last."]
    assert sheets["03 Errors"][0] == ["option", "$/h"] and len(sheets["03 Errors"][3]) == 1
    assert [row[1] for row in sheets["03 Errors"][1:3]] == pytest.approx([1 / 3, 2e-9], rel=1e-15)


def test_an_interval_is_two_columns_of_numbers(notebook, tmp_path):
    rows = pd.DataFrame({"name": ["a", "b"], "interval": [Interval(1 / 3, None, 2), NO_INTERVAL]})
    shown = Table(rows, [Column("name", "option"), Column("interval", "95% interval")], "Prices.")
    assert shown.cells() == [["a", "[0.33, ∞]"], ["b", "–"]]
    write_tables(notebook("## All", shown), tmp_path / "tables")
    read = pd.read_csv(tmp_path / "tables" / "01-all.csv", float_precision="round_trip")
    assert list(read) == ["option", "95% interval, low", "95% interval, high"]
    assert read["95% interval, low"].tolist()[0] == 1 / 3 and read.isna().sum().tolist() == [0, 1, 2]


def test_no_text_becomes_a_formula(notebook, tmp_path):
    write_tables(notebook("## All", table(values=[1.0, -2.5, 3.0, 4.0, 5.0])), tmp_path / "tables")
    with (tmp_path / "tables" / "01-all.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [name for name, _ in rows] == [f"'{text}" for text in FORMULAS[:4]] + ["a=b"]
    assert [number for _, number in rows][1] == "-2.5"
    assert sheets_of(tmp_path / "tables" / "tables.xlsx")["01 All"][1:] == [
        [text, number] for text, number in zip(FORMULAS, [1.0, -2.5, 3.0, 4.0, 5.0], strict=True)
    ]
