"""The options that a config compares: what serves the model, where, and at what price."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from helpers.config.api_url import check_headers, parse_url, without_user
from helpers.config.containers import AnyContainer, JumpStart, RequestApi
from helpers.config.containers.accelerators import known_instance, unknown_instance
from helpers.config.containers.machine_images import machine_image_for
from helpers.config.imports import ResultFiles
from helpers.config.matrix import FromMatrix
from helpers.config.price import HourlyPrice, NamedPrice, StatedPrice, TokenPrice
from helpers.config.strict import Name, PositiveInt, PositiveSeconds, Strict, in_words, plain
from helpers.config.unquoted import Json
from helpers.config.workload import ThinkingTags

SELF_HOSTED = "self-hosted"
"""Instance type of a server of which nobody said what it runs on."""
FOUND_INSTANCE_TYPE = "as found"
"""Instance type of an existing endpoint, until it is described."""


def sagemaker_instance(text: str) -> str:
    """Suggests a valid instance type: EC2's names lack SageMaker's `ml.`."""
    return f"ml.{text}" if re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", text) else "ml.g5.12xlarge"


class OptionBase(Strict):
    """Settings of every option, for any target."""

    name: Name
    datasets: list[Name] | None = Field(default=None, min_length=1, description="Datasets to run; default all.")
    tokenizer: str | None = Field(default=None, description="Tokenizer that counts tokens; default the model's.")
    model: str | None = Field(default=None, description="Model identity, where it differs from `model.name`.")
    price: StatedPrice | None = Field(default=None, description="Price of one instance; default the price list.")
    other_prices: list[NamedPrice] = Field(
        default_factory=list, description="Other prices of one instance for which capacity is also computed."
    )
    best_output_tokens_per_s: float | None = Field(
        default=None,
        gt=0,
        description="Output tokens per second that all of its instances together never exceed, at any load. A race does not "
        "deploy an option that even so costs more than the leader: too low a figure can exclude the cheapest.",
    )
    extra_body: dict[str, Json] = Field(default_factory=dict, description="Keys added to every request body.")
    omit_body_keys: list[str] = Field(
        default_factory=list,
        description="Keys left out of every request body because the server refuses them, for example stream_options.",
    )
    adapters: dict[str, float] | None = Field(
        default=None,
        description="LoRA adapters: the name that `model` in the request has -> share of the requests; the shares sum to 1. "
        "Requests to the base model have its own name.",
    )
    thinking_tags: ThinkingTags = Field(
        default="auto",
        description="Where a reasoning model's thinking comes in the text, in <think> tags. auto: that of an answer that begins "
        "with <think>, or has a </think> that nothing opened. opened: the server's chat template ends with <think>, so that an "
        "answer without any tag was cut off while it thought. ignored: tags are text like any other.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Headers added to every request; write secrets as ${NAME}."
    )
    from_matrix: FromMatrix | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Written by a `matrix`: leave it out."
    )

    _replicate: tuple[str, int] | None = PrivateAttr(None)
    """The option's name and the number of the replicate, from 1; None for an option as the config has it."""

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        check_headers(headers)
        return headers

    @field_validator("omit_body_keys")
    @classmethod
    def _leaves_the_prompt(cls, keys: list[str]) -> list[str]:
        if kept := sorted({"messages", "prompt", "inputs"} & set(keys)):
            raise ValueError(f"`{kept[0]}` is the prompt: every request needs it. Next: delete it from omit_body_keys")
        return keys

    @model_validator(mode="after")
    def _added_or_omitted(self) -> OptionBase:
        if both := sorted(set(self.extra_body) & set(self.omit_body_keys)):
            raise ValueError(f"`{both[0]}` is in extra_body and in omit_body_keys. Next: delete it from one of them")
        return self

    @model_validator(mode="after")
    def _adapters_by_name(self) -> OptionBase:
        if self.adapters is None:
            return self
        if not self.adapters or min(self.adapters.values()) <= 0 or abs(sum(self.adapters.values()) - 1) > 1e-6:
            raise ValueError(
                f"shares {self.adapters} of adapters. Expected shares above 0 that sum to 1. Next: correct adapters"
            )
        if not (self.request_api or "").startswith("openai"):
            raise ValueError(
                f"adapters are named by `model` in the request, and api is {self.request_api}. Expected openai_chat or "
                "openai_completions; adapters that are inference components cannot be mixed. Next: set api, or delete adapters"
            )
        if "model" in self.extra_body or "model" in self.omit_body_keys:
            raise ValueError("`model` is in extra_body or omit_body_keys, and adapters name it. Next: delete it there")
        return self

    def as_replicate(self, number: int) -> OptionBase:
        """The option as one of its endpoints: the first has the option's name, the others names of their own."""
        copy = self.model_copy(update={} if number == 1 else {"name": f"{self.name}, replicate {number}"})
        copy._replicate = (self.name, number)
        return copy

    @property
    def measured_as(self) -> str:
        """The name in the request records: replicates have that of their option."""
        return self._replicate[0] if self._replicate else self.name

    @property
    def replicate(self) -> int | None:
        """The number of the replicate, from 1; None for an option as the config has it."""
        return self._replicate and self._replicate[1]

    @property
    def request_api(self) -> str | None:
        """The request and response format; None where nothing is sent."""
        return getattr(self, "api", None)

    @property
    def server_renders(self) -> bool:
        """True if the server applies the chat template itself."""
        return self.request_api in ("openai_chat", "bedrock_converse")


class NoCapacity(Strict):
    """What to do if AWS has no free instance of the type (InsufficientInstanceCapacity)."""

    retry_for_s: float = Field(default=0, ge=0, description="How long to retry; 0: the option fails at once.")
    pause_s: PositiveSeconds = Field(default=60, description="Time between two attempts.")
    subnets: list[list[str]] = Field(
        default_factory=list, description="Subnets, and thereby zones, to try in turn; default aws.vpc.subnets."
    )


class SignedOption(OptionBase):
    """Options served by AWS: requests have a signature or token made with the caller's credentials."""

    @model_validator(mode="after")
    def _no_other_authorization(self) -> SignedOption:
        if any(name.lower() == "authorization" for name in self.headers):
            raise ValueError(
                f"`Authorization` in headers: requests of target {self.target} are signed, and a request has one Authorization "
                "header. Next: delete it from headers"
            )
        return self


class SageMakerOption(SignedOption):
    """A SageMaker real-time endpoint that the run creates and deletes, or (`deploy: false`) an existing one."""

    target: Literal["sagemaker"]
    deploy: bool = Field(default=True, description="False: measure the endpoint `endpoint_name` and leave it alone.")
    endpoint_name: str | None = Field(default=None, description="The existing endpoint, with `deploy: false`.")
    inference_component: (
        Annotated[
            str,
            *in_words(
                r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
                "the name of an inference component: 1 to 63 letters, digits and hyphens",
                lambda text: plain(text, "")[:63] or "my-component",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="The inference component to measure, if an existing endpoint has several. They share its instances: give "
        "a `price`, or the price of the whole endpoint is used.",
    )
    api: RequestApi | None = Field(
        default=None, description="Request and response format; default: that of the container kind."
    )
    route: Literal["invocations", "openai"] = Field(
        default="invocations",
        description="invocations: InvokeEndpointWithResponseStream, signed. openai: its OpenAI-compatible API, with a "
        "bearer token and plain server-sent events; only chat.",
    )
    instance_type: Annotated[
        str,
        *in_words(
            r"ml\.[^/\s\x00-\x1f]+|as found", "a SageMaker instance type, which begins with ml.", sagemaker_instance
        ),
    ] = Field(default=FOUND_INSTANCE_TYPE, description="For example ml.g5.12xlarge.")
    instance_count: PositiveInt = 1
    container: AnyContainer | None = None
    jumpstart: JumpStart | None = None
    local: bool = Field(default=False, description="Deploy to the embedded local SageMaker instead of AWS.")
    startup_timeout_s: PositiveSeconds = Field(
        default=1800, le=3600, description="Maximum wait for the container's health check."
    )
    model_download_timeout_s: PositiveSeconds = Field(
        default=1800, ge=60, le=3600, description="Maximum time to fetch model data from S3."
    )
    inference_ami: str | None = Field(
        default=None,
        description="Machine image, and thereby driver and CUDA; default: from data/inference_amis.csv, for the container.",
    )
    volume_gb: int | None = Field(default=None, ge=1, le=512, description="EBS volume, for instances without disks.")
    capacity_reservation: (
        Annotated[
            str,
            *in_words(
                r"arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z0-9\-]{1,14}/.{1,200}",
                "the ARN of a training plan or of reserved capacity",
                lambda _: "arn:aws:sagemaker:us-east-1:123456789012:training-plan/my-plan",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="ARN of a training plan or reserved capacity: instances come only from it. Give its `price`.",
    )
    on_no_capacity: NoCapacity = NoCapacity()

    @model_validator(mode="after")
    def _one_model_source(self) -> SageMakerOption:
        if not self.deploy:
            if not self.endpoint_name:
                raise ValueError("with `deploy: false` give `endpoint_name`, the endpoint to measure")
            if self.container or self.jumpstart:
                raise ValueError("with `deploy: false` nothing is deployed: delete `container` and `jumpstart`")
            if self.api is None:
                raise ValueError("with `deploy: false` give `api`, the format that the endpoint speaks")
            return self
        if self.inference_component:
            raise ValueError(
                "`inference_component` needs an existing endpoint: set `deploy: false` and `endpoint_name` too, or delete it"
            )
        if self.endpoint_name:
            raise ValueError("`endpoint_name` names an existing endpoint: set `deploy: false` too, or delete it")
        if (self.container is None) == (self.jumpstart is None):
            raise ValueError("give exactly one of `container` and `jumpstart` (model id)")
        if self.instance_type == FOUND_INSTANCE_TYPE:
            raise ValueError("`instance_type` is required, for example ml.g5.12xlarge")
        if self.request_api is None:
            raise ValueError("give `api`, the format that the container speaks: only container kinds imply one")
        return self

    @model_validator(mode="after")
    def _route_takes_the_format(self) -> SageMakerOption:
        if self.route == "openai" and self.request_api != "openai_chat":
            raise ValueError(
                f"`route: openai` takes only chat (/openai/v1/chat/completions), and api is {self.request_api}. "
                "Next: set `api: openai_chat`, or delete `route`"
            )
        return self

    @model_validator(mode="after")
    def _instance_runs_the_container(self) -> SageMakerOption:
        if self.container and not self.local:
            self.container.check_instance_type(self.instance_type)
            if self.container.image:  # for other images it is looked up at deployment
                machine_image_for(self.container.image, self.instance_type, self.inference_ami)
        return self

    @model_validator(mode="after")
    def _volume_where_it_may_be(self) -> SageMakerOption:
        if not self.volume_gb or not self.deploy:
            return self
        disks_gb = known_instance(self.instance_type).local_disk_gb
        if disks_gb is None:
            raise unknown_instance(self.instance_type, "the disks")
        if disks_gb:
            raise ValueError(
                f"{self.instance_type} has local disks: SageMaker refuses a volume size. Next: delete `volume_gb`"
            )
        return self

    @property
    def request_api(self) -> RequestApi | None:
        """The request and response format: as stated, else that of the container kind."""
        return self.api or (self.container.default_api if self.container else None)


class BedrockOption(SignedOption):
    """A model on Amazon Bedrock, through Converse or ConverseStream. Nothing is deployed or deleted."""

    target: Literal["bedrock"]
    model_id: str = Field(description="Model id, inference profile id, or the ARN of a provisioned model.")
    stream: bool = Field(default=True, description="ConverseStream; false: Converse, without TTFT.")
    service_tier: Literal["default", "flex", "priority", "reserved"] | None = Field(
        default=None,
        description="Sent as serviceTier; default: not sent, which is Bedrock's standard tier. flex and priority have different "
        "prices: give them in `price`.",
    )
    instance_type: str = Field(default="Bedrock", description="As the report names it.")
    instance_count: PositiveInt = Field(default=1, description="Model units of provisioned throughput.")

    @model_validator(mode="after")
    def _price_of_its_kind(self) -> BedrockOption:
        if self.price is None:
            return self
        if self.provisioned and not isinstance(self.price, HourlyPrice):
            raise ValueError("provisioned throughput is billed by the hour: give `usd_per_hour` of one model unit")
        if not self.provisioned and not isinstance(self.price, TokenPrice):
            raise ValueError(
                "on-demand use is billed per token: give usd_per_1m_input_tokens and usd_per_1m_output_tokens"
            )
        return self

    @model_validator(mode="after")
    def _tier_of_what_is_billed_by_the_token(self) -> BedrockOption:
        if self.service_tier and "serviceTier" in self.extra_body:
            raise ValueError("`serviceTier` is in extra_body too. Next: delete it there, and keep service_tier")
        if self.service_tier and self.provisioned:
            raise ValueError("provisioned throughput has no service tiers. Next: delete service_tier")
        if self.service_tier == "reserved" and self.price is not None:
            raise ValueError(
                "the reserved tier is billed by the month, not per token. Next: delete `price`, or choose another service_tier"
            )
        return self

    @property
    def request_api(self) -> str:
        """Converse has one format for all models."""
        return "bedrock_converse"

    @property
    def provisioned(self) -> bool:
        """True for provisioned throughput, which has an ARN."""
        return ":provisioned-model/" in self.model_id


class OpenAIOption(OptionBase):
    """A running server that speaks the OpenAI API. Nothing is deployed or deleted."""

    target: Literal["openai"]
    api: Literal["openai_chat", "openai_completions"] = "openai_chat"
    base_url: str = Field(
        description="For example http://localhost:8000/v1. A query stays behind the path; user and password are sent as Basic.",
        json_schema_extra={"pattern": "^https?://"},
    )
    served_model: str = Field(description="Value of `model` in the request body.")
    api_key: str | None = Field(default=None, repr=False, description="Bearer token; write it as ${NAME}.")
    ca_file: str | None = Field(default=None, description="Certificates to trust for https; default the system's.")
    metrics_url: str | None = Field(
        default=None,
        description="Where the server shows its metrics for Prometheus, for example http://localhost:8000/metrics; default: "
        "tried once beside the API.",
        json_schema_extra={"pattern": "^https?://"},
    )
    instance_type: str = Field(default=SELF_HOSTED, description="What serves it, as the report names it.")
    instance_count: PositiveInt = 1

    @field_validator("base_url", "metrics_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is not None:
            parse_url(value)
        return value

    @field_validator("api_key")
    @classmethod
    def _fits_into_a_header(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"[!-~]+", value):
            raise ValueError(
                "expected a key of visible ASCII characters: spaces and line ends cannot be sent. Next: export it again"
            )
        return value

    @model_validator(mode="after")
    def _one_authorization(self) -> OpenAIOption:
        header = any(name.lower() == "authorization" for name in self.headers)
        if bool(self.api_key) + (without_user(self.base_url)[1] is not None) + header > 1:
            raise ValueError(
                "give one of `api_key`, a user and password in `base_url`, and `Authorization` in `headers`: a request has one "
                "Authorization header"
            )
        return self


class PythonOption(OptionBase):
    """A server that your own Python file deploys and deletes. See docs/own_target.md."""

    target: Literal["python"]
    file: str = Field(description="Relative to the config file; defines create, status, address and delete.")
    api: RequestApi = Field(description="Request and response format of the address that it returns.")
    settings: dict[str, Json] = Field(default_factory=dict, description="Passed to the file's functions.")
    instance_type: str = Field(default="self-hosted", description="What serves it, as the report names it.")
    instance_count: PositiveInt = 1


class ImportedOption(OptionBase, ResultFiles):
    """Results that another tool measured: nothing is deployed or sent. See docs/import.md."""

    target: Literal["imported"]
    instance_type: str = Field(description="What served it, as the report names it, for example ml.g5.12xlarge.")
    instance_count: PositiveInt = 1

    def names_of_datasets(self) -> list[tuple[list[str | int], str]]:
        """(key path within the option, dataset) wherever the option maps a file to a dataset of the config."""
        named = [(["dataset_names", file_name], name) for file_name, name in self.dataset_names.items()]
        return named + [(["path", j, "dataset"], file.dataset) for j, file in enumerate(self.path) if file.dataset]


Option = Annotated[
    SageMakerOption | BedrockOption | OpenAIOption | PythonOption | ImportedOption, Field(discriminator="target")
]
