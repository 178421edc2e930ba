"""Processes that are killed at each moment of an endpoint's life: nothing is left, and finished load points are intact."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from conftest import thorough
from fault_lab import Lab, fault_config, load_points, records_of, wait_for

from helpers.run.folder import RunFolder

pytestmark = pytest.mark.faults
pytest_plugins = ["fault_fixtures"]

LOAD = {"kind": "closed_loop", "concurrency": [1, 2], "repeat_prompts": True, "request_timeout_s": 5}
MOMENTS = {
    # moment: faults that make it last, load points that are finished by then, how it is seen
    "before create": ([{"call": "CreateModel", "delay_s": 3}], 0, lambda lab, run: state(run) == "creating"),
    "creating": (
        [{"call": "CreateEndpoint", "delay_s": 3}],
        0,
        lambda lab, run: "Creating" in [e["EndpointStatus"] for e in lab.client().list_endpoints()["Endpoints"]],
    ),
    "in service": ([], 0, lambda lab, run: state(run) == "in_service"),
    "under load": ([], 1, lambda lab, run: len(load_points(run)) == 1),
    "deleting": ([{"call": "DeleteEndpoint", "delay_s": 2}], 2, lambda lab, run: state(run) == "deleting"),
}


def state(run: RunFolder) -> str | None:
    return records_of(run)["a"].state if run.ledger_file.is_file() and records_of(run) else None


def begin(lab: Lab, moment: str) -> tuple[str, RunFolder]:
    """A run whose load points last if it is to be killed under load, in an account in which the moment lasts."""
    enough = 60 if moment == "under load" else 6
    config = fault_config(
        lab.folder,
        ("a",),
        load={**LOAD, "min_requests": enough, "max_duration_s": 20},
        endpoints={"max_parallel_loads": 1, "idle_timeout_s": 3},
    )
    run = lab.begin(config)
    lab.start(*MOMENTS[moment][0])
    return str(config), run


def wait_for_moment(lab: Lab, moment: str, run: RunFolder) -> None:
    wait_for(lambda: MOMENTS[moment][2](lab, run), moment)


def assert_clean(lab: Lab, moment: str, run: RunFolder, before: dict[str, str]) -> None:
    """Deleted, listed as deleted, and nothing that was finished has changed."""
    wait_for(lambda: state(run) == "deleted", "the ledger says deleted")
    assert lab.left() == set()
    assert len(before) >= MOMENTS[moment][1]
    assert load_points(run).items() >= before.items()


@pytest.mark.parametrize("moment", ["creating", "under load", *thorough("before create", "in service", "deleting")])
def test_kill_9_of_a_kernel_by_itself(lab, moment):
    """As in JupyterLab: nobody else watches the kernel of notebooks 02 and 03."""
    config, run = begin(lab, moment)
    kernel = lab.drive(config, run)
    wait_for_moment(lab, moment, run)
    before = load_points(run)
    os.kill(kernel.pid, signal.SIGKILL)
    assert_clean(lab, moment, run, before)


@pytest.mark.parametrize("moment", ["in service", "deleting", *thorough("before create", "creating", "under load")])
def test_an_interrupted_kernel(lab, moment):
    config, run = begin(lab, moment)
    kernel = lab.drive(config, run)
    wait_for_moment(lab, moment, run)
    before = load_points(run)
    os.kill(kernel.pid, signal.SIGINT)
    kernel.join(60)
    assert kernel.exitcode is not None
    assert moment == "in service" or state(run) == "deleted", "before it ends"
    assert_clean(lab, moment, run, before)


@pytest.mark.parametrize("moment", ["under load", *thorough("before create")])
def test_kill_9_of_the_runner(lab, moment):
    """Its kernel is alive then and would go on creating: the watchdog ends it before it deletes.

    One moment in each notebook: what is deleted then, at any moment, is as where a kernel dies by itself.
    """
    config, run = begin(lab, moment)
    runner = lab.spawn("-m", "helpers", "report", "--config", config, "--run-dir", str(run.path))
    wait_for_moment(lab, moment, run)
    before = load_points(run)
    kernels = psutil.Process(runner.pid).children(recursive=True)
    os.kill(runner.pid, signal.SIGKILL)
    assert_clean(lab, moment, run, before)
    wait_for(lambda: not [k for k in kernels if k.is_running() and is_kernel(k)], "the end of the kernel")


@pytest.mark.parametrize("moment", ["creating", *thorough("under load")])
def test_kill_9_of_the_kernel_under_the_runner(lab, moment):
    config, run = begin(lab, moment)
    runner = lab.spawn("-m", "helpers", "report", "--config", config, "--run-dir", str(run.path))
    wait_for_moment(lab, moment, run)
    before = load_points(run)
    (kernel,) = [p for p in psutil.Process(runner.pid).children(recursive=True) if is_kernel(p)]
    kernel.kill()
    said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 1
    assert "its kernel died" in said
    assert_clean(lab, moment, run, before)


def is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel_launcher" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
