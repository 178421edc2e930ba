"""What else the machine does is part of what is measured: recorded with each load point, and said where it disturbs."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from attempt_specs import measure, spec_of
from examples import facts, make_config

from helpers.load.load_processes import LoadProcesses
from helpers.load.loopback_stub import LoopbackStub
from helpers.run.machine import BUSY_MACHINE, MachineFacts, MachineWatch, machine_sentence
from helpers.verdict.load_point_checks import check_load_points

SPIN = "import time\nend = time.time() + 30\nwhile time.time() < end: pass"
QUIET = MachineFacts(cpus=2, load_average=0.4, steal_share=0.0, own_cpus=1.7, others_cpus=0.05, serves=True)


def spin() -> subprocess.Popen:
    """A process that uses a whole CPU."""
    return subprocess.Popen([sys.executable, "-c", SPIN], start_new_session=True)


def test_cpu_time_of_the_run_and_its_server_is_its_own_and_all_else_is_that_of_others() -> None:
    with LoopbackStub() as stub:
        watch = MachineWatch(stub.url)
        watch.begin()
        child = spin()
        try:
            time.sleep(1.5)
        finally:
            looked = watch.end()
            child.kill()
            child.wait()
    assert looked.serves
    assert looked.own_cpus > 0.1, "what this process started is its own"
    assert looked.cpus == psutil.cpu_count()
    assert looked.load_average >= 0


def test_a_hog_of_somebody_else_shows_in_the_facts_of_a_load_point(tmp_path: Path) -> None:
    """It was started by a process that has ended, so that nothing ties it to this one."""
    hog = f"subprocess.Popen([sys.executable, '-c', {SPIN!r}], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    script = f"import subprocess, sys; print({hog}.pid)"
    pid = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    try:
        with LoopbackStub() as stub, LoadProcesses(tmp_path / "load.log") as processes:
            stub.configure(ttft_s=0.01, itl_s=0.001, events=6)
            _, found = measure(
                processes, spec_of(tmp_path, stub.chat_url, tokens=6, max_duration_s=1, min_duration_s=1)
            )
    finally:
        psutil.Process(pid).kill()
    machine = found.machine
    assert machine.serves
    assert machine.others_cpus > 0.25
    assert machine.is_busy


@pytest.mark.parametrize(
    ("machine", "busy"),
    [
        (QUIET, False),
        (replace(QUIET, others_cpus=0.3), True),
        (replace(QUIET, steal_share=0.1), True),
        (replace(QUIET, others_cpus=None), False),
        (replace(QUIET, others_cpus=1.5, serves=False), False),
    ],
)
def test_a_machine_is_busy_where_others_take_what_its_server_needs(machine: MachineFacts, busy: bool) -> None:
    assert machine.is_busy == busy


def test_a_busy_machine_is_reported_once_with_its_figures() -> None:
    busy = replace(QUIET, others_cpus=1.43, load_average=5.24)
    mine = [facts(option="a", machine=QUIET), facts(option="b", machine=busy), facts(option="c")]
    import pandas as pd

    columns = ["failures", "error_rate", "n", "load_kind", "achieved_concurrency", "load", "level", "slo"]
    columns += ["asked_rate_per_s", "achieved_rate_per_s", "option", "dataset"]
    columns += ["never_answered", "asked_hit_rate", "sent_hit_rate", "found_hit_rate"]
    points = pd.DataFrame(columns=columns)
    (warning,) = [w for w in check_load_points(points, mine, make_config()) if w.kind == BUSY_MACHINE]
    assert warning.message == (
        "The machine was busy: other programs used up to 1.4 of its 2 CPUs (load average up to 5.2) during 1 of 2 "
        "measurements. An idle machine may give other figures. Next: close other programs and run it again."
    )
    assert warning.rows == [
        "b, short, concurrency 1: other programs used 1.43 of 2 CPUs, 0.0% stolen, load average 5.2"
    ]
    assert machine_sentence([warning]) == warning.message
    assert machine_sentence([]) is None
