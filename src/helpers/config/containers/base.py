"""What all containers of SageMaker endpoints have in common, a custom image, and a JumpStart model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema

from helpers.config.secret_names import HIDDEN, without_secrets
from helpers.config.strict import Strict

RequestApi = Literal["openai_chat", "openai_completions", "tgi", "djl"]


def _spelt_back(value: object) -> object:
    """Environment values are text; YAML reads `8` and `true` as other types."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


EnvironmentValue = Annotated[
    str, BeforeValidator(_spelt_back), WithJsonSchema({"type": ["string", "number", "boolean"]})
]


class Environment(Strict):
    """Settings that every container takes."""

    environment: dict[str, EnvironmentValue] = Field(
        default_factory=dict, repr=False, description="Environment variables; they override those that settings become."
    )
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="Environment variable -> secret in AWS Secrets Manager: name or ARN, `#key` for one key of a JSON secret.",
    )

    _as_written: dict[str, str] = PrivateAttr(default_factory=dict)
    """Setting or environment variable -> the text with `${NAME}` in the config."""

    def note_as_written(self, setting: str, text: str) -> None:
        """Show this text instead of the value of its `${NAME}`."""
        self._as_written[setting] = text

    def shown_settings(self) -> dict[str, str]:
        """Setting -> value as the report shows them, under the config's names; never a secret."""
        shown = {
            **self.environment,
            **{name: text for name, text in self._as_written.items() if name in self.environment},
        }
        return {**without_secrets(shown), **dict.fromkeys(self.secrets, HIDDEN)}

    def check_instance_type(self, instance_type: str) -> None:
        """Raise ValueError with the reason if the container cannot run on an instance type."""


class ImageContainer(Environment):
    """A serving container given by its image."""

    kind: Literal["image"] = "image"
    image: str = Field(description="Image URI, or the name of a local engine.")
    model_data_url: str | None = Field(default=None, description="S3 URI of the model archive, if the image needs one.")

    @property
    def default_api(self) -> RequestApi | None:
        """None: an image may speak any format."""
        return None

    def image_uri(self, instance_type: str, region: str) -> str:
        """The image."""
        return self.image

    def full_environment(self) -> dict[str, str]:
        """Environment variables of the container, except those from Secrets Manager."""
        return dict(self.environment)


class JumpStart(Environment):
    """A JumpStart model: image, model data and default environment are looked up by the SageMaker SDK."""

    model_id: str
    version: str = "*"
    accept_eula: bool = Field(default=False, description="Set to true to accept the model's end-user licence.")

    def shown_settings(self) -> dict[str, str]:
        """Model, version, and changes to the model's default environment; never a secret."""
        model = {"model_id": self.model_id, "version": self.version}
        return {name: self._as_written.get(name, value) for name, value in model.items()} | super().shown_settings()
