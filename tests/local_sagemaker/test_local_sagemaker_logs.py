"""CloudWatch Logs of the local SageMaker, through boto3."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local_sagemaker_calls import client_of, create, delete, refused, status_after

from helpers.run.local_server import Address
from helpers.run.sessions import session_of_profile

pytest_plugins = ["local_sagemaker_fixtures"]

GROUP = "/aws/sagemaker/Endpoints/crashed"
STREAM = "AllTraffic/i-local"
LINES = ["loading", "loading weights", "out of memory, token hf_secret"]


@pytest.fixture(scope="module")
def logs(server: Address) -> Any:
    return client_of(server, "logs")


@pytest.fixture(scope="module", autouse=True)
def crashed(sagemaker: Any) -> Iterator[str]:
    """An endpoint whose model server printed `LINES` and ended."""
    create(sagemaker, "crashed", "fake", {"CRASH": "1", "HF_TOKEN": "hf_secret"})
    assert status_after(sagemaker, "crashed", "Creating")["EndpointStatus"] == "Failed"
    yield "crashed"
    delete(sagemaker, "crashed")


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def test_stream_and_events_are_what_the_model_server_printed(logs: Any) -> None:
    (stream,) = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True)["logStreams"]
    assert stream["logStreamName"] == STREAM
    assert stream["arn"] == f"arn:aws:logs:eu-west-1:123456789012:log-group:{GROUP}:log-stream:{STREAM}"
    answer = logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM)
    assert messages(answer) == LINES
    assert {event["timestamp"] for event in answer["events"]} == {stream["lastEventTimestamp"]}
    assert stream["creationTime"] <= stream["lastEventTimestamp"] + 1000  # the clock of a file system is coarser
    assert abs(time.time() * 1000 - stream["lastEventTimestamp"]) < 600_000


def test_events_come_in_pages_from_either_end(logs: Any) -> None:
    def page(**more: Any) -> dict[str, Any]:
        return logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM, limit=2, **more)

    latest = page()
    assert messages(latest) == LINES[1:]
    assert messages(page(nextToken=latest["nextBackwardToken"])) == LINES[:1]
    first = page(startFromHead=True)
    assert messages(first) == LINES[:2]
    second = page(startFromHead=True, nextToken=first["nextForwardToken"])
    assert messages(second) == LINES[2:]
    end = page(startFromHead=True, nextToken=second["nextForwardToken"])
    assert (messages(end), end["nextForwardToken"]) == ([], second["nextForwardToken"])
    with pytest.raises(ClientError, match="InvalidParameterException"):
        page(nextToken="no token")


def test_events_and_streams_can_be_narrowed_down(logs: Any) -> None:
    soon_ms = int(time.time() * 1000) + 60_000
    where = {"logGroupName": GROUP, "logStreamName": STREAM}
    assert messages(logs.get_log_events(**where, startTime=soon_ms)) == []
    assert messages(logs.get_log_events(**where, endTime=soon_ms)) == LINES
    assert logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="Other")["logStreams"] == []
    arn = f"arn:aws:logs:eu-west-1:123456789012:log-group:{GROUP}"
    assert len(logs.describe_log_streams(logGroupIdentifier=arn, logStreamNamePrefix="All")["logStreams"]) == 1


def test_logs_outlive_their_endpoint(sagemaker: Any, logs: Any) -> None:
    create(sagemaker, "short-lived", "fake", {})
    status_after(sagemaker, "short-lived", "Creating")
    delete(sagemaker, "short-lived")
    group = "/aws/sagemaker/Endpoints/short-lived"
    assert messages(logs.get_log_events(logGroupName=group, logStreamName=STREAM))[0] == "loading"


@pytest.mark.parametrize(
    ("group", "stream", "message"),
    [
        ("/aws/sagemaker/Endpoints/nowhere", STREAM, "The specified log group does not exist."),
        ("/aws/sagemaker/Endpoints/local-sagemaker", STREAM, "The specified log group does not exist."),
        ("crashed", STREAM, "The specified log group does not exist."),
        (GROUP, "AllTraffic/i-other", "The specified log stream does not exist."),
    ],
)
def test_unknown_groups_and_streams_are_refused(logs: Any, group: str, stream: str, message: str) -> None:
    with pytest.raises(ClientError) as error:
        logs.get_log_events(logGroupName=group, logStreamName=stream)
    assert refused(error) == ("ResourceNotFoundException", message)


def test_logs_are_reached_through_the_profile_of_a_run(server: Address, tmp_path: Path) -> None:
    profile = f"[profile local]\nendpoint_url = {server.url}\naws_access_key_id = {server.access_key_id}\n"
    profile += f"aws_secret_access_key = {server.secret_access_key}\n"
    config_file = tmp_path / "aws_config"
    config_file.write_text(profile)
    logs = session_of_profile("local", str(config_file), "eu-west-1").client("logs")
    assert messages(logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM)) == LINES


def test_a_signature_for_another_service_is_refused(server: Address) -> None:
    ecs = client_of(server, "ecs")
    with pytest.raises(ClientError) as error:
        ecs.list_clusters()
    assert refused(error)[0] == "InvalidSignatureException"
