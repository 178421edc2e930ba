"""The live view of a load: what it shows, how often, and that no fault of it reaches the load."""

import re
import time
import warnings
import xml.etree.ElementTree as ET

import pyarrow.parquet as pq
import pytest
from examples import make_config

from helpers.config.file import load_config
from helpers.endpoints.load_events import LoadEvent
from helpers.errors import ParameterError
from helpers.load.attempt_progress import AttemptProgress
from helpers.run.folder import RunFolder
from helpers.series.displays import ProgressBars
from helpers.series.live_plot import HISTORY, LivePlot, progress_words
from helpers.series.status import Clock, attempt_words, read_progress

SVG = "{http://www.w3.org/2000/svg}"
UNDER_WAY = AttemptProgress(
    phase="steady",
    sent=1310,
    done=1302,
    failed=3,
    in_flight=8,
    rate_per_s=41.24,
    ttft_p50_s=0.0521,
    ttft_p95_s=0.0934,
    seconds_left=12.3,
    wanted=2000,
    steady=1234,
)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def picture(plot):
    """The SVG of a plot, parsed, and the words below it."""
    svg, words = plot.widget.value.split("<div>")
    return ET.fromstring(svg), words.removesuffix("</div>")


def event(option="a", done=0, progress=None, state="loading"):
    return LoadEvent(option, state, done, 3, "short, concurrency 8", progress)


# --- in words -----------------------------------------------------------------------------------------------------


def test_a_load_point_under_way_in_words():
    assert progress_words(UNDER_WAY) == (
        "steady, 1,234 of 2,000 requests, 41.2 answers/s, 8 in flight, TTFT p50 52.1 ms, p95 93.4 ms, 3 failed, "
        "about 12 s left"
    )


def test_what_is_not_known_is_not_said():
    assert progress_words(AttemptProgress(phase="connecting")) == "connecting, 0 in flight"


# --- the plot -----------------------------------------------------------------------------------------------------


def test_the_plot_is_a_picture_with_four_strips_and_its_words():
    plot = LivePlot()
    assert plot.show(UNDER_WAY, 0, 10.0)
    svg, words = picture(plot)
    assert words == svg.get("aria-label") == progress_words(UNDER_WAY)
    titles = [texts[0].text for group in svg.iter(f"{SVG}g") if (texts := group.findall(f"{SVG}text"))]
    assert titles == ["answers/s: 41.2", "in flight: 8", "TTFT p50, p95, ms: 52.1 and 93.4", "new failures: 3"]


def test_it_is_drawn_again_at_most_once_a_second():
    plot = LivePlot()
    drawn = [plot.show(UNDER_WAY, 0, now_s) for now_s in (5.0, 5.4, 5.99, 6.0, 6.9, 7.1)]
    assert drawn == [True, False, False, True, False, True]


def lines(plot, strip):
    """Points of each coloured line of a strip, as (x, y)."""
    group = picture(plot)[0].findall(f"{SVG}g")[strip]
    paths = [path.get("d") for path in group.findall(f"{SVG}path") if path.get("stroke") != "currentColor"]
    return [
        [tuple(map(float, step.split())) for step in p.replace("M", "L").replace("h0", "").split("L")[1:]]
        for p in paths
    ]


def test_lines_run_from_left_to_right_and_higher_means_more():
    plot = LivePlot()
    for i, in_flight in enumerate((0, 5, 10)):
        plot.show(AttemptProgress(phase="steady", in_flight=in_flight), 0, float(i))
    ((first, second, third),) = lines(plot, 1)
    assert (first[0], second[0], third[0]) == (0, 110, 220)
    assert first[1] - second[1] == second[1] - third[1] > 0


def test_an_unknown_value_leaves_a_gap():
    plot = LivePlot()
    for i, rate in enumerate((1.0, None, 1.0, 1.0)):
        plot.show(AttemptProgress(phase="steady", rate_per_s=rate), 0, float(i))
    group = picture(plot)[0].findall(f"{SVG}g")[0]
    assert [path.get("d").count("M") for path in group.findall(f"{SVG}path")][-1] == 2
    assert [x for x, _ in lines(plot, 0)[0]] == pytest.approx([0, 146.7, 220])


def test_failures_are_counted_anew_in_each_load_point():
    plot = LivePlot()
    for i, (point, failed) in enumerate([(0, 2), (0, 5), (1, 1), (1, 1)]):
        plot.show(AttemptProgress(phase="steady", failed=failed), point, float(i))
    (line,) = lines(plot, 3)
    bottom = max(y for _, y in line)
    assert [bottom - y for _, y in line] == pytest.approx([2 / 3 * 56, 56, 1 / 3 * 56, 0], abs=0.11)
    marks = [p for p in picture(plot)[0].findall(f"{SVG}g")[3] if p.get("stroke-dasharray")]
    assert len(marks) == 1, "one line where the second load point began"


def test_the_history_is_bounded_and_a_redraw_is_cheap():
    plot = LivePlot()
    for i in range(3 * HISTORY):
        plot.show(UNDER_WAY, i // 50, float(i))
    assert len(lines(plot, 0)[0]) == HISTORY
    assert len(plot.widget.value) < 40_000
    times = []
    for i in range(10):
        started = time.process_time()
        plot.show(UNDER_WAY, 99, 10_000.0 + i)
        times.append(time.process_time() - started)
    assert min(times) < 0.05


# --- bars ---------------------------------------------------------------------------------------------------------


def test_widgets_show_each_option_with_its_bar_and_plot(run, capsys):
    config = make_config(["a", "b"], load={"concurrency": [1, 4, 8]})
    with ProgressBars(config, run, "widget") as show:
        show(event("b", done=1))
        show(event("b", done=1, progress=UNDER_WAY))
        show(event("b", done=1, progress=AttemptProgress(phase="drain")))  # within the same second
        box = show.view.widget
    (name_a, bar_a, words_a), (name_b, bar_b, words_b) = (row.children[0].children for row in box.children[1:])
    assert (name_a.value, bar_a.value, bar_a.max, words_a.value) == ("a", 0, 3, "")
    assert (name_b.value, bar_b.value, bar_b.max) == ("b", 1, 3)
    assert words_b.value == "1 of 3: loading short, concurrency 8"
    assert box.children[1].children[1].value == ""
    assert progress_words(UNDER_WAY) in box.children[2].children[1].value


def test_when_the_load_is_done_the_plot_stays_and_its_words_go(run, capsys):
    with ProgressBars(make_config(["a", "b"]), run, "widget") as show:
        show(event("a", progress=UNDER_WAY))
        for name in ("a", "b"):
            show(event(name, done=3, state="done"))
        plots = [row.children[1].value for row in show.view.widget.children[1:]]
    assert plots[0].endswith("</svg><div>no load in progress</div>")
    assert "answers/s: 41.2" in plots[0]
    assert plots[1] == "", "an option that was never loaded has no plot"


def test_a_search_that_finds_more_to_do_lengthens_the_bar(run):
    config = make_config(load={"kind": "search", "over": "concurrency", "highest": 8})
    with ProgressBars(config, run, "widget") as show:
        bar = show.view.widget.children[2].children[0].children[1]
        assert bar.max == 1
        show(LoadEvent("a", "loading", 2, 3))
        assert (bar.value, bar.max) == (2, 3)


def test_the_time_left_in_all_is_a_bound_until_a_load_point_is_done_and_then_a_guess():
    clock = Clock(longest_s=60, at_once=2, done=3)
    assert clock.left(done=3, total=8, now_s=100.0) == (180, True)
    assert clock.left(done=5, total=8, now_s=120.0) == (30, False)
    assert clock.left(done=8, total=8, now_s=150.0) == (0, False)


def test_widgets_say_the_time_left_in_all(run):
    with ProgressBars(make_config(["a", "b"], load={"concurrency": [1, 4, 8]}), run, "widget") as show:
        show(event("a"))
        assert re.fullmatch(r"0 of 6 load points; at most \d+ min left in all", show.view.widget.children[0].value)


def test_load_points_of_an_option_that_failed_are_not_to_come(run, capsys):
    with ProgressBars(make_config(["a", "b"], load={"concurrency": [1, 4, 8]}), run, "text") as show:
        show(LoadEvent("a", "failed", 1, 3, "option 'a': no answer to its first request"))
        assert capsys.readouterr().out == "1 of 4: a: failed: no answer to its first request\n"
        show(event("b", done=3, state="done"))
        assert read_progress(run).counts() == (4, 4)


def test_text_is_a_line_per_load_point_with_its_result_and_the_time_left(run_copy, capsys):
    config = load_config(run_copy.config_path).benchmark
    option, requests = config.options[0].name, run_copy.run.requests
    files = sorted(requests.glob("no-batching__short__*.parquet"))
    for file in files:
        file.rename(file.with_suffix(".away"))
    with ProgressBars(config, run_copy.run, "text") as show:
        show(LoadEvent(option, "loading", 2, 4, "short, concurrency 1", UNDER_WAY))
        for done, file in enumerate(files, start=3):
            file.with_suffix(".away").rename(file)
            show(LoadEvent(option, "loading", done, 4, "short, concurrency 1"))
        show(LoadEvent("batch of 4", "failed", 4, 4, "no capacity"))
    said = capsys.readouterr()
    assert said.err == ""
    assert "\r" not in said.out
    first, second, failed = said.out.splitlines()
    assert re.fullmatch(
        r"7 of 8: no batching, short, concurrency 1: n = \d+, p75 [\d.]+ m?s; about \d+ s left in all", first
    )
    assert second.startswith("8 of 8: no batching, short, concurrency 2: n = ")
    assert failed == "8 of 8: batch of 4: failed: no capacity"


def test_failures_stand_in_the_line_of_their_load_point(run_copy):
    config = load_config(run_copy.config_path).benchmark
    path = next(iter(run_copy.run.requests.glob("no-batching__short__*.parquet")))
    table = pq.read_table(path)
    steady = [i for i, phase in enumerate(table["phase"].to_pylist()) if phase == "steady"]
    status = ["timeout" if i in steady[:3] else "ok" for i in range(len(table))]
    at = table.schema.get_field_index("status")
    pq.write_table(table.set_column(at, table.schema.field(at), [status]), path)
    assert attempt_words(run_copy.run, path.stem, config) == f"n = {len(steady)}, 3 failed (3 timeout)"


@pytest.mark.parametrize("style", ["widget", "text"])
def test_a_fault_of_the_display_never_reaches_the_load_and_is_reported_at_the_end(run, style, capsys):
    with ProgressBars(make_config(), run, style) as show:
        show(event(done=None))
        show(event())
    said = capsys.readouterr()
    assert "The progress display stopped, the load went on: " in said.out
    assert said.err == ""


def test_a_sound_display_warns_of_nothing(run, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ProgressBars(make_config(), run, "text") as show:
            show(event())


def test_an_unknown_style_is_refused(run):
    with pytest.raises(ParameterError, match=r"progress: bad value 'fancy'\. Expected one of: widget, text"):
        ProgressBars(make_config(), run, "fancy")
