"""A race through the front door: who leaves, why, in which order; and one that is killed goes on and decides the same."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
from conftest import thorough
from fault_lab import SHORT_RACE, SMALL_SERVER, Lab, fault_config, fault_option, load_points, records_of, wait_for

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import load_config
from helpers.load.plan import attempts_of, missing_attempts
from helpers.report.race_report import draw_race_figure, race_table
from helpers.run.folder import RunFolder
from helpers.run.records import read_requests
from helpers.series.live_race import LiveRace
from helpers.verdict.analysis import Measurements, read_measurements
from helpers.verdict.judging import judge
from helpers.verdict.verdict import Verdict

pytestmark = pytest.mark.faults
pytest_plugins = ["fault_fixtures"]

USD_PER_HOUR = {"costly": 40.0, "cheap": 1.0, "middle": 20.0}
"""Of options whose servers are the same."""


BOUNDS = {
    "middle": {"best_output_tokens_per_s": 2000},
    "costly": {"container": {"kind": "vllm", "image": "vllm", "model_id": "org/model", "active_parameters_b": 7.5}},
}
"""The servers answer hundreds of tokens per second, and the A10G of the costly option can serve no more."""
WAITS = (
    "import os, sys, time\nwhile not os.path.exists({file!r}): time.sleep(0.05)\nos.execv(sys.executable, {command!r})"
)
"""The program of a container that comes up once there is a file."""


def race_config(folder: Path, changes: dict[str, dict] | None = None) -> Path:
    """A race of three options; `changes` are keys of some."""
    prices = {name: {"usd_per_hour": usd, "as_of": "2026-11-01"} for name, usd in USD_PER_HOUR.items()}
    options = [fault_option(name, price=price, **(changes or {}).get(name, {})) for name, price in prices.items()]
    return fault_config(folder, options=options, load=SHORT_RACE)


def outcomes(run: RunFolder) -> dict[str, str | None]:
    return {name: record.race_outcome for name, record in records_of(run).items()}


def assert_raced(config_path: Path, run: RunFolder, lab: Lab) -> None:
    config = load_config(str(config_path)).benchmark
    found = outcomes(run)
    assert found["cheap"] == "settled"
    assert {found["middle"], found["costly"]} == {"more expensive"}
    assert not any(missing_attempts(option, config, run) for option in config.options)
    sent = {option.name: len(attempts_of(option, config, run)) for option in config.options}
    assert sent["costly"] <= sent["cheap"], "a few looks are enough to see that it costs too much"
    assert lab.left() == set()
    measured = read_measurements(config, run)
    judged = judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id)
    assert (judged.recommended, judged.tied) == ("cheap", [])
    assert set(judged.may_be_cheaper) <= {"cheap"}, "at another of its own loads"
    for name in ("middle", "costly"):
        assert judged.option(name).status == "eliminated"
        assert "at least $" in judged.option(name).reason
    assert not [warning for warning in judged.warnings if warning.kind == "missing"]
    rows = race_table(measured.endpoints, measured.points, config).rows
    assert dict(zip(rows["option"], rows["outcome"], strict=True)) == found
    assert_shown(config, run, measured, judged)


def assert_shown(config: BenchmarkConfig, run: RunFolder, measured: Measurements, judged: Verdict) -> None:
    """The live view and the report's picture say the same, from records and ledger alone."""
    view = LiveRace(config, run).widget.value
    assert "left: settled after" in view and view.count("left: more expensive after") == 2 * 2, "drawn, and in words"
    sent = len(read_requests(run.requests, ["option"]))
    figure = draw_race_figure(judged, measured.endpoints, config, run)
    assert f"The race sent {sent:,} requests, " in figure.alt and "more expensive after" in figure.alt
    assert f"The race took {sent:,} requests, " in figure.caption and "unknown" not in figure.caption


def test_options_come_up_by_price_and_leave_when_they_cannot_win(lab):
    config = race_config(lab.folder)
    run = lab.begin(config)
    lab.start()
    lab.finish(config, run)
    assert_raced(config, run, lab)
    made = sorted(records_of(run).values(), key=lambda record: record.create_called_at)
    assert [record.option for record in made] == ["cheap", "middle", "costly"]
    assert made[2].create_called_at >= made[0].delete_called_at, "no third endpoint beside the loaded one and the next"


@pytest.mark.parametrize("finished", [3, *thorough(1)])
def test_a_race_that_was_killed_goes_on_and_decides_the_same(lab, finished):
    config = race_config(lab.folder)
    run = lab.begin(config)
    lab.start()
    kernel = lab.drive(config, run)
    wait_for(lambda: len(load_points(run)) >= finished, "load points")
    os.kill(kernel.pid, signal.SIGKILL)
    wait_for(lambda: not any(record.may_exist for record in records_of(run).values()), "everything is deleted")
    before, left = load_points(run), outcomes(run)
    lab.finish(config, run)
    assert load_points(run).items() >= before.items()
    assert {name: outcome for name, outcome in outcomes(run).items() if left[name]} == {
        n: o for n, o in left.items() if o
    }
    assert_raced(config, run, lab)


def assert_not_loaded(config_path: Path, run: RunFolder, lab: Lab) -> None:
    config, records = load_config(str(config_path)).benchmark, records_of(run)
    assert outcomes(run) == {"cheap": "settled", "middle": "never loaded", "costly": "never loaded"}
    assert {name.split("__")[0] for name in load_points(run)} == {"cheap"}
    assert records["costly"].state == "planned" and records["costly"].billed_hours() is None
    assert lab.left() == set()
    for name, origin in (("middle", "stated as best_output_tokens_per_s"), ("costly", "roofline of 1 x NVIDIA A10G")):
        because = records[name].race_because
        assert because.startswith("before any load: even at the most that it can serve it costs more than the leader")
        assert re.search(r"\(\$[\d.]+ against \$[\d.]+ per (1,000|1M) requests, at least \$[\d.]+ more\)", because)
        assert origin in because
    measured = read_measurements(config, run)
    judged = judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id)
    assert (judged.recommended, judged.tied, judged.not_measured) == ("cheap", [], [])
    assert set(judged.may_be_cheaper) <= {"cheap"}
    for name in ("middle", "costly"):
        assert judged.option(name).status == "eliminated"
        assert judged.option(name).reason == f"eliminated {records[name].race_because}"
    assert not [warning for warning in judged.warnings if warning.kind == "missing"]
    rows = race_table(measured.endpoints, measured.points, config).rows.set_index("option")
    assert list(rows.loc[["middle", "costly"], "outcome"]) == ["never loaded"] * 2
    assert list(rows.loc[["middle", "costly"], "requests"]) == [0, 0]


def test_what_cannot_win_is_not_deployed_and_deleted_if_it_starts_already(lab):
    """The middle option starts while there is no leader yet. It is given up, but cannot be deleted before it is up."""
    config = race_config(lab.folder, {**BOUNDS, "middle": {**BOUNDS["middle"], "container": {"image": "waits"}}})
    run = lab.begin(config)
    may_come_up = lab.folder / "may-come-up"
    lab.images["waits"] = [sys.executable, "-c", WAITS.format(file=str(may_come_up), command=SMALL_SERVER)]
    lab.start()
    driver = threading.Thread(target=lab.finish, args=(config, run))
    driver.start()
    try:
        wait_for(lambda: run.ledger_file.exists() and outcomes(run).get("middle") == "never loaded", "it is given up")
    finally:
        may_come_up.touch()
        driver.join(120)
    assert_not_loaded(config, run, lab)
    middle = records_of(run)["middle"]
    assert middle.create_called_at is not None and middle.in_service_at is None and middle.state == "deleted"


def test_what_cannot_win_is_deleted_while_it_waits_for_its_turn(lab):
    config = race_config(lab.folder, BOUNDS)
    run = lab.begin(config)
    lab.start()
    lab.finish(config, run)
    assert_not_loaded(config, run, lab)


@pytest.mark.thorough
def test_a_race_that_was_killed_deploys_no_more_than_one_that_was_not(lab):
    config = race_config(lab.folder, BOUNDS)
    run = lab.begin(config)
    lab.start()
    kernel = lab.drive(config, run)
    wait_for(lambda: load_points(run), "load points")
    os.kill(kernel.pid, signal.SIGKILL)
    wait_for(lambda: not any(record.may_exist for record in records_of(run).values()), "everything is deleted")
    lab.finish(config, run)
    assert_not_loaded(config, run, lab)
    said = lab.finish(config, run)
    assert said == ""
    assert_not_loaded(config, run, lab)
