"""Gives orders to a load process and follows its progress. The caller (a notebook kernel) never sends load itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers.errors import LoadError
from helpers.load.process import Order

LOG_TAIL_LINES = 15
END_TIMEOUT_S = 10


class LoadProcess:
    """One load process; a context manager that ends it. Processes that run at once have different places, from 0 on."""

    def __init__(self, log_file: Path, place: int = 0) -> None:
        self.place = place
        self._log_file = log_file
        self._log = log_file.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.load", str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    @property
    def pid(self) -> int:
        """Process id, for whoever watches it from outside."""
        return self._process.pid

    def kill(self) -> None:
        """End the process at once; a `run` under way in another thread raises LoadError."""
        self._process.kill()

    def run(self, order: Order, on_progress: Callable[[dict], None]) -> dict:
        """Run one load point to its end; returns the counts of its records. Raises LoadError if the process dies."""
        try:
            self._process.stdin.write(order.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died(order) from None
        for line in self._process.stdout:
            message = json.loads(line)
            if message["event"] == "done":
                return message
            on_progress(message)
        raise self._died(order)

    def _died(self, order: Order) -> LoadError:
        code = self._process.wait(END_TIMEOUT_S)
        tail = "\n".join(self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        return LoadError(
            f"the load process (pid {self._process.pid}) ended with code {code} during option {order.option!r}, dataset "
            f"{order.dataset!r}, concurrency {order.concurrency}. Finished load points are kept. Next: see "
            f"{self._log_file}, then run notebooks/03_run_inference again on this run folder to continue\n{tail}"
        )
