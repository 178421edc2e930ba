"""The benchmark config: the keys of one YAML file, and the messages for invalid ones.

Names carry their units: `_s` seconds, `_usd` dollars, `_tokens` tokens; percentiles are in percent (95), shares are
fractions (0.3). Relative paths are relative to the config file. `config.file` reads the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from helpers.config.aws_regions import WELL_FORMED, nearest_region
from helpers.config.fitting import refuse_what_does_not_fit
from helpers.config.job import JobConfig, VpcConfig
from helpers.config.load import Load
from helpers.config.mix import MIXED, mixed_and_alone
from helpers.config.notify import Notify
from helpers.config.options import ImportedOption, Option, OptionBase, SageMakerOption
from helpers.config.quality import Quality
from helpers.config.strict import PositiveInt, PositiveSeconds, Strict, in_words, plain
from helpers.config.traffic_curve import Curve
from helpers.config.workload import Conversations, Dataset, Generation, ModelConfig, PromptsConfig
from helpers.errors import AnalysisError, ConfigError
from local_sagemaker.faults import Fault

PROJECT_ROOT = Path(__file__).resolve().parents[3]
DATA_DIR = PROJECT_ROOT / "data"


class TimesSingleRequest(Strict):
    """A limit that depends on the machine, so that one config gives a verdict on any machine."""

    times_single_request: float = Field(
        gt=1,
        description="Multiple of the median latency of single requests, measured before the load: on the first option "
        "of the config that answers, with the slowest dataset.",
    )


Limit = Annotated[
    Annotated[PositiveSeconds, Tag("seconds")] | Annotated[TimesSingleRequest, Tag("multiple")],
    Discriminator(lambda limit: "multiple" if isinstance(limit, dict | TimesSingleRequest) else "seconds"),
]


class ServiceLevel(Strict):
    """The SLO: what users of the model may expect. `percentile` applies to the latency limits."""

    percentile: float = Field(default=95, ge=50, lt=100, description="In percent, for example 95.")
    latency_s: Limit | None = Field(default=None, description="Limit on end-to-end latency.")
    ttft_s: Limit | None = Field(default=None, description="Limit on time to first token.")
    ttfa_s: Limit | None = Field(
        default=None,
        description="Limit on time to the first token of the answer, behind the thinking of a reasoning model.",
    )
    tpot_s: Limit | None = Field(default=None, description="Limit on time per output token.")
    error_rate: float = Field(default=0.01, ge=0, lt=1, description="Maximum share of failed requests.")
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="Confidence with which the SLO must be met.")

    @model_validator(mode="after")
    def _at_least_one_limit(self) -> ServiceLevel:
        if not self._stated():
            raise ValueError("give at least one of latency_s, ttft_s, ttfa_s, tpot_s")
        return self

    def limits_s(self) -> dict[str, float]:
        """Column of the request records -> limit in seconds, for each limit in the config."""
        for name, times in self.multiples().items():
            raise AnalysisError(
                f"slo.{name}: {times:g} times the latency of single requests, and none was answered yet. Next: run "
                "notebooks/03_run_inference on this run folder, which measures it before the load; if the load is measured "
                "already, write a number of seconds"
            )
        return self._stated()

    def multiples(self) -> dict[str, float]:
        """Column of the request records -> multiple of single-request latency, for limits that are not measured yet."""
        stated = self._stated().items()
        return {name: limit.times_single_request for name, limit in stated if isinstance(limit, TimesSingleRequest)}

    def _stated(self) -> dict[str, float | TimesSingleRequest]:
        limits = {name: getattr(self, name) for name in ("latency_s", "ttft_s", "ttfa_s", "tpot_s")}
        return {name: limit for name, limit in limits.items() if limit is not None}


class Traffic(Strict):
    """The traffic to plan for."""

    requests_per_minute: float = Field(gt=0)
    headroom: float = Field(default=0.3, ge=0, lt=1, description="Share of the measured capacity kept free.")
    mix: dict[str, float] | None = Field(default=None, description="Dataset -> share of requests; default equal.")
    curve: Curve | None = Field(
        default=None,
        description="The traffic of a day: requests per minute of hour 0 to 23, as 24 numbers, or the path of a CSV file with "
        "the columns hour and requests_per_minute. The report then has the instances by hour, and the bill with autoscaling.",
    )
    startup_s: float | None = Field(
        default=None,
        ge=0,
        description="Time that an instance takes to start, for the bill with autoscaling; default as this run measured it.",
    )

    @field_validator("mix")
    @classmethod
    def _shares_sum_to_one(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and (min(value.values(), default=0) < 0 or abs(sum(value.values()) - 1) > 1e-6):
            raise ValueError(f"shares {value} must be non-negative and sum to 1")
        return value

    @model_validator(mode="after")
    def _startup_of_a_day(self) -> Traffic:
        if self.startup_s is not None and self.curve is None:
            raise ValueError(
                "`startup_s` is that of autoscaling over a day. Next: give `curve` too, or delete startup_s"
            )
        return self


class AwsConfig(Strict):
    """Region, role and other AWS settings."""

    region: Annotated[
        str, *in_words(WELL_FORMED, "a region of AWS, such as us-east-1 or eu-central-1", nearest_region)
    ] = "us-east-1"
    execution_role: str | None = Field(
        default=None,
        description="ARN of the role that the endpoints assume; default, only in SageMaker, the notebook's role.",
    )
    tags: dict[str, str] = Field(default_factory=dict, description="Tags added to every resource that a run makes.")
    vpc: VpcConfig | None = Field(default=None, description="The VPC in which the endpoints' containers run.")
    kms_key_id: str | None = Field(
        default=None, description="KMS key that encrypts the instances' EBS volumes, but not local NVMe disks."
    )


class EndpointsConfig(Strict):
    """How many endpoints exist at once, and for how long."""

    max_parallel_endpoints: PositiveInt = Field(default=4, description="Endpoints that may exist at once.")
    replicates: int = Field(
        default=1,
        ge=1,
        le=10,
        description="Endpoints on which each option is deployed and measured, so that intervals contain how much instances of "
        "one type differ. Three or more say something of that; each costs as much as the first.",
    )
    max_parallel_loads: PositiveInt | None = Field(
        default=None,
        description="Endpoints loaded at once; default one where local endpoints share this machine, and with load.cluster.",
    )
    keep: bool = Field(default=False, description="True: endpoints survive the run, and continue to cost money.")
    idle_timeout_s: PositiveSeconds = Field(
        default=3600,
        description="Endpoints that notebook 02 leaves running are deleted if no load starts within this time.",
    )
    unreachable_for_s: PositiveSeconds = Field(
        default=120,
        description="How long an option's server, deployed or not, may be unreachable under load before the option "
        "fails. The interrupted load point is measured again.",
    )
    expires_after_s: PositiveSeconds = Field(
        default=43_200,
        description="Age at which `make cleanup-orphans` considers an endpoint forgotten (tag expires-at).",
    )


VariableName = Annotated[
    str,
    *in_words(
        "[A-Za-z_][A-Za-z0-9_]*",
        "letters, digits and _, the first of them no digit",
        lambda text: plain(text, "_", "_").lstrip("0123456789") or "NAME",
    ),
]


class RehearsedFault(Strict, Fault):
    """A fault rule of the local SageMaker, as in a config: an error about an unknown key lists the known ones."""


class LocalSageMaker(Strict):
    """The embedded SageMaker on loopback."""

    engines: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Image name -> command of a model server that answers /ping and /invocations. "
        "Other users can read the arguments of a process: secrets go into the environment of the container.",
    )
    engine_variables: list[VariableName] = Field(
        default_factory=list,
        description="Container variables that `engines` know, besides those of the default engine. Others are "
        "ignored, as a container ignores unknown variables; the endpoint's log names them.",
    )
    idle_timeout_s: PositiveSeconds = 900
    faults: list[RehearsedFault] = Field(default_factory=list, description="Fault rules, for rehearsing failures.")

    def commands(self) -> dict[str, list[str]]:
        """`engines`, with a leading `~` of each word expanded, as a shell does."""
        home = os.path.expanduser
        return {image: [home(word) for word in words] for image, words in self.engines.items()}


def _single_value(value: object) -> object:
    if isinstance(value, dict | list):
        raise ValueError("expected text, a number, true, false or nothing")
    return value


SingleValue = Annotated[bool | int | float | str | None, BeforeValidator(_single_value)]


class BenchmarkConfig(Strict):
    """One benchmark: a model, options to serve it, a workload, and an SLO."""

    name: Annotated[
        str,
        *in_words(
            r"[a-z0-9][a-z0-9.\-]{0,29}",
            "1 to 30 of the letters a to z, digits, . and -, the first of them a letter or digit",
            lambda text: plain(text.lower(), r".\-")[:30] or "benchmark-1",
        ),
    ] = Field(description="Short; the run id starts with it.")
    description: str = ""
    seed: int = Field(default=42, ge=0)
    model: ModelConfig
    prompts: PromptsConfig | None = Field(
        default=None, description="Where prompts come from; required unless every option is imported."
    )
    datasets: list[Dataset] = Field(min_length=1)
    generation: Generation | None = Field(
        default=None, description="Generation settings of the requests; required unless every option is imported."
    )
    options: list[Option] = Field(min_length=1)
    load: Load
    slo: ServiceLevel
    traffic: Traffic
    quality: Quality | None = Field(
        default=None, description="How right the answers are; null: only speed and price are measured."
    )
    aws: AwsConfig = AwsConfig()
    endpoints: EndpointsConfig = EndpointsConfig()
    local_sagemaker: LocalSageMaker = LocalSageMaker()
    budget_usd: float | None = Field(default=None, gt=0, description="Estimated cost at which the run stops.")
    job: JobConfig | None = Field(default=None, description="Where `make submit` runs the series.")
    notify: Notify | None = Field(
        default=None, description="Who is sent a notice when a run ends, fails or is stopped."
    )
    run_root: str | None = Field(
        default=None, description="Folder of the run folders, or s3://bucket/prefix; default `runs` in the project."
    )
    parameters: dict[str, dict[str, SingleValue]] = Field(
        default_factory=dict,
        description="Notebook (without its number) -> values for its parameters cell. ${NAME} is read by the notebook itself.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BenchmarkConfig:
        refuse_what_does_not_fit(self)
        return self

    @property
    def conversations(self) -> Conversations | None:
        """How conversations are sent; None where each request is a text of its own."""
        return self.prompts.conversations if self.prompts else None

    @property
    def imported(self) -> bool:
        """True if results are imported and nothing is measured here."""
        return all(isinstance(option, ImportedOption) for option in self.options)

    def require_measured(self) -> None:
        """Raise ConfigError if every option is imported: then there is nothing to make, deploy or send."""
        if self.imported:
            raise ConfigError(
                f"{self.name}: every option has `target: imported`, so there is nothing to make, deploy or send. Expected "
                "options to measure. Next: make import CONFIG=<this config>, or run notebooks 04 and 05 on its run folder"
            )

    def deployed(self) -> BenchmarkConfig:
        """The config as it is deployed and loaded: with `endpoints.replicates` each option as often as it has endpoints."""
        if self.endpoints.replicates == 1 or self.options[0].replicate:
            return self
        numbers = range(1, self.endpoints.replicates + 1)
        return self.model_copy(update={"options": [o.as_replicate(number) for o in self.options for number in numbers]})

    @property
    def attempts_per_load_point(self) -> int:
        """Measurements of each load point: repetitions on each replicate."""
        return self.load.repetitions * self.endpoints.replicates

    def datasets_of(self, option: OptionBase) -> list[Dataset]:
        """The datasets that an option is loaded with, in the config's order."""
        return self.parts_of(option) if self.load.mix is None else self.loaded_datasets

    def parts_of(self, option: OptionBase) -> list[Dataset]:
        """The same without regard to `load.mix`: one at a time."""
        return [d for d in self.datasets if option.datasets is None or d.name in option.datasets]

    @property
    def loaded_datasets(self) -> list[Dataset]:
        """The datasets as they are sent: with `load.mix` the mix, and then those that are loaded alone too."""
        return self.datasets if self.load.mix is None else mixed_and_alone(self)

    @property
    def judged_datasets(self) -> list[Dataset]:
        """Of these, the ones that the verdict is about."""
        return self.datasets if self.load.mix is None else self.loaded_datasets[:1]

    def tokenizer_of(self, option: OptionBase) -> str:
        """The tokenizer that counts an option's tokens."""
        return option.tokenizer or self.model.tokenizer

    def as_judged(self) -> BenchmarkConfig:
        """The same with the mix, if there is one, as a dataset like any other."""
        load = self.load.model_copy(update={"mix": None})
        traffic = self.traffic.model_copy(update={"mix": self.traffic_mix()})
        return self.model_copy(update={"datasets": self.judged_datasets, "load": load, "traffic": traffic})

    def traffic_mix(self) -> dict[str, float]:
        """Dataset, as it is sent -> share of the traffic; sums to 1."""
        return self.shares_of_parts() if self.load.mix is None else {MIXED: 1.0}

    def shares_of_parts(self) -> dict[str, float]:
        """Dataset of the config -> share of the traffic; sums to 1."""
        return self.traffic.mix or {d.name: 1 / len(self.datasets) for d in self.datasets}

    def parts_that_must_meet(self, dataset: str) -> list[str]:
        """The parts of a dataset each of which has to meet the SLO: of a mix its datasets, of conversations the bins; else []."""
        if self.load.mix is not None:
            return [each.name for each in self.datasets] if dataset == MIXED else []
        return [each.name for one in self.datasets if one.name == dataset for each in one.bins or ()]

    @property
    def part_in_words(self) -> str | None:
        """What such a part is called; None where no dataset has any."""
        has_bins = any(dataset.bins for dataset in self.datasets)
        return "part of the mix" if self.load.mix is not None else "bin of context length" if has_bins else None

    def smallest_share(self, dataset: str) -> float:
        """Share of the requests of a load point that are about the part which has the fewest: 1 but for a mix."""
        return min(self.shares_of_parts().values()) if self.load.mix is not None and dataset == MIXED else 1.0

    def max_parallel_loads(self) -> int:
        """Endpoints loaded at once: one where local endpoints share this machine's cores, and with a cluster."""
        if self.endpoints.max_parallel_loads:
            return self.endpoints.max_parallel_loads
        shared = any(isinstance(o, SageMakerOption) and o.local for o in self.options)
        return 1 if shared or self.load.cluster is not None else self.endpoints.max_parallel_endpoints


def usable_cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
