"""Who works on a run folder, what the operating system refuses there, and who may read it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from examples import config_data, make_config

from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.loading import load_all
from helpers.errors import RunFolderError, StorageError
from helpers.run.folder import find_run, open_run
from helpers.run.holding import holding
from helpers.run.prompt_files import write_prompts
from helpers.run.whole_files import write_atomically

SOURCES = str(Path(__file__).parents[2] / "src")
HOLDER = """
import sys, time
from pathlib import Path
from helpers.run.holding import holding
with holding(Path(sys.argv[1]), "notebook 03"):
    print("holds", flush=True)
    sys.stdin.readline()
"""
RUNNER = f"""
import subprocess, sys
from pathlib import Path
from helpers.run.holding import holding
with holding(Path(sys.argv[1]), "make report"):
    kernel = subprocess.Popen([sys.executable, "-c", {HOLDER!r}, sys.argv[1]], stdin=subprocess.PIPE)
    print("kernel", kernel.pid, flush=True)
    sys.stdin.readline()
    kernel.communicate(b"go on")
    sys.exit(kernel.returncode)
"""


@pytest.fixture
def config_file(tmp_path):
    def write(**sections):
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump(config_data(**{"run_root": "runs", **sections})), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def run(config_file):
    return open_run(config_file(), new=True)[1]


@pytest.fixture
def start():
    """Starts Python code on a run folder; ends it."""
    started = []

    def spawn(code, run):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(run.path)],
            env={**os.environ, "PYTHONPATH": SOURCES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.communicate()


# --- one at a time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "work",
    [
        lambda config, run: load_all(config, run, on_event=lambda event: None),
        lambda config, run: start_deployments(config, run, on_change=lambda records: None),
        lambda config, run: write_prompts({}, run.payloads),
    ],
    ids=["03", "02", "01"],
)
def test_a_second_one_is_refused_with_who_holds_the_folder_and_what_to_do(run, start, work):
    holder = start(HOLDER, run)
    assert holder.stdout.readline() == "holds\n"
    with pytest.raises(RunFolderError) as refused:
        work(make_config(run_root="runs"), run)
    assert re.fullmatch(
        rf"{run.path}: notebook 03 works on this run folder: process {holder.pid} of \S+ on "
        rf"{re.escape(socket.gethostname())}, since 20\S+\+00:00\. Next: wait until it ends, or end it on that machine "
        rf"\(kill {holder.pid}: .*\), then run this again; notebooks 04 and 05 only read and may run meanwhile",
        str(refused.value),
    )
    holder.communicate("done")
    with holding(run.path, "the next"):
        pass


def test_a_run_that_is_held_can_be_opened_and_found(run, start, config_file):
    assert start(HOLDER, run).stdout.readline() == "holds\n"
    assert open_run(config_file(), str(run.path))[1] == run
    assert open_run(config_file())[1] == run
    assert find_run(str(run.path)) == run


def test_a_killed_process_holds_nothing(run, start):
    holder = start(HOLDER, run)
    assert holder.stdout.readline() == "holds\n"
    holder.kill()
    holder.wait()
    with holding(run.path, "the next"):
        pass


def test_a_kernel_works_under_its_runner_and_nobody_else_does(run, start):
    runner = start(RUNNER, run)
    told = {runner.stdout.readline().split()[0] for _ in range(2)}
    assert told == {"kernel", "holds"}
    with pytest.raises(RunFolderError, match=rf"make report works on this run folder: process {runner.pid} of "):
        holding(run.path, "another").__enter__()
    assert runner.communicate("done")[0] == ""
    assert runner.returncode == 0


def test_a_kernel_that_outlives_its_runner_is_waited_for(run, start):
    runner = start(RUNNER.replace("sys.stdin.readline()", "time.sleep(60)", 1), run)
    lines = [runner.stdout.readline().split() for _ in range(2)]
    kernel = int(next(line[1] for line in lines if line[0] == "kernel"))
    runner.send_signal(signal.SIGSTOP)  # so that it does not end its kernel
    runner.kill()
    runner.stdin.flush()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and Path(f"/proc/{runner.pid}/stat").exists() and runner.poll() is None:
            time.sleep(0.05)
        if Path(f"/proc/{kernel}").exists():
            with pytest.raises(RunFolderError, match=rf"notebook 03 works on this run folder: process {kernel} of "):
                holding(run.path, "another").__enter__()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(kernel, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            with holding(run.path, "the next"):
                return
        except RunFolderError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_step_within_a_step_of_one_process_is_let_in(run):
    with holding(run.path, "make import"), holding(run.path, "a step of it"):
        pass
    with holding(run.path, "the next"):
        assert json.loads((run.path / "held.lock").read_text())["doing"] == "the next"
    assert (run.path / "held.lock").read_text() == ""


# --- what the operating system refuses -----------------------------------------------------------------------------------


def test_a_run_root_below_a_file_is_refused_with_path_and_next_step(config_file, tmp_path):
    (tmp_path / "file").write_text("")
    for root, named in (("file/runs", "file"), ("file", "file")):
        with pytest.raises(StorageError) as refused:
            open_run(config_file(run_root=root), new=True)
        assert str(refused.value).startswith(str(tmp_path / named))
        assert "Next: set run_root (or run_dir) to a folder" in str(refused.value)


@pytest.mark.parametrize("root", ["x" * 300, "/".join(["y" * 200] * 30)])
def test_a_path_that_is_too_long_is_refused(config_file, root):
    with pytest.raises(StorageError, match=r"File name too long\. Next: shorten `name` in the config, or run_root"):
        open_run(config_file(run_root=root), new=True)
    with pytest.raises(StorageError, match="File name too long"):
        open_run(config_file(), run_dir=root)
    with pytest.raises(StorageError, match="File name too long"):
        find_run(root)


def test_a_path_that_leads_in_circles_is_refused(config_file, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RunFolderError, match=r"loop.*\. Next: "):
        open_run(config_file(run_root="loop"), new=True)


def test_a_home_folder_is_expanded(config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_run(config_file(run_root="~/runs"), new=True)[1].path.parent == tmp_path / "home" / "runs"


def test_a_damaged_run_json_is_reported(config_file, run):
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"run\.json: damaged: .*\. Next: move this run folder away"):
        open_run(config_file(), str(run.path))


def in_another_process(code, *arguments, uid=None):
    """What a process of its own says on stderr; `uid`: as that user."""
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        user=uid,
        check=False,
    )
    return found.stderr.strip().splitlines()[-1] if found.stderr else ""


BEGIN = "import sys; from helpers.run.folder import open_run; open_run(sys.argv[1], new=True)"
NOBODY = 65534


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_folder_without_permission_is_refused(config_file, tmp_path):
    try:
        subprocess.run([sys.executable, "-c", ""], user=NOBODY, check=True)
    except PermissionError:
        pytest.skip("another user may not run this Python")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = config_file()
    Path(path).chmod(0o644)
    told = in_another_process(BEGIN, path, uid=NOBODY)
    assert told == (
        f"helpers.errors.StorageError: {tmp_path}/runs: Permission denied. "
        "Next: set run_root (or run_dir) to a folder that you may write"
    )


def test_a_read_only_file_system_is_refused(config_file):
    told = in_another_process(BEGIN, config_file(run_root="/proc/runs"))
    assert re.search(r"StorageError: /proc/runs: .*\. Next: ", told)
    told = in_another_process(BEGIN, config_file(run_root="/sys/runs"))
    assert re.search(r"StorageError: /sys/runs: .*\. Next: set run_root \(or run_dir\) to a folder that you may", told)


def test_a_full_disk_is_named_and_nothing_is_left_beside_the_old_file(tmp_path):
    """A limit on the size of files stands for the full disk: what is written first, beside the old file, is refused."""
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with pytest.raises(StorageError) as refused:
            write_atomically(path, "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(refused.value).startswith(f"{path}: File too large. Next: raise the limit on file sizes (ulimit -f")
    assert refused.value.errno == errno.EFBIG
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_in_the_middle_of_the_work_is_reported(run):
    says = r"No space left.* MB free\)\. Next: free space.*run it again: what is finished is kept"
    with pytest.raises(StorageError, match=says), holding(run.path, "work"):
        Path("/dev/full").write_text("x")


def test_what_has_nothing_to_do_with_files_stays_as_it_is(run):
    with pytest.raises(ConnectionRefusedError), holding(run.path, "work"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_too_few_file_descriptors_are_reported(run):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = max(int(file.name) for file in Path("/proc/self/fd").iterdir()) + 1
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, before[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(StorageError, match=r"Too many open files\. Next: allow more open files \(ulimit -n 4096\)"):
            write_atomically(run.path / "file.json", "x")
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- who may read --------------------------------------------------------------------------------------------------------


def modes(folder):
    """Path -> mode, of a folder and all in it."""
    return {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*")) if not path.is_symlink()}


def test_a_new_run_is_for_its_owner_alone(config_file, tmp_path):
    os.umask(0o022)
    _, run = open_run(config_file(), new=True)
    run.folder("metrics")
    write_atomically(run.path / "file.json", "x")
    (run.logs / "a.log").write_text("x")
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes(run.path).items())
    os.umask(0o022)
    find_run(str(run.path))
    assert os.umask(0o022) == 0o077


def test_everything_in_a_finished_run_is_for_its_owner_alone(finished_run):
    assert {str(path): oct(mode) for path, mode in modes(finished_run.run.path).items() if mode & 0o077} == {}
