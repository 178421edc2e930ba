"""Load processes on this machine, and the pipes to them."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import messages
from helpers.run.disk_errors import disk_fault

LOG_TAIL_LINES = 15
END_TIMEOUT_S = 10


class ProcessPipes:
    """Load processes, each on the CPU of its place, which are sent messages and answer into one queue."""

    def __init__(self, log_file: Path, places: Sequence[int]) -> None:
        """Start a process at each place. Raises LoadError where the log cannot be written."""
        self.log_file = log_file
        try:
            self._log = log_file.open("ab")
        except OSError as error:
            raise LoadError(f"the log of the load processes: {disk_fault(error, log_file)}") from error
        self.replies: queue.Queue[tuple[int, BaseModel | None]] = queue.Queue()
        """(process, message); None where a process has ended."""
        self._processes = [self._start(index, place) for index, place in enumerate(places)]
        self._outboxes = [self._open_outbox(process) for process in self._processes]

    def close(self) -> None:
        """End the processes."""
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
        """Process ids."""
        return [process.pid for process in self._processes]

    def name(self, index: int) -> str:
        """A process, in messages."""
        return f"load process {index} (pid {self._processes[index].pid})"

    def send(self, index: int, message: BaseModel) -> None:
        """Send one message to one process. Waits for nothing: a process that does not read must not hold up the caller."""
        self._outboxes[index].put(message.model_dump_json() + "\n")

    def kill(self, index: int) -> None:
        """Kill one process, also where it is stopped, or spins."""
        self._processes[index].kill()

    def exit_code(self, index: int) -> int | str:
        """Of a process that has ended."""
        try:
            return self._processes[index].wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return "unknown"

    def log_tail(self) -> str:
        """The last lines of the log."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(the log cannot be read: {error.strerror})"
        return "\n".join(lines[-LOG_TAIL_LINES:]) or "(its log is empty)"

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

    def _start(self, index: int, place: int) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers.load", str(place)],
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
                self.replies.put((index, messages.Reply.model_validate({"message": json.loads(line)}).message))
        self.replies.put((index, None))
