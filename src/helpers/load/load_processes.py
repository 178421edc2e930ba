"""Load processes that work together, and the pipes to them. The process that wants load (a notebook kernel) sends none."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import messages
from helpers.load.attempt_progress import OnProgress
from helpers.load.attempt_run import AttemptRun, Finished
from helpers.load.messages import AttemptSpec
from helpers.load.process_pipes import ProcessPipes
from helpers.run.disk_errors import disk_fault
from helpers.run.machine import MachineWatch
from helpers.run.records import NodeFacts

SILENCE_S = 60.0
"""A load process reports ten times a second while it sends. One that is silent for this long hangs, or was stopped."""
CONTINUE = "then run notebooks/03_run_inference again on this run folder to continue"


class LoadProcesses:
    """Load processes that work together; a context manager that ends them. Each has its own CPU, from `first_place` on."""

    start_delay_ns = 50_000_000
    """From the command to go to the start: it has reached every process by then."""
    voided: tuple[str, ...] = ()
    """What made earlier measurements of the attempt void."""

    def __init__(self, log_file: Path, processes: int = 1, first_place: int = 0, silence_s: float = SILENCE_S) -> None:
        """Start the processes. One that owes a message and is silent for `silence_s` is killed. Raises LoadError."""
        self.places = range(first_place, first_place + processes)
        self.silence_s = silence_s
        self._pipes = self._open(log_file)
        self._owing: dict[int, float] = {}
        """How long each process that owes a message has been silent, s. Only time in which this process ran is counted."""
        self._patience_s, self._doing = silence_s, ""
        self._looked_s = time.monotonic()

    def _open(self, log_file: Path) -> ProcessPipes:
        return ProcessPipes(log_file, self.places)

    def __enter__(self) -> LoadProcesses:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pipes.close()

    @property
    def pids(self) -> list[int]:
        """Process ids, for monitoring from outside."""
        return self._pipes.pids

    def kill(self) -> None:
        """Kill all processes at once; a `run` in progress in another thread raises LoadError."""
        for index in range(len(self)):
            self._pipes.kill(index)

    def run(self, spec: AttemptSpec, on_progress: OnProgress) -> Finished:
        """Run one attempt to its end; its records are then on disk. Raises LoadError if a load process dies or hangs."""
        shutil.rmtree(spec.spool, ignore_errors=True)
        try:
            spec.spool.mkdir(parents=True)
            return AttemptRun(self, spec, on_progress).run()
        except OSError as error:
            raise LoadError(
                f"{where_of(spec)}: {disk_fault(error, spec.spool)}, {CONTINUE}; finished load points are kept"
            ) from error
        finally:
            shutil.rmtree(spec.spool, ignore_errors=True)

    # --- for the run of a load point ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.pids)

    @property
    def nodes(self) -> int:
        """Machines that the processes run on."""
        return 1

    def neighbours(self, index: int) -> Sequence[int]:
        """The processes on the machine of a process, which read its files."""
        return range(len(self))

    def get_ready(self, spec: AttemptSpec) -> None:
        """What load machines need before an attempt; nothing on this one."""

    def watch(self, spec: AttemptSpec) -> MachineWatch:
        """Looks at what else the load machine does."""
        return MachineWatch(spec.address.url)

    def of_nodes(self, spec: AttemptSpec) -> list[NodeFacts]:
        """What is known of the load machines, once an attempt's load is over; empty for this machine alone."""
        return []

    def send(self, index: int, message: BaseModel) -> None:
        """Send one message to one process. Waits for nothing: a process that does not read must not hold up the caller."""
        self._pipes.send(index, message)

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
            index, reply = self._pipes.replies.get(timeout=timeout_s)
        except queue.Empty:
            self._note_silence(timeout_s, spec)
            return None
        if reply is None:
            raise self._died(index, spec)
        if isinstance(reply, messages.Failed):
            self._pipes.kill(index)
            raise LoadError(
                f"{self._pipes.name(index)}, {where_of(spec)}: {reply.cause}. Finished load points are kept. "
                f"Next: {reply.next_step}, {CONTINUE}"
            )
        if index in self._owing:
            self._owing[index] = 0.0
        self._note_silence(timeout_s, spec)
        return index, reply

    def give_up(self, index: int, why: str, spec: AttemptSpec) -> LoadError:
        """Kill a process that does not do its part; returns the error to raise."""
        self._pipes.kill(index)
        return LoadError(
            f"{self._pipes.name(index)}, {where_of(spec)}: {why}. It was killed; finished load points are kept. Next: see that "
            f"nothing stops the process or holds up this machine (memory, disk, a debugger), {CONTINUE}; if it happens "
            f"again, report it with {self._pipes.log_file}"
        )

    def _note_silence(self, timeout_s: float, spec: AttemptSpec) -> None:
        now = time.monotonic()
        passed_s, self._looked_s = min(now - self._looked_s, timeout_s + 1), now
        for index, silent_s in self._owing.items():
            if silent_s + passed_s > self._patience_s:
                raise self.give_up(index, f"it said nothing for {self._patience_s:g} s while {self._doing}", spec)
            self._owing[index] = silent_s + passed_s

    def _died(self, index: int, spec: AttemptSpec) -> LoadError:
        code = self._pipes.exit_code(index)
        return LoadError(
            f"{self._pipes.name(index)} ended with code {code} during {where_of(spec)}. Finished load points are kept. Next: see "
            f"{self._pipes.log_file}, {CONTINUE}\n{self._pipes.log_tail()}"
        )


def where_of(spec: AttemptSpec) -> str:
    """An attempt, in messages."""
    return f"option {spec.option!r}, dataset {spec.dataset!r}, {spec.level.label}"
