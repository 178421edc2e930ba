"""The panel of notebook 04: what its controls change, what it shows, and the real widgets in headless Chromium."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup
from conftest import SECRET, thorough
from examples import summarise_load_points
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from helpers.config.file import load_config
from helpers.metrics.formulas import MET
from helpers.run.folder import RunFolder
from helpers.series.explore import Panel, panel
from helpers.verdict.analysis import Measurements, read_endpoints, read_measurements
from helpers.verdict.judging import judge
from helpers.verdict.what_if import MONTH, Settings, WhatIf, config_at, settings_of, with_bills

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
STARTS_WITHIN_S = 120
REDRAWN_WITHIN_S = 60
QUIET_MS = 250


@pytest.fixture(scope="module")
def measured(finished_run):
    """The finished run with its config and what was measured; one option has a second price."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", SECRET)
        config = load_config(finished_run.config_path).benchmark
    first, second = config.options
    cheaper = type(config.options[0]).model_validate(
        second.model_dump() | {"other_prices": [{"name": "savings plan", "usd_per_hour": 0.01}]}
    )
    config = config.model_copy(update={"options": [first, cheaper]})
    return config, finished_run.run, read_measurements(config, finished_run.run)


@pytest.fixture
def opened(measured):
    return Panel(*measured)


def report_at(config, run, measured: Measurements, settings: Settings):
    """The verdict that the report would have, had the config these settings."""
    config = config_at(config, settings)
    points = summarise_load_points(run.requests, measured.facts, measured.endpoints, config)
    return judge(points, measured.endpoints, measured.warnings, config, run.run_id)


def median_latency(measured: Measurements) -> float:
    return float(measured.points["latency_s_p50"].median())


def text_of(widget) -> str:
    page = BeautifulSoup(widget.value, "html.parser")
    page.style.decompose()
    return page.get_text(" ", strip=True)


# --- the verdict --------------------------------------------------------------------------------------------------


def test_at_the_settings_of_the_config_the_verdict_is_that_of_the_report(measured, opened):
    config, run, found = measured
    assert opened.settings == settings_of(config)
    assert opened.outcome.verdict == judge(found.points, found.endpoints, found.warnings, config, run.run_id)
    assert "These are the config's settings" in text_of(opened.answer)


CHANGES = {
    "another percentile": {"percentile": 50.0},
    "too few samples for the percentile": {"percentile": 99.0},
    "an impossible limit": {"limit_s": 1e-6},
    "one dataset": {"dataset": "long"},
    "another latency": {"metric": "ttft_s", "limit_s": 0.5, "keeps_other_limits": False},
    "a further limit": {"metric": "tpot_s", "limit_s": 0.001},
    "no failure allowed": {"error_rate": 0.0},
    "more traffic": {"requests_per_minute": 9000.0, "headroom": 0.5},
}


def test_a_percentile_that_needs_more_requests_than_there_are_is_drawn_as_unknown(measured, tmp_path):
    config, run, _ = measured
    few = RunFolder(tmp_path / run.run_id)
    shutil.copytree(run.path, few.path)
    for file in few.requests.glob("*.parquet"):
        pq.write_table(pq.read_table(file).slice(0, 60), file)
    opened = Panel(config, few, read_measurements(config, few))
    for percentile in (75, 90, 99):
        opened.controls["percentile"].value = percentile
        assert f"p{percentile:g}" in opened.answer.value
    assert opened.outcome.points["latency_s_p99"].isna().all(), "or this tests nothing"
    assert opened.outcome.verdict.option("no batching").points, "the best estimate is still shown"
    assert ">–<" in opened.table.value


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_at_any_settings_the_verdict_is_that_of_a_report_with_them(measured, changes):
    config = measured[0]
    settings = dataclasses.replace(settings_of(config), **changes)
    assert WhatIf(*measured).at(settings).verdict == report_at(*measured, settings)


def test_limits_in_the_middle_of_the_data_are_judged_like_the_report(measured):
    what_if, settings = WhatIf(*measured), settings_of(measured[0])
    states = set()
    for share in (0.3, 1.0, 3.0):
        at = dataclasses.replace(settings, limit_s=median_latency(measured[2]) * share)
        outcome = what_if.at(at)
        assert outcome.verdict == report_at(*measured, at)
        states |= set(outcome.points["slo"])
    assert len(states) > 1


def test_a_named_price_is_used_where_an_option_has_it(measured):
    config, run, found = measured
    outcome = WhatIf(*measured).at(dataclasses.replace(settings_of(config), price="savings plan"))
    before = {option.option: option for option in judge(found.points, found.endpoints, [], config, run.run_id).options}
    after = {option.option: option for option in outcome.verdict.options}
    assert after["no batching"].capacity == before["no batching"].capacity
    assert after["batch of 4"].capacity.usd_per_fleet_hour == pytest.approx(
        before["batch of 4"].capacity.usd_per_fleet_hour * 0.01 / 0.102
    )
    for row, old in zip(outcome.points.to_dict("records"), found.points.to_dict("records"), strict=True):
        factor = 0.01 / 0.102 if row["option"] == "batch of 4" else 1
        assert row["usd_per_1k_requests"] == pytest.approx(old["usd_per_1k_requests"] * factor)
        assert row["usd_per_1m_output_tokens_high"] == pytest.approx(old["usd_per_1m_output_tokens_high"] * factor)


def test_the_run_and_its_table_stay_as_they_were(measured, opened):
    before = measured[2].points.copy()
    for settings in ({"percentile": 60.0}, {"price": "savings plan"}, {"dataset": "short"}):
        WhatIf(*measured).at(dataclasses.replace(settings_of(measured[0]), **settings))
    assert measured[2].points.equals(before)
    assert measured[2].endpoints == read_endpoints(measured[0], measured[1])


def test_a_bill_is_of_whole_instances(measured):
    settings = dataclasses.replace(settings_of(measured[0]), requests_per_minute=5000.0, headroom=0.2)
    for row in with_bills(WhatIf(*measured).at(settings)).to_dict("records"):
        instances = np.ceil(5000 / (row["served_requests_per_s"] * 60 * 0.8))
        assert row[MONTH] == pytest.approx(instances * row["usd_per_hour"] * 730)
        assert row[f"{MONTH}_low"] <= row[MONTH] <= row[f"{MONTH}_high"] or np.isnan(row[f"{MONTH}_high"])


# --- the panel without a browser ----------------------------------------------------------------------------------


def test_in_a_batch_run_a_still_picture_stands_in_the_panels_place(measured, opened):
    still = BeautifulSoup(panel(*measured, shown=False)._repr_html_(), "html.parser")
    said = text_of(opened.answer)
    assert " ".join(still.get_text(" ", strip=True).split()).startswith(said)
    assert [img["src"][:19] for img in still.find_all("img")] == ["data:image/svg+xml;"]
    rows = BeautifulSoup(opened.table.value, "html.parser").table
    assert still.table.get_text("|", strip=True) == rows.get_text("|", strip=True)


def test_where_the_panel_is_there_itself_its_still_picture_is_hidden(measured, capsys):
    shown = panel(*measured)
    capsys.readouterr()
    assert ".what-if-still {display: none}" in shown.children[1].value


def test_no_control_changes_the_value_or_the_range_of_another(opened):
    """Page and kernel would both set it, and need not agree."""
    rng = np.random.default_rng(3)
    everything = {**opened.controls, **opened.limits}
    for _ in range(30):
        name = rng.choice(list(everything))
        control = everything[name]
        before = {n: c.get_state(["value", "min", "max"] if hasattr(c, "max") else None) for n, c in everything.items()}
        if hasattr(control, "options"):
            control.index = int(rng.integers(len(control.options)))
        elif hasattr(control, "max"):
            share = rng.random()
            at = control.min + share * (control.max - control.min)
            control.value = 10**at if hasattr(control, "base") else at
        else:
            control.value = not control.value
        for other, state in before.items():
            if other != name:
                now = everything[other].get_state(list(state))
                assert {k: now[k] for k in ("value", "min", "max") if k in now} == {
                    k: state[k] for k in ("value", "min", "max") if k in state
                }


def test_moving_the_limit_changes_sentence_picture_and_table_at_once(opened, measured):
    before = [widget.value for widget in (opened.answer, opened.chart, opened.table)]
    opened.limits["latency_s"].value = 10 ** opened.limits["latency_s"].min
    assert all(now.value != old for now, old in zip((opened.answer, opened.chart, opened.table), before, strict=True))
    assert "No option is shown to meet the SLO" in text_of(opened.answer)
    assert "came nearest" in text_of(opened.answer)
    assert "Changed from the config: latency within" in text_of(opened.answer)
    assert text_of(opened.table).startswith("0 of 2 options shown to meet the SLO")
    assert (opened.outcome.points["slo"] != MET).all()
    assert "No option is shown" in BeautifulSoup(opened.chart.value, "html.parser").find(role="img")["aria-label"]


MOVES = {
    "dataset": ("short", "chart"),
    "percentile": (90.0, "answer"),
    "error_percent": (5.0, "answer"),
    "requests_per_minute": (9000.0, "answer"),
    "headroom_percent": (60.0, "answer"),
    "unit": (MONTH, "chart"),
    "price": ("savings plan", "table"),
    "metric": ("ttft_s", "chart"),
}
SOME_MOVES = ["percentile", "headroom_percent", "metric"]


@pytest.mark.parametrize("name", [*SOME_MOVES, *thorough(*(name for name in MOVES if name not in SOME_MOVES))])
def test_every_control_changes_what_is_shown_and_the_button_undoes_it(opened, name):
    value, shown = MOVES[name]
    before = (opened.answer.value, opened.chart.value, opened.table.value)
    opened.controls[name].value = value
    assert getattr(opened, shown).value not in before
    opened.reset.click()
    assert (opened.answer.value, opened.chart.value, opened.table.value) == before
    assert opened.settings == settings_of(opened._what_if.config)


def test_another_latency_starts_where_its_limit_excludes_nothing(opened):
    verdict = opened.outcome.verdict
    opened.controls["metric"].value = "ttft_s"
    assert opened.limits["ttft_s"].value == pytest.approx(10 ** opened.limits["ttft_s"].max, rel=0.03)
    assert opened.outcome.verdict.recommended == verdict.recommended
    assert "p75 latency within 5 s and TTFT within" in text_of(opened.answer)
    opened.controls["keeps_other_limits"].value = False
    assert "p75 TTFT within" in text_of(opened.answer)


@pytest.mark.parametrize("limit_s", [0.123456, *thorough(0.4, 5, 1 / 3)])
def test_a_page_that_puts_a_slider_to_its_nearest_step_changes_no_limit(measured, limit_s):
    config, run, found = measured
    config = config.model_copy(update={"slo": config.slo.model_copy(update={"latency_s": limit_s})})
    control = (it := Panel(config, run, found)).limits["latency_s"]
    steps = round((np.log10(control.value) - control.min) / control.step)
    control.value = 10 ** round(control.min + steps * control.step, 6)
    assert it.settings.limit_s == limit_s


def test_the_picture_has_a_panel_per_dataset_and_a_marker_per_load_point(opened, measured):
    page = BeautifulSoup(opened.chart.value, "html.parser")
    picture = page.find(role="img")
    assert [svg.find("text", class_="name").text for svg in picture.find_all("svg")] == ["short", "long"]
    assert len(picture.find_all("title")) == len(measured[2].points)
    assert [span.text for span in page.find(class_="legend").find_all("span")] == ["no batching", "batch of 4"]
    for words in ("Price per 1M requests against p75 end-to-end latency", "Recommended", "load points are shown"):
        assert words in picture["aria-label"]
    filled = picture.find_all("path", attrs={"pointer-events": "all", "fill": re.compile("#")})
    assert len(filled) == (opened.outcome.points["slo"] == MET).sum()
    assert not re.search(r"nan|inf", str(picture))


def test_a_redraw_takes_a_fraction_of_a_second(opened):
    control, taken = opened.limits["latency_s"], []
    for share in np.linspace(0.1, 0.9, 15):
        started = time.process_time()
        control.value = 10 ** (control.min + share * (control.max - control.min))
        taken.append(time.process_time() - started)
    assert np.median(taken) < 0.5


# --- the panel in a browser ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(finished_run, tmp_path_factory):
    """Notebook 04's panel on the finished run, served on loopback by Voilà and open in Chromium."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed. Next: apt-get install chromium")
    if importlib.util.find_spec("voila") is None:
        pytest.skip("Voilà is not installed. Next: pip install -r requirements-dev.txt")
    import nbformat
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("voila")
    source = (
        f"config_path, run_dir = {str(finished_run.config_path)!r}, {str(finished_run.run.path)!r}\n"
        "from helpers import series, verdict\nrun = series.open_run(globals())\n"
        "series.panel(run.config, run, verdict.read_measurements(run.config, run))"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, folder / "panel.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    log = (folder / "voila.log").open("w")
    command = [sys.executable, "-m", "voila", "panel.ipynb", "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", SECRET)
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(url, server)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            opened = browser.new_context(viewport={"width": 1200, "height": 1000}).new_page()
            opened.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
            opened.goto(url, timeout=STARTS_WITHIN_S * 1000)
            opened.wait_for_selector(".what-if figure", timeout=STARTS_WITHIN_S * 1000)
            yield opened
            browser.close()
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def _wait_until_it_answers(url: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}static/", timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError("Voilà did not start")


def sentence(page) -> str:
    return page.locator(".what-if .answer").inner_text()


def changed(page, act) -> str:
    """The sentence after `act` has changed it."""
    before = sentence(page)
    act()
    page.wait_for_function(
        "before => document.querySelector('.what-if .answer').innerText !== before",
        arg=before,
        timeout=REDRAWN_WITHIN_S * 1000,
    )
    return sentence(page)


@pytest.mark.browser
def test_in_a_page_it_opens_at_the_settings_of_the_config(page):
    page.wait_for_timeout(1000)
    assert "These are the config's settings" in sentence(page)
    assert page.locator(".what-if table tbody tr").count() == 2
    assert page.locator(".what-if [role=img]").get_attribute("aria-label").startswith("Price per 1M requests against")


@pytest.mark.browser
def test_in_a_page_controls_change_verdict_picture_and_table_and_the_button_undoes_it(page):
    pictures = [page.locator(".what-if .panels").inner_html()]
    said = changed(page, lambda: page.get_by_label("Dataset", exact=True).select_option(label="long"))
    assert "Changed from the config: only long" in said
    pictures.append(page.locator(".what-if .panels").inner_html())
    page.locator(".widget-slider:visible", has_text="Limit, s").locator(".noUi-handle").focus()
    assert "latency within" in changed(page, lambda: page.keyboard.press("ArrowLeft"))
    pictures.append(page.locator(".what-if .panels").inner_html())
    assert "No option is shown" in changed(page, lambda: page.keyboard.press("Home"))
    assert page.locator(".what-if caption").inner_text().startswith("0 of 2 options")
    pictures.append(page.locator(".what-if .panels").inner_html())
    assert len(set(pictures)) == len(pictures)
    back = page.get_by_role("button", name="Back to the config's settings")
    assert "These are the config's settings" in changed(page, back.click)
    assert page.locator(".what-if .panels").inner_html() == pictures[0]


@pytest.mark.browser
def test_in_a_page_a_drag_ends_where_the_pointer_was_let_go(page):
    slider = page.locator(".widget-slider", has_text="Requests/min")
    handle = slider.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    at = handle.bounding_box()
    x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(40):
        page.mouse.move(x - i, y)
    page.mouse.up()
    readout = slider.locator(".widget-readout")
    expect(readout).not_to_have_text("600", timeout=REDRAWN_WITHIN_S * 1000)
    answer = page.locator(".what-if .answer")
    expect(answer).to_contain_text(f" {readout.inner_text()} requests a minute.", timeout=REDRAWN_WITHIN_S * 1000)


def moves(page, rng) -> list:
    """One way to move each control, by mouse or key as a person does."""
    names = ["Dataset", "Latency", "Price"]

    def choose() -> None:
        box = page.get_by_label(str(rng.choice(names)), exact=True)
        box.select_option(index=int(rng.integers(box.locator("option").count())))

    def slide() -> None:
        handles = page.locator(".widget-slider:visible .noUi-handle")
        handles.nth(int(rng.integers(handles.count()))).focus()
        for key in rng.choice(["ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End"], size=4):
            page.keyboard.press(str(key))

    def change_latency_twice() -> None:
        box = page.get_by_label("Latency", exact=True)
        for index in rng.permutation(box.locator("option").count())[:2]:
            box.select_option(index=int(index))

    return [
        choose,
        slide,
        slide,
        change_latency_twice,
        page.get_by_role("button", name="Back to the config's settings").click,
    ]


AGREES = """() => {
    const near = (a, b) => Math.abs(a - b) <= 0.006 * Math.abs(b);
    const slider = [...document.querySelectorAll('.widget-slider')].find(
        s => s.offsetParent !== null && s.innerText.startsWith('Limit'));
    const latency = [...document.querySelectorAll('.widget-dropdown')].find(d => d.innerText.startsWith('Latency'));
    const name = latency.querySelector('select').selectedOptions[0].text.replace(/\\s/g, ' ');
    const words = {'end-to-end latency': 'latency', 'time to first token': 'TTFT', 'time per output token': 'TPOT'};
    if (!slider) return false;
    const shown = parseFloat(slider.querySelector('.widget-readout').innerText.replace(/,/g, ''));
    const said = document.querySelector('.what-if .answer').innerText;
    const drawn = document.querySelector('.what-if figcaption').innerText.match(/beyond the limit of ([0-9.e+-]+) s/)[1];
    const changed = said.match(new RegExp('(?:: |, )' + words[name] + ' within ([0-9.e+-]+) s'));
    const isConfigs = name === 'end-to-end latency' && near(shown, 5);
    return near(parseFloat(drawn), shown) && (isConfigs ? !changed : changed && near(parseFloat(changed[1]), shown));
}"""


@pytest.mark.browser
@pytest.mark.parametrize("times", [20, *thorough(60)])
def test_in_a_page_slider_limit_and_sentence_agree_however_fast_the_controls_are_moved(page, times):
    rng = np.random.default_rng(12)
    for i in range(times):
        act = moves(page, rng)
        for _ in range(int(rng.integers(1, 4))):  # so many moves without waiting for an answer
            act[int(rng.integers(len(act)))]()
        page.wait_for_timeout(QUIET_MS)  # what is still under way arrives, from either side
        try:
            page.wait_for_function(AGREES, timeout=REDRAWN_WITHIN_S * 1000)
        except PlaywrightTimeout:
            readouts = page.locator(".widget-slider:visible").all_inner_texts()
            caption = page.locator(".what-if figcaption").inner_text()
            pytest.fail(f"after move {i}: {readouts}, but {sentence(page)!r}, {caption!r}")
    page.wait_for_timeout(1500)
    assert page.evaluate(AGREES), "they still agree when all is quiet"
