"""A process that deletes what a run made if the process that runs it dies, even by `kill -9`.

It waits for the end of a pipe whose other end the guarded process holds: whatever ends that process closes it. Then it ends
what is left of the run's processes, so that nothing is created any more, and deletes everything that the ledger lists.

    guarded process          watchdog
    with guarded(run):  ---> holds <run>/watchdog.lock, reads its standard input
        ...                  end of input without a word: the guarded process is dead -> delete everything
    leaves the block    ---> "done": ends
                             "idle 3600": waits so long for somebody else to guard the run -> deletes everything

The last is for notebook 02, which leaves endpoints running for notebook 03, a process of its own that may never come.

Where a run is guarded already (a kernel that the runner started), the inner process only enters itself in <run>/guarded/, so that
the runner's watchdog ends it before it deletes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.errors import TeardownError
from helpers.ledger import Ledger
from helpers.run_folder import RunFolder
from helpers.teardown import delete_remaining

DONE = b"done"
LOOK_S = 1.0
RETRY_FOR_S = 6 * 3600.0
"""How long what cannot be deleted is tried again: credentials may come back."""
RETRY_PAUSE_S = 60.0
KILL_WAIT_S = 10.0


@contextmanager
def guarded(run: RunFolder, idle_timeout_s: float | None = None) -> Iterator[None]:
    """While this block runs, a watchdog deletes what the ledger lists if this process dies.

    With `idle_timeout_s`, it also deletes what the block leaves running if nobody guards the run within so many seconds.
    """
    process = _start(run)
    process.stdout.readline()
    try:
        with _entered(run):
            yield
    finally:
        is_left = idle_timeout_s is not None and Ledger(run.ledger_file, run.run_id).remaining()
        with suppress(BrokenPipeError):
            process.stdin.write(f"idle {idle_timeout_s:g}".encode() if is_left else DONE)
            process.stdin.close()
        if not is_left:
            process.wait()


def _start(run: RunFolder) -> subprocess.Popen[bytes]:
    """In a session of its own, so that neither Ctrl-C nor a closed terminal ends it."""
    with (run.logs / "watchdog.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "helpers.watchdog", str(run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


@contextmanager
def _entered(run: RunFolder) -> Iterator[None]:
    """This process, entered among those that the watchdog ends before it deletes."""
    import psutil

    entry = run.folder("guarded") / f"{os.getpid()}.json"
    entry.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()}), encoding="utf-8")
    try:
        yield
    finally:
        entry.unlink(missing_ok=True)


# --- the watchdog itself ------------------------------------------------------------------------------------------


def watch(run: RunFolder) -> None:
    """Wait until the guarded process leaves its block or dies; in the latter case, delete what the run made."""
    try:
        lock = FileLock(run.path / "watchdog.lock").acquire(timeout=0)
    except Timeout:
        print("guarded already", flush=True)  # noqa: T201
        sys.stdin.buffer.read()
        return
    with lock:
        print("guarding", flush=True)  # noqa: T201
        last_word = sys.stdin.buffer.read()
        if last_word == DONE:
            return
        if not last_word:
            _log("the guarded process died")
            _end_processes(run)
        left = _names_of_remaining(run)
    # From here on without the lock: who goes on with the run has a watchdog of its own.
    if not last_word or _stays_idle(run, float(last_word.split()[1])):
        _delete_all(run, left)


def _stays_idle(run: RunFolder, timeout_s: float) -> bool:
    """True if within so many seconds nobody guards the run, or deletes what is left of it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(min(LOOK_S, timeout_s))
        try:
            FileLock(run.path / "watchdog.lock").acquire(timeout=0).lock.release()
        except Timeout:
            return False
        if not _names_of_remaining(run):
            return False
    _log(f"nobody went on with the run for {timeout_s:g} s")
    return True


def _names_of_remaining(run: RunFolder) -> set[str]:
    return {record.endpoint_name for record in Ledger(run.ledger_file, run.run_id).remaining()}


def _end_processes(run: RunFolder) -> None:
    """End every process that was entered, with what it started."""
    import psutil

    doomed = []
    for entry in (run.path / "guarded").glob("*.json"):
        with suppress(psutil.NoSuchProcess, ValueError, KeyError):
            content = json.loads(entry.read_text(encoding="utf-8"))
            process = psutil.Process(content["pid"])
            if process.create_time() == content["started"]:
                # what it started in a session of its own, such as a local SageMaker, is needed to delete
                session = os.getsid(process.pid)
                doomed += [process, *(p for p in process.children(recursive=True) if os.getsid(p.pid) == session)]
        entry.unlink(missing_ok=True)
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            _log(f"ending process {process.pid}")
            process.kill()
    psutil.wait_procs(doomed, timeout=KILL_WAIT_S)


def _delete_all(run: RunFolder, endpoint_names: set[str]) -> None:
    """Delete these endpoints; what cannot be deleted is tried again for hours."""
    deadline = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            for record in delete_remaining(run, only=endpoint_names):
                _log(f"deleted {record.endpoint_name}")
            _log("nothing is left")
            return
        except TeardownError as error:
            _log(str(error))
            if time.monotonic() > deadline:
                return
        time.sleep(RETRY_PAUSE_S)


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    watch(RunFolder(Path(sys.argv[1])))
