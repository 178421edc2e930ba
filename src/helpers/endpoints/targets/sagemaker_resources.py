"""The three resources that one option makes on SageMaker, all of one name: a model, an endpoint config, an endpoint.

Finding and deleting them needs only the ledger entry, so that it works without the config, and only boto3, which is there at
once (the SageMaker SDK takes seconds to load). Deleting is safe to repeat: what does not exist counts as deleted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from helpers.config.strict import slug
from helpers.endpoints.failures import NEXT_STEP
from helpers.endpoints.waiting import growing_pauses
from helpers.errors import TeardownError
from helpers.run.aws_errors import Cause, cause_of_error, code_of, is_not_found, is_passing
from helpers.run.ledger import EndpointRecord

if TYPE_CHECKING:
    import boto3
    from botocore.client import BaseClient

CREATED_BY = "llm-serving-verdict"
MAX_NAME_LENGTH = 63
STILL_IN_USE = ("ValidationException", "ResourceInUse", "ConflictException")
"""Error codes with which SageMaker refuses to delete what is still being made or used."""
SETTLE_S = 6.0
"""How long a create call that was cut off may take to show what it made."""
LOCAL_SETTLE_S = 0.5


def resource_name(run_id: str, option_name: str) -> str:
    """A name for an option's three resources: at most 63 letters, digits and hyphens.

    It ends at random, so that it is never that of something that the run did not make: teardown deletes by name.
    """
    unique = uuid.uuid4().hex[:6]
    name = slug(f"{run_id} {option_name}")[: MAX_NAME_LENGTH - len(unique) - 1].rstrip("-")
    return f"{name}-{unique}"


def resource_tags(run_id: str, expires_at: datetime, more: dict[str, str]) -> dict[str, str]:
    """Tags by which the resources of a run are found, even without its ledger."""
    return {
        **more,
        "created-by": CREATED_BY,
        "run-id": run_id,
        "expires-at": expires_at.isoformat(timespec="seconds"),
    }


def find_endpoint(endpoint_name: str, client: BaseClient) -> dict | None:
    """The endpoint as DescribeEndpoint reports it now; None if there is none."""
    from botocore.exceptions import ClientError

    try:
        return client.describe_endpoint(EndpointName=endpoint_name)
    except ClientError as error:
        if is_not_found(error):
            return None
        raise


def deployed_images(endpoint: dict) -> list[dict]:
    """The images of an endpoint's production variants, as DescribeEndpoint reports them."""
    return [image for variant in endpoint.get("ProductionVariants", []) for image in variant.get("DeployedImages", [])]


def digest_of(images: Iterable[dict]) -> str | None:
    """The digest of the image that runs; None where it is not reported, or where several run."""
    found = {image.get("ResolvedImage", "").rpartition("@")[2] for image in images}
    return found.pop() if len(found) == 1 and next(iter(found)).startswith("sha256:") else None


def delete_resources(record: EndpointRecord, session: boto3.Session, wait_s: float) -> None:
    """Delete endpoint, endpoint config and model; returns when all three are gone.

    What is refused in passing (still being created, throttled, a fault of the service) is tried again for `wait_s` seconds.
    Raises TeardownError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    name, client = record.endpoint_name, session.client("sagemaker")
    deadline = time.monotonic() + wait_s
    try:
        _delete_endpoint(record, client, deadline)
        _delete_if_there(client.delete_endpoint_config, record, deadline, EndpointConfigName=name)
        _delete_if_there(client.delete_model, record, deadline, ModelName=name)
    except (ClientError, BotoCoreError, TimeoutError) as error:
        cause = Cause.OTHER if isinstance(error, TimeoutError) else cause_of_error(error)
        how = f": {NEXT_STEP[cause]}" if cause in (Cause.CREDENTIALS, Cause.PERMISSION) else ""
        raise TeardownError(f"option {record.option!r}: {name} may still cost money: {error}{how}") from error


def delete_commands(record: EndpointRecord) -> list[str]:
    """The AWS CLI calls by which a person deletes the three resources."""
    name, region = record.endpoint_name, record.region
    return [
        f"aws sagemaker delete-endpoint --region {region} --endpoint-name {name}",
        f"aws sagemaker delete-endpoint-config --region {region} --endpoint-config-name {name}",
        f"aws sagemaker delete-model --region {region} --model-name {name}",
    ]


def _delete_endpoint(record: EndpointRecord, client: BaseClient, deadline: float) -> None:
    """Ask for deletion until the endpoint is gone; SageMaker refuses while it is still being created.

    A create call whose result is unknown may still be under way: it is given a few seconds.
    """
    settled = time.monotonic()
    if record.create_called_at and not record.confirmed_at:
        settled += LOCAL_SETTLE_S if record.local else SETTLE_S
    state = refusal = ""
    for _ in growing_pauses():
        try:
            endpoint = find_endpoint(record.endpoint_name, client)
            if endpoint is None and time.monotonic() >= settled:
                return
            if endpoint is not None:
                state = f"it is still {endpoint['EndpointStatus']}. "
                if endpoint["EndpointStatus"] != "Deleting":
                    client.delete_endpoint(EndpointName=record.endpoint_name)
        except Exception as error:
            if not _is_refused_for_now(error, record):
                raise
            refusal = str(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{state}{refusal}")


def _delete_if_there(delete: Callable[..., object], record: EndpointRecord, deadline: float, **name: str) -> None:
    for _ in growing_pauses():
        try:
            delete(**name)
            return
        except Exception as error:
            if is_not_found(error):
                return
            if not _is_refused_for_now(error, record) or time.monotonic() > deadline:
                raise


def _is_refused_for_now(error: Exception, record: EndpointRecord) -> bool:
    """True where the same call may be accepted later: a resource is still being made, or AWS fails in passing.

    A local SageMaker that is not reached has ended, and comes back no more.
    """
    return code_of(error) in STILL_IN_USE or (is_passing(error) and not record.local)
