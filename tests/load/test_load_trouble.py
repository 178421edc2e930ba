"""What goes wrong with the load processes themselves and the machine that they run on, and what a user reads of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from attempt_specs import measure, moody_stub, spec_of
from raw_server import raw_server

from helpers.config.load import OpenLoop
from helpers.config.load_level import LoadLevel
from helpers.errors import LoadError
from helpers.load.load_processes import LoadProcesses

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stub():
    with moody_stub() as url:
        yield url


# --- a process that hangs -------------------------------------------------------------------------------------------


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize(
    ("phase", "doing"),
    [("connecting", "prepared to send"), ("steady", "sent requests"), ("parsing", "read the answers")],
)
def test_a_process_that_hangs_is_killed_from_outside(stub, tmp_path, phase, doing):
    """Stopped, it neither reads nor writes, and no time-out of its own can fire: as if it spun."""
    with LoadProcesses(tmp_path / "load.log", silence_s=3.0) as processes:
        [pid] = processes.pids
        measure(processes, spec_of(tmp_path, stub))  # it works
        endless = phase != "parsing"
        load = {"min_requests": 10_000 if endless else 6, "repeat_prompts": True, "request_timeout_s": 1}

        def on_progress(progress) -> None:
            if progress.phase == phase or (phase == "steady" and progress.done > 3):
                stop(pid)
                if phase == "parsing":
                    processes.silence_s = 0.2  # reading answers may take a multiple of it

        began = time.monotonic()
        with pytest.raises(LoadError) as caught:
            processes.run(spec_of(tmp_path, stub, **load), on_progress)
        assert time.monotonic() - began < 120, "10,000 requests take longer"
        said = str(caught.value)
        assert (
            f"load process 0 (pid {pid}), option 'stub', dataset 'stream', concurrency 1: it said nothing for" in said
        )
        assert f"s while it {doing}. It was killed" in said and "Next: " in said
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- the disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def said_of(folder: Path, log: Path, url: str, behaviour: str = "whole_at_once", **load: object) -> str:
    with LoadProcesses(log) as processes, pytest.raises(LoadError) as caught:
        processes.run(spec_of(folder, url, behaviour, repeat_prompts=True, **load), on_progress=lambda progress: None)
    return str(caught.value)


def test_a_full_disk_is_named_while_load_runs(small_disk):
    body = b'{"choices": [{"message": {"content": "' + b"x" * 100_000 + b'"}}]}'

    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with raw_server(answer) as server:
        said = said_of(small_disk, small_disk / "load.log", server.url, min_requests=1000)
    assert f"{small_disk}/requests/.point.spool" in said and "No space left on device (0 MB free)" in said
    assert "Next: free space on this disk" in said
    assert not list((small_disk / "requests").iterdir()), "nothing half done is left"


@pytest.mark.parametrize("leave", [0, 20_000, 60_000])
def test_a_disk_that_is_full_from_the_start_is_named(stub, small_disk, leave):
    spec = spec_of(small_disk, stub, min_requests=40, concurrency=[4], repeat_prompts=True)
    log = (small_disk / "load.log").open("ab")
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096):
            pass
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - leave)
    log.close()
    with LoadProcesses(small_disk / "load.log") as processes, pytest.raises(LoadError) as caught:
        processes.run(spec, on_progress=lambda progress: None)
    assert "No space left on device" in str(caught.value) and "Next: free space" in str(caught.value)


def test_a_file_that_may_not_grow_is_named(stub, tmp_path):
    with LoadProcesses(tmp_path / "load.log") as processes:
        resource.prlimit(processes.pids[0], resource.RLIMIT_FSIZE, (2000, 2000))
        with pytest.raises(LoadError, match=r"requests/.*File too large.*Next: raise the limit.*ulimit -f"):
            processes.run(spec_of(tmp_path, stub, min_requests=40, concurrency=[4]), on_progress=lambda progress: None)


def test_a_folder_that_is_a_file_is_named(stub, tmp_path):
    spec = spec_of(tmp_path, stub)
    below_a_file = spec.model_copy(update={"output_file": str(tmp_path / "prompts.parquet" / "point.parquet")})
    with (
        LoadProcesses(tmp_path / "load.log") as processes,
        pytest.raises(LoadError, match=r"prompts.parquet.*Next: set run_root"),
    ):
        processes.run(below_a_file, on_progress=lambda progress: None)
    with pytest.raises(LoadError, match=r"the log of the load processes: .*Next: "):
        LoadProcesses(tmp_path / "prompts.parquet" / "load.log")


# --- whose fault was it? ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_open", [False, True], ids=["closed loop", "open loop"])
def test_a_client_that_stands_still_says_so(stub, tmp_path, is_open):
    """0.2 s of each 1.2 s: the kernel's stamps keep the latencies right, and the requests that were not sent are missing."""
    load = {"min_requests": 40, "min_duration_s": 3, "max_duration_s": 8, "repeat_prompts": True}
    if is_open:
        level = LoadLevel("open_loop", 20)
        spec = spec_of(tmp_path, stub, load=OpenLoop(kind="open_loop", rate=[20], **load), level=level)
    else:
        spec = spec_of(tmp_path, stub, concurrency=[4], **load)
    with LoadProcesses(tmp_path / "load.log") as processes:
        over = threading.Event()

        def stand_still() -> None:
            while not over.wait(1.0):
                stop(processes.pids[0])
                time.sleep(0.2)
                os.kill(processes.pids[0], signal.SIGCONT)

        thread = threading.Thread(target=stand_still)
        thread.start()
        try:
            _, facts = measure(processes, spec)
        finally:
            over.set()
            thread.join()
    assert any("load process 0 did not run for" in why for why in facts.client_limited), facts.client_limited
    if not is_open:
        assert any("workers waited" in why for why in facts.client_limited), facts.client_limited


NOTHING = "http://127.0.0.1:9/v1/chat/completions"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("server", "is_open"),
    [("dead", False), ("dead", True), ("refuses", True), ("closes", False), ("errors inside", False)],
)
def test_a_server_that_fails_every_request_was_not_limited_by_the_client(stub, tmp_path, server, is_open):
    load = {"min_requests": 50, "max_duration_s": 1, "repeat_prompts": True}
    level = LoadLevel("open_loop", 50)
    loads = (
        {"load": OpenLoop(kind="open_loop", rate=[50], **load), "level": level}
        if is_open
        else {"concurrency": [8], **load}
    )
    with (
        LoadProcesses(tmp_path / "load.log") as processes,
        raw_server(lambda connection, number: FAILING[server](connection)) as failing,
    ):
        url = {"dead": NOTHING, "errors inside": stub}.get(server, failing.url)
        requests, facts = measure(processes, spec_of(tmp_path, url, "error_inside", **loads))
    assert (requests["status"] != "ok").all()
    assert facts.client_limited == []


FAILING = {
    "refuses": lambda connection: connection.sendall(REFUSED),
    "closes": lambda connection: False,
}


@pytest.mark.timing
def test_fast_failures_among_answers_are_not_the_clients_idle_time(tmp_path):
    def answer(connection: socket.socket, number: int) -> None:
        if number % 8 == 0:
            time.sleep(0.2)
            body = b'{"choices": [{"message": {"content": "hello"}}], "usage": {"completion_tokens": 1}}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        else:
            connection.sendall(REFUSED)

    with LoadProcesses(tmp_path / "load.log") as processes, raw_server(answer) as server:
        _, facts = measure(
            processes, spec_of(tmp_path, server.url, concurrency=[2], min_requests=60, repeat_prompts=True)
        )
    assert not [why for why in facts.client_limited if "waited" in why]


def test_too_few_open_files_are_refused_before_the_load(stub, tmp_path):
    with LoadProcesses(tmp_path / "load.log") as processes:
        measure(processes, spec_of(tmp_path, stub))
        resource.prlimit(processes.pids[0], resource.RLIMIT_NOFILE, (100, 100))
        with pytest.raises(LoadError) as caught:
            processes.run(spec_of(tmp_path, stub, concurrency=[256], prompts=2000), on_progress=lambda progress: None)
    said = str(caught.value)
    assert "256 connections need" in said and "and the system allows 100 (the hard limit of RLIMIT_NOFILE)" in said
    assert "Next: raise it (ulimit -Hn" in said


def test_open_files_that_run_out_under_load_are_the_clients_failure(stub, tmp_path):
    """An open loop against a server that does not answer needs more and more connections."""
    load = OpenLoop(
        kind="open_loop", rate=[40], min_requests=200, max_duration_s=3, request_timeout_s=3, repeat_prompts=True
    )
    with LoadProcesses(tmp_path / "load.log") as processes:
        measure(processes, spec_of(tmp_path, stub))
        resource.prlimit(processes.pids[0], resource.RLIMIT_NOFILE, (100, 100))
        requests, facts = measure(
            processes, spec_of(tmp_path, stub, "hang", load=load, level=LoadLevel("open_loop", 40))
        )
    own = requests[requests["error_type"] == "client"]
    assert len(own) and own["error"].str.contains("too many open files").all()
    assert any(why.startswith(f"this machine failed {len(own)} requests: ") for why in facts.client_limited)
