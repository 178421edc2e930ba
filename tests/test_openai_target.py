"""A server that is reached by its URL: the real engine behind its own OpenAI API, nothing deployed, nothing deleted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from conftest import small_config

from helpers.config_file import load_config
from helpers.deployments import load_all, start_deployments
from helpers.ledger import Ledger
from helpers.local_sagemaker.tiny_model import default_cache_dir
from helpers.prompt_files import write_prompts
from helpers.prompts import make_prompts
from helpers.records import read_requests
from helpers.run_folder import open_run


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
    }
    log = (tmp_path_factory.mktemp("server") / "engine.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.local_sagemaker.engine"], env=environment, stdin=subprocess.PIPE, stderr=log
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
    deadline = time.monotonic() + 30
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
    assert record.state == "external"
    assert record.cost_usd() == 0.0
    assert Ledger(run.ledger_file, run.run_id).remaining() == []
    wait_until_up(server_url)
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert b"key-that-stays-out-of-files" not in written


def test_the_shipped_config_takes_url_model_and_key_from_the_environment(monkeypatch):
    from helpers.config import PROJECT_ROOT

    for name, value in {
        "SERVER_URL": "http://127.0.0.1:1/v1",
        "SERVER_MODEL": "synthetic:2m",
        "SERVER_API_KEY": "abc",
    }.items():
        monkeypatch.setenv(name, value)
    (option,) = load_config(PROJECT_ROOT / "configs" / "openai-compatible.yml").benchmark.options
    assert (option.base_url, option.served_model, option.api_key) == ("http://127.0.0.1:1/v1", "synthetic:2m", "abc")
