"""A load machine of a cluster, as one actor of Ray: it starts load processes as its children and passes messages on.

It stands beside the load, not in it: the load processes are those of a single machine, and keep to their own clock. What they
read and write is in a folder of its own, which only its owner can read.

Imports Ray: only for `load.cluster`, and on nodes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import queue
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import messages
from helpers.load.process_pipes import ProcessPipes
from helpers.load.spool import IndexReader
from helpers.run.whole_files import keep_private

FOLDER_PREFIX = "load-node-"
GATHER_S = 0.05
"""Replies that come within this time of each other travel together."""
CONNECTS, CONNECT_TIMEOUT_S = 5, 5.0
LEASE_S, IDLE_LEASE_S, LEASE_LOOK_S = 20.0, 900.0, 0.5
"""A node that hears nothing from the coordinating machine for this long ends what it started: under load, and otherwise."""
GROUPS = {"replies": 1, "clock": 1}
"""Threads of an actor beside the one that takes commands in order: no clock reading waits for a reply."""


class About(NamedTuple):
    """What the coordinating machine has to know of a node."""

    ip: str
    node_id: str
    folder: str
    pids: list[int]
    code: str
    """What runs there: `code_digest`."""


class Taken(NamedTuple):
    """What load processes said and wrote since the last time, by their number on this node."""

    replies: list[tuple[int, BaseModel | None]]
    rows: dict[int, bytes]
    """New rows of their indices, at least those that the replies know of."""


class LoadNode:
    """The actor's methods."""

    def __init__(self, processes: int) -> None:
        keep_private()
        _take_normal_priority()
        _clear_folders_of_the_dead()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self._pipes = ProcessPipes(self._folder / "load.log", range(processes))
        self._indices: dict[int, IndexReader] = {}
        self._is_loading, self._silent_s = False, 0.0
        threading.Thread(target=self._end_when_alone, daemon=True).start()

    def about(self) -> About:
        """Who this is."""
        node_id = ray.get_runtime_context().get_node_id()
        ip = ray.util.get_node_ip_address()
        return About(ip, node_id, str(self._folder), self._pipes.pids, code_digest())

    @ray.method(concurrency_group="clock")
    def now_ns(self) -> int:
        """CLOCK_MONOTONIC of this machine."""
        return time.monotonic_ns()

    def connect_ms(self, host: str, port: int) -> float | str:
        """The shortest of a few TCP connects to an endpoint; why there was none."""
        taken_s, why = [], ""
        for _ in range(CONNECTS):
            began = time.perf_counter()
            try:
                socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
            except OSError as error:
                why = str(error.strerror or error)
                break
            taken_s.append(time.perf_counter() - began)
        return min(taken_s) * 1e3 if taken_s else why

    def keep(self, name: str, data: bytes) -> None:
        """Keep a file, once for all attempts that need it."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def begin(self, spec: messages.AttemptSpec, schedule: bytes) -> None:
        """Make room for an attempt. `spec` as on this node; `schedule` of an open loop."""
        self._indices = {}
        for spool in Path(spec.output_file).parent.glob(".*.spool"):
            shutil.rmtree(spool)
        spec.spool.mkdir(parents=True)
        if schedule:
            spec.schedule_file.write_bytes(schedule)

    def send(self, index: int, message: BaseModel) -> None:
        """Pass a message on to a load process."""
        if isinstance(message, messages.Prepare):
            self._indices[index] = IndexReader(message.spec.part_folder(message.load_process))
        if isinstance(message, messages.Go | messages.Parse):
            self._is_loading = isinstance(message, messages.Go)
        self._pipes.send(index, message)

    @ray.method(concurrency_group="replies")
    def take(self, wait_s: float) -> Taken:
        """What there is, or will be within `wait_s`."""
        self._silent_s = 0.0
        replies = []
        with suppress(queue.Empty):
            replies.append(self._pipes.replies.get(timeout=wait_s))
            time.sleep(GATHER_S)
            while True:
                replies.append(self._pipes.replies.get_nowait())
        rows = {index: reader.new_rows() for index, reader in list(self._indices.items())}
        return Taken(replies, {index: found.tobytes() for index, found in rows.items() if len(found)})

    def records(self, part_file: str) -> bytes:
        """Records of some rows, as a Parquet file; gone from here after that."""
        packed = Path(part_file).with_suffix(".parquet")
        with (
            pa.OSFile(part_file, "rb") as file,
            pa.ipc.open_stream(file) as stream,
            pq.ParquetWriter(packed, stream.schema, compression="zstd") as writer,
        ):
            for batch in stream:
                writer.write_batch(batch)
        data = packed.read_bytes()
        packed.unlink()
        Path(part_file).unlink()
        return data

    def calibrate(self, concurrencies: list[int]) -> dict:
        """What the client of this machine adds, against a stub on its loopback."""
        from helpers.load.calibration import measure_client

        return measure_client(concurrencies, self._pipes.log_file)

    def exit_code(self, index: int) -> int | str:
        """Of a load process that has ended."""
        return self._pipes.exit_code(index)

    def kill(self, index: int) -> None:
        """Kill a load process."""
        self._pipes.kill(index)

    def end(self) -> str:
        """End the load processes and delete their files; returns their log."""
        self._pipes.close()
        log = self._pipes.log_file.read_text(errors="replace")
        shutil.rmtree(self._folder)
        return log

    def _end_when_alone(self) -> None:
        """Nobody hears of load that goes on behind a network that is cut, and the endpoint is measured again meanwhile."""
        while self._silent_s < (LEASE_S if self._is_loading else IDLE_LEASE_S):
            time.sleep(LEASE_LOOK_S)
            self._silent_s += LEASE_LOOK_S  # what this machine stands still is no silence
        for index in range(len(self._pipes.pids)):
            self._pipes.kill(index)
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(1)


def code_digest() -> str:
    """Of Python's version and all source files of this package: nodes that measure together run the same program."""
    root = Path(sys.modules["helpers"].__file__).parent
    digest = hashlib.sha256(platform.python_version().encode())
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _take_normal_priority() -> None:
    """Ray runs its workers at niceness 15, at which load processes would wait for whatever else the machine does."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        raise LoadError(
            f"this user may not undo the niceness of {os.nice(0)} that Ray gives its workers. Next: set RAY_worker_niceness=0 in "
            "the environment of `ray start` on every node"
        ) from None


def _clear_folders_of_the_dead(exists: Callable[[int], bool] = psutil.pid_exists) -> None:
    """Folders of actors that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if pid.isdecimal() and not exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
