"""What every target offers, and the address that the load generator sends requests to."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.config.api_url import basic_credentials, secrets_in_headers, secrets_in_query, without_user
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.endpoints.failures import Cause
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord


class SigV4(BaseModel):
    """Sign with AWS Signature Version 4, with credentials found by the process that signs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    service: str
    region: str
    profile: str | None = None
    config_file: str | None = None


class Address(BaseModel):
    """Where and how to send a request. It crosses to the load process through a pipe, never through a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str
    api: Literal["openai_chat", "openai_completions", "tgi", "djl", "bedrock_converse"]
    framing: Literal["plain", "aws_event_stream"] = Field(description="What the answer is wrapped in.")
    request_id_header: str
    served_model: str | None = None
    bearer_token: str | None = Field(default=None, repr=False)
    basic_auth: str | None = Field(default=None, repr=False, description="user:password, taken out of the URL.")
    sigv4: SigV4 | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="Further headers of every request.")
    ca_file: str | None = Field(default=None, description="Certificates to trust for https; default the system's.")

    @model_validator(mode="before")
    @classmethod
    def _user_out_of_the_url(cls, data: dict) -> dict:
        """A URL is shown, a password is not."""
        url, user = without_user(data["url"])
        return data if user is None else {**data, "url": url, "basic_auth": user}

    @property
    def authorization(self) -> str | None:
        """The Authorization header of requests that are not signed; null for none."""
        if self.bearer_token:
            return f"Bearer {self.bearer_token}"
        return f"Basic {basic_credentials(self.basic_auth)}" if self.basic_auth else None

    def secrets(self) -> list[str]:
        """What a server that is called here may repeat, and nobody may read."""
        found = [self.bearer_token, *secrets_in_query(self.url), *secrets_in_headers(self.headers)]
        if self.basic_auth:
            found += [basic_credentials(self.basic_auth), self.basic_auth, self.basic_auth.partition(":")[2]]
        if self.sigv4 is not None:
            found += [os.environ.get(name) for name in ("AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY")]
        return [secret for secret in found if secret]


class EndpointStatus(NamedTuple):
    """State of an endpoint, when it took that state (ISO 8601, UTC) and, if it failed, why, with the next step."""

    state: Literal["creating", "in_service", "failed", "gone"]
    since: str | None = None
    reason: str | None = None
    cause: Cause | None = None


class Target(Protocol):
    """One way to serve an option. What it creates is deleted by `teardown`, from the ledger alone."""

    def plan(self) -> EndpointRecord:
        """The ledger entry of the endpoint to be made; nothing is created. Raises DeployError."""

    def create(self, record: EndpointRecord) -> EndpointRecord:
        """Start creating the endpoint; returns before it is ready, with what became known of it. Raises DeployError."""

    def status(self, record: EndpointRecord) -> EndpointStatus:
        """The endpoint as the platform sees it now."""

    def address(self, record: EndpointRecord) -> Address:
        """Where to send requests, once in service."""


def target_of(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> Target:
    """The target that serves an option."""
    if option.target == "sagemaker":
        from helpers.endpoints.targets.sagemaker import SageMakerTarget

        return SageMakerTarget(option, config, run)
    if option.target == "bedrock":
        from helpers.endpoints.targets.bedrock import BedrockTarget

        return BedrockTarget(option, config, run)
    if option.target == "python":
        from helpers.endpoints.targets.python_file import PythonFileTarget

        return PythonFileTarget(option, config, run)
    from helpers.endpoints.targets.openai import OpenAITarget

    return OpenAITarget(option, config, run)
