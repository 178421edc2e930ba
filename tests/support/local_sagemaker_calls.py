"""Small helpers of the test_local_sagemaker_*.py files: calls of both planes, and waiting for what follows."""

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.request import Request

import boto3
import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

from helpers.run.local_server import Address
from helpers.run.sessions import session_of

ROLE = "arn:aws:iam::123456789012:role/Role"
REGION = "eu-west-1"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "The user's naïve <b>question</b> №12345:  \n\n\tdon't `x == 3.14`? 日本 🎉"},
]


def session_at(server: Address) -> boto3.Session:
    """A session with the credentials of a local SageMaker."""
    core = botocore.session.Session()
    core.set_credentials(server.access_key_id, server.secret_access_key)
    return session_of(core, REGION)


def client_of(server: Address, service: str) -> Any:
    """A client of one plane of a local SageMaker, which does not try again."""
    config = Config(retries={"total_max_attempts": 1})
    return session_at(server).client(service, endpoint_url=server.url, config=config)


def signed(server: Address, path: str = "/", method: str = "POST", data: bytes = b"{}", **headers: str) -> Request:
    """A request with a right signature; headers with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=server.url + path, data=data, headers=named)
    service = "logs" if named.get("X-Amz-Target", "").startswith("Logs") else "sagemaker"
    SigV4Auth(session_at(server).get_credentials().get_frozen_credentials(), service, REGION).add_auth(request)
    return Request(request.url, data=data, headers=dict(request.headers.items()), method=method)


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


def wait_for(look: Callable[[], Any], is_done: Callable[[Any], bool], timeout_s: float = 120) -> Any:
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
