"""The machines of a plan: machine image, accelerators with their memory, and disk; and whether the account may use as many.

Looked up, nothing is made.
"""

from __future__ import annotations

import sys
from collections import Counter

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.containers.accelerators import Instance, instance_of
from helpers.config.load import REQUESTS_PER_S_PER_PROCESS, STREAMS_PER_PROCESS, processes_for, shares_of_nodes
from helpers.config.options import Option, SageMakerOption
from helpers.endpoints.quotas import Quota, read_quotas
from helpers.endpoints.targets.sagemaker_requests import machine_image_of
from helpers.number_text import plural
from helpers.report.columns import Column
from helpers.report.display import Table

MOST_SHARES = 4
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
    rows = [
        {
            "option": option.name,
            "machine_image": _machine_image(option, config.aws.region),
            "accelerators": _accelerators(instance),
            "disk": _disk(option, instance),
        }
        for option in config.options
        if is_made_on_aws(option)
        for instance in [instance_of(option.instance_type)]
    ]
    return Table(rows, COLUMNS, CAPTION) if rows else None


def load_machines_table(config: BenchmarkConfig) -> Table | None:
    """What each machine of `load.cluster` sends at each load; null where this machine sends all."""
    load, cluster = config.load, config.load.cluster
    if cluster is None:
        return None
    levels = load.possible_levels()
    nodes, per_node = cluster.nodes, cluster.processes_per_node
    rows = [
        {
            "load": level.label,
            "processes": processes_for(load, level, nodes * per_node, nodes),
            "each": _each(shares_of_nodes(load, level)),
        }
        for level in levels
    ]
    said = (
        f"Load machines: {plural(nodes, 'node')} of the Ray cluster at {cluster.address} (load.cluster), with up to "
        f"{_processes(per_node)} each."
    )
    highest = max(levels)
    wanted = processes_for(load, highest, sys.maxsize)
    if nodes > 1 and wanted <= per_node:
        said += (
            f" One node can do this alone: {highest.label} takes {_processes(wanted)}. Next: set nodes: 1, or leave out "
            "load.cluster to send from this machine."
        )
    elif wanted > nodes * per_node:
        said += (
            f" That may be too few: {highest.label} takes {_processes(wanted)} ({STREAMS_PER_PROCESS} streams or "
            f"{REQUESTS_PER_S_PER_PROCESS} requests/s each). Next: raise nodes or processes_per_node."
        )
    return Table(rows, ["load", "processes", Column("each", "sent by each node", wraps=True)], said)


def _processes(count: int) -> str:
    return f"{count:,} load process{'' if count == 1 else 'es'}"


def _each(shares: list[float]) -> str:
    """For example `3 + 2`; of many nodes those that send alike are counted."""
    if len(shares) <= MOST_SHARES:
        return " + ".join(f"{share:g}" for share in shares)
    return " + ".join(f"{count} x {share:g}" for share, count in Counter(shares).items())


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


def quota_table(config: BenchmarkConfig) -> Table | None:
    """Instances that the run needs at once beside what the account may use; None where it makes no endpoint on AWS.

    Takes seconds, and half a minute for each of quotas and use in accounts with very much of them.
    """
    needed = instances_needed(config)
    if not needed:
        return None
    region = config.aws.region
    quotas = read_quotas(needed, region)
    rows = [
        {
            "instance_type": instance_type,
            "needed": count,
            "limit": quotas[instance_type].limit,
            "in_use": quotas[instance_type].in_use,
            "enough": _is_enough(quotas[instance_type], count),
            "source": quotas[instance_type].source,
        }
        for instance_type, count in needed.items()
    ]
    columns = ["instance_type", "needed", "limit", "in_use", "enough", Column("source", "quota from")]
    caption = (
        f"Instances for endpoints in {region}. Needed: the most that exist at once where max_parallel_endpoints is "
        f"{config.endpoints.max_parallel_endpoints}. In use: by all endpoints of the account."
    )
    return Table(rows, columns, caption)


def instances_needed(config: BenchmarkConfig) -> dict[str, int]:
    """Instance type -> the most instances on AWS that the run's endpoints may have at once."""
    counts: dict[str, list[int]] = {}
    for option in config.deployed().options:
        if is_made_on_aws(option):
            counts.setdefault(option.instance_type, []).append(option.instance_count)
    at_once = config.endpoints.max_parallel_endpoints
    return {kind: sum(sorted(each, reverse=True)[:at_once]) for kind, each in counts.items()}


def _is_enough(quota: Quota, needed: int) -> str:
    suffices = quota.suffices(needed)
    if suffices is None:
        return f"unknown: {quota.unknown_because}"
    if suffices:
        return "enough"
    return f"too few: ask for {needed + (quota.in_use or 0)} at Service Quotas"
