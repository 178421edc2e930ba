"""Fixtures of the tests in an AWS account on loopback; test files name this module in `pytest_plugins`."""

import os
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from fault_lab import Lab, fault_config

from helpers.load.calibration import calibrate
from helpers.prompts.making import make_prompts
from helpers.run import local_server as launcher
from helpers.run.folder import open_run
from helpers.run.prompt_files import write_prompts
from local_sagemaker.tiny_model import default_cache_dir


@pytest.fixture(scope="session")
def prepared(made_once) -> Path:
    """Prompts and calibration, which are the same for all runs of the fault config."""
    (run,) = (made_once("prepared", prepare) / "runs").iterdir()
    return run


def prepare(folder: Path) -> None:
    config, run = open_run(str(fault_config(folder)), new=True)
    write_prompts(make_prompts(config.benchmark, folder, default_cache_dir()).tables, run.payloads)
    calibrate(config.benchmark, run)


@pytest.fixture
def lab(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    lab = Lab(tmp_path, prepared, monkeypatch)
    yield lab
    for process in lab.processes:
        if process.is_alive() if isinstance(process, BaseProcess) else process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    for process in psutil.process_iter(["cmdline"]):
        if "helpers.endpoints.watchdog" in (words := process.info["cmdline"] or []) and str(tmp_path) in words[-1]:
            process.kill()  # it would try for hours to delete what a test has left
    launcher.stop(tmp_path / "address.json")
