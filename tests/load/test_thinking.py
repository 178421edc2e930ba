"""What of an answer is thinking: streams in the shapes of the servers that reason, and a reasoning engine under real load."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from attempt_specs import measure, spec_of
from bedrock_stub import padded, reasoning_delta
from examples import endpoint, facts, make_config, request, summarise_load_points, write_run
from sentence_numbers import Known, unaccounted

from helpers.config.benchmark import BenchmarkConfig
from helpers.load.connection import Exchange
from helpers.load.load_processes import LoadProcesses
from helpers.load.responses import Answer, read_answer
from helpers.load.thinking import count_thinking, divide, tokens_by_text
from helpers.report.thinking_report import price_note, thinking_table
from helpers.verdict.judging import judge
from helpers.verdict.load_point_checks import check_load_points
from helpers.verdict.verdict import Verdict

USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


def read(
    body: list[bytes], api: str = "openai_chat", tags: str = "auto", prompt: str = "", kind: str = "text/x"
) -> Answer:
    """Each part of the body is a read of its own; the i-th is stamped 100 + i."""
    exchange = Exchange(0, 999, [], complete=True)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {sum(map(len, body))}\r\n\r\n".encode()
    exchange.reads = [(99, head), *((100 + i, part) for i, part in enumerate(body))]
    answer = read_answer(exchange, api, "aws_event_stream" if "eventstream" in kind else "plain")
    divide(answer, api, tags, prompt)
    count_thinking(answer, lambda text: range(len(text.split())))
    return answer


def chat(*deltas: dict, usage: dict | None = USAGE, running: bool = False) -> list[bytes]:
    """Server-sent events; with `running`, each counts its own tokens so far: one more than the last."""
    events = [
        {"choices": [{"index": 0, "delta": said}], **({"usage": {"completion_tokens": i + 1}} if running else {})}
        for i, said in enumerate(deltas)
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events += [{"choices": [], "usage": usage}] if usage else []
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]


def call(name: str | None, arguments: str) -> dict:
    return {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]}


def texts(*said: str) -> list[dict]:
    return [{"content": text} for text in said]


def bedrock(*deltas: dict) -> list[bytes]:
    frames = [padded("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}) for delta in deltas]
    metadata = padded("metadata", {"usage": {"inputTokens": 9, "outputTokens": 4}})
    return [*frames, padded("messageStop", {"stopReason": "end_turn"}), metadata]


FRAMES = {"api": "bedrock_converse", "kind": "application/vnd.amazon.eventstream"}
STREAMS = {
    "DeepSeek, SGLang": (chat({"reasoning_content": "Hm"}, {"reasoning_content": " so"}, {"content": "4"}), {}, 102, 2),
    "vLLM": (chat({"reasoning": "Hm"}, {"content": "\n\n"}, {"content": "4"}, {"content": "!"}), {}, 102, 1),
    "both in one delta": (chat({"reasoning": "Hm ", "content": "4"}, {"content": "!"}), {}, 100, 1),
    "no thinking": (chat(*texts(" ", "4")), {}, 100, None),
    "counted by the server": (
        chat({"reasoning": "Hm"}, {"content": "4"}, usage=USAGE | {"completion_tokens_details": {"reasoning_tokens": 3}}),
        {}, 101, 3,
    ),
    "hidden, and counted": (
        chat(*texts("4", "!"), usage=USAGE | {"completion_tokens_details": {"reasoning_tokens": 2}}), {}, 100, 2,
    ),
    "SGLang's zero": (chat({"reasoning_content": "Hm so"}, {"content": "4"}, usage=USAGE | {"reasoning_tokens": 0}), {}, 101, 2),
    "none, says OpenAI": (
        chat(*texts("4", "!"), usage=USAGE | {"completion_tokens_details": {"reasoning_tokens": 0}}), {}, 100, 0,
    ),
    "more than there is": (
        chat({"reasoning": "Hm"}, {"content": "4"}, usage=USAGE | {"completion_tokens_details": {"reasoning_tokens": 9}}),
        {}, 101, None,
    ),
    "tags": (chat(*texts("<thi", "nk>Hm", " so</think>\n", "\n4")), {}, 103, 2),
    "closing tag within a chunk": (chat(*texts("<think>Hm", " so</think>\n4")), {}, 101, 2),
    "no opening tag": (chat(*texts("Hm", " so", "</think>", "4")), {}, 103, 3),
    "tags in an answer": (chat(*texts("Use", " <think>", "x</think>", " here")), {}, 100, None),
    "tags that are text": (chat(*texts("<think>", "x</think>", " 4")), {"tags": "ignored"}, 100, None),
    "cut off": (chat(*texts("<think>Hm", " so")), {}, None, 2),
    "cut off, opened by the prompt": (
        chat(*texts("Hm", " so")), {"api": "openai_completions", "prompt": "<user>2+2?<think>\n"}, None, 2,
    ),
    "cut off, opened by the template": (chat(*texts("Hm", " so")), {"tags": "opened"}, None, 2),
    "perhaps cut off": (chat(*texts("Hm", " so")), {"prompt": "<user>2+2?<think>\n"}, 100, None),
    "thought alone": (chat({"reasoning": "Hm"}, {"reasoning": " so"}, {"content": "\n"}), {}, None, 2),
    "calls": (chat({"reasoning": "Hm"}, call("add", ""), call(None, '{"a": 2'), call(None, "}")), {}, 101, 1),
    "Bedrock": (
        [reasoning_delta(text="Hm "), reasoning_delta(text="so"), reasoning_delta(signature="c2lnbmVk"), *bedrock({"text": "4"})],
        FRAMES, 103, 2,
    ),
    "Bedrock, a call": (bedrock({"toolUse": {"input": ""}}, {"toolUse": {"input": '{"a": 2}'}}), FRAMES, 101, None),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_the_answer_begins_behind_the_thinking(name):
    body, how, first_answer_ns, thought = STREAMS[name]
    answer = read(body, **how)
    assert (answer.status, answer.first_answer_ns) == ("ok", first_answer_ns)
    assert answer.answered == (first_answer_ns is not None)
    assert answer.reasoning_tokens == thought
    if not name.startswith("Bedrock, a call"):
        assert answer.first_token_ns == 100, "the first token of any kind"


def test_a_whole_message_that_only_thought_has_no_answer_and_a_call_is_one():
    def whole(**message: object) -> Answer:
        return read(
            [json.dumps({"choices": [{"message": message, "finish_reason": "length"}], "usage": USAGE}).encode()]
        )

    thought, called = whole(content=None, reasoning="Hm"), whole(content=None, **call("add", "{}"))
    assert (thought.status, thought.answered, thought.first_answer_ns) == ("ok", False, None)
    assert (called.status, called.answered, called.text) == ("ok", True, "add{}")


def test_who_counted_the_thinking_is_known():
    by_chunks = read(chat({"reasoning": "Hm"}, {"reasoning": " so"}, {"content": "4"}, {"content": "!"}))
    by_text = read(chat({"reasoning": "Hm so"}, {"content": "4"}))
    assert (by_chunks.reasoning_tokens, by_chunks.reasoning_tokens_source) == (2, "server")
    assert (by_text.reasoning_tokens, by_text.reasoning_tokens_source) == (2, "tokenizer")


# --- tokens of chunks -----------------------------------------------------------------------------------------------


def running(*counts: int | None, total: int) -> list[bytes]:
    events = [{"choices": [{"delta": {"content": "x"}}], "usage": n and {"completion_tokens": n}} for n in counts]
    events.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": total}})
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]


@pytest.mark.parametrize(
    ("counts", "total", "chunk_tokens"),
    [
        ((1, 4, 5, 9), 9, [1, 3, 1, 4]),
        ((2, 4, 4, 6), 7, [2, 2, 0, 2]),
        ((1, None, 5), 5, None),
        ((3, 1, 5), 5, None),
        ((1, 1, 1), 60, None),
        ((None, None, None), 3, [1, 1, 1]),
    ],
    ids=["several", "the end has no text", "one is missing", "falling", "no running count", "one each"],
)
def test_a_running_usage_gives_the_tokens_of_each_chunk(counts, total, chunk_tokens):
    assert read(running(*counts, total=total)).chunk_tokens == chunk_tokens


def test_else_a_token_belongs_to_the_chunk_in_which_it_ends():
    assert tokens_by_text(["The ans", "wer", " is 42"], [3, 10, 13, 16], 5) == [1, 1, 2]
    assert tokens_by_text(["The ans", "wer"], [3, 10], 60) is None, "the tokenizer is not that of the server"
    assert tokens_by_text(["The"], None, 1) is None


# --- the SLO ------------------------------------------------------------------------------------------------------------


def point_of(folder: Path, rows: list[dict], **slo: float) -> pd.Series:
    config = make_config(slo={"latency_s": None, "error_rate": 0.05, **slo})
    window = facts(0, 100)
    points = summarise_load_points(write_run(folder / "requests", rows, [window]), [window], [endpoint("a")], config)
    (verdict,) = judge(points, [endpoint("a")], [], config, "run").options
    return pd.concat([points.iloc[0], pd.Series({"reason": verdict.reason})])


def test_an_answer_that_never_came_misses_the_limit_on_answers_and_no_other(tmp_path):
    thought = {"first_answer_ns": None, "answered": False, "reasoning_tokens": 24}
    rows = [request(i * 0.4, 0.3, 0.1, **(thought if i % 5 == 0 else {})) for i in range(240)]
    point = point_of(tmp_path, rows, ttft_s=1, ttfa_s=1)
    assert (point["failures"], point["never_answered"], point["reasoned"], point["thinking_share"]) == (0, 48, 48, 0.2)
    assert (point["slo_ttft_s"], point["slo_ttfa_s"], point["beyond_ttfa_s"], point["slo"]) == (
        "met",
        "missed",
        48,
        "missed",
    )
    assert point["ttfa_s_p95"] == math.inf and point["ttfa_s_p50"] == point["ttft_s_p50"] == pytest.approx(0.1)
    assert point["goodput_per_s"] == pytest.approx(0.8 * point["requests_per_s"])
    assert "ttfa of 1 s at p95" in point["reason"]


def test_where_nothing_thinks_the_answer_begins_with_the_first_token(tmp_path):
    point = point_of(tmp_path, [request(i * 0.4, 0.3, 0.1 + i % 7 / 100) for i in range(240)], ttfa_s=1)
    of_ttft = [name for name in point.index if name.startswith("ttft_s")]
    assert len(of_ttft) > 8 and all(point[name] == point[name.replace("ttft", "ttfa")] for name in of_ttft)
    assert (point["slo"], point["reasoned"], point["thinking_share"]) == ("met", 0, None)
    rows = [request(i * 0.4, 0.3, 0.1, first_answer_ns=None, answered=None) for i in range(240)]
    earlier = point_of(tmp_path / "earlier", rows, ttfa_s=1)
    assert earlier["ttfa_s_p50"] is None and earlier["slo"] == "undecided", "an earlier release did not record it"


# --- a reasoning engine under load ------------------------------------------------------------------------------------


@contextmanager
def reasoning_engine(**environment: str) -> Iterator[str]:
    """The chat URL of the embedded engine, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    known = {"ENGINE_MODEL": "synthetic:2m", "ENGINE_THREADS": "1", "SAGEMAKER_BIND_TO_PORT": port}
    command = [sys.executable, "-m", "local_sagemaker.engine"]
    process = subprocess.Popen(command, env={**os.environ, **known, **environment}, stdin=subprocess.PIPE)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def wait_for(url: str, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the engine did not start")


def ask(url: str, **keys: object) -> dict:
    body = json.dumps({"messages": [{"role": "user", "content": "2+2?"}], **keys}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def known_of(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Known:
    sections = {"slo": config.slo.model_dump(), "traffic": config.traffic.model_dump(), "datasets": ["short"]}
    return Known(verdict.model_dump(mode="json"), points, {}, sections)


@pytest.mark.slow
def test_a_reasoning_engine_under_load_is_judged_by_its_answers(tmp_path):
    """Three of eight tokens are thinking; with room for three alone no answer ever comes."""
    usage = {"extra_body": {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}}
    with (
        reasoning_engine(ENGINE_REASONING_TOKENS="3") as url,
        LoadProcesses(tmp_path / "load.log", processes=1) as processes,
    ):
        whole = ask(url, max_tokens=8, min_tokens=8, ignore_eos=True)
        message = whole["choices"][0]["message"]
        assert message["reasoning_content"] and message["content"] and whole["usage"]["completion_tokens"] == 8
        assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
        for folder, tokens in (("whole", 8), ("cut", 3)):
            (tmp_path / folder).mkdir()
            spec = spec_of(tmp_path / folder, url, "short", tokens=tokens, fixed_output_length=True)
            requests, window = measure(
                processes, spec.model_copy(update={**usage, "adapters": {"sql": 0.75, "law": 0.25}})
            )
            assert 0.6 < (requests["adapter"] == "sql").mean() < 0.9 and set(requests["adapter"]) == {"sql", "law"}
            assert set(requests["status"]) == {"ok"} and set(requests["output_tokens"]) == {tokens}
            assert set(requests["reasoning_tokens"]) == {3} and set(requests["reasoning_tokens_source"]) == {"server"}
            assert set(requests["answered"]) == {folder == "whole"}
            records = tmp_path / folder / "requests"
            (records / "point.parquet").rename(records / f"{window.load_point}.parquet")
            chunks = pq.read_table(records / f"{window.load_point}.parquet")["chunk_tokens"].to_pylist()
            assert all(tokens - 2 <= sum(each) <= tokens for each in chunks), "an end within a character has no text"
            slo = {"latency_s": None, "ttfa_s": 30, "percentile": 50}
            config = make_config(["stub"], ["short"], slo=slo)
            points = summarise_load_points(records, [window], [endpoint("stub")], config)
            verdict = judge(points, [endpoint("stub")], [], config, "run")
            table = thinking_table(points, config)
            warned = [warning.kind for warning in check_load_points(points, [window], config)]
            point, known = points.iloc[0], known_of(points, verdict, config)
            assert unaccounted(table.reading, known) == [] and price_note(points, verdict) == ""
            per_token = verdict.model_copy(update={"cost_basis": "usd_per_1m_output_tokens"})
            assert price_note(points, per_token) == "The price counts thinking tokens as output."
            assert point["thinking_share"] == 3 / tokens and "tokens on thinking" in table.reading
            if folder == "whole":
                latency = requests[["ttft_s", "ttfa_s", "latency_s"]].to_numpy()
                assert (np.diff(latency) >= 0).all()
                assert point["ttft_s_p50"] <= point["ttfa_s_p50"] <= point["latency_s_p50"]
                assert (np.diff(latency).max(axis=0) > 0).all(), "a busy machine may read some chunks at once, not all"
                assert point["slo_ttfa_s"] != "missed" and "never_answered" not in warned
            else:
                assert requests["first_answer_ns"].isna().all() and point["ttfa_s_p50"] == math.inf
                assert point["never_answered"] == point["n"] and point["goodput_per_s"] == 0
                assert point["estimates_within_slo"] == False  # noqa: E712
                assert "never_answered" in warned and "ended before the thinking did" in table.reading
