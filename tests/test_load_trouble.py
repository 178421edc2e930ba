"""What goes wrong with the load processes themselves and the machine that they run on, and what a user reads of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from load_orders import measure, moody_stub, order
from raw_server import raw_server

from helpers.errors import LoadError
from helpers.load.team import LoadTeam

pytestmark = pytest.mark.timing


@pytest.fixture(scope="module")
def stub():
    with moody_stub() as url:
        yield url


# --- a process that hangs -------------------------------------------------------------------------------------------


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize(("phase", "doing"), [("connecting", "prepared to send"), ("steady", "sent requests"), ("parsing", "read the answers")])  # fmt: skip
def test_a_process_that_hangs_is_killed_from_outside(stub, tmp_path, phase, doing):
    """Stopped, it neither reads nor writes, and no time-out of its own can fire: as if it spun."""
    with LoadTeam(tmp_path / "load.log", silence_s=1.0) as team:
        [pid] = team.pids
        measure(team, order(tmp_path, stub))  # it works
        endless = phase != "parsing"
        load = {"min_requests": 10_000 if endless else 6, "repeat_prompts": True, "request_timeout_s": 1}

        def on_progress(progress) -> None:
            if progress.phase == phase or (phase == "steady" and progress.done > 3):
                stop(pid)

        began = time.monotonic()
        with pytest.raises(LoadError) as caught:
            team.run(order(tmp_path, stub, **load), on_progress)
        assert time.monotonic() - began < 30
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
    with LoadTeam(log) as team, pytest.raises(LoadError) as caught:
        team.run(order(folder, url, behaviour, repeat_prompts=True, **load), on_progress=lambda progress: None)
    return str(caught.value)


def test_a_full_disk_is_named_while_load_runs(small_disk):
    body = b'{"choices": [{"message": {"content": "' + b"x" * 100_000 + b'"}}]}'

    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with raw_server(answer) as server:
        said = said_of(small_disk, small_disk / "load.log", server.url, min_requests=1000)
    assert f"{small_disk}/requests/.point.spool" in said and "cannot be written: the disk is full (0 MB free)" in said
    assert "Next: free some space there, or set run_root to a folder on another disk" in said
    assert not list((small_disk / "requests").iterdir()), "nothing half done is left"


@pytest.mark.parametrize("leave", [0, 20_000, 60_000])
def test_a_disk_that_is_full_from_the_start_is_named(stub, small_disk, leave):
    an_order = order(small_disk, stub, min_requests=40, concurrency=[4], repeat_prompts=True)
    log = (small_disk / "load.log").open("ab")
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096):
            pass
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - leave)
    log.close()
    with LoadTeam(small_disk / "load.log") as team, pytest.raises(LoadError) as caught:
        team.run(an_order, on_progress=lambda progress: None)
    assert "cannot be written: the disk is full" in str(caught.value) and "Next: free some space" in str(caught.value)


def test_a_file_that_may_not_grow_is_named(stub, tmp_path):
    with LoadTeam(tmp_path / "load.log") as team:
        resource.prlimit(team.pids[0], resource.RLIMIT_FSIZE, (2000, 2000))
        with pytest.raises(
            LoadError, match=r"requests/.*larger than the system allows.*Next: raise the limit.*ulimit -f"
        ):
            team.run(order(tmp_path, stub, min_requests=40, concurrency=[4]), on_progress=lambda progress: None)


def test_a_folder_that_is_a_file_is_named(stub, tmp_path):
    an_order = order(tmp_path, stub)
    below_a_file = an_order.model_copy(update={"output_file": str(tmp_path / "prompts.parquet" / "point.parquet")})
    with (
        LoadTeam(tmp_path / "load.log") as team,
        pytest.raises(LoadError, match=r"prompts.parquet.*Next: set run_root"),
    ):
        team.run(below_a_file, on_progress=lambda progress: None)
    with pytest.raises(LoadError, match="the log of the load processes: .*Next: "):
        LoadTeam(tmp_path / "prompts.parquet" / "load.log")
