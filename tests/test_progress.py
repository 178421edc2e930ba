"""The live view of a load: what it shows, how often, and that no fault of it reaches the load."""

import time
import warnings
import xml.etree.ElementTree as ET

import pytest
from examples import make_config

from helpers.campaign import LoadEvent
from helpers.errors import ParameterError
from helpers.live_plot import HISTORY, LivePlot, progress_words
from helpers.load.progress import LoadProgress
from helpers.progress import ProgressBars
from helpers.run_folder import RunFolder

SVG = "{http://www.w3.org/2000/svg}"
UNDER_WAY = LoadProgress(
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
        "steady, 1,234 of 2,000 requests, 41.2 answers/s, 8 in flight, TTFT p50 52 ms, p95 93 ms, 3 failed, "
        "about 12 s left"
    )


def test_what_is_not_known_is_not_said():
    assert progress_words(LoadProgress(phase="connecting")) == "connecting, 0 in flight"


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
        plot.show(LoadProgress(phase="steady", in_flight=in_flight), 0, float(i))
    ((first, second, third),) = lines(plot, 1)
    assert (first[0], second[0], third[0]) == (0, 110, 220)
    assert first[1] - second[1] == second[1] - third[1] > 0


def test_an_unknown_value_leaves_a_gap():
    plot = LivePlot()
    for i, rate in enumerate((1.0, None, 1.0, 1.0)):
        plot.show(LoadProgress(phase="steady", rate_per_s=rate), 0, float(i))
    group = picture(plot)[0].findall(f"{SVG}g")[0]
    assert [path.get("d").count("M") for path in group.findall(f"{SVG}path")][-1] == 2
    assert [x for x, _ in lines(plot, 0)[0]] == pytest.approx([0, 146.7, 220])


def test_failures_are_counted_anew_in_each_load_point():
    plot = LivePlot()
    for i, (point, failed) in enumerate([(0, 2), (0, 5), (1, 1), (1, 1)]):
        plot.show(LoadProgress(phase="steady", failed=failed), point, float(i))
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
        started = time.perf_counter()
        plot.show(UNDER_WAY, 99, 10_000.0 + i)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


# --- bars ---------------------------------------------------------------------------------------------------------


def test_widgets_show_each_option_with_its_bar_and_plot(run, capsys):
    config = make_config(["a", "b"], load={"concurrency": [1, 4, 8]})
    with ProgressBars(config, run, "widget") as show:
        show(event("b", done=1))
        show(event("b", done=1, progress=UNDER_WAY))
        show(event("b", done=1, progress=LoadProgress(phase="drain")))  # within the same second
        box = show.view.widget
    (name_a, bar_a, words_a), (name_b, bar_b, words_b) = (row.children[0].children for row in box.children)
    assert (name_a.value, bar_a.value, bar_a.max, words_a.value) == ("a", 0, 3, "")
    assert (name_b.value, bar_b.value, bar_b.max) == ("b", 1, 3)
    assert words_b.value == "1 of 3: loading short, concurrency 8"
    assert box.children[0].children[1].value == ""
    assert progress_words(UNDER_WAY) in box.children[1].children[1].value


def test_when_the_load_is_done_the_plot_stays_and_its_words_go(run, capsys):
    with ProgressBars(make_config(["a", "b"]), run, "widget") as show:
        show(event("a", progress=UNDER_WAY))
        for name in ("a", "b"):
            show(event(name, done=3, state="done"))
        plots = [row.children[1].value for row in show.view.widget.children]
    assert plots[0].endswith("</svg><div>no load under way</div>")
    assert "answers/s: 41.2" in plots[0]
    assert plots[1] == "", "an option that was never loaded has no plot"


def test_a_search_that_finds_more_to_do_lengthens_the_bar(run):
    config = make_config(load={"kind": "search", "over": "concurrency", "highest": 8})
    with ProgressBars(config, run, "widget") as show:
        bar = show.view.widget.children[0].children[0].children[1]
        assert bar.max == 1
        show(LoadEvent("a", "loading", 2, 3))
        assert (bar.value, bar.max) == (2, 3)


def test_text_is_one_bar_over_all_options_with_the_progress_behind_it(run, capsys):
    config = make_config(["a", "b"], load={"concurrency": [1, 4, 8]})
    with ProgressBars(config, run, "text") as show:
        show(event("a", done=3, state="done"))
        show(event("b", done=1, progress=UNDER_WAY))
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("load points:  67%")
    assert "4/6" in last
    assert f"b: loading short, concurrency 8: {progress_words(UNDER_WAY)}" in last


@pytest.mark.parametrize("style", ["widget", "text"])
def test_a_fault_of_the_display_never_reaches_the_load_and_is_told_at_the_end(run, style, capsys):
    show = ProgressBars(make_config(), run, style)
    broken = event(progress="not a progress", done=None)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with show:
            show(broken)
            show(event())
    assert [str(warning.message)[:48] for warning in told] == ["the progress display stopped, the load went on: "]


def test_a_sound_display_warns_of_nothing(run, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ProgressBars(make_config(), run, "text") as show:
            show(event())


def test_an_unknown_style_is_refused(run):
    with pytest.raises(ParameterError, match=r"progress: bad value 'fancy'\. Expected one of: widget, text"):
        ProgressBars(make_config(), run, "fancy")
