"""Containers built for one serving stack: the image is looked up, and settings have the same names in all of them."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, field_validator

from helpers.config.containers.accelerators import Accelerator, accelerators_on, known_instance, unknown_instance
from helpers.config.containers.base import Environment, RequestApi
from helpers.config.strict import PositiveInt
from helpers.config.unquoted import read_unquoted
from helpers.errors import DeployError

MODEL_FOLDER = "/opt/ml/model"
"""Where SageMaker puts model data from S3."""
HUB_CACHE = {"HF_HOME": "/tmp", "HUGGINGFACE_HUB_CACHE": "/tmp"}
"""Where weights from Hugging Face go: `/tmp` is on the large disk, the default on the small root volume.

As `model_builder_servers.py` of sagemaker-serve 1.27 sets it for vLLM, SGLang, TGI and DJL.
"""
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
_ACCELERATORS = {"gpu": "GPUs", "neuron": "NeuronCores"}
_FACTS = {"active_parameters_b", "weight_bits"}
_NO_SETTINGS = frozenset({"kind", "model_id", "version", "image", "hf_token", "environment", "secrets"} | _FACTS)
_EIGHT_BITS = ("fp8", "static_int8")
"""Methods of quantisation after which a weight has eight bits at least."""
_SPECULATION = ("specul", "medusa", "eagle", "draft", "lookahead", "mtp")


class ModelContainer(Environment):
    """What all kinds have: a model, the image that serves it, and settings. Subclasses define how they are passed."""

    kind: str
    model_id: str = Field(
        min_length=1, description="Hugging Face id, or s3:// URI of a folder with the model's unpacked files."
    )
    version: str | None = Field(
        default=None, description="Version of the image; default the newest that the SageMaker SDK knows."
    )
    image: str | None = Field(default=None, description="Image URI, in place of the look-up by `version`.")
    hf_token: str | None = Field(
        default=None, repr=False, description="Hugging Face token, for gated models; write it as ${HF_TOKEN}."
    )
    tensor_parallel_degree: PositiveInt | None = Field(
        default=None, description="GPUs, or NeuronCores, that share one copy of the model."
    )
    max_batch: PositiveInt | None = Field(default=None, description="Maximum sequences processed at once.")
    max_model_tokens: PositiveInt | None = Field(default=None, description="Maximum tokens of prompt plus output.")
    active_parameters_b: float | None = Field(
        default=None,
        gt=0,
        description="Billions of parameters that every output token needs: without input embeddings; of a mixture of experts, "
        "of the active ones. Only a race uses it, for the least that the option can cost: too high a figure can exclude it.",
    )
    weight_bits: Annotated[Literal[4, 8, 16] | None, BeforeValidator(read_unquoted)] = Field(
        default=None,
        description="Bits of a weight in memory, with `active_parameters_b`; default 8 for `quantization: fp8`, else the most "
        "favourable, 4. Too high a figure can exclude the option from a race.",
    )

    framework: ClassVar[str]
    """Name of the image in `sagemaker.core.image_uris`."""
    accelerator: ClassVar[Accelerator]
    families: ClassVar[tuple[str, ...]] = ()
    """Instance families that the image runs on, if not all with its accelerator."""
    fixed_environment: ClassVar[dict[str, str]] = {}
    model_variable: ClassVar[str]
    token_variables: ClassVar[tuple[str, ...]] = ("HF_TOKEN",)
    variables: ClassVar[dict[str, tuple[str, ...]]]
    """Setting -> the environment variables that it becomes."""

    @field_validator("model_id")
    @classmethod
    def _folder_if_on_s3(cls, value: str) -> str:
        if value.startswith("s3://") and value.rstrip("/").endswith(_ARCHIVES):
            raise ValueError(
                "an archive on S3. Expected the s3:// URI of a folder with the unpacked files of the model. "
                "Next: unpack it there, or take `kind: image` with `model_data_url`"
            )
        return value

    @property
    def default_api(self) -> RequestApi:
        """The container's most informative format: for OpenAI servers chat, with prompt and output token counts."""
        return "openai_chat"

    @property
    def model_data_url(self) -> str | None:
        """S3 prefix of the model's files, with a trailing slash; None if the container fetches the model itself."""
        return self.model_id.rstrip("/") + "/" if self.model_id.startswith("s3://") else None

    def image_uri(self, instance_type: str, region: str) -> str:
        """The image as stated, else the SageMaker SDK's for a region. Makes no AWS call. Raises DeployError."""
        if self.image is not None:
            return self.image
        from sagemaker.core import image_uris

        in_order = image_uris.list_versions(self.framework, "inference")
        known = [each for each in in_order if each[0].isdigit()]
        version = self.version or known[-1]
        if version not in known:
            raise DeployError(
                f"container.version {version!r}: the SageMaker SDK knows no such image of kind {self.kind} (region "
                f"{region}). Expected one of: {', '.join(known)}. Next: take one of these, update sagemaker-core, or give "
                "container.image"
            )
        try:
            # Without an instance type, because for Trainium the SDK refuses all frameworks except PyTorch.
            return image_uris.retrieve(self.framework, region=region, version=version, image_scope="inference")
        except (ValueError, KeyError) as error:
            raise DeployError(
                f"container.version {version!r} of kind {self.kind}: no image for region {region}: {error} "
                "Next: change aws.region, or give container.image"
            ) from error

    def full_environment(self) -> dict[str, str]:
        """Environment variables of the container, except those from Secrets Manager. May hold secrets: never shown."""
        token = dict.fromkeys(self.token_variables, self.hf_token) if self.hf_token else {}
        return {
            **HUB_CACHE,
            **self.fixed_environment,
            **self._model_environment(),
            **self._settings_environment(),
            **token,
            **self.environment,
        }

    def shown_settings(self) -> dict[str, str]:
        """Kind, model and all settings, under the config's names; never a secret."""
        stated = {name: getattr(self, name) for name in ("kind", "model_id", "version", "image")}
        stated |= self._settings()
        stated |= {name: text for name, text in self._as_written.items() if stated.get(name) is not None}
        return {name: _text(value) for name, value in stated.items() if value is not None} | super().shown_settings()

    def fewest_weight_bits(self) -> int:
        """Bits of a weight in memory: what is stated, unless settings ask for fewer."""
        method = getattr(self, "quantization", None)
        if any("QUANT" in name.upper() for name in (*self.environment, *self.secrets)):
            return 4
        stated = self.weight_bits or (8 if method in _EIGHT_BITS else 4)
        return min(stated, 8 if method in _EIGHT_BITS else 4 if method else 16)

    def most_tokens_per_step(self) -> int | None:
        """Output tokens that one pass over the weights may yield for a request: one, but for speculative decoding; None if
        unknown.
        """
        told = [*self.environment, *self.environment.values(), *self.secrets, self.model_id]
        return None if any(word in text.lower() for text in told for word in _SPECULATION) else 1

    def check_instance_type(self, instance_type: str) -> None:
        """Raise ValueError if the image does not run there, or if there are too few accelerators."""
        instance = known_instance(instance_type)
        wanted, next_step = _ACCELERATORS[self.accelerator], "Next: choose another instance_type or kind of container"
        if instance.kind != self.accelerator:
            words = f"container kind {self.kind} runs on {wanted}; {instance_type} has {instance.words}"
            raise ValueError(f"{words}. {next_step}")
        if self.families and instance.family not in self.families:
            raise ValueError(
                f"container kind {self.kind} runs on the families {', '.join(self.families)}; {instance_type} is in another. "
                f"{next_step}"
            )
        count, degree = accelerators_on(instance_type), self.tensor_parallel_degree
        if degree is not None and count is None:
            raise unknown_instance(instance_type, f"the number of {wanted}")
        if degree is not None and degree > count:
            raise ValueError(
                f"container.tensor_parallel_degree {degree} is more than the {count} {wanted} of {instance_type}. "
                "Next: lower it, or choose a larger instance_type"
            )

    def _settings(self) -> dict[str, JsonValue]:
        """Setting -> value, for those that are set."""
        names = [name for name in type(self).model_fields if name not in _NO_SETTINGS]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _settings_environment(self) -> dict[str, str]:
        return {
            variable: _text(value)
            for name, value in self._settings().items()
            for variable in self.variables.get(name, ())
        }

    def _model_environment(self) -> dict[str, str]:
        return {self.model_variable: MODEL_FOLDER if self.model_data_url else self.model_id}


def _text(value: JsonValue) -> str:
    """A value as written in environment variables and reports."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def check_room_for_output(max_input_tokens: int | None, max_model_tokens: int | None) -> None:
    """Raise ValueError where the longest prompt fills the model's length."""
    if max_input_tokens and max_model_tokens and max_input_tokens >= max_model_tokens:
        raise ValueError(
            f"max_input_tokens {max_input_tokens} leaves no room for output in max_model_tokens {max_model_tokens}: lower it"
        )
