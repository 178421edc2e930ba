"""The local SageMaker misbehaves on demand: every rule is tried through boto3 against one server that has them all."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EventStreamError
from conftest import SECRET, small_config
from local_sagemaker_calls import ROLE, ask, client_of, create, delete, refused, status_after, wait_for
from local_sagemaker_fixtures import FAKE_VARIABLES
from urllib3.exceptions import ProtocolError

from helpers.config.file import load_config
from helpers.errors import ConfigError
from helpers.run import local_server as launcher
from local_sagemaker.faults import Fault, Operation

pytest_plugins = ["local_sagemaker_fixtures"]

RULES: list[Fault] = []
FOR_EVER_S = 1e6
ENDLESS = b'{"endless": true}'


def rule(**keys: Any) -> None:
    """A rule of the server that all tests here share; `name_contains` ties it to its test."""
    RULES.append(Fault(**keys))


@pytest.fixture(scope="module")
def server(folder: Path, engines: dict[str, list[str]]) -> Iterator[launcher.Address]:
    address_file = folder / "address.json"
    yield launcher.ensure_running(address_file, folder / "logs", engines, faults=RULES, engine_variables=FAKE_VARIABLES)
    launcher.stop(address_file)


@pytest.fixture
def endpoint_named(sagemaker: Any) -> Iterator[Callable[[str], str]]:
    """Makes a fake model server in service, and deletes it in the end."""
    made = []

    def make(name: str) -> str:
        create(sagemaker, name, "fake", {})
        made.append(name)
        assert status_after(sagemaker, name, "Creating")["EndpointStatus"] == "InService"
        return name

    yield make
    for name in made:
        delete(sagemaker, name)


@pytest.fixture(scope="module")
def logs(server: launcher.Address) -> Any:
    return client_of(server, "logs")


def messages(logs: Any, endpoint: str) -> list[str]:
    """What the model server of an endpoint printed so far."""
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    try:
        answer = logs.get_log_events(logGroupName=group, logStreamName="AllTraffic/i-local", startFromHead=True)
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in answer["events"]]


def make_model(sagemaker: Any, name: str) -> None:
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "fake"})


# Calls that are refused

rule(call="CreateEndpoint", name_contains="quota", error_code="ResourceLimitExceeded", message="The limit is 0")
rule(call="CreateModel", name_contains="denied", error_code="AccessDeniedException", message="no PassRole")
rule(call="CreateEndpointConfig", name_contains="expired", error_code="ExpiredTokenException", status=403)


def test_create_calls_are_refused_with_any_code_and_status(sagemaker: Any) -> None:
    with pytest.raises(ClientError) as error:
        create(sagemaker, "quota", "fake", {})
    assert isinstance(error.value, sagemaker.exceptions.ResourceLimitExceeded)
    assert refused(error) == ("ResourceLimitExceeded", "The limit is 0")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert sagemaker.list_endpoints(NameContains="quota")["Endpoints"] == []

    with pytest.raises(ClientError) as error:
        make_model(sagemaker, "denied")
    assert refused(error) == ("AccessDeniedException", "no PassRole")
    assert sagemaker.list_models(NameContains="denied")["Models"] == []

    with pytest.raises(ClientError) as error:
        create(sagemaker, "expired", "fake", {})
    assert refused(error)[0] == "ExpiredTokenException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


rule(call="DescribeModel", name_contains="spared", after=1, times=2, error_code="ThrottlingException")
rule(call="DescribeModel", name_contains="spared", after=2, times=2, error_code="AccessDeniedException")


def test_rules_count_their_calls_and_the_first_that_hits_acts(sagemaker: Any) -> None:
    def outcome(name: str) -> str:
        try:
            sagemaker.describe_model(ModelName=name)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "fine"

    make_model(sagemaker, "spared")
    make_model(sagemaker, "other")
    seen = []
    for _ in range(5):
        seen.append(outcome("spared"))
        assert outcome("other") == "fine"
    assert seen == ["fine", "ThrottlingException", "ThrottlingException", "AccessDeniedException", "fine"]


rule(call="DescribeEndpoint", name_contains="throttled", times=3, error_code="ThrottlingException", message="Rate")


def test_a_client_that_tries_again_uses_up_the_throttling(session: boto3.Session, url: str, sagemaker: Any) -> None:
    create(sagemaker, "throttled", "fake", {})
    with pytest.raises(ClientError) as error:
        sagemaker.describe_endpoint(EndpointName="throttled")
    assert refused(error) == ("ThrottlingException", "Rate")
    retries = Config(retries={"total_max_attempts": 3, "mode": "standard"})
    patient = session.client("sagemaker", endpoint_url=url, config=retries)
    described = patient.describe_endpoint(EndpointName="throttled")
    assert described["ResponseMetadata"]["RetryAttempts"] == 2


for call in ("DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"):
    rule(call=call, name_contains="sticky", times=2, error_code="AccessDeniedException", message=f"not {call}")


def test_deletions_are_refused_as_often_as_asked(sagemaker: Any) -> None:
    create(sagemaker, "sticky", "fake", {})
    status_after(sagemaker, "sticky", "Creating")
    calls = {
        "DeleteEndpoint": lambda: sagemaker.delete_endpoint(EndpointName="sticky"),
        "DeleteEndpointConfig": lambda: sagemaker.delete_endpoint_config(EndpointConfigName="sticky"),
        "DeleteModel": lambda: sagemaker.delete_model(ModelName="sticky"),
    }
    for name, call in calls.items():
        for _ in range(2):
            with pytest.raises(ClientError) as error:
                call()
            assert refused(error) == ("AccessDeniedException", f"not {name}")
        call()
    assert sagemaker.list_models(NameContains="sticky")["Models"] == []


# Answers that come late or never

rule(call="ListModels", name_contains="slow", delay_s=0.4)
rule(call="DeleteModel", name_contains="slow", delay_s=0.4, error_code="ServiceUnavailable", status=503)


def test_answers_come_late(sagemaker: Any) -> None:
    make_model(sagemaker, "slow")
    start = time.monotonic()
    assert [model["ModelName"] for model in sagemaker.list_models(NameContains="slow")["Models"]] == ["slow"]
    assert time.monotonic() - start >= 0.4
    start = time.monotonic()
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        sagemaker.delete_model(ModelName="slow")
    assert time.monotonic() - start >= 0.4


rule(call="CreateEndpoint", name_contains="unanswered", loses_answer=True)


def test_a_call_is_carried_out_though_its_answer_is_lost(sagemaker: Any) -> None:
    with pytest.raises((ConnectionClosedError, ConnectionError)):
        create(sagemaker, "unanswered", "fake", {})
    assert status_after(sagemaker, "unanswered", "Creating")["EndpointStatus"] == "InService"
    delete(sagemaker, "unanswered")


# Endpoints that come up late, or fail

NO_CAPACITY = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
rule(call="CreateEndpoint", name_contains="capacity", times=1, delay_s=0.3, becomes="Failed", message=NO_CAPACITY)


def test_an_endpoint_fails_with_a_reason_and_the_next_attempt_succeeds(sagemaker: Any, logs: Any) -> None:
    start = time.monotonic()
    create(sagemaker, "capacity", "fake", {})
    failed = status_after(sagemaker, "capacity", "Creating")
    assert time.monotonic() - start >= 0.3
    assert (failed["EndpointStatus"], failed["FailureReason"]) == ("Failed", NO_CAPACITY)
    with pytest.raises(ClientError, match="log group does not exist"):
        logs.describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/capacity")
    delete(sagemaker, "capacity")
    create(sagemaker, "capacity", "fake", {})
    assert status_after(sagemaker, "capacity", "Creating")["EndpointStatus"] == "InService"
    delete(sagemaker, "capacity")


rule(call="CreateEndpoint", name_contains="late", delay_s=1)


def test_creating_lasts_longer_although_the_model_server_is_ready(sagemaker: Any) -> None:
    start = time.monotonic()
    create(sagemaker, "late", "fake", {})
    in_service = status_after(sagemaker, "late", "Creating")
    assert time.monotonic() - start >= 1
    assert in_service["EndpointStatus"] == "InService"
    assert (in_service["LastModifiedTime"] - in_service["CreationTime"]).total_seconds() > 0.95
    delete(sagemaker, "late")


rule(call="CreateEndpoint", name_contains="stuck", delay_s=FOR_EVER_S)


def test_an_endpoint_stays_in_creating_and_cannot_be_deleted(sagemaker: Any, runtime: Any, logs: Any) -> None:
    create(sagemaker, "stuck", "fake", {})
    wait_for(lambda: messages(logs, "stuck"), bool)  # its model server runs
    create(sagemaker, "unhindered", "fake", {})
    status_after(sagemaker, "unhindered", "Creating")
    assert sagemaker.describe_endpoint(EndpointName="stuck")["EndpointStatus"] == "Creating"
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.delete_endpoint(EndpointName="stuck")
    with pytest.raises(ClientError, match="not found"):
        ask(runtime, "stuck")
    delete(sagemaker, "unhindered")


def test_a_crash_ends_creating_however_long_it_was_to_last(sagemaker: Any) -> None:
    create(sagemaker, "stuck-crash", "fake", {"CRASH": "1"})
    assert "exit code 3" in status_after(sagemaker, "stuck-crash", "Creating")["FailureReason"]
    delete(sagemaker, "stuck-crash")


def test_what_failed_while_creating_lasted_does_not_come_up_any_more(sagemaker: Any) -> None:
    create(sagemaker, "late-crash", "fake", {"CRASH_LATER": "1"})
    failed = status_after(sagemaker, "late-crash", "Creating", "InService")
    assert "exit code 5" in failed["FailureReason"]
    create(sagemaker, "late-control", "fake", {})  # in service only after the other one was to be
    status_after(sagemaker, "late-control", "Creating")
    assert sagemaker.describe_endpoint(EndpointName="late-crash")["EndpointStatus"] == "Failed"
    delete(sagemaker, "late-crash")
    delete(sagemaker, "late-control")


# Invocations

rule(call="InvokeEndpoint", name_contains="out-of-memory", error_code="ModelError", message="CUDA out of memory")
rule(call="InvokeEndpoint", name_contains="busy", after=1, times=1, error_code="ThrottlingException", status=429)


@pytest.mark.parametrize("method", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
def test_invocations_end_with_an_error_of_the_model(
    runtime: Any, endpoint_named: Callable[[str], str], method: str
) -> None:
    with pytest.raises(ClientError) as error:
        getattr(runtime, method)(EndpointName=endpoint_named("out-of-memory"), Body=b"{}")
    response = error.value.response
    assert refused(error)[0] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (500, "CUDA out of memory")


def test_invocations_are_throttled(runtime: Any, endpoint_named: Callable[[str], str]) -> None:
    name = endpoint_named("busy")
    runtime.invoke_endpoint(EndpointName=name, Body=b"{}")
    with pytest.raises(ClientError) as error:
        runtime.invoke_endpoint_with_response_stream(EndpointName=name, Body=ENDLESS)
    assert refused(error)[0] == "ThrottlingException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    runtime.invoke_endpoint(EndpointName=name, Body=b"{}")


rule(call="InvokeEndpoint", name_contains="torn", break_after_parts=3)
rule(call="InvokeEndpoint", name_contains="sorry", break_after_parts=2, error_code="ModelStreamError", message="Sorry")


def test_a_stream_is_reset_after_as_many_parts_as_asked(runtime: Any, endpoint_named: Callable[[str], str]) -> None:
    name = endpoint_named("torn")
    answer = runtime.invoke_endpoint_with_response_stream(EndpointName=name, Body=ENDLESS)
    parts = []
    with pytest.raises(ProtocolError, match="reset"):
        parts.extend(answer["Body"])
    assert [set(part["PayloadPart"]["Bytes"].split()) for part in parts] == [{b"data:", b"x"}] * 3
    with pytest.raises((ConnectionClosedError, ConnectionError)):
        runtime.invoke_endpoint(EndpointName=name, Body=b"{}")


def test_a_stream_ends_with_an_exception_frame(runtime: Any, endpoint_named: Callable[[str], str]) -> None:
    answer = runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint_named("sorry"), Body=ENDLESS)
    events = iter(answer["Body"])
    assert all("PayloadPart" in next(events) for _ in range(2))
    with pytest.raises(EventStreamError, match="Sorry") as error:
        next(events)
    assert refused(error)[0] == "ModelStreamError"


# Rules that make no sense


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"call": "CreateEndpoints", "delay_s": 1}, r"call: bad value 'CreateEndpoints'. Expected .*'CreateEndpoint'"),
        ({"call": "CreateModel"}, "nothing goes wrong: give at least one of delay_s"),
        (
            {"call": "CreateModel", "break_after_parts": 1},
            "`break_after_parts` goes with InvokeEndpoint, not with CreateM",
        ),
        (
            {"call": "DeleteEndpoint", "becomes": "Failed"},
            "`becomes` goes with CreateEndpoint, not with DeleteEndpoint",
        ),
        ({"call": "InvokeEndpoint", "loses_answer": True}, "give `break_after_parts: 0`"),
        ({"call": "CreateEndpoint", "becomes": "Failed", "error_code": "X"}, "delete `becomes` and `loses_answer`"),
        (
            {"call": "InvokeEndpoint", "break_after_parts": 1, "error_code": "X"},
            "error code X: an error within a stream",
        ),
        ({"call": "InvokeEndpoint", "error_code": "ModelStreamError"}, "any other comes instead of the answer"),
        ({"call": "CreateModel", "delay_s": 1, "status": 500}, "`status` goes with `error_code`"),
        ({"call": "CreateModel", "delay_s": 1, "message": "x"}, "`message` goes with `error_code` or `becomes`"),
    ],
)
def test_a_config_with_a_rule_that_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("TEST_SECRET", SECRET)
    path = small_config(tmp_path, local_sagemaker={"faults": [{"call": "DeleteModel", "delay_s": 1}, keys]})
    with pytest.raises(ConfigError, match=rf"local_sagemaker\.faults\[1\].*{message}"):
        load_config(path)


def test_a_server_with_bad_rules_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_sagemaker", "--address-file", str(tmp_path / "address.json")]
    command += ["--log-dir", str(tmp_path), "--settings", "-"]
    settings = '{"faults": [{"call": "CreateModel"}]}'
    ended = subprocess.run(command, input=settings, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "argument --settings" in ended.stderr
    assert "nothing goes wrong" in ended.stderr


def test_rules_know_every_operation_of_the_server(sagemaker: Any, logs: Any, server: Any) -> None:
    known = {"InvokeEndpoint"}
    for call in (
        sagemaker.list_training_jobs,
        logs.describe_log_groups,
        client_of(server, "cloudwatch").list_metrics,
    ):
        with pytest.raises(ClientError) as error:
            call()
        code, message = refused(error)
        assert code == "UnknownOperationException"
        known.update(message.rpartition("knows ")[2].split(", "))
    assert known == set(get_args(Operation))
