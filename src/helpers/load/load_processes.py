"""Load processes that work together, and the pipes to them. The process that wants load (a notebook kernel) sends none."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import messages
from helpers.load.attempt_progress import OnProgress
from helpers.load.attempt_run import AttemptRun, Finished
from helpers.load.messages import AttemptSpec
from helpers.run.disk_errors import disk_fault

LOG_TAIL_LINES = 15
END_TIMEOUT_S = 10
SILENCE_S = 60.0
"""A load process reports ten times a second while it sends. One that is silent for this long hangs, or was stopped."""
CONTINUE = "then run notebooks/03_run_inference again on this run folder to continue"


class LoadProcesses:
    """Load processes that work together; a context manager that ends them. Each has its own CPU, from `first_place` on."""

    def __init__(self, log_file: Path, processes: int = 1, first_place: int = 0, silence_s: float = SILENCE_S) -> None:
        """Start the processes. One that owes a message and is silent for `silence_s` is killed. Raises LoadError."""
        self.places = range(first_place, first_place + processes)
        self.silence_s = silence_s
        self._log_file = log_file
        try:
            self._log = log_file.open("ab")
        except OSError as error:
            raise LoadError(f"the log of the load processes: {disk_fault(error, log_file)}") from error
        self._replies: queue.Queue[tuple[int, BaseModel | None]] = queue.Queue()
        self._processes = [self._start(index) for index in range(processes)]
        self._outboxes = [self._open_outbox(process) for process in self._processes]
        self._owing: dict[int, float] = {}
        """How long each process that owes a message has been silent, s. Only time in which this process ran is counted."""
        self._patience_s, self._doing = silence_s, ""
        self._looked_s = time.monotonic()

    def __enter__(self) -> LoadProcesses:
        return self

    def __exit__(self, *exc: object) -> None:
        for outbox in self._outboxes:
            outbox.put(None)
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    @property
    def pids(self) -> list[int]:
        """Process ids, for monitoring from outside."""
        return [process.pid for process in self._processes]

    def kill(self) -> None:
        """Kill all processes at once; a `run` in progress in another thread raises LoadError."""
        for process in self._processes:
            process.kill()

    def run(self, spec: AttemptSpec, on_progress: OnProgress) -> Finished:
        """Run one attempt to its end; its records are then on disk. Raises LoadError if a load process dies or hangs."""
        shutil.rmtree(spec.spool, ignore_errors=True)
        try:
            spec.spool.mkdir(parents=True)
            return AttemptRun(self, spec, on_progress).run()
        except OSError as error:
            raise LoadError(
                f"{_where(spec)}: {disk_fault(error, spec.spool)}, {CONTINUE}; finished load points are kept"
            ) from error
        finally:
            shutil.rmtree(spec.spool, ignore_errors=True)

    # --- for the run of a load point ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._processes)

    def send(self, index: int, message: BaseModel) -> None:
        """Send one message to one process. Waits for nothing: a process that does not read must not hold up the caller."""
        self._outboxes[index].put(message.model_dump_json() + "\n")

    def expect(self, indices: Iterable[int], doing: str, patience_s: float) -> None:
        """From now on these processes owe a message, and may be silent for `patience_s`; `doing`: what they do, in words."""
        self._owing = dict.fromkeys(indices, 0.0)
        self._patience_s, self._doing = patience_s, doing
        self._looked_s = time.monotonic()

    def release(self, index: int) -> None:
        """A process owes nothing more."""
        self._owing.pop(index, None)

    def next_reply(self, timeout_s: float, spec: AttemptSpec) -> tuple[int, BaseModel] | None:
        """(process, message) once there is one; None after the time-out. Raises LoadError for one that died or hangs."""
        try:
            index, reply = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self._note_silence(timeout_s, spec)
            return None
        if reply is None:
            raise self._died(index, spec)
        if isinstance(reply, messages.Failed):
            self._processes[index].kill()
            raise LoadError(
                f"{self._name(index)}, {_where(spec)}: {reply.cause}. Finished load points are kept. "
                f"Next: {reply.next_step}, {CONTINUE}"
            )
        if index in self._owing:
            self._owing[index] = 0.0
        self._note_silence(timeout_s, spec)
        return index, reply

    def give_up(self, index: int, why: str, spec: AttemptSpec) -> LoadError:
        """Kill a process that does not do its part; returns the error to raise."""
        self._processes[index].kill()  # also where it is stopped, or spins
        return LoadError(
            f"{self._name(index)}, {_where(spec)}: {why}. It was killed; finished load points are kept. Next: see that "
            f"nothing stops the process or holds up this machine (memory, disk, a debugger), {CONTINUE}; if it happens "
            f"again, report it with {self._log_file}"
        )

    def _note_silence(self, timeout_s: float, spec: AttemptSpec) -> None:
        now = time.monotonic()
        passed_s, self._looked_s = min(now - self._looked_s, timeout_s + 1), now
        for index, silent_s in self._owing.items():
            if silent_s + passed_s > self._patience_s:
                raise self.give_up(index, f"it said nothing for {self._patience_s:g} s while {self._doing}", spec)
            self._owing[index] = silent_s + passed_s

    def _name(self, index: int) -> str:
        return f"load process {index} (pid {self._processes[index].pid})"

    def _open_outbox(self, process: subprocess.Popen) -> queue.Queue[str | None]:
        """Where messages to a process are put; a thread writes them, and closes its input after None."""
        outbox: queue.Queue[str | None] = queue.Queue()

        def write() -> None:
            with contextlib.suppress(OSError, ValueError):  # it has died, which `_read` finds too
                while (line := outbox.get()) is not None:
                    process.stdin.write(line)
                    process.stdin.flush()
            with contextlib.suppress(OSError):
                process.stdin.close()

        threading.Thread(target=write, daemon=True).start()
        return outbox

    def _start(self, index: int) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers.load", str(self.places[index])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        threading.Thread(target=self._read, args=(index, process), daemon=True).start()
        return process

    def _read(self, index: int, process: subprocess.Popen) -> None:
        with process.stdout as lines:
            for line in lines:
                self._replies.put((index, messages.Reply.model_validate({"message": json.loads(line)}).message))
        self._replies.put((index, None))

    def _died(self, index: int, spec: AttemptSpec) -> LoadError:
        process = self._processes[index]
        try:
            code = process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = "unknown"
        return LoadError(
            f"{self._name(index)} ended with code {code} during {_where(spec)}. Finished load points are kept. Next: see "
            f"{self._log_file}, {CONTINUE}\n{self._log_tail()}"
        )

    def _log_tail(self) -> str:
        try:
            lines = self._log_file.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(the log cannot be read: {error.strerror})"
        return "\n".join(lines[-LOG_TAIL_LINES:]) or "(its log is empty)"


def _where(spec: AttemptSpec) -> str:
    return f"option {spec.option!r}, dataset {spec.dataset!r}, {spec.level.label}"
