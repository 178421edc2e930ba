"""The fixture `moto_server`: S3, STS, Secrets Manager, CloudWatch with its Logs, and SNS on loopback, empty for each test.

A test file names this module in `pytest_plugins`. The environment of the test, and of the processes that it starts, points
boto3 there, with dummy credentials. What moto lacks (pricing, quotas, Bedrock, SageMaker as it is) is not sent there.
"""

import logging
import urllib.request
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

SERVICES = ("S3", "STS", "SECRETS_MANAGER", "CLOUDWATCH_LOGS", "CLOUDWATCH", "SNS")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def moto_process() -> Iterator[str]:
    """The URL of the server, which all tests share."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def moto_server(moto_process: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a server that holds nothing yet; boto3 finds it by the standard variables."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_process}/moto-api/reset", method="POST")).close()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for service in SERVICES:
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", moto_process)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return moto_process
