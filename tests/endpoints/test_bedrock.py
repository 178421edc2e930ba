"""Models on Bedrock: Converse and ConverseStream as boto3 sends and reads them, loaded, and measured in a small series."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from attempt_specs import measure, spec_of, write_prompts_file
from bedrock_stub import (
    ACCESS_KEY,
    ITL_S,
    PROMPT_TOKENS,
    SECRET_KEY,
    STREAMS,
    TTFT_S,
    bedrock_stub,
    frame,
    stub_log,
    words,
)
from botocore.config import Config
from botocore.exceptions import EventStreamError
from conftest import small_config, thorough
from examples import token_price
from quality_fixtures import write_questions

from helpers.config.file import load_config
from helpers.config.workload import Generation
from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.loading import load_all
from helpers.endpoints.preflight import first_answers
from helpers.endpoints.targets.base import target_of
from helpers.errors import ConfigError, DeployError
from helpers.load.address import Address, SigV4
from helpers.load.apis import API_READERS
from helpers.load.bodies import RequestWriter, prepare_requests
from helpers.load.connection import Exchange
from helpers.load.event_stream import unwrap_event_stream
from helpers.load.load_processes import LoadProcesses
from helpers.load.responses import Answer, read_answer
from helpers.load.timeline import Timeline
from helpers.metrics.answers import answers_file
from helpers.prompts.making import make_prompts
from helpers.run.folder import open_run
from helpers.run.ledger import Ledger
from helpers.run.prompt_files import write_prompts
from helpers.run.records import read_requests
from helpers.run.sessions import session_of_profile
from local_sagemaker.tiny_model import default_cache_dir

REGION = "eu-central-1"
PROVISIONED = f"arn:aws:bedrock:{REGION}:123456789012:provisioned-model/abc123xyz"
TOKENS = 6


@pytest.fixture(scope="module")
def stub():
    with bedrock_stub() as url:
        yield url


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Load processes that inherit the credentials, as those of a notebook do."""
    with pytest.MonkeyPatch.context() as patch:
        sign_in(patch)
        with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
            yield processes


@pytest.fixture(autouse=True)
def signed_in(stub, monkeypatch):
    sign_in(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", stub)


def sign_in(patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def bedrock_config(folder: Path, **option: object) -> Path:
    known = {"name": "on demand", "target": "bedrock", "model_id": "test.text-v1:0"}
    return small_config(folder, options=[{**known, **option}], aws={"region": REGION})


def address_of(folder: Path, **option: object) -> Address:
    """The address that a config's option gives."""
    config, run = open_run(str(bedrock_config(folder, **option)), new=True)
    target = target_of(config.benchmark.options[0], config.benchmark, run)
    return target.address(target.plan())


def boto3_client():
    config = Config(retries={"total_max_attempts": 1})
    return session_of_profile(None, None, REGION).client("bedrock-runtime", config=config)


def text_of(block: dict) -> str:
    """Of a block, its start or a delta: the text, or the name and the arguments of a call."""
    call = block.get("toolUse", {})
    given = call.get("input", "")
    return block.get("text", "") + call.get("name", "") + (given if isinstance(given, str) else json.dumps(given))


def as_boto3_reads(stream) -> dict:
    """Text, usage and stop reason of a ConverseStream, by botocore's decoder."""
    read = {"text": "", "stop": None, "usage": {}}
    for event in stream:
        delta = event.get("contentBlockDelta", {}).get("delta", {})
        start = event.get("contentBlockStart", {}).get("start", {})
        read["text"] += delta.get("reasoningContent", {}).get("text", "") + text_of(start) + text_of(delta)
        read["stop"] = event.get("messageStop", {}).get("stopReason") or read["stop"]
        read["usage"] = event.get("metadata", {}).get("usage") or read["usage"]
    return read


def sent_by_us(folder: Path, address: Address, extra_body: dict | None = None) -> Answer:
    """One request as the load generator writes it, and its answer as it reads it."""
    prompts = pq.read_table(write_prompts_file(folder, 1))
    generation = Generation(max_output_tokens=TOKENS, top_p=0.9, top_k=4)
    [prepared] = prepare_requests(prompts, address, generation, extra_body or {})
    head, _, body = RequestWriter(address).write("our-id-1", prepared).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    try:
        with urllib.request.urlopen(urllib.request.Request(address.url, body, headers), timeout=30) as answer:
            kind, data, status = answer.headers["Content-Type"], answer.read(), "200 OK"
    except urllib.error.HTTPError as error:
        kind, data, status = error.headers["Content-Type"], error.read(), f"{error.code} {error.reason}"
    raw = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    return read_answer(Exchange(reads=[(1, raw)], complete=True), address.api, address.framing, TOKENS)


# --- the same as boto3 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["ConverseStream", "Converse"])
@pytest.mark.parametrize("model", ["test.text-v1:0", "test.cached", "test.thinking", PROVISIONED], ids=str)
def test_request_and_answer_are_those_of_boto3(stub, tmp_path, model, stream):
    """The same URL, body and (to the stub, which verifies it) signature; the same text, usage and stop reason."""
    asked = {
        "modelId": model,
        "messages": [{"role": "user", "content": [{"text": "Question number 0?"}]}],
        "inferenceConfig": {"maxTokens": TOKENS, "temperature": 0.0, "topP": 0.9},
    }
    if stream:
        theirs = as_boto3_reads(boto3_client().converse_stream(**asked)["stream"])
    else:
        whole = boto3_client().converse(**asked)
        said = [
            block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "") + text_of(block)
            for block in whole["output"]["message"]["content"]
        ]
        theirs = {"text": "".join(said), "stop": whole["stopReason"], "usage": whole["usage"]}
    ours = sent_by_us(tmp_path, address_of(tmp_path, model_id=model, stream=stream))
    assert (ours.status, ours.text, ours.finish_reason) == ("ok", theirs["text"], theirs["stop"])
    assert ours.text, "there is something to compare"
    usage = theirs["usage"]
    assert ours.output_tokens == usage["outputTokens"]
    assert ours.prompt_tokens == usage["totalTokens"] - usage["outputTokens"]
    assert ours.prompt_tokens == PROMPT_TOKENS + (120 if "cached" in model else 0)
    assert (ours.first_token_ns is not None) == stream
    by_boto3, by_us = stub_log(stub)[-2:]
    assert by_us["path"] == by_boto3["path"]
    assert by_us["body"] == by_boto3["body"]
    assert by_us["headers"]["x-request-id"] == "our-id-1"
    assert f"/{REGION}/bedrock/aws4_request" in by_us["headers"]["authorization"]


def test_extra_body_adds_what_only_the_model_knows(stub, tmp_path):
    extra = {"additionalModelRequestFields": {"top_k": 4}, "inferenceConfig": {"maxTokens": TOKENS}}
    assert sent_by_us(tmp_path, address_of(tmp_path), extra).status == "ok"
    body = stub_log(stub)[-1]["body"]
    assert body["additionalModelRequestFields"] == {"top_k": 4}
    assert body["inferenceConfig"] == {"maxTokens": TOKENS}, "without a temperature, which some models refuse"


def test_a_bedrock_api_key_is_sent_in_place_of_a_signature_and_over_https_alone(tmp_path, monkeypatch):
    key = "not-an-api-key"
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
    with pytest.raises(DeployError, match=r"http://127.0.0.1:.*AWS_BEARER_TOKEN_BEDROCK.*https") as refused:
        address_of(tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME")
    address = address_of(tmp_path)
    [prepared] = prepare_requests(
        pq.read_table(write_prompts_file(tmp_path, 1)), address, Generation(max_output_tokens=TOKENS), {}
    )
    written = RequestWriter(address).write("id-1", prepared)
    assert f"\r\nAuthorization: Bearer {key}\r\n".encode() in written
    assert b"AWS4-HMAC-SHA256" not in written
    assert key not in repr(address) + str(refused.value)


def test_a_wrong_signature_is_refused_by_the_stub(tmp_path, monkeypatch):
    address = address_of(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    answer = sent_by_us(tmp_path, address)
    assert (answer.status, answer.http_status) == ("http_error", 403), "so that the tests above mean something"


@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [
        ("test.throttled", "throttlingException", "throttled"),
        ("test.broken", "modelStreamErrorException", "stream_broken"),
    ],
)
def test_an_exception_in_mid_stream_is_the_one_that_boto3_raises(tmp_path, model, kind, status):
    with pytest.raises(EventStreamError, match=kind):
        as_boto3_reads(
            boto3_client().converse_stream(
                modelId=model,
                messages=[{"role": "user", "content": [{"text": "Why?"}]}],
                inferenceConfig={"maxTokens": TOKENS},
            )["stream"]
        )
    answer = sent_by_us(tmp_path, address_of(tmp_path, model_id=model))
    assert (answer.status, answer.error_type, answer.http_status) == (status, kind, 200)
    assert answer.text == "one two ", "what came before is kept"
    assert f"{kind} it is" in answer.error


def test_the_endpoint_is_the_regions_where_nothing_points_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME")
    address = address_of(tmp_path, model_id="eu.amazon.nova-lite-v1:0")
    host = f"https://bedrock-runtime.{REGION}.amazonaws.com"
    assert address.url == f"{host}/model/eu.amazon.nova-lite-v1%3A0/converse-stream"
    assert address.sigv4 == SigV4(service="bedrock", region=REGION)
    assert (address.api, address.framing) == ("bedrock_converse", "aws_event_stream")
    plain = address_of(tmp_path, model_id=PROVISIONED, stream=False)
    encoded = "arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Aprovisioned-model%2Fabc123xyz"
    assert plain.url == f"{host}/model/{encoded}/converse"
    assert plain.framing == "plain"


# --- frames -------------------------------------------------------------------------------------------------------


def reads_of(frames: list[bytes], places: list[int]) -> list[tuple[int, bytes]]:
    """An HTTP answer cut at places; the i-th read is stamped 10 + i."""
    wire = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in frames) + b"0\r\n\r\n"
    edges = [0, *places, len(wire)]
    return [(10 + i, wire[a:b]) for i, (a, b) in enumerate(pairwise(edges)) if a < b]


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_frames_cut_at_any_byte_give_the_same_answer(kind):
    frames = STREAMS[kind](4)
    size = sum(len(data) for _, data in reads_of(frames, []))
    whole = read_answer(Exchange(reads=reads_of(frames, []), complete=True), "bedrock_converse", "aws_event_stream")
    expected = words(4) if kind == "text" else ["Hm. ", "Grüß Gott", "look_up", '{"x": 1}']
    assert whole.chunk_texts == expected
    assert whole.chunk_tokens == ([1] * 4 if kind == "text" else None), "a chunk is not a token"
    for place in range(size):
        exchange = Exchange(reads=reads_of(frames, [place]), complete=True)
        answer = read_answer(exchange, "bedrock_converse", "aws_event_stream")
        assert (answer.status, answer.chunk_texts, answer.output_tokens) == ("ok", expected, 4)
        assert answer.chunk_ns == sorted(answer.chunk_ns)


def test_a_text_has_arrived_when_its_frame_is_whole():
    frames = STREAMS["text"](2)
    wire = reads_of(frames, [])[0][1]
    end_of_first_text = wire.index(frames[1]) + len(frames[1])
    for place, stamps in ((end_of_first_text, [10, 11]), (end_of_first_text - 1, [11, 11])):
        exchange = Exchange(reads=reads_of(frames, [place]), complete=True)
        answer = read_answer(exchange, "bedrock_converse", "aws_event_stream")
        assert answer.chunk_ns == stamps
        assert answer.first_token_ns == stamps[0]


def test_a_single_delta_was_streamed_all_the_same():
    frames = STREAMS["text"](1)
    answer = read_answer(Exchange(reads=reads_of(frames, []), complete=True), "bedrock_converse", "aws_event_stream")
    assert (answer.status, answer.first_token_ns, answer.chunk_tokens) == ("ok", 10, [1])
    broken = Exchange(reads=reads_of([frames[1]], []), failure="stream_broken")
    assert read_answer(broken, "bedrock_converse", "aws_event_stream").first_token_ns == 10


@pytest.mark.parametrize("failure", ["timeout", "stream_broken", "cut_short"])
def test_what_came_before_a_break_is_kept(failure):
    frames = STREAMS["text"](4)
    wire = reads_of(frames, [])[0][1]
    ends = [wire.index(data) + len(data) for data in frames[1:5]]
    for place in range(0, len(wire), 5):
        exchange = Exchange(reads=[(10, wire[:place])] if place else [], failure=failure, detail="as told")
        answer = read_answer(exchange, "bedrock_converse", "aws_event_stream")
        assert (answer.status, answer.error) == (failure, "as told")
        assert answer.chunk_texts == [text for text, end in zip(words(4), ends, strict=True) if end <= place]


def test_a_stream_without_its_end_is_cut_short():
    frames = STREAMS["cut"](4)
    answer = read_answer(Exchange(reads=reads_of(frames, []), complete=True), "bedrock_converse", "aws_event_stream")
    assert (answer.status, answer.error) == ("cut_short", "the answer ends without a stopReason")


def test_json_with_line_ends_is_one_event():
    pretty = json.dumps({"contentBlockIndex": 0, "delta": {"text": "a\nb"}}, indent=2).encode()
    body = unwrap_event_stream(Timeline.of([(1, frame("contentBlockDelta", pretty))])).body.data
    assert body.count(b"\n") == 1 and body.endswith(b"\n")
    assert API_READERS["bedrock_converse"].decoder.decode(body).delta.text == "a\nb"


# --- under load ---------------------------------------------------------------------------------------------------


def bedrock_spec(folder: Path, model: str, stream: bool = True, **load: object):
    where = address_of(folder, model_id=model, stream=stream).model_dump()
    known = {"concurrency": [4], "min_requests": 24, "warmup_requests": 1}
    spec = spec_of(folder, where["url"], address=where, tokens=TOKENS, **{**known, **load})
    return spec.model_copy(update={"extra_body": {}})


def test_a_load_point_has_times_tokens_and_request_ids(stub, processes, tmp_path):
    requests, _ = measure(processes, bedrock_spec(tmp_path, "test.text"))
    assert set(requests["status"]) == {"ok"}
    assert (requests["output_tokens"] == TOKENS).all() and (requests["prompt_tokens"] == PROMPT_TOKENS).all()
    assert set(requests["output_tokens_source"]) == set(requests["prompt_tokens_source"]) == {"server"}
    assert set(requests["finish_reason"]) == {"max_tokens"}
    assert (requests["ttft_s"] > TTFT_S).all()
    assert (requests["latency_s"] > TTFT_S + (TOKENS - 1) * ITL_S).all()
    assert (requests["latency_s"] - requests["ttft_s"]).max() > 0.5 * (TOKENS - 1) * ITL_S, "deltas came one by one"
    sent = {one["headers"].get("x-request-id") for one in stub_log(stub)}
    assert set(requests["request_id"]) <= sent


def test_converse_without_streaming_has_no_ttft(processes, tmp_path):
    requests, _ = measure(processes, bedrock_spec(tmp_path, "test.text", stream=False))
    assert set(requests["status"]) == {"ok"}
    assert requests["ttft_s"].isna().all() and requests["tpot_s"].isna().all()
    assert (requests["latency_s"] > 0).all()
    assert (requests["output_tokens"] == TOKENS).all()


def test_throttles_are_rows_among_the_answers(processes, tmp_path):
    requests, _ = measure(processes, bedrock_spec(tmp_path, "test.busy", min_requests=30))
    throttled = requests[requests["status"] == "throttled"]
    assert set(requests["status"]) == {"ok", "throttled"}
    assert 0.2 < len(throttled) / len(requests) < 0.45, "a third"
    assert set(throttled["http_status"]) == {429}
    assert set(throttled["error_type"]) == {"ThrottlingException"}
    assert throttled["latency_s"].isna().all()


@pytest.mark.parametrize(
    ("model", "status", "http_status", "error_type"),
    [
        ("test.unready", "throttled", 429, "ModelNotReadyException"),
        ("test.quota", "throttled", 400, "ServiceQuotaExceededException"),
        ("test.unavailable", "throttled", 503, "ServiceUnavailableException"),
        ("test.denied", "http_error", 403, "AccessDeniedException"),
        ("test.slow", "http_error", 408, "ModelTimeoutException"),
        ("test.throttled", "throttled", 200, "throttlingException"),
        ("test.broken", "stream_broken", 200, "modelStreamErrorException"),
        ("test.cut", "cut_short", 200, "cut_short"),
    ],
)
def test_every_failure_is_a_row_with_its_status(processes, tmp_path, model, status, http_status, error_type):
    requests, _ = measure(processes, bedrock_spec(tmp_path, model, max_duration_s=1.0))
    assert len(requests) > 0
    assert set(requests["status"]) == {status}
    assert set(requests["http_status"]) == {http_status}
    assert set(requests["error_type"]) == {error_type}


# --- service tiers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", [None, "default", "flex", "priority"])
def test_the_service_tier_is_sent_as_boto3_sends_it(stub, tmp_path, tier):
    asked = {
        "modelId": "test.text-v1:0",
        "messages": [{"role": "user", "content": [{"text": "Question number 0?"}]}],
        "inferenceConfig": {"maxTokens": TOKENS, "temperature": 0.0, "topP": 0.9},
    }
    boto3_client().converse(**asked, **({"serviceTier": {"type": tier}} if tier else {}))
    theirs = stub_log(stub)[-1]["body"]
    address = address_of(tmp_path, stream=False, **({"service_tier": tier} if tier else {}))
    assert sent_by_us(tmp_path, address).status == "ok"
    assert stub_log(stub)[-1]["body"] == theirs
    assert theirs.get("serviceTier") == ({"type": tier} if tier else None)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"service_tier": "cheap"}, "service_tier"),
        ({"service_tier": "flex", "extra_body": {"serviceTier": {"type": "flex"}}}, "in extra_body too. Next: delete"),
        ({"service_tier": "flex", "model_id": PROVISIONED}, "has no service tiers. Next: delete service_tier"),
        (
            {
                "service_tier": "reserved",
                "price": {"usd_per_1m_input_tokens": 1, "usd_per_1m_output_tokens": 2},
            },
            "billed by the month, not per token. Next: delete `price`",
        ),
    ],
)
def test_a_tier_that_cannot_be_is_refused(tmp_path, option, words):
    with pytest.raises(ConfigError, match=words):
        load_config(bedrock_config(tmp_path, **option))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "cached"), [("test.cached", 100), *thorough(("test.text-v1:0", None))])
def test_tokens_of_a_prompt_cache_are_recorded_and_billed_at_their_price(stub, tmp_path, model, cached):
    price = {"usd_per_1m_input_tokens": 3, "usd_per_1m_output_tokens": 15, "usd_per_1m_cached_input_tokens": 0.3}
    path = bedrock_config(tmp_path, model_id=model, price=price, service_tier="priority")
    config, run = open_run(str(path), new=True)
    write_prompts(make_prompts(config.benchmark, path.parent, default_cache_dir()).tables, run.payloads)
    start_deployments(config.benchmark, run, on_change=lambda records: None)
    (answer,) = first_answers(run)
    assert ("counted here at usd_per_1m_cached_input_tokens" in "; ".join(answer.notes)) == (cached is not None)
    (record,) = load_all(config.benchmark, run, on_event=lambda event: None)
    assert record.serving["service_tier"] == "priority"
    requests = read_requests(run.requests)
    assert set(requests["cached_tokens"].dropna()) == ({cached} if cached else set())
    anew = requests["prompt_tokens"].sum() - requests["cached_tokens"].sum()
    usd = anew * 3 + requests["cached_tokens"].sum() * 0.3 + requests["output_tokens"].sum() * 15
    assert record.tokens_usd() == pytest.approx(usd / 1e6)


# --- a small series -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bedrock_option_is_measured_scored_and_left_alone(stub, tmp_path):
    write_questions(tmp_path)
    path = small_config(
        tmp_path,
        options=[
            {
                "name": "on demand",
                "target": "bedrock",
                "model_id": "test.text-v1:0",
                "price": {"usd_per_1m_input_tokens": 0.06, "usd_per_1m_output_tokens": 0.24, "as_of": "2026-11-01"},
                "extra_body": {
                    "inferenceConfig": {"maxTokens": TOKENS, "temperature": 0.7, "topP": 0.9},
                    "additionalModelRequestFields": {"top_k": 5, "reasoning_effort": "low"},
                },
            }
        ],
        aws={"region": REGION},
        prompts={"source": {"kind": "jsonl", "path": "sums.jsonl"}},
        datasets=[{"name": "sums", "prompt_tokens": [1, 100], "count": 140}],
        quality={"scorer": "numeric", "reference": "solution.sums", "samples": 8, "max_output_tokens": 10},
    )
    config, run = open_run(str(path), new=True)
    write_prompts(make_prompts(config.benchmark, path.parent, default_cache_dir()).tables, run.payloads)
    (record,) = start_deployments(config.benchmark, run, on_change=lambda records: None)
    assert (record.state, record.region, record.instance_type) == ("external", REGION, "Bedrock")
    assert record.price == token_price(0.06, 0.24, source="config", as_of="2026-11-01")
    (record,) = load_all(config.benchmark, run, on_event=lambda event: None)
    requests = read_requests(run.requests)
    assert set(requests["status"]) == {"ok"}
    assert len(requests["load_point"].unique()) == 2
    assert record.state == "external"
    assert Ledger(run.ledger_file, run.run_id).remaining() == []
    bodies = [one["body"] for one in stub_log(stub)][-9:]  # a first request, and those of the pass
    assert bodies[0]["inferenceConfig"] == {"maxTokens": TOKENS, "temperature": 0.7, "topP": 0.9}
    for body in bodies[1:]:
        assert body["messages"][0]["content"][0]["text"].startswith("What is ")
        assert body["inferenceConfig"] == {"maxTokens": 10, "temperature": 0.0}
        assert body["additionalModelRequestFields"] == {"reasoning_effort": "low"}
    answers = pq.read_table(answers_file("on demand", run)).to_pandas()
    assert (answers["answer"] == "".join(words(10))).all() and len(answers) == 8
    tokens_in, tokens_out = (requests[n].sum() + answers[n].sum() for n in ("prompt_tokens", "output_tokens"))
    assert record.tokens_usd() == pytest.approx((tokens_in * 0.06 + tokens_out * 0.24) / 1e6)
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert SECRET_KEY.encode() not in written


def write_conversations(folder: Path) -> None:
    """30 conversations of three turns, every second of them with a system message."""
    records = []
    for i in range(30):
        said = [{"role": "system", "content": f"Be “brief” {i}."}] if i % 2 else []
        for turn in range(3):
            said += [
                {"role": "user", "content": f"Why {i}.{turn}?\n"},
                {"role": "assistant", "content": f"So {i}.{turn}."},
            ]
        records.append(json.dumps({"messages": said}))
    (folder / "c.jsonl").write_text("\n".join(records))


SAID = {"test.thinking": "Grüß Gott", "test.text-v1:0": "".join(words(TOKENS))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "stream", "history", "salt"),
    [
        ("test.thinking", True, "answered", True),
        *thorough(("test.text-v1:0", False, "answered", False), ("test.thinking", False, "recorded", False)),
    ],
)
def test_conversations_are_sent_as_boto3_sends_them_with_what_was_said_and_not_thought(
    stub, tmp_path, model, stream, history, salt
):
    write_conversations(tmp_path)
    extra = {"system": [{"text": "Of a record without one."}]}
    path = small_config(
        tmp_path,
        options=[{"name": "on demand", "target": "bedrock", "model_id": model, "stream": stream, "extra_body": extra}],
        aws={"region": REGION},
        prompts={
            "source": {"kind": "jsonl", "path": "c.jsonl"},
            "conversations": {"think_time_s": 0, "history": history},
        },
        datasets=[{"name": "chat", "prompt_tokens": [1, 300], "count": 30}],
        load={
            "kind": "closed_loop",
            "concurrency": [2],
            "min_requests": 24,
            "warmup_requests": 1,
            "prefix_cache_salt": salt,
        },
    )
    config, run = open_run(str(path), new=True)
    write_prompts(make_prompts(config.benchmark, tmp_path, default_cache_dir()).tables, run.payloads)
    start_deployments(config.benchmark, run, on_change=lambda records: None)
    assert len(first_answers(run)) == 1
    load_all(config.benchmark, run, on_event=lambda event: None)
    requests = read_requests(run.requests)
    assert set(requests["status"]) == {"ok"} and set(requests["turn"]) == {1, 2, 3}
    prompts = pq.read_table(run.payloads / "chat.parquet").to_pandas().set_index("prompt_id")["conversation"]
    bodies = {one["headers"].get("x-request-id"): one["body"] for one in stub_log(stub)}
    salts = set()
    for row in requests.itertuples():
        body, prompt = bodies[row.request_id], json.loads(prompts[row.prompt_id.rpartition("-turn")[0]])
        system, messages = body["system"], body["messages"]
        first = system[0] if prompt["system"] else messages[0]["content"][0]
        text = prompt["system"] or prompt["turns"][0][0]
        salts.add(first["text"].removesuffix(text))
        first["text"] = first["text"][-len(text) :]
        assert system == ([{"text": prompt["system"]}] if prompt["system"] else extra["system"])
        expected = []
        for user, reply in prompt["turns"][: row.turn]:
            reply = reply if history == "recorded" else SAID[model]
            expected += [("user", user), ("assistant", reply)]
        assert [(m["role"], m["content"]) for m in messages] == [(role, [{"text": t}]) for role, t in expected[:-1]]
    assert (salts == {""}) != salt and (not salt or len(salts) == requests["session_id"].nunique())
    deepest = bodies[requests.loc[requests["turn"].idxmax(), "request_id"]]
    boto3_client().converse(modelId=model, **deepest)
    assert stub_log(stub)[-1]["body"] == deepest, "what boto3 takes, and sends"


def test_model_units_are_priced_by_the_hour(tmp_path):
    path = bedrock_config(tmp_path, model_id=PROVISIONED, instance_count=2, price={"usd_per_hour": 39.6})
    config, run = open_run(str(path), new=True)
    record = target_of(config.benchmark.options[0], config.benchmark, run).plan()
    assert (record.usd_per_option_hour(), record.is_billed_per_token) == (79.2, False)
    assert record.serving == {"model_id": PROVISIONED, "operation": "ConverseStream"}
    unpriced = open_run(str(bedrock_config(tmp_path)), new=True)
    record = target_of(unpriced[0].benchmark.options[0], unpriced[0].benchmark, unpriced[1]).plan()
    assert record.price is None


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"price": {"usd_per_hour": 1}}, "on-demand use is billed per token"),
        ({"price": {"usd_per_vcpu_hour": 1, "vcpus": 2}}, "on-demand use is billed per token"),
        (
            {
                "model_id": PROVISIONED,
                "price": {"usd_per_1m_input_tokens": 1, "usd_per_1m_output_tokens": 1},
            },
            "provisioned throughput is billed by the hour",
        ),
    ],
)
def test_a_price_of_the_wrong_kind_is_refused(tmp_path, option, words):
    with pytest.raises(ConfigError, match=words):
        load_config(bedrock_config(tmp_path, **option))
