"""The local SageMaker through real clients: boto3, sagemaker-core and HTTP, with the real engine on a tiny model."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError

from helpers.local_sagemaker import event_stream, launcher
from helpers.local_sagemaker.engine.errors import SettingError
from helpers.local_sagemaker.engine.settings import read_settings
from helpers.local_sagemaker.engine.text_decoding import StopTexts, StreamingDetokenizer
from helpers.local_sagemaker.tiny_model import SIZES, ensure_model

ROLE = "arn:aws:iam::123456789012:role/Role"
REGION = "eu-west-1"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "The user's naïve <b>question</b> №12345:  \n\n\tdon't `x == 3.14`? 日本 🎉"},
]

FAKE_SERVER = """
import http.server, json, os, sys
if os.environ.get("CRASH"):
    print("loading weights"); print("out of memory, token", os.environ.get("HF_TOKEN"), flush=True); sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("exit"): os._exit(7)
        if body.get("breaks"):
            self.send_response(200); self.send_header("Content-Length", "100"); self.end_headers()
            self.wfile.write(b"data: first"); self.wfile.flush(); self.connection.close(); return
        text = json.dumps({"headers": dict(self.headers), "environment": dict(os.environ)}).encode()
        self.send_response(body.get("status", 200)); self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_model("2m", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local-sagemaker")


@pytest.fixture(scope="module")
def engines(folder: Path) -> dict[str, list[str]]:
    script = folder / "fake_server.py"
    script.write_text(FAKE_SERVER)
    return {"fake": [sys.executable, str(script)]}


@pytest.fixture(scope="module")
def url(folder: Path, engines: dict[str, list[str]]) -> Iterator[str]:
    address_file = folder / "address.json"
    yield launcher.ensure_running(address_file, folder / "logs", engines)
    launcher.stop(address_file)
    assert not address_file.exists()


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return boto3.Session("local", "local", region_name=REGION)


@pytest.fixture(scope="module")
def sagemaker(session: boto3.Session, url: str) -> Any:
    return session.client("sagemaker", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture(scope="module")
def runtime(session: boto3.Session, url: str) -> Any:
    return session.client("sagemaker-runtime", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))


def create(sagemaker: Any, name: str, image: str, environment: dict[str, str]) -> None:
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image, "Environment": environment}
    )
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(name)])
    sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=name, Tags=[{"Key": "run-id", "Value": f"run of {name}"}]
    )


def variant(model: str, **changes: Any) -> dict[str, Any]:
    default = {
        "VariantName": "AllTraffic",
        "ModelName": model,
        "InstanceType": "ml.g6e.xlarge",
        "InitialInstanceCount": 1,
    }
    return {**default, **changes}


def status_after(sagemaker: Any, name: str, *transient: str) -> dict[str, Any]:
    """The endpoint as soon as its status is none of the transient ones."""
    return wait_for(
        lambda: sagemaker.describe_endpoint(EndpointName=name), lambda e: e["EndpointStatus"] not in transient
    )


def wait_for(look: Callable[[], Any], is_done: Callable[[Any], bool], timeout_s: float = 15) -> Any:
    deadline = time.monotonic() + timeout_s
    while not is_done(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {timeout_s} s"
        time.sleep(0.05)
    return seen


def delete(sagemaker: Any, name: str) -> None:
    sagemaker.delete_endpoint(EndpointName=name)
    wait_for(lambda: sagemaker.list_endpoints(NameContains=name)["Endpoints"], lambda endpoints: not endpoints)
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any, model_folder: Path) -> Iterator[str]:
    """A real engine in service."""
    environment = {"ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1", "ENGINE_MAX_NUM_SEQS": "4"}
    create(sagemaker, "engine", "openvino-genai", environment)
    assert status_after(sagemaker, "engine", "Creating")["EndpointStatus"] == "InService"
    yield "engine"
    delete(sagemaker, "engine")


@pytest.fixture(scope="module")
def fake(sagemaker: Any) -> Iterator[str]:
    create(sagemaker, "fake", "registry.example:5000/fake:1", {"HF_TOKEN": "hf_secret"})
    assert status_after(sagemaker, "fake", "Creating")["EndpointStatus"] == "InService"
    yield "fake"
    delete(sagemaker, "fake")


def ask(runtime: Any, endpoint: str, **body: Any) -> dict[str, Any]:
    """The answer to an OpenAI chat body."""
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps({"messages": MESSAGES, **body})
    )
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    return json.load(answer["Body"])


def stream(runtime: Any, endpoint: str, **body: Any) -> list[dict[str, Any]]:
    """The server-sent events of a streamed answer, without the closing [DONE]."""
    body = {"messages": MESSAGES, "stream": True, **body}
    answer = runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body)
    )
    assert answer["ContentType"] == "text/event-stream"
    text = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]).decode()
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def joined(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


# Life cycle


def test_life_of_an_endpoint(sagemaker: Any, runtime: Any, model_folder: Path) -> None:
    create(sagemaker, "life", "openvino-genai", {"ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1"})
    described = sagemaker.describe_endpoint(EndpointName="life")
    assert described["EndpointStatus"] == "Creating"
    assert described["EndpointArn"] == f"arn:aws:sagemaker:{REGION}:123456789012:endpoint/life"
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.delete_endpoint(EndpointName="life")
    with pytest.raises(ClientError, match="not found"):
        ask(runtime, "life", max_tokens=1)
    assert status_after(sagemaker, "life", "Creating")["EndpointStatus"] == "InService"
    assert sagemaker.list_tags(ResourceArn=described["EndpointArn"])["Tags"] == [
        {"Key": "run-id", "Value": "run of life"}
    ]

    assert ask(runtime, "life", max_tokens=3)["usage"]["completion_tokens"] <= 3
    assert stream(runtime, "life", max_tokens=3)[-1]["usage"]["completion_tokens"] <= 3

    sagemaker.delete_endpoint(EndpointName="life")
    assert sagemaker.describe_endpoint(EndpointName="life")["EndpointStatus"] == "Deleting"
    wait_for(lambda: sagemaker.list_endpoints(NameContains="life")["Endpoints"], lambda endpoints: not endpoints)
    sagemaker.delete_endpoint_config(EndpointConfigName="life")
    sagemaker.delete_model(ModelName="life")
    assert sagemaker.list_models(NameContains="life")["Models"] == []
    assert sagemaker.list_endpoint_configs(NameContains="life")["EndpointConfigs"] == []
    with pytest.raises(ClientError, match="Could not find endpoint"):
        sagemaker.describe_endpoint(EndpointName="life")


def test_sagemaker_core_resources(session: boto3.Session, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_SAGEMAKER": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    from sagemaker.core.resources import Endpoint, EndpointConfig, Model
    from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

    common = {"session": session, "region": REGION}
    container = ContainerDefinition(image="fake", environment={})
    model = Model.create(model_name="core", primary_container=container, execution_role_arn=ROLE, **common)
    production_variant = ProductionVariant(
        variant_name="AllTraffic", model_name="core", instance_type="ml.m5.large", initial_instance_count=1
    )
    config = EndpointConfig.create(endpoint_config_name="core", production_variants=[production_variant], **common)
    endpoint = Endpoint.create(endpoint_name="core", endpoint_config_name="core", **common)
    endpoint.wait_for_status("InService", poll=1, timeout=20)
    assert "core" in [found.endpoint_name for found in Endpoint.get_all(session=session, region=REGION)]
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=20)
    config.delete()
    model.delete()
    assert "core" not in [found.endpoint_name for found in Endpoint.get_all(session=session, region=REGION)]


def test_lists_are_paged_newest_first(sagemaker: Any) -> None:
    names = [f"paged-{number}" for number in range(12)]
    for name in names:
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "fake"})
    assert len(sagemaker.list_models(NameContains="paged")["Models"]) == 10
    pages = sagemaker.get_paginator("list_models").paginate(NameContains="paged", PaginationConfig={"PageSize": 5})
    seen = []
    for page in pages:
        assert len(page["Models"]) <= 5
        for model in page["Models"]:
            seen.append(model["ModelName"])
            sagemaker.delete_model(ModelName=model["ModelName"])  # hides nothing on the next page
    assert seen == names[::-1]


def test_tags(sagemaker: Any, fake: str) -> None:
    arn = sagemaker.describe_endpoint(EndpointName=fake)["EndpointArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}])
    assert {"Key": "a", "Value": "1"} in sagemaker.list_tags(ResourceArn=arn)["Tags"]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"])
    assert {"Key": "a", "Value": "1"} not in sagemaker.list_tags(ResourceArn=arn)["Tags"]
    with pytest.raises(ClientError, match="Could not find resource"):
        sagemaker.list_tags(ResourceArn=f"{arn}-other")


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"InstanceType": "ml.g99.large"}, "'ml.g99.large' at 'ProductionVariants.1.member.InstanceType'.*enum"),
        ({"InitialInstanceCount": 2}, "InitialInstanceCount is 2"),
        ({"ModelName": "nowhere"}, 'Could not find model "nowhere"'),
        ({"VariantName": "no spaces"}, "regular expression pattern"),
        ({"VariantName": "v" * 64}, "length less than or equal to 63"),
    ],
)
def test_refused_production_variants(sagemaker: Any, fake: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message) as error:
        sagemaker.create_endpoint_config(EndpointConfigName="bad", ProductionVariants=[variant(fake, **changes)])
    assert refused(error)[0] == "ValidationException"


def test_duplicates_are_refused(sagemaker: Any, fake: str) -> None:
    with pytest.raises(ClientError, match="Cannot create already existing endpoint ") as error:
        sagemaker.create_endpoint(EndpointName=fake, EndpointConfigName=fake)
    assert refused(error)[0] == "ValidationException"
    with pytest.raises(ClientError, match="Cannot create already existing model "):
        sagemaker.create_model(ModelName=fake, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "fake"})


def test_unknown_endpoint_and_operation(sagemaker: Any, runtime: Any) -> None:
    with pytest.raises(ClientError) as error:
        ask(runtime, "nowhere")
    assert refused(error) == ("ValidationError", "Endpoint nowhere of account 123456789012 not found.")
    with pytest.raises(ClientError, match='Could not find endpoint "nowhere"'):
        sagemaker.delete_endpoint(EndpointName="nowhere")
    with pytest.raises(ClientError) as error:
        sagemaker.list_training_jobs()
    assert refused(error)[0] == "UnknownOperationException"


@pytest.mark.parametrize("path", ["/", "/endpoints/fake/invocations"])
@pytest.mark.usefixtures("fake")
def test_unsigned_requests_are_refused(url: str, path: str) -> None:
    headers = {"X-Amz-Target": "SageMaker.ListModels"}
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(urllib.request.Request(url + path, data=b"{}", headers=headers), timeout=5)
    assert error.value.code == 403
    assert json.load(error.value)["__type"] == "MissingAuthenticationTokenException"


def test_unknown_image_fails_with_a_reason(sagemaker: Any) -> None:
    create(sagemaker, "no-image", "vllm", {})
    failed = status_after(sagemaker, "no-image", "Creating")
    assert failed["EndpointStatus"] == "Failed"
    assert "'vllm'" in failed["FailureReason"] and "fake, openvino-genai" in failed["FailureReason"]
    delete(sagemaker, "no-image")


def test_crash_at_the_start_fails_with_the_log_but_without_secrets(sagemaker: Any) -> None:
    create(sagemaker, "crash", "fake", {"CRASH": "1", "HF_TOKEN": "hf_secret"})
    failed = status_after(sagemaker, "crash", "Creating")
    assert failed["EndpointStatus"] == "Failed"
    assert "exit code 3" in failed["FailureReason"]
    assert "loading weights\nout of memory, token ***" in failed["FailureReason"]
    delete(sagemaker, "crash")


def test_crash_in_service_fails_too(sagemaker: Any, runtime: Any) -> None:
    create(sagemaker, "late-crash", "fake", {})
    status_after(sagemaker, "late-crash", "Creating")
    with pytest.raises(ClientError, match="ModelError"):
        ask(runtime, "late-crash", exit=True)
    assert "exit code 7" in status_after(sagemaker, "late-crash", "InService")["FailureReason"]
    delete(sagemaker, "late-crash")


def test_engine_names_a_bad_setting(sagemaker: Any) -> None:
    create(sagemaker, "bad-setting", "openvino-genai", {"ENGINE_MODEL": "nowhere"})
    assert "ENGINE_MODEL='nowhere': expected" in status_after(sagemaker, "bad-setting", "Creating")["FailureReason"]
    delete(sagemaker, "bad-setting")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGINE_THREADS", "0"),
        ("ENGINE_THREADS", "100000"),
        ("ENGINE_MAX_NUM_SEQS", "x"),
        ("ENGINE_PREFIX_CACHING", "1"),
    ],
)
def test_settings_are_checked(model_folder: Path, name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name}='{value}': expected"):
        read_settings({"ENGINE_MODEL": str(model_folder), name: value})


# Invocations


def test_environment_and_headers_reach_the_model_server(runtime: Any, fake: str) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName=fake,
        ContentType="application/json",
        Accept="text/x",
        CustomAttributes="a=b",
        InferenceId="i",
        Body=b"{}",
    )
    seen = json.load(answer["Body"])
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "text/x"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "a=b"
    assert headers["x-amzn-sagemaker-inference-id"] == "i"
    assert "authorization" not in headers
    assert seen["environment"]["HF_TOKEN"] == "hf_secret"
    allowed = {
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "HF_TOKEN",
        "SAGEMAKER_BIND_TO_PORT",
        "LC_CTYPE",
    }
    assert set(seen["environment"]) <= allowed


def test_model_error_keeps_the_original_status(runtime: Any, fake: str) -> None:
    with pytest.raises(ClientError) as error:
        ask(runtime, fake, status=507)
    response = error.value.response
    assert refused(error)[0] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 507
    assert '"headers"' in response["OriginalMessage"]


def test_stream_that_breaks_ends_with_an_error(runtime: Any, fake: str) -> None:
    answer = runtime.invoke_endpoint_with_response_stream(EndpointName=fake, Body=json.dumps({"breaks": True}))
    events = iter(answer["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"data: first"
    with pytest.raises(EventStreamError, match="ModelStreamError"):
        next(events)


def test_event_stream_frames_round_trip() -> None:
    payloads = [b"", b"data: x\n\n", bytes(range(256)) * 300]
    buffer = EventStreamBuffer()
    for payload in payloads:
        buffer.add_data(event_stream.payload_part(payload))
    buffer.add_data(event_stream.exception("ModelStreamError", b'{"Message": "broken"}'))
    *parts, error = list(buffer)
    assert [part.payload for part in parts] == payloads
    assert {part.headers[":event-type"] for part in parts} == {"PayloadPart"}
    assert error.headers[":message-type"] == "exception"
    assert error.headers[":exception-type"] == "ModelStreamError"
    assert error.payload == b'{"Message": "broken"}'


# The engine


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


@pytest.mark.parametrize(
    "text", ["plain words", MESSAGES[1]["content"], " \r\n ½ Ⅷ __init__ => {'k': [1, 2]} e\u0301 '<user>'"]
)
def test_prompt_tokens_are_those_of_the_tokenizer(runtime: Any, endpoint: str, tokenizer: Any, text: str) -> None:
    messages = [MESSAGES[0], {"role": "user", "content": text}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ask(runtime, endpoint, messages=messages, max_tokens=1)["usage"]["prompt_tokens"] == len(expected)


@pytest.mark.parametrize("control", [{"min_tokens": 40}, {"ignore_eos": True}])
def test_exactly_max_tokens(runtime: Any, endpoint: str, control: dict[str, Any]) -> None:
    body = {"max_tokens": 40, "temperature": 1.5, "seed": 3, **control}
    *_, last, usage = stream(runtime, endpoint, **body)
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 40
    assert ask(runtime, endpoint, **body)["usage"]["completion_tokens"] == 40


def test_stream_has_the_shape_of_a_real_server(runtime: Any, endpoint: str) -> None:
    events = stream(runtime, endpoint, max_tokens=24, min_tokens=24, model="mine", seed=1)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len({event["id"] for event in events}) == 1
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert {event["model"] for event in events} == {"mine"}
    with_text = [event for event in events[1:-2] if event["choices"][0]["delta"]["content"]]
    assert 8 < len(with_text) <= 24
    assert events[-2]["choices"][0]["delta"] == {}


def test_same_seed_same_text(runtime: Any, endpoint: str) -> None:
    def text(seed: int) -> str:
        return ask(runtime, endpoint, max_tokens=16, seed=seed)["choices"][0]["message"]["content"]

    assert text(1) == text(1) != text(2)


def test_streamed_text_is_the_text(runtime: Any, endpoint: str) -> None:
    body = {"max_tokens": 64, "min_tokens": 64, "seed": 5}
    assert (
        joined(stream(runtime, endpoint, **body)) == ask(runtime, endpoint, **body)["choices"][0]["message"]["content"]
    )


def test_stop_text_ends_the_answer(runtime: Any, endpoint: str) -> None:
    whole = joined(stream(runtime, endpoint, max_tokens=32, min_tokens=32, seed=9))
    stop = whole[len(whole) // 2 :][:3]
    events = stream(runtime, endpoint, max_tokens=32, seed=9, stop=[stop])
    assert joined(events) == whole[: whole.index(stop)]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


def test_completions_body(runtime: Any, endpoint: str) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint, Body=json.dumps({"prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True})
    )
    body = json.load(answer["Body"])
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert body["object"] == "text_completion" and isinstance(body["choices"][0]["text"], str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 4096}, "context of 4096 tokens"),
        ({"max_tokens": "many"}, "max_tokens is 'many', expected a whole number from 1"),
        ({"temperature": -1}, "temperature is -1, expected a number from 0.0 to 2.0"),
        ({"messages": []}, "messages is missing or empty"),
        ({"n": 2}, "n is 2"),
        ({"max_tokens": 2, "min_tokens": 3}, "min_tokens is 3"),
    ],
)
def test_bad_requests(runtime: Any, endpoint: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError) as error:
        ask(runtime, endpoint, **change)
    assert error.value.response["OriginalStatusCode"] == 400
    assert message in json.loads(error.value.response["OriginalMessage"])["error"]["message"]


def test_one_sequence_at_a_time(model_folder: Path) -> None:
    """With max_num_seqs=1 a short request waits for the long one before it, and a dropped one makes room."""
    with engine_process(model_folder, ENGINE_MAX_NUM_SEQS="1") as port:
        long = open_stream(port, max_tokens=3000, ignore_eos=True)
        assert long.getresponse().read(10)
        short = open_stream(port, max_tokens=1)
        waiting = short.getresponse()
        short.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            waiting.read(1)
        short.close()
        long.sock.shutdown(2)  # the client goes away
        long.close()
        after = open_stream(port, max_tokens=1)
        after.sock.settimeout(1)
        assert after.getresponse().read(5) == b"data:"
        after.close()


class engine_process:
    """An engine outside of any SageMaker, to look at it alone."""

    def __init__(self, model_folder: Path, **environment: str) -> None:
        self._port = str(random.randint(20_000, 30_000))
        self._environment = {"ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1", **environment}

    def __enter__(self) -> int:
        environment = {**os.environ, **self._environment, "SAGEMAKER_BIND_TO_PORT": self._port}
        command = [sys.executable, "-m", "helpers.local_sagemaker.engine"]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_for(self._ping, bool)
        return int(self._port)

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the lifeline: no signal is needed
        try:
            self._process.wait(timeout=5)
        finally:
            self._process.kill()

    def _ping(self) -> bool:
        assert self._process.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ping", timeout=1) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False


def open_stream(port: int, **body: Any) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES, "stream": True, **body}))
    return connection


def test_detokenizer_gives_the_text_of_the_whole(model_folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel

    whole = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    table = token_table(whole)
    chance = random.Random(0)
    ids = [chance.randrange(whole.get_vocab_size()) for _ in range(3000)] + whole.encode("naïve 日本語 🎉").ids
    detokenizer = StreamingDetokenizer(table)
    pieces = [detokenizer.add([token]) for token in ids] + [detokenizer.finish()]
    assert isinstance(whole.decoder, ByteLevel)
    assert "".join(pieces) == whole.decode(ids, skip_special_tokens=True)
    assert pieces.count("") > 10  # incomplete characters were held back


def token_table(tokenizer: Any) -> list[bytes]:
    """Bytes by token id, from the code points that stand for bytes in byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    tokens = [tokenizer.id_to_token(token) for token in range(tokenizer.get_vocab_size())]
    return [b"" if position < 5 else bytes(byte_of[c] for c in token) for position, token in enumerate(tokens)]


def test_stop_texts_hold_back_a_beginning() -> None:
    stop_texts = StopTexts(("</s>", "END"))
    assert [stop_texts.add(text) for text in ("a<", "b</", "s>c")] == [("a", False), ("<b", False), ("", True)]
    stop_texts = StopTexts(("END",))
    assert stop_texts.add("the EN") == ("the ", False)
    assert stop_texts.finish() == "EN"


# The tiny model


def test_model_is_reproducible(model_folder: Path, tmp_path: Path) -> None:
    again = ensure_model("2m", tmp_path)
    assert again.name == model_folder.name
    names = sorted(path.name for path in again.iterdir())
    assert names == ["config.json", "model.gguf", "tokenizer.json", "tokenizer_config.json"]
    for name in names:
        assert (again / name).read_bytes() == (model_folder / name).read_bytes(), name
    made = (again / "model.gguf").stat().st_mtime_ns
    assert ensure_model("2m", tmp_path) == again
    assert (again / "model.gguf").stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'7b' is not known; choose one of 2m, 16m"):
        ensure_model("7b", tmp_path)
    assert list(SIZES) == ["2m", "16m", "30m", "110m"]


# The server process


def test_two_callers_start_one_server(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from helpers.local_sagemaker import launcher; "
        "print(launcher.ensure_running(Path(sys.argv[1]) / 'address.json', Path(sys.argv[1]) / 'logs'))"
    )
    callers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    urls = {caller.communicate(timeout=30)[0].strip() for caller in callers}
    address_file = tmp_path / "address.json"
    assert urls == {launcher.running_url(address_file)}
    pid = json.loads(address_file.read_text())["pid"]
    launcher.stop(address_file)
    assert launcher.running_url(address_file) is None
    assert not psutil.pid_exists(pid) or is_gone(psutil.Process(pid))


def test_server_ends_when_everything_is_deleted_and_not_before(
    tmp_path: Path, session: boto3.Session, engines: dict[str, list[str]]
) -> None:
    address_file = tmp_path / "address.json"
    url = launcher.ensure_running(address_file, tmp_path, engines)
    sagemaker = session.client("sagemaker", endpoint_url=url)
    create(sagemaker, "last", "fake", {})
    status_after(sagemaker, "last", "Creating")
    assert address_file.exists()
    delete(sagemaker, "last")
    wait_for(address_file.exists, lambda exists: not exists, timeout_s=9)


def test_idle_server_ends(tmp_path: Path) -> None:
    address_file = tmp_path / "address.json"
    launcher.ensure_running(address_file, tmp_path, idle_timeout_s=0.5)
    wait_for(address_file.exists, lambda exists: not exists, timeout_s=5)


def test_killed_server_leaves_no_model_server(
    tmp_path: Path, session: boto3.Session, engines: dict[str, list[str]]
) -> None:
    address_file = tmp_path / "address.json"
    sagemaker = session.client("sagemaker", endpoint_url=launcher.ensure_running(address_file, tmp_path, engines))
    create(sagemaker, "orphan", "fake", {})
    status_after(sagemaker, "orphan", "Creating")
    server = psutil.Process(json.loads(address_file.read_text())["pid"])
    (model_server,) = server.children()
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(model_server), bool, timeout_s=5)
    assert launcher.running_url(address_file) is None


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    with pytest.raises(launcher.LocalSageMakerError, match="command of image 'x' is 'a b', expected a list of words"):
        launcher.ensure_running(tmp_path / "address.json", tmp_path, {"x": "a b"})  # type: ignore[dict-item]
