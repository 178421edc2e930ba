"""The report page for all kinds of eyes, screens, keyboards and printers: contrast, structure, narrow screens, paper."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import SECRET, small_config
from headless import NEEDS_CHROMIUM, chromium
from imported_runs import import_twins
from markupsafe import Markup

from helpers.report.columns import Column, numeric
from helpers.report.display import Figure, Html, Markdown, Prose, Table
from helpers.run.folder import RunFolder
from helpers.series.history import write_history
from helpers.series.page import write_page

pytestmark = NEEDS_CHROMIUM
PAGES = ("finished", "tied", "none feasible", "crowded", "history")
SCHEMES = ("light", "dark")
PHONE_PX, TABLET_PX, DESKTOP_PX = 360, 768, 1440
PAPER_PX = (210 - 2 * 12) / 25.4 * 96
"""Width of A4 within the margins."""
TEXT_CONTRAST = 4.5
READABLE = 0.8
"""Share of its own size from which the letters of a picture can be read."""
ROWS, COLUMNS = 90, 14


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


# --- the pages ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_of(request, made_once) -> Callable[[str], Path]:
    """The page of a name: of a run, of two imports, and the widest and longest that a report may hold."""
    made = {
        "tied": partial(import_twins, limit_s=2, status=0),
        "none feasible": partial(import_twins, limit_s=0.01, status=3),
        "crowded": make_crowded,
        "history": partial(make_history, request.getfixturevalue("finished_run").run),
    }

    def of(name: str) -> Path:
        folder = made_once(name, made[name]) if name in made else request.getfixturevalue("finished_run").run.path
        return folder / "report.html"

    return of


def make_history(run: RunFolder, folder: Path) -> None:
    """The page of two runs, the second of which is slower, and of one that cannot be read."""
    for day in (1, 2):
        copy = folder / "runs" / f"small-2026110{day}-120000"
        shutil.copytree(run.path, copy)
        about = json.loads((copy / "run.json").read_text())
        (copy / "run.json").write_text(json.dumps(about | {"run_id": copy.name}))
    table = copy / "metrics" / "load_points.csv"
    points = pd.read_csv(table)
    points[points.filter(regex=r"latency_s_p\d").columns] *= 3
    points.to_csv(table, index=False)
    (folder / "runs" / "small-20261103-120000").mkdir()
    (folder / "runs" / "small-20261103-120000" / "run.json").write_text("{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", SECRET)
        path, _ = write_history(str(small_config(folder)))
    path.rename(folder / "report.html")


def make_crowded(folder: Path) -> None:
    """A page with a table that is wider than a screen and longer than a sheet, long names, a wide picture, and what is folded."""
    names = [f"r{i}c0 a-name_that_nothing_breaks_{'x' * 30}" for i in range(ROWS)]
    cells = {f"c{j}": [f"r{i}c{j}" for i in range(ROWS)] for j in range(1, COLUMNS - 1)}
    rows = pd.DataFrame(
        {"name": names, **cells, "why": [f"r{i}c{COLUMNS - 1} " + "so it is " * 12 for i in range(ROWS)]}
    )
    heads = [Column(key, f"head{j} of it") for j, key in enumerate(rows)]
    heads[-1] = Column("why", f"head{COLUMNS - 1}", wraps=True)
    few = Table(
        pd.DataFrame({"load": [1.0, 2.0], "usd": [3.5, 4.5]}), [numeric("load", "load"), numeric("usd", "$")], "Few."
    )
    picture = folder / "wide.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="900pt" height="200pt" viewBox="0 0 900 200"/>')
    folded = Html(Markup("<details><summary>All of it</summary><pre>{}</pre></details>").format("folded: " * 60))
    shown = [
        Prose(
            Markdown("**Serve {}.** See [the file](config.yml) and `code`.\n\n> Mind *this*.\n\n* one\n  * two").format(
                "y" * 90
            )
        ),
        Table(rows, heads, "Many rows and columns."),
        few,
        Figure(picture, "Wide: 1 to 2 s.", "Lower is better."),
        folded,
        Prose(Markdown("| term | definition |\n| --- | --- |\n| send | when it was sent |\n")),
    ]
    parts = []
    for number, it in enumerate(shown):
        parts.append(nbformat.v4.new_markdown_cell(f"## Part {number} {'z' * 40}"))
        data = {"text/html": str(it._repr_html_())} if hasattr(it, "_repr_html_") else {}
        output = nbformat.v4.new_output("display_data", {**data, "text/markdown": str(it._repr_markdown_())})
        parts.append(nbformat.v4.new_code_cell(outputs=[output]))
    notebook = folder / "report.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Which one?"), *parts]), notebook)
    write_page(notebook, folder / "report.html", folder / "report.md")


@pytest.fixture
def open_page(browser, page_of):
    """Open a page by its name; closed after the test."""
    contexts = []

    def opened(name: str, width: int = DESKTOP_PX, **context: object):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **context))
        page = contexts[-1].new_page()
        page.goto(page_of(name).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


# --- what a machine can find --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [PHONE_PX, DESKTOP_PX])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(open_page, name, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(name, width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
    found = Axe().run(page, options={"rules": {"target-size": {"enabled": True}}}).response["violations"]
    serious = [it for it in found if it["impact"] in ("serious", "critical")]
    assert [(it["id"], [node["html"] for node in it["nodes"]][:3]) for it in serious] == []


CONTRASTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => numbers(colour).slice(0, 3).map(c => c / 255)
    .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const paper = it => {
    const own = getComputedStyle(it).backgroundColor;
    return numbers(own)[3] === 0 ? paper(it.parentElement) : own;
  };
  const texts = [...document.body.querySelectorAll('*')].filter(it => it.offsetParent &&
    [...it.childNodes].some(child => child.nodeType === 3 && child.data.trim()));
  return texts.map(it => {
    const [low, high] = [luminance(getComputedStyle(it).color), luminance(paper(it))].sort((a, b) => a - b);
    return [it.tagName, (high + .05) / (low + .05)];
  });
}"""
"""The contrast of every element that holds text; axe leaves out what stands on the shadows of tables."""


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["finished", "crowded"])
def test_all_text_stands_out(open_page, name, scheme, media):
    page = open_page(name, color_scheme=scheme)
    page.emulate_media(media=media)
    contrasts = page.evaluate(CONTRASTS)
    assert {"TD", "TH", "CAPTION", "FIGCAPTION", "LI", "A", "P"} <= {tag for tag, _ in contrasts}
    assert [found for found in contrasts if found[1] < TEXT_CONTRAST] == []


# --- structure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_headings_and_landmarks_are_in_order(open_page, name):
    page = open_page(name)
    assert page.locator("html").get_attribute("lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(it => Number(it.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [page.locator(tag).count() for tag in ("main", "nav")] == [1, 1]


@pytest.mark.parametrize("name", PAGES)
def test_every_table_has_a_caption_or_name_and_heads_of_columns_and_rows(open_page, name):
    page = open_page(name)
    tables = page.locator("table").all()
    assert tables
    for table in tables:
        frame = table.locator("xpath=..")
        assert (frame.get_attribute("role"), frame.get_attribute("tabindex")) == ("region", "0")
        captions = table.locator("caption").all_text_contents()  # also of what is folded
        assert frame.get_attribute("aria-label") in (captions or page.locator("h2").all_inner_texts())
        assert {head.get_attribute("scope") for head in table.locator("thead th").all()} == {"col"}
        cells = table.evaluate("it => [...it.tBodies[0].rows].map(row => [row.cells[0].tagName, row.cells[0].scope])")
        assert all(cell == ["TH", "row"] for cell in cells)


# --- keyboard -----------------------------------------------------------------------------------------------------


def test_the_first_key_leads_past_the_contents(open_page):
    page = open_page("crowded")
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the report"
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.locator("main :focus").count() == 1


def test_what_has_the_focus_is_seen(open_page):
    page = open_page("crowded")
    seen = set()
    for _ in range(11):
        page.keyboard.press("Tab")
        focus = page.locator(":focus")
        assert focus.evaluate("it => parseFloat(getComputedStyle(it).outlineWidth)") >= 2
        assert focus.evaluate("it => getComputedStyle(it).outlineStyle") != "none"
        seen.add(focus.evaluate("it => it.className || it.tagName"))
    assert {"skip", "A", "picture"} <= seen


@pytest.mark.parametrize("scheme", SCHEMES)
def test_keys_scroll_a_wide_table_and_its_first_column_stays(open_page, scheme):
    page = open_page("crowded", PHONE_PX, color_scheme=scheme)
    frame, first = page.locator(".table").first, page.locator(".table tbody th").first
    assert first.bounding_box()["width"] < 0.5 * PHONE_PX, "there is room for the others"
    before = first.bounding_box()["x"]
    frame.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
    page.wait_for_function("document.querySelector('.table').scrollLeft > 100")
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert first.evaluate("it => getComputedStyle(it).backgroundColor") == paper, "what passes below is not seen"


# --- screens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [PHONE_PX, 390, TABLET_PX, 1024, DESKTOP_PX])
@pytest.mark.parametrize("name", PAGES)
def test_only_frames_scroll_sideways(open_page, name, width):
    page = open_page(name, width)
    page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('main *')].filter(it => getComputedStyle(it).overflowX === 'auto')"
    assert page.evaluate(f"{cut}.every(it => it.tabIndex === 0)")
    for image in page.locator("img").all():
        shown = image.evaluate("it => it.clientWidth / it.naturalWidth")
        assert shown >= READABLE - 0.01


# --- paper --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_nothing_sticks_out_or_stays_folded(open_page, name):
    page = open_page(name, round(PAPER_PX), color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".skip").is_visible()
    ends = page.evaluate(
        "[...document.querySelectorAll('table, img, pre, p')].map(it => it.getBoundingClientRect().right)"
    )
    assert max(ends) <= PAPER_PX + 1
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(it.bounding_box()["height"] > 10 for it in page.locator("details pre").all())


def test_a_long_and_wide_table_is_printed_whole(open_page, tmp_path):
    """Every cell within the margins, the cells of a row on one sheet, and the headers on each."""
    import pypdfium2

    open_page("crowded").pdf(path=str(tmp_path / "page.pdf"), format="A4")
    places: dict[tuple[int, int], int] = {}
    with pypdfium2.PdfDocument(tmp_path / "page.pdf") as document:
        for number, sheet in enumerate(document):
            text = sheet.get_textpage()
            words = [(text.get_text_bounded(*place), place) for place in map(text.get_rect, range(text.count_rects()))]
            assert all(left > 0 and right < sheet.get_width() for _, (left, _, right, _) in words)
            joined = " ".join(word for word, _ in words)
            cells = [(int(i), int(j)) for i, j in re.findall(r"\br(\d+)c(\d+)\b", joined)]
            places |= dict.fromkeys(cells, number)
            heads = set(map(int, re.findall(r"\bhead(\d+)\b", joined)))
            assert not cells or heads == set(range(COLUMNS))
    assert places.keys() == {(i, j) for i in range(ROWS) for j in range(COLUMNS)}
    assert len(set(places.values())) > 1, "it takes more than one sheet"
    for i in range(ROWS):
        assert len({places[i, j] for j in range(COLUMNS)}) == 1
