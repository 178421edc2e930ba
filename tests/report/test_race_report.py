"""The picture of a race, its words, and what tables call its intervals."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pandas as pd
import pytest
from examples import load_point, make_config

from helpers.config.load_level import LoadLevel
from helpers.load.race_points import Price
from helpers.load.race_standing import NOTHING, Bill, Standing, Visit
from helpers.report.charts import race_figure
from helpers.report.columns import interval_words
from helpers.report.plan_report import plan_table
from helpers.report.price_unit import unit_for
from helpers.report.race_report import bill_words, race_title, standing_words
from helpers.report.report import load_point_table

SVG = "{http://www.w3.org/2000/svg}"
LONG = "a name that is much longer than a line of a picture has room for, with the rest"
NAMES = [LONG, *"bcdefgh"]
LOAD = {"kind": "closed_loop", "concurrency": [1, 2, 4, 8], "race": True, "repeat_prompts": True}


def standing(option="b", *visits, price=(2.0, 1.0, math.inf), **changes):
    visits = visits or (("short", 4, 40), ("short", 2, 40))
    known = {
        "option": option,
        "visits": tuple(Visit(dataset, LoadLevel("closed_loop", level), n) for dataset, level, n in visits),
        "prices": None if price is None else (Price(*price),) * 2,
        "spent": Bill(sum(n for *_, n in visits), 0.5, 1.0),
        "full": Bill(320, 2.5, 5.0),
        "rows": (),
        "outcome": None,
        "because": "",
    }
    return Standing(**known | changes)


def eight():
    many = [(dataset, level, 31) for level in (1, 2, 4, 8) for dataset in ("short", "long")] * 3
    lost = {"outcome": "more expensive", "because": "after 80 requests: at best it costs more than the leader " * 3}
    return [
        standing(LONG, *many, price=(0.5, 0.4, 0.6), outcome="settled", because="after 744 requests: nothing more"),
        standing("b", **lost),
        standing("c", price=None, outcome="infeasible", because="after 80 requests: it misses the SLO"),
        standing("d", price=(math.inf, 0.3, math.inf), **lost),
        standing("e", price=(90.0, 80.0, math.inf), **lost),
        standing("f", *[("short", level, 3) for level in (1, 2, 4, 8)] * 8, price=(1.0, 0.9, 1.1)),
        standing("g", price=None, because="<b>no & capacity"),
        standing("h", visits=(), price=None, spent=NOTHING, full=Bill(320, None, None)),
    ]


@pytest.fixture
def picture(tmp_path):
    config = make_config(NAMES, ["short", "long"], load=LOAD)
    standings = eight()
    words = {one.option: standing_words(one) for one in standings}
    unit = unit_for("usd_per_1k_requests", [0.5])
    figure = race_figure(standings, words, ("What was found", "What it took."), unit, config, tmp_path)
    return figure, ET.parse(figure.path).getroot()


def texts(root):
    """Row, baseline, left, right and words of every text of an option, about as wide as it is drawn."""
    inside = root.find(f".//{SVG}g[@font-size='11']")
    for row, group in enumerate(group for group in inside if group.tag == f"{SVG}g"):
        for text in group.iter(f"{SVG}text"):
            width = len(text.text) * (4.7 if text.get("font-size") == "9" else 6.2)
            left = float(text.get("x")) - (width if text.get("text-anchor") == "end" else 0)
            yield row, float(text.get("y")), left, left + width, text.text


def test_no_words_of_the_picture_overlap_or_leave_it(picture):
    by_line = {}
    for row, y, left, right, words in texts(picture[1]):
        assert left >= 0 and right <= 765, words
        by_line.setdefault((row, y), []).append((left, right, words))
    assert len({row for row, _ in by_line}) == 8
    for line in by_line.values():
        line.sort()
        for (_, right, one), (left, _, other) in pairwise(line):
            assert left >= right - 1, f"{one!r} and {other!r}"


def test_each_option_has_its_words_and_words_are_text(picture):
    figure, root = picture
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert figure.title == "What was found" and "What was found" not in said, "the page writes the title"
    assert any(words.startswith("a name that is") and words.endswith("…") for words in said)
    assert "infeasible after 80 requests: it misses the SLO" in said
    assert "failed: <b>no & capacity" in said and "not measured" in said and "still in the race" in said
    assert "at least 80.0" in said, "a price far beyond the leader's stands at the end of the axis"
    assert LONG in figure.alt and figure.caption.startswith("What it took.")


def test_a_piece_is_as_long_as_its_requests(picture):
    widths = [
        float(rect.get("width")) for rect in picture[1].iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None
    ]
    assert len(widths) == 24 + 32 + 5 * 2
    assert widths[-1] / widths[0] == pytest.approx(40 / 31, rel=0.1)


def test_what_the_race_took_of_the_full_grid():
    two = [standing("a", outcome="settled"), standing("b", because="no capacity")]
    assert race_title(two) == "The race sent 160 requests, 25% of the 640 of the full grid"
    assert bill_words(two) == (
        "The race took 160 requests, 60 endpoint-minutes and $2.00. The full grid (race: false) would take 640 requests (25%), "
        "5.00 endpoint-hours (20%) and $10 (20%): an estimate from the rates at which the options answered; in brackets, what "
        "the race took of it."
    )
    assert "$2.00 so far. The full grid" in bill_words([two[0], standing("b")])


def test_what_is_not_known_of_the_full_grid_is_unknown():
    words = bill_words([standing("a"), standing("b", visits=(), spent=NOTHING, full=Bill(320, None, None))])
    assert "would take 640 requests (12%) and an unknown time, because rates of “b” are unknown: an estimate" in words
    no_price = [standing("a", spent=Bill(80, 0.5, None), full=Bill(320, 2.5, None))]
    assert "30 endpoint-minutes and unknown dollars so far" in bill_words(no_price)
    assert "2.50 endpoint-hours (20%) and unknown dollars: an estimate" in bill_words(no_price)


def test_where_nothing_is_billed_no_dollars_are_mentioned():
    assert "$" not in bill_words([standing("a", spent=Bill(80, 0.5, 0.0), full=Bill(320, 2.5, 0.0))])


def test_intervals_of_a_race_are_not_called_those_of_a_single_look():
    plain, raced = make_config(), make_config(load=LOAD)
    assert interval_words(plain) == "95% interval"
    headers = [column.header for column in load_point_table(pd.DataFrame([load_point()]), raced).columns]
    assert headers.count("interval at every look") == 2 and "95% interval" not in headers


def test_the_plan_of_a_race_gives_what_is_expected_and_the_most():
    (row,) = (
        dict(zip([c.header for c in t.columns], t.cells()[0], strict=True))
        for t in [plan_table(make_config(load=LOAD))]
    )
    assert {"expected requests", "expected, min", "expected, $", "at most, min", "at most, $"} <= row.keys()
    assert 0 < int(row["expected, min"].replace(",", "")) <= int(row["at most, min"].replace(",", ""))
    assert "Expected, as an estimate: about " + row["expected requests"] in plan_table(make_config(load=LOAD)).caption
    assert "expected requests" not in [column.header for column in plan_table(make_config()).columns]


@pytest.mark.parametrize(("price", "has_line"), [((math.inf, 0.0, math.inf), False), ((0.0, 0.0, 0.0), True)])
def test_an_unknown_price_is_not_drawn_and_one_of_nothing_is(tmp_path, price, has_line):
    config, one = make_config(["a"], load=LOAD), standing("a", price=price)
    unit = unit_for("usd_per_1k_requests", [0.5])
    drawn = race_figure([one], {"a": "in it"}, ("T", "S"), unit, config, tmp_path).path.read_text()
    assert ('fill="none" stroke-width="1.4"' in drawn) == has_line
