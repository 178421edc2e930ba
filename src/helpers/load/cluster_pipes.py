"""The nodes of `load.cluster`, and what passes between them and here: commands, replies, and the index while it grows.

Every time of another machine is shifted here to the clock of this one.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import messages
from helpers.load.cluster import Cluster, lines_of
from helpers.load.cluster_records import shifted_rows, write_shifted
from helpers.load.load_processes import CONTINUE, where_of
from helpers.load.messages import AttemptSpec
from helpers.load.postprocessing import write
from helpers.prompts.tokenizers import tokenizer_file
from helpers.run.disk_errors import disk_fault
from helpers.run.records import ClockOffset, node_words
from local_sagemaker.tiny_model import default_cache_dir

if TYPE_CHECKING:
    import ray

    from helpers.load.cluster_node import About, Taken

CLOCK_TRIPS = 100
TAKE_S = 0.5
PLACEMENT_S, PLACEMENT_LOOK_S = 60.0, 2.0
ANSWER_S, TAKE_ANSWER_S = 60.0, 30.0
"""An actor that does not answer within this time is lost: in general, and when asked for what its processes say.

Ray finds out that a node's processes are gone at once, and that its network is cut after more than a minute.
"""
DATA_S = 600.0
END_S = 20.0
MOST_TOKENIZER_BYTES = 100_000_000
TOKENIZER_FILES = (".json", ".model", ".txt", ".jinja")


class NodeLost(LoadError):
    """A load machine that is no longer there, or whose load processes died: the attempt is void."""

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(why)
        self.node = node


@dataclass
class Node:
    """A load machine, as the coordinating one sees it."""

    actor: ray.actor.ActorHandle
    about: About
    load_processes: Sequence[int]
    """Their numbers among those of all nodes."""
    clock: ClockOffset | None = None
    """Before the attempt that runs."""
    round_trip_ms: float | None = None
    fault: str | None = None
    """Why it was lost."""
    heard_s: float = 0.0
    """When its actor last said what its processes do (`time.monotonic`)."""
    spec: AttemptSpec | None = None
    """The attempt that runs, with paths as on the node."""

    @property
    def words(self) -> str:
        """As messages name it."""
        return node_words(self.about.ip, self.about.node_id)

    @property
    def loss(self) -> str:
        """That it was lost, and why."""
        return f"load machine {self.words} was lost: {self.fault}"

    def here_ns(self, there_ns: int | None) -> int | None:
        """A time of the node on the clock of this machine; None stays None."""
        return None if there_ns is None else there_ns - self.clock.offset_ns

    def there_ns(self, here_ns: int | None) -> int | None:
        """The other way round."""
        return None if here_ns is None else here_ns + self.clock.offset_ns


class ClusterPipes:
    """What `ProcessPipes` is on one machine. Load process i is on node i modulo their number: the first few are on all alike."""

    def __init__(self, cluster: Cluster, log_file: Path) -> None:
        import ray

        self.log_file = log_file
        self.replies: queue.Queue[tuple[int, BaseModel | None]] = queue.Queue()
        self._ray, self._closing = ray, threading.Event()
        self._spec: AttemptSpec | None = None
        self._parts: dict[int, list[str]] = {}
        """Where the records go that each process has been asked for."""
        self._kept: dict[tuple[str, int, int], str] = {}
        cpus = cluster.settings.processes_per_node
        nodes = self._reserve(cluster, cpus)
        self.nodes: list[Node] = []
        try:
            self._place(nodes, cpus)
        except BaseException:
            self.close()
            raise
        for node in self.nodes:
            threading.Thread(target=self._follow, args=(node,), daemon=True).start()

    def _reserve(self, cluster: Cluster, cpus: int) -> int:
        """Reserve CPUs on as many nodes as there are to be; fewer, should Ray find meanwhile that one is gone."""
        from ray.util.placement_group import placement_group

        deadline = time.monotonic() + PLACEMENT_S
        nodes = 0
        while time.monotonic() < deadline:
            if nodes != (found := cluster.usable_nodes()):
                if nodes:
                    self._ray.util.remove_placement_group(self._group)
                nodes = found
                others = [{"ray.io/node-id": f"!in({','.join(cluster.lost)})"}] * nodes if cluster.lost else None
                bundles = [{"CPU": cpus}] * nodes
                self._group = placement_group(bundles, strategy="STRICT_SPREAD", bundle_label_selector=others)
            if self._group.wait(PLACEMENT_LOOK_S):
                return nodes
        self._ray.util.remove_placement_group(self._group)
        raise LoadError(
            f"load.cluster: {nodes} nodes with {cpus} free CPUs each were not to be had within {PLACEMENT_S:g} s: others "
            "use them (ray status shows it). Next: wait for them, or lower nodes or processes_per_node"
        )

    def _place(self, nodes: int, cpus: int) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        from helpers.load.cluster_node import GROUPS, LoadNode, code_digest

        kind = self._ray.remote(num_cpus=cpus, concurrency_groups=GROUPS)(LoadNode)
        actors = [
            kind.options(scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, i)).remote(cpus)
            for i in range(nodes)
        ]
        own = code_digest()
        for place, actor in enumerate(actors):
            try:
                about = self._ray.get(actor.about.remote(), timeout=ANSWER_S)
            except self._ray.exceptions.RayError as error:
                at = self._ray.util.placement_group_table(self._group)["bundles_to_node_id"].get(place)
                raise LoadError(
                    f"load.cluster: the load processes of a node (Ray node {at}) did not start: {lines_of(error)[-1]}. Expected "
                    "this program and its requirements on every node, with the Python that runs Ray there, and a network to "
                    f"it. Next: see docs/cluster.md, or leave the node out of the cluster, {CONTINUE}"
                ) from None
            if about.code != own:
                raise LoadError(
                    f"load.cluster: {node_words(about.ip, about.node_id)} has another version of this program, or of "
                    "Python. Expected the same on every node and here. Next: install it there again, and restart Ray on it"
                )
            self.nodes.append(Node(actor, about, range(place, nodes * cpus, nodes)))

    # --- as of ProcessPipes ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the processes and the actors, and keep their logs."""
        self._closing.set()
        endings = [(node, node.actor.end.remote()) for node in self.nodes if node.fault is None]
        for node, ending in endings:
            with suppress(self._ray.exceptions.RayError):
                self.note(f"--- {node.words}\n{self._ray.get(ending, timeout=END_S)}")
        for node in self.nodes:
            self._ray.kill(node.actor)
        with suppress(self._ray.exceptions.RayError):
            self._ray.util.remove_placement_group(self._group)

    @property
    def pids(self) -> list[int]:
        """Process ids, each on its node."""
        return [self.node_of(i).about.pids[self._on_node(i)] for i in range(sum(len(n.about.pids) for n in self.nodes))]

    def name(self, index: int) -> str:
        """A process, in messages."""
        return f"load process {index} (pid {self.pids[index]} on {self.node_of(index).words})"

    def send(self, index: int, message: BaseModel) -> None:
        """Send one message to one process, with times and paths as on its node. Records are joined here."""
        node = self.node_of(index)
        match message:
            case messages.Write():
                threading.Thread(target=self._write, args=(index, message), daemon=True).start()
                return
            case messages.Prepare():
                folder = message.spec.part_folder(message.load_process)
                folder.mkdir()
                (folder / "index.bin").touch()
                message = message.model_copy(update={"spec": node.spec})
            case messages.Go():
                message = messages.Go(start_ns=node.there_ns(message.start_ns))
            case messages.Close():
                message = messages.Close(close_ns=node.there_ns(message.close_ns))
            case messages.Parse():
                there = {"open_ns": node.there_ns(message.open_ns), "close_ns": node.there_ns(message.close_ns)}
                part_file = str(node.spec.spool / Path(message.part_file).name)
                self._parts[index].append(message.part_file)
                message = message.model_copy(update={"spec": node.spec, "part_file": part_file, **there})
        node.actor.send.remote(self._on_node(index), message)

    def kill(self, index: int) -> None:
        """Kill one process."""
        self.node_of(index).actor.kill.remote(self._on_node(index))

    def exit_code(self, index: int) -> int | str:
        """Of a process that has ended."""
        try:
            return self.ask(self.node_of(index), "exit_code", self._on_node(index))
        except NodeLost:
            return "unknown"

    def log_tail(self) -> str:
        """The logs are collected when the processes have ended."""
        return ""

    # --- nodes ----------------------------------------------------------------------------------------------------

    def node_of(self, index: int) -> Node:
        """The node of a load process."""
        return self.nodes[index % len(self.nodes)]

    def _on_node(self, index: int) -> int:
        return index // len(self.nodes)

    def ask(self, node: Node, method: str, *arguments: object) -> object:
        """What an actor answers. Raises NodeLost."""
        return self._answer(node, getattr(node.actor, method).remote(*arguments))

    def ask_all(self, method: str, *arguments: object) -> list:
        """What all actors answer, asked at once; data may take long to travel. Raises NodeLost."""
        calls = [getattr(node.actor, method).remote(*arguments) for node in self.nodes]
        return [self._answer(node, call, DATA_S) for node, call in zip(self.nodes, calls, strict=True)]

    def _answer(self, node: Node, call: ray.ObjectRef, timeout_s: float = ANSWER_S) -> object:
        try:
            return self._ray.get(call, timeout=timeout_s)
        except self._ray.exceptions.RayError as error:
            raise self.lost(node, error) from None

    def lost(self, node: Node, error: Exception) -> NodeLost:
        """Note that a node is lost; returns the error to raise."""
        is_ours = isinstance(error, self._ray.exceptions.RayTaskError)
        is_silent = isinstance(error, self._ray.exceptions.GetTimeoutError)
        why = f"for {TAKE_ANSWER_S:g} s or more, as if the network to it were cut" if is_silent else lines_of(error)[0]
        words = f"its actor failed: {error.cause}" if is_ours else f"its actor did not answer: {why}"
        node.fault = node.fault or words
        return NodeLost(node, node.loss)

    def begin(self, spec: AttemptSpec, schedule: bytes = b"") -> None:
        """Send the nodes what an attempt needs, and find out what their clocks show. Raises LoadError."""
        prompts = self._keep_on_nodes(Path(spec.prompts_file))
        certificates = spec.address.ca_file and self._keep_on_nodes(Path(spec.address.ca_file))
        tokenizer = self._keep_tokenizer(spec.tokenizer)
        for node in self.nodes:
            folder = Path(node.about.folder)
            node.spec = spec.model_copy(
                update={
                    "prompts_file": str(folder / prompts),
                    "output_file": str(folder / "requests" / Path(spec.output_file).name),
                    "address": spec.address.model_copy(
                        update={"ca_file": str(folder / certificates) if certificates else None}
                    ),
                    "tokenizer": spec.tokenizer if tokenizer is None else str(folder / tokenizer),
                }
            )
            self.ask(node, "begin", node.spec, schedule)
        self._find_round_trips(spec)
        for node in self.nodes:
            node.clock = self.clock_of(node)
        self._parts = {i: [] for i in range(len(self.pids))}
        self._spec = spec

    def finish(self) -> None:
        """Nothing more is taken of the attempt."""
        self._spec = None

    def clock_of(self, node: Node) -> ClockOffset:
        """How far a node's clock is ahead of this machine's."""
        trips = []
        for _ in range(CLOCK_TRIPS):
            sent_ns = time.monotonic_ns()
            there_ns = self.ask(node, "now_ns")
            back_ns = time.monotonic_ns()
            trips.append((back_ns - sent_ns, there_ns - (sent_ns + back_ns) // 2))
        length_ns, offset_ns = min(trips)
        return ClockOffset(offset_ns, length_ns // 2 + 1)

    def _find_round_trips(self, spec: AttemptSpec) -> None:
        at = urlsplit(spec.address.url)
        port = at.port or (443 if at.scheme == "https" else 80)
        found = self.ask_all("connect_ms", at.hostname, port)
        for node, taken in zip(self.nodes, found, strict=True):
            node.round_trip_ms = None if isinstance(taken, str) else taken
        cut_off = [(node, why) for node, why in zip(self.nodes, found, strict=True) if isinstance(why, str)]
        if 0 < len(cut_off) < len(self.nodes):  # a server that nobody reaches is the option's affair
            node, why = cut_off[0]
            raise LoadError(
                f"{where_of(spec)}: load machine {node.words} does not reach {at.hostname}:{port} ({why}), and others do. "
                "Finished load points are kept. Next: let it reach the endpoint (security group, route, name), or leave the "
                f"node out of the cluster, {CONTINUE}"
            )

    def _keep_tokenizer(self, name: str) -> str | None:
        """The folder of a tokenizer on the nodes; None where it is not on this machine, and each node looks for it."""
        file = tokenizer_file(name, default_cache_dir())
        if file is None or not file.is_file():
            return None
        files = [f for f in sorted(file.parent.iterdir()) if f.suffix in TOKENIZER_FILES and f.is_file()]
        if sum(f.stat().st_size for f in files) > MOST_TOKENIZER_BYTES:
            return None
        folder = f"files/{uuid.uuid5(uuid.NAMESPACE_URL, str(file)).hex}"
        for one in files:
            self._keep_on_nodes(one, f"{folder}/{one.name}")
        return folder

    def _keep_on_nodes(self, file: Path, name: str | None = None) -> str:
        """Send a file to each node, once; returns its path below a node's folder."""
        state = file.stat()
        key = str(file), state.st_mtime_ns, state.st_size
        if key not in self._kept:
            name = name or f"files/{uuid.uuid4().hex}{file.suffix}"
            data = self._ray.put(file.read_bytes())
            self.ask_all("keep", name, data)
            self._kept[key] = name
        return self._kept[key]

    # --- what comes back ------------------------------------------------------------------------------------------

    def _follow(self, node: Node) -> None:
        """Take what a node's processes say until it is lost, or all ends."""
        try:
            while not self._closing.is_set():
                taken = self._ray.get(node.actor.take.remote(TAKE_S), timeout=TAKE_ANSWER_S)
                node.heard_s = time.monotonic()
                self._receive(node, taken)
        except self._ray.exceptions.RayError as error:
            self.lost(node, error)
            self.replies.put((node.load_processes[0], None))
        except NodeLost:
            self.replies.put((node.load_processes[0], None))
        except OSError as error:
            fault = disk_fault(error, self.log_file if self._spec is None else self._spec.spool)
            self.replies.put((node.load_processes[0], messages.Failed(**fault._asdict())))

    def _receive(self, node: Node, taken: Taken) -> None:
        spec = self._spec
        for on_node, rows in taken.rows.items():
            if spec is not None:
                with (spec.part_folder(node.load_processes[on_node]) / "index.bin").open("ab") as index:
                    index.write(shifted_rows(rows, -node.clock.offset_ns))
        for on_node, reply in taken.replies:
            index = node.load_processes[on_node]
            match reply:
                case messages.SendingStatus():
                    times = {"oldest_t0_ns": node.here_ns(reply.oldest_t0_ns), "clear_ns": node.here_ns(reply.clear_ns)}
                    reply = reply.model_copy(update=times)
                case messages.Sent():
                    still = [(node.here_ns(start), node.here_ns(end)) for start, end in reply.standstills]
                    reply = reply.model_copy(update={"standstills": still})
                case messages.Parsed():
                    part_file = self._parts[index].pop(0)
                    there = str(node.spec.spool / Path(part_file).name)
                    records = self._answer(node, node.actor.records.remote(there), DATA_S)
                    write_shifted(records, -node.clock.offset_ns, part_file)
            self.replies.put((index, reply))

    def _write(self, index: int, message: messages.Write) -> None:
        try:
            self.replies.put((index, write(message, lambda: None)))
        except OSError as error:
            self.replies.put((index, messages.Failed(**disk_fault(error, message.output_file)._asdict())))

    def note(self, line: str) -> None:
        """Write to the log."""
        with suppress(OSError), self.log_file.open("a", encoding="utf-8", errors="replace") as log:
            log.write(line.rstrip("\n") + "\n")
