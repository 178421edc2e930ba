"""Load from several machines: nodes of a Ray cluster on this machine, whose CLOCK_MONOTONIC are hours apart.

Each has a network of its own where that is allowed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from attempt_specs import mean_in_flight, measure, moody_stub, server_log, spec_of
from conftest import small_config
from private_lan import may_have_networks
from ray_nodes import RayNodes, clocks_may_differ, ray_nodes

from helpers.config.cluster import ClusterSettings
from helpers.config.load import OpenLoop
from helpers.config.load_level import LoadLevel
from helpers.errors import LoadError
from helpers.load.cluster import opened_cluster
from helpers.load.cluster_processes import ClusterProcesses
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.schedule import arrival_facts
from helpers.run.records import read_attempt_facts, read_facts
from helpers.series.series import run_series

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timing]
"""`timing` for all, so that one process of pytest starts the nodes."""
AHEAD_S = (36_000, 90_000)
TWO_NODES = 2
PRICE = {"usd_per_hour": 0.102, "as_of": "2026-11-01"}


@pytest.fixture(scope="module")
def nodes():
    pytest.importorskip("ray", reason="Ray is not installed: make .venv/.setup-ray")
    if not clocks_may_differ():
        pytest.skip("time namespaces are not allowed here")
    with ray_nodes(AHEAD_S, with_networks=may_have_networks()) as nodes:
        yield nodes


@pytest.fixture
def processes(nodes, tmp_path):
    with opened_cluster(settings(nodes)) as cluster, ClusterProcesses(cluster, tmp_path / "load.log") as processes:
        yield processes


@pytest.fixture(scope="module")
def stub(nodes):
    with moody_stub(nodes.server) as url:
        yield url


def settings(cluster: RayNodes, **changes: object) -> ClusterSettings:
    return ClusterSettings(**{"address": cluster.address, "nodes": TWO_NODES, **changes})


def assert_clocks_are_known(facts, to_ns: int) -> None:
    """Is each offset what it was made to be, within what is said of it and within `to_ns`?"""
    for node in facts.nodes:
        true_ns = min((seconds * 10**9 for seconds in AHEAD_S), key=lambda ns: abs(ns - node.clock_before.offset_ns))
        for clock in (node.clock_before, node.clock_after):
            assert abs(clock.offset_ns - true_ns) <= min(clock.error_ns, to_ns)


@pytest.mark.parametrize("kind", ["closed_loop", "open_loop"])
def test_records_of_nodes_whose_clocks_are_hours_apart_are_on_one_clock(nodes, processes, stub, tmp_path, kind):
    """The server, whose clock is that of this machine, is the judge."""
    spec = spec_of(tmp_path, stub, concurrency=[5], min_requests=60)
    if kind == "open_loop":
        load = OpenLoop(kind=kind, rate=[60], arrivals="poisson", min_requests=100, max_duration_s=20)
        spec = spec_of(tmp_path, stub, load=load, level=LoadLevel(kind, 60))
    requests, facts = measure(processes, spec)
    assert [p.nice() for number in (0, 1) for p in nodes.load_processes(number)] == [0, 0], "Ray's workers have 15"
    log = server_log(stub)
    requests = requests[requests["request_id"].isin(log)]  # without any that timed out on a busy machine
    served = [log[request_id] for request_id in requests["request_id"]]
    assert_clocks_are_known(facts, to_ns=200_000)
    for node in facts.nodes:
        assert not node.clock_moved_ns and node.round_trip_ms < 100
        mine = requests["load_process"].isin(node.load_processes).to_numpy()
        late_ns = np.array([r - s["writes_ns"][1] for r, s in zip(requests["first_token_ns"], served, strict=True)])[
            mine
        ]
        under_way_ns = np.array([s["received_ns"] - r for r, s in zip(requests["sent_ns"], served, strict=True)])[mine]
        assert mine.any() and -200_000 < late_ns.min() < 1e6 and -200_000 < under_way_ns.min() < 1e6
        assert {s["client"] for s, is_mine in zip(served, mine, strict=True) if is_mine} == {node.ip}
    assert {node.ip for node in facts.nodes} == set(nodes.ips)
    assert {p.node for p in facts.processes} == {node.words for node in facts.nodes}
    assert facts.voided == [] and facts.steady, facts.steady_because
    inside = in_window(requests, facts)
    assert list(requests["phase"] == "steady") == list(inside), "nodes judge the window on their own clocks"
    error_ms = requests["ttft_s"] * 1e3 - [(s["writes_ns"][1] - s["received_ns"]) / 1e6 for s in served]
    assert 0 < np.median(error_ms) < 5 or kind == "open_loop", "there, TTFT counts from the time of the schedule"
    counts = Counter(requests["load_process"])
    opened, closed = facts.window_open_ns, facts.window_close_ns
    by_server = sum(max(0, min(one["writes_ns"][-1], closed) - max(one["received_ns"], opened)) for one in served) / (
        closed - opened
    )
    assert mean_in_flight(requests, facts) == pytest.approx(by_server, rel=0.05)
    if kind == "closed_loop":
        assert counts[0] > counts[1], "of 5 streams one node has 3"
        assert by_server == pytest.approx(5, rel=0.05)
    chunks = [
        np.diff(chunk) for chunk in pq.read_table(tmp_path / "requests" / "point.parquet")["chunk_ns"].to_pylist()
    ]
    assert all((gaps >= 0).all() for gaps in chunks) and np.median(np.concatenate(chunks)) < 50e6


def in_window(requests, facts):
    """Those that were to be sent in the steady window."""
    t0_ns = requests["scheduled_ns"].fillna(requests["sent_ns"])
    return t0_ns.between(facts.window_open_ns, facts.window_close_ns - 1)


def open_loop(folder, server: LoopbackStub, arrivals: str, rate: float):
    load = {"arrivals": arrivals, "max_duration_s": 3, "min_requests": 100_000, "repeat_prompts": True}
    load = OpenLoop(kind="open_loop", rate=[rate], **load)
    server.configure(events=4)
    return spec_of(folder, "", load=load, level=LoadLevel("open_loop", rate), address={"url": server.chat_url})


def test_nodes_share_one_schedule(nodes, processes, tmp_path):
    """Dealt out in turn, whatever the distribution: together they send what one machine would."""
    with LoopbackStub(host=nodes.server) as server:
        spec = open_loop(tmp_path, server, "poisson", 300)
        requests, facts = measure(processes, spec)
    requests = requests.sort_values("scheduled_ns")
    assert requests["load_process"].tolist() == [i % TWO_NODES for i in range(len(requests))]
    in_window = requests["scheduled_ns"][requests["scheduled_ns"] < facts.window_close_ns].to_numpy("int64")
    assert asdict(arrival_facts(in_window)) == pytest.approx(asdict(facts.scheduled))
    assert facts.scheduled.gap_cv == pytest.approx(1, abs=0.1)
    assert (requests["sent_ns"] >= requests["scheduled_ns"]).all()


@pytest.mark.parametrize(("arrivals", "rate", "cv"), [("constant", 100, 0.0), ("poisson", 2000, 1.0)])
def test_arrivals_of_two_nodes_are_those_of_one_schedule(nodes, processes, tmp_path, arrivals, rate, cv):
    """Also as the server saw them."""
    with LoopbackStub(host=nodes.server) as server:
        requests, facts = measure(processes, open_loop(tmp_path, server, arrivals, rate))
        received_ns = np.array(sorted(one.arrival_ns for one in server.log()))
    assert len(received_ns) == len(requests)
    seen, asked = arrival_facts(received_ns), facts.scheduled
    assert asked.gap_cv == pytest.approx(cv, abs=0.05)
    lag_ms = (received_ns - np.sort(requests["scheduled_ns"])) / 1e6
    assert lag_ms.min() > -0.2, "on the server's clock"
    assert seen.rate == pytest.approx(facts.achieved.rate, rel=0.02)
    if not facts.client_limited:  # as on a machine that others keep busy
        assert np.median(lag_ms) < 5 and seen.gap_cv == pytest.approx(cv, abs=0.25)
        assert seen.rate == pytest.approx(asked.rate, rel=0.02)
        assert seen.gap_cv == pytest.approx(facts.achieved.gap_cv, abs=0.1)


class KillOnce:
    """Kills when load is under way, once."""

    def __init__(self, kill) -> None:
        self._kill, self.is_done = kill, False

    def __call__(self, progress) -> None:
        if progress.done > 20 and not self.is_done:
            self.is_done = True
            self._kill()


def begun_again(processes, spec, kill) -> tuple:
    """(requests, facts) of an attempt in whose middle something is killed."""
    watch = KillOnce(kill)
    processes.run(spec, watch)
    assert watch.is_done
    path = Path(spec.output_file)
    return pq.read_table(path).to_pandas(), read_attempt_facts(path)


@pytest.mark.parametrize("victim", ["its load process", "its actor"])
def test_a_node_that_dies_in_mid_load_is_left_out(nodes, processes, stub, tmp_path, victim):
    finished = spec_of(tmp_path, stub, concurrency=[4], min_requests=24)
    measure(processes, finished)
    intact = Path(finished.output_file).rename(tmp_path / "finished.parquet").read_bytes()
    words = "helpers.load " if victim == "its load process" else "ray::LoadNode"

    spec = spec_of(tmp_path, stub, concurrency=[4], min_requests=100)
    requests, facts = begun_again(processes, spec, lambda: [p.kill() for p in nodes.processes(1, words)])

    [left], [why] = facts.nodes, facts.voided
    assert left.node_id not in why and "Ray node" in why and ("code -9" in why or "was lost" in why)
    assert set(requests["load_process"]) == {0} and facts.steady
    assert mean_in_flight(requests, facts) == pytest.approx(4, rel=0.05)
    assert set(requests["request_id"]) <= set(server_log(stub)), "only what was measured again"
    assert (tmp_path / "finished.parquet").read_bytes() == intact
    assert why in (tmp_path / "load.log").read_text()


def test_one_node_that_stood_still_makes_the_load_point_the_clients(nodes, processes, stub, tmp_path):
    """Again and again: a window is found that leaves a single standstill out."""
    stopping = []

    def stop_again_and_again() -> None:
        [process] = nodes.load_processes(1)
        loop = f"for _ in $(seq 40); do kill -STOP {process.pid}; sleep 0.3; kill -CONT {process.pid}; sleep 0.3; done"
        stopping.extend([subprocess.Popen(["sh", "-c", loop]), process])

    spec = spec_of(tmp_path, stub, concurrency=[4], min_requests=200, warmup_requests=1)
    try:
        _, facts = begun_again(processes, spec, stop_again_and_again)
    finally:
        stopping[0].kill()
        stopping[0].wait()
        stopping[1].resume()
    names = [node.words for node in facts.nodes]
    limits = [why for why in facts.client_limited if "did not run for" in why]
    assert len(limits) == 1 and sum(name in limits[0] for name in names) == 1


def test_a_clock_that_moves_makes_the_load_point_void(nodes, stub, tmp_path):
    """The third node's clock gains 2 ms per second."""
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "sitecustomize.py").write_text(
        "import time\nreal = time.monotonic_ns\nbegan = real()\n"
        "time.monotonic_ns = lambda: real() + (real() - began) // 500\n"
    )
    path = f"{tmp_path / 'drift'}:{Path(__file__).parents[2] / 'src'}"
    drifting = nodes.add(AHEAD_S[0], cpus=3, variables={"PYTHONPATH": path})
    only_this = settings(nodes, nodes=1, processes_per_node=3)
    with opened_cluster(only_this) as cluster, ClusterProcesses(cluster, tmp_path / "load.log") as processes:
        _, facts = measure(processes, spec_of(tmp_path, stub, concurrency=[3], min_requests=60))
    nodes.kill(drifting)
    [why] = facts.voided
    assert f"the clock of {facts.nodes[0].words} moved by" in why
    assert any("moved by" in limit for limit in facts.client_limited), "measured again once, and void again"
    assert len(list((tmp_path / "requests" / "set_aside").iterdir())) == 1


def test_a_node_that_does_not_reach_the_endpoint_is_named(nodes, stub, tmp_path):
    """Each machine has names of its own; only that of the third node knows the server's."""
    (tmp_path / "hosts").write_text(Path("/etc/hosts").read_text() + f"{nodes.server} model.test\n")
    knows = nodes.add(hosts=tmp_path / "hosts")
    url = stub.replace(nodes.server, "model.test")
    said = r"load machine .* does not reach model.test:\d+ \(.*\), and others do.*Next: "
    with (
        opened_cluster(settings(nodes, nodes=3)) as cluster,
        ClusterProcesses(cluster, tmp_path / "load.log") as processes,
        pytest.raises(LoadError, match=said),
    ):
        processes.run(spec_of(tmp_path, url, concurrency=[7]), on_progress=lambda progress: None)
    assert not list((tmp_path / "requests").iterdir()), "nothing half done is left"
    nodes.kill(knows)


def test_a_node_with_another_version_of_the_program_is_named(nodes, tmp_path):
    source = Path(__file__).parents[2] / "src"
    shutil.copytree(source, tmp_path / "src")
    with (tmp_path / "src" / "helpers" / "load" / "sender.py").open("a") as file:
        file.write("# changed\n")
    other = nodes.add(cpus=5, variables={"PYTHONPATH": str(tmp_path / "src")})
    only_this = settings(nodes, nodes=1, processes_per_node=5)
    with (
        opened_cluster(only_this) as cluster,
        pytest.raises(LoadError, match=r"has another version .*Next: install it"),
    ):
        ClusterProcesses(cluster, tmp_path / "load.log")
    nodes.kill(other)


def test_a_machine_that_is_no_node_may_command(nodes, stub, tmp_path):
    """Through Ray's client port, by which round trips are longer."""
    through_port = settings(nodes, address=nodes.client_address)
    try:
        with opened_cluster(through_port) as cluster, ClusterProcesses(cluster, tmp_path / "load.log") as processes:
            requests, facts = measure(processes, spec_of(tmp_path, stub, concurrency=[5], min_requests=60))
    except LoadError as error:
        if "Initialization failure from server" not in str(error):
            raise
        pytest.skip(f"Ray's server for clients did not start within Ray's 30 s: {error}")
    assert {round(node.clock_before.offset_ns / 1e9) for node in facts.nodes} == set(AHEAD_S)
    for node in facts.nodes:
        off_ns = abs(node.clock_before.offset_ns - round(node.clock_before.offset_ns, -9))
        assert off_ns <= node.clock_before.error_ns < 10e6
    assert mean_in_flight(requests, facts) == pytest.approx(5, rel=0.03)


def test_a_run_is_measured_and_reported_by_node(nodes, stub, tmp_path):
    """By the whole series."""
    option = {"name": "mine", "target": "openai", "base_url": stub, "served_model": "any", "price": PRICE}
    load = {"concurrency": [4], "min_requests": 24, "warmup_requests": 1, "cluster": settings(nodes).model_dump()}
    one = {"name": "short", "prompt_tokens": [60, 120], "count": 200}
    path = small_config(tmp_path, options=[option], load={"kind": "closed_loop", **load}, datasets=[one])
    run = run_series(str(path), say=lambda line: None)
    [facts] = read_facts(run.requests)
    calibrated = json.loads(run.instrument_file.read_text())["nodes"]
    assert {one["node"] for one in calibrated} == {node.words for node in facts.nodes}
    page = (run.path / "report.html").read_text()
    assert all(node.node_id in page for node in facts.nodes)
    assert "2 load machines sent the load" in page
    assert len(facts.nodes) == TWO_NODES


def test_a_node_whose_raylet_is_killed_is_left_out_for_the_rest_of_the_run(nodes, stub, tmp_path):
    with opened_cluster(settings(nodes)) as cluster:
        with ClusterProcesses(cluster, tmp_path / "load.log") as processes:
            before = spec_of(tmp_path, stub, concurrency=[4], min_requests=24)
            _, facts = measure(processes, before)
            doomed = next(n for n in facts.nodes if abs(n.clock_before.offset_ns - AHEAD_S[1] * 10**9) < 10**9)
            spec = spec_of(tmp_path, stub, concurrency=[4], min_requests=100)
            requests, facts = begun_again(processes, spec, lambda: nodes.processes(1, "raylet/raylet")[0].kill())
            assert doomed.words in facts.voided[0] and doomed.node_id not in {node.node_id for node in facts.nodes}
            assert facts.nodes and facts.steady and mean_in_flight(requests, facts) == pytest.approx(4, rel=0.05)
        with ClusterProcesses(cluster, tmp_path / "load.log") as processes:
            _, facts = measure(processes, before)
    assert doomed.node_id not in {node.node_id for node in facts.nodes} and facts.voided == []


def test_nodes_whose_network_is_cut_in_mid_load_send_nothing_more(nodes, tmp_path):
    """The network of one, and of another only to this machine: it still reaches the endpoint, which is measured again."""
    if nodes.lan is None:
        pytest.skip("network namespaces are not allowed here")
    with (
        ray_nodes((*AHEAD_S, None), with_networks=True) as cut,
        moody_stub(cut.server) as stub,
        opened_cluster(settings(cut, nodes=3)) as cluster,
    ):
        with ClusterProcesses(cluster, tmp_path / "load.log") as processes:
            finished = spec_of(tmp_path, stub, concurrency=[6], min_requests=24)
            measure(processes, finished)
            intact = Path(finished.output_file).rename(tmp_path / "finished.parquet").read_bytes()

            def cut_two() -> None:
                cut.cut(1)
                cut.cut(2, only_from=cut.lan.here)

            spec = spec_of(tmp_path, stub, concurrency=[6], min_requests=100, max_duration_s=90, repeat_prompts=True)
            requests, facts = begun_again(processes, spec, cut_two)
        [left], [why] = facts.nodes, facts.voided
        assert left.ip == cut.ips[0] and left.node_id not in why and "the network to it" in why
        assert all(f"{ip} (Ray node" in why for ip in cut.ips[1:]) and why in (tmp_path / "load.log").read_text()
        assert facts.steady and mean_in_flight(requests, facts) == pytest.approx(6, rel=0.05)
        assert (tmp_path / "finished.parquet").read_bytes() == intact
        others = [one["received_ns"] for one in server_log(stub).values() if one["client"] == cut.ips[2]]
        assert max(others) < requests["sent_ns"].min(), "until its lease ends it sends, unheard"
        assert [words for node in (1, 2) for p in cut.processes(node, "load") if (words := " ".join(p.cmdline()))] == []
        with ClusterProcesses(cluster, tmp_path / "load.log") as processes:
            _, facts = measure(processes, finished)
        assert facts.voided == [] and [node.ip for node in facts.nodes] == [left.ip]


def test_a_clock_behind_a_slow_network_is_only_known_to_half_the_round_trip(nodes, tmp_path):
    """What a node is sent takes 16 ms, what it sends none: its offset is wrong by half of that, and who cannot know says so."""
    if nodes.lan is None:
        pytest.skip("network namespaces are not allowed here")
    slow = nodes.add(AHEAD_S[0], cpus=7, delays_s=(0.016, 0.0))
    only_this = settings(nodes, nodes=1, processes_per_node=7)
    with (
        moody_stub(nodes.server) as stub,
        opened_cluster(only_this) as cluster,
        ClusterProcesses(cluster, tmp_path / "load.log") as processes,
    ):
        _, closed = measure(processes, spec_of(tmp_path, stub, concurrency=[7], min_requests=60))
        load = OpenLoop(kind="open_loop", rate=[60], arrivals="poisson", min_requests=100, max_duration_s=20)
        _, opened = measure(processes, spec_of(tmp_path, stub, load=load, level=LoadLevel("open_loop", 60)))
    nodes.kill(slow)
    for facts in (closed, opened):
        [node] = facts.nodes
        assert_clocks_are_known(facts, to_ns=50_000_000)
        assert node.clock_before.error_ns > 8_000_000 and node.round_trip_ms > 16
        assert abs(node.clock_before.offset_ns - AHEAD_S[0] * 10**9) > 4_000_000
        limits = [why for why in facts.client_limited if f"the clock of {node.words} is known to" in why]
        assert bool(limits) == (facts is opened), (
            "8 ms of a window of seconds are nothing, of the time of an arrival much"
        )


def test_nothing_is_left_on_a_node(nodes):
    """Neither processes nor what they wrote, other than of a node that was killed."""
    left = [p for number in (0, 1) for p in nodes.load_processes(number)]
    assert left == []
    from helpers.load.cluster_node import FOLDER_PREFIX

    assert len(list(Path("/tmp").glob(f"{FOLDER_PREFIX}*"))) <= 3  # of the actors that were killed


def test_more_nodes_than_there_are_are_refused_at_once(nodes, tmp_path):
    wants_nine = settings(nodes, nodes=9)
    with opened_cluster(wants_nine) as cluster, pytest.raises(LoadError, match=r"bad value nodes: 9: .*Next: "):
        ClusterProcesses(cluster, tmp_path / "load.log")


def test_a_cluster_that_is_not_there_is_named():
    pytest.importorskip("ray")
    nowhere = ClusterSettings(address="127.0.0.1:9", nodes=1)
    with (
        pytest.raises(LoadError, match=r"load.cluster.address '127.0.0.1:9': no Ray cluster .*Next: "),
        opened_cluster(nowhere),
    ):
        pass


def test_without_a_cluster_ray_is_neither_imported_nor_needed():
    code = """
import sys
sys.modules["ray"] = None  # as if it were not installed
from helpers.config.cluster import ClusterSettings
from helpers.endpoints import loading
from helpers.load.cluster import opened_cluster
with opened_cluster(None) as cluster:
    assert cluster is None
try:
    with opened_cluster(ClusterSettings(nodes=2)):
        pass
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (
        said.startswith("LoadError load.cluster: Ray is not installed here") and "Next: make .venv/.setup-ray" in said
    )
