"""Load points whose server or network goes away: set aside, measured again once it answers, or the option ends with its cause."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from contextlib import suppress

import pandas as pd
import pytest
from conftest import thorough
from fault_lab import Lab, fault_config, load_points, records_of, statuses, wait_for
from lossy_servers import DiesAfter, Network, serving
from small_server import Handler

from helpers.config.file import load_config
from helpers.endpoints.loading import load_all
from helpers.run.folder import RunFolder

pytestmark = pytest.mark.faults
pytest_plugins = ["fault_fixtures"]

LOAD = {
    "kind": "closed_loop",
    "concurrency": [1, 2],
    "min_requests": 60,
    "warmup_requests": 1,
    "repeat_prompts": True,
    "max_duration_s": 20,
    "request_timeout_s": 2,
}
SLO = {"percentile": 75, "latency_s": 2, "error_rate": 0.2, "confidence": 0.9}


def config_of(lab: Lab, ports: dict[str, int], unreachable_for_s: float):
    options = [
        {"name": name, "target": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "served_model": "m"}
        for name, port in ports.items()
    ]
    endpoints = {"max_parallel_loads": 1, "unreachable_for_s": unreachable_for_s}
    return fault_config(lab.folder, options=options, load=LOAD, slo=SLO, endpoints=endpoints)


def kept_aside(run: RunFolder) -> list[pd.DataFrame]:
    return [pd.read_parquet(path) for path in (run.requests / "set_aside").glob("*.parquet")]


@pytest.mark.parametrize("cut", ["refuse", *thorough("swallow")])
def test_a_network_that_is_gone_for_a_while_heals(lab, cut):
    seen = itertools.count()

    class Cuts(Handler):
        """Cuts the network at the tenth request behind the first load point."""

        def do_POST(self) -> None:  # noqa: N802
            if any(run.requests.glob("*.parquet")) and next(seen) == 10:
                getattr(network, cut)()
            with suppress(OSError):
                super().do_POST()

    with serving(Cuts) as port, Network(port) as network:
        config = config_of(lab, {"a": network.port}, 60)
        run = lab.begin(config)
        driver = threading.Thread(target=lab.finish, args=(config, run))
        driver.start()
        wait_for(lambda: kept_aside(run), "a load point set aside")
        before = load_points(run)
        time.sleep(1)
        network.refuse()  # what was swallowed is lost
        network.restore()
        driver.join(120)
    assert len(load_points(run)) == 2
    assert load_points(run).items() >= before.items(), "what was finished stays"
    assert set(statuses(run, "a")) == {"ok"}
    assert records_of(run)["a"].failure is None
    (lost,) = kept_aside(run)
    assert set(lost["status"]) - {"ok"}


def test_a_server_that_dies_after_ten_answers_ends_its_option_and_a_rerun_heals_it(lab):
    with serving(DiesAfter, answers=11) as dying, serving() as sound:
        config = config_of(lab, {"a": dying, "b": sound}, 2)
        run = lab.begin(config)
        lab.finish(config, run)
        failure = records_of(run)["a"].failure
        assert "stopped answering under load (short at concurrency " in failure
        assert "none of the last" in failure
        assert "; waited up to 2 s for it" in failure
        assert "Next: " in failure
        assert records_of(run)["a"].cause == "connection refused"
        assert [name for name in load_points(run) if name.startswith("a")] == [], "a dead server is not measured"
        assert len(load_points(run)) == 2, "the other option goes on"
        assert records_of(run)["b"].failure is None
        finished = load_points(run)
        with serving(port=dying):
            lab.finish(config, run)
    assert len(load_points(run)) == 4
    assert load_points(run).items() >= finished.items()
    assert set(statuses(run, "a")) == {"ok"}
    assert records_of(run)["a"].failure is None


def test_failures_of_a_server_that_is_there_are_its_own(lab):
    """It breaks every third answer off, but it can be reached: such rows say something of it."""

    class BreaksOff(Handler):
        count = 0

        def do_POST(self) -> None:  # noqa: N802
            type(self).count += 1
            if type(self).count % 3 == 0:
                self.close_connection = True
                self.connection.close()
                return
            super().do_POST()

    with serving(BreaksOff) as port:
        config = config_of(lab, {"a": port}, 2)
        run = lab.begin(config)
        lab.finish(config, run)
    assert len(load_points(run)) == 2
    assert set(statuses(run, "a")) > {"ok"}
    assert kept_aside(run) == []


def test_a_local_sagemaker_that_is_killed_under_load_ends_its_options_and_a_rerun_heals_it(lab):
    option = {"local": True, "container": {"image": "openvino-genai", "environment": {"ENGINE_MODEL": "synthetic:2m"}}}
    config = fault_config(lab.folder, ("a", "b"), option=option, load={**LOAD, "request_timeout_s": 10},
                          endpoints={"max_parallel_loads": 1})  # fmt: skip
    run = lab.begin(config)
    driver = threading.Thread(target=lambda: print(lab.finish(config, run)))
    driver.start()
    wait_for(lambda: load_points(run), "the first load point")
    before = load_points(run)
    os.kill(int(pd.read_json(run.path / "local_sagemaker" / "address.json", typ="series")["pid"]), signal.SIGKILL)
    driver.join(120)
    assert load_points(run).items() >= before.items()
    for name in ("a", "b"):
        assert set(statuses(run, name)) <= {"ok"}, "no load point of a dead server is kept"
    failures = [record.failure for record in records_of(run).values() if record.failure]
    assert failures
    assert all("Next: " in failure for failure in failures)
    lab.finish(config, run)
    assert len(load_points(run)) == 4
    assert "connection" not in statuses(run, "a") + statuses(run, "b")
    assert not [record.failure for record in records_of(run).values() if record.failure]
    assert load_all(load_config(config).benchmark, run, on_event=lambda event: None)
