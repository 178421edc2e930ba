"""What would change the answer is found by judging the same requests again: the answer is another one exactly from there on."""

import pandas as pd
import pytest
from examples import endpoint, facts, make_config, request, summarise_load_points, write_run

from helpers.run.folder import RunFolder
from helpers.run.records import read_facts
from helpers.verdict.analysis import Measurements
from helpers.verdict.changes import CHANGES_FILE, EXACT, Changes, find_changes, read_changes
from helpers.verdict.judging import judge


def measured(tmp_path, slow_usd=1.0, fast_usd=10.0):
    """Two options at concurrency 1, 200 requests each: `slow` answers in 0.8 s, `fast` in 0.3 s; the limit is 1 s."""
    run = RunFolder(tmp_path)
    for option, latency_s in (("slow", 0.8), ("fast", 0.3)):
        rows = [request(at, latency_s, level=1.0) | {"option": option} for at in range(200)]
        window = facts(0, 200, load_kind="closed_loop", level=1.0, option=option, load_point=f"{option}__short__c1__r1")
        write_run(run.requests, rows, [window])
    config = make_config(["slow", "fast"], load={"concurrency": [1]})
    endpoints = [endpoint("slow", slow_usd), endpoint("fast", fast_usd)]
    known = read_facts(run.requests)
    points = summarise_load_points(run.requests, known, endpoints, config)
    found = Measurements(points, pd.DataFrame(), known, endpoints, [], pd.DataFrame())
    return found, judge(points, endpoints, [], config, run.run_id), config, run


def test_the_answer_changes_at_the_limits_that_are_found(tmp_path):
    found = measured(tmp_path)
    assert found[1].recommended == "slow"
    changes = find_changes(*found)
    assert changes.stricter.recommended == "fast"
    assert changes.stricter.limit_s == pytest.approx(0.8, rel=EXACT - 1) and changes.stricter.limit_s < 0.8
    assert changes.laxer is None, "a laxer limit changes nothing"
    assert read_changes(found[-1]) == changes


def test_a_limit_that_nobody_meets_is_a_change_too(tmp_path):
    changes = find_changes(*measured(tmp_path, fast_usd=0.1))
    assert changes.stricter.recommended is None
    assert changes.stricter.limit_s == pytest.approx(0.3, rel=EXACT - 1)


def test_without_a_recommended_option_no_limit_is_searched_for(tmp_path):
    found, verdict, config, run = measured(tmp_path)
    nobody = verdict.model_copy(update={"recommended": None})
    assert find_changes(found, nobody, config, run) == Changes("latency_s", None, None)
    assert (run.metrics / CHANGES_FILE).is_file()
