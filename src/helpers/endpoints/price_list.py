"""On-demand prices of SageMaker hosting from the AWS Price List, in US dollars per hour and instance, kept on disk.

A price does not hold up a run: time-outs are short, there is one attempt, and any failure gives None. How a price is
found: service code AmazonSageMaker, attribute `component` Hosting, `instanceName` the instance type, `usagetype` the
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
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.price import Price
from helpers.run.folder import write_atomically
from helpers.run.sessions import session_of
from local_sagemaker.tiny_model import default_cache_dir as model_cache_dir

if TYPE_CHECKING:
    import boto3

SERVICE_CODE = "AmazonSageMaker"
API_REGIONS = {"eu": "eu-central-1", "ap": "ap-south-1"}
"""First part of a region -> the nearest region that offers the Price List API; for the others it is us-east-1."""
FRESH_DAYS = 7
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2.0, 5.0
ASK_AGAIN_AFTER_S = 60.0
"""After a failed call, a process does not call the API again for this time: six options do not wait six times."""


def hosting_price(instance_type: str, region: str) -> Price | None:
    """The on-demand price of one instance of an endpoint; None where the Price List has none, or more than one.

    A price on disk is used for 7 days without a call, and for longer where the API cannot be reached.
    """
    return _price_list(default_cache_dir()).price(instance_type, region)


def default_cache_dir() -> Path:
    """Where prices are kept: next to the models."""
    return model_cache_dir().parent / "prices"


def impatient_session(region: str) -> boto3.Session:
    """A session of the standard credential chain with short time-outs, also for fetching credentials."""
    import botocore.session
    from botocore.config import Config

    core = botocore.session.Session()
    once = {"total_max_attempts": 1, "mode": "standard"}
    core.set_default_client_config(Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries=once))
    return session_of(core, region)


@cache
def _price_list(cache_dir: Path) -> _PriceList:
    return _PriceList(cache_dir)


class _PriceList:
    """The Price List with its copy on disk: one small file per region and instance type, so that writers do not collide."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._silent_until = 0.0

    def price(self, instance_type: str, region: str) -> Price | None:
        from botocore.exceptions import BotoCoreError, ClientError

        path = self._cache_dir / region / f"{instance_type}.json"
        kept, today = _read(path, region), datetime.now(UTC).date()
        is_fresh = kept is not None and abs((today - kept.as_of).days) <= FRESH_DAYS
        if is_fresh or time.monotonic() < self._silent_until:
            return kept
        try:
            products = list(_products(instance_type, region))
        except (BotoCoreError, ClientError, OSError, ValueError):  # ValueError: a malformed endpoint URL
            self._silent_until = time.monotonic() + ASK_AGAIN_AFTER_S
            return kept
        found = only_hourly_price(products, instance_type, region)
        if found is None:
            return None
        with contextlib.suppress(OSError):  # a price that cannot be kept costs a call the next time
            write_atomically(path, json.dumps({"usd_per_hour": found, "as_of": today.isoformat()}) + "\n")
        return _listed(found, today, region)


def _read(path: Path, region: str) -> Price | None:
    """The price on disk; None if there is no file, or no price in it."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        usd, day = kept["usd_per_hour"], date.fromisoformat(kept["as_of"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _listed(float(usd), day, region) if _is_price(usd) else None


def _listed(usd: float, day: date, region: str) -> Price:
    return Price(usd_per_instance_hour=usd, source=f"AWS Price List, {region}, on-demand hosting", as_of=day)


def _products(instance_type: str, region: str) -> Iterator[object]:
    """The entries of an instance type and a region in the Price List: products with their terms, decoded."""
    session = impatient_session(region)
    if session.get_partition_for_region(region) != "aws":
        return  # China has its own price lists and currency, and other partitions have no such API
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
    """The only positive on-demand price per hour in products of the Price List; None if there is none, or several.

    A price of 0 does not count: it stands for capacity that was paid for in advance.
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
    """The value under nested keys; None where one of them is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
