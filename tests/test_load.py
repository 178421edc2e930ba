"""The load generator: a real load process against a model server with a known schedule."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from helpers.config import ClosedLoop, Generation
from helpers.errors import LoadError
from helpers.load.driver import LoadProcess
from helpers.load.process import Order
from helpers.metrics import with_latencies
from helpers.records import LoadPointFacts, read_facts, read_requests
from helpers.targets.base import Address

STUB = Path(__file__).with_name("stub_server.py")
TTFT_S, ITL_S, TOKENS = 0.05, 0.01, 8


@pytest.fixture(scope="module")
def stub():
    process = subprocess.Popen([sys.executable, str(STUB)], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def load_process(tmp_path_factory):
    with LoadProcess(tmp_path_factory.mktemp("load") / "load.log") as process:
        yield process


@pytest.fixture
def doomed_process(tmp_path):
    with LoadProcess(tmp_path / "load.log") as process:
        yield process


def order(
    folder: Path, url: str, behaviour: str = "stream", api: str = "openai_chat", prompts: int = 60, **load
) -> Order:
    load = {"concurrency": [1], "min_requests": 6, "warmup_requests": 1, "request_timeout_s": 0.5, **load}
    (folder / "requests").mkdir(exist_ok=True)
    rows = pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(prompts)],
            "text": [f"Question number {i}?" for i in range(prompts)],
            "rendered": [f"<user>Question number {i}?<assistant>" for i in range(prompts)],
            "prompt_tokens": [11] * prompts,
        }
    )
    rows.to_parquet(folder / "prompts.parquet")
    concurrency = load["concurrency"][0]
    return Order(
        option="stub",
        dataset=behaviour,
        concurrency=concurrency,
        repetition=1,
        seed=1,
        address=Address(url=f"{url}/v1", api=api, framing="plain", request_id_header="X-Request-Id"),
        load=ClosedLoop(**load),
        generation=Generation(max_output_tokens=TOKENS),
        extra_body={"behaviour": behaviour},
        tokenizer="synthetic:2m",
        prompts_file=str(folder / "prompts.parquet"),
        prompt_tokens_column="prompt_tokens",
        output_file=str(folder / "requests" / "point.parquet"),
    )


def measure(process: LoadProcess, an_order: Order) -> tuple[pd.DataFrame, LoadPointFacts]:
    process.run(an_order, on_progress=lambda message: None)
    folder = Path(an_order.output_file).parent
    return with_latencies(read_requests(folder)), read_facts(folder)[0]


def server_log(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/log", timeout=5) as answer:
        return json.load(answer)


def test_latencies_agree_with_the_servers_own_stamps(stub, load_process, tmp_path):
    requests, _ = measure(load_process, order(tmp_path, stub))
    log = server_log(stub)
    for request in requests.itertuples():
        stamps = log[request.request_id]
        first_token_written, last_token_written = stamps["writes_ns"][1], stamps["writes_ns"][TOKENS]
        assert 0 <= request.first_token_ns - first_token_written < 5e6
        assert 0 <= request.last_token_ns - last_token_written < 5e6
        assert 0 <= stamps["received_ns"] - request.sent_ns < 5e6
        assert request.ttft_s == pytest.approx(TTFT_S, abs=0.02)
        assert request.latency_s == pytest.approx(TTFT_S + (TOKENS - 1) * ITL_S, abs=0.04)
    assert requests["tpot_s"].median() == pytest.approx(ITL_S, rel=0.3)


def test_a_role_only_chunk_is_not_a_token(stub, load_process, tmp_path):
    requests, _ = measure(load_process, order(tmp_path, stub, "role_first"))
    assert (requests["ttft_s"] > 0.09).all()
    assert ((requests["first_token_ns"] - requests["first_byte_ns"]) > 90e6).all()


def test_a_chunk_is_not_a_token(stub, load_process, tmp_path):
    requests, _ = measure(load_process, order(tmp_path, stub, "four_tokens_a_chunk"))
    assert (requests["output_tokens"] == 20).all()
    assert requests["tpot_s"].median() == pytest.approx(4 * 0.04 / 19, rel=0.3)
    table = pq.read_table(tmp_path / "requests" / "point.parquet")
    assert table["chunk_tokens"].null_count == len(table), "tokens per chunk are not known, so they are null"
    assert [len(chunks) for chunks in table["chunk_ns"].to_pylist()] == [5] * len(table)


def test_an_answer_that_is_not_streamed_has_no_ttft(stub, load_process, tmp_path):
    requests, _ = measure(load_process, order(tmp_path, stub, "whole"))
    assert requests["ttft_s"].isna().all()
    assert requests["tpot_s"].isna().all()
    assert requests["latency_s"].between(0.05, 0.1).all()
    assert (requests["finish_reason"] == "stop").all()


def test_an_echoed_prompt_is_stripped_and_flagged(stub, load_process, tmp_path):
    requests, _ = measure(load_process, order(tmp_path, stub, "echo", api="openai_completions"))
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
        ("reset_at_once", "connection", None, "closed before the answer"),
        ("garbage", "bad_response", None, "not an HTTP status line"),
        ("error_inside", "stream_broken", 200, "engine died"),
        ("empty", "bad_response", 200, "no text"),
    ],
)
def test_every_failure_is_a_row_with_its_status(stub, load_process, tmp_path, behaviour, status, http_status, words):
    requests, _ = measure(load_process, order(tmp_path, stub, behaviour, min_requests=2))
    assert set(requests["status"]) == {status}
    assert requests["error"].str.contains(words).all()
    assert set(requests["http_status"].dropna()) == ({http_status} if http_status else set())
    assert requests["latency_s"].isna().all()
    assert len(requests) >= 3
    if http_status is not None:
        assert set(requests["request_id"]) <= set(server_log(stub)), "the request id travels"


@pytest.mark.parametrize("behaviour", ["closes_each_time", "interim_head_and_trailers"])
def test_what_http_allows_is_no_failure(stub, load_process, tmp_path, behaviour):
    requests, _ = measure(load_process, order(tmp_path, stub, behaviour, concurrency=[4], min_requests=12))
    assert set(requests["status"]) == {"ok"}
    assert set(requests["http_status"]) == {200}


def test_a_server_that_is_not_there_gives_rows_too(load_process, tmp_path):
    requests, _ = measure(load_process, order(tmp_path, "http://127.0.0.1:9", min_requests=2))
    assert set(requests["status"]) == {"connection"}
    assert requests["error"].str.contains("could not connect").all()


def test_failures_do_not_end_the_load_point(stub, load_process, tmp_path):
    requests, facts = measure(load_process, order(tmp_path, stub, "every_third_fails", min_requests=12))
    steady = requests[requests["phase"] == "steady"]
    assert len(steady) == 12
    assert (steady["status"] == "http_error").sum() == 4
    assert facts.ended_because == "enough requests"


def test_the_closed_loop_keeps_all_workers_busy(stub, load_process, tmp_path):
    requests, facts = measure(load_process, order(tmp_path, stub, concurrency=[4], min_requests=40, warmup_requests=2))
    steady = requests[requests["phase"] == "steady"]
    in_flight = ((steady["done_ns"] - steady["sent_ns"]).sum() / 1e9) / facts.window_s
    assert in_flight == pytest.approx(4, rel=0.1)
    assert (requests["phase"] == "warmup").sum() >= 8
    assert steady["sent_ns"].min() == pytest.approx(facts.window_open_ns, abs=1e6)
    assert steady["sent_ns"].max() < facts.window_close_ns
    assert requests.loc[requests["phase"] == "drain", "sent_ns"].min() >= facts.window_close_ns


def test_prompts_are_not_repeated_and_their_order_is_seeded(stub, load_process, tmp_path):
    first, _ = measure(load_process, order(tmp_path, stub, concurrency=[4], min_requests=20))
    again, _ = measure(load_process, order(tmp_path, stub, concurrency=[4], min_requests=20))
    other, _ = measure(
        load_process, order(tmp_path, stub, concurrency=[4], min_requests=20).model_copy(update={"seed": 2})
    )
    assert not first["prompt_id"].duplicated().any()
    start = lambda table: table.sort_values("sent_ns")["prompt_id"].tolist()[:4]  # noqa: E731
    assert start(first) == start(again) != start(other)


def test_options_get_the_same_prompts(stub, load_process, tmp_path):
    an_order = order(tmp_path, stub, concurrency=[4], min_requests=20)
    one, _ = measure(load_process, an_order)
    other, _ = measure(load_process, an_order.model_copy(update={"option": "another"}))
    in_order = lambda table: table.sort_values("sent_ns")["prompt_id"].tolist()[:16]  # noqa: E731
    assert set(in_order(one)) == set(in_order(other))


def test_prompts_that_run_out_close_the_window(stub, load_process, tmp_path):
    requests, facts = measure(load_process, order(tmp_path, stub, prompts=10, min_requests=100))
    assert len(requests) == 10
    assert facts.ended_because == "prompts ran out"
    assert facts.window_s > 0


def test_the_longest_window_is_kept(stub, load_process, tmp_path):
    requests, facts = measure(
        load_process, order(tmp_path, stub, min_requests=1000, max_duration_s=0.5, repeat_prompts=True)
    )
    assert facts.ended_because == "max_duration_s"
    assert 0.5 <= facts.window_s < 1.0
    assert len(requests) < 20


def test_times_are_monotonic_and_anchored_to_the_wall_clock(stub, load_process, tmp_path):
    before = time.monotonic_ns()
    requests, facts = measure(load_process, order(tmp_path, stub))
    assert requests["sent_ns"].between(before, time.monotonic_ns()).all()
    (mono_a, wall_a), (mono_b, wall_b) = facts.clock_pairs
    assert mono_a <= requests["sent_ns"].min() <= requests["done_ns"].max() <= mono_b
    assert wall_b - wall_a == pytest.approx(mono_b - mono_a, abs=5e7)


def test_the_death_of_the_load_process_is_an_error_that_names_it(stub, doomed_process, tmp_path):
    done, _ = measure(doomed_process, order(tmp_path, stub))
    endless = order(tmp_path, stub, min_requests=10_000, repeat_prompts=True)
    endless = endless.model_copy(update={"output_file": str(tmp_path / "requests" / "second.parquet")})
    threading.Timer(0.5, lambda: os.kill(doomed_process.pid, signal.SIGKILL)).start()
    with pytest.raises(LoadError, match=f"pid {doomed_process.pid}.*code -9.*stub"):
        doomed_process.run(endless, on_progress=lambda message: None)
    assert not (tmp_path / "requests" / "second.parquet").exists()
    assert len(read_requests(tmp_path / "requests")) == len(done), "finished load points are intact"


def test_the_load_process_ends_when_its_parent_dies(stub, tmp_path):
    endless = order(tmp_path, stub, min_requests=100_000, repeat_prompts=True)
    (tmp_path / "order.json").write_text(endless.model_dump_json())
    parent_code = f"""
from pathlib import Path
from helpers.load.driver import LoadProcess
from helpers.load.process import Order
with LoadProcess(Path({str(tmp_path / "load.log")!r})) as load:
    print(load.pid, flush=True)
    load.run(Order.model_validate_json(Path({str(tmp_path / "order.json")!r}).read_text()), lambda m: print(m, flush=True))
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.stdout.readline()  # load is under way
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the load process outlives its parent"
        time.sleep(0.05)
