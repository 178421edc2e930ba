"""On-demand prices of SageMaker hosting from the AWS Price List, in US dollars per hour and instance, kept on disk.

A run never waits for a price: time-outs are short, there is one attempt, and whatever goes wrong gives null. How a price
is found: service code AmazonSageMaker, attribute `component` Hosting, `instanceName` the instance type, `usagetype` the
region's prefix and `Host:<instance type>`, one positive OnDemand price per `Hrs`.
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.run.folder import write_atomically
from local_sagemaker.tiny_model import default_cache_dir as model_cache_dir

if TYPE_CHECKING:
    import boto3

SERVICE_CODE = "AmazonSageMaker"
API_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}
"""First part of a region -> the nearest region that offers the Price List API; the others ask us-east-1."""
FRESH_DAYS = 7
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2.0, 5.0
ASK_AGAIN_AFTER_S = 60.0
"""Once the API could not be asked, a process does without it for so long: six options do not wait six times."""


@dataclass(frozen=True)
class ListedPrice:
    """An hourly price, and the day (ISO 8601, UTC) on which the Price List said so."""

    usd_per_hour: float
    as_of: str

    def age_days(self) -> int:
        """Whole days since then."""
        return (datetime.now(UTC).date() - date.fromisoformat(self.as_of)).days


def hosting_price(instance_type: str, region: str) -> ListedPrice | None:
    """The on-demand price of one instance of an endpoint; None where the Price List has none, or more than one.

    A price on disk serves for 7 days without a call, and longer where the API cannot be asked.
    """
    return _price_list(default_cache_dir()).price(instance_type, region)


def default_cache_dir() -> Path:
    """Where prices are kept, beside the models."""
    return model_cache_dir().parent / "prices"


def impatient_session(region: str) -> boto3.Session:
    """A session of the standard credential chain that gives up soon, also where it fetches credentials."""
    import boto3
    import botocore.session
    from botocore.config import Config

    core = botocore.session.Session()
    once = {"total_max_attempts": 1, "mode": "standard"}
    core.set_default_client_config(Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries=once))
    return boto3.Session(botocore_session=core, region_name=region)


@cache
def _price_list(cache_dir: Path) -> _PriceList:
    return _PriceList(cache_dir)


class _PriceList:
    """The Price List with its copy on disk: one small file per region and instance type, so that writers never meet."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._silent_until = 0.0

    def price(self, instance_type: str, region: str) -> ListedPrice | None:
        from botocore.exceptions import BotoCoreError, ClientError

        path = self._cache_dir / region / f"{instance_type}.json"
        kept = _read(path)
        if (kept is not None and abs(kept.age_days()) <= FRESH_DAYS) or time.monotonic() < self._silent_until:
            return kept
        try:
            products = list(_products(instance_type, region))
        except (BotoCoreError, ClientError, OSError, ValueError):  # ValueError: an endpoint URL that is none
            self._silent_until = time.monotonic() + ASK_AGAIN_AFTER_S
            return kept
        found = only_hourly_price(products, instance_type, region)
        if found is None:
            return None
        listed = ListedPrice(found, datetime.now(UTC).date().isoformat())
        with contextlib.suppress(OSError):  # a price that cannot be kept costs a call the next time
            write_atomically(path, json.dumps(asdict(listed)) + "\n")
        return listed


def _read(path: Path) -> ListedPrice | None:
    """The price on disk; None if there is none, or none that can be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        day = date.fromisoformat(kept["as_of"])
        return ListedPrice(float(kept["usd_per_hour"]), day.isoformat()) if _is_price(kept["usd_per_hour"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _products(instance_type: str, region: str) -> Iterator[object]:
    """What the Price List says of an instance type in a region: products with their terms, decoded."""
    session = impatient_session(region)
    if session.get_partition_for_region(region) != "aws":
        return  # China has price lists and a currency of its own, and other partitions have no such API
    client = session.client("pricing", region_name=API_REGIONS.get(region.split("-")[0], "us-east-1"))
    wanted = {"regionCode": region, "instanceName": instance_type, "component": "Hosting"}
    pages = client.get_paginator("get_products").paginate(
        ServiceCode=SERVICE_CODE,
        FormatVersion="aws_v1",
        Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()],
    )
    for page in pages:
        for text in page.get("PriceList", []):
            try:
                yield json.loads(text)
            except ValueError:
                continue


def only_hourly_price(products: Iterable[object], instance_type: str, region: str) -> float | None:
    """The one positive on-demand price per hour that products of the Price List give; None if there is none or several.

    A price of 0 is not one: it stands for what was paid for beforehand.
    """
    usage = re.compile(rf"([A-Z0-9]+-)?Host:{re.escape(instance_type)}")
    prices = set()
    for product in products:
        attributes = _at(product, "product", "attributes")
        if (
            _at(attributes, "instanceName") == instance_type
            and _at(attributes, "component") == "Hosting"
            and _at(attributes, "regionCode") == region
            and usage.fullmatch(str(_at(attributes, "usagetype")))
        ):
            prices.update(_hourly_usd(_at(product, "terms", "OnDemand")))
    return prices.pop() if len(prices) == 1 else None


def _hourly_usd(terms: object) -> Iterator[float]:
    """Every positive price per hour in the on-demand terms of a product."""
    for term in terms.values() if isinstance(terms, dict) else ():
        dimensions = _at(term, "priceDimensions")
        for dimension in dimensions.values() if isinstance(dimensions, dict) else ():
            usd = _at(dimension, "pricePerUnit", "USD")
            if _at(dimension, "unit") == "Hrs" and _is_price(usd):
                yield float(usd)


def _is_price(usd: object) -> bool:
    try:
        return 0 < float(usd) < math.inf
    except (TypeError, ValueError):
        return False


def _at(value: object, *keys: str) -> object:
    """What lies under nested keys; None where one of them is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
