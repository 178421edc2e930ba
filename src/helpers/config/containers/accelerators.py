"""What an instance type of SageMaker hosting has: GPUs or Neuron chips, their memory, disks of its own. From data/instances.csv.

A type that is not in that file, or a fact that stands empty there, is unknown: a check that needs it fails, and says so.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

DATA_DIR = Path(__file__).resolve().parents[4] / "data"
INSTANCES = DATA_DIR / "instances.csv"

Accelerator = Literal["gpu", "neuron"]

_FAMILY = re.compile(r"ml\.([^.]+)\.[^.]+")
_NEURON_CHIPS = ("AWS Inferentia", "AWS Inferentia2", "AWS Trainium", "AWS Trainium2")


@dataclass(frozen=True)
class Instance:
    """A row of the file. Null is unknown."""

    instance_type: str
    family: str
    accelerator: str
    """Maker and model; `none` for instances that have CPUs only."""
    count: int | None
    """GPUs or chips."""
    memory_gib_each: float | None
    """Of a GPU or chip."""
    neuron_cores: int | None
    """Of all chips together; null where there are no Neuron chips."""
    local_disk_gb: float | None
    """Disks of its own; 0 for none, and then it has an EBS volume."""

    @property
    def words(self) -> str:
        """What it has, for a message."""
        names = {"gpu": "GPUs", "neuron": "NeuronCores"}
        return names.get(self.kind) or ("CPUs only" if self.accelerator == "none" else self.accelerator)

    @property
    def kind(self) -> Accelerator | None:
        """What accelerates inference there; null for CPUs, and for what no container of ours runs on."""
        if self.accelerator.startswith("NVIDIA "):
            return "gpu"
        return "neuron" if self.accelerator in _NEURON_CHIPS else None


def unknown_instance(instance_type: str, fact: str) -> ValueError:
    """The error of a check that needs what is not known."""
    return ValueError(
        f"data/instances.csv does not know {fact} of {instance_type!r}. Expected an instance type of SageMaker hosting. "
        "Next: correct instance_type, or add the fact to that file"
    )


def instance_of(instance_type: str) -> Instance | None:
    """What is known of an instance type; null for nothing."""
    return _instances().get(instance_type)


def known_instance(instance_type: str) -> Instance:
    """What is known of an instance type. Raises ValueError for nothing."""
    found = instance_of(instance_type)
    if found is None:
        raise unknown_instance(instance_type, "the accelerators")
    return found


def family_of(instance_type: str) -> str:
    """The family, for example `g5` of ml.g5.12xlarge; empty where the name is not of that form."""
    match = _FAMILY.fullmatch(instance_type)
    return match.group(1) if match else ""


def accelerator_of(instance_type: str) -> Accelerator | None:
    """What accelerates inference there; null for instances that have CPUs only, and where it is unknown."""
    found = instance_of(instance_type)
    return found.kind if found else None


def accelerators_on(instance_type: str) -> int | None:
    """How many GPUs, or NeuronCores, an instance has; null where this is unknown."""
    found = instance_of(instance_type)
    if found is None:
        return None
    return found.neuron_cores if found.kind == "neuron" else found.count


@cache
def _instances() -> dict[str, Instance]:
    with INSTANCES.open(encoding="utf-8", newline="") as file:
        return {row["instance_type"]: _instance(row) for row in csv.DictReader(file)}


def _instance(row: dict[str, str]) -> Instance:
    return Instance(
        row["instance_type"],
        row["family"],
        row["accelerator"],
        _number(row["count"], int),
        _number(row["memory_gib_each"], float),
        _number(row["neuron_cores"], int),
        _number(row["local_disk_gb"], float),
    )


def _number(text: str, kind: type) -> float | int | None:
    return kind(text) if text else None
