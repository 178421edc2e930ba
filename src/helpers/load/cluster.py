"""The connection to the Ray cluster of `load.cluster`, and which of its nodes may be used."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from helpers.config.cluster import ClusterSettings
from helpers.errors import LoadError
from helpers.load.load_processes import CONTINUE

CONNECT_TIMEOUT_S = 10.0


@contextmanager
def opened_cluster(settings: ClusterSettings | None) -> Iterator[Cluster | None]:
    """The cluster for as long as a run needs it; None without `load.cluster`, and Ray is then not imported."""
    if settings is None:
        yield None
        return
    cluster = Cluster(settings)
    try:
        yield cluster
    finally:
        cluster.disconnect()


@dataclass
class Cluster:
    """The connection to Ray, and which nodes may be used."""

    settings: ClusterSettings
    lost: dict[str, str] = field(default_factory=dict)
    """Node id -> why it is not used any more in this run."""
    _known: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Connect. Raises LoadError."""
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
        except ImportError as error:
            raise LoadError(
                f"load.cluster: Ray is not installed here ({error}). Next: make .venv/.setup-ray, or "
                "pip install -r requirements-ray.txt"
            ) from None
        self._own = not ray.is_initialized()
        if self._own:
            self._connect()

    def _connect(self) -> None:
        import ray

        address, handler = self.settings.address, signal.getsignal(signal.SIGTERM)
        try:
            if address != "auto":  # Ray would try for two minutes
                at = urlsplit(address if "//" in address else f"//{address}")
                socket.create_connection((at.hostname, at.port), CONNECT_TIMEOUT_S).close()
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            ray.shutdown()  # of what was begun: another attempt in this process would fail on it
            said = " ... ".join(dict.fromkeys((lines_of(error)[0], lines_of(error)[-1])))
            raise LoadError(
                f"load.cluster.address {address!r}: no Ray cluster could be reached ({said}). "
                "Expected one that runs the Ray of requirements-ray.txt; auto and host:port need a node of it on this machine, "
                "ray://host:10001 does not. Next: see docs/cluster.md"
            ) from None
        finally:
            if (
                handler is not None and threading.current_thread() is threading.main_thread()
            ):  # Ray puts its own in place
                signal.signal(signal.SIGTERM, handler)

    def disconnect(self) -> None:
        """Leave the cluster, which ends what this process started on it."""
        import ray

        if self._own:
            ray.shutdown()

    def found(self) -> str:
        """The nodes, in words. Raises LoadError where there are too few."""
        import ray

        left = self.usable_nodes()
        nodes = [
            f"{n['NodeManagerAddress']} ({n['Resources'].get('CPU', 0):g} CPUs)" for n in ray.nodes() if n["Alive"]
        ]
        return f"Ray cluster at {self.settings.address}: {', '.join(sorted(nodes))}; {left} of them will send the load."

    def usable_nodes(self) -> int:
        """How many nodes to ask for: as many as the config says, less those that this run has lost. Raises LoadError."""
        import ray

        wanted, cpus = self.settings.nodes, self.settings.processes_per_node
        with self._lock:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            large = {n["NodeID"] for n in nodes if n["Resources"].get("CPU", 0) >= cpus}
            if not self._known and len(large) < wanted:
                raise LoadError(
                    f"load.cluster: bad value nodes: {wanted}: the cluster at {self.settings.address!r} has {len(nodes)} nodes, "
                    f"{len(large)} of them with {cpus} CPUs for as many load processes. Next: start more nodes, or lower "
                    "nodes or processes_per_node"
                )
            self.lost |= dict.fromkeys(self._known - large - self.lost.keys(), "it is no longer in the cluster")
            self._known |= large
            left = min(wanted, len(large - self.lost.keys()))
        if not left:
            reasons = "; ".join(f"{node}: {why}" for node, why in self.lost.items())
            raise LoadError(f"load.cluster: no node is left ({reasons}). Next: start them again, {CONTINUE}")
        return left


def lines_of(error: Exception) -> list[str]:
    """What an error says, without empty lines. Ray's begin with what happened, and end with the cause of a failed start."""
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
