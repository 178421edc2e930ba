"""Containers for Inferentia2 and Trainium instances, which serve models compiled for one batch size and length."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from helpers.config.containers.base import RequestApi
from helpers.config.containers.model_container import ModelContainer, check_room_for_output
from helpers.config.strict import PositiveInt
from helpers.config.unquoted import read_unquoted

FIRST_GENERATIONS = ("inf2", "trn1", "trn1n")


class DjlNeuronContainer(ModelContainer):
    """Large Model Inference for Neuron: DJL Serving in front of Transformers NeuronX. It streams JSON lines.

    Source: https://github.com/deepjavalibrary/djl-serving/tree/0.29.0-dlc/serving/docs/lmi (user_guides/tnx_user_guide.md,
    deployment_guide/configurations.md)
    """

    kind: Literal["djl_neuron"]
    max_model_tokens: PositiveInt = Field(
        description="Prompt plus output that the model is compiled for; LMI's default is 128."
    )
    revision: str | None = Field(default=None, description="Commit or branch of the model on Hugging Face.")
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(default=None, description="Type of weights and activations.")
    quantization: Literal["static_int8"] | None = Field(default=None, description="Weights in 8 bits.")
    optimization_level: Annotated[Literal[1, 2, 3] | None, BeforeValidator(read_unquoted)] = Field(
        default=None, description="Optimisation level of the Neuron compiler; its default is 2."
    )
    model_loading_timeout_s: PositiveInt | None = Field(
        default=None,
        description="Time limit for compiling and loading the model in DJL Serving; its own default is 240.",
    )

    framework = "djl-neuronx"
    accelerator = "neuron"
    families = FIRST_GENERATIONS
    fixed_environment: ClassVar = {
        "SERVING_FAIL_FAST": "true",
        "OPTION_ENTRYPOINT": "djl_python.transformers_neuronx",
        "OPTION_ROLLING_BATCH": "auto",
        "OPTION_OUTPUT_FORMATTER": "jsonlines",
    }
    model_variable = "HF_MODEL_ID"
    variables: ClassVar = {
        "tensor_parallel_degree": ("OPTION_TENSOR_PARALLEL_DEGREE",),
        "max_batch": ("OPTION_MAX_ROLLING_BATCH_SIZE",),
        "max_model_tokens": ("OPTION_N_POSITIONS",),
        "revision": ("OPTION_REVISION",),
        "dtype": ("OPTION_DTYPE",),
        "quantization": ("OPTION_QUANTIZE",),
        "optimization_level": ("OPTION_NEURON_OPTIMIZE_LEVEL",),
        "model_loading_timeout_s": ("OPTION_MODEL_LOADING_TIMEOUT",),
    }

    @property
    def default_api(self) -> RequestApi:
        """DJL's JSON lines: its chat format has no token counts when it streams."""
        return "djl"

    def _model_environment(self) -> dict[str, str]:
        """Empty for model data on S3, because LMI finds a model that SageMaker fetched."""
        return {} if self.model_data_url else super()._model_environment()


class OptimumNeuronContainer(ModelContainer):
    """Text Generation Inference for Neuron. The settings must be those of a compiled model, or of one in Hugging Face's cache.

    HF_BATCH_SIZE and HF_SEQUENCE_LENGTH are read by old versions, MAX_BATCH_SIZE and MAX_TOTAL_TOKENS by all. Sources:
    https://huggingface.co/docs/text-generation-inference/backends/neuron,
    https://github.com/huggingface/text-generation-inference/blob/main/backends/neuron/tgi_env.py
    """

    kind: Literal["optimum_neuron"]
    revision: str | None = Field(default=None, description="Commit or branch of the model on Hugging Face.")
    max_input_tokens: PositiveInt | None = Field(
        default=None, description="Maximum prompt length; default half of max_model_tokens."
    )
    max_prefill_tokens: PositiveInt | None = Field(
        default=None, description="Maximum prompt tokens that one step processes; default max_batch x max_input_tokens."
    )
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(default=None, description="Type that weights are cast to.")

    framework = "huggingface-llm-neuronx"
    accelerator = "neuron"
    families = FIRST_GENERATIONS
    model_variable = "HF_MODEL_ID"
    token_variables = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    variables: ClassVar = {
        "tensor_parallel_degree": ("HF_NUM_CORES",),
        "max_batch": ("MAX_BATCH_SIZE", "HF_BATCH_SIZE"),
        "max_model_tokens": ("MAX_TOTAL_TOKENS", "HF_SEQUENCE_LENGTH"),
        "revision": ("HF_MODEL_REVISION",),
        "max_input_tokens": ("MAX_INPUT_TOKENS",),
        "max_prefill_tokens": ("MAX_BATCH_PREFILL_TOKENS",),
        "dtype": ("HF_AUTO_CAST_TYPE",),
    }

    @property
    def default_api(self) -> RequestApi:
        """TGI's own format: one event per token."""
        return "tgi"

    @model_validator(mode="after")
    def _room_for_output(self) -> OptimumNeuronContainer:
        check_room_for_output(self.max_input_tokens, self.max_model_tokens)
        return self


class VllmNeuronContainer(ModelContainer):
    """vLLM on Optimum Neuron, Hugging Face's image. It turns each SM_ON_* variable into a flag; an empty value is a bare flag.

    Sources: https://github.com/huggingface/optimum-neuron/blob/main/docker/vllm/entrypoint.sh,
    https://github.com/huggingface/optimum-neuron/blob/main/optimum/commands/neuron/serve.py,
    https://huggingface.co/docs/optimum-neuron/guides/vllm_plugin (docs/source/guides/vllm_plugin.mdx at v0.4.5: no trn2)
    """

    kind: Literal["vllm_neuron"]
    compile_uncached: bool | None = Field(
        default=None, description="True: compile a model that is not in Hugging Face's cache; default: refuse it."
    )

    framework = "huggingface-vllm-neuronx"
    accelerator = "neuron"
    families = FIRST_GENERATIONS
    model_variable = "SM_ON_MODEL"
    variables: ClassVar = {
        "tensor_parallel_degree": ("SM_ON_TENSOR_PARALLEL_SIZE",),
        "max_batch": ("SM_ON_BATCH_SIZE",),
        "max_model_tokens": ("SM_ON_SEQUENCE_LENGTH",),
    }

    def _settings_environment(self) -> dict[str, str]:
        return super()._settings_environment() | ({"SM_ON_ALLOW_NON_CACHED_MODEL": ""} if self.compile_uncached else {})
