"""What the report says of prefix caches, on planted load points."""

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config
from sentence_numbers import Known, unaccounted

from helpers.report.bottom_line_text import bottom_line
from helpers.report.cache_report import hit_rate_table
from helpers.verdict.judging import judge


def reported(*points):
    """The table of hit rates and the bottom line, whose numbers are worked out again."""
    table = pd.DataFrame([load_point(**point) for point in points])
    names, datasets = (list(dict.fromkeys(table[column])) for column in ("option", "dataset"))
    config = make_config(names, datasets, load={"concurrency": sorted({int(level) for level in table["level"]})})
    verdict = judge(table, [endpoint(name) for name in names], [], config, "run-1")
    shown = hit_rate_table(table, config)
    sections = config.model_dump(mode="json")
    planted = {"slo": sections["slo"], "traffic": sections["traffic"], "datasets": datasets}
    known = Known(verdict.model_dump(mode="json"), table, {}, planted)
    said = str(bottom_line(verdict, config).markdown)
    for line in [*said.splitlines(), *([shown.reading] if shown else [])]:
        assert unaccounted(line.replace("\\", ""), known) == []
    return shown, said


HALF = {"asked_hit_rate": 0.5, "sent_hit_rate": 0.4961}


def test_hit_rates_stand_side_by_side_and_the_price_says_at_which_one_it_holds():
    shown, said = reported(
        {"option": "on", "rate": 20, "found_hit_rate": 0.4512, **HALF},
        {"option": "on", "rate": 30, "level": 2, "found_hit_rate": 0.4832, **HALF},
        {"option": "less", "found_hit_rate": 0.1, **HALF},
        {"option": "off", **HALF},
    )
    headers = [column.header for column in shown.columns]
    assert headers[4:] == ["hit rate asked, %", "sent, %", "found, %", "TTFT p50, s"]
    assert [row[4:7] for row in shown.cells()] == [
        ["50.0", "49.6", "45.1"],
        ["50.0", "49.6", "48.3"],
        ["50.0", "49.6", "10.0"],
        ["50.0", "49.6", "–"],
    ]
    assert shown.reading == (
        "The prefix cache of “on” found 46.7% of its prompt tokens, that of “less” 10.0%. “off” does not report what a cache "
        "found, so that is unknown, even whether there is one."
    )
    assert " The price of “on” holds where its prefix cache finds 48.3% of the prompt tokens (50.0% asked). " in said


def test_a_price_whose_hit_rate_nobody_reports_says_so():
    _, said = reported({"option": "off", **HALF})
    assert (
        " At which hit rate the price of “off” holds (50.0% asked) is unknown: its server does not report what a prefix cache "
        "found."
    ) in said


def test_each_dataset_has_its_hit_rate():
    _, said = reported({"found_hit_rate": 0.2}, {"dataset": "long", "found_hit_rate": 0.612, "asked_hit_rate": 0.6})
    assert ("finds 20.0% of the prompt tokens on short and 61.2% of the prompt tokens on long (60.0% asked). ") in said


@pytest.mark.parametrize("found", [None, 0.0])
def test_where_nothing_was_asked_and_nothing_found_nothing_is_said(found):
    shown, said = reported({"found_hit_rate": found})
    assert shown is None
    assert "prefix" not in said
