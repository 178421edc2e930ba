"""The bodies of CreateModel, CreateEndpointConfig and CreateEndpoint for one option. Nothing is called here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from helpers.config.containers.machine_images import machine_image_for
from helpers.errors import DeployError

if TYPE_CHECKING:
    from helpers.config.benchmark import AwsConfig
    from helpers.config.options import SageMakerOption
    from helpers.endpoints.targets.model_source import ModelSource

VARIANT = "AllTraffic"
SHORTEST_STARTUP_TIMEOUT_S = 60
Body = dict[str, Any]


class EndpointRequests(NamedTuple):
    """What is sent to create the three resources of an option. Holds secrets: it is never written."""

    model: Body
    endpoint_config: Body
    endpoint: Body


def machine_image_of(option: SageMakerOption, image: str | None) -> str | None:
    """The machine image for an option's container image; None for SageMaker's default. Raises DeployError if they do not fit.

    Without a container image, as the option states it.
    """
    if option.local or image is None:
        return option.inference_ami
    try:
        return machine_image_for(image, option.instance_type, option.inference_ami)
    except ValueError as error:
        raise DeployError(f"option {option.name!r}: image {image.rpartition('/')[2]}: {error}") from error


def endpoint_requests(
    option: SageMakerOption,
    aws: AwsConfig,
    source: ModelSource,
    *,
    name: str,
    role: str,
    subnets: list[str],
    tags: dict[str, str],
) -> EndpointRequests:
    """All three bodies; every resource is called `name`. Raises DeployError where machine and container image do not fit."""
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    model: Body = {
        "ModelName": name,
        "PrimaryContainer": _container(source),
        "ExecutionRoleArn": role,
        "Tags": listed,
    }
    if subnets:
        model["VpcConfig"] = {"Subnets": subnets, "SecurityGroupIds": aws.vpc.security_group_ids}
    config: Body = {
        "EndpointConfigName": name,
        "ProductionVariants": [_variant(option, name, source)],
        "Tags": listed,
    }
    if aws.kms_key_id:
        config["KmsKeyId"] = aws.kms_key_id
    return EndpointRequests(model, config, {"EndpointName": name, "EndpointConfigName": name, "Tags": listed})


def _variant(option: SageMakerOption, name: str, source: ModelSource) -> Body:
    """The one production variant, on its own instances."""
    optional = {
        "InferenceAmiVersion": machine_image_of(option, source.image),
        "VolumeSizeInGB": option.volume_gb,
        "ModelDataDownloadTimeoutInSeconds": int(option.model_download_timeout_s) if source.model_data_url else None,
        "CapacityReservationConfig": _reservation(option.capacity_reservation),
    }
    return {
        "VariantName": VARIANT,
        "ModelName": name,
        "InstanceType": option.instance_type,
        "InitialInstanceCount": option.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": max(SHORTEST_STARTUP_TIMEOUT_S, int(option.startup_timeout_s)),
    } | {key: value for key, value in optional.items() if value is not None}


def _reservation(arn: str | None) -> Body | None:
    """Instances of a training plan alone: SageMaker knows no other preference."""
    return arn and {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": arn}


def _container(source: ModelSource) -> Body:
    """Image and environment; model data as an archive, or as a folder or with an accepted licence as a data source."""
    body: Body = {"Image": source.image, "Environment": source.environment}
    url = source.model_data_url
    if not url:
        return body
    if not (url.endswith("/") or source.accept_eula):
        return body | {"ModelDataUrl": url}
    is_archive = url.endswith(".tar.gz")
    data = {
        "S3Uri": url,
        "S3DataType": "S3Object" if is_archive else "S3Prefix",
        "CompressionType": "Gzip" if is_archive else "None",
    }
    if source.accept_eula:
        data["ModelAccessConfig"] = {"AcceptEula": True}
    return body | {"ModelDataSource": {"S3DataSource": data}}
