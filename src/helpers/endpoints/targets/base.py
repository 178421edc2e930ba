"""What every target offers."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.load.address import Address
from helpers.run.aws_errors import Cause
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord


class EndpointStatus(NamedTuple):
    """State of an endpoint, when it took that state (ISO 8601, UTC) and, if it failed, why, with the next step; if it is in
    service, the digest of its image where the platform reports it.
    """

    state: Literal["creating", "in_service", "failed", "gone"]
    since: str | None = None
    reason: str | None = None
    cause: Cause | None = None
    image_digest: str | None = None


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
