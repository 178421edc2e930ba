"""The report page in headless Chromium: self-contained, navigable, described."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed. Next: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


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


def test_it_prints_without_the_contents_list(opened):
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("nav").is_visible()
    opened.page.emulate_media(media="screen")
