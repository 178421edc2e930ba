"""The tables of the report as files: each as CSV, and all of them in one workbook.

They hold the values from which the report's cells are written: numbers unrounded, unknown ones empty. What is text in the
report is the same text here.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from helpers.config.strict import slug
from helpers.report.display import TABLES
from helpers.run.whole_files import whole_file, write_atomically

WORKBOOK = "tables.xlsx"
LONGEST_SHEET_NAME = 31
LONGEST_CELL = 32_767
"""Characters, in Excel."""
NOT_IN_SHEET_NAMES = re.compile(r"[\[\]:*?/\\']")
FORMULA = tuple("=+-@")
"""A text that begins so would be taken for a formula by a program that opens a CSV file as a spreadsheet."""
Data = dict[str, object]


def write_tables(notebook: Path, folder: Path) -> None:
    """Write the tables that an executed notebook shows to a folder, in place of those that are there."""
    import nbformat

    found = tables_of(nbformat.read(notebook, as_version=4))
    for old in folder.glob("*.csv"):
        old.unlink()
    for number, table in enumerate(found, start=1):
        write_atomically(folder / f"{number:02d}-{slug(str(table['section']))}.csv", _csv(table))
    with whole_file(folder / WORKBOOK) as unfinished:
        _write_workbook(unfinished, found)


def tables_of(content) -> list[Data]:
    """The data of all tables of the report's cells, as `display.TABLES` has them, each with the heading above it."""
    found, heading = [], ""
    for cell in content.cells:
        if "not-in-report" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            headings = re.findall(r"^## (.+)$", cell.source, flags=re.MULTILINE)
            heading = headings[-1] if headings else heading
        for output in cell.get("outputs", []):
            for table in output.get("data", {}).get(TABLES, []):
                found.append({**table, "section": table["section"] or heading})
    return found


def _csv(table: Data) -> str:
    """As CSV. A text that looks like a formula is preceded by an apostrophe: names and messages come from others."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_harmless, table["headers"]))
    writer.writerows(map(_harmless, row) for row in table["rows"])
    return text.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _write_workbook(path: Path, tables: list[Data]) -> None:
    """A sheet for each table, after one that lists them. Texts are written as such, whatever they begin with."""
    import xlsxwriter

    with xlsxwriter.Workbook(str(path)) as workbook:
        bold = workbook.add_format({"bold": True})
        contents = workbook.add_worksheet("Tables")
        _write_rows(contents, [["Sheet", "Section", "What it shows"]], bold)
        for number, table in enumerate(tables, start=1):
            name = NOT_IN_SHEET_NAMES.sub(" ", f"{number:02d} {table['section']}")[:LONGEST_SHEET_NAME].rstrip()
            contents.write_url(number, 0, f"internal:'{name}'!A1", string=name)
            _write_rows(contents, [[table["section"], table["caption"]]], row=number, column=1)
            sheet = workbook.add_worksheet(name)
            _write_rows(sheet, [table["headers"]], bold)
            _write_rows(sheet, table["rows"], row=1)
            sheet.freeze_panes(1, 0)
            sheet.autofit()
        contents.set_column(0, 1, LONGEST_SHEET_NAME)


def _write_rows(sheet, rows: list[list[object]], style=None, row: int = 0, column: int = 0) -> None:
    for i, values in enumerate(rows, start=row):
        for j, value in enumerate(values, start=column):
            if isinstance(value, str):
                sheet.write_string(i, j, value[:LONGEST_CELL], style)
            elif value is not None:
                (sheet.write_boolean if isinstance(value, bool) else sheet.write_number)(i, j, value, style)
