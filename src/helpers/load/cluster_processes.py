"""Load from several machines: the nodes of a Ray cluster, one actor on each (`cluster_node`), which start the load processes.

Nothing of Ray is in the way of a request. A node's commands and progress, and its index while it grows, pass through
`cluster_pipes`, where every time of another machine is shifted to the clock of this one: what follows (`attempt_run`,
`window`, `findings`) sees load processes that share a clock. How far a clock is ahead is found by round trips before and after
each attempt.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from helpers.errors import LoadError
from helpers.load.attempt_progress import OnProgress
from helpers.load.attempt_run import Finished
from helpers.load.clocks import clocks_moved
from helpers.load.cluster import Cluster
from helpers.load.cluster_pipes import ClusterPipes, NodeLost
from helpers.load.load_processes import SILENCE_S, LoadProcesses
from helpers.load.messages import AttemptSpec
from helpers.run.finished_point import set_aside
from helpers.run.records import NodeFacts

LEASE_END_S = 23.0
"""After this time without a word a node sends nothing any more: `cluster_node.LEASE_S`, and what a last answer was under way."""

TOGETHER_S = 2.0
"""Nodes that are cut off together are missed within this time of each other."""


class ElsewhereWatch:
    """What the load machines do besides is not looked at."""

    def begin(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing is known."""


class ClusterProcesses(LoadProcesses):
    """Load processes on the nodes of a cluster. An attempt that loses a node is measured again on those that are left."""

    start_delay_ns = 1_000_000_000

    def __init__(self, cluster: Cluster, log_file: Path, silence_s: float = SILENCE_S) -> None:
        self._cluster = cluster
        self._killed = threading.Event()
        super().__init__(log_file, 0, 0, silence_s)

    def _open(self, log_file: Path) -> ClusterPipes:
        return ClusterPipes(self._cluster, log_file)

    def kill(self) -> None:  # noqa: D102
        self._killed.set()
        super().kill()

    def run(self, spec: AttemptSpec, on_progress: OnProgress) -> Finished:
        """As on one machine. What made a measurement void is kept in the facts of the one that counts.

        Raises LoadError if no node is left, or for what would fail on any.
        """
        self.voided = ()
        clock_moved = False
        while True:
            pipes = self._pipes
            try:
                finished = super().run(spec, on_progress)
            except NodeLost as lost:
                why = "" if self._killed.is_set() else self._go_on_without(lost)
                if self._killed.is_set():
                    raise
            else:
                moved = clocks_moved(finished.facts.nodes)
                if not moved or clock_moved:
                    return finished
                clock_moved, why = True, "; ".join(moved)
                set_aside(Path(spec.output_file))
            finally:
                pipes.finish()
            self.voided = (*self.voided, why)
            spec = spec.model_copy(update={"request_id_prefix": uuid.uuid4().hex[:12]})

    def calibrate(self, concurrencies: list[int]) -> list[dict]:
        """What the client adds on each node, which is named. Raises LoadError."""
        while True:
            try:
                found = self._pipes.ask_all("calibrate", concurrencies)
            except NodeLost as lost:
                self._go_on_without(lost)
            else:
                return [{"node": node.words, **one} for node, one in zip(self._pipes.nodes, found, strict=True)]

    def _go_on_without(self, lost: NodeLost) -> str:
        """Leave out what was lost; returns it in words."""
        reasons = {lost.node.about.node_id: str(lost)}
        if lost.node.fault is not None:  # it may still send, until its lease ends; others may be cut off with it
            self._killed.wait(max(TOGETHER_S, lost.node.heard_s + LEASE_END_S - time.monotonic()))
            reasons |= {node.about.node_id: node.loss for node in self._pipes.nodes if node.fault is not None}
        self._cluster.lost |= reasons
        why = "; ".join(reasons.values())
        self._pipes.note(f"{why}. Its work is done again on the nodes that are left.")
        self._pipes.close()
        self._pipes = self._open(self._pipes.log_file)
        return why

    # --- for the run of a load point ------------------------------------------------------------------------------

    @property
    def nodes(self) -> int:  # noqa: D102
        return len(self._pipes.nodes)

    def neighbours(self, index: int) -> Sequence[int]:  # noqa: D102
        return self._pipes.node_of(index).load_processes

    def get_ready(self, spec: AttemptSpec) -> None:  # noqa: D102
        self._pipes.begin(spec, spec.schedule_file.read_bytes() if spec.level.is_open else b"")

    def watch(self, spec: AttemptSpec) -> ElsewhereWatch:  # noqa: D102
        return ElsewhereWatch()

    def of_nodes(self, spec: AttemptSpec) -> list[NodeFacts]:  # noqa: D102
        return [
            NodeFacts(
                ip=node.about.ip,
                node_id=node.about.node_id,
                load_processes=list(node.load_processes),
                clock_before=node.clock,
                clock_after=self._pipes.clock_of(node),
                round_trip_ms=node.round_trip_ms,
            )
            for node in self._pipes.nodes
        ]

    def give_up(self, index: int, why: str, spec: AttemptSpec) -> LoadError:  # noqa: D102
        self._pipes.kill(index)
        node = self._pipes.node_of(index)
        return NodeLost(node, f"{self._pipes.name(index)}: {why}, and was killed; the node is not used any more")

    def _died(self, index: int, spec: AttemptSpec) -> LoadError:
        node = self._pipes.node_of(index)
        if node.fault is not None:
            return NodeLost(node, node.loss)
        code = self._pipes.exit_code(index)
        return NodeLost(node, f"{self._pipes.name(index)} ended with code {code}; the node is not used any more")
