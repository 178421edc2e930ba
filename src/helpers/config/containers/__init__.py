"""What runs on a SageMaker instance: a kind of container with its settings, a custom image, or a JumpStart model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from helpers.config.containers.base import Environment, EnvironmentValue, ImageContainer, JumpStart, RequestApi
from helpers.config.containers.gpu import DjlLmiContainer, SglangContainer, TgiContainer, VllmContainer
from helpers.config.containers.model_container import ModelContainer
from helpers.config.containers.neuron import DjlNeuronContainer, OptimumNeuronContainer, VllmNeuronContainer


def _image_by_default(container: object) -> object:
    """The kind of a container: `image` if the key is missing."""
    return {"kind": "image", **container} if isinstance(container, dict) else container


AnyContainer = Annotated[
    Annotated[
        ImageContainer
        | VllmContainer
        | SglangContainer
        | TgiContainer
        | DjlLmiContainer
        | DjlNeuronContainer
        | OptimumNeuronContainer
        | VllmNeuronContainer,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_image_by_default),
]

__all__ = [
    "AnyContainer",
    "DjlLmiContainer",
    "DjlNeuronContainer",
    "Environment",
    "EnvironmentValue",
    "ImageContainer",
    "JumpStart",
    "ModelContainer",
    "OptimumNeuronContainer",
    "RequestApi",
    "SglangContainer",
    "TgiContainer",
    "VllmContainer",
    "VllmNeuronContainer",
]
