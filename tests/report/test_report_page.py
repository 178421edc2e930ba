"""The report page in headless Chromium: self-contained, navigable, described."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import papermill
import pytest
import yaml
from conftest import SECRET, small_config
from headless import NEEDS_CHROMIUM, chromium
from matplotlib.image import imread

from helpers.run.folder import RunFolder
from helpers.series.series import NOTEBOOK_DIR

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(finished_run):
    """The run folder, served on loopback, so that the page's requests can be seen."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(finished_run.run.path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Opened:
    """A page with what happened while it loaded."""

    def __init__(self, browser, url: str, **context: object) -> None:
        self.page = browser.new_context(**context).new_page()
        self.page.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " event => window.violations.push(event.violatedDirective + ' ' + event.blockedURI))"
        )
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.goto(url)


@pytest.fixture(scope="module")
def opened(browser, site):
    return Opened(browser, f"{site}/report.html")


def test_no_request_leaves_the_page(opened, site):
    asked = [url for url in opened.requests if not url.startswith("data:") and not url.endswith("/favicon.ico")]
    assert asked == [f"{site}/report.html"]


def test_no_error_on_the_console(opened):
    assert [text for text in opened.troubles if "favicon" not in text] == []


def test_the_page_keeps_its_own_policy(opened):
    assert opened.page.evaluate("window.violations") == []
    policy = opened.page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_the_policy_lets_no_script_run_and_nothing_be_fetched(browser, finished_run):
    """Should any text of others ever get through unescaped."""
    page = (finished_run.run.path / "report.html").read_text(encoding="utf-8")
    attack = (
        "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><img src='/evil.png'>"
        "<iframe src='/evil.html'></iframe><link rel=stylesheet href='/evil.css'>"
        "<form id=f action='/evil'></form><base href='http://127.0.0.1:9/'></main>"
    )
    with serving({"/": page.replace("</main>", attack)}) as (url, asked):
        it = Opened(browser, url)
        it.page.wait_for_timeout(500)
        assert it.page.evaluate("window.ran") is None
        assert [path for path in asked if path not in ("/", "/favicon.ico")] == []
        assert len(it.page.evaluate("window.violations")) >= 4


# --- text of others -----------------------------------------------------------------------------------------------

EVIL = {
    "model": "<script>window.ran = 1</script> ![m](http://127.0.0.1:9/m.png) **m** `m` | $m$",
    "instance_type": "ml.`x`<b>[i](javascript:window.ran=3)|*i*",
    "source": "price </td><script>window.ran = 4</script> ![p](/p.png) `p` http://127.0.0.1:9/p",
    "failure": "server <svg onload=window.ran=5> \x1b[31m ![f](/f.png) \n\n# f `f",
    "image": 'image:"><script>window.ran = 6</script>`',
    "other price": "plan <b>b</b> ![o](/o.png) `o` *o*",
}


@pytest.fixture(scope="module")
def evil_run(finished_run, made_once):
    """The finished run as if everybody whose text it shows meant harm: notebooks 04 and 05 executed anew."""
    folder = made_once("evil-run", functools.partial(make_evil, finished_run))
    return RunFolder(folder / "runs" / finished_run.run.run_id)


def make_evil(finished_run, folder: Path) -> None:
    run = RunFolder(folder / "runs" / finished_run.run.run_id)
    shutil.copytree(finished_run.run.path, run.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", SECRET)
        data = yaml.safe_load(small_config(folder).read_text())
        data["model"]["name"] = EVIL["model"]
        for option in data["options"]:
            option["instance_type"] = EVIL["instance_type"]
            option["price"]["source"] = EVIL["source"]
            option["other_prices"] = [{"name": EVIL["other price"], "usd_per_hour": 0.05, "source": EVIL["source"]}]
        config_path = folder / "evil.yml"
        config_path.write_text(yaml.safe_dump(data, sort_keys=False))
        shutil.copy(config_path, run.path / "config.yml")
        ledger = json.loads(run.ledger_file.read_text())
        for record in ledger["endpoints"]:
            record |= {"failure": EVIL["failure"], "image": EVIL["image"], "instance_type": EVIL["instance_type"]}
            record["price"]["source"] = EVIL["source"]
            record |= {"serving": {EVIL["image"]: EVIL["failure"]}}
        run.ledger_file.write_text(json.dumps(ledger))
        for notebook in ("04_analyse_metrics", "05_report"):
            papermill.execute_notebook(
                NOTEBOOK_DIR / f"{notebook}.ipynb",
                run.path / "notebooks" / f"{notebook}.ipynb",
                parameters={"config_path": str(config_path), "run_dir": str(run.path)}
                | ({"explore": False} if notebook.startswith("04") else {}),
                cwd=NOTEBOOK_DIR,
                progress_bar=False,
            )


def seen(words: str) -> str:
    """How a text is seen: in one line, with marks in place of what is invisible."""
    return re.sub(r"\s+", " ", words).replace("\x1b", "\ufffd").strip()


@pytest.mark.parametrize("name", ["report.html", "04.html", "05.html", "report.md.html"])
def test_text_of_others_is_seen_as_it_stands_and_does_nothing(browser, evil_run, name):
    from nbconvert import HTMLExporter
    from nbconvert.filters import markdown2html

    if name == "report.html":
        page = (evil_run.path / name).read_text()
    elif name == "report.md.html":
        page = "<meta charset=utf-8>" + markdown2html((evil_run.path / "report.md").read_text())
    else:  # as anybody may convert an executed notebook: without our policy, without the code
        (notebook,) = (evil_run.path / "notebooks").glob(f"{name[:2]}_*.ipynb")
        page, _ = HTMLExporter(template_name="basic", exclude_input=True).from_filename(str(notebook))
    figures = [f"/figures/{path.name}" for path in evil_run.figures.iterdir()]
    with serving({"/": page}) as (url, asked):
        it = Opened(browser, url)
        it.page.wait_for_timeout(300)
        assert it.page.evaluate("window.ran") is None
        allowed = ("/", "/favicon.ico") if name != "report.md.html" else ("/", "/favicon.ico", *figures)
        assert [path for path in asked if path not in allowed] == []
        assert [r for r in it.requests if "127.0.0.1:9/" in r] == []
        text = seen(it.page.locator("body").inner_text())
        links = it.page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert not [link for link in links if link and ("javascript" in link or "127.0.0.1:9/" in link)]
    wanted = {"model", "instance_type", "source", "failure", "image"} if name != "04.html" else {"model"}
    assert [EVIL[key] for key in sorted(wanted) if seen(EVIL[key]) not in text] == []


@contextlib.contextmanager
def serving(pages: dict[str, str]):
    """Pages on loopback, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


# --- the page as it is read ---------------------------------------------------------------------------------------


def test_every_image_is_there_and_described(opened):
    images = opened.page.locator("img").all()
    assert len(images) >= 5
    for image in images:
        assert len(image.get_attribute("alt")) > 30
        assert image.evaluate("image => image.naturalWidth") > 100


def test_the_contents_list_leads_to_every_section(opened):
    links = opened.page.locator("nav a").all()
    headings = opened.page.locator("main h2").all_inner_texts()
    assert [link.inner_text() for link in links] == headings
    for link in links:
        link.click()
        target = link.get_attribute("href").removeprefix("#")
        assert opened.page.evaluate("name => document.getElementById(name).getBoundingClientRect().top", target) < 900


def test_the_page_shows_no_code_and_no_raw_markdown(opened):
    text = opened.page.locator("main").inner_text()
    assert "coerce_parameters" not in text
    assert "**" not in text
    assert "report.html" not in text
    assert "NaN" not in text
    assert "The bottom line" in text


def test_links_to_files_of_the_run_work(opened, site):
    response = opened.page.request.get(
        f"{site}/{opened.page.locator('main a', has_text='Configuration').get_attribute('href')}"
    )
    assert response.ok
    assert "tiny-llama-2m" in response.text()


def test_figures_have_their_conclusion_as_title(opened):
    titles = opened.page.locator("figure > p > strong").all_inner_texts()
    assert len(titles) >= opened.page.locator("figure").count() - 1, "the picture of the verdict is its own"
    assert all(re.search(r"“.+”|\d|^(?:Both|The) options? ", title) for title in titles)


@pytest.mark.parametrize("width", [1400, 400])
def test_nothing_sticks_out_sideways(browser, site, width):
    page = Opened(browser, f"{site}/report.html", viewport={"width": width, "height": 900}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark_differ_and_are_readable(browser, site):
    colours = {}
    for scheme in ("light", "dark"):
        page = Opened(browser, f"{site}/report.html", color_scheme=scheme).page
        colours[scheme] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
    assert colours["light"] == ["rgb(255, 255, 255)", "rgb(28, 28, 28)"]
    assert colours["dark"][0] != colours["light"][0]
    assert colours["dark"][1] != colours["light"][1]


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_figures_are_as_dark_as_the_page(browser, site, scheme, is_dark):
    page = Opened(browser, f"{site}/report.html", viewport={"width": 1200, "height": 900}, color_scheme=scheme).page
    for image in page.locator("figure img").all():
        pixels = imread(io.BytesIO(image.screenshot()))[..., :3]
        assert (float(np.median(pixels)) < 0.5) is is_dark
        assert np.ptp(pixels) > 0.6, "ink stands out from paper"


def test_a_table_that_is_cut_off_casts_a_shadow_where_it_goes_on(browser, site):
    page = Opened(browser, f"{site}/report.html", viewport={"width": 700, "height": 1000}).page
    cut = [
        table
        for table in page.locator(".table:visible").all()
        if table.evaluate("it => it.scrollWidth > it.clientWidth + 60")
    ]
    assert cut
    for table in cut:
        at_edge = imread(io.BytesIO(table.screenshot()))[2:20, -3:, :3]
        assert float(at_edge.mean()) < 0.9
        table.evaluate("it => it.scrollTo(it.scrollWidth, 0)")
        assert float(imread(io.BytesIO(table.screenshot()))[2:20, -3:, :3].mean()) > 0.98


def test_it_prints_without_the_contents_list(opened):
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("nav").is_visible()
    opened.page.emulate_media(media="screen")
