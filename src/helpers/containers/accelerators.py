"""What accelerates inference on a SageMaker instance: GPUs, or the cores of Inferentia and Trainium chips."""

from __future__ import annotations

import re
from typing import Literal

Accelerator = Literal["gpu", "neuron"]

_FAMILY = re.compile(r"^ml\.([a-z0-9\-]+)\.([a-z0-9\-]+)$")
_GPUS = {
    ("g4dn", "g5", "g6", "g6e"): {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    ("p2",): {"xlarge": 1, "8xlarge": 8, "16xlarge": 16},
    ("p3",): {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8},
    ("p3dn", "p4d", "p4de"): {"24xlarge": 8},
    ("p5",): {"4xlarge": 1, "48xlarge": 8},
    ("p5e", "p5en", "p6-b200", "p6-b300"): {"48xlarge": 8},
}
"""Families -> size -> GPUs. Source: https://aws.amazon.com/ec2/instance-types/accelerated-computing/"""
_ONE_GPU_SIZES = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
"""Sizes of the g4dn to g6e families that have one GPU."""
_NEURON_CORES = {
    "inf2": {"xlarge": 2, "8xlarge": 2, "24xlarge": 12, "48xlarge": 24},
    "trn1": {"2xlarge": 2, "32xlarge": 32},
    "trn1n": {"32xlarge": 32},
}
"""Family -> size -> NeuronCores, two to a chip. Source:
https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/neuron-hardware/index.html"""


def family_of(instance_type: str) -> str:
    """The family, for example `g5` of ml.g5.12xlarge; empty where the name is not of that form."""
    match = _FAMILY.match(instance_type)
    return match.group(1) if match else ""


def accelerator_of(instance_type: str) -> Accelerator | None:
    """What accelerates inference there; null for instances that have CPUs only."""
    family = family_of(instance_type)
    if re.match(r"inf\d|trn\d", family):
        return "neuron"
    return "gpu" if re.match(r"g\d|p\d", family) else None


def accelerators_on(instance_type: str) -> int | None:
    """How many GPUs, or NeuronCores, an instance has; null where this is not known."""
    match = _FAMILY.match(instance_type)
    if match is None:
        return None
    family, size = match.groups()
    if family in _NEURON_CORES:
        return _NEURON_CORES[family].get(size)
    for families, by_size in _GPUS.items():
        if family in families:
            return by_size.get(size, 1 if "g5" in families and size in _ONE_GPU_SIZES else None)
    return None
