"""What the machines of a plan are: machine image, accelerators with their memory, and disk. Looked up, nothing is made."""

from __future__ import annotations

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.containers.accelerators import Instance, instance_of
from helpers.config.options import Option, SageMakerOption
from helpers.endpoints.targets.sagemaker_requests import machine_image_of
from helpers.report.display import Table

COLUMNS = ["option", "machine_image", "accelerators", "disk"]
CAPTION = (
    "Machines on AWS, by data/instances.csv and data/inference_amis.csv. The machine image holds the driver that the container "
    "needs; `inference_ami` in an option wins. What weights and KV cache take of the memory: docs/aws.md."
)


def is_made_on_aws(option: Option) -> bool:
    """True where the run creates an endpoint on AWS."""
    return isinstance(option, SageMakerOption) and option.deploy and not option.local


def machines_table(config: BenchmarkConfig) -> Table | None:
    """A row for each endpoint that the run makes on AWS; null for none.

    Takes seconds, in which the SageMaker SDK loads. Raises DeployError for an image that it does not know, or that runs on no
    machine image.
    """
    rows = [_row(option, config.aws.region) for option in config.options if is_made_on_aws(option)]
    return Table(pd.DataFrame(rows), COLUMNS, CAPTION) if rows else None


def _row(option: SageMakerOption, region: str) -> dict[str, str]:
    instance = instance_of(option.instance_type)
    return {
        "option": option.name,
        "machine_image": _machine_image(option, region),
        "accelerators": _accelerators(instance),
        "disk": _disk(option, instance),
    }


def _machine_image(option: SageMakerOption, region: str) -> str:
    if option.container is None:
        return option.inference_ami or "by the image of the JumpStart model, which is looked up when it is deployed"
    image = option.container.image_uri(option.instance_type, region)
    return machine_image_of(option, image) or "SageMaker's default for the instance type"


def _accelerators(instance: Instance | None) -> str:
    if instance is None or instance.count is None:
        return "unknown"
    if not instance.count:
        return "none"
    memory = f", {instance.memory_gib_each:g} GiB each" if instance.memory_gib_each else ", memory unknown"
    return f"{instance.count} x {instance.accelerator}{memory}"


def _disk(option: SageMakerOption, instance: Instance | None) -> str:
    if option.volume_gb:
        return f"EBS volume, {option.volume_gb} GB"
    if instance is None or instance.local_disk_gb is None:
        return "unknown"
    return (
        f"local, {instance.local_disk_gb:g} GB" if instance.local_disk_gb else "EBS volume of SageMaker's default size"
    )
