"""Nodes of a Ray cluster on this machine, each with a CLOCK_MONOTONIC and a network of its own where that is allowed."""

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
from private_lan import PrivateLan

OBJECT_STORE_BYTES = 80_000_000
MARK = "RAY_NODE_OF_TEST"
STARTS_WITHIN_S, ENDS_WITHIN_S = 300, 20


def clocks_may_differ() -> bool:
    """May a process have a CLOCK_MONOTONIC of its own (a time namespace) here?"""
    with suppress(OSError):
        return not subprocess.run(["unshare", "--time", "--monotonic", "1", "true"], capture_output=True).returncode
    return False


class RayNodes:
    """A cluster that grows by `add`. Nothing of it is left after `close`."""

    def __init__(self, with_networks: bool = False) -> None:
        """`with_networks`: each node has a network of its own, and this machine has the cluster's head, without a CPU."""
        self.lan = PrivateLan() if with_networks else None
        here = self.lan.here if self.lan else "127.0.0.1"
        self.server = self.lan.server if self.lan else here
        """Where servers listen that all nodes reach."""
        self.address, client = (f"{here}:{port}" for port in _free_ports(2))
        self.client_address = f"ray://{client}"
        """For those who have no node of it."""
        self.ips: list[str] = []
        self._folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of sockets may have 107 characters
        self._marks: list[str] = []
        self._head = uuid.uuid4().hex if self.lan else None
        if self._head:
            try:
                self._start(self._head, here, cpus=0, is_head=True)
            except BaseException:
                self.close()
                raise

    def add(
        self,
        ahead_s: int | None = None,
        cpus: int = 1,
        variables: Mapping[str, str] = {},
        hosts: Path | None = None,
        delays_s: tuple[float, float] = (0.0, 0.0),
    ) -> int:
        """Start a node, on a CPU of its own, whose clock is ahead of this machine's; returns its number.

        `hosts`: what it has in place of /etc/hosts. `delays_s`: how long what it is sent, and what it sends, is under
        way, where nodes have networks.
        """
        node = len(self._marks)
        usable = sorted(os.sched_getaffinity(0))
        before = ["taskset", "--cpu-list", str(usable[node % len(usable)])]
        ip = "127.0.0.1"
        if self.lan:
            port, ip = self.lan.add(*delays_s)
            before += self.lan.entering(port)  # port = node + 1
        before += [] if ahead_s is None else ["unshare", "--time", "--monotonic", str(ahead_s)]
        if hosts is not None:
            mount = f'mount --bind {shlex.quote(str(hosts))} /etc/hosts && exec "$@"'
            before += ["unshare", "--mount", "sh", "-c", mount, "sh"]
        self._marks.append(uuid.uuid4().hex)
        self.ips.append(ip)
        self._start(self._marks[node], ip, cpus, not node and not self.lan, before, variables)
        return node

    def _start(
        self,
        mark: str,
        ip: str,
        cpus: int,
        is_head: bool,
        before: Sequence[str] = (),
        variables: Mapping[str, str] = {},
    ) -> None:
        ray = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--disable-usage-stats",
            "--include-log-monitor=false",
        ]
        if is_head:
            port, client_port = (at.rpartition(":")[2] for at in (self.address, self.client_address))
            ray += ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", "--include-dashboard=false"]
            ray += [f"--temp-dir={self._folder}"]
        else:
            ray += [f"--address={self.address}"]
        ray += [f"--node-ip-address={ip}", f"--num-cpus={cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        environment = {**os.environ, MARK: mark, "RAY_USAGE_STATS_ENABLED": "0", **variables}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each of a dozen processes would compile Ray anew
        subprocess.run([*before, *ray], env=environment, check=True, capture_output=True, timeout=STARTS_WITHIN_S)

    def cut(self, node: int, only_from: str | None = None) -> None:
        """Pull the plug of a node that has a network; `only_from` an address: lose what it sends there."""
        self.lan.cut(node + 1, only_from)

    def processes(self, node: int, words: str = "") -> list[psutil.Process]:
        """The processes of a node whose command holds these words."""
        return [p for p in _with(self._marks[node]) if words in " ".join(_command(p))]

    def load_processes(self, node: int) -> list[psutil.Process]:
        """Of all actors on a node."""
        return self.processes(node, "helpers.load ")

    def kill(self, node: int) -> None:
        """End every process of a node."""
        self._kill(self._marks[node])

    def _kill(self, mark: str) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_S
        children = [child for process in _with(mark) for child in _children(process)]
        """Of which some have overwritten their environment."""
        while left := [*_with(mark), *filter(psutil.Process.is_running, children)]:
            assert time.monotonic() < deadline, f"{left} do not end"
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)

    def close(self) -> None:
        """End every process of every node, and their networks."""
        try:
            for mark in [*self._marks, *filter(None, [self._head])]:
                self._kill(mark)
        finally:
            if self.lan:
                self.lan.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def ray_nodes(ahead_s: Sequence[int | None], cpus: int = 1, with_networks: bool = False) -> Iterator[RayNodes]:
    """A cluster of nodes whose clocks are ahead by so many seconds."""
    nodes = RayNodes(with_networks)
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
