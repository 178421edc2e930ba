"""SageMaker real-time endpoints: created through the SDK's resource classes (`sagemaker.core.resources`), or found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from helpers.config import BenchmarkConfig
from helpers.errors import DeployError
from helpers.failures import NEXT_STEP, Cause, cause_of_log, cause_of_words, deploy_error, is_passing
from helpers.ledger import EndpointRecord
from helpers.options import SageMakerOption
from helpers.pricing import as_ledger_fields, price_of
from helpers.run_folder import RunFolder
from helpers.sessions import LOCAL_PROFILE, LOCAL_ROLE, aws_session, local_config_file
from helpers.targets.base import Address, EndpointStatus, SigV4
from helpers.targets.container_logs import last_log_lines
from helpers.targets.execution_role import find_execution_role
from helpers.targets.existing_endpoint import describe_existing
from helpers.targets.model_source import ModelSource, find_model_source
from helpers.targets.sagemaker_resources import find_endpoint, resource_name, resource_tags

if TYPE_CHECKING:
    import boto3
    from sagemaker.core.shapes import ContainerDefinition, ProductionVariant, Tag

VARIANT = "AllTraffic"
STATES = {
    "InService": "in_service",
    "Failed": "failed",
    "OutOfService": "failed",
    "UpdateRollbackFailed": "failed",
    "Deleting": "gone",
}
"""States that AWS passes through by itself, such as SystemUpdating, count as those of an endpoint that comes up."""
SHORTEST_STARTUP_TIMEOUT_S = 60
LONGEST_LINE = 300
"""Characters of a line of a container that are kept."""
CAUSES_IN_LOGS = (Cause.CRASH, Cause.STARTUP, Cause.OTHER)
"""Causes of which the container's log tells more than SageMaker does."""


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
            return EndpointRecord(
                **known,
                **found._asdict(),
                **as_ledger_fields(price),
                state="external",
                endpoint_name=option.endpoint_name,
            )
        source = option.container or option.jumpstart
        return EndpointRecord(
            **known,
            **as_ledger_fields(price_of(option, region, vcpus)),
            endpoint_name=resource_name(self._run.run_id, option.name),
            instance_type=option.instance_type,
            instance_count=option.instance_count,
            image=source.image if option.container else f"jumpstart:{source.model_id}",
            serving={**source.shown_settings(), **self._shown_settings()},
        )

    def create(self, record: EndpointRecord) -> EndpointRecord:
        """Create model, endpoint config and endpoint; returns before it is ready, with the image that was found.

        Raises DeployError with the platform's words.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        from helpers.local_sagemaker.launcher import LocalSageMakerError

        doing = f"{record.instance_type} in {record.region}"
        try:
            source = find_model_source(self._option, self._config.aws.region, self._session())
        except LocalSageMakerError as error:
            raise DeployError(f"option {self._option.name!r}: {error}") from error
        try:
            self._create(record, source)
        except (ClientError, BotoCoreError) as error:
            raise deploy_error(self._option.name, doing, error, source.without_secrets(str(error))) from None
        except ValueError as error:  # of the SDK, which checks the types of what it is given, and quotes it
            words = source.without_secrets(str(error))
            next_step = NEXT_STEP[Cause.OTHER]
            raise DeployError(
                f"option {self._option.name!r}: {doing}: {words}. Next: {next_step}", Cause.OTHER
            ) from None
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
            return EndpointStatus(state, since)
        reason = endpoint.get("FailureReason", "no reason given")
        return EndpointStatus(state, since, *self._explain(record, reason))

    def address(self, record: EndpointRecord) -> Address:
        """The streaming invocation of the endpoint, signed."""
        runtime = self._session().client("sagemaker-runtime")
        local = self._option.local
        return Address(
            url=f"{runtime.meta.endpoint_url}/endpoints/{record.endpoint_name}/invocations-response-stream",
            api=self._option.request_api,
            framing="aws_event_stream",
            request_id_header="X-Amzn-SageMaker-Inference-Id",
            sigv4=SigV4(
                service="sagemaker",
                region=record.region,
                profile=LOCAL_PROFILE if local else None,
                config_file=str(local_config_file(self._run)) if local else None,
            ),
        )

    # --- creating -------------------------------------------------------------------------------------------------

    def _create(self, record: EndpointRecord, source: ModelSource) -> None:
        from sagemaker.core.resources import Endpoint, EndpointConfig, Model
        from sagemaker.core.shapes import Tag, VpcConfig

        name, aws = record.endpoint_name, self._config.aws
        common = {"tags": self._tags(Tag), "session": self._session(), "region": aws.region}
        in_network = {}
        if subnets := self._subnets(record.attempts):
            in_network["vpc_config"] = VpcConfig(subnets=subnets, security_group_ids=aws.vpc.security_group_ids)
        encrypted = {"kms_key_id": aws.kms_key_id} if aws.kms_key_id else {}
        Model.create(
            model_name=name,
            primary_container=_container_definition(source),
            execution_role_arn=LOCAL_ROLE if self._option.local else find_execution_role(self._config, self._session()),
            **in_network,
            **common,
        )
        EndpointConfig.create(
            endpoint_config_name=name, production_variants=[self._variant(name, source)], **encrypted, **common
        )
        Endpoint.create(endpoint_name=name, endpoint_config_name=name, **common)

    def _variant(self, name: str, source: ModelSource) -> ProductionVariant:
        from sagemaker.core.shapes import ProductionVariant

        option = self._option
        optional = {"inference_ami_version": option.inference_ami, "volume_size_in_gb": option.volume_gb}
        if source.model_data_url:
            optional["model_data_download_timeout_in_seconds"] = int(option.model_download_timeout_s)
        return ProductionVariant(
            variant_name=VARIANT,
            model_name=name,
            instance_type=option.instance_type,
            initial_instance_count=option.instance_count,
            container_startup_health_check_timeout_in_seconds=max(
                SHORTEST_STARTUP_TIMEOUT_S, int(option.startup_timeout_s)
            ),
            **{key: value for key, value in optional.items() if value is not None},
        )

    def _subnets(self, attempts: int) -> list[str]:
        """Subnets of an attempt: those for want of capacity in turn, else those of the config; empty outside a VPC."""
        turns = self._option.on_no_capacity.subnets
        if turns:
            return turns[(max(attempts, 1) - 1) % len(turns)]
        return self._config.aws.vpc.subnets if self._config.aws.vpc else []

    def _tags(self, tag: type[Tag]) -> list[Tag]:
        expires_at = datetime.now(UTC) + timedelta(seconds=self._config.endpoints.expires_after_s)
        tags = resource_tags(self._run.run_id, expires_at, self._config.aws.tags)
        return [tag(key=key, value=value) for key, value in tags.items()]

    def _shown_settings(self) -> dict[str, str]:
        """What the option says of its instances, beyond their type."""
        option, aws = self._option, self._config.aws
        said = {
            "inference_ami": option.inference_ami,
            "volume_gb": option.volume_gb,
            "vpc": "yes" if aws.vpc else None,
            "kms_key_id": "yes" if aws.kms_key_id else None,
        }
        return {key: str(value) for key, value in said.items() if value is not None}

    def _explain(self, record: EndpointRecord, reason: str) -> tuple[str, Cause]:
        """Why an endpoint failed, in SageMaker's words and its container's, with the next step; and the cause."""
        cause, lines = cause_of_words(reason), []
        if cause in CAUSES_IN_LOGS:
            printed = "\n".join(last_log_lines(record.endpoint_name, self._session()))
            lines = [
                line[:LONGEST_LINE] for line in self._mask(printed).splitlines()
            ]  # half a secret is not found any more
            told = cause_of_log("\n".join(lines))
            cause = cause if told == Cause.OTHER else told
        quoted = "\nLast lines of the container:\n" + "\n".join(f"  {line}" for line in lines) + "\n" if lines else " "
        text = f"{cause}: {reason.strip().rstrip('.')}.{quoted}Next: {NEXT_STEP[cause]}"
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


def _container_definition(source: ModelSource) -> ContainerDefinition:
    """Image and environment; model data as an archive, or as a folder or with an accepted licence as a data source."""
    from sagemaker.core.shapes import ContainerDefinition, ModelAccessConfig, ModelDataSource, S3ModelDataSource

    url, data = source.model_data_url, {}
    if url and (url.endswith("/") or source.accept_eula):
        is_archive = url.endswith(".tar.gz")
        access = {"model_access_config": ModelAccessConfig(accept_eula=True)} if source.accept_eula else {}
        data["model_data_source"] = ModelDataSource(
            s3_data_source=S3ModelDataSource(
                s3_uri=url,
                s3_data_type="S3Object" if is_archive else "S3Prefix",
                compression_type="Gzip" if is_archive else "None",
                **access,
            )
        )
    elif url:
        data["model_data_url"] = url
    return ContainerDefinition(image=source.image, environment=source.environment, **data)
