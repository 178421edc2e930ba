"""Models on Amazon Bedrock, through Converse or ConverseStream: nothing is created, nothing is deleted."""

from __future__ import annotations

import os
from urllib.parse import quote

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import BedrockOption
from helpers.endpoints.pricing import price_of
from helpers.endpoints.targets.base import EndpointStatus
from helpers.errors import DeployError
from helpers.load.address import Address, SigV4
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.sessions import session_of_profile

API_KEY_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
"""A Bedrock API key, which the AWS SDKs prefer to a signature.
Source: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html"""


class BedrockTarget:
    """Sends to the regional endpoint of Bedrock; the ledger lists it as external.

    The region is the config's `aws.region`. Credentials come from the usual AWS chain; a Bedrock API key takes precedence, as
    it does in the AWS SDKs. Provisioned throughput is named by the ARN of its model, and is neither bought nor given up.
    """

    def __init__(self, option: BedrockOption, config: BenchmarkConfig, run: RunFolder) -> None:
        self._option = option
        self._region = config.aws.region
        self._run = run

    def plan(self) -> EndpointRecord:
        """An external endpoint, with the price of tokens or of model units that the config states."""
        return EndpointRecord(
            option=self._option.name,
            target="bedrock",
            state="external",
            endpoint_name=self._option.model_id,
            instance_type=self._option.instance_type,
            instance_count=self._option.instance_count,
            region=self._region,
            price=price_of(self._option, self._region, self._run.about()["machine"]["vcpus"]),
            serving={
                "model_id": self._option.model_id,
                "operation": self._operation,
                **({"service_tier": self._option.service_tier} if self._option.service_tier else {}),
            },
        )

    def create(self, record: EndpointRecord) -> EndpointRecord:
        """Nothing to create."""
        return record

    def status(self, record: EndpointRecord) -> EndpointStatus:
        """Always in service: the request records show whether the model may be called."""
        return EndpointStatus("in_service")

    def address(self, record: EndpointRecord) -> Address:
        """The model's URL, at the endpoint that boto3 finds (also by AWS_ENDPOINT_URL_BEDROCK_RUNTIME).

        Raises DeployError for an API key that would be sent in plain text, as the AWS SDKs refuse to.
        """
        client = session_of_profile(None, None, self._region).client("bedrock-runtime")
        endpoint = client.meta.endpoint_url.rstrip("/")
        path = "converse-stream" if self._option.stream else "converse"
        api_key = os.environ.get(API_KEY_VARIABLE)
        if api_key and not endpoint.startswith("https:"):
            raise DeployError(
                f"option {self._option.name!r}: Bedrock's endpoint is {endpoint}, and the key in {API_KEY_VARIABLE} is sent "
                f"over https only. Next: unset {API_KEY_VARIABLE}, or the variable that sets the endpoint"
            )
        return Address(
            url=f"{endpoint}/model/{quote(self._option.model_id, safe='')}/{path}",
            api="bedrock_converse",
            framing="aws_event_stream" if self._option.stream else "plain",
            request_id_header="X-Request-Id",
            service_tier=self._option.service_tier,
            bearer_token=api_key,
            sigv4=None if api_key else SigV4(service=client.meta.service_model.signing_name, region=self._region),
        )

    @property
    def _operation(self) -> str:
        return "ConverseStream" if self._option.stream else "Converse"
