"""The benchmark config: the keys of one YAML file, and the messages for invalid ones.

Names carry their units: `_s` seconds, `_usd` dollars, `_tokens` tokens; percentiles are in percent (95), shares are
fractions (0.3). Relative paths are relative to the config file. `config.file` reads the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from helpers.config.aws_regions import WELL_FORMED, nearest_region
from helpers.config.job import JobConfig, VpcConfig
from helpers.config.load import Load, Search
from helpers.config.mix import MIXED, mixed_and_alone, prompts_asked_of, refuse_unmixable
from helpers.config.notify import Notify
from helpers.config.options import ImportedOption, Option, OptionBase, PythonOption, SageMakerOption
from helpers.config.quality import Quality
from helpers.config.strict import PositiveInt, PositiveSeconds, Strict, in_words, plain
from helpers.config.structured import structured_keys
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
    def _measured_or_imported(self) -> BenchmarkConfig:
        imported = [isinstance(option, ImportedOption) for option in self.options]
        if any(imported) and not all(imported):
            raise PydanticCustomError(
                "inconsistent",
                "imported and measured options cannot be in one config. Expected `target: imported` for all options or "
                "for none. Next: write two configs",
                {"path": ["options", imported.index(True), "target"]},
            )
        for name in () if self.imported else ("prompts", "generation"):
            if getattr(self, name) is None:
                raise PydanticCustomError("inconsistent", "this key is required. Next: add it", {"path": [name]})
        return self

    @model_validator(mode="after")
    def _names_fit_together(self) -> BenchmarkConfig:
        names_of_options = [o.name for o in self.deployed().options]
        for kind, names in (("option", names_of_options), ("dataset", [d.name for d in self.datasets])):
            slugs = [slug(name) for name in names]
            for i, one in enumerate(slugs):
                if one in slugs[:i]:
                    raise PydanticCustomError(
                        "inconsistent",
                        f"{kind} names {names[slugs.index(one)]!r} and {names[i]!r} give the same file name {one!r}. "
                        "Next: rename one",
                        {"path": [f"{kind}s", i // (self.endpoints.replicates if kind == "option" else 1), "name"]},
                    )
        known = [dataset.name for dataset in self.datasets]
        used: set[str] = set()
        for i, option in enumerate(self.options):
            named = [(["datasets", j], name) for j, name in enumerate(option.datasets or [])]
            named += option.names_of_datasets() if isinstance(option, ImportedOption) else []
            for at, name in named:
                if name not in known:
                    raise PydanticCustomError(
                        "missing_dataset",
                        f"option {option.name!r} names a dataset that is not under `datasets`",
                        {"path": ["options", i, *at], "bad": name, "allowed": known},
                    )
            used.update(option.datasets or known)
        for i, name in enumerate(known):
            if name not in used:
                raise PydanticCustomError(
                    "inconsistent",
                    f"no option uses dataset {name!r}. Next: delete it, or name it in an option's `datasets`",
                    {"path": ["datasets", i, "name"]},
                )
        for name in self.traffic.mix or {}:
            if name not in known:
                raise PydanticCustomError(
                    "missing_dataset",
                    "the traffic mix names a dataset that is not under `datasets`",
                    {"path": ["traffic", "mix", name], "bad": name, "allowed": known},
                )
        return self

    @model_validator(mode="after")
    def _a_cluster_loads_one_at_a_time(self) -> BenchmarkConfig:
        at_once = self.endpoints.max_parallel_loads or 1
        if self.load.cluster is not None and at_once > 1:
            raise PydanticCustomError(
                "inconsistent",
                f"{at_once} endpoints cannot be loaded at once with load.cluster, whose nodes all send to one. Next: "
                "leave it out",
                {"path": ["endpoints", "max_parallel_loads"]},
            )
        return self

    @model_validator(mode="after")
    def _replicates_can_be_made(self) -> BenchmarkConfig:
        if self.endpoints.replicates == 1:
            return self
        made = [isinstance(o, PythonOption) or (isinstance(o, SageMakerOption) and o.deploy) for o in self.options]
        why = (
            f"option {self.options[made.index(False)].name!r} is not deployed by the run, so there is one of it"
            if not all(made)
            else "the bounds of a race or a search hold for one endpoint of each option, looked at again and again"
            if self.load.race.enabled or isinstance(self.load, Search)
            else "a control block (load.control) compares one endpoint with itself"
            if self.load.control
            else None
        )
        if why:
            raise PydanticCustomError(
                "inconsistent",
                f"{self.endpoints.replicates} replicates cannot be measured: {why}. Expected options that the run deploys, a "
                "load of fixed levels, race: false and no control. Next: change that, or leave out `replicates`",
                {"path": ["endpoints", "replicates"]},
            )
        return self

    @model_validator(mode="after")
    def _prefix_or_salt(self) -> BenchmarkConfig:
        if self.prompts is not None and self.prompts.prefix is not None and self.load.prefix_cache_salt:
            raise PydanticCustomError(
                "inconsistent",
                "a salt before each prompt leaves nothing of prompts.prefix to share. Expected one of the two. Next: set "
                "load.prefix_cache_salt: false (behind a prefix each request has a salt anyway), or delete prompts.prefix",
                {"path": ["load", "prefix_cache_salt"]},
            )
        groups = 1 if self.prompts is None or self.prompts.prefix is None else self.prompts.prefix.groups
        for dataset in self.datasets:
            if groups > 1 and groups > dataset.count / 2:
                raise PydanticCustomError(
                    "inconsistent",
                    f"{groups} groups of the {dataset.count} prompts of dataset {dataset.name!r} leave prompts that share their "
                    "beginning with no other. Expected at least two prompts for each group. Next: lower it, or raise `count`",
                    {"path": ["prompts", "prefix", "groups"]},
                )
        return self

    @model_validator(mode="after")
    def _structure_can_be_asked_for(self) -> BenchmarkConfig:
        for i, option in enumerate([] if self.imported or self.generation is None else self.options):
            try:
                structured_keys(option.request_api, self.generation)
            except ValueError as error:
                path = {"path": ["options", i]}
                raise PydanticCustomError("inconsistent", f"option {option.name!r}: {error}", path) from None
        return self

    @model_validator(mode="after")
    def _imported_answers_are_whole(self) -> BenchmarkConfig:
        if self.imported and self.slo.ttfa_s is not None:
            raise PydanticCustomError(
                "inconsistent",
                "imported results do not tell thinking from answers, so the first token of an answer is not known. Expected a "
                "limit that they hold. Next: write ttft_s or latency_s",
                {"path": ["slo", "ttfa_s"]},
            )
        return self

    @model_validator(mode="after")
    def _answers_can_be_scored(self) -> BenchmarkConfig:
        if self.quality is None:
            return self
        path, why = self._unfit_quality() or ([], None)
        if why is not None:
            raise PydanticCustomError("inconsistent", why, {"path": ["quality", *path]})
        gate = self.quality.gate and self.quality.gate.not_worse_than
        names = [option.name for option in self.options]
        if gate is not None and gate.option not in names:
            raise PydanticCustomError(
                "missing_dataset",
                "the gate compares with an option that is not under `options`",
                {
                    "path": ["quality", "gate", "not_worse_than", "option"],
                    "bad": gate.option,
                    "allowed": names,
                },
            )
        return self

    def _unfit_quality(self) -> tuple[list[str], str] | None:
        """A key of `quality` and what is wrong with it, given the rest of the config."""
        if self.imported:
            return [], "imported results hold no answers. Next: delete quality"
        if self.conversations is not None:
            return [], "turns of prompts.conversations have no reference answers. Next: delete one of the two"
        kind, reference = self.prompts.source.kind, self.quality.reference
        if kind == "python_reference":
            return (
                [],
                "the Python reference has no answers. Next: set prompts.source to a file that has, or delete quality",
            )
        if kind == "sharegpt" and reference is not None:
            return ["reference"], "of a source of kind sharegpt it is the reply. Next: delete it, or write `kind: file`"
        if reference is None and kind != "sharegpt" and self.prompts.source.answer is None:
            return ["reference"], "prompts.source.answer is null, so no column has the right answer. Next: name one"
        context, most = self.model.context_tokens, self.quality.max_output_tokens or 0
        longest = min(
            max(dataset.prompt_tokens[1] for dataset in self.datasets) - 1, context - self.generation.max_output_tokens
        )
        if longest + most > context:
            return ["max_output_tokens"], (
                f"prompts of up to {longest} tokens and {most} output tokens exceed model.context_tokens {context}. "
                "Next: lower it, or the prompt_tokens of the datasets"
            )
        if self.quality.judge is not None and self.quality.gate is not None and self.load.race.enabled:
            return ["gate"], (
                "a judge is asked when all load is over, and a race goes by the gate before that. Next: write load.race: false, "
                "choose another scorer, or delete the gate"
            )
        if self.quality.gate is not None and self.quality.gate.not_worse_than is not None and len(self.options) == 1:
            return ["gate", "not_worse_than"], "there is no other option to compare. Next: add one, or write min_score"
        return None

    @model_validator(mode="after")
    def _limits_can_be_measured(self) -> BenchmarkConfig:
        why = (
            "results are imported"
            if self.imported
            else "a search needs its limit before it sends"
            if isinstance(self.load, Search)
            else None
        )
        for name in self.slo.multiples():
            if why:
                raise PydanticCustomError(
                    "inconsistent",
                    f"times_single_request cannot be used here: {why}. Expected a number of seconds. Next: write one",
                    {"path": ["slo", name]},
                )
        return self

    @model_validator(mode="after")
    def _conversations_can_be_sent(self) -> BenchmarkConfig:
        if self.conversations is None or self.imported:
            return self
        for i, option in enumerate(self.options):
            if option.request_api != "openai_chat":
                raise PydanticCustomError(
                    "inconsistent",
                    f"prompts.conversations needs the chat API of OpenAI, and the api of option {option.name!r} is "
                    f"{option.request_api}. Expected openai_chat. Next: change `api`, or leave out prompts.conversations",
                    {"path": ["options", i, "api"]},
                )
            if option.adapters:
                raise PydanticCustomError(
                    "inconsistent",
                    f"adapters are drawn for single requests, and option {option.name!r} is sent prompts.conversations. Next: "
                    "leave out `adapters`",
                    {"path": ["options", i, "adapters"]},
                )
        if self.load.kind not in ("closed_loop", "open_loop"):
            raise PydanticCustomError(
                "inconsistent",
                f"sessions of prompts.conversations cannot be sent by a load of kind {self.load.kind}. Expected closed_loop, "
                "with users as its concurrency, or open_loop, with sessions per second as its rate. Next: write one of them",
                {"path": ["load", "kind"]},
            )
        unfit = {
            "race": self.load.race.enabled
            and "each block of a race would begin all sessions anew, at their short first turns",
            "control": self.load.control
            and "a control block would begin all sessions anew, at their short first turns",
        }
        for name, why in unfit.items():
            if why:
                raise PydanticCustomError(
                    "inconsistent",
                    f"`{name}` cannot be used with prompts.conversations: {why}. Next: leave out `{name}`",
                    {"path": ["load", name]},
                )
        self.load.is_made_by_sessions()
        return self

    @model_validator(mode="after")
    def _can_be_mixed(self) -> BenchmarkConfig:
        if self.load.mix is not None:
            refuse_unmixable(self)
        return self

    @model_validator(mode="after")
    def _prompts_suffice(self) -> BenchmarkConfig:
        if self.imported:
            return self
        # how many turns conversations have is not known yet
        needed = self.load.fewest_prompts() if self.conversations is None else 0
        for i, dataset in enumerate(self.datasets):
            low, asked = dataset.prompt_tokens[0], prompts_asked_of(self, dataset, needed)
            if dataset.count < asked and not (self.load.repeat_prompts or self.load.may_bring_prompts):
                of_these = f", {asked} from this dataset with load.mix," if self.load.mix is not None else ""
                raise PydanticCustomError(
                    "inconsistent",
                    f"{dataset.count} prompts are too few: a load point sends up to {needed} (warm-up, min_requests and "
                    f"drain at the highest concurrency){of_these} and prompts are not repeated. Next: raise `count`, lower "
                    "load.min_requests, or set load.repeat_prompts: true",
                    {"path": ["datasets", i, "count"]},
                )
            if low + self.generation.max_output_tokens > self.model.context_tokens:
                raise PydanticCustomError(
                    "inconsistent",
                    f"prompts of {low} tokens and {self.generation.max_output_tokens} output tokens exceed "
                    f"model.context_tokens {self.model.context_tokens}. Next: lower one of the two, or raise context_tokens",
                    {"path": ["datasets", i, "prompt_tokens"]},
                )
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

    def smallest_share(self, dataset: str) -> float:
        """Share of the requests of a load point that are about the part which has the fewest: 1 but for a mix."""
        return min(self.shares_of_parts().values()) if self.load.mix is not None and dataset == MIXED else 1.0

    def max_parallel_loads(self) -> int:
        """Endpoints loaded at once: one where local endpoints share this machine's cores, and with a cluster."""
        if self.endpoints.max_parallel_loads:
            return self.endpoints.max_parallel_loads
        shared = any(isinstance(o, SageMakerOption) and o.local for o in self.options)
        return 1 if shared or self.load.cluster is not None else self.endpoints.max_parallel_endpoints


def slug(name: str) -> str:
    """A name as used in file and endpoint names: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def usable_cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
