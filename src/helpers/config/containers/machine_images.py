"""The machine image (`InferenceAmiVersion`) on which a container runs: its driver must suit the container's CUDA.

From data/inference_amis.csv. On an unsuitable image the container exits before it writes a line, and SageMaker retries for
half an hour, billed: so combinations that cannot run are refused.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache

from helpers.config.containers.accelerators import DATA_DIR, family_of, instance_of

MACHINE_IMAGES = DATA_DIR / "inference_amis.csv"
NEURON = "neuron"
NEEDS_A_NEW_DRIVER = "cu13"
"""Containers from this version on do not run on SageMaker's default image (driver 470)."""
_CUDA_OF_TAG = re.compile(r"(?:^|[-_])(cu\d{3})(?=[-_.]|$)")


@dataclass(frozen=True)
class MachineImage:
    """A row of the file: which containers (beginnings of cu118, cu124, cu130; neuron) run on which families."""

    name: str
    containers: tuple[str, ...]
    families: tuple[str, ...]

    def runs(self, container: str | None) -> bool:
        """True if it runs such a container; also for a container whose needs are unknown."""
        return container is None or container.startswith(self.containers)


def machine_image_for(image: str, instance_type: str, stated: str | None = None) -> str | None:
    """The machine image for a container image: as stated, else from the file; None for SageMaker's default.

    Raises ValueError if the container is known not to run there.
    """
    container = _container_of(image, instance_type)
    of_family = [each for each in _machine_images() if family_of(instance_type) in each.families]
    fitting = list(dict.fromkeys(each.name for each in of_family if each.runs(container)))
    needs = f"a container with {container}" if container else "this container"
    if stated is not None and stated not in fitting:
        raise ValueError(
            f"inference_ami {stated[:60]!r} does not run {needs} on {instance_type}. Expected "
            f"{' or '.join(fitting) or 'none that data/inference_amis.csv knows'}. Next: delete inference_ami to use the first "
            "of these, or choose a version of the container with another CUDA"
        )
    if stated is not None:
        return stated
    if container is None and not _is_only(of_family):
        return None
    is_new = container != NEURON and container is not None and container >= NEEDS_A_NEW_DRIVER
    if not fitting and (of_family or is_new):
        raise ValueError(
            f"no machine image in data/inference_amis.csv runs {needs} on {instance_type}. Next: choose a version of the "
            "container with another CUDA, or another instance_type"
        )
    return fitting[0] if fitting else None


def _is_only(of_family: list[MachineImage]) -> bool:
    """True if a family has only one machine image."""
    return len({each.name for each in of_family}) == 1


def _container_of(image: str, instance_type: str) -> str | None:
    """What a container needs from the driver: `neuron`, or the CUDA version in its image tag; None if the tag has none."""
    instance = instance_of(instance_type)
    if instance is None or instance.kind is None:
        return None
    if instance.kind == "neuron":
        return NEURON
    found = _CUDA_OF_TAG.search(image.rpartition("/")[2].partition(":")[2])
    return found.group(1) if found else None


@cache
def _machine_images() -> tuple[MachineImage, ...]:
    with MACHINE_IMAGES.open(encoding="utf-8", newline="") as file:
        return tuple(
            MachineImage(row["inference_ami"], tuple(row["containers"].split()), tuple(row["families"].split()))
            for row in csv.DictReader(file)
        )
