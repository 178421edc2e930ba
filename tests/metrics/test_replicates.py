"""Replicates: each option on several endpoints, whose differences the intervals contain."""

import json
import math
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from config_text import TEXT
from examples import endpoint, facts, load_point, make_config, request, write_run
from fault_lab import fault_config, load_points
from planted_replicates import campaign, coverage
from pydantic import ValidationError

from helpers.config.file import load_config
from helpers.errors import RunFolderError
from helpers.load.plan import attempts_of
from helpers.metrics.control import is_controlled
from helpers.metrics.intervals import BOTH, Interval
from helpers.metrics.replicates import replicates_interval
from helpers.metrics.sample_size import load_for_slo
from helpers.metrics.single_requests import FOLDER, with_limits
from helpers.report.plan_machines import instances_needed
from helpers.report.plan_report import plan_table
from helpers.report.readings import ONE_ENDPOINT, interval_reading
from helpers.run.folder import RunFolder, open_run
from helpers.run.measured_config import refuse_other_measurement
from helpers.verdict.analysis import read_measurements
from helpers.verdict.checks import check_run
from helpers.verdict.chosen_points import mixed_cost
from helpers.verdict.judging import judge
from helpers.verdict.verdict import Estimate

pytest_plugins = ["fault_fixtures"]

MADE = {
    "name": "a",
    "target": "sagemaker",
    "api": "openai_chat",
    "instance_type": "ml.g5.xlarge",
    "container": {"image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/engine:1"},
    "price": {"usd_per_hour": 2.0},
    "inference_ami": "al2-ami-sagemaker-inference-gpu-3-1",
}
CREATED = {"create_called_at": "2026-11-01T10:00:00+00:00"}


def replaced_options(text):
    """A config whose options are all deployed."""
    return text.replace(text[text.index("  - name: server") : text.index("  - name: endpoint")], "")


def config_of(replicates=3, option=MADE, **sections):
    return make_config([option], endpoints={"replicates": replicates}, **sections)


# --- what is deployed and measured --------------------------------------------------------------------------------


def test_each_endpoint_measures_each_load_point_under_numbers_of_its_own(tmp_path):
    config = config_of(load={"concurrency": [1, 2], "repetitions": 2}).deployed()
    run = RunFolder(tmp_path)
    names = [option.name for option in config.options]
    assert names == ["a", "a, replicate 2", "a, replicate 3"]
    found = [
        [(a.option, a.repetition) for a in attempts_of(o, config, run) if a.level.value == 1] for o in config.options
    ]
    assert found == [[("a", 1), ("a", 2)], [("a", 3), ("a", 4)], [("a", 5), ("a", 6)]]
    assert config.deployed() is config
    of_option = attempts_of(config_of(load={"concurrency": [1, 2], "repetitions": 2}).options[0], config, run)
    assert sorted({a.repetition for a in of_option}) == [1, 2, 3, 4, 5, 6]


def test_without_replicates_nothing_is_another():
    config = config_of(1)
    assert config.deployed() is config
    assert config.options[0].measured_as == "a"
    assert config.attempts_per_load_point == 1


def test_the_requests_that_the_slo_needs_are_split_between_the_endpoints():
    assert load_for_slo(config_of(1)).min_requests == pytest.approx(
        3 * load_for_slo(config_of(3)).min_requests, rel=0.05
    )


def test_the_plan_and_the_quota_count_each_endpoint():
    one, three = (plan_table(config_of(n)) for n in (1, 3))
    assert list(three.rows["option"]) == ["a", "a, replicate 2", "a, replicate 3"]
    assert three.rows["usd"].sum() == pytest.approx(3 * one.rows["usd"].sum())
    assert "each option on 3 endpoints, of which each is a row" in three.caption
    assert "replicates" not in one.caption
    assert instances_needed(config_of(3)) == {"ml.g5.xlarge": 3}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"load": {"race": True}}, "the bounds of a race"),
        ({"load": {"control": True}}, "compares one endpoint with itself"),
        (
            {"option": {"name": "b", "target": "openai", "base_url": "http://x/v1", "served_model": "m"}},
            "'b' is not deployed",
        ),
        ({"option": MADE | {"deploy": False, "endpoint_name": "e", "container": None}}, "'a' is not deployed"),
    ],
)
def test_replicates_that_cannot_be_measured_are_refused_with_the_reason(changes, why):
    with pytest.raises(ValidationError) as refused:
        config_of(**changes)
    [fault] = refused.value.errors()
    assert fault["ctx"]["path"] == ["endpoints", "replicates"]
    assert "3 replicates cannot be measured: " in fault["msg"]
    assert why in fault["msg"]
    assert "Next: " in fault["msg"]


def test_a_name_that_a_replicate_will_have_is_refused():
    with pytest.raises(ValidationError, match="give the same file name"):
        make_config([MADE, MADE | {"name": "a, replicate 2"}], endpoints={"replicates": 2})


def test_replicates_have_no_control_block():
    assert is_controlled(
        config_of(1, load={"concurrency": [1, 2]}).options[0], config_of(1, load={"concurrency": [1, 2]})
    )
    assert not is_controlled(config_of(2).options[0], config_of(2, load={"concurrency": [1, 2]}))


def test_a_limit_that_follows_the_machine_may_come_from_any_replicate(tmp_path):
    run = RunFolder(tmp_path)
    config = config_of(2, slo={"latency_s": {"times_single_request": 4}})
    of_second = facts(option="a, replicate 2", clock_pairs=[(0, 10**18)])
    rows = [request(i, 0.25, option="a, replicate 2") for i in range(20)]
    write_run(run.path / FOLDER, rows, [replace(of_second, load_point="a-replicate-2__short")])
    assert with_limits(config, run).slo.latency_s == 1.0


def test_a_load_point_that_an_endpoint_lacks_is_a_warning():
    points = pd.DataFrame([load_point("a", repetitions=2, endpoints=2)])
    arguments = [], [], [endpoint("a")], [], config_of(3), date(2026, 11, 1)
    kinds = {warning.kind: warning for warning in check_run(points, *arguments)}
    assert kinds["few_repetitions"].rows == ["a, short, concurrency 1: 2 of 3"]
    assert "few_repetitions" not in {w.kind for w in check_run(points.assign(repetitions=3), *arguments)}


def test_a_run_keeps_the_number_of_its_replicates(tmp_path):
    path, text = tmp_path / "config.yml", replaced_options(TEXT)
    path.write_text(f"{text}run_root: runs\nendpoints: {{replicates: 2}}\n")
    config, run = open_run(str(path), new=True)
    refuse_other_measurement(config, run)
    path.write_text(f"{text}run_root: runs\n")
    with pytest.raises(RunFolderError, match=r"was started with other values of endpoints\.replicates than"):
        refuse_other_measurement(load_config(path), run)


# --- intervals ----------------------------------------------------------------------------------------------------


def test_the_interval_is_students_t_over_the_endpoints_on_the_log_scale():
    amounts = [np.array([n]) for n in (90.0, 100.0, 110.0)]
    durations = [np.array([10.0])] * 3
    found = replicates_interval(amounts, durations, [1, 2, 3], Interval(9.9, 10.1), BOTH)
    reach = 4.302653 * np.std(np.log([9, 10, 11]), ddof=1) / math.sqrt(3)
    assert found == pytest.approx((10 / math.exp(reach), 10 * math.exp(reach)))


def test_repetitions_of_one_endpoint_count_as_one_endpoint():
    amounts, durations = [np.array([n]) for n in (90.0, 110.0, 95.0, 105.0)], [np.array([10.0])] * 4
    within = Interval(9.0, 11.0)
    assert replicates_interval(amounts, durations, [1, 1, 2, 2], within, BOTH) == within  # both have 10 a second
    assert replicates_interval(amounts, durations, [1, 1, 1, 1], within, BOTH) == within
    assert replicates_interval(amounts, durations, [1, 2, 1, 2], within, BOTH).high > 11


def test_an_endpoint_that_served_nothing_leaves_the_interval_unknown():
    found = replicates_interval([np.array([9.0]), np.array([0.0])], [np.ones(1)] * 2, [1, 2], Interval(1, 2), BOTH)
    assert found == (None, None)


def test_an_endpoint_that_is_slow_is_slow_on_each_dataset():
    costs = [(0.5, Estimate(value=1, low=0.8, high=1.3)), (0.5, Estimate(value=1, low=0.8, high=1.3))]
    assert mixed_cost(costs, replicated=True).high == pytest.approx(1.3)
    assert mixed_cost(costs).high == pytest.approx(1 + 0.3 / math.sqrt(2))


def test_price_intervals_of_three_endpoints_cover_a_planted_spread():
    """20 campaigns through the summary of load points; tests/benchmarks/replicates.py prints more of them."""
    found = coverage(20, replicates=3, spread=0.1, seed=5)
    assert found.with_spread >= 0.85
    assert found.of_one_endpoint < 0.6
    assert campaign(1, replicates=3, spread=0.1)["endpoints"] == 3


def test_two_endpoints_reach_as_far_as_students_t_with_one_degree_of_freedom():
    row = campaign(2, replicates=2, spread=0.1)
    reach = math.log(row["requests_per_s_high"] / row["requests_per_s"])
    assert reach == pytest.approx(math.log(row["requests_per_s"] / row["requests_per_s_low"]))
    assert reach > 0.5  # repetitions of one endpoint reach a tenth of that


def test_the_interval_covers_as_often_as_it_says():
    """2,000 draws of three endpoints that differ by 10%."""
    draw, held = np.random.default_rng(3), 0
    for _ in range(2000):
        rates = 10 * np.exp(draw.normal(0, 0.1, 3))
        found = replicates_interval(
            [100 * np.ones(1)] * 3, [np.array([100 / r]) for r in rates], [1, 2, 3], Interval(9.99, 10.01), BOTH
        )
        held += found.low <= 10 * math.exp(-0.005) <= found.high
    assert 0.93 <= held / 2000 <= 0.97


# --- what is said -------------------------------------------------------------------------------------------------


def said(records=(), **point):
    config = make_config(["a"])
    points = pd.DataFrame([load_point("a", **point)])
    return str(interval_reading(judge(points, [endpoint("a")], [], config, "r"), records).markdown)


def test_one_endpoint_is_said_to_be_one_and_of_servers_that_were_there_nothing():
    assert ONE_ENDPOINT in said([endpoint("a", **CREATED)])
    assert "endpoint" not in said([endpoint("a")])


def test_what_intervals_of_several_endpoints_contain_is_said():
    several = said([endpoint("a", **CREATED)], endpoints=3)
    assert "Intervals of prices contain how much the endpoints of an option differ" in several
    assert "on at least 3 endpoints each." in several
    alone = said([endpoint("a", **CREATED)], endpoints=1)
    assert ONE_ENDPOINT in alone
    assert "known to within 11.1%." in several


def test_a_run_deploys_measures_and_deletes_each_endpoint(lab):
    config_path = fault_config(lab.folder, ("a",), endpoints={"replicates": 2})
    run = lab.begin(config_path)
    lab.start()
    lab.finish(config_path, run)
    ledger = {r["option"]: r for r in json.loads(run.ledger_file.read_text())["endpoints"]}
    assert list(ledger) == ["a", "a, replicate 2"]
    assert {r["state"] for r in ledger.values()} == {"deleted"}
    assert len({r["endpoint_name"] for r in ledger.values()}) == 2
    assert sorted(load_points(run)) == [f"a__short__c{level}__r{n}.parquet" for level in (1, 2) for n in (1, 2)]
    measured = read_measurements(load_config(config_path).benchmark, run)
    assert list(measured.points["endpoints"]) == [2, 2]
    assert lab.left() == set()
