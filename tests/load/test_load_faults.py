"""Faults that load generators are known for, each looked for in ours: against servers with a known schedule and log."""

from __future__ import annotations

import socketserver
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from attempt_specs import mean_in_flight, measure, moody_stub, spec_of

from helpers.config.load import OpenLoop, Ramp
from helpers.config.load_level import LoadLevel
from helpers.load.connection import RawExchange
from helpers.load.findings import Ended, facts_of
from helpers.load.load_processes import LoadProcesses
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.messages import Parsed, Ready, Sent
from helpers.load.schedule import arrival_facts
from helpers.load.spool import ClockPairs, ExchangeReader, Row, SpoolWriter
from helpers.load.window import Window
from helpers.run.records import OVERLOAD, AttemptFacts

pytestmark = pytest.mark.slow

EVENTS = 8


@pytest.fixture(scope="module")
def stub():
    with LoopbackStub() as stub:
        yield stub


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log", processes=2) as processes:
        yield processes


def open_loop(folder, url, rate, load=None, **changes):
    known = {"min_requests": 100, "max_duration_s": 20, "request_timeout_s": 10, "repeat_prompts": True, "processes": 2}
    load = load or OpenLoop(kind="open_loop", rate=[rate], **{**known, **changes})
    return spec_of(folder, url, load=load, level=LoadLevel("open_loop", rate), tokens=EVENTS)


def arrivals_of(requests: pd.DataFrame, facts: AttemptFacts) -> pd.DataFrame:
    """`due` and `sent`, ns, of the requests up to the close of the window, in the order in which they were due.

    When they were sent says how they were spread over the load processes. When they were due does not depend on
    moments in which the machine stood still; that they were sent then, is seen from most of them.
    """
    until = requests[requests["scheduled_ns"] < facts.window_close_ns].sort_values("scheduled_ns")
    due, sent = (until[column].to_numpy(dtype="int64") for column in ("scheduled_ns", "sent_ns"))
    assert facts.achieved == arrival_facts(sent)
    assert facts.scheduled.rate == pytest.approx(arrival_facts(due).rate, rel=1e-6), "nothing left out, nothing added"
    assert (sent >= due).all()
    assert np.median(sent - due) < 2e7
    return pd.DataFrame({"due": due, "sent": sent, "load_process": until["load_process"].to_numpy()})


@pytest.mark.timing
def test_arrivals_of_several_load_processes_are_one_poisson_process(stub, processes, tmp_path):
    stub.configure(ttft_s=0.02, itl_s=0.001, events=EVENTS)
    requests, facts = measure(processes, open_loop(tmp_path, stub.chat_url, 200, min_requests=700))
    arrivals = arrivals_of(requests, facts)
    assert (arrivals["load_process"] == np.arange(len(arrivals)) % 2).all(), "turn by turn, so each has half of them"
    for due in (facts.scheduled, arrival_facts(arrivals["due"].to_numpy())):
        assert due.rate == pytest.approx(200, rel=0.12)
        assert due.gap_cv == pytest.approx(1, abs=0.12)
        assert due.dispersion == pytest.approx(1, abs=0.5), "9.6 where every process draws the same gaps"
        assert abs(due.autocorrelation) < 0.12
    assert facts.achieved.rate == pytest.approx(facts.scheduled.rate, rel=0.1)
    assert not arrivals["due"].duplicated().any()


@pytest.mark.timing
def test_constant_arrivals_are_constant(stub, processes, tmp_path):
    stub.configure(ttft_s=0.02, itl_s=0.001, events=EVENTS)
    requests, facts = measure(processes, open_loop(tmp_path, stub.chat_url, 20, arrivals="constant", min_requests=60))
    arrivals = arrivals_of(requests, facts)
    assert np.diff(arrivals["due"]) == pytest.approx(np.full(len(arrivals) - 1, 5e7), abs=2)
    assert facts.scheduled.gap_cv < 1e-6
    assert facts.achieved.rate == pytest.approx(20, rel=0.1)
    gaps = np.diff(arrivals["sent"])
    assert np.median(np.abs(gaps - 5e7)) < 1e7, "the gaps of Poisson arrivals are off by half their mean"
    late = (arrivals["sent"] - arrivals["due"])[-15:]
    assert late.min() < 5e6, "who waits for a gap after each send, instead of for a time, is later and later"


@pytest.mark.timing
def test_a_stall_neither_thins_the_schedule_nor_hides_in_the_tail(stub, processes, tmp_path):
    stub.configure(ttft_s=0.01, itl_s=0.001, events=EVENTS, stall_at_s=1.0, stall_s=2.0)
    load = {"arrivals": "constant", "min_duration_s": 5, "max_duration_s": 6, "min_requests": 200}
    requests, _ = measure(processes, open_loop(tmp_path, stub.chat_url, 50, **load))
    assert set(requests["status"]) == {"ok"}
    scheduled = np.sort(requests["scheduled_ns"].to_numpy(dtype="int64"))
    assert np.diff(scheduled) == pytest.approx(np.full(len(scheduled) - 1, 2e7), abs=2), "no arrival was left out"
    assert (requests["sent_ns"] - requests["scheduled_ns"]).max() < 1e9, "requests go out while the server stalls"
    late = requests["latency_s"] > 0.5
    assert late.sum() == pytest.approx(75, abs=15), "all that came in the first 1.5 s of the stall waited 0.5 s or more"
    assert 1.9 < requests["latency_s"].max() < 2.5


@pytest.mark.timing
def test_an_overloaded_server_gets_nothing_more(stub, processes, tmp_path):
    stub.configure(ttft_s=0.093, itl_s=0.001, events=EVENTS, workers=8)
    requests, facts = measure(processes, open_loop(tmp_path, stub.chat_url, 240, arrivals="constant", min_requests=50))
    assert facts.ended_because == OVERLOAD
    assert facts.steady is False
    assert set(requests["status"]) == {"ok"}, "what was sent is answered, 80 a second"
    assert requests["latency_s"].max() > 2
    assert (requests["scheduled_ns"].max() - facts.window_close_ns) / 1e9 < 1, "not until the whole window is answered"


def test_a_ramp_rises_and_claims_no_steady_state(stub, processes, tmp_path):
    stub.configure()
    load = Ramp(kind="ramp", from_rate=10, to_rate=90, duration_s=4, arrivals="constant", repeat_prompts=True)
    spec = spec_of(tmp_path, stub.chat_url, load=load, level=load.levels()[0], tokens=EVENTS)
    requests, facts = measure(processes, spec)
    assert len(requests) == pytest.approx(200, abs=1)
    assert facts.steady is None
    at = np.sort(requests["scheduled_ns"].to_numpy(dtype="int64")) / 1e9
    half = (at < at[0] + 2).sum()
    assert half == pytest.approx(2 * (10 + 50) / 2, abs=4), "the integral of the rate over the first half"


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


@pytest.mark.timing
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has kernel receive stamps")
def test_the_kernel_stamps_what_a_busy_client_reads_late(stub, processes, tmp_path):
    stub.configure(ttft_s=0.03, itl_s=0.002, events=EVENTS)
    requests, facts = measure(
        processes, spec_of(tmp_path, stub.chat_url, concurrency=[8], min_requests=100, tokens=EVENTS)
    )
    assert facts.clock_source != "user"
    assert (requests["clock_source"] == "kernel").mean() > 0.9
    log = {served.request_id: served for served in stub.log()}
    late_ms = [(r.first_token_ns - log[r.request_id].first_ns) / 1e6 for r in requests.itertuples()]
    assert 0 < np.median(late_ms) < 1


@pytest.mark.parametrize("tls", [False, True])
def test_connections_are_made_before_and_told_apart(processes, tmp_path, tls):
    with LoopbackStub(tls=tls) as stub:
        stub.configure(ttft_s=0.02, itl_s=0.001, events=EVENTS)
        address = {"ca_file": stub.ca_file}
        spec = spec_of(tmp_path, stub.chat_url, concurrency=[24], min_requests=200, address=address, tokens=EVENTS)
        requests, facts = measure(processes, spec.model_copy(update={"load": spec.load}))
        connections = {served.connection for served in stub.log()}
    assert set(requests["status"]) == {"ok"}
    assert facts.connect_ms["n"] == 24
    assert requests["connect_ns"].isna().all(), "no request waited for a connection"
    assert len(connections) == 24
    assert (facts.tls_ms["n"] == 24 and facts.tls_ms["p50"] > 0.1) if tls else facts.tls_ms is None


def test_a_certificate_that_is_not_trusted_is_a_failure_not_a_success(processes, tmp_path):
    with LoopbackStub(tls=True) as stub:
        requests, _ = measure(processes, spec_of(tmp_path, stub.chat_url, max_duration_s=1))
    assert set(requests["status"]) == {"connection"}
    assert requests["error"].str.contains("CERTIFICATE_VERIFY_FAILED").all()


class Refusing(socketserver.ThreadingTCPServer):
    """Takes requests, counts them, and fails each: with an answer, or by closing the connection."""

    daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.answer, self.seen = answer, 0
        self.lock = threading.Lock()

    def finish_request(self, request, client_address) -> None:
        received = b""
        while data := request.recv(65536):
            received += data
            head, _, body = received.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length and len(body) >= int(length[0].split(b":")[1]):
                received = b""
                with self.lock:
                    self.seen += 1
                if not self.answer:
                    return
                request.sendall(self.answer)


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n"


@pytest.mark.parametrize(("answer", "status"), [(BUSY, "throttled"), (b"", "connection")], ids=["busy", "closed"])
def test_no_attempt_is_repeated_in_secret(processes, tmp_path, answer, status):
    with Refusing(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1/chat/completions"
        requests, _ = measure(processes, spec_of(tmp_path, url, concurrency=[4], max_duration_s=0.5))
        server.shutdown()
    assert set(requests["status"]) == {status}
    assert len(requests) == server.seen


def test_counting_tokens_is_outside_the_latency(processes, tmp_path):
    with moody_stub() as url:
        requests, facts = measure(
            processes, spec_of(tmp_path, url, "long_text_without_usage", max_duration_s=0.3, prompts=30)
        )
    assert (requests["output_tokens_source"] == "tokenizer").all()
    assert requests["output_tokens"].min() > 10_000
    counting_s = sum(p.parse_cpu_s for p in facts.processes) / len(requests)
    assert requests["latency_s"].min() < 0.8 * counting_s, "counting takes longer than the answer took"


@pytest.mark.timing
def test_all_workers_stay_busy_and_start_with_different_prompts(stub, processes, tmp_path):
    stub.configure(ttft_s=0.093, itl_s=0.001, events=EVENTS, workers=4)
    spec = spec_of(tmp_path, stub.chat_url, concurrency=[16], min_requests=100, prompts=400, processes=2, tokens=EVENTS)
    requests, facts = measure(processes, spec)
    assert 0.95 * 16 <= mean_in_flight(requests, facts) <= 16, "10 in volleys, which wait for their last answer"
    assert not requests["prompt_id"].duplicated().any()
    assert not facts.client_limited


def test_fewer_tokens_than_asked_is_a_status_of_its_own(stub, processes, tmp_path):
    stub.configure(events=EVENTS)
    spec = spec_of(tmp_path, stub.chat_url, concurrency=[4], max_duration_s=0.3, repeat_prompts=True,
                     tokens=EVENTS + 4, fixed_output_length=True)  # fmt: skip
    requests, _ = measure(processes, spec)
    assert set(requests["status"]) == {"too_few_tokens"}
    assert requests["error"].str.contains("8 of 12").all()


def test_memory_does_not_grow_with_the_number_of_requests(stub, processes, tmp_path):
    stub.configure()

    def peak(requests: int) -> float:
        spec = spec_of(
            tmp_path, stub.chat_url, concurrency=[16], min_requests=requests, repeat_prompts=True, processes=1
        )
        with LoadProcesses(tmp_path / "load.log") as fresh:
            _, facts = measure(fresh, spec)
        return facts.processes[0].peak_memory_mb

    assert peak(6_000) < peak(1_000) + 8, "1.6 kB a request"


# --- what a load point says of its client ---------------------------------------------------------------------------


def facts_told(folder, level, rows, cpu_s=1.0, lag_p99_ms=0.1, by_kernel=True):
    """The facts of a load point of 10 s whose requests are these rows of (due, idle since, sent, done), s; 0: not so."""
    load = OpenLoop(kind="open_loop", rate=[level.value]) if level.is_open else None
    spec = spec_of(folder, "http://localhost", load=load, level=level, concurrency=[int(level.value)])
    writer = SpoolWriter(spec.part_folder(0))
    for number, row in enumerate(rows):
        due, idle_since, sent, done = (round(seconds * 1e9) for seconds in row)
        exchange = RawExchange(sent_ns=sent, done_ns=done, complete=True)
        writer.append(Row(number, number, 0, due, idle_since, 0, 0), exchange, done, True)
    writer.close()
    lag = {"p50": 0.0, "p99": lag_p99_ms, "max": 9.0}
    ended = Ended(
        spec=spec,
        start_ns=0,
        schedule_ns=np.array([round(due * 1e9) for due, *_ in rows]),
        window=Window(10**9, len(rows), 10.0, True, "", False, True),
        close_ns=11 * 10**9,
        ended_because="enough requests",
        ready={0: Ready(connect_ns=[], tls_ns=[])},
        sent={0: Sent(requests=len(rows), ended=False, cpu_s=cpu_s, wall_s=10.0, loop_lag_ms=lag, peak_memory_mb=9,
                      clock_pairs=[])},
        pids={0: 1},
        clock_pairs=[],
    )  # fmt: skip
    parsed = Parsed(requests=len(rows), failed=0, answered=len(rows), stamped_by_kernel=len(rows) * by_kernel, cpu_s=0)
    return facts_of(ended, {0: [parsed]})


def closed(pause_s):
    """Answers of 0.2 s, one after the other, with a pause between them."""
    starts = 1 + np.arange(40) * (0.2 + pause_s)
    return [(0, start - pause_s, start, start + 0.2) for start in starts]


def opened(late_s, latency_s, every=50):
    """An arrival each 0.05 s, every N-th of them sent late."""
    return [(at, 0, at + late_s * (i % every == 0), at + latency_s) for i, at in enumerate(1 + np.arange(200) * 0.05)]


ONE, OPEN = LoadLevel("closed_loop", 1), LoadLevel("open_loop", 20)


@pytest.mark.parametrize(
    ("level", "rows", "observed", "finding"),
    [
        (ONE, closed(0.001), {}, None),
        (ONE, closed(0.02), {}, "workers waited 8.0% of the time between an answer and the next send"),
        (ONE, closed(0.001), {"cpu_s": 8.9}, None),
        (ONE, closed(0.001), {"cpu_s": 9.1}, "load process 0 used 91% of its CPU"),
        (ONE, closed(0.001), {"lag_p99_ms": 9}, None),
        (ONE, closed(0.001), {"lag_p99_ms": 9, "by_kernel": False}, "the event loop was late by 9.0 ms at p99"),
        (ONE, closed(0.001), {"by_kernel": False}, None),
        (OPEN, opened(0.004, 0.05), {}, None),
        (OPEN, opened(0.006, 0.05), {}, "requests were sent late: p99 6.0 ms after their time"),
        (OPEN, opened(0.006, 0.05, every=150), {}, None),
        (OPEN, opened(0.09, 2.0), {}, None),
        (OPEN, opened(0.11, 2.0), {}, "requests were sent late: p99 110.0 ms"),
    ],
)
def test_a_client_that_shapes_what_it_measures_says_so(tmp_path, level, rows, observed, finding):
    limited = facts_told(tmp_path, level, rows, **observed).client_limited
    assert len(limited) == (finding is not None), limited
    assert finding is None or limited[0].startswith(finding)
