"""Containers for instances with GPUs: vLLM, SGLang, Text Generation Inference, and Large Model Inference of DJL Serving."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from helpers.config.containers.base import RequestApi
from helpers.config.containers.model_container import ModelContainer, check_room_for_output
from helpers.config.strict import PositiveInt
from helpers.config.unquoted import Json

Share = Annotated[float, Field(gt=0, le=1)]

LMI_ASYNC_SINCE = (0, 33)
LMI_HANDS_ON_FALSE_SINCE = (0, 38)
"""Earlier versions leave out false values, and vLLM caches prefixes by default. djl-serving 3ace29c7, June 2026."""


class GpuContainer(ModelContainer):
    """Settings that all GPU stacks have."""

    revision: str | None = Field(default=None, description="Commit or branch of the model on Hugging Face.")
    max_prefill_tokens: PositiveInt | None = Field(
        default=None, description="Maximum tokens of prompts, or of prompts and outputs, that one step processes."
    )
    gpu_memory_share: Share | None = Field(
        default=None, description="Share of GPU memory that the server may use, for example 0.9."
    )
    dtype: str | None = Field(default=None, description="Type of weights and activations, for example bfloat16.")
    quantization: str | None = Field(
        default=None, description="Method, for example awq or fp8; default the model's own."
    )
    prefix_caching: bool | None = Field(
        default=None, description="Reuse common beginnings of prompts; default the server's."
    )

    accelerator = "gpu"


class VllmContainer(GpuContainer):
    """The vLLM image of AWS. It turns each SM_VLLM_* variable into the flag of that name; `true` is a bare flag.

    Sources: https://aws.github.io/deep-learning-containers/vllm/configuration/,
    https://github.com/aws/deep-learning-containers/blob/master/scripts/docker/vllm/sagemaker_args.py,
    https://docs.vllm.ai/en/stable/cli/serve/
    """

    kind: Literal["vllm"]
    speculation: dict[str, Json] | None = Field(
        default=None, description="Speculative decoding, as vLLM's --speculative-config takes it."
    )

    framework = "vllm"
    model_variable = "SM_VLLM_MODEL"
    fixed_environment: ClassVar = {
        "PROCESS_AUTO_RECOVERY": "false"
    }  # otherwise a crash under load is hidden, up to three times
    variables: ClassVar = {
        "tensor_parallel_degree": ("SM_VLLM_TENSOR_PARALLEL_SIZE",),
        "max_batch": ("SM_VLLM_MAX_NUM_SEQS",),
        "max_model_tokens": ("SM_VLLM_MAX_MODEL_LEN",),
        "revision": ("SM_VLLM_REVISION",),
        "max_prefill_tokens": ("SM_VLLM_MAX_NUM_BATCHED_TOKENS",),
        "gpu_memory_share": ("SM_VLLM_GPU_MEMORY_UTILIZATION",),
        "dtype": ("SM_VLLM_DTYPE",),
        "quantization": ("SM_VLLM_QUANTIZATION",),
        "speculation": ("SM_VLLM_SPECULATIVE_CONFIG",),
    }

    def most_tokens_per_step(self) -> int | None:
        """With the tokens that are drafted, if `speculation` says how many."""
        drafted = 0 if self.speculation is None else self.speculation.get("num_speculative_tokens")
        one = super().most_tokens_per_step()
        return one + drafted if one and isinstance(drafted, int) else None

    def _settings_environment(self) -> dict[str, str]:
        """vLLM caches prefixes by default, and `false` leaves a flag out, so the negative flag is set."""
        flag = {
            None: {},
            True: {"SM_VLLM_ENABLE_PREFIX_CACHING": "true"},
            False: {"SM_VLLM_NO_ENABLE_PREFIX_CACHING": "true"},
        }
        return super()._settings_environment() | flag[self.prefix_caching]


class SglangContainer(GpuContainer):
    """The SGLang image of AWS. It turns each SM_SGLANG_* variable into the flag of that name; `true` is a bare flag.

    Sources: https://aws.github.io/deep-learning-containers/sglang/configuration/,
    https://github.com/aws/deep-learning-containers/blob/master/scripts/docker/sglang/sagemaker_entrypoint.sh,
    https://docs.sglang.io/docs/advanced_features/server_arguments
    """

    kind: Literal["sglang"]

    framework = "sglang"
    model_variable = "SM_SGLANG_MODEL_PATH"
    variables: ClassVar = {
        "tensor_parallel_degree": ("SM_SGLANG_TENSOR_PARALLEL_SIZE",),
        "max_batch": ("SM_SGLANG_MAX_RUNNING_REQUESTS",),
        "max_model_tokens": ("SM_SGLANG_CONTEXT_LENGTH",),
        "revision": ("SM_SGLANG_REVISION",),
        "max_prefill_tokens": ("SM_SGLANG_MAX_PREFILL_TOKENS",),
        "gpu_memory_share": ("SM_SGLANG_MEM_FRACTION_STATIC",),
        "dtype": ("SM_SGLANG_DTYPE",),
        "quantization": ("SM_SGLANG_QUANTIZATION",),
    }

    def _settings_environment(self) -> dict[str, str]:
        """SGLang caches prefixes in its radix cache by default."""
        off = {"SM_SGLANG_DISABLE_RADIX_CACHE": "true"} if self.prefix_caching is False else {}
        return super()._settings_environment() | off


class TgiContainer(GpuContainer):
    """Hugging Face Text Generation Inference. Versions before 2.0 know only MAX_INPUT_LENGTH: set it in `environment`.

    Sources: https://github.com/huggingface/text-generation-inference/blob/main/sagemaker-entrypoint.sh,
    https://huggingface.co/docs/text-generation-inference/reference/launcher; PREFIX_CACHING is read in launcher/src/main.rs
    """

    kind: Literal["tgi"]
    dtype: Literal["float16", "bfloat16"] | None = Field(default=None, description="Type of weights and activations.")
    max_input_tokens: PositiveInt | None = Field(
        default=None,
        description="Maximum prompt length; default max_model_tokens - 1 in new versions, 1024 in old ones.",
    )
    speculative_tokens: PositiveInt | None = Field(
        default=None, description="Tokens to guess ahead: with the model's Medusa heads, else by n-grams."
    )

    framework = "huggingface-llm"
    model_variable = "HF_MODEL_ID"
    token_variables = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    variables: ClassVar = {
        "tensor_parallel_degree": ("SM_NUM_GPUS",),
        "max_batch": ("MAX_BATCH_SIZE",),
        "max_model_tokens": ("MAX_TOTAL_TOKENS",),
        "revision": ("HF_MODEL_REVISION",),
        "max_prefill_tokens": ("MAX_BATCH_PREFILL_TOKENS",),
        "gpu_memory_share": ("CUDA_MEMORY_FRACTION",),
        "dtype": ("DTYPE",),
        "quantization": ("HF_MODEL_QUANTIZE",),
        "max_input_tokens": ("MAX_INPUT_TOKENS",),
        "speculative_tokens": ("SPECULATE",),
    }

    @property
    def default_api(self) -> RequestApi:
        """TGI's own format: one event per token."""
        return "tgi"

    @model_validator(mode="after")
    def _settings_that_fit_together(self) -> TgiContainer:
        if self.dtype and self.quantization:
            raise ValueError("TGI takes `dtype` or `quantization`, not both: delete one")
        check_room_for_output(self.max_input_tokens, self.max_model_tokens)
        return self

    def most_tokens_per_step(self) -> int | None:
        """With the tokens that are guessed ahead."""
        one = super().most_tokens_per_step()
        return one and one + (self.speculative_tokens or 0)

    def _settings_environment(self) -> dict[str, str]:
        caching = {} if self.prefix_caching is None else {"PREFIX_CACHING": str(int(self.prefix_caching))}
        return super()._settings_environment() | caching


class DjlLmiContainer(GpuContainer):
    """Large Model Inference: DJL Serving in front of vLLM; asynchronous since 0.33, with rolling batches before.

    Sources: https://github.com/deepjavalibrary/djl-serving/tree/master/serving/docs/lmi (deployment_guide/configurations.md,
    user_guides/vllm_user_guide.md) and engines/python/setup/djl_python/properties_manager/vllm_rb_properties.py
    """

    kind: Literal["djl_lmi"]
    rolling_batch: Literal["vllm", "lmi-dist", "trtllm", "auto"] | None = Field(
        default=None, description="Backend of rolling batches, for versions before 0.33; default asynchronous vLLM."
    )
    model_loading_timeout_s: PositiveInt | None = Field(
        default=None, description="Time limit for loading the model in DJL Serving; its own default is 240."
    )

    framework = "djl-lmi"
    model_variable = "HF_MODEL_ID"
    fixed_environment: ClassVar = {"SERVING_FAIL_FAST": "true"}
    variables: ClassVar = {
        "tensor_parallel_degree": ("OPTION_TENSOR_PARALLEL_DEGREE",),
        "max_batch": ("OPTION_MAX_ROLLING_BATCH_SIZE",),
        "max_model_tokens": ("OPTION_MAX_MODEL_LEN",),
        "revision": ("OPTION_REVISION",),
        "max_prefill_tokens": ("OPTION_MAX_ROLLING_BATCH_PREFILL_TOKENS",),
        "gpu_memory_share": ("OPTION_GPU_MEMORY_UTILIZATION",),
        "dtype": ("OPTION_DTYPE",),
        "quantization": ("OPTION_QUANTIZE",),
        "prefix_caching": ("OPTION_ENABLE_PREFIX_CACHING",),
        "model_loading_timeout_s": ("OPTION_MODEL_LOADING_TIMEOUT",),
    }

    @property
    def default_api(self) -> RequestApi:
        """Chat format for asynchronous vLLM: in DJL's format it counts one token too many and ignores the minimum length."""
        return "djl" if self.rolling_batch else "openai_chat"

    @model_validator(mode="after")
    def _settings_that_fit_together(self) -> DjlLmiContainer:
        if self.rolling_batch:
            return self
        if self._is_before(LMI_ASYNC_SINCE):
            raise ValueError(f"LMI {self.version} has no asynchronous vLLM: give `rolling_batch`, for example vllm")
        if self.prefix_caching is False and self._is_before(LMI_HANDS_ON_FALSE_SINCE):
            raise ValueError(
                f"prefix_caching: false does not reach vLLM in LMI {self.version}. Expected 0.38 or newer. Next: delete it, "
                "take a newer version, or `kind: vllm`"
            )
        return self

    def _is_before(self, since: tuple[int, int]) -> bool:
        """True for a version that is known to be older; no version means the newest."""
        numbers = (self.version or "").split(".")[:2]
        return all(map(str.isdigit, numbers)) and tuple(map(int, numbers)) < since

    def _model_environment(self) -> dict[str, str]:
        """Empty for model data on S3, because LMI finds a model that SageMaker fetched."""
        return {} if self.model_data_url else super()._model_environment()

    def _settings_environment(self) -> dict[str, str]:
        if self.rolling_batch:
            backend = {"OPTION_ROLLING_BATCH": self.rolling_batch}
        else:
            backend = {
                "OPTION_ASYNC_MODE": "true",
                "OPTION_ROLLING_BATCH": "disable",
                "OPTION_ENTRYPOINT": "djl_python.lmi_vllm.vllm_async_service",
            }
        return backend | super()._settings_environment()
