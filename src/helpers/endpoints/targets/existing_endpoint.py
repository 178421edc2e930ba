"""A SageMaker endpoint that was there before the run: it is described and measured, and never deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from helpers.endpoints.failures import deploy_error
from helpers.endpoints.targets.sagemaker_resources import is_not_found
from helpers.errors import DeployError

if TYPE_CHECKING:
    import boto3

    from helpers.config.options import SageMakerOption


class ExistingEndpoint(NamedTuple):
    """What serves at an existing endpoint."""

    instance_type: str
    instance_count: int
    image: str | None


def describe_existing(option: SageMakerOption, session: boto3.Session) -> ExistingEndpoint:
    """Instance type and count, and image of an existing endpoint. Raises DeployError where it cannot be measured.

    It must be in service, with one production variant on instances of its own: answers of two variants, of serverless or
    asynchronous endpoints and of inference components, which share their instances, have no price per instance and hour.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    name, client = option.endpoint_name, session.client("sagemaker")
    try:
        endpoint = client.describe_endpoint(EndpointName=name)
        config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        variant = _only_variant(option, endpoint, config)
        model = client.describe_model(ModelName=variant["ModelName"])
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and is_not_found(error):
            raise _refusal(option, f"is not there ({error})", "check endpoint_name and aws.region") from None
        raise deploy_error(option.name, f"cannot describe endpoint {name}", error) from error
    live = next(v for v in endpoint["ProductionVariants"] if v["VariantName"] == variant["VariantName"])
    container = model.get("PrimaryContainer") or next(iter(model.get("Containers", [])), {})
    return ExistingEndpoint(variant["InstanceType"], live.get("CurrentInstanceCount", 1), container.get("Image"))


def _only_variant(option: SageMakerOption, endpoint: dict, config: dict) -> dict:
    """The one production variant, on instances of its own."""
    if "AsyncInferenceConfig" in config or "AsyncInferenceConfig" in endpoint:
        raise _refusal(
            option,
            "is asynchronous: it answers into S3, whenever it likes, so no latency can be measured",
            "deploy the model to a real-time endpoint",
        )
    variants = config["ProductionVariants"]
    if len(variants) != 1:
        raise _refusal(option, f"has {len(variants)} production variants, expected one", "measure them apart")
    if "ModelName" not in variants[0]:
        raise _refusal(
            option,
            "holds inference components, which share its instances: what one of them costs cannot be told",
            "deploy the model to an endpoint of its own",
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
