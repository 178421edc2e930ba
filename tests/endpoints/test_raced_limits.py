"""A race whose SLO follows the machine: who sets the limit, and that it never changes, whatever fails or is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from conftest import thorough
from fault_lab import SHORT_RACE, fault_config, fault_option, load_points, records_of, wait_for
from lossy_servers import serving
from small_server import Handler

from helpers.config.file import load_config
from helpers.load.plan import missing_attempts
from helpers.metrics.single_requests import FOLDER, slo_sentence, with_limits, with_measured_limits
from helpers.run.folder import RunFolder, open_run
from helpers.verdict.analysis import read_measurements
from helpers.verdict.judging import judge

pytestmark = pytest.mark.faults
pytest_plugins = ["fault_fixtures"]

USD_PER_HOUR = {"costly": 40.0, "cheap": 1.0, "middle": 20.0}
"""Of options whose servers are the same; the config's first is the most expensive."""
TIMES = 20
DEAD = {"call": "CreateEndpoint", "becomes": "Failed", "message": "The container did not start."}
SILENT = {"call": "InvokeEndpoint", "error_code": "ModelError", "message": "CUDA out of memory", "after": 1}
"""After its first request, which asks whether it answers."""


def limited_config(folder: Path, limit: str = "latency_s", **options: dict) -> Path:
    """A race by this limit, of these options (name -> what differs), or of three."""
    made = [
        fault_option(name, price={"usd_per_hour": USD_PER_HOUR[name], "as_of": "2026-11-01"}, **changes)
        for name, changes in (options or {name: {} for name in USD_PER_HOUR}).items()
    ]
    slo = {"percentile": 75, limit: {"times_single_request": TIMES}, "error_rate": 0.2, "confidence": 0.9}
    return fault_config(folder, options=made, load=SHORT_RACE, slo=slo, endpoints={"unreachable_for_s": 2})


def measured_singly(run: RunFolder) -> list[str]:
    return sorted(file.stem for file in (run.path / FOLDER).glob("*.parquet"))


def limit_of(config: Path, run: RunFolder) -> dict[str, float]:
    return with_limits(load_config(config).benchmark, run).slo.limits_s()


def in_order_of_creation(run: RunFolder) -> list[str]:
    return [r.option for r in sorted(records_of(run).values(), key=lambda r: r.create_called_at or "")]


def assert_cheap_wins(config_path: Path, run: RunFolder, whose: str) -> None:
    loaded, _ = open_run(str(config_path), str(run.path))
    config = with_measured_limits(loaded, run).benchmark
    assert not any(missing_attempts(option, config, run) for option in config.options)
    measured = read_measurements(config, run)
    judged = judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id)
    assert (judged.recommended, judged.tied) == ("cheap", [])
    assert f"{TIMES} × " in slo_sentence(run) and f"to “{whose}”" in slo_sentence(run)


def test_the_first_option_of_the_config_comes_up_first_and_sets_the_limit(lab):
    config = limited_config(lab.folder)
    run = lab.begin(config)
    lab.start()
    lab.finish(config, run)
    assert in_order_of_creation(run) == ["costly", "cheap", "middle"]
    assert measured_singly(run) == ["costly__short"]
    assert_cheap_wins(config, run, "costly")
    assert records_of(run)["middle"].race_outcome == "more expensive"
    assert lab.left() == set()


@pytest.mark.parametrize("finished", thorough(0, 3))
def test_a_race_that_was_killed_goes_on_with_the_same_limit(lab, finished):
    config = limited_config(lab.folder)
    run = lab.begin(config)
    lab.start()
    kernel = lab.drive(config, run)
    wait_for(lambda: measured_singly(run) and len(load_points(run)) >= finished, "load points")
    os.kill(kernel.pid, signal.SIGKILL)
    wait_for(lambda: not any(record.may_exist for record in records_of(run).values()), "everything is deleted")
    limit, points = limit_of(config, run), load_points(run)
    left = {name: record.race_outcome for name, record in records_of(run).items() if record.race_outcome}
    lab.finish(config, run)
    assert limit_of(config, run) == limit
    assert measured_singly(run) == ["costly__short"]
    assert load_points(run).items() >= points.items()
    assert {name: records_of(run)[name].race_outcome for name in left} == left
    assert_cheap_wins(config, run, "costly")


def test_where_the_first_is_dead_the_next_one_sets_the_limit_which_stays_when_the_first_is_well_again(lab):
    config = limited_config(lab.folder)
    run = lab.begin(config)
    slow = {"name_contains": "-cheap-", "call": "CreateEndpoint", "delay_s": 1}
    lab.start({"name_contains": "-costly-", **DEAD}, slow)
    lab.finish(config, run)
    assert records_of(run)["costly"].failure
    assert measured_singly(run) == ["cheap__short"]
    limit = limit_of(config, run)
    lab.from_now_on()
    lab.finish(config, run)
    assert records_of(run)["costly"].race_outcome == "more expensive"
    assert measured_singly(run) == ["cheap__short"]
    assert limit_of(config, run) == limit
    assert_cheap_wins(config, run, "cheap")


@pytest.mark.thorough
def test_where_the_first_falls_silent_in_its_single_requests_the_next_one_sets_the_limit(lab):
    config = limited_config(lab.folder)
    run = lab.begin(config)
    lab.start({"name_contains": "-costly-", **SILENT})
    lab.finish(config, run)
    failure = records_of(run)["costly"].failure
    assert "stopped answering in its single requests (short at concurrency 1: 0 of " in failure
    assert "; 1 load point not measured: short at concurrency 2; " in failure
    assert measured_singly(run) == ["cheap__short"]
    assert not list(run.requests.glob("costly__*"))
    assert lab.left() == set()


class Whole(Handler):
    """Answers in one piece, though a stream is asked for: nobody knows when the first token came."""

    def do_POST(self) -> None:  # noqa: N802
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"]
        choice = {"message": {"content": "word " * asked}, "finish_reason": "length"}
        answer = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": asked}}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_an_option_whose_single_requests_give_no_value_for_the_limit_says_so_and_the_next_one_sets_it(lab):
    server = {"target": "openai", "served_model": "m", "container": None}
    with serving(Whole) as whole, serving() as streamed:
        ports = {"costly": whole, "cheap": streamed}
        options = {name: {**server, "base_url": f"http://127.0.0.1:{port}/v1"} for name, port in ports.items()}
        config = limited_config(lab.folder, "ttft_s", **options)
        run = lab.begin(config)
        lab.finish(config, run)
        record = records_of(run)["costly"]
        assert "its single requests give no value for slo.ttft_s, so it was not raced" in record.failure
        assert "Next: " in record.failure
        assert measured_singly(run) == ["cheap__short"]
        assert len(list((run.path / FOLDER / "set_aside").glob("costly__*"))) == 1
        assert list(limit_of(config, run)) == ["ttft_s"]
        lab.finish(config, run)
    assert records_of(run)["costly"].failure is None, "once there is a limit it is raced like any other"
    assert list(run.requests.glob("costly__*"))
