"""Fault injection: which calls to the local SageMaker fail, how and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Operation = Literal[
    "CreateModel",
    "DescribeModel",
    "ListModels",
    "DeleteModel",
    "CreateEndpointConfig",
    "DescribeEndpointConfig",
    "ListEndpointConfigs",
    "DeleteEndpointConfig",
    "CreateEndpoint",
    "DescribeEndpoint",
    "ListEndpoints",
    "DeleteEndpoint",
    "CreateInferenceComponent",
    "DescribeInferenceComponent",
    "ListInferenceComponents",
    "DeleteInferenceComponent",
    "AddTags",
    "ListTags",
    "DeleteTags",
    "DescribeLogStreams",
    "GetLogEvents",
    "GetMetricData",
    "InvokeEndpoint",
]
"""Every call that the local SageMaker answers; InvokeEndpoint stands for both ways to invoke."""

STREAM_ERRORS = ("ModelStreamError", "InternalStreamFailure")
"""Errors that SageMaker sends as the last frame of a stream."""

MODEL_ERROR_STATUS = 424
DEFAULT_STATUS = 400


class Fault(BaseModel):
    """A rule: of the calls that match it, the first `after` are spared, and the next `times` fail.

    Rules count independently; if several hit the same call, the first applies.
    AWS clients retry throttled and broken calls automatically, and every attempt counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    call: Operation = Field(
        description="An operation of the API, such as CreateEndpoint, DescribeEndpoint, DeleteModel; InvokeEndpoint for both "
        "ways to invoke."
    )
    name_contains: str = Field(default="", description="Only for resources whose name contains this.")
    after: int = Field(default=0, ge=0, description="Matching calls that are spared first.")
    times: PositiveInt | None = Field(default=None, description="Matching calls that are hit; default all.")
    delay_s: float = Field(
        default=0, ge=0, description="Delay of the answer; for CreateEndpoint: how much longer Creating lasts."
    )
    error_code: str | None = Field(
        default=None, min_length=1, description="Error code of the answer, for example ThrottlingException."
    )
    message: str = Field(default="", description="Message of the error, or the FailureReason.")
    status: int | None = Field(
        default=None, ge=400, le=599, description="HTTP status of the error; default 400, for a ModelError 424."
    )
    becomes: Literal["Failed"] | None = Field(
        default=None,
        description="For CreateEndpoint: the endpoint becomes Failed, with `message` as its FailureReason.",
    )
    loses_answer: bool = Field(
        default=False, description="The call is carried out, but its connection breaks before the answer."
    )
    break_after_parts: int | None = Field(
        default=None,
        ge=0,
        description="For InvokeEndpoint: the stream breaks after this many parts or, with the error code of a stream "
        "(ModelStreamError, InternalStreamFailure), ends with that error. An answer that is not streamed breaks at once.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Fault:
        in_stream = self.break_after_parts is not None
        if self.becomes and self.call != "CreateEndpoint":
            raise ValueError(f"`becomes` goes with CreateEndpoint, not with {self.call}: change `call`, or delete it")
        if in_stream and self.call != "InvokeEndpoint":
            raise ValueError(
                f"`break_after_parts` goes with InvokeEndpoint, not with {self.call}: for a lost answer give "
                "`loses_answer: true`"
            )
        if self.loses_answer and self.call == "InvokeEndpoint":
            raise ValueError("`loses_answer` goes with calls other than InvokeEndpoint: give `break_after_parts: 0`")
        if self.error_code and (self.becomes or self.loses_answer):
            raise ValueError(
                "a call that is refused with `error_code` does nothing: delete `becomes` and `loses_answer`"
            )
        if self.error_code and in_stream != (self.error_code in STREAM_ERRORS):
            raise ValueError(
                f"error code {self.error_code}: an error within a stream (`break_after_parts`) is one of "
                f"{', '.join(STREAM_ERRORS)}, and any other comes instead of the answer, without `break_after_parts`"
            )
        if self.status and (in_stream or not self.error_code):
            raise ValueError("`status` goes with `error_code`: give one, or delete `status`")
        if self.message and not (self.error_code or self.becomes):
            raise ValueError("`message` goes with `error_code` or `becomes`: give one of them, or delete `message`")
        if not (self.delay_s or self.error_code or self.becomes or self.loses_answer or in_stream):
            raise ValueError(
                "nothing goes wrong: give at least one of delay_s, error_code, becomes, loses_answer, break_after_parts"
            )
        return self

    @property
    def http_status(self) -> int:
        """HTTP status of the error."""
        return self.status or (MODEL_ERROR_STATUS if self.error_code == "ModelError" else DEFAULT_STATUS)


class FaultRules:
    """One server's rules, and how many calls each has seen."""

    def __init__(self, rules: Sequence[Fault]) -> None:
        self.is_empty = not rules
        """Whether no rules were ever set."""
        self.replace(rules)

    def replace(self, rules: Sequence[Fault]) -> None:
        """Replaces the rules; counts restart from zero."""
        self._rules = list(rules)
        self._seen = [0] * len(self._rules)

    def find(self, call: str, name: str) -> Fault | None:
        """The rule that hits this call, or None. The call counts for every rule that it matches."""
        hit = None
        for position, rule in enumerate(self._rules):
            if rule.call != call or rule.name_contains not in name:
                continue
            number = self._seen[position]
            self._seen[position] += 1
            if number >= rule.after and (rule.times is None or number < rule.after + rule.times):
                hit = hit or rule
        return hit
