"""SageMaker real-time endpoints, created and deleted through the SDK's resource classes (`sagemaker.core.resources`).

One option makes three resources of one name: a model, an endpoint config and an endpoint. Deleting is safe to repeat:
what is not there counts as deleted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from helpers.config import SECRET_NAME, BenchmarkConfig, slug
from helpers.errors import DeployError, TeardownError
from helpers.ledger import EndpointRecord
from helpers.options import SageMakerOption
from helpers.pricing import as_ledger_fields, price_of
from helpers.run_folder import RunFolder
from helpers.sessions import LOCAL_PROFILE, LOCAL_ROLE, aws_session, local_config_file
from helpers.targets.base import Address, EndpointStatus, SigV4

if TYPE_CHECKING:
    import boto3
    from sagemaker.core.resources import Endpoint

CREATED_BY = "llm-serving-verdict"
ENDPOINT_LIFETIME = timedelta(hours=12)
VARIANT = "AllTraffic"
MAX_NAME_LENGTH = 63
POLL_S = 3.0
LOCAL_POLL_S = 0.1
STATES = {"InService": "in_service", "Failed": "failed", "OutOfService": "failed"}
THROTTLED = ("ThrottlingException", "Throttling", "RequestLimitExceeded")


class ModelSource(NamedTuple):
    """What a SageMaker model is made of."""

    image: str
    environment: dict[str, str]
    model_data_url: str | None
    accept_eula: bool


class SageMakerTarget:
    """Deploys one option to a real-time endpoint."""

    def __init__(self, option: SageMakerOption, config: BenchmarkConfig, run: RunFolder) -> None:
        self._option = option
        self._config = config
        self._run = run
        self._cached_session: boto3.Session | None = None

    def plan(self) -> EndpointRecord:
        """The ledger entry; looks up the price, calls nothing."""
        option, region = self._option, self._config.aws.region
        price = price_of(option, region, self._run.about()["machine"]["vcpus"])
        return EndpointRecord(
            option=option.name,
            target="sagemaker",
            endpoint_name=resource_name(self._run.run_id, option.name),
            instance_type=option.instance_type,
            instance_count=option.instance_count,
            region=region,
            local=option.local,
            **as_ledger_fields(price),
            image=option.container.image if option.container else f"jumpstart:{option.jumpstart.model_id}",
        )

    def create(self, record: EndpointRecord) -> None:
        """Create model, endpoint config and endpoint. Raises DeployError with the platform's words."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._create(record.endpoint_name)
        except (ClientError, BotoCoreError) as error:
            raise DeployError(
                f"option {self._option.name!r}: {record.instance_type} in {record.region}: {self._without_secrets(error)}. "
                "Next: mend the option or the account (quota, role, image), then start a new run"
            ) from error

    def status(self, record: EndpointRecord) -> EndpointStatus:
        """State, since when, and the reason of a failure. A look that fails in passing leaves the state as it was."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            endpoint = find_endpoint(record, self._session())
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") not in THROTTLED:
                raise DeployError(
                    f"option {self._option.name!r}: cannot look at {record.endpoint_name}: {error}"
                ) from error
            return EndpointStatus(record.state)
        if endpoint is None:
            return EndpointStatus("gone")
        reason = endpoint.failure_reason if isinstance(endpoint.failure_reason, str) else None
        since = endpoint.last_modified_time.astimezone(UTC).isoformat(timespec="milliseconds")
        return EndpointStatus(STATES.get(endpoint.endpoint_status, "creating"), since, reason)

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

    def _create(self, name: str) -> None:
        from sagemaker.core.resources import Endpoint, EndpointConfig, Model
        from sagemaker.core.shapes import (
            ContainerDefinition,
            ModelAccessConfig,
            ModelDataSource,
            ProductionVariant,
            S3ModelDataSource,
            Tag,
        )

        source = self._model_source()
        data = {}
        if source.model_data_url and (source.model_data_url.endswith("/") or source.accept_eula):
            is_archive = source.model_data_url.endswith(".tar.gz")
            access = {"model_access_config": ModelAccessConfig(accept_eula=True)} if source.accept_eula else {}
            data["model_data_source"] = ModelDataSource(
                s3_data_source=S3ModelDataSource(
                    s3_uri=source.model_data_url,
                    s3_data_type="S3Object" if is_archive else "S3Prefix",
                    compression_type="Gzip" if is_archive else "None",
                    **access,
                )
            )
        elif source.model_data_url:
            data["model_data_url"] = source.model_data_url
        tags = [Tag(key=key, value=value) for key, value in self._tags().items()]
        where = {"session": self._session(), "region": self._config.aws.region}
        Model.create(
            model_name=name,
            primary_container=ContainerDefinition(image=source.image, environment=source.environment, **data),
            execution_role_arn=self._role(),
            tags=tags,
            **where,
        )
        EndpointConfig.create(
            endpoint_config_name=name,
            production_variants=[
                ProductionVariant(
                    variant_name=VARIANT,
                    model_name=name,
                    instance_type=self._option.instance_type,
                    initial_instance_count=self._option.instance_count,
                    container_startup_health_check_timeout_in_seconds=max(60, int(self._option.startup_timeout_s)),
                )
            ],
            tags=tags,
            **where,
        )
        Endpoint.create(endpoint_name=name, endpoint_config_name=name, tags=tags, **where)

    def _model_source(self) -> ModelSource:
        container, jumpstart = self._option.container, self._option.jumpstart
        if container is not None:
            return ModelSource(container.image, container.environment, container.model_data_url, accept_eula=False)
        from sagemaker.core import environment_variables, image_uris, model_uris

        lookup = {
            "model_id": jumpstart.model_id,
            "model_version": jumpstart.version,
            "region": self._config.aws.region,
            "instance_type": self._option.instance_type,
        }
        try:
            image = image_uris.retrieve(framework=None, image_scope="inference", **lookup)
            defaults = environment_variables.retrieve_default(script="inference", **lookup)
            data = model_uris.retrieve(model_scope="inference", **lookup)
        except (ValueError, KeyError) as error:
            raise DeployError(
                f"option {self._option.name!r}: jumpstart model {jumpstart.model_id!r} version {jumpstart.version!r} "
                f"for {self._option.instance_type}: {error}. Next: check id, version and instance type in the "
                "JumpStart model list"
            ) from error
        return ModelSource(image, {**defaults, **jumpstart.environment}, data, jumpstart.accept_eula)

    def _role(self) -> str:
        if self._option.local:
            return LOCAL_ROLE
        if self._config.aws.execution_role:
            return self._config.aws.execution_role
        from botocore.exceptions import BotoCoreError, ClientError
        from sagemaker.core.helper.session_helper import Session, get_execution_role

        try:
            return get_execution_role(sagemaker_session=Session(boto_session=self._session()))
        except (ValueError, ClientError, BotoCoreError) as error:
            raise DeployError(
                f"no execution role: aws.execution_role is not in the config and this is not a SageMaker notebook "
                f"({error}). Next: set aws.execution_role to the ARN of a role that SageMaker may assume"
            ) from error

    def _tags(self) -> dict[str, str]:
        expires = datetime.now(UTC) + ENDPOINT_LIFETIME
        return {
            **self._config.aws.tags,
            "created-by": CREATED_BY,
            "run-id": self._run.run_id,
            "expires-at": expires.isoformat(timespec="seconds"),
        }

    def _without_secrets(self, error: Exception) -> str:
        """An error's text without secrets of the container's environment, which SageMaker may quote."""
        text = str(error)
        source = self._option.container or self._option.jumpstart
        for name, value in source.environment.items():
            if value and SECRET_NAME.search(name):
                text = text.replace(value, "***")
        return text

    def _session(self) -> boto3.Session:
        if self._cached_session is None:
            self._cached_session = aws_session(self._option, self._config, self._run)
        return self._cached_session


# --- looking and deleting: needs only the ledger entry, so that it works without the config -------------------------


def find_endpoint(record: EndpointRecord, session: boto3.Session) -> Endpoint | None:
    """The endpoint as SageMaker describes it now; null if there is none."""
    from botocore.exceptions import ClientError
    from sagemaker.core.resources import Endpoint

    try:
        return Endpoint.get(endpoint_name=record.endpoint_name, session=session, region=record.region)
    except ClientError as error:
        if is_not_found(error):
            return None
        raise


def delete_resources(record: EndpointRecord, session: boto3.Session, wait_s: float) -> None:
    """Delete endpoint, endpoint config and model; returns when the endpoint is gone. Raises TeardownError."""
    from botocore.exceptions import BotoCoreError, ClientError

    name, client = record.endpoint_name, session.client("sagemaker")
    try:
        _delete_endpoint(record, session, time.monotonic() + wait_s)
        _delete_if_there(client.delete_endpoint_config, EndpointConfigName=name)
        _delete_if_there(client.delete_model, ModelName=name)
    except (ClientError, BotoCoreError, TimeoutError) as error:
        raise TeardownError(f"option {record.option!r}: {name} may still cost money: {error}") from error


def delete_commands(record: EndpointRecord) -> list[str]:
    """The AWS CLI calls by which a person deletes the three resources."""
    name, region = record.endpoint_name, record.region
    return [
        f"aws sagemaker delete-endpoint --region {region} --endpoint-name {name}",
        f"aws sagemaker delete-endpoint-config --region {region} --endpoint-config-name {name}",
        f"aws sagemaker delete-model --region {region} --model-name {name}",
    ]


def _delete_endpoint(record: EndpointRecord, session: boto3.Session, deadline: float) -> None:
    """Ask for deletion until the endpoint is gone; SageMaker refuses while it is still being created."""
    from botocore.exceptions import ClientError

    while (endpoint := find_endpoint(record, session)) is not None:
        if endpoint.endpoint_status != "Deleting":
            try:
                endpoint.delete()
            except ClientError as error:
                if not is_not_found(error) and endpoint.endpoint_status not in ("Creating", "Updating"):
                    raise
        if time.monotonic() > deadline:
            raise TimeoutError(f"the endpoint is still {endpoint.endpoint_status}")
        time.sleep(LOCAL_POLL_S if record.local else POLL_S)


def _delete_if_there(delete: Callable[..., object], **name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        delete(**name)
    except ClientError as error:
        if not is_not_found(error):
            raise


def resource_name(run_id: str, option_name: str) -> str:
    """A name for an option's three resources: at most 63 letters, digits and hyphens.

    It ends at random, so that it is never that of something that the run did not make: teardown deletes by name.
    """
    unique = uuid.uuid4().hex[:6]
    name = slug(f"{run_id} {option_name}")[: MAX_NAME_LENGTH - len(unique) - 1].rstrip("-")
    return f"{name}-{unique}"


def is_not_found(error: object) -> bool:
    """True if a botocore ClientError says that the resource does not exist."""
    detail = error.response.get("Error", {})
    return (
        detail.get("Code") in ("ValidationException", "ResourceNotFound")
        and "could not find" in detail.get("Message", "").lower()
    )
