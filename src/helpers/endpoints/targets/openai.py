"""Any running server that speaks the OpenAI API: nothing is created, nothing is deleted."""

from __future__ import annotations

from pathlib import Path

from helpers.config.api_url import below, host_of
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OpenAIOption
from helpers.endpoints.pricing import price_of
from helpers.endpoints.targets.base import EndpointStatus
from helpers.endpoints.targets.certificates import certificates_file
from helpers.load.address import Address
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord

PATHS = {"openai_chat": "/chat/completions", "openai_completions": "/completions"}


class OpenAITarget:
    """Sends to `base_url`; the ledger lists it as external."""

    def __init__(self, option: OpenAIOption, config: BenchmarkConfig, run: RunFolder) -> None:
        self._option = option
        self._region = config.aws.region
        self._run = run

    def plan(self) -> EndpointRecord:
        """An external endpoint, with the price that the config states. Raises DeployError for an unusable `ca_file`."""
        self._ca_file()
        return EndpointRecord(
            option=self._option.name,
            target="openai",
            state="external",
            endpoint_name=host_of(self._option.base_url),
            instance_type=self._option.instance_type,
            instance_count=self._option.instance_count,
            price=price_of(self._option, self._region, self._run.about()["machine"]["vcpus"]),
        )

    def create(self, record: EndpointRecord) -> EndpointRecord:
        """Nothing to create."""
        return record

    def status(self, record: EndpointRecord) -> EndpointStatus:
        """External servers count as in service: the request records show whether they answer."""
        return EndpointStatus("in_service")

    def address(self, record: EndpointRecord) -> Address:
        """The URL of the API under `base_url`."""
        return Address(
            url=below(self._option.base_url, PATHS[self._option.api]),
            api=self._option.api,
            framing="plain",
            request_id_header="X-Request-Id",
            served_model=self._option.served_model,
            bearer_token=self._option.api_key,
            ca_file=self._ca_file(),
        )

    def _ca_file(self) -> str | None:
        if self._option.ca_file is None:
            return None
        return certificates_file(
            self._option.ca_file, Path(self._run.about()["config_dir"]), f"option {self._option.name!r}"
        )
