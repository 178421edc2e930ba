"""An AWS account on loopback that misbehaves on demand, and runs in it.

Options are not `local`: boto3 is pointed to the server by the standard variables, so that every line is the one that runs on AWS.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import fault_driver
import psutil
import pytest
from conftest import small_config
from local_sagemaker_calls import session_at, signed
from patience import bear_a_busy_machine
from warm_kernels import KERNELS

from helpers.__main__ import main as helpers_main
from helpers.run import local_server as launcher
from helpers.run.folder import RunFolder, open_run
from helpers.run.ledger import EndpointRecord, Ledger
from local_sagemaker.faults import Fault

SERVICES = ("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH_LOGS", "CLOUDWATCH")
SMALL_SERVER = [sys.executable, str(Path(__file__).with_name("small_server.py"))]
AWS_IMAGES = {"small-server": SMALL_SERVER, "vllm": SMALL_SERVER}
HARMLESS = {"call": "DeleteTags", "delay_s": 0.01}
"""With a rule, an account stays when it is empty."""
TIMEOUT_S = 120
SHORT_RACE = {
    "kind": "closed_loop",
    "concurrency": [1, 2],
    "warmup_requests": 1,
    "repeat_prompts": True,
    "max_duration_s": 20,
    "request_timeout_s": 5,
    "race": {"first_look": 12},
}
"""The load of a race that takes seconds on small servers."""


def fault_option(name: str, **changes: object) -> dict:
    """An option that a small server stands for; `changes` are keys (null removes one)."""
    option = {
        "name": name,
        "target": "sagemaker",
        "api": "openai_chat",
        "instance_type": "ml.g5.xlarge",
        "price": {"usd_per_hour": 1.4, "as_of": "2026-11-01"},
        "container": {"image": "small-server"},
        **changes,
    }
    return {key: value for key, value in option.items() if value is not None}


def fault_config(folder: Path, names: tuple[str, ...] = ("a", "b"), **changes: object) -> Path:
    """Two load points for each option; `changes` are sections, and `option` changes every option.

    Two options at once have a load process each, so one alone needs no other.
    """
    option = changes.pop("option", {})
    defaults = {
        "datasets": [{"name": "short", "prompt_tokens": [60, 120], "count": 40}],
        "options": [fault_option(name, **option) for name in names],
        "load": {
            "kind": "closed_loop",
            "concurrency": [1, 2],
            "min_requests": 6,
            "warmup_requests": 1,
            "repeat_prompts": True,
            "max_duration_s": 20,
            "request_timeout_s": 5,
        },
        "aws": {"region": "us-east-1", "execution_role": "arn:aws:iam::123456789012:role/endpoints"},
        "endpoints": {"max_parallel_loads": 2},
    }
    return small_config(folder, **{**defaults, **changes})


@dataclass
class Lab:
    """An account, and one run in it."""

    folder: Path
    prepared: Path
    account: Path
    """Folder of the account in which tests follow each other: what a test leaves there, its fixture finds."""
    patch: pytest.MonkeyPatch
    server: launcher.Address | None = None
    processes: list[subprocess.Popen | BaseProcess] = field(default_factory=list)
    images: dict[str, list[str]] = field(default_factory=lambda: dict(AWS_IMAGES))
    """Image -> command that serves it."""
    variables: tuple[str, ...] = ()
    """Those of a container that the commands know."""
    _client: object = None

    def start(self, *faults: dict) -> None:
        """Go to the account, with these fault rules. Beside the default engine it knows images that a small server stands for.

        It is one of its own where images or variables are.
        """
        if self.images != AWS_IMAGES or self.variables:
            self.account = self.folder
        self.server = launcher.ensure_running(
            self.account / "address.json",
            self.account / "aws-logs",
            engines=self.images,
            faults=[Fault.model_validate(HARMLESS)],
            engine_variables=self.variables,
        )
        self.from_now_on(*faults)
        for service in SERVICES:
            self.patch.setenv(f"AWS_ENDPOINT_URL_{service}", self.server.url)
        self.patch.setenv("AWS_ACCESS_KEY_ID", self.server.access_key_id)
        self.patch.setenv("AWS_SECRET_ACCESS_KEY", self.server.secret_access_key)
        self.patch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def from_now_on(self, *faults: dict) -> None:
        """Other fault rules; without any, nothing goes wrong any more."""
        urllib.request.urlopen(signed(self.server, "/faults", "PUT", json.dumps(faults).encode())).close()

    # --- running --------------------------------------------------------------------------------------------------

    def begin(self, config: Path) -> RunFolder:
        """A run on a config whose prompts and calibration are there already."""
        _, run = open_run(str(config), new=True)
        shutil.copytree(self.prepared / "payloads", run.payloads, dirs_exist_ok=True)
        shutil.copy(self.prepared / "instrument.json", run.instrument_file)
        return run

    def drive(self, config: Path, run: RunFolder) -> BaseProcess:
        """Notebooks 02 and 03 of a run, as one process in a session of its own."""
        arguments = (dict(os.environ), str(config), str(run.path))
        process = KERNELS.Process(target=fault_driver.main_of_process, args=arguments)
        process.start()
        self.processes.append(process)
        return process

    def spawn(self, *command: str) -> subprocess.Popen:
        """A Python program in this account, in a session of its own."""
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def finish(self, config: Path, run: RunFolder) -> str:
        """The same here; returns what it said."""
        return self._said(lambda: fault_driver.main(str(config), str(run.path)))

    def helpers(self, *command: str) -> str:
        """A command of the Makefile; returns what it said."""
        return self._said(lambda: helpers_main(list(command)))

    def _said(self, act: Callable[[], object]) -> str:
        with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
            act()
        return said.getvalue()

    # --- looking --------------------------------------------------------------------------------------------------

    def client(self):
        """SageMaker as somebody else in the account sees it; made once, as a moment may be over before another is made."""
        if self._client is None:
            self._client = session_at(self.server).client("sagemaker", endpoint_url=self.server.url)
        return self._client

    def model(self, name: str) -> dict:
        """A model as SageMaker describes it."""
        return self.client().describe_model(ModelName=name)

    def model_server(self, endpoint_name: str) -> int:
        """The process that serves an endpoint: the one that prints to its log."""
        log = str(self.account / "aws-logs" / f"{endpoint_name}.log")
        printing = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if log in [file.path for file in process.open_files()]:
                    printing.append(process.pid)
        return min(printing)

    def left(self) -> set[str]:
        """Names of all endpoints, endpoint configs and models in the account."""
        client = self.client()
        return {
            *(item["EndpointName"] for item in client.list_endpoints(MaxResults=100)["Endpoints"]),
            *(item["EndpointConfigName"] for item in client.list_endpoint_configs(MaxResults=100)["EndpointConfigs"]),
            *(item["ModelName"] for item in client.list_models(MaxResults=100)["Models"]),
        }

    def wait_until_empty(self) -> None:
        """Nothing is left, after a while."""
        wait_for(lambda: not self.left(), "nothing is left in the account")


@contextmanager
def lab_in(folder: Path, prepared: Path, account: Path) -> Iterator[Lab]:
    """A lab whose run is in this folder. If it leaves anything in the account, the next one has a new account."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
            patch.delenv(name, raising=False)
        bear_a_busy_machine(patch)
        lab = Lab(folder, prepared, account, patch)
        try:
            yield lab
        finally:
            for process in lab.processes:
                if process.is_alive() if isinstance(process, BaseProcess) else process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if "helpers.endpoints.watchdog" in words and str(folder) in words[-1]:
                    process.kill()  # it would try for hours to delete what a test has left
            if lab.server and (lab.account != account or lab.left()):
                launcher.stop(lab.account / "address.json")


def records_of(run: RunFolder) -> dict[str, EndpointRecord]:
    return {record.option: record for record in Ledger(run.ledger_file, run.run_id).records()}


def load_points(run: RunFolder) -> dict[str, str]:
    """Finished load points and the digest of each."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.requests.glob("*.parquet")}


def wait_for(is_so: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)


def statuses(run: RunFolder, option: str) -> list[str]:
    """Status of every request of an option."""
    import pandas as pd

    return [s for path in run.requests.glob(f"{option}__*.parquet") for s in pd.read_parquet(path)["status"]]
