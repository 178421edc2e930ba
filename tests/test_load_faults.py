"""Faults that load generators are known for, each looked for in ours: against servers with a known schedule and log."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from load_orders import mean_in_flight, measure, order

from helpers.load.connection import RawExchange
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.spool import ClockPairs, ExchangeReader, Row, SpoolWriter
from helpers.load.team import LoadTeam
from helpers.load_config import LoadLevel, OpenLoop, Ramp, TraceReplay

EVENTS = 8


@pytest.fixture(scope="module")
def stub():
    with LoopbackStub() as stub:
        yield stub


@pytest.fixture(scope="module")
def moody_stub():
    script = Path(__file__).with_name("stub_server.py")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    with LoadTeam(tmp_path_factory.mktemp("load") / "load.log", processes=2) as team:
        yield team


def open_loop(folder, url, rate, load=None, **changes):
    known = {"min_requests": 100, "max_duration_s": 20, "request_timeout_s": 10, "repeat_prompts": True, "processes": 2}
    load = load or OpenLoop(kind="open_loop", rate=[rate], **{**known, **changes})
    return order(folder, url, load=load, level=LoadLevel("open_loop", rate), tokens=EVENTS)


def test_arrivals_of_several_load_processes_are_one_poisson_process(stub, team, tmp_path):
    stub.configure(ttft_s=0.02, itl_s=0.001, events=EVENTS)
    requests, facts = measure(team, open_loop(tmp_path, stub.chat_url, 200, min_requests=1000))
    assert requests["load_process"].value_counts().tolist() == pytest.approx([len(requests) / 2] * 2, abs=1)
    for arrivals in (facts.scheduled, facts.achieved):
        assert arrivals.rate == pytest.approx(200, rel=0.12)
        assert arrivals.gap_cv == pytest.approx(1, abs=0.12)
        assert arrivals.dispersion == pytest.approx(1, abs=0.5), "9.6 where every process draws the same gaps"
        assert abs(arrivals.autocorrelation) < 0.12
    assert facts.achieved.rate == pytest.approx(facts.scheduled.rate, rel=0.02)
    assert not requests["scheduled_ns"].duplicated().any()


def test_constant_arrivals_are_constant(stub, team, tmp_path):
    stub.configure(ttft_s=0.02, itl_s=0.001, events=EVENTS)
    requests, facts = measure(team, open_loop(tmp_path, stub.chat_url, 20, arrivals="constant", min_requests=60))
    assert facts.scheduled.gap_cv < 1e-6
    assert facts.achieved.rate == pytest.approx(20, rel=0.02)
    gaps = np.diff(np.sort(requests["sent_ns"].to_numpy(dtype="int64")))
    off = np.sort(np.abs(gaps / gaps.mean() - 1))
    assert off[: int(0.9 * len(off))].std() < 0.02, "but for moments in which the machine itself stood still"


def test_gamma_arrivals_have_the_stated_burstiness(stub, team, tmp_path):
    stub.configure()
    _, facts = measure(
        team, open_loop(tmp_path, stub.chat_url, 300, arrivals="gamma", burstiness=0.25, min_requests=1200)
    )
    assert facts.achieved.gap_cv == pytest.approx(2, rel=0.15), "1 / sqrt(burstiness)"


def test_a_stall_neither_thins_the_schedule_nor_hides_in_the_tail(stub, team, tmp_path):
    stub.configure(ttft_s=0.01, itl_s=0.001, events=EVENTS, stall_at_s=1.0, stall_s=2.0)
    load = {"arrivals": "constant", "min_duration_s": 5, "max_duration_s": 6, "min_requests": 200}
    requests, _ = measure(team, open_loop(tmp_path, stub.chat_url, 50, **load))
    assert set(requests["status"]) == {"ok"}
    scheduled = np.sort(requests["scheduled_ns"].to_numpy(dtype="int64"))
    assert np.diff(scheduled) == pytest.approx(np.full(len(scheduled) - 1, 2e7), abs=2), "no arrival was left out"
    assert (requests["sent_ns"] - requests["scheduled_ns"]).max() < 1e9, "requests go out while the server stalls"
    late = requests["latency_s"] > 0.5
    assert late.sum() == pytest.approx(75, abs=10), "all that came in the first 1.5 s of the stall waited 0.5 s or more"
    assert requests["latency_s"].max() == pytest.approx(2, abs=0.2)


def test_a_ramp_rises_and_claims_no_steady_state(stub, team, tmp_path):
    stub.configure()
    load = Ramp(kind="ramp", from_rate=10, to_rate=90, duration_s=4, arrivals="constant", repeat_prompts=True)
    an_order = order(tmp_path, stub.chat_url, load=load, level=load.levels()[0], tokens=EVENTS)
    requests, facts = measure(team, an_order)
    assert len(requests) == pytest.approx(200, abs=1)
    assert facts.steady is None
    at = np.sort(requests["scheduled_ns"].to_numpy(dtype="int64")) / 1e9
    half = (at < at[0] + 2).sum()
    assert half == pytest.approx(2 * (10 + 50) / 2, abs=4), "the integral of the rate over the first half"


def test_a_trace_is_replayed_at_its_times(stub, team, tmp_path):
    stub.configure()
    times = [5.0, 5.5, 5.5, 6.75, 5.2, 7.0]
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps({"timestamp": t}) + "\n" for t in times))
    load = TraceReplay(kind="trace", path="trace.jsonl", speed=[2.0])
    an_order = order(tmp_path, stub.chat_url, load=load, level=load.levels()[0], tokens=EVENTS)
    requests, _ = measure(team, an_order.model_copy(update={"base_dir": str(tmp_path)}))
    at = np.sort(requests["scheduled_ns"].to_numpy(dtype="int64")) / 1e9
    assert at - at[0] == pytest.approx([0, 0.1, 0.25, 0.25, 0.875, 1.0], abs=1e-6)
    assert (requests["sent_ns"] - requests["scheduled_ns"]).between(0, 50e6).all()
    assert (requests["phase"] == "steady").all()


def test_a_step_of_the_wall_clock_moves_no_result(tmp_path):
    clocks = ClockPairs()
    clocks.take()
    [(at, offset)] = clocks.pairs()
    hour = 3600 * 10**9
    pairs = [(at, offset), (at + 10**9, offset + hour)]
    writer = SpoolWriter(tmp_path)
    for number, (sent, step) in enumerate([(at + 10**6, 0), (at + 2 * 10**9, hour), (at + 9 * 10**8, hour)]):
        stamps = [sent + 50_000_000, sent + 60_000_000]
        reads = [(s + 300_000, timespec(s + offset + step), b"x") for s in stamps]
        exchange = RawExchange(sent_ns=sent, done_ns=stamps[-1] + 300_000, reads=reads, complete=True)
        writer.append(Row(number, 0, 0, 0, 0, 0, 0), exchange, stamps[0], True)
    writer.close()
    before, after, astride = ExchangeReader(tmp_path, pairs).exchanges(0, 3)
    for _, exchange, by_kernel in (before, after):
        assert by_kernel, "the kernel's stamps, converted with the offset of their time"
        assert [stamp - exchange.sent_ns for stamp, _ in exchange.reads] == [50_000_000, 60_000_000]
    _, exchange, by_kernel = astride
    assert not by_kernel, "the step came before the next clock pair: the stamp cannot be right, user space is taken"
    assert [stamp - exchange.sent_ns for stamp, _ in exchange.reads] == [50_300_000, 60_300_000]


def timespec(ns: int) -> bytes:
    return np.array(divmod(ns, 10**9), dtype="int64").tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has kernel receive stamps")
def test_the_kernel_stamps_what_a_busy_client_reads_late(stub, team, tmp_path):
    stub.configure(ttft_s=0.03, itl_s=0.002, events=EVENTS)
    requests, facts = measure(team, order(tmp_path, stub.chat_url, concurrency=[8], min_requests=100, tokens=EVENTS))
    assert facts.clock_source == "kernel"
    log = {served.request_id: served for served in stub.log()}
    late_ms = [(r.first_token_ns - log[r.request_id].first_ns) / 1e6 for r in requests.itertuples()]
    assert 0 < np.median(late_ms) < 1


@pytest.mark.parametrize("tls", [False, True])
def test_connections_are_made_before_and_told_apart(team, tmp_path, tls):
    with LoopbackStub(tls=tls) as stub:
        stub.configure(ttft_s=0.02, itl_s=0.001, events=EVENTS)
        address = {"ca_file": stub.ca_file}
        an_order = order(tmp_path, stub.chat_url, concurrency=[24], min_requests=200, address=address, tokens=EVENTS)
        requests, facts = measure(team, an_order.model_copy(update={"load": an_order.load}))
        connections = {served.connection for served in stub.log()}
    assert set(requests["status"]) == {"ok"}
    assert facts.connect_ms["n"] == 24
    assert requests["connect_ns"].isna().all(), "no request waited for a connection"
    assert len(connections) == 24
    assert (facts.tls_ms["n"] == 24 and facts.tls_ms["p50"] > 0.1) if tls else facts.tls_ms is None


def test_a_certificate_that_is_not_trusted_is_a_failure_not_a_success(team, tmp_path):
    with LoopbackStub(tls=True) as stub:
        requests, _ = measure(team, order(tmp_path, stub.chat_url, max_duration_s=0.5))
    assert set(requests["status"]) == {"connection"}
    assert requests["error"].str.contains("CERTIFICATE_VERIFY_FAILED").all()


def test_no_attempt_is_repeated_in_secret(moody_stub, team, tmp_path):
    requests, _ = measure(
        team, order(tmp_path, f"{moody_stub}/v1", "server_error", concurrency=[4], max_duration_s=0.5)
    )
    with urllib.request.urlopen(f"{moody_stub}/log", timeout=5) as answer:
        seen = json.load(answer)
    assert set(seen) == set(requests["request_id"])


def test_counting_tokens_is_outside_the_latency(moody_stub, team, tmp_path):
    an_order = order(tmp_path, f"{moody_stub}/v1", "long_text_without_usage", max_duration_s=0.3, prompts=30)
    requests, facts = measure(team, an_order)
    assert (requests["output_tokens_source"] == "tokenizer").all()
    assert requests["output_tokens"].min() > 10_000
    counting_s = sum(p.parse_cpu_s for p in facts.processes) / len(requests)
    assert requests["latency_s"].median() < counting_s / 2, "counting takes longer than the answer took"


def test_all_workers_stay_busy_and_start_with_different_prompts(stub, team, tmp_path):
    stub.configure(ttft_s=0.03, itl_s=0.002, events=EVENTS)
    requests, facts = measure(
        team,
        order(tmp_path, stub.chat_url, concurrency=[16], min_requests=150, prompts=400, processes=2, tokens=EVENTS),
    )
    assert 0.98 * 16 <= mean_in_flight(requests, facts) <= 16
    assert not requests["prompt_id"].duplicated().any()
    assert not facts.client_limited


def test_fewer_tokens_than_asked_is_a_status_of_its_own(stub, team, tmp_path):
    stub.configure(events=EVENTS)
    an_order = order(tmp_path, stub.chat_url, concurrency=[4], max_duration_s=0.3, repeat_prompts=True,
                     tokens=EVENTS + 4, fixed_output_length=True)  # fmt: skip
    requests, _ = measure(team, an_order)
    assert set(requests["status"]) == {"too_few_tokens"}
    assert requests["error"].str.contains("8 of 12").all()


def test_memory_does_not_grow_with_the_number_of_requests(stub, team, tmp_path):
    stub.configure()

    def peak(requests: int) -> float:
        an_order = order(
            tmp_path, stub.chat_url, concurrency=[16], min_requests=requests, repeat_prompts=True, processes=1
        )
        with LoadTeam(tmp_path / "load.log") as fresh:
            _, facts = measure(fresh, an_order)
        return facts.processes[0].peak_memory_mb

    assert peak(12_000) < peak(1_000) + 15
