"""Load processes that work together, and how to speak with them. Whoever wants load (a notebook kernel) sends none."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import order as messages
from helpers.load.conductor import Finished, LoadPointRun
from helpers.load.order import Order
from helpers.load.progress import OnProgress

LOG_TAIL_LINES = 15
END_TIMEOUT_S = 10


class LoadTeam:
    """Load processes that work together; a context manager that ends them. Each has a CPU: `first_place` and following."""

    def __init__(self, log_file: Path, processes: int = 1, first_place: int = 0) -> None:
        self.places = range(first_place, first_place + processes)
        self._log_file = log_file
        self._log = log_file.open("ab")
        self._told: queue.Queue[tuple[int, BaseModel | None]] = queue.Queue()
        self._processes = [self._start(index) for index in range(processes)]

    def __enter__(self) -> LoadTeam:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    @property
    def pids(self) -> list[int]:
        """Process ids, for whoever watches from outside."""
        return [process.pid for process in self._processes]

    def kill(self) -> None:
        """End all processes at once; a `run` under way in another thread raises LoadError."""
        for process in self._processes:
            process.kill()

    def run(self, order: Order, on_progress: OnProgress) -> Finished:
        """Run one load point to its end; its records are then on disk. Raises LoadError if a load process dies."""
        shutil.rmtree(order.spool, ignore_errors=True)
        order.spool.mkdir(parents=True)
        try:
            return LoadPointRun(self, order, on_progress).run()
        finally:
            shutil.rmtree(order.spool, ignore_errors=True)

    # --- for the run of a load point ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._processes)

    def send(self, index: int, message: BaseModel, order: Order) -> None:
        """Send one message to one process."""
        try:
            self._processes[index].stdin.write(message.model_dump_json() + "\n")
            self._processes[index].stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._died(index, order) from None

    def next_told(self, timeout_s: float, order: Order) -> tuple[int, BaseModel] | None:
        """(process, message) once there is one; null after the time-out."""
        try:
            index, told = self._told.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if told is None:
            raise self._died(index, order)
        return index, told

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
                self._told.put((index, messages.Told.model_validate({"message": json.loads(line)}).message))
        self._told.put((index, None))

    def _died(self, index: int, order: Order) -> LoadError:
        process = self._processes[index]
        try:
            code = process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = "unknown"
        tail = "\n".join(self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        return LoadError(
            f"load process {index} (pid {process.pid}) ended with code {code} during option {order.option!r}, dataset "
            f"{order.dataset!r}, {order.level.label}. Finished load points are kept. Next: see {self._log_file}, then run "
            f"notebooks/03_run_inference again on this run folder to continue\n{tail}"
        )
