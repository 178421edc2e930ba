"""Where the load generator sends requests, and how; what is behind an address it does not know."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.config.api_url import basic_credentials, secrets_in_headers, secrets_in_query, without_user


class SigV4(BaseModel):
    """Sign with AWS Signature Version 4, with credentials found by the process that signs: each request, or a bearer token."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    service: str
    region: str
    profile: str | None = None
    config_file: str | None = None
    as_bearer_token: bool = Field(default=False, description="SageMaker's bearer token, in place of a signature.")


class Address(BaseModel):
    """Where and how to send a request. It crosses to the load process through a pipe, never through a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str
    api: Literal["openai_chat", "openai_completions", "tgi", "djl", "bedrock_converse"]
    framing: Literal["plain", "aws_event_stream"] = Field(description="What the answer is wrapped in.")
    request_id_header: str
    served_model: str | None = None
    service_tier: str | None = Field(default=None, description="Of Bedrock.")
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
        """The Authorization header of requests that are not signed; None for none."""
        if self.bearer_token:
            return f"Bearer {self.bearer_token}"
        return f"Basic {basic_credentials(self.basic_auth)}" if self.basic_auth else None

    def secrets(self) -> list[str]:
        """What a server may repeat in its answers and must not be shown."""
        found = [self.bearer_token, *secrets_in_query(self.url), *secrets_in_headers(self.headers)]
        if self.basic_auth:
            found += [basic_credentials(self.basic_auth), self.basic_auth, self.basic_auth.partition(":")[2]]
        if self.sigv4 is not None:
            found += [os.environ.get(name) for name in ("AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY")]
        return [secret for secret in found if secret]
