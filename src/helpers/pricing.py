"""Prices of instances, in dollars per hour and instance: from the config, else from the dated list in data/prices.csv."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from helpers.config import DATA_DIR, OptionBase, PricePerVcpu

PRICE_LIST = DATA_DIR / "prices.csv"


@dataclass(frozen=True)
class InstancePrice:
    """The price of one instance, with where and when it was found."""

    usd_per_hour: float
    source: str
    as_of: str | None


def price_of(
    option: OptionBase, region: str, machine_vcpus: int, price_list: Path = PRICE_LIST
) -> InstancePrice | None:
    """The price of one instance of an option, $/h; null if neither config nor price list knows it."""
    if option.price is not None:
        price = option.price
        as_of = price.as_of.isoformat() if price.as_of else None
        if isinstance(price, PricePerVcpu):
            vcpus = machine_vcpus if price.vcpus == "all" else price.vcpus
            return InstancePrice(price.usd_per_vcpu_hour * vcpus, f"{vcpus} vCPU of {price.source}", as_of)
        return InstancePrice(price.usd_per_hour, price.source, as_of)
    with price_list.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["instance_type"] == option.instance_type and row["region"] == region:
                return InstancePrice(float(row["usd_per_hour"]), row["source"], row["as_of"])
    return None
