"""SageMaker real-time endpoints: created through boto3, or found.

Not through the classes of `sagemaker.core.resources`: they refuse answers with fields that they do not know, after the
resource was made, and take seconds to load.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import SageMakerOption
from helpers.endpoints.failures import NEXT_STEP, NO_LOG_STEP, cause_of_log, deploy_error
from helpers.endpoints.pricing import price_of
from helpers.endpoints.targets.base import EndpointStatus
from helpers.endpoints.targets.container_logs import last_log_lines
from helpers.endpoints.targets.execution_role import find_execution_role
from helpers.endpoints.targets.existing_endpoint import describe_existing
from helpers.endpoints.targets.model_source import ModelSource, find_model_source
from helpers.endpoints.targets.sagemaker_requests import EndpointRequests, endpoint_requests, machine_image_of
from helpers.endpoints.targets.sagemaker_resources import (
    deployed_images,
    digest_of,
    find_endpoint,
    resource_name,
    resource_tags,
)
from helpers.errors import DeployError
from helpers.load.address import Address, SigV4
from helpers.run.aws_errors import Cause, cause_of_words, is_passing
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.sessions import LOCAL_PROFILE, LOCAL_ROLE, aws_session, local_config_file

if TYPE_CHECKING:
    import boto3

STATES = {
    "InService": "in_service",
    "Failed": "failed",
    "OutOfService": "failed",
    "UpdateRollbackFailed": "failed",
    "Deleting": "gone",
}
"""States that AWS passes through by itself, such as SystemUpdating, count as those of an endpoint that comes up."""
ROUTES = {"invocations": "invocations-response-stream", "openai": "openai/v1/chat/completions"}
"""https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-openai-compatible.html"""
COMPONENT_HEADER = "X-Amzn-SageMaker-Inference-Component"
OF_THE_WHOLE_ENDPOINT = "of the whole endpoint, whose instances its inference components share"
LONGEST_LINE = 300
"""Characters of a line of a container that are kept."""
CAUSES_IN_LOGS = (Cause.CRASH, Cause.STARTUP, Cause.OTHER)
"""Causes about which the container's log says more than SageMaker does."""


class SageMakerTarget:
    """Deploys one option to a real-time endpoint, or measures one that exists."""

    def __init__(self, option: SageMakerOption, config: BenchmarkConfig, run: RunFolder) -> None:
        self._option = option
        self._config = config
        self._run = run
        self._cached_session: boto3.Session | None = None

    def plan(self) -> EndpointRecord:
        """The ledger entry, with its price. Makes nothing; an existing endpoint is described."""
        option, region = self._option, self._config.aws.region
        known = {"option": option.name, "target": "sagemaker", "region": region, "local": option.local}
        vcpus = self._run.about()["machine"]["vcpus"]
        if not option.deploy:
            found = describe_existing(option, self._session())
            price = price_of(option, region, vcpus, instance_type=found.instance_type)
            if price and option.inference_component and option.price is None:
                price = price.model_copy(update={"source": f"{price.source}, {OF_THE_WHOLE_ENDPOINT}"})
            return EndpointRecord(
                **known,
                **found._asdict(),
                price=price,
                state="external",
                endpoint_name=option.endpoint_name,
            )
        source = option.container or option.jumpstart
        image = source.image_uri(option.instance_type, region) if option.container else None
        return EndpointRecord(
            **known,
            price=price_of(option, region, vcpus),
            endpoint_name=resource_name(self._run.run_id, option.name),
            instance_type=option.instance_type,
            instance_count=option.instance_count,
            image=image or f"jumpstart:{source.model_id}",
            serving={**source.shown_settings(), **self._shown_settings(image)},
        )

    def create(self, record: EndpointRecord) -> EndpointRecord:
        """Create model, endpoint config and endpoint; returns before it is ready, with the image that was found.

        Raises DeployError with the platform's words.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        from helpers.run.local_server import LocalSageMakerError

        doing = f"{record.instance_type} in {record.region}"
        try:
            source = find_model_source(self._option, self._config.aws.region, self._session())
        except LocalSageMakerError as error:
            raise DeployError(f"option {self._option.name!r}: {error}") from error
        requests = self._requests(record, source)
        client = self._session().client("sagemaker")
        try:
            client.create_model(**requests.model)
            client.create_endpoint_config(**requests.endpoint_config)
            client.create_endpoint(**requests.endpoint)
        except (ClientError, BotoCoreError) as error:
            raise deploy_error(self._option.name, doing, error, source.without_secrets(str(error))) from None
        return record.model_copy(update={"image": source.image})

    def status(self, record: EndpointRecord) -> EndpointStatus:
        """State, since when, and why it failed. A look that fails in passing leaves the state as it was."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            endpoint = find_endpoint(record.endpoint_name, self._session().client("sagemaker"))
        except (BotoCoreError, ClientError) as error:
            if is_passing(error):
                return EndpointStatus(record.state)
            raise deploy_error(self._option.name, f"cannot look at {record.endpoint_name}", error) from error
        if endpoint is None:
            return EndpointStatus("gone")
        state = STATES.get(endpoint["EndpointStatus"], "creating")
        since = endpoint["LastModifiedTime"].astimezone(UTC).isoformat(timespec="milliseconds")
        if state != "failed":
            return EndpointStatus(state, since, image_digest=digest_of(deployed_images(endpoint)))
        reason = endpoint.get("FailureReason", "no reason given")
        return EndpointStatus(state, since, *self._explain(record, reason))

    def address(self, record: EndpointRecord) -> Address:
        """The streaming invocation of the endpoint, signed; or its OpenAI-compatible path, with a bearer token."""
        runtime = self._session().client("sagemaker-runtime")
        local, by_openai, component = (
            self._option.local,
            self._option.route == "openai",
            self._option.inference_component,
        )
        within = f"/inference-components/{component}" if component and by_openai else ""
        path = f"/endpoints/{record.endpoint_name}{within}/{ROUTES[self._option.route]}"
        return Address(
            url=runtime.meta.endpoint_url + path,
            headers={COMPONENT_HEADER: component} if component and not by_openai else {},
            api=self._option.request_api,
            framing="plain" if by_openai else "aws_event_stream",
            request_id_header="X-Amzn-SageMaker-Inference-Id",
            sigv4=SigV4(
                service="sagemaker",
                region=record.region,
                profile=LOCAL_PROFILE if local else None,
                config_file=str(local_config_file(self._run)) if local else None,
                as_bearer_token=by_openai,
            ),
        )

    # --- creating -------------------------------------------------------------------------------------------------

    def _requests(self, record: EndpointRecord, source: ModelSource) -> EndpointRequests:
        aws = self._config.aws
        expires_at = datetime.now(UTC) + timedelta(seconds=self._config.endpoints.expires_after_s)
        return endpoint_requests(
            self._option,
            aws,
            source,
            name=record.endpoint_name,
            role=LOCAL_ROLE if self._option.local else find_execution_role(self._config, self._session()),
            subnets=self._subnets(record.attempts),
            tags=resource_tags(self._run.run_id, expires_at, aws.tags),
        )

    def _subnets(self, attempts: int) -> list[str]:
        """Subnets of an attempt: one after another where capacity was lacking, else those of the config; empty outside a VPC."""
        turns = self._option.on_no_capacity.subnets
        if turns:
            return turns[(max(attempts, 1) - 1) % len(turns)]
        return self._config.aws.vpc.subnets if self._config.aws.vpc else []

    def _shown_settings(self, image: str | None) -> dict[str, str]:
        """What the option's instances are, beyond their type."""
        option, aws = self._option, self._config.aws
        said = {
            "inference_ami": machine_image_of(option, image),
            "volume_gb": option.volume_gb,
            "capacity_reservation": option.capacity_reservation,
            "vpc": "yes" if aws.vpc else None,
            "kms_key_id": "yes" if aws.kms_key_id else None,
        }
        return {key: str(value) for key, value in said.items() if value is not None}

    def _explain(self, record: EndpointRecord, reason: str) -> tuple[str, Cause]:
        """Why an endpoint failed, in SageMaker's words and its container's, with the next step; and the cause."""
        from botocore.exceptions import BotoCoreError, ClientError

        cause, lines, unread, printed = cause_of_words(reason), [], "", ""
        if cause in CAUSES_IN_LOGS:
            try:
                printed = "\n".join(last_log_lines(record.endpoint_name, self._session()))
            except (ClientError, BotoCoreError) as error:
                unread = f" Its log could not be read ({error})."
            lines = [
                line[:LONGEST_LINE] for line in self._mask(printed).splitlines()
            ]  # half a secret is not found any more
            logged = cause_of_log("\n".join(lines))
            cause = cause if logged == Cause.OTHER else logged
        quoted = "\nLast lines of the container:\n" + "\n".join(f"  {line}" for line in lines) + "\n" if lines else " "
        is_silent = not lines and not unread and cause in (Cause.CRASH, Cause.STARTUP)
        next_step = f"{NEXT_STEP[cause]}; {NO_LOG_STEP}" if is_silent else NEXT_STEP[cause]
        text = f"{cause}: {reason.strip().rstrip('.')}.{unread}{quoted}Next: {next_step}"
        return self._mask(text), cause

    def _mask(self, text: str) -> str:
        """A text without the secrets that the container was given."""
        try:
            source = find_model_source(self._option, self._config.aws.region, self._session())
        except DeployError:
            given = (self._option.container or self._option.jumpstart).environment
            source = ModelSource("", dict(given), None)
        return source.without_secrets(text)

    def _session(self) -> boto3.Session:
        if self._cached_session is None:
            self._cached_session = aws_session(self._option, self._config, self._run)
        return self._cached_session
