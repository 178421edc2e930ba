"""Finds what runs left behind on SageMaker by its tags, where no ledger lists it, and deletes it on request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from helpers.endpoints.failures import NEXT_STEP
from helpers.endpoints.targets.sagemaker_resources import CREATED_BY, delete_commands, delete_resources
from helpers.endpoints.teardown import WAIT_S
from helpers.errors import TeardownError
from helpers.run.aws_errors import cause_of_error, is_not_found
from helpers.run.ledger import EndpointRecord

if TYPE_CHECKING:
    import boto3

CALLS_AT_ONCE = 8


class _Kind(NamedTuple):
    """A kind of resource, as the API names it."""

    noun: str
    operation: str
    key: str


KINDS = (
    _Kind("Endpoint", "list_endpoints", "Endpoints"),
    _Kind("EndpointConfig", "list_endpoint_configs", "EndpointConfigs"),
    _Kind("Model", "list_models", "Models"),
)


@dataclass(frozen=True)
class Orphan:
    """What one option of some run made: resources of one name. Times are UTC."""

    name: str
    region: str
    run_id: str
    kinds: tuple[str, ...]
    """Endpoint, EndpointConfig, Model: those that are there."""
    status: str
    """Of the endpoint; empty if only what costs nothing is left."""
    created_at: datetime
    expires_at: datetime | None

    @property
    def has_expired(self) -> bool:
        """True after the time in its tag `expires-at`; a tag that cannot be read never expires."""
        return self.expires_at is not None and self.expires_at < datetime.now(UTC)

    def as_record(self) -> EndpointRecord:
        """As an entry of a ledger, from which it can be deleted."""
        return EndpointRecord(
            option=self.name,
            target="sagemaker",
            endpoint_name=self.name,
            region=self.region,
            instance_type="",
            instance_count=1,
        )


def find_orphans(session: boto3.Session) -> list[Orphan]:
    """All that carries this project's tag in the session's region, the oldest first; also what live runs use.

    Every list is read to its end and each resource is asked for its tags: the listings of SageMaker are up to date, those of
    the tagging service lag. Raises TeardownError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = session.client("sagemaker")
    found: dict[str, list[tuple[str, dict, dict[str, str]]]] = {}
    try:
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            for kind in KINDS:
                items = [item for page in client.get_paginator(kind.operation).paginate() for item in page[kind.key]]
                tags = pool.map(lambda item, arn=f"{kind.noun}Arn": _tags(client, item[arn]), items)
                for item, mine in zip(items, tags, strict=True):
                    if mine.get("created-by") == CREATED_BY:
                        found.setdefault(item[f"{kind.noun}Name"], []).append((kind.noun, item, mine))
    except (ClientError, BotoCoreError) as error:
        cause = cause_of_error(error)
        words = f"cannot list what is in {session.region_name}: {cause}: {error}. Next: {NEXT_STEP[cause]}"
        raise TeardownError(words) from error
    orphans = [_orphan(name, parts, session.region_name) for name, parts in found.items()]
    return sorted(orphans, key=lambda orphan: orphan.created_at)


def delete_orphans(orphans: list[Orphan], session: boto3.Session) -> None:
    """Delete them, all at once. Raises TeardownError at the end, with the commands that delete what is left."""
    records = [orphan.as_record() for orphan in orphans]
    with ThreadPoolExecutor(max(1, len(records))) as pool:
        deletions = [pool.submit(delete_resources, record, session, WAIT_S) for record in records]
    failures, commands = [], []
    for record, deletion in zip(records, deletions, strict=True):
        if (error := deletion.exception()) is not None:
            failures.append(str(error))
            commands += delete_commands(record)
    if failures:
        raise TeardownError("\n".join([*failures, "Next: delete them by hand:", *commands]))


def _tags(client: object, arn: str) -> dict[str, str]:
    """Tags of a resource; none if it was deleted in the meantime."""
    from botocore.exceptions import ClientError

    try:
        return {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}
    except ClientError as error:
        if is_not_found(error):
            return {}
        raise


def _orphan(name: str, parts: list[tuple[str, dict, dict[str, str]]], region: str) -> Orphan:
    tags = {key: value for _, _, mine in parts for key, value in mine.items()}
    return Orphan(
        name=name,
        region=region,
        run_id=tags.get("run-id", "unknown"),
        kinds=tuple(noun for noun, _, _ in parts),
        status=next((item["EndpointStatus"] for noun, item, _ in parts if noun == "Endpoint"), ""),
        created_at=min(item["CreationTime"] for _, item, _ in parts),
        expires_at=_time(tags.get("expires-at")),
    )


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
