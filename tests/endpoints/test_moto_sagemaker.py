"""The same calls against a second implementation of SageMaker: moto's. Nothing of ours stands behind it."""

from __future__ import annotations

import boto3
import pytest
from aws_stub import refusing
from fault_lab import fault_config
from moto.sagemaker.models import sagemaker_backends

from helpers.config.file import load_config
from helpers.endpoints.orphans import delete_orphans, find_orphans
from helpers.endpoints.targets.base import target_of
from helpers.endpoints.targets.sagemaker_resources import delete_resources, deployed_images, digest_of
from helpers.run.folder import scratch_run

pytest_plugins = ["moto_server"]

ROLE = "arn:aws:iam::123456789012:role/endpoints"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker"


@pytest.fixture
def made_by(tmp_path, moto_server, monkeypatch):
    """A target, and the ledger entry of an endpoint that it made."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", moto_server)
    option = {"instance_type": "ml.g4dn.xlarge", "container": {"image": IMAGE}, "price": None}  # a type that moto knows
    aws = {"region": "us-east-1", "execution_role": ROLE, "tags": {"team": "search"}}
    config = load_config(fault_config(tmp_path, ("a",), option=option, aws=aws))
    monkeypatch.setattr("helpers.endpoints.targets.sagemaker.price_of", lambda *_, **__: None)
    with scratch_run(config) as run:
        target = target_of(config.benchmark.options[0], config.benchmark, run)
        record = target.create(target.plan())
        assert target.status(record).state == "in_service"
        yield target, record


@pytest.fixture
def made(made_by):
    """The ledger entry of an endpoint that the target made, and the session."""
    return made_by[1], boto3.Session(region_name="us-east-1")


@pytest.mark.parametrize(
    ("code", "said", "unsaid"),
    [
        (
            "AccessDeniedException",
            "Its log could not be read (An error occurred (AccessDeniedException)",
            "prints nothing",
        ),
        ("ResourceNotFoundException", "a container that prints nothing", "could not be read"),
    ],
)
def test_a_container_whose_log_cannot_be_read_is_not_said_to_print_nothing(made_by, monkeypatch, code, said, unsaid):
    target, record = made_by
    endpoint = sagemaker_backends["123456789012"]["us-east-1"].endpoints[record.endpoint_name]
    endpoint.endpoint_status, endpoint.failure_reason = "Failed", "did not pass the ping health check"
    with refusing(code) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        because = target.status(record).reason
    assert said in because and unsaid not in because


def left(session: boto3.Session) -> list[object]:
    """All endpoints, endpoint configs and models that there are."""
    client = session.client("sagemaker")
    listed = (client.list_endpoints(), client.list_endpoint_configs(), client.list_models())
    return [
        item for page, key in zip(listed, ("Endpoints", "EndpointConfigs", "Models"), strict=True) for item in page[key]
    ]


def test_what_was_made_is_what_was_asked_for_and_deleting_leaves_nothing(made):
    record, session = made
    client = session.client("sagemaker")
    (variant,) = client.describe_endpoint_config(EndpointConfigName=record.endpoint_name)["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.g4dn.xlarge", 1)
    model = client.describe_model(ModelName=record.endpoint_name)
    assert (model["PrimaryContainer"]["Image"], model["ExecutionRoleArn"]) == (IMAGE, ROLE)
    tags = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=model["ModelArn"])["Tags"]}
    assert tags["team"] == "search" and tags["created-by"] == "llm-serving-verdict" and tags["expires-at"]
    delete_resources(record, session, 5)
    delete_resources(record, session, 5)
    assert left(session) == []


def test_what_was_left_behind_is_found_by_its_tags_and_deleted(made):
    record, session = made
    session.client("sagemaker").create_model(ModelName="theirs", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "x"})
    (orphan,) = find_orphans(session)
    assert (orphan.name, orphan.kinds) == (record.endpoint_name, ("Endpoint", "EndpointConfig", "Model"))
    delete_orphans([orphan], session)
    assert [item["ModelName"] for item in left(session)] == ["theirs"]


@pytest.mark.parametrize(
    ("resolved", "digest"),
    [
        ([f"{IMAGE.partition(':')[0]}@sha256:0a"], "sha256:0a"),
        ([f"{IMAGE.partition(':')[0]}@sha256:0a"] * 2, "sha256:0a"),
        (["x@sha256:0a", "x@sha256:0b"], None),
        ([IMAGE], None),
        ([None], None),
        ([], None),
    ],
)
def test_the_digest_is_that_of_the_one_image_that_runs(resolved, digest):
    images = [{"SpecifiedImage": IMAGE, **({"ResolvedImage": image} if image else {})} for image in resolved]
    assert digest_of(deployed_images({"ProductionVariants": [{"DeployedImages": images}]})) == digest
    assert digest_of(deployed_images({"ProductionVariants": [{}]})) is digest_of(deployed_images({})) is None
