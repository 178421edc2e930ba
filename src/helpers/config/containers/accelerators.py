"""GPUs or Neuron chips, vCPUs, memory and local disks of SageMaker hosting's instance types, from data/instances.csv; how fast an
accelerator can be at best, from data/accelerators.csv.

A type that is not in that file, or an empty cell, is unknown: a check that needs it fails with a message.
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
ACCELERATORS = DATA_DIR / "accelerators.csv"

Accelerator = Literal["gpu", "neuron"]

_FAMILY = re.compile(r"ml\.([^.]+)\.[^.]+")
_NEURON_CHIPS = ("AWS Inferentia", "AWS Inferentia2", "AWS Trainium", "AWS Trainium2")


@dataclass(frozen=True)
class Instance:
    """A row of the file. None means unknown."""

    instance_type: str
    family: str
    accelerator: str
    """Maker and model; `none` for instances with only CPUs."""
    count: int | None
    """GPUs or chips."""
    memory_gib_each: float | None
    """Memory of one GPU or chip."""
    neuron_cores: int | None
    """NeuronCores of all chips together; None if there are no Neuron chips."""
    vcpus: int | None
    local_disk_gb: float | None
    """Local disks; 0 if there are none, and the instance has an EBS volume."""

    @property
    def words(self) -> str:
        """What the instance has, for a message."""
        names = {"gpu": "GPUs", "neuron": "NeuronCores"}
        return names.get(self.kind) or ("CPUs only" if self.accelerator == "none" else self.accelerator)

    @property
    def kind(self) -> Accelerator | None:
        """The kind of accelerator; None for CPUs, and for accelerators that no supported container runs on."""
        if self.accelerator.startswith("NVIDIA "):
            return "gpu"
        return "neuron" if self.accelerator in _NEURON_CHIPS else None


@dataclass(frozen=True)
class Peak:
    """What the maker states of one accelerator, without sparsity. No figure is below what the hardware can do."""

    bytes_per_s: float
    """Bandwidth of its memory."""
    flops_by_bits: dict[int, float]
    """Bits of an operand -> floating-point or integer operations per second."""

    def flops(self, bits: int) -> float:
        """Operations per second, at the fastest precision of at least as many bits."""
        return max(flops for of, flops in self.flops_by_bits.items() if of >= bits)


def unknown_instance(instance_type: str, fact: str) -> ValueError:
    """The error of a check that needs an unknown fact."""
    return ValueError(
        f"data/instances.csv does not know {fact} of {instance_type!r}. Expected an instance type of SageMaker hosting. "
        "Next: correct instance_type, or add the fact to that file"
    )


def instance_of(instance_type: str) -> Instance | None:
    """The facts about an instance type; None if it is unknown."""
    return _instances().get(instance_type)


def known_instance(instance_type: str) -> Instance:
    """The facts about an instance type. Raises ValueError if it is unknown."""
    found = instance_of(instance_type)
    if found is None:
        raise unknown_instance(instance_type, "the accelerators")
    return found


def family_of(instance_type: str) -> str:
    """The family, for example `g5` of ml.g5.12xlarge; empty if the name has another form."""
    match = _FAMILY.fullmatch(instance_type)
    return match.group(1) if match else ""


def accelerators_on(instance_type: str) -> int | None:
    """How many GPUs, or NeuronCores, an instance has; None if unknown."""
    found = instance_of(instance_type)
    if found is None:
        return None
    return found.neuron_cores if found.kind == "neuron" else found.count


def peak_of(instance_type: str) -> Peak | None:
    """The peak of each accelerator of an instance; None if it is unknown."""
    return _peaks().get(family_of(instance_type))


@cache
def _peaks() -> dict[str, Peak]:
    """Instance family -> peak of its accelerators."""
    with ACCELERATORS.open(encoding="utf-8", newline="") as file:
        return {family: _peak(row) for row in csv.DictReader(file) for family in row["families"].split()}


def _peak(row: dict[str, str]) -> Peak:
    flops = {bits: float(row[f"tflops_{bits}_bit"]) * 1e12 for bits in (4, 8, 16)}
    return Peak(float(row["memory_gb_per_s"]) * 1e9, flops)


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
        _number(row["vcpus"], int),
        _number(row["local_disk_gb"], float),
    )


def _number(text: str, kind: type) -> float | int | None:
    return kind(text) if text else None
