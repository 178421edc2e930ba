"""Load from one node and from two of a Ray cluster on this machine, beside that of a load process without a cluster.

`make benchmark-cluster` prints the tables of `instrument.py`, whose words hold here too. Clients: `ours` (no cluster), `1 node`
and `2 nodes`, each with one load process; the clocks of the nodes are hours apart where the machine allows it.

* `rate`: two nodes should send twice what one does. Each load process has a CPU of its own and the server another where
  there are three CPUs; else all load processes share the first, and may use no more than a share of it each.
* `accuracy`: the error of TTFT and of latency against the server's log.
* `open_loop`: the arrivals of the nodes together, as the server saw them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from clients import EVENTS, measure_with
from instrument import ITL_S, TTFT_S, Case, Machine, empty_row, result_words, row_of, table, work_of
from servers import Stub

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from private_lan import may_have_networks
from ray_nodes import RayNodes, clocks_may_differ, ray_nodes

from helpers.config.cluster import ClusterSettings
from helpers.load.cluster import opened_cluster
from helpers.load.cluster_processes import ClusterProcesses
from helpers.load.load_processes import LoadProcesses

AHEAD_S = (36_000, 90_000)
SHARE = 0.4
"""Of a CPU, for each of the load processes that share one: two leave a fifth of it to what else runs there."""
PERIOD_US = 10_000
QUOTAS = Path("/sys/fs/cgroup")
NODES = {"ours": 0, "1 node": 1, "2 nodes": 2}


def cases() -> list[Case]:
    """All rows, the clients to be compared next to each other."""
    rate = Case("rate", "", "stub", 64, 4.0, writes="whole")
    accurate = Case("accuracy", "", "stub", 64, 6.0)
    arriving = Case("open_loop", "", "stub", None, 6.0, rate=2000.0, writes="whole")
    loads = [rate, accurate, replace(accurate, concurrency=256)]
    loads += [replace(arriving, arrivals=kind) for kind in ("constant", "poisson")]
    return [replace(load, client=client, processes=max(1, count)) for load in loads for client, count in NODES.items()]


@contextmanager
def placed(pids: list[int], cpus: list[int], share: float | None) -> Iterator[None]:
    """Processes on these CPUs in turn, with a share of it each at most (control groups of Linux, version 1 or 2)."""
    groups = []
    try:
        for number, pid in enumerate(pids):
            psutil.Process(pid).cpu_affinity([cpus[number % len(cpus)]])
            if share is not None:
                groups.append(quota(pid, share))
        yield
    finally:
        for group in groups:
            for pid in (group / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    (group.parent / "cgroup.procs").write_text(pid)
            group.rmdir()


def quota(pid: int, share: float) -> Path:
    """A control group in which a process may use so much of a CPU. OSError where that is not allowed."""
    is_first = (QUOTAS / "cpu").is_dir()
    group = (QUOTAS / "cpu" if is_first else QUOTAS) / f"benchmark-{pid}"
    group.mkdir()
    period, most = str(PERIOD_US), str(int(share * PERIOD_US))
    if is_first:
        (group / "cpu.cfs_period_us").write_text(period)
        (group / "cpu.cfs_quota_us").write_text(most)
    else:
        (group / "cpu.max").write_text(f"{most} {period}")
    (group / "cgroup.procs").write_text(str(pid))
    return group


@contextmanager
def opened(count: int, nodes: RayNodes, folder: Path) -> Iterator[LoadProcesses]:
    """One load process on each of so many nodes; 0: one that no cluster knows of."""
    if not count:
        with LoadProcesses(folder / "load.log") as processes:
            yield processes
        return
    settings = ClusterSettings(address=nodes.address, nodes=count)
    with opened_cluster(settings) as cluster, ClusterProcesses(cluster, folder / "load.log") as processes:
        yield processes


def measure(case: Case, server: Stub, nodes: RayNodes, machine: Machine, folder: Path) -> dict:
    """One row, as `instrument.measure` makes it."""
    cpus = sorted(os.sched_getaffinity(0))
    own = cpus[: max(1, min(2, len(cpus) - 1))]
    share = SHARE if case.mode == "rate" and len(own) < 2 else None
    count = NODES[case.client]
    work = work_of(case, server)
    server.set_schedule(0.0, 0.0, EVENTS, send_each=False)

    def begin() -> None:
        delays = (TTFT_S, ITL_S) if case.mode == "accuracy" else (0.0, 0.0)
        server.set_schedule(*delays, EVENTS, case.writes == "each")

    with opened(count, nodes, folder) as processes:
        running = [process.pid for node in range(len(AHEAD_S)) for process in nodes.load_processes(node)]
        pids = running or processes.pids
        with placed(pids, own, share):
            sample = measure_with(processes, pids, work, folder, server.pid, begin)
    return empty_row(case, machine) | row_of(case, sample, server.log())


def main() -> None:
    """All rows, on nodes that are started for them and ended."""
    cpus = sorted(os.sched_getaffinity(0))
    machine = replace(Machine.here(), words=f"{len(cpus)} CPUs")
    may_differ = clocks_may_differ()
    shares = len(cpus) < 3
    print(f"{len(cpus)} CPUs; " + ("load processes share one" if shares else "each load process has its own"), end="")
    print(f", {SHARE:.0%} of it each where rates are compared" if shares else "", end="")
    print("; clocks hours apart" if may_differ else "; one clock: time namespaces are not allowed here", end="")
    print("; a network each" if may_have_networks() else "; one network: namespaces of it are not allowed here")
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="cluster-") as name,
        ray_nodes(AHEAD_S if may_differ else (None, None), with_networks=may_have_networks()) as nodes,
    ):
        server = Stub(tls=False, cpu=cpus[-1], host=nodes.server)
        try:
            for case in cases():
                rows.append(measure(case, server, nodes, machine, Path(name)))
                print(f"{case.title}: {result_words(rows[-1])}", flush=True)
        finally:
            server.close()
    print(table(rows))
    one, two = (
        next(r["requests_per_s"] for r in rows if r["mode"] == "rate" and r["client"] == c)
        for c in ("1 node", "2 nodes")
    )
    print(f"\nTwo nodes send {two / one:.2f} times what one sends.")


if __name__ == "__main__":
    main()
