"""A process that deletes what a run made if the process that runs it dies, even by `kill -9`.

It waits for the end of a pipe whose other end the guarded process holds, and which closes when that process ends for any
reason. Then it ends the run's remaining processes, so that nothing more is created, and deletes everything that the ledger
lists.

    guarded process          watchdog
    with guarded(run):  ---> holds <run>/watchdog.lock, reads its standard input
        ...                  end of input without a word: the guarded process is dead -> delete everything
    leaves the block    ---> "done": ends
                             "failed": goes on deleting what could not be deleted
                             "idle 3600": waits so long for somebody else to guard the run -> deletes everything

The last is for notebook 02, which leaves endpoints running for notebook 03, a separate process that may never start.

Where a run is guarded already (a kernel that the runner started), the inner watchdog waits for its turn. Each guarded
process enters itself in <run>/guarded/, so that a watchdog ends it before it deletes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from helpers.config.file import load_config
from helpers.endpoints.teardown import delete_remaining
from helpers.run.folder import RunFolder, config_of_run
from helpers.run.holding import holding, take
from helpers.run.ledger import Ledger
from helpers.run.notices import Notice, send

if TYPE_CHECKING:
    import psutil

DONE, FAILED = b"done", b"failed"
LOOK_S = 1.0
RETRY_FOR_S = 6 * 3600.0
"""How long what cannot be deleted is tried again: credentials may come back."""
RETRY_PAUSE_S = 60.0
KILL_WAIT_S = 10.0


@contextmanager
def guarded(run: RunFolder, doing: str, idle_timeout_s: float | None = None) -> Iterator[None]:
    """While this block runs, no other process works on the run; if this one dies, a watchdog deletes what the ledger lists.

    It also keeps deleting what an error has left behind and, with `idle_timeout_s`, what the block leaves running if no
    process guards the run within that time. Raises RunFolderError if another process works on the run.
    """
    with holding(run.path, doing), _watched(run, doing, idle_timeout_s):
        yield


@contextmanager
def _watched(run: RunFolder, doing: str, idle_timeout_s: float | None) -> Iterator[None]:
    process = _start(run)
    process.stdout.readline()
    failed = True
    try:
        with _entered(run, doing):
            yield
        failed = False
    finally:
        word = _last_word(run, failed, idle_timeout_s)
        with suppress(BrokenPipeError):
            process.stdin.write(word)
            process.stdin.close()
        if word == DONE:
            process.wait()


def _last_word(run: RunFolder, failed: bool, idle_timeout_s: float | None) -> bytes:
    """The message to the watchdog at the end of the block."""
    try:
        is_left = bool(Ledger(run.ledger_file, run.run_id).remaining())
    except Exception:  # noqa: BLE001 (a ledger that cannot be read now is left to the watchdog)
        is_left = True
    if is_left and failed:
        return FAILED
    return f"idle {idle_timeout_s:g}".encode() if is_left and idle_timeout_s is not None else DONE


def _start(run: RunFolder) -> subprocess.Popen[bytes]:
    """In its own session, so that neither Ctrl-C nor a closed terminal ends it."""
    with (run.logs / "watchdog.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "helpers.endpoints.watchdog", str(run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


@contextmanager
def _entered(run: RunFolder, doing: str) -> Iterator[None]:
    """This process, entered among those that the watchdog ends before it deletes."""
    import psutil

    entry = run.folder("guarded") / f"{os.getpid()}.json"
    content = {"pid": os.getpid(), "started": psutil.Process().create_time(), "doing": doing}
    entry.write_text(json.dumps(content), encoding="utf-8")
    try:
        yield
    finally:
        entry.unlink(missing_ok=True)


# --- the watchdog itself ------------------------------------------------------------------------------------------


def watch(run: RunFolder) -> None:
    """Wait until the guarded process leaves its block or dies; delete what it left, unless it says that it is done."""
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(sys.stdin.buffer.read()), daemon=True)
    listener.start()
    lock = FileLock(run.path / "watchdog.lock")
    guards = take(lock)
    print("guarding" if guards else "guarded already", flush=True)  # noqa: T201
    while not guards and listener.is_alive():
        listener.join(LOOK_S)
        guards = take(lock)
    if not guards:
        return
    listener.join()
    word = heard[0] if heard else b""
    if not word:
        _log("the guarded process died")
        threading.Thread(target=_send_notice, args=(run,)).start()
        try:
            end_processes(run)
        except Exception as error:  # noqa: BLE001 (to delete is what matters)
            _log(f"not all processes were ended: {error!r}")
    left = _names_of_remaining(run)
    lock.release()  # a process that continues the run has its own watchdog
    if word in (b"", FAILED) or (word != DONE and _stays_idle(run, float(word.split()[1]))):
        _delete_all(run, left)


def _send_notice(run: RunFolder) -> None:
    """To the channels of the config, beside the deletion, which does not wait for it."""
    try:
        notify = load_config(config_of_run(run)).benchmark.notify
        text = (
            f"Run {run.run_id}: the process that ran it was killed or crashed. What it made is being deleted; "
            f"make status RUN={run.path} shows what is left, and make report RUN={run.path} continues the run."
        )
        fields = {"run_id": run.run_id, "exit_status": None, "status": "killed", "where": str(run.path)}
        for warning in send(notify, Notice(f"Run {run.run_id}: killed", text, fields)) if notify else ():
            _log(warning)
    except Exception as error:  # noqa: BLE001 (to delete is what matters)
        _log(f"no notice was sent: {error!r}")


def _stays_idle(run: RunFolder, timeout_s: float) -> bool:
    """True if for that time no process guards the run or deletes what remains of it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(min(LOOK_S, timeout_s))
        lock = FileLock(run.path / "watchdog.lock")
        if not take(lock):
            return False
        lock.release()
        if not _names_of_remaining(run):
            return False
    _log(f"no process continued the run for {timeout_s:g} s")
    return True


def _names_of_remaining(run: RunFolder) -> set[str]:
    return {record.endpoint_name for record in Ledger(run.ledger_file, run.run_id).remaining()}


def end_processes(run: RunFolder) -> None:
    """End every process that was entered, but for this one, with what it started."""
    import psutil

    doomed = []
    for entry in (run.path / "guarded").glob("*.json"):
        with suppress(psutil.Error, OSError, ValueError, KeyError):
            content = json.loads(entry.read_text(encoding="utf-8"))
            process = psutil.Process(content["pid"])
            if content["pid"] == os.getpid():
                continue
            if process.create_time() == content["started"]:
                doomed += [process, *_children_in_session(process)]
        entry.unlink(missing_ok=True)
    for process in doomed:
        with suppress(psutil.Error):
            _log(f"ending process {process.pid}")
            process.kill()
    psutil.wait_procs(doomed, timeout=KILL_WAIT_S)


def _children_in_session(process: psutil.Process) -> list[psutil.Process]:
    """What a process started, except processes with their own session: a local SageMaker is needed to delete."""
    found = []
    for child in process.children(recursive=True):
        with suppress(OSError):  # it ended in the meantime
            if os.getsid(child.pid) == os.getsid(process.pid):
                found.append(child)
    return found


def _delete_all(run: RunFolder, endpoint_names: set[str]) -> None:
    """Delete these endpoints; what cannot be deleted is tried again for hours."""
    deadline = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            for record in delete_remaining(run, only=endpoint_names):
                _log(f"deleted {record.endpoint_name}")
            _log("nothing is left")
            return
        except Exception as error:  # noqa: BLE001 (after any error the next attempt may succeed)
            _log(str(error))
            if time.monotonic() > deadline:
                return
        time.sleep(RETRY_PAUSE_S)


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    watch(RunFolder(Path(sys.argv[1])))
