"""Figures: an interval without an end and a value far beyond the others are seen, and names are text."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from examples import endpoint, load_point, make_config
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from helpers.number_text import multiple_for
from helpers.report.charts import bill_by_traffic, load_points, price_performance, requests, verdict_picture
from helpers.report.charts.scale import axis_top, open_ends
from helpers.report.charts.style import LIMIT_COLOUR, ON_DARK, PALETTE, short_name
from helpers.report.display import READABLE_FROM, Figure
from helpers.verdict.judging import judge
from helpers.verdict.what_if import Outcome

INF = math.inf
TOUCH = 0.3
"""Pixels that letters and marks may share."""


@pytest.fixture
def config():
    return make_config(["a", "b"], load={"concurrency": [1, 2, 4]})


def points(config, **changes) -> pd.DataFrame:
    """Three levels of option a, with every interval closed unless `changes` (column -> three values) says otherwise."""
    columns = {
        "option": ["a"] * 3,
        "dataset": [config.datasets[0].name] * 3,
        "level": [1.0, 2.0, 4.0],
        "slo": ["met"] * 3,
        "failures": [0] * 3,
        "latency_s_mean_ok": [0.3] * 3,
    }
    for name, middle in (
        ("latency_s_p95", [0.4, 0.5, 0.6]),
        ("usd_per_1m_output_tokens", [3, 2, 1]),
        ("requests_per_s", [1, 2, 4]),
    ):
        columns |= {name: middle, f"{name}_low": np.array(middle) * 0.9, f"{name}_high": np.array(middle) * 1.1}
    return pd.DataFrame(columns | changes)


def drawn(figure) -> ET.Element:
    return ET.parse(figure.path).getroot()


def marks(figure, kind: str) -> int:
    return sum(
        1
        for group in drawn(figure).iter()
        if group.get("id") == kind
        for part in group.iter()
        if part.tag.endswith("}use")
    )


@pytest.mark.parametrize("end", [INF, None, math.nan])
@pytest.mark.parametrize("chart", [load_points.latency_by_load, load_points.throughput_by_load])
def test_an_interval_without_an_upper_end_is_seen_and_explained(config, tmp_path, chart, end):
    column = "latency_s_p95" if chart is load_points.latency_by_load else "requests_per_s"
    closed = chart(points(config), config, tmp_path / "closed")
    opened = chart(points(config, **{f"{column}_high": [0.6, end, end]}), config, tmp_path / "open")
    assert "An arrow" not in closed.caption
    assert marks(closed, "open-end") == 0
    assert marks(opened, "open-end") == 2
    assert "An arrow: the interval has no end on that side" in opened.caption


def priced(config, folder, **changes) -> tuple[Figure, str]:
    """The picture of price against latency of three load points of option a, and the text of its file; `changes`: column ->
    three values.
    """
    rows = pd.DataFrame(
        load_point(level=level, rate=rate, **{name: three[i] for name, three in changes.items()})
        for i, (level, rate) in enumerate([(1, 10), (2, 20), (4, 40)])
    )
    endpoints = [endpoint("a"), endpoint("b")]
    figure = price_performance(Outcome(config, rows, endpoints, judge(rows, endpoints, [], config, "run-1")), folder)
    return figure, figure.path.read_text()


def test_price_and_latency_have_open_ends_of_their_own(config, tmp_path):
    rows = points(config, latency_s_p95_high=[0.5, INF, 0.7], usd_per_1m_output_tokens_low=[np.nan, 1, 0.5])
    assert open_ends(rows, "latency_s_p95").tolist() == [[False] * 3, [False, True, False]]
    assert open_ends(rows, "usd_per_1m_output_tokens").tolist() == [[True, False, False], [False] * 3]
    ends = {"latency_s_p95_high": [0.6, INF, 0.6], "usd_per_1k_requests_low": [math.nan, 0.01, 0.01]}
    figure, drawn = priced(config, tmp_path, **ends)
    assert len(re.findall(r"l12 0l-4 -3|l0 12l-3 -4", drawn)) == 2
    assert "An arrow" in figure.caption


def test_a_long_interval_or_a_far_value_squashes_nothing(config, tmp_path):
    rows = points(config, requests_per_s_high=[2, 3, 1e6])
    assert axis_top(rows, "requests_per_s") == pytest.approx(4 * 1.6)
    far = points(config, usd_per_1m_output_tokens=[3.0, 2.0, 75_000.0])
    assert axis_top(far, "usd_per_1m_output_tokens") < 6
    _, drawn = priced(config, tmp_path, usd_per_1k_requests=[0.003, 0.002, 75.0])
    assert re.findall("[0-9,]+ ↑", drawn) == ["75,000 ↑"], "per 1M requests"


def test_the_picture_of_the_verdict_has_a_line_for_each_option_with_what_is_known_of_it(tmp_path):
    """a costs $0.1 per 1,000 requests, b twice that by its estimates, c is not shown to meet the SLO anywhere."""
    table = pd.DataFrame([load_point("a"), load_point("b", rate=5, slo="undecided"), load_point("c", slo="missed")])
    config = make_config(["a", "b", "c"])
    figure = verdict_picture(judge(table, [endpoint(o) for o in "abc"], [], config, "run"), config, tmp_path)
    assert figure.alt == (
        "Prices per 1,000 requests. a: $0.100, recommended: meets the SLO; b: $0.200, not decided; c: misses the SLO."
    )
    assert "Hollow: an estimate" in figure.caption
    root = drawn(figure)
    assert READABLE_FROM * float(root.get("width")) <= 360 - 2 * 16, (
        "a phone shows it whole, within the margins of the page"
    )
    assert float(root.findall(".//*[@text-anchor='middle']")[-2].text) >= 0.2, (
        "the last number is at or beyond the prices"
    )
    dots = [part.get("fill") for part in drawn(figure).iter() if part.tag.endswith("}circle")]
    assert len(dots) == 2 and dots[0] != "none" and dots[1] == "none"


MATRIX = "tiny-llama, ENGINE_THREADS {}, ENGINE_MAX_NUM_SEQS {}"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["small", "large"], ["small", "large"]),
        (["x" * 50, "y" * 50], ["x" * 41 + "…", "y" * 41 + "…"]),
        (
            [MATRIX.format(*each) for each in ((1, 1), (1, 8), ("all", 8))],
            ["…1, ENGINE_MAX_NUM_SEQS 1", "…1, ENGINE_MAX_NUM_SEQS 8", "…all, ENGINE_MAX_NUM_SEQS 8"],
        ),
        (["a" * 50 + end for end in "bc"], ["a" * 20 + "…" + "a" * 19 + end for end in "bc"]),
    ],
)
def test_names_that_are_too_long_can_still_be_told_apart(names, shown):
    config = make_config(names)
    assert [short_name(name, 42, config) for name in names] == shown


def test_the_name_of_the_recommended_option_covers_no_number_of_the_axis(tmp_path):
    name = "an option with a long name"
    config = make_config([name, "b"], load={"concurrency": [1, 2, 4]})
    edges = {f"latency_s_p95{end}": [0.001, 0.8, 0.9] for end in ("", "_low", "_high")}
    _, drawn = priced(config, tmp_path, option=[name] * 3, usd_per_1k_requests=[0.001, 0.003, 0.003], **edges)
    (left,) = re.findall(rf'<text class="option name" x="([0-9.]+)"[^>]*>{name}<', drawn)
    numbers_end = max(float(x) for x in re.findall(r'x="([0-9.]+)" y="[0-9.]+" text-anchor="end">[0-9.]+<', drawn))
    assert float(left) > numbers_end


# --- labels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inked:
    """What of a picture takes a rectangle: left, top, right, bottom."""

    what: str
    box: tuple[float, float, float, float]

    def meets(self, other: Inked) -> bool:
        mine, others = self.box, other.box
        return all(mine[i] < others[i + 2] - TOUCH and mine[i + 2] > others[i] + TOUCH for i in (0, 1))


def letters_of(drawn: str) -> list[Inked]:
    """Names and loads in a panel, with the extent of their letters in the font that matplotlib brings, a wide one."""
    found = []
    for kind, x, y, words in re.findall(
        r'<text class="(small|option|option name)" x="([\d.]+)" y="([\d.]+)">([^<]+)<', drawn
    ):
        size, weight = (9 if kind == "small" else 11), ("bold" if "name" in kind else "normal")
        extent = TextPath(
            (0, 0), words, size=size, prop=FontProperties(family="DejaVu Sans", weight=weight)
        ).get_extents()
        left, line = float(x), float(y)
        found.append(Inked(words, (left + extent.x0, line - extent.y1, left + extent.x1, line - extent.y0)))
    return found


def shapes_of(drawn: str) -> list[Inked]:
    """Marks, whiskers and circles."""
    found = []
    for x, y, size in re.findall(r'class="mark" transform="translate\(([\d.]+) ([\d.]+)\) scale\(([\d.]+)\)"', drawn):
        at, half = (float(x), float(y)), 4.5 * float(size)
        found.append(Inked("mark", (at[0] - half, at[1] - half, at[0] + half, at[1] + half)))
    for left, y, right, x, low, high in re.findall(r'd="M([\d.]+) ([\d.]+)H([\d.]+)M([\d.]+) ([\d.]+)V([\d.]+)', drawn):
        found.append(Inked("whisker", (float(left), float(y) - 0.5, float(right), float(y) + 0.5)))
        found.append(Inked("whisker", (float(x) - 0.5, float(high), float(x) + 0.5, float(low))))
    for x, y in re.findall(r"M([\d.]+) ([\d.]+)a10 10", drawn):
        left, middle = float(x), float(y)
        found.append(Inked("circle", (left, middle - 10, left + 20, middle + 10)))
    return found


def scattered(seed: int, folder) -> str:
    """A picture of up to six options at up to six loads, near one another or far apart, some alike."""
    rng = np.random.default_rng(seed)
    names = [
        f"option {i} {'with a long name' if rng.random() < 0.3 else ''}".strip() for i in range(rng.integers(1, 7))
    ]
    loads, spread = [1, 2, 4, 8, 16, 32][: rng.integers(1, 7)], rng.choice([0.01, 0.3, 1.5])
    rows, alike = [], rng.random() < 0.2
    for name in names:
        draws = np.random.default_rng(seed) if alike else rng
        for load in loads:
            rate, latency = 10 * np.exp(draws.normal(0, spread)), 0.5 * np.exp(draws.normal(0, spread))
            ends = {"latency_s_p95_low": 0.9 * latency, "latency_s_p95_high": draws.choice([1.1 * latency, INF])}
            slo = draws.choice(["met", "missed", "client_limited"], p=[0.7, 0.2, 0.1])
            rows.append(load_point(name, level=load, rate=rate, slo=slo, latency_s_p95=latency, **ends))
    table, ends = pd.DataFrame(rows), [endpoint(name) for name in names]
    config = make_config(names, load={"concurrency": loads})
    figure = price_performance(Outcome(config, table, ends, judge(table, ends, [], config, "run")), folder)
    return figure.path.read_text()


@pytest.mark.parametrize("seed", range(40))
def test_no_label_touches_a_mark_or_another_label(tmp_path, seed):
    drawn = scattered(seed, tmp_path)
    letters, shapes = letters_of(drawn), shapes_of(drawn)
    assert shapes
    assert [(a.what, b.what) for i, a in enumerate(letters) for b in letters[i + 1 :] if a.meets(b)] == []
    assert [(a.what, b.what) for a in letters for b in shapes if a.meets(b)] == []
    assert [a.what for a in letters if a.box[0] < 66 or a.box[2] > 361 or a.box[1] < 0] == [], "within the panel"


def test_where_there_is_room_every_mark_has_its_load_and_every_option_its_name(config, tmp_path):
    _, drawn = priced(config, tmp_path, latency_s_p95=[0.1, 0.5, 0.9], usd_per_1k_requests=[0.03, 0.02, 0.01])
    assert sorted(one.what for one in letters_of(drawn)) == ["1", "2", "4", "a"]
    assert drawn.count(">a<") == 1, "no legend besides"


def test_of_two_options_with_equal_results_both_are_seen(tmp_path):
    rows = pd.DataFrame([load_point(o, level=level, rate=10 * level) for o in "ab" for level in (1, 2, 4)])
    config, ends = make_config(["a", "b"], load={"concurrency": [1, 2, 4]}), [endpoint("a"), endpoint("b")]
    verdict = judge(rows, ends, [], config, "run")
    drawn = price_performance(Outcome(config, rows, ends, verdict), tmp_path).path.read_text()
    assert re.findall(r'class="mark"[^>]*scale\(([\d.]+)\)', drawn) == ["1.5"] * 3 + ["1"] * 3
    assert len(re.findall('class="small"', drawn)) == 3, "a load is written once"
    bill = bill_by_traffic(verdict, config, tmp_path).path.read_text()
    widths = [float(w) for w in re.findall(r"stroke: #(?:0072b2|c68700); stroke-width: ([\d.]+)", bill)]
    assert widths[0] > widths[1]


@pytest.mark.parametrize(("lowest", "is_log"), [(0.02, True), (0.3, False)])
def test_an_axis_is_logarithmic_where_its_values_span_a_decade(config, tmp_path, lowest, is_log):
    prices = [1.0, 0.5, lowest]
    ends = {f"usd_per_1k_requests_{end}": prices for end in ("low", "high")}
    _, drawn = priced(config, tmp_path, usd_per_1k_requests=prices, **ends)
    assert ("$ (log scale)" in drawn) is is_log
    assert "s (log scale)" not in drawn
    heights = [float(y) for y in re.findall(r'class="mark" transform="translate\([\d.]+ ([\d.]+)\)', drawn)]
    assert heights == sorted(heights) and heights[-1] < 250, "within the panel"


def test_names_of_lines_stand_at_their_ends_and_apart(tmp_path):
    names = [f"option {i}" for i in range(6)]
    config = make_config(names, load={"concurrency": [1, 2, 4]})
    rows = pd.concat(points(config, option=[n] * 3, requests_per_s=[1, 2, 4 + i / 1e3]) for i, n in enumerate(names))
    written = load_points.throughput_by_load(rows, config, tmp_path).path.read_text()
    heights = {
        name: float(y) for name, y in re.findall(r"<!-- (option \d) -->\s*<g[^>]*translate\([\d.]+ ([\d.]+)\)", written)
    }
    assert sorted(heights, key=heights.get, reverse=True) == names, "the highest on top"
    assert min(a - b for a, b in pairwise(heights[name] for name in names)) > 8


def test_names_of_many_lines_stand_in_a_legend_also_those_of_another_dataset(tmp_path):
    config = make_config([f"option {i}" for i in range(7)], load={"concurrency": [1, 2, 4]})
    rows = pd.concat(points(config, option=[f"option {i}"] * 3) for i in range(7))
    written = load_points.throughput_by_load(rows, config, tmp_path).path.read_text()
    assert 'id="legend_1"' in written and written.count("<!-- option") == 7


@pytest.mark.parametrize("limit_s", [0.001, 0.45, 0.6, 2.0, 50.0])
def test_the_name_of_the_limit_is_on_no_mark(config, tmp_path, limit_s):
    config = config.model_copy(update={"slo": config.slo.model_copy(update={"latency_s": limit_s})})
    written = load_points.latency_by_load(points(config), config, tmp_path).path.read_text()
    (x, y), words = (
        re.search(r"translate\(([\d.]+) ([\d.]+)\)", written.partition("<!-- limit")[2]).groups(),
        f"limit {limit_s:g} s",
    )
    left, line = float(x), float(y)
    box = (left, line - 6, left + 4.9 * len(words), line + 1)
    uses = re.findall(r'<use xlink:href="#m\w+" x="([\d.]+)" y="([\d.]+)"[^>]*style="[^"]*#0072b2', written)
    assert uses
    for place in uses:
        a, b = map(float, place)
        assert not Inked("mark", (a - 2.5, b - 2.5, a + 2.5, b + 2.5)).meets(Inked(words, box))


def test_no_option_has_the_colour_of_the_limit():
    assert LIMIT_COLOUR not in PALETTE


def test_a_limit_far_beyond_the_values_squashes_nothing_and_is_named(config, tmp_path):
    figure = load_points.latency_by_load(points(config), config, tmp_path)
    assert re.search("limit .* s", figure.path.read_text())
    far = config.model_copy(update={"slo": config.slo.model_copy(update={"latency_s": 500.0})})
    _, drawn = priced(far, tmp_path)
    assert "limit 500 s →" in drawn and ">500<" not in drawn


def test_the_file_of_price_and_performance_stands_alone_in_the_unit_of_the_verdict(config, tmp_path):
    figure, drawn = priced(config, tmp_path)
    root = ET.fromstring(drawn)
    letters = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", config.datasets[0].name, "price per 1M requests, $"} <= set(letters)
    assert figure.alt.startswith("Price per 1M requests against p95 end-to-end latency. Recommended: a.")
    assert '[fill="#0072b2" i] {fill: #3d9bdc' in drawn.partition("prefers-color-scheme: dark")[2]


@pytest.mark.parametrize(
    ("prices", "usual", "multiple"),
    [
        ([2.66e-7, 3.65e-7], 1e3, 1e6),
        ([1e-4, 2e-4, 3e-7], 1e3, 1e6),
        ([0.02, None], 1e6, 1e3),
        ([math.nan], 1e6, 1e6),
    ],
)
def test_most_prices_are_written_between_ten_cents_and_1000(prices, usual, multiple):
    assert multiple_for(prices, usual) == multiple


def test_a_dollar_in_a_name_is_no_formula(config, tmp_path):
    odd = config.datasets[0].model_copy(update={"name": r"$\undefined{x}$"})
    config = config.model_copy(update={"datasets": [odd]})
    figure = load_points.throughput_by_load(points(config), config, tmp_path)
    assert r"$\undefined{x}$" in "".join(figure.path.read_text().splitlines())


def test_a_distribution_counts_failures_as_never_finished_and_leaves_out_what_has_no_such_latency(config, tmp_path):
    rows = [("a", ok, latency) for ok, latency in ((True, 0.1), (True, 0.2), (True, 0.4), (False, 0.05))]
    rows += [("b", True, None)] * 4  # not streamed
    samples = pd.DataFrame(rows, columns=["option", "ok", "ttft_s"]).assign(dataset=config.datasets[0].name, level=1.0)
    figure = requests.distribution(samples, "ttft_s", config, tmp_path)
    assert figure.alt.endswith("Medians: a 150 ms, b –")
    groups = [group for group in drawn(figure).iter() if group.get("id") and len(group)]
    paths = {group.get("id"): group[0].get("d", "") for group in groups}
    curves = [path for name, path in paths.items() if name.startswith("line2d") and path.count("L") > 4]
    assert len(curves) == 1, "that of a, and none of b"
    top, bottom = min(heights(paths["patch_2"])), max(heights(paths["patch_2"]))
    shares = {round((bottom - height) / (bottom - top), 2) for height in heights(curves[0])}
    assert shares == {0, 0.25, 0.5, 0.75}, "one of the four is beyond the right edge"


def heights(path: str) -> list[float]:
    return [float(point.split()[1]) for point in re.split("[MLz]", path) if point.strip()]


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(
    ("colours", "least"),
    [((*PALETTE, "#777777"), 3), ((LIMIT_COLOUR, "#000000", "#444444", "#555555"), 4.5)],
)
def test_marks_and_letters_stand_out_on_light_and_dark_pages(colours, least):
    for colour in colours:
        assert contrast(colour, "#ffffff") >= least, colour
        assert contrast(ON_DARK.get(colour.lower(), colour), ON_DARK["#ffffff"]) >= least, colour


def test_every_shade_of_grey_in_a_figure_has_another_where_the_page_is_dark(config, tmp_path):
    """Also that of letters, which have no colour of their own."""
    figure = load_points.latency_by_load(points(config), config, tmp_path)
    written = figure.path.read_text()
    rules = written.partition("prefers-color-scheme: dark")[2].partition("</style>")[0]
    colours = set(re.findall(r'style="[^"]*?(?:fill|stroke): (#[0-9a-f]{6})', written))
    greys = {colour for colour in colours if colour[1:3] == colour[3:5] == colour[5:7]}
    assert greys >= {"#ffffff", "#000000"}
    assert greys <= set(ON_DARK) and all(f": {grey}" in rules for grey in greys)
    assert "fill: #e8e8e8}" in rules
