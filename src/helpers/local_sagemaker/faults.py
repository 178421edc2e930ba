"""Misbehaviour on demand: which calls of the local SageMaker go wrong, how and how often. Failures can so be rehearsed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helpers.strict import PositiveInt, Strict


class Fault(Strict):
    """Calls that match go wrong: the first `after` of them are spared, then `times` of them are hit."""

    call: str = Field(
        description="An operation of the API, such as CreateEndpoint, DescribeEndpoint, DeleteModel; InvokeEndpoint for both "
        "ways to invoke."
    )
    name_contains: str = Field(default="", description="Only for resources whose name contains this.")
    after: int = Field(default=0, ge=0, description="Matching calls that are spared first.")
    times: PositiveInt | None = Field(default=None, description="Matching calls that are hit; default all.")
    delay_s: float = Field(
        default=0, ge=0, description="The answer comes so much later; of CreateEndpoint: Creating lasts so much longer."
    )
    error_code: str | None = Field(
        default=None, description="Error code of the answer, for example ThrottlingException."
    )
    message: str = Field(
        default="", description="Its message; of CreateEndpoint without an error code: the FailureReason."
    )
    status: int = Field(default=400, ge=400, le=599, description="Its HTTP status.")
    becomes: Literal["Failed"] | None = Field(
        default=None, description="Of CreateEndpoint: the endpoint becomes Failed, with `message` as its FailureReason."
    )
    break_after_parts: int | None = Field(
        default=None, ge=0, description="Of InvokeEndpoint: the stream breaks after so many parts."
    )
