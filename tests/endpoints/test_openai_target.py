"""A server that is reached by its URL: the real engine behind its own OpenAI API, nothing deployed, nothing deleted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest
from attempt_specs import measure, spec_of
from conftest import small_config

from helpers.config.benchmark import BenchmarkConfig, usable_cpu_count
from helpers.config.file import load_config
from helpers.endpoints import scraping
from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.load_events import LoadEvent
from helpers.endpoints.loading import load_all
from helpers.endpoints.targets.base import Target, target_of
from helpers.errors import DeployError
from helpers.load.load_processes import LoadProcesses
from helpers.load.loopback_stub import LoopbackStub
from helpers.prompts.making import make_prompts
from helpers.report.limits_report import limits_table
from helpers.run.folder import open_run
from helpers.run.ledger import Ledger
from helpers.run.prompt_files import write_prompts
from helpers.run.records import read_requests
from helpers.run.server_samples import read_samples
from helpers.verdict.analysis import Measurements, read_measurements
from helpers.verdict.limits import limits_of
from local_sagemaker.tiny_model import default_cache_dir

pytestmark = pytest.mark.slow
SPINNING = 4
"""Busy loops. One hardly delays a process that mostly waits: the kernel prefers it whenever it wakes."""


@pytest.fixture(scope="module")
def server_url(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "ENGINE_MODEL": "synthetic:2m",
        "ENGINE_THREADS": "1",
        "ENGINE_MAX_NUM_SEQS": "1",
    }
    log = (tmp_path_factory.mktemp("server") / "engine.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "local_sagemaker.engine"], env=environment, stdin=subprocess.PIPE, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url)
        yield url
    finally:
        process.kill()
        process.wait()
        log.close()


def wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/ping", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("api", ["openai_chat", "openai_completions"])
def test_an_external_server_is_measured_and_left_alone(server_url, tmp_path, monkeypatch, api):
    monkeypatch.setenv("TEST_SECRET", "key-that-stays-out-of-files")
    option = {
        "name": "external",
        "target": "openai",
        "api": api,
        "base_url": f"{server_url}/v1",
        "served_model": "m",
        "api_key": "${TEST_SECRET}",
    }
    path = small_config(tmp_path, options=[option])
    config, run = open_run(str(path), new=True)
    write_prompts(make_prompts(config.benchmark, path.parent, default_cache_dir()).tables, run.payloads)
    (record,) = start_deployments(config.benchmark, run, on_change=lambda records: None)
    assert record.state == "external"
    (record,) = load_all(config.benchmark, run, on_event=lambda event: None)
    requests = read_requests(run.requests)
    assert (requests["status"] == "ok").all()
    assert (requests["output_tokens"] == 6).all()
    assert len(requests["load_point"].unique()) == 4
    for load_point, mine in requests.groupby("load_point"):
        samples, trouble = read_samples(run, load_point)
        first, last = (samples.groupby("name")["value"].agg(which) for which in ("first", "last"))
        rose = (last - first).to_dict()
        assert (rose["requests"], rose["latency_count"], trouble) == (len(mine), len(mine), None)
        assert rose["prompt_tokens"] == mine["prompt_tokens"].sum()
        assert rose["output_tokens"] == mine["output_tokens"].sum()
        seen = samples.loc[samples["name"] == "running", "time_ns"]
        assert seen.min() < mine["sent_ns"].min() and mine["done_ns"].max() < seen.max()
        assert {"waiting", "kv_cache", "cpu_s"} <= set(samples["name"])
    assert record.state == "external"
    assert record.cost_usd() == 0.0
    assert Ledger(run.ledger_file, run.run_id).remaining() == []
    wait_until_up(server_url)
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert b"key-that-stays-out-of-files" not in written


def one_at_a_time(server_url, folder, on_event=lambda event: None, **sections) -> tuple[BenchmarkConfig, Measurements]:
    """What is measured of the server, which has one core and answers one request at a time, under four at once."""
    path = small_config(
        folder,
        options=[{"name": "one", "target": "openai", "base_url": f"{server_url}/v1", "served_model": "m"}],
        datasets=[{"name": "short", "prompt_tokens": [60, 120], "count": 200}],
        generation={"max_output_tokens": 24},
        **sections,
    )
    config, run = open_run(str(path), new=True)
    write_prompts(make_prompts(config.benchmark, path.parent, default_cache_dir()).tables, run.payloads)
    start_deployments(config.benchmark, run, on_change=lambda records: None)
    load_all(config.benchmark, run, on_event)
    return config.benchmark, read_measurements(config.benchmark, run)


LOAD = {"kind": "closed_loop", "concurrency": [4], "min_requests": 40, "warmup_requests": 1}


def test_a_server_that_answers_one_request_at_a_time_is_found_to_be_queue_bound(server_url, tmp_path, monkeypatch):
    monkeypatch.setattr(scraping, "EVERY_S", 0.05)
    config, measured = one_at_a_time(server_url, tmp_path, load=LOAD)
    (point,) = measured.points.itertuples()
    assert 0.85 <= point.server_running <= 1.0 and 2 <= point.server_waiting <= 3.2
    assert (point.server_requests, point.client_failures) == (point.client_requests, 0)
    assert point.server_latency_s_mean <= point.client_latency_s_mean
    assert not {"server_counts", "other_traffic"} & {warning.kind for warning in measured.warnings}
    (limit,) = limits_of(measured.points.assign(client_limited=False), config)  # this machine may be busy
    assert (limit.kind, limit.load) == ("queue", "concurrency 4")


@pytest.fixture
def spin_under_load():
    """To be called with the events of a load: while it is sent, busy loops spin on the core of the first load process, which
    comes after them: the kernel would let one that mostly waits go first.
    """
    cpus, loops = sorted(os.sched_getaffinity(0)), []
    if len(cpus) < 2:
        pytest.skip("one core for server and client")

    def stop() -> None:
        while loops:
            loops[0].kill()
            loops.pop(0).wait()

    def on_event(event: LoadEvent) -> None:
        if event.progress is None or event.progress.phase == "parsing":
            stop()
        elif not loops and event.progress.done:
            for process in psutil.Process().children(recursive=True):
                if "helpers.load" in process.cmdline():
                    process.nice(10)
            loops.extend(subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(SPINNING))
            for loop in loops:
                os.sched_setaffinity(loop.pid, cpus[:1])

    yield on_event
    stop()


@pytest.mark.thorough
def test_a_load_generator_on_a_busy_core_is_found_to_be_the_limit_and_not_the_server(
    server_url, tmp_path, monkeypatch, spin_under_load
):
    """The same server and load as above, and one load process; the engine keeps to the last core."""
    monkeypatch.setattr(scraping, "EVERY_S", 0.05)
    load, alone = {**LOAD, "max_duration_s": 8}, {"max_parallel_loads": usable_cpu_count()}
    config, measured = one_at_a_time(server_url, tmp_path, spin_under_load, load=load, endpoints=alone)
    (facts,) = measured.facts
    assert len(facts.processes) == 1 and facts.client_limited
    said = limits_table(measured.points, config).reading
    assert said.startswith(
        "“one” on short at concurrency 4 is client-bound: the load generator, not the server, limited it"
    )


@pytest.fixture
def tls_target(tmp_path):
    """Makes the target of a server whose certificate no authority signed; `ca.pem` beside the config holds that."""
    with LoopbackStub(tls=True) as stub:
        stub.configure(ttft_s=0.01, itl_s=0.001, events=6)
        shutil.copy(stub.ca_file, tmp_path / "ca.pem")
        option = {
            "name": "external",
            "target": "openai",
            "base_url": stub.chat_url.removesuffix("/chat/completions"),
            "served_model": "m",
        }

        def target_with(**more: str) -> Target:
            config, run = open_run(str(small_config(tmp_path, options=[{**option, **more}])), new=True)
            return target_of(config.benchmark.options[0], config.benchmark, run)

        yield target_with


@pytest.mark.parametrize(("option", "status"), [({"ca_file": "ca.pem"}, "ok"), ({}, "connection")])
def test_a_certificate_is_verified_and_ca_file_says_which_are_trusted(tls_target, tmp_path, option, status):
    target = tls_target(**option)
    address = target.address(target.plan())
    with LoadProcesses(tmp_path / "load.log") as processes:
        requests, _ = measure(
            processes, spec_of(tmp_path, address.url, address=address.model_dump(), tokens=6, max_duration_s=1)
        )
    assert set(requests["status"]) == {status}
    if status == "connection":
        assert requests["error"].str.contains("CERTIFICATE_VERIFY_FAILED").all()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("no certificate", "Expected a file of certif")]
)
def test_a_ca_file_that_holds_no_certificate_is_refused_before_anything_is_sent(tls_target, tmp_path, content, words):
    if content is not None:
        (tmp_path / "other.pem").write_text(content)
    with pytest.raises(DeployError, match=rf"option 'external': ca_file: {tmp_path}/other\.pem: .*{words}"):
        tls_target(ca_file="other.pem").plan()


def test_the_shipped_config_takes_url_model_and_key_from_the_environment(monkeypatch):
    from helpers.config.benchmark import PROJECT_ROOT

    for name, value in {
        "SERVER_URL": "http://127.0.0.1:1/v1",
        "SERVER_MODEL": "synthetic:2m",
        "SERVER_API_KEY": "abc",
    }.items():
        monkeypatch.setenv(name, value)
    (option,) = load_config(PROJECT_ROOT / "configs" / "openai-compatible.yml").benchmark.options
    assert (option.base_url, option.served_model, option.api_key) == ("http://127.0.0.1:1/v1", "synthetic:2m", "abc")
