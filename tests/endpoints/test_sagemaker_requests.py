"""What is sent to AWS for each shipped config: whole, as botocore takes it, and shown here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import boto3
import pytest
from aws_bodies import COMMAND, SNAPSHOT, all_bodies, bodies, variables
from botocore.awsrequest import AWSResponse
from pydantic import TypeAdapter, ValidationError

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.config.options import SageMakerOption
from helpers.endpoints.targets import execution_role
from helpers.endpoints.targets.execution_role import find_execution_role
from helpers.errors import DeployError
from helpers.report.plan_report import plan_table
from local_sagemaker.api import check_parameters


@pytest.fixture
def _variables(monkeypatch):
    for name, value in variables().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_variables")
def test_the_bodies_of_all_shipped_configs_are_those_of_the_snapshot_and_valid():
    sent = all_bodies()
    for options in sent.values():
        for made in options.values():
            for operation, body in made.items():
                check_parameters("sagemaker", operation, body)
            (variant,) = made["CreateEndpointConfig"]["ProductionVariants"]
            assert variant["ModelName"] == made["CreateModel"]["ModelName"]
            assert made["CreateEndpoint"]["EndpointConfigName"] == made["CreateEndpointConfig"]["EndpointConfigName"]
    kept = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert sent == kept, f"what is sent to AWS has changed. If it is meant so: {COMMAND}, and read the difference"


ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/mine"


def test_a_capacity_reservation_reaches_the_variant(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    config = load_config(PROJECT_ROOT / "configs" / "llama-3.3-70b.yml").benchmark
    option = config.options[1].model_copy(update={"capacity_reservation": ARN})
    sent = bodies(option, config)
    check_parameters("sagemaker", "CreateEndpointConfig", sent.endpoint_config)
    asked = sent.endpoint_config["ProductionVariants"][0]["CapacityReservationConfig"]
    assert asked == {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": ARN}


def test_a_reservation_is_named_by_its_arn():
    option = {"name": "a", "target": "sagemaker", "instance_type": "ml.p5.48xlarge", "api": "tgi"}
    with pytest.raises(ValidationError, match="capacity_reservation"):
        TypeAdapter(SageMakerOption).validate_python(
            {**option, "container": {"image": "x"}, "capacity_reservation": "my-plan"}
        )


def test_outside_sagemaker_the_callers_role_is_not_taken_for_that_of_the_endpoints(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    config = load_config(PROJECT_ROOT / "configs" / "llama-3.3-70b.yml").benchmark
    with pytest.raises(DeployError, match=r"no execution role: .*not a notebook or job of SageMaker.*Next: make one"):
        find_execution_role(config, session=None)


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ("ExpiredToken", "log in again"),
        ("AccessDenied", "set aws.execution_role to the ARN of this notebook's role"),
        ("Throttling", "try again, or set aws.execution_role"),
    ],
)
def test_where_aws_does_not_say_the_role_of_a_notebook_the_next_step_follows_from_why(
    monkeypatch, tmp_path, code, step
):
    (metadata := tmp_path / "resource-metadata.json").write_text("{}")
    monkeypatch.setattr(execution_role, "NOTEBOOK_METADATA", metadata)
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    session = boto3.Session("AKIAEXAMPLE", "secret", "token", region_name="us-east-1")
    answer = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>".encode()

    def refuse(request, **_):
        return AWSResponse(request.url, 403, {}, SimpleNamespace(stream=lambda **_: [answer], read=lambda *_: answer))

    session.events.register("before-send", refuse)
    config = load_config(PROJECT_ROOT / "configs" / "llama-3.3-70b.yml").benchmark
    with pytest.raises(DeployError, match=rf"was not found: .*\({code}\).* Next: {step}"):
        find_execution_role(config, session)


@pytest.mark.parametrize(("name", "is_said"), [("llama-3.3-70b", True), ("qwen3-32b", False)])
def test_the_plan_says_who_can_read_a_secret(monkeypatch, name, is_said):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    monkeypatch.setattr("helpers.report.plan_report.price_of", lambda *_: None)
    config = load_config(PROJECT_ROOT / "configs" / f"{name}.yml").benchmark
    assert ("sagemaker:DescribeModel" in plan_table(config).caption) == is_said
