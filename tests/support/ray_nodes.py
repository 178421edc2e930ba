"""Nodes of a Ray cluster on this machine, each with a CLOCK_MONOTONIC of its own where that is allowed."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

OBJECT_STORE_BYTES = 80_000_000
MARK = "RAY_NODE_OF_TEST"
ENDS_WITHIN_S = 20


def clocks_may_differ() -> bool:
    """May a process have a CLOCK_MONOTONIC of its own (a time namespace) here?"""
    with suppress(OSError):
        return not subprocess.run(["unshare", "--time", "--monotonic", "1", "true"], capture_output=True).returncode
    return False


class RayNodes:
    """A cluster that grows by `add`. Nothing of it is left after `close`."""

    def __init__(self) -> None:
        self.address, client = (f"127.0.0.1:{port}" for port in _free_ports(2))
        self.client_address = f"ray://{client}"
        """For those who have no node of it."""
        self._folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of sockets may have 107 characters
        self._marks: list[str] = []

    def add(
        self,
        ahead_s: int | None = None,
        cpus: int = 1,
        variables: Mapping[str, str] = {},
        hosts: Path | None = None,
    ) -> int:
        """Start a node, on a CPU of its own, whose clock is ahead of this machine's; returns its number.

        `hosts`: what it has in place of /etc/hosts.
        """
        ray = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--disable-usage-stats",
            "--include-log-monitor=false",
        ]
        if self._marks:
            role = [f"--address={self.address}"]
        else:
            port = self.address.rpartition(":")[2]
            client_port = self.client_address.rpartition(":")[2]
            role = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", "--include-dashboard=false"]
            role += [f"--temp-dir={self._folder}"]
        ray += [
            *role,
            "--node-ip-address=127.0.0.1",
            f"--num-cpus={cpus}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
        ]
        clock = [] if ahead_s is None else ["unshare", "--time", "--monotonic", str(ahead_s)]
        usable = sorted(os.sched_getaffinity(0))
        clock = ["taskset", "--cpu-list", str(usable[len(self._marks) % len(usable)]), *clock]
        if hosts is not None:
            mount = f'mount --bind {shlex.quote(str(hosts))} /etc/hosts && exec "$@"'
            clock += ["unshare", "--mount", "sh", "-c", mount, "sh"]
        mark = uuid.uuid4().hex
        environment = {**os.environ, MARK: mark, "RAY_USAGE_STATS_ENABLED": "0", **variables}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each of a dozen processes would compile Ray anew
        self._marks.append(mark)
        subprocess.run([*clock, *ray], env=environment, check=True, capture_output=True, timeout=120)
        return len(self._marks) - 1

    def processes(self, node: int, words: str = "") -> list[psutil.Process]:
        """The processes of a node whose command holds these words."""
        return [p for p in _with(self._marks[node]) if words in " ".join(_command(p))]

    def load_processes(self, node: int) -> list[psutil.Process]:
        """Of all actors on a node."""
        return self.processes(node, "helpers.load ")

    def kill(self, node: int) -> None:
        """End every process of a node."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        children = [child for process in self.processes(node) for child in _children(process)]
        """Of which some have overwritten their environment."""
        while left := [*self.processes(node), *filter(psutil.Process.is_running, children)]:
            assert time.monotonic() < deadline, f"{left} do not end"
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)

    def close(self) -> None:
        """End every process of every node."""
        for node in range(len(self._marks)):
            self.kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def ray_nodes(ahead_s: Sequence[int | None], cpus: int = 1) -> Iterator[RayNodes]:
    """A cluster of nodes whose clocks are ahead by so many seconds."""
    nodes = RayNodes()
    try:
        for seconds in ahead_s:
            nodes.add(seconds, cpus)
        yield nodes
    finally:
        nodes.close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _with(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
