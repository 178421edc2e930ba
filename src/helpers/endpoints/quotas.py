"""How many instances of a type an AWS account may use for endpoints, and how many it uses now.

Nothing is changed on AWS. What cannot be read in a few seconds is None, with the reason. The quota of a type is named
`<instance type> for endpoint usage`: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from helpers.endpoints.price_list import impatient_session
from helpers.run.aws_errors import code_of, is_not_found

if TYPE_CHECKING:
    import boto3

T = TypeVar("T")
SERVICE_CODE = "sagemaker"
LONGEST_S = 30.0
"""SageMaker has thousands of quotas, a hundred per page, and each endpoint takes two calls to describe."""
IDLE_STATES = ("Failed", "OutOfService")
"""States in which an endpoint has no instances; in all others, including `Deleting`, it may have some."""


@dataclass(frozen=True)
class Quota:
    """Instances of one type for endpoints, in one region. None is unknown, and `unknown_because` gives the reason."""

    limit: float | None
    source: str | None
    """Where the limit comes from."""
    in_use: int | None
    """Instances of endpoints that exist now."""
    unknown_because: str | None = None

    def suffices(self, needed: int) -> bool | None:
        """True if `needed` more instances fit; None if that is unknown."""
        if self.limit is None:
            return None
        if self.in_use is None:
            return False if needed > self.limit else None
        return needed <= self.limit - self.in_use


def read_quotas(instance_types: Iterable[str], region: str) -> dict[str, Quota]:
    """Instance type -> its quota and use. Errors of AWS never raise: they become `unknown_because`."""
    wanted = list(dict.fromkeys(instance_types))
    limits, no_limits = _read(_limits, wanted, region)
    in_use, no_use = _read(_instances_in_use, wanted, region)
    quotas = {}
    for instance_type in wanted:
        limit, source = (limits or {}).get(instance_type, (None, None))
        missing = no_limits if limits is None else None if source else "Service Quotas lists no such quota"
        reasons = [reason for reason in (missing, no_use) if reason]
        because = "; ".join(dict.fromkeys(reasons)) or None
        quotas[instance_type] = Quota(limit, source, None if in_use is None else in_use[instance_type], because)
    return quotas


class _Late(Exception):
    """It took longer than a plan is allowed to."""


def _read(
    look: Callable[[boto3.Session, list[str], str, float], T],
    wanted: list[str],
    region: str,
) -> tuple[T | None, str | None]:
    """The result of a look-up at AWS, or None and the reason."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        return look(impatient_session(region), wanted, region, time.monotonic() + LONGEST_S), None
    except NoCredentialsError:
        return None, "no AWS credentials were found"
    except ClientError as error:
        return None, f"{error.operation_name}: {code_of(error) or 'error'}"
    except _Late as error:
        return None, str(error)
    except (BotoCoreError, OSError, ValueError) as error:
        return None, " ".join(str(error).split()) or type(error).__name__


# --- quotas -------------------------------------------------------------------------------------------------------


def _limits(session: boto3.Session, wanted: list[str], region: str, deadline: float) -> dict[str, tuple[float, str]]:
    """Instance type -> (limit, source): the account's own limit, else the default of AWS."""
    from botocore.config import Config

    patient = Config(
        retries={"total_max_attempts": 3, "mode": "standard"}
    )  # a look-up of this many pages may be throttled
    client = session.client("service-quotas", region_name=region, config=patient)
    found: dict[str, tuple[float, str]] = {}
    for operation, source in (
        ("list_service_quotas", "Service Quotas"),
        ("list_aws_default_service_quotas", "Service Quotas, AWS default"),
    ):
        names = {f"{one} for endpoint usage".lower(): one for one in wanted if one not in found}
        for quota in _items(client, operation, "Quotas", deadline, ServiceCode=SERVICE_CODE) if names else ():
            instance_type = names.pop(quota.get("QuotaName", "").lower(), None)
            if instance_type is not None and "Value" in quota:
                found[instance_type] = (quota["Value"], source)
            if not names:
                break
    return found


# --- use ----------------------------------------------------------------------------------------------------------


def _instances_in_use(session: boto3.Session, wanted: list[str], region: str, deadline: float) -> Counter[str]:
    """Instance type -> instances of all endpoints of the account in the region."""
    client = session.client("sagemaker", region_name=region)
    used: Counter[str] = Counter()
    for endpoint in _items(client, "list_endpoints", "Endpoints", deadline):
        if endpoint["EndpointStatus"] not in IDLE_STATES:
            used.update(_instances_of(client, endpoint["EndpointName"]))
    return used


def _instances_of(client: Any, endpoint_name: str) -> Counter[str]:
    """Instance type -> instances that an endpoint has or is about to have; none if it was deleted in the meantime."""
    from botocore.exceptions import ClientError

    used: Counter[str] = Counter()
    try:
        endpoint = client.describe_endpoint(EndpointName=endpoint_name)
        config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    except ClientError as error:
        if is_not_found(error):
            return used
        raise
    for key in ("ProductionVariants", "ShadowProductionVariants"):
        running = {variant["VariantName"]: variant for variant in endpoint.get(key, [])}
        for variant in config.get(key, []):
            now = running.get(variant["VariantName"], {})
            pools = now.get("InstancePools", [])
            used.update({pool["InstanceType"]: pool.get("CurrentInstanceCount", 0) for pool in pools})
            if "InstanceType" in variant and not pools:
                counts = (now.get("CurrentInstanceCount", 0), now.get("DesiredInstanceCount", 0))
                used[variant["InstanceType"]] += max(counts) if now else variant.get("InitialInstanceCount", 1)
    return used


def _items(client: Any, operation: str, key: str, deadline: float, **parameters: str) -> Iterator[dict[str, Any]]:
    """All items of a list operation, page by page. Raises _Late once the deadline has passed."""
    for page in client.get_paginator(operation).paginate(**parameters, PaginationConfig={"PageSize": 100}):
        for item in page.get(key, []):
            if time.monotonic() > deadline:
                raise _Late(f"{operation} took more than {LONGEST_S:g} s")
            yield item
