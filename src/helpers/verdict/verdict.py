"""The verdict as data: which option to take, which are tied with it, what each costs, and why the others are excluded.

It is published as verdict.json; its JSON schema is docs/verdict.schema.json. The rules are in `judging`.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

from helpers.config.load_level import LoadKind
from helpers.metrics.quality import AnswerQuality
from helpers.price import Price
from helpers.run.report_warning import ReportWarning

SCHEMA_VERSION = 6
Status = Literal[
    "recommended",
    "tied",
    "feasible",
    "undecided",
    "not_judged",
    "infeasible",
    "below_quality",
    "eliminated",
    "unpriced",
    "incomplete",
    "failed",
]
CostBasis = Literal["usd_per_1k_requests", "usd_per_1m_output_tokens"]


class Data(BaseModel):
    """Base of all parts of a verdict. Every unknown number is null."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Estimate(Data):
    """A value with its 95% interval; a null bound is unknown or unbounded."""

    value: float
    low: float | None
    high: float | None

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit."""
        return Estimate(**{end: None if value is None else value * factor for end, value in self})


class ChosenPoint(Data):
    """The load point at which an option serves a dataset."""

    dataset: str
    share: float
    """Share of the dataset in the traffic."""
    load_kind: LoadKind
    level: float
    """Requests in flight (closed loop), requests per second (open loop), speed of the trace; of conversations, users or sessions
    per second."""
    load: str
    """The level in words, for example `concurrency 4`."""
    n: int
    endpoints: int = 1
    """Endpoints of the option on which it was measured; with several, intervals of prices contain how much they differ."""
    requests_per_s: Estimate | None
    """Served at this load by all instances of the option; null where imported results do not hold it."""
    latency_s: Estimate | None
    """The SLO's percentile of the main latency."""
    cached_tokens_mean: float = 0.0
    """Of the prompt tokens, those from a prompt cache, as far as the server reported them."""
    asked_hit_rate: float | None = None
    """Share of the prompt tokens that `prompts.prefix` asks a cache to serve."""
    found_hit_rate: float | None = None
    """Share of the prompt tokens that the server reports to have found in its prefix cache; null where it reports nothing."""
    prompt_tokens_mean: float | None
    output_tokens_mean: float | None
    cost: Estimate | None
    cost_unseen: float | None = None
    """What stalls that none of the n requests met may add to the cost, beyond its interval: if as many requests hang until the
    time-out as all that the option was sent leave room for, with 95% confidence. Null of imported results, whose time-out is
    unknown, and of an open loop, which serves what is offered.
    """
    or_at: list[str] = []
    """Of the recommended option: loads that may be cheaper by more than `load.race.indifference`, and are neither shown to meet
    the SLO nor shown to miss it, in words."""
    may_serve_more: bool = False
    """True where no higher load was decided, so that the rate here is a lower bound of what the option can serve."""


class OpenLimit(Data):
    """A limit of the SLO that a load is neither shown to meet nor shown to miss."""

    dataset: str
    part: str | None = None
    """What the limit is open for: of a mix the dataset in it, of conversations the bin of context length; else null."""
    load: str
    limit: str
    """`error_rate`, or the latency: `latency_s`, `ttft_s`, `ttfa_s`, `tpot_s`."""
    measured: float | None
    """The error rate, or the SLO's percentile in seconds."""
    allowed: float
    requests_lacking: int | None
    """Number of further requests, as slow and failing as often as so far, that would show it; null where no number would."""


class Effort(Data):
    """What would settle whether an option meets the SLO at the loads of its estimate, if requests continue as so far."""

    requests: int
    minutes: float
    """Of load; start-up is not counted."""
    usd: float | None
    """Null where no price is known."""
    how: str | None = None
    """What to change in the config so that more requests are sent; null for imported results."""


class Capacity(Data):
    """What the traffic of the config needs. Instances and utilisation are null for what is billed by the token."""

    requests_per_minute_per_instance: Estimate
    instances: int | None
    utilisation: float | None
    usd_per_fleet_hour: float | None
    """Of all instances that the traffic needs, or of its tokens."""
    usd_per_month: float | None
    usd_per_1m_output_tokens: float | None
    """Of the traffic, idle time included."""
    usd_per_1m_tokens: float | None
    """The same over prompt and output tokens."""
    at_least: bool = False
    """True where a higher load was not decided, so that an instance may serve more than this."""


class OptionVerdict(Data):
    """One option: where it stands, why, and what it costs."""

    option: str
    instance_type: str
    instance_count: int
    status: Status
    reason: str
    may_be_cheaper: bool = False
    """True where a load that is not shown to miss the SLO might make it as cheap as the recommended option; of the
    recommended and those tied with it: cheaper than reported.
    """
    may_be_cheaper_because: str | None = None
    """The load, and why it is not decided."""
    is_estimate: bool = False
    """True where the option is not shown to meet the SLO: `points`, `cost` and `capacity` are then those of the cheapest load
    whose estimates are within the SLO.
    """
    open_limits: list[OpenLimit] = []
    """Of an estimate: the limits that are not shown to be met."""
    to_settle: Effort | None = None
    """Of an estimate: what would show that they are met; null where more requests alone would not."""
    cost: Estimate | None = None
    """In the unit of the verdict's `cost_basis`, over the traffic mix."""
    cost_unseen: float | None = None
    """The same of all `points`, over the traffic mix."""
    points: list[ChosenPoint] = []
    prices: list[Price] = []
    """The first is the one that `cost` follows from."""
    capacity: Capacity | None = None
    quality: AnswerQuality | None = None
    """Null where the config has no `quality`."""
    usd_per_1k_correct: Estimate | None = None
    """`cost` ÷ share of right answers; null where answers are not right or wrong, or costs are not per request."""

    @property
    def price(self) -> Price | None:
        """The price that `cost` follows from; None if unknown."""
        return self.prices[0] if self.prices else None

    @property
    def may_be_named(self) -> bool:
        """True if it has a cost and is not decided: by its estimates it meets the SLO, or by its answers alone it is open."""
        return (self.is_estimate or self.status == "undecided") and self.cost is not None

    @property
    def is_billed_per_token(self) -> bool:
        """True if that price is per token."""
        return self.price is not None and self.price.is_per_token


class Verdict(Data):
    """The verdict of a run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    config_name: str
    model: str
    measured_locally: bool
    comparable: bool
    """False where models, prompts or output lengths differ: costs are then per output token. Also false where lengths were not
    counted in the same way: see `counted_apart`."""
    counted_apart: list[str] = []
    """Who counted the tokens of each option, where because of that it is not known whether requests were equal work or what an
    output token costs. Costs are then per request where model and prompts are the same."""
    cost_basis: CostBasis
    percentile: float
    recommended: str | None
    tied: list[str]
    """Options that meet the SLO and are not shown to cost more than the recommended."""
    may_be_cheaper: list[str]
    """Options that are not shown to meet the SLO where they are cheapest, or not to pass the gate of `quality`, and might be as
    cheap: more measurements would show it. Without a recommended option: those that may meet the SLO."""
    not_measured: list[str] = []
    """Options that failed, or that lack a dataset: they are not judged."""
    best_estimate: str | None = None
    """Without a recommended option: of those that may meet the SLO, the cheapest by its estimates."""
    nearest: str | None
    """Where no option is feasible: the one that came nearest to the SLO."""
    nearest_reason: str | None
    options: list[OptionVerdict]
    warnings: list[ReportWarning]

    @property
    def has_gate(self) -> bool:
        """True if options must pass a gate of `quality` too."""
        return any(option.quality is not None and option.quality.gate is not None for option in self.options)

    @property
    def aim(self) -> str:
        """What an option must be shown to do before it is recommended, as a phrase."""
        return f"meet the SLO{' and pass the quality gate' if self.has_gate else ''}"

    def option(self, name: str) -> OptionVerdict:
        """The verdict on one option; KeyError if the run has none of that name."""
        for option in self.options:
            if option.option == name:
                return option
        raise KeyError(name)


def verdict_schema() -> str:
    """The JSON schema of verdict.json, with the meaning of each field."""
    schema = Verdict.model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
