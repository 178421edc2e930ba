"""The start of each option that a run made: in service, first answer, first requests against the steady window."""

import json
from dataclasses import replace

import pytest
from examples import SECOND_NS, endpoint, facts, load_point, make_config, request, write_run

from helpers.metrics.single_requests import FOLDER
from helpers.report.report import options_table
from helpers.run.folder import RunFolder
from helpers.verdict.judging import judge
from helpers.verdict.startup import Startup, read_startups

CREATED, IN_SERVICE = "2026-11-01T10:00:00+00:00", "2026-11-01T10:04:10+00:00"
CONFIG = make_config(["a"])
TOKENS = ("prompt_tokens", "output_tokens")
AT_S = 1793527500
"""2026-11-01T10:05:00Z."""


def made(name="a", **changes):
    return endpoint(name, **({"create_called_at": CREATED, "in_service_at": IN_SERVICE} | changes))


def put(run, level=1.0, begun_s=0, slow=10, requests=40, slow_s=0.9, folder="requests", **changes):
    """A load point that begins `begun_s` after 10:05 and whose first answers take `slow_s`, all others 0.3 s."""
    rows = [
        request(i, slow_s if i < slow else 0.3, level=level, phase="warmup" if i < 5 else "steady", **changes)
        for i in range(requests)
    ]
    known = facts(level=level, repetition=changes.get("repetition", 0), clock_pairs=[(0, (AT_S + begun_s) * SECOND_NS)])
    if folder == FOLDER:
        known = replace(known, load_point="a__short")
    write_run(run.path / folder, rows, [known])


@pytest.fixture
def run(tmp_path):
    (tmp_path / "requests").mkdir()
    return RunFolder(tmp_path)


def test_the_first_requests_of_the_load_point_that_was_first_are_compared(run):
    put(run, level=4.0, begun_s=0)
    put(run, level=1.0, begun_s=100, slow=0)
    (run.path / "preflight.json").write_text(
        json.dumps(
            [{"option": "a", "asked_at": IN_SERVICE, "sent": "", "latency_s": 2.5, "notes": []} | dict.fromkeys(TOKENS)]
        )
    )
    assert read_startups(run, [made()], CONFIG) == [Startup("a", 250.0, 2.5, 10, pytest.approx(3.0))]


def test_single_requests_before_the_load_are_first(run):
    put(run, level=4.0, begun_s=100, slow=0)
    put(run, level=1.0, slow_s=0.6, folder=FOLDER)
    assert read_startups(run, [made()], CONFIG)[0].first_ratio == pytest.approx(2.0)


def test_failures_are_not_among_the_answers(run):
    rows = [request(i, None if i < 4 else 0.3, phase="steady") for i in range(40)]
    write_run(run.requests, rows, [facts(clock_pairs=[(0, AT_S * SECOND_NS)])])
    [start] = read_startups(run, [made()], CONFIG)
    assert (start.first_n, start.first_ratio) == (6, pytest.approx(1.0))


def test_what_an_earlier_endpoint_answered_is_not_of_this_one(run):
    put(run, level=4.0, begun_s=-3600)
    put(run, level=1.0, begun_s=100, slow_s=0.6)
    assert read_startups(run, [made()], CONFIG)[0].first_ratio == pytest.approx(2.0)


def test_of_replicates_the_first_is_shown(run):
    put(run, repetition=2)
    put(run, begun_s=100, slow_s=0.6, repetition=1)
    made_by_us = {"name": "a", "target": "python", "file": "f.py", "api": "openai_chat"}
    config = make_config([made_by_us], endpoints={"replicates": 2})
    [start] = read_startups(run, [made(), made("a, replicate 2")], config)
    assert (start.option, start.first_ratio) == ("a", pytest.approx(2.0))


def test_too_few_others_say_nothing(run):
    put(run, requests=19)
    assert read_startups(run, [made()], CONFIG)[0].first_ratio is None


def test_a_server_that_the_run_did_not_make_has_no_start(run):
    put(run)
    assert read_startups(run, [made(create_called_at=None), made(in_service_at=None)], CONFIG) == []


def test_the_table_of_options_has_the_start_of_those_that_the_run_made():
    import pandas as pd

    points = pd.DataFrame([load_point("a"), load_point("b", rate=5)])
    config = make_config(["a", "b"])
    verdict = judge(points, [made(), endpoint("b")], [], config, "run-1")
    table = options_table(verdict, config, [Startup("a", 250.0, 2.5, 9, 3.0)])
    keys = [column.key for column in table.columns]
    cells = {row[0]: dict(zip(keys, row, strict=True)) for row in table.cells()}
    assert [cells["a"][key] for key in ("startup_s", "first_answer_s", "first_ratio")] == [
        "250.0",
        "2.50",
        "3.00 (n = 9)",
    ]
    assert [cells["b"][key] for key in ("startup_s", "first_answer_s", "first_ratio")] == ["–", "–", "–"]
    assert "of one endpoint each (n = 1)" in table.caption
    without = options_table(verdict, config)
    assert "startup_s" not in [column.key for column in without.columns]
    assert "tart-up" not in without.caption


@pytest.mark.slow
def test_a_real_run_has_the_start_of_each_option_in_its_report(finished_run):
    rows = {
        line.split("|")[1].strip(): line
        for line in (finished_run.run.path / "report.md").read_text().splitlines()
        if "(n = 10)" in line
    }
    assert len(rows) == 2
