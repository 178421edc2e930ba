"""The load generator in a closed loop: real load processes against a model server with a known schedule."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from attempt_specs import TOKENS, mean_in_flight, measure, moody_stub, server_log, spec_of

from helpers.errors import LoadError
from helpers.load.load_processes import LoadProcesses
from helpers.run.records import read_requests

pytestmark = pytest.mark.slow

TTFT_S, ITL_S = 0.05, 0.01


@pytest.fixture(scope="module")
def stub():
    with moody_stub() as url:
        yield url


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
        yield processes


@pytest.fixture
def doomed_processes(tmp_path):
    with LoadProcesses(tmp_path / "load.log", processes=2) as processes:
        yield processes


@pytest.mark.timing
def test_latencies_agree_with_the_servers_own_stamps(stub, processes, tmp_path):
    """What is reported is what the server did, which sleeps too long where the machine is busy."""
    requests, _ = measure(processes, spec_of(tmp_path, stub, min_requests=12))
    log = server_log(stub)
    served = [log[request_id] for request_id in requests["request_id"]]
    first = np.array([one["writes_ns"][1] for one in served])
    last = np.array([one["writes_ns"][TOKENS] for one in served])
    first_late, last_late = requests["first_token_ns"] - first, requests["last_token_ns"] - last
    under_way = np.array([one["received_ns"] for one in served]) - requests["sent_ns"]
    assert all((late >= 0).all() for late in (first_late, last_late, under_way)), "nothing is seen before it happens"
    assert first_late.median() < 5e6 and last_late.median() < 5e6 and under_way.min() < 5e6
    assert (requests["ttft_s"] >= TTFT_S).all() and requests["ttft_s"].min() < TTFT_S + 0.05
    assert (requests["latency_s"] >= TTFT_S + (TOKENS - 1) * ITL_S).all()
    assert (requests["tpot_s"] * 1e9 - (last - first) / (TOKENS - 1)).abs().median() < 1e6


def test_a_role_only_chunk_is_not_a_token(stub, processes, tmp_path):
    requests, _ = measure(processes, spec_of(tmp_path, stub, "role_first"))
    assert (requests["ttft_s"] > 0.09).all()
    assert (requests["first_token_ns"] - requests["first_byte_ns"]).max() > 90e6


def test_a_chunk_is_not_a_token(stub, processes, tmp_path):
    requests, _ = measure(processes, spec_of(tmp_path, stub, "four_tokens_a_chunk"))
    assert (requests["output_tokens"] == 20).all()
    table = pq.read_table(tmp_path / "requests" / "point.parquet")
    span_s = [(chunks[-1] - chunks[0]) / 1e9 for chunks in table["chunk_ns"].to_pylist()]
    assert (19 * requests["tpot_s"]).tolist() == pytest.approx(span_s), "not 4 times that, by its 5 chunks"
    assert table["chunk_tokens"].null_count == len(table), "tokens per chunk are not known, so they are null"
    assert [len(chunks) for chunks in table["chunk_ns"].to_pylist()] == [5] * len(table)


def test_an_answer_that_is_not_streamed_has_no_ttft(stub, processes, tmp_path):
    requests, _ = measure(processes, spec_of(tmp_path, stub, "whole"))
    assert requests["ttft_s"].isna().all()
    assert requests["tpot_s"].isna().all()
    assert (requests["latency_s"] >= 0.05).all()
    assert (requests["finish_reason"] == "stop").all()


@pytest.mark.parametrize("salt", [False, True])
def test_an_echoed_prompt_is_stripped_and_flagged(stub, processes, tmp_path, salt):
    requests, _ = measure(processes, spec_of(tmp_path, stub, "echo", api="openai_completions", prefix_cache_salt=salt))
    assert requests["echoed_prompt"].all()
    assert (requests["output_tokens"] < 20).all(), "not the 99 that the server counted with the prompt"
    assert (requests["output_tokens_source"] == "tokenizer").all()


@pytest.mark.parametrize(
    ("behaviour", "status", "http_status", "words"),
    [
        ("server_error", "http_error", 500, "CUDA out of memory"),
        ("throttle", "throttled", 429, "slow down"),
        ("hang", "timeout", None, "no complete answer after 0.5 s"),
        ("die_in_mid_stream", "stream_broken", 200, "in the middle of the answer"),
        ("resets_behind_its_data", "stream_broken", 200, "in the middle of the answer"),
        ("reset_at_once", "connection", None, "closed before the answer"),
        ("garbage", "bad_response", None, "not an HTTP status line"),
        ("ends_in_mid_stream", "cut_short", 200, "before the end of the answer"),
        ("lacks_its_end", "cut_short", 200, ""),
        ("error_inside", "error_in_answer", 200, "engine died"),
        ("empty", "empty", 200, "no text"),
    ],
)
def test_every_failure_is_a_row_with_its_status(stub, processes, tmp_path, behaviour, status, http_status, words):
    patience = {"request_timeout_s": 0.5} if behaviour == "hang" else {}
    requests, _ = measure(
        processes, spec_of(tmp_path, stub, behaviour, concurrency=[4], max_duration_s=1.2, **patience)
    )
    assert set(requests["status"]) == {status}
    assert requests["error"].str.contains(words).all()
    assert set(requests["http_status"].dropna()) == ({http_status} if http_status else set())
    assert requests["latency_s"].isna().all()
    assert len(requests) >= 3
    if http_status is not None:
        assert set(requests["request_id"]) <= set(server_log(stub)), "the request id travels"


@pytest.mark.parametrize("behaviour", ["closes_each_time", "interim_head_and_trailers"])
def test_what_http_allows_is_no_failure(stub, processes, tmp_path, behaviour):
    requests, _ = measure(processes, spec_of(tmp_path, stub, behaviour, concurrency=[4], min_requests=12))
    assert set(requests["status"]) == {"ok"}
    assert set(requests["http_status"]) == {200}


def test_a_server_that_is_not_there_gives_rows_too(processes, tmp_path):
    requests, _ = measure(processes, spec_of(tmp_path, "http://127.0.0.1:9", max_duration_s=1))
    assert set(requests["status"]) == {"connection"}
    assert requests["error"].str.contains("could not connect").all()


def test_failures_do_not_end_the_load_point(stub, processes, tmp_path):
    requests, facts = measure(processes, spec_of(tmp_path, stub, "every_third_fails", min_requests=30))
    steady = requests[requests["phase"] == "steady"]
    assert len(steady) >= 30
    assert (steady["status"] == "http_error").mean() == pytest.approx(1 / 3, abs=0.04)
    assert facts.ended_because == "enough requests"


@pytest.mark.timing
def test_the_closed_loop_keeps_all_workers_busy(stub, processes, tmp_path):
    requests, facts = measure(processes, spec_of(tmp_path, stub, concurrency=[4], min_requests=40, warmup_requests=2))
    steady = requests[requests["phase"] == "steady"]
    assert 0.9 * 4 <= mean_in_flight(requests, facts) <= 4
    assert facts.steady and not facts.client_limited, facts.steady_because
    assert (requests["phase"] == "warmup").sum() >= 8
    assert steady["sent_ns"].min() == pytest.approx(facts.window_open_ns, abs=1e6)
    assert steady["sent_ns"].max() < facts.window_close_ns
    assert requests.loc[requests["phase"] == "drain", "sent_ns"].min() >= facts.window_close_ns


def test_prompts_are_not_repeated_and_their_order_is_seeded(stub, processes, tmp_path):
    first, _ = measure(processes, spec_of(tmp_path, stub, concurrency=[4], min_requests=20))
    again, _ = measure(processes, spec_of(tmp_path, stub, concurrency=[4], min_requests=20))
    other, _ = measure(
        processes, spec_of(tmp_path, stub, concurrency=[4], min_requests=20).model_copy(update={"seed": 2})
    )
    assert not first["prompt_id"].duplicated().any()
    start = lambda table: table.sort_values("sent_ns")["prompt_id"].tolist()[:4]  # noqa: E731
    assert start(first) == start(again) != start(other)


def test_options_get_the_same_prompts(stub, processes, tmp_path):
    spec = spec_of(tmp_path, stub, concurrency=[4], min_requests=20)
    one, _ = measure(processes, spec)
    other, _ = measure(processes, spec.model_copy(update={"option": "another"}))
    in_order = lambda table: table.sort_values("sent_ns")["prompt_id"].tolist()[:16]  # noqa: E731
    assert set(in_order(one)) == set(in_order(other))


def test_prompts_that_run_out_close_the_window(stub, processes, tmp_path):
    requests, facts = measure(processes, spec_of(tmp_path, stub, prompts=10, min_requests=100))
    assert len(requests) == 10
    assert facts.ended_because == "prompts ran out"
    assert facts.window_s > 0


def test_max_duration_s_ends_a_load_point(stub, processes, tmp_path):
    requests, facts = measure(
        processes, spec_of(tmp_path, stub, min_requests=1000, max_duration_s=1, repeat_prompts=True)
    )
    assert facts.ended_because == "max_duration_s"
    assert facts.window_s < 10, "a thousand requests take two minutes"
    assert 1 < len(requests) < 100
    assert not facts.steady


def test_times_are_monotonic_and_anchored_to_the_wall_clock(stub, processes, tmp_path):
    before = time.monotonic_ns()
    requests, facts = measure(processes, spec_of(tmp_path, stub))
    assert requests["sent_ns"].between(before, time.monotonic_ns()).all()
    (mono_a, wall_a), (mono_b, wall_b) = facts.clock_pairs
    assert mono_a <= requests["sent_ns"].min() <= requests["done_ns"].max() <= mono_b
    assert wall_b - wall_a == pytest.approx(mono_b - mono_a, abs=5e8)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_load_process_that_is_killed_is_an_error_that_names_it(stub, doomed_processes, tmp_path, victim):
    done, _ = measure(doomed_processes, spec_of(tmp_path, stub))
    endless = spec_of(tmp_path, stub, concurrency=[4], min_requests=10_000, repeat_prompts=True, processes=2)
    endless = endless.model_copy(update={"output_file": str(tmp_path / "requests" / "second.parquet")})
    pid = doomed_processes.pids[victim]
    threading.Timer(0.5, lambda: os.kill(pid, signal.SIGKILL)).start()
    with pytest.raises(
        LoadError, match=rf"load process {victim} \(pid {pid}\) ended with code -9.*stub.*concurrency 4"
    ):
        doomed_processes.run(endless, on_progress=lambda progress: None)
    assert [path.name for path in (tmp_path / "requests").iterdir()] == ["point.parquet"], "nothing half done is left"
    assert len(read_requests(tmp_path / "requests")) == len(done), "finished load points are intact"


def test_a_load_process_imports_nothing_heavy(stub, processes, tmp_path):
    measure(processes, spec_of(tmp_path, stub))
    mapped = Path(f"/proc/{processes.pids[0]}/maps").read_text()
    assert "site-packages/pyarrow" in mapped
    assert [name for name in ("pandas", "scipy", "matplotlib", "botocore") if f"site-packages/{name}" in mapped] == []


def test_load_processes_end_when_their_parent_dies(stub, tmp_path):
    endless = spec_of(tmp_path, stub, min_requests=100_000, repeat_prompts=True)
    (tmp_path / "spec.json").write_text(endless.model_dump_json())
    parent_code = f"""
from pathlib import Path
from helpers.load.load_processes import LoadProcesses
from helpers.load.messages import AttemptSpec
spec = AttemptSpec.model_validate_json(Path({str(tmp_path / "spec.json")!r}).read_text())
with LoadProcesses(Path({str(tmp_path / "load.log")!r}), 2) as processes:
    print(*processes.pids, flush=True)
    processes.run(spec, lambda p: p.phase == "connecting" or print(p, flush=True))
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True)
    pids = parent.stdout.readline().split()
    parent.stdout.readline()  # load is under way
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a load process outlives its parent"
        time.sleep(0.05)


def is_alive(pid: str) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False


def test_two_load_processes_share_the_work_and_no_prompt(stub, doomed_processes, tmp_path):
    requests, facts = measure(doomed_processes, spec_of(tmp_path, stub, concurrency=[4], min_requests=40, processes=2))
    assert set(requests["load_process"]) == {0, 1}
    assert len(facts.processes) == 2
    assert requests["load_process"].value_counts().min() > 0.1 * len(requests)
    assert not requests["prompt_id"].duplicated().any()
    assert not requests["request_id"].duplicated().any()
