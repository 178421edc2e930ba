"""A SageMaker endpoint that was there before the run: it is described and measured, and never deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from helpers.endpoints.failures import deploy_error
from helpers.endpoints.targets.sagemaker_resources import digest_of
from helpers.errors import DeployError
from helpers.run.aws_errors import is_not_found

if TYPE_CHECKING:
    import boto3
    from botocore.client import BaseClient

    from helpers.config.options import SageMakerOption


class ExistingEndpoint(NamedTuple):
    """What serves at an existing endpoint."""

    instance_type: str
    instance_count: int
    image: str | None
    image_digest: str | None
    serving: dict[str, str]
    """The inference component that is measured, and its copies; empty for the model of an endpoint."""


def describe_existing(option: SageMakerOption, session: boto3.Session) -> ExistingEndpoint:
    """Instance type and count, and image of an existing endpoint. Raises DeployError where it cannot be measured.

    It must be in service, with one production variant on its own instances: answers of two variants, of serverless or
    asynchronous endpoints have no price per instance and hour. Of inference components, one is measured.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    name, client = option.endpoint_name, session.client("sagemaker")
    try:
        endpoint = client.describe_endpoint(EndpointName=name)
        config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        variant = _only_variant(option, endpoint, config)
        live = next(v for v in endpoint["ProductionVariants"] if v["VariantName"] == variant["VariantName"])
        image, images, serving = (
            _component(option, client)
            if option.inference_component
            else (_image(variant, client), live.get("DeployedImages", []), {})
        )
    except (ClientError, BotoCoreError) as error:
        if is_not_found(error):
            keys = "endpoint_name and inference_component" if option.inference_component else "endpoint_name"
            raise _refusal(option, f"does not exist ({error})", f"check {keys} and aws.region") from None
        raise deploy_error(option.name, f"cannot describe endpoint {name}", error) from error
    count = live.get("CurrentInstanceCount", 1)
    return ExistingEndpoint(variant["InstanceType"], count, image, digest_of(images), serving)


def _image(variant: dict, client: BaseClient) -> str | None:
    """The image of the model that a variant serves."""
    model = client.describe_model(ModelName=variant["ModelName"])
    container = model.get("PrimaryContainer") or next(iter(model.get("Containers", [])), {})
    return container.get("Image")


def _component(option: SageMakerOption, client: BaseClient) -> tuple[str | None, list[dict], dict[str, str]]:
    """The image of the option's inference component, the same as deployed, and what the report says about the component."""
    name = option.inference_component
    component = client.describe_inference_component(InferenceComponentName=name)
    if component["EndpointName"] != option.endpoint_name:
        raise _refusal(
            option,
            f"does not hold the inference component {name}: endpoint {component['EndpointName']} does",
            "correct endpoint_name or inference_component",
        )
    if (status := component["InferenceComponentStatus"]) != "InService":
        raise _refusal(
            option, f"holds the inference component {name}, which is {status}, expected InService", "wait until it is"
        )
    specification = component.get("Specification", {})
    deployed = specification.get("Container", {}).get("DeployedImage", {})
    image = _image(specification, client) if "ModelName" in specification else deployed.get("SpecifiedImage")
    copies = component.get("RuntimeConfig", {}).get("CurrentCopyCount")
    serving = {"inference_component": name, **({"copies": str(copies)} if copies is not None else {})}
    return image, [deployed], serving


def _only_variant(option: SageMakerOption, endpoint: dict, config: dict) -> dict:
    """The one production variant, on its own instances."""
    if "AsyncInferenceConfig" in config or "AsyncInferenceConfig" in endpoint:
        raise _refusal(
            option,
            "is asynchronous: it answers into S3, whenever it likes, so no latency can be measured",
            "deploy the model to a real-time endpoint",
        )
    variants = config["ProductionVariants"]
    if len(variants) != 1:
        raise _refusal(option, f"has {len(variants)} production variants, expected one", "measure them apart")
    if "ModelName" not in variants[0] and not option.inference_component:
        raise _refusal(
            option,
            "holds inference components, expected its own model",
            "set inference_component to the name of the one to measure",
        )
    if "ModelName" in variants[0] and option.inference_component:
        raise _refusal(
            option,
            f"has its own model, expected the inference component {option.inference_component}",
            "delete inference_component",
        )
    if "ServerlessConfig" in variants[0] or "InstanceType" not in variants[0]:
        raise _refusal(
            option,
            "is serverless: it has no price per instance and hour",
            "deploy the model to a real-time endpoint on instances",
        )
    if endpoint["EndpointStatus"] != "InService":
        raise _refusal(option, f"is {endpoint['EndpointStatus']}, expected InService", "wait until it is in service")
    return variants[0]


def _refusal(option: SageMakerOption, why: str, next_step: str) -> DeployError:
    return DeployError(f"option {option.name!r}: endpoint {option.endpoint_name} {why}. Next: {next_step}")
