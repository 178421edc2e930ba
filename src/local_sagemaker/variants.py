"""Production variants: what a CreateEndpointConfig may request, and what DescribeEndpoint then shows.

An endpoint runs one container on one instance, or one container per inference component, invoked in real time.
Asynchronous and serverless endpoints can be created and described, so that clients can be tested against them.
"""

import time

from local_sagemaker.api import ApiError, Record

COMPONENT_REQUIRED = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "
    "Please include Inference Component Name header or consider using SageMaker models."
)
"""AWS's message, as seen in https://github.com/langchain-ai/langchain/issues/16150."""

COMPONENT_NOT_ALLOWED = "Inference Component Name header is not allowed for endpoints without inference components."


def only_container(model: Record) -> Record:
    """The container in the parameters of a CreateModel; raises `ApiError` unless there is exactly one."""
    containers = list(model.get("Containers") or [])
    if model.get("PrimaryContainer"):
        containers.append(model["PrimaryContainer"])
    if len(containers) != 1:
        raise ApiError(
            "ValidationException", f"The model has {len(containers)} containers; the local SageMaker runs one."
        )
    container: Record = containers[0]
    return container


def only_variant(config: Record) -> Record:
    """The variant in the parameters of a CreateEndpointConfig; raises `ApiError` for what a single process on this
    machine cannot represent."""
    variants = config["ProductionVariants"]
    if len(variants) != 1:
        raise ApiError(
            "ValidationException", f"There are {len(variants)} production variants; the local SageMaker runs one."
        )
    variant: Record = variants[0]
    if ("InstanceType" in variant) == ("ServerlessConfig" in variant):
        raise ApiError(
            "ValidationException",
            f"Production variant {variant['VariantName']} needs either InstanceType or ServerlessConfig.",
        )
    if "ServerlessConfig" in variant and "ModelName" not in variant:
        raise ApiError("ValidationException", f"Serverless variant {variant['VariantName']} needs ModelName.")
    if why_not_invocable(config) is None and variant.get("InitialInstanceCount", 1) != 1:
        raise ApiError(
            "ValidationException",
            f"InitialInstanceCount is {variant['InitialInstanceCount']}; the local SageMaker runs one instance.",
        )
    return variant


def why_not_invocable(config: Record) -> str | None:
    """InvokeEndpoint's error if an endpoint of this config takes no real-time requests; None if it does."""
    variant = config["ProductionVariants"][0]
    if "AsyncInferenceConfig" in config:
        return "The endpoint is asynchronous: it takes InvokeEndpointAsync, which the local SageMaker does not have."
    if "ServerlessConfig" in variant:
        return "The endpoint is serverless: the local SageMaker describes such an endpoint but does not run it."
    return None if "ModelName" in variant else COMPONENT_REQUIRED


def describe_endpoint_of(config: Record, model: Record | None) -> Record:
    """What DescribeEndpoint shows of the endpoint config and, if it names one, of its model."""
    variant = config["ProductionVariants"][0]
    weight = variant.get("InitialVariantWeight", 1.0)
    summary: Record = {"VariantName": variant["VariantName"], "CurrentWeight": weight, "DesiredWeight": weight}
    if model is not None:
        image = only_container(model).get("Image", "")
        summary["DeployedImages"] = [{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": time.time()}]
    if "ServerlessConfig" in variant:
        summary.update(CurrentInstanceCount=0, CurrentServerlessConfig=variant["ServerlessConfig"])
    else:
        count = variant.get("InitialInstanceCount", 1)
        summary.update(CurrentInstanceCount=count, DesiredInstanceCount=count)
    shown = {key: variant[key] for key in ("ManagedInstanceScaling", "RoutingConfig") if key in variant}
    described: Record = {"ProductionVariants": [{**summary, **shown}]}
    if "AsyncInferenceConfig" in config:
        described["AsyncInferenceConfig"] = config["AsyncInferenceConfig"]
    return described
