"""Control plane and data plane of the local SageMaker through real clients: boto3, sagemaker-core and HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from local_sagemaker_calls import REGION, ROLE, ask, create, delete, refused, status_after, stream, variant, wait_for

from helpers.run.local_server import Address
from local_sagemaker import event_stream

pytest_plugins = ["local_sagemaker_fixtures"]

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


def test_sagemaker_core_resources(server: Address, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_SAGEMAKER": server.url,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
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
    endpoint.wait_for_status("InService", poll=1, timeout=120)
    assert "core" in [found.endpoint_name for found in Endpoint.get_all(session=session, region=REGION)]
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=120)
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


def test_unknown_image_fails_with_a_reason(sagemaker: Any) -> None:
    create(sagemaker, "no-image", "vllm", {})
    failed = status_after(sagemaker, "no-image", "Creating")
    assert failed["EndpointStatus"] == "Failed"
    assert "'vllm'" in failed["FailureReason"]
    assert "fake, openvino-genai" in failed["FailureReason"]
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


# Endpoints that take no real-time requests

ASYNC = {"OutputConfig": {"S3OutputPath": "s3://bucket/answers"}}
SERVERLESS = {"MemorySizeInMB": 4096, "MaxConcurrency": 2}
OTHER_KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "asynchronous": ({"ModelName": "other", "InstanceType": "ml.g5.xlarge"}, {"AsyncInferenceConfig": ASYNC}),
    "serverless": ({"ModelName": "other", "ServerlessConfig": SERVERLESS}, {}),
    "inference component": (
        {"InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 2, "RoutingConfig": {"RoutingStrategy": "RANDOM"}},
        {"ExecutionRoleArn": ROLE},
    ),
}


@pytest.fixture
def other_kind(sagemaker: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint in service that is of another kind than real-time."""
    variant, more = OTHER_KINDS[request.param]
    variants = [{"VariantName": "AllTraffic", **variant}]
    sagemaker.create_model(ModelName="other", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "unknown"})
    sagemaker.create_endpoint_config(EndpointConfigName="other", ProductionVariants=variants, **more)
    sagemaker.create_endpoint(EndpointName="other", EndpointConfigName="other")
    assert status_after(sagemaker, "other", "Creating")["EndpointStatus"] == "InService"
    yield request.param
    delete(sagemaker, "other")


@pytest.mark.parametrize("other_kind", OTHER_KINDS, indirect=True)
@pytest.mark.parametrize("method", ["invoke_endpoint", "invoke_endpoint_with_response_stream"])
def test_endpoints_of_other_kinds_cannot_be_invoked(runtime: Any, other_kind: str, method: str) -> None:
    with pytest.raises(ClientError) as error:
        getattr(runtime, method)(EndpointName="other", Body=b"{}")
    code, message = refused(error)
    assert code == "ValidationError"
    assert other_kind in message.lower()


@pytest.mark.parametrize("other_kind", OTHER_KINDS, indirect=True)
def test_endpoints_of_other_kinds_are_described(sagemaker: Any, other_kind: str) -> None:
    described = sagemaker.describe_endpoint(EndpointName="other")
    (shown,) = described["ProductionVariants"]
    assert (described.get("AsyncInferenceConfig") == ASYNC) == (other_kind == "asynchronous")
    assert (shown.get("CurrentServerlessConfig") == SERVERLESS) == (other_kind == "serverless")
    assert ("DeployedImages" in shown) == (other_kind != "inference component")
    counts = {"asynchronous": 1, "serverless": 0, "inference component": 2}
    assert shown["CurrentInstanceCount"] == counts[other_kind]
    config = sagemaker.describe_endpoint_config(EndpointConfigName="other")
    assert ("ModelName" in config["ProductionVariants"][0]) == (other_kind != "inference component")


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({}, "needs either InstanceType or ServerlessConfig"),
        ({"ServerlessConfig": SERVERLESS}, "needs ModelName"),
        ({"ServerlessConfig": SERVERLESS, "InstanceType": "ml.g5.xlarge"}, "needs either"),
    ],
)
def test_variants_of_no_kind_are_refused(sagemaker: Any, variant: dict[str, Any], message: str) -> None:
    variants = [{"VariantName": "AllTraffic", **variant}]
    with pytest.raises(ClientError, match=message):
        sagemaker.create_endpoint_config(EndpointConfigName="bad", ProductionVariants=variants)


# Inference components


def test_life_of_an_inference_component(sagemaker: Any, runtime: Any) -> None:
    create(sagemaker, "plain", "fake", {})
    sagemaker.create_endpoint_config(
        EndpointConfigName="parts",
        ExecutionRoleArn=ROLE,
        ProductionVariants=[{"VariantName": "v", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}],
    )
    sagemaker.create_endpoint(EndpointName="parts", EndpointConfigName="parts")
    status_after(sagemaker, "parts", "Creating")
    asked = {
        "EndpointName": "parts",
        "Specification": {"ModelName": "plain", "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024}},
    }
    sagemaker.create_inference_component(InferenceComponentName="part", **asked)
    wait_for(
        lambda: sagemaker.describe_inference_component(InferenceComponentName="part"),
        lambda found: found["InferenceComponentStatus"] == "InService",
    )
    (listed,) = sagemaker.list_inference_components()["InferenceComponents"]
    assert (listed["EndpointName"], listed["VariantName"]) == ("parts", "v")
    answer = runtime.invoke_endpoint(EndpointName="parts", InferenceComponentName="part", Body=b"{}")
    assert answer["InvokedProductionVariant"] == "v"
    for endpoint, part, words in (
        ("parts", "other", "Inference Component other of endpoint parts not found"),
        ("plain", "part", "header is not allowed"),
    ):
        status_after(sagemaker, endpoint, "Creating")
        with pytest.raises(ClientError, match=words):
            runtime.invoke_endpoint(EndpointName=endpoint, InferenceComponentName=part, Body=b"{}")
    with pytest.raises(ClientError, match="takes no inference components"):
        sagemaker.create_inference_component(InferenceComponentName="more", **{**asked, "EndpointName": "plain"})
    with pytest.raises(ClientError, match="still has inference components"):
        sagemaker.delete_endpoint(EndpointName="parts")
    sagemaker.delete_inference_component(InferenceComponentName="part")
    wait_for(sagemaker.list_inference_components, lambda found: not found["InferenceComponents"])
    sagemaker.delete_endpoint(EndpointName="parts")
    sagemaker.delete_endpoint_config(EndpointConfigName="parts")
    delete(sagemaker, "plain")


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
        "ENGINE_SECRET",
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
