"""Fixtures and small helpers of the test_local_sagemaker_*.py files, which name this module in `pytest_plugins`."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from helpers.local_sagemaker import launcher
from helpers.local_sagemaker.tiny_model import ensure_model

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
