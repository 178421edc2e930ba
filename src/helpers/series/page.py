"""Turns an executed notebook into the page that people read: one HTML file without external URLs, and Markdown.

The HTML is rendered with our own nbconvert template; the contents list is made from the headings of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import RunFolderError
from helpers.report.display import Section
from helpers.run.folder import write_atomically

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

TEMPLATE = Path(__file__).with_name("page_template")
FIRST_CHOICE_HTML = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain"]
FIRST_CHOICE_MARKDOWN = ["text/markdown", "text/html", "image/svg+xml", "image/png", "text/plain"]


def write_page(notebook: Path, html_file: Path, markdown_file: Path) -> None:
    """Write the report notebook as HTML and Markdown. Code, parameters and streams are left out."""
    import nbformat

    if not notebook.is_file():
        raise RunFolderError(f"{notebook}: no such executed notebook. Next: run notebooks/05_report through papermill")
    content = nbformat.read(notebook, as_version=4)
    content.cells = [_for_readers(cell) for cell in content.cells if "not-in-report" not in _tags(cell)]
    write_atomically(html_file, _html(content))
    write_atomically(markdown_file, _markdown(content))


def page_of(title: str, parts: Sequence[Section]) -> str:
    """A page of its own, in HTML: what is shown under a title."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    outputs = [new_output("display_data", {"text/html": str(part._repr_html_())}) for part in parts]
    cells = [new_markdown_cell(f"# {title}"), *(new_code_cell(outputs=[output]) for output in outputs)]
    return _html(new_notebook(cells=cells))


def _tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def _for_readers(cell):
    """The cell; of the notebook's first cell only the title, as the rest is for those who run it."""
    if "title-only" in _tags(cell):
        cell.source = cell.source.splitlines()[0]
    return cell


def _html(content) -> str:
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    exporter = HTMLExporter(
        config=Config(NbConvertBase={"display_data_priority": FIRST_CHOICE_HTML}),
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    title = next(line[2:] for cell in content.cells for line in cell.source.splitlines() if line.startswith("# "))
    resources = {"page_title": title, "page_style": (TEMPLATE / "page.css").read_text(encoding="utf-8")}
    page, _ = exporter.from_notebook_node(content, resources=resources)
    soup = BeautifulSoup(page, "html.parser")
    for anchor in soup.find_all("a", class_="anchor-link"):
        anchor.decompose()
    for table in soup.select("table:not(.table table)"):
        _frame(table, soup)
    _insert_contents_list(soup)
    return str(soup)


def _frame(table: Tag, soup: BeautifulSoup) -> None:
    """Give a table that was Markdown what `report.display.Table` has: headers of columns and rows, and a frame that scrolls."""
    label = table.find_previous(["h1", "h2", "h3"]).get_text()
    table.wrap(soup.new_tag("div", attrs={"class": "table", "role": "region", "tabindex": "0", "aria-label": label}))
    for head in table.select("thead th"):
        head["scope"] = "col"
    for cell in table.select("tbody td:first-child"):
        cell.name = "th"
        cell["scope"] = "row"


def _insert_contents_list(soup: BeautifulSoup) -> None:
    nav = soup.new_tag("nav", attrs={"aria-label": "Contents"})
    entries = soup.new_tag("ol")
    nav.append(entries)
    for heading in soup.find_all("h2"):
        item, link = soup.new_tag("li"), soup.new_tag("a", href=f"#{heading['id']}")
        link.string = heading.get_text()
        item.append(link)
        entries.append(item)
    soup.main.insert_before(nav)


def _markdown(content) -> str:
    from nbconvert import MarkdownExporter
    from traitlets.config import Config

    options = Config(NbConvertBase={"display_data_priority": FIRST_CHOICE_MARKDOWN})
    exporter = MarkdownExporter(config=options, exclude_input=True)
    text, _ = exporter.from_notebook_node(content)
    lines = [line.rstrip() for line in text.splitlines()]
    kept = [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]
    return "\n".join(kept).strip() + "\n"
