"""What an option costs, per instance-hour or per token.

The price comes from the config, else (SageMaker instances on AWS) from the AWS Price List, else from data/prices.csv.
Prices per token come from the config alone.
"""

from __future__ import annotations

import csv
from pathlib import Path

from helpers.config.benchmark import DATA_DIR
from helpers.config.options import OptionBase
from helpers.endpoints.price_list import hosting_price
from helpers.price import Price

PRICE_LIST = DATA_DIR / "prices.csv"
SAGEMAKER_PREFIX = "ml."


def price_of(
    option: OptionBase,
    region: str,
    machine_vcpus: int,
    price_list: Path = PRICE_LIST,
    instance_type: str | None = None,
) -> Price | None:
    """The price of an option; None where no source has it.

    `instance_type` is the type that was found to serve the option, where the config does not say it. The Price List is
    asked only for SageMaker instances on AWS whose price the config does not state; that takes seconds at most.
    """
    if option.price is not None:
        return option.price.as_price(machine_vcpus)
    instance_type = instance_type or option.instance_type
    if option.target == "bedrock":
        return None
    if _runs_on_sagemaker(option) and instance_type.startswith(SAGEMAKER_PREFIX):
        listed = hosting_price(instance_type, region)
        if listed is not None:
            return listed
    with price_list.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["instance_type"] == instance_type and row["region"] == region:
                return Price(usd_per_instance_hour=row["usd_per_hour"], source=row["source"], as_of=row["as_of"])
    return None


def _runs_on_sagemaker(option: OptionBase) -> bool:
    """True for endpoints on AWS, and for results of other tools that were measured on such instances."""
    return option.target in ("sagemaker", "imported") and not getattr(option, "local", False)
