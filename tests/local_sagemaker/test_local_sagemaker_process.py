"""The server process of the local SageMaker: how it starts, and when it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from local_sagemaker_calls import client_of, create, delete, status_after, wait_for

from helpers.errors import ServingVerdictError
from helpers.run import local_server as launcher

pytest_plugins = ["local_sagemaker_fixtures"]


def test_two_callers_start_one_server(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from helpers.run import local_server as launcher; "
        "print(launcher.ensure_running(Path(sys.argv[1]) / 'address.json', Path(sys.argv[1]) / 'logs').url)"
    )
    callers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    urls = {caller.communicate(timeout=120)[0].strip() for caller in callers}
    address_file = tmp_path / "address.json"
    assert urls == {launcher.running_url(address_file)}
    pid = json.loads(address_file.read_text())["pid"]
    launcher.stop(address_file)
    assert launcher.running_url(address_file) is None
    assert not psutil.pid_exists(pid) or is_gone(psutil.Process(pid))


def test_server_ends_when_everything_is_deleted_and_not_before(tmp_path: Path, engines: dict[str, list[str]]) -> None:
    address_file = tmp_path / "address.json"
    sagemaker = client_of(launcher.ensure_running(address_file, tmp_path, engines), "sagemaker")
    create(sagemaker, "last", "fake", {})
    status_after(sagemaker, "last", "Creating")
    assert address_file.exists()
    delete(sagemaker, "last")
    wait_for(address_file.exists, lambda exists: not exists, timeout_s=60)


def test_idle_server_ends(tmp_path: Path) -> None:
    address_file = tmp_path / "address.json"
    launcher.ensure_running(address_file, tmp_path, idle_timeout_s=3)
    wait_for(address_file.exists, lambda exists: not exists)


def test_killed_server_leaves_no_model_server(tmp_path: Path, engines: dict[str, list[str]]) -> None:
    address_file = tmp_path / "address.json"
    sagemaker = client_of(launcher.ensure_running(address_file, tmp_path, engines), "sagemaker")
    create(sagemaker, "orphan", "fake", {})
    status_after(sagemaker, "orphan", "Creating")
    server = psutil.Process(json.loads(address_file.read_text())["pid"])
    (model_server,) = server.children()
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(model_server), bool)
    assert launcher.running_url(address_file) is None


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    assert issubclass(launcher.LocalSageMakerError, ServingVerdictError)
    with pytest.raises(launcher.LocalSageMakerError, match=r"engines\.x\n.*valid array"):
        launcher.ensure_running(tmp_path / "address.json", tmp_path, {"x": "a b"})  # type: ignore[dict-item]
