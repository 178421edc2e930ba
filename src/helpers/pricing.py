"""What an option costs: dollars per hour and instance, or per token. From the config, else from data/prices.csv."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from helpers.config import DATA_DIR
from helpers.options import OptionBase
from helpers.price_config import PricePerVcpu, TokenPrice

PRICE_LIST = DATA_DIR / "prices.csv"


@dataclass(frozen=True)
class FoundPrice:
    """A price, with where and when it was found; it is per hour and instance, or per million tokens."""

    source: str
    as_of: str | None
    usd_per_hour: float | None = None
    usd_per_1m_input_tokens: float | None = None
    usd_per_1m_output_tokens: float | None = None


def price_of(option: OptionBase, region: str, machine_vcpus: int, price_list: Path = PRICE_LIST) -> FoundPrice | None:
    """The price of an option; null if neither config nor price list knows it."""
    if option.price is not None:
        price = option.price
        as_of = price.as_of.isoformat() if price.as_of else None
        if isinstance(price, TokenPrice):
            per_token = (price.usd_per_1m_input_tokens, price.usd_per_1m_output_tokens)
            return FoundPrice(price.source, as_of, None, *per_token)
        if isinstance(price, PricePerVcpu):
            vcpus = machine_vcpus if price.vcpus == "all" else price.vcpus
            return FoundPrice(f"{vcpus} vCPU of {price.source}", as_of, price.usd_per_vcpu_hour * vcpus)
        return FoundPrice(price.source, as_of, price.usd_per_hour)
    with price_list.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["instance_type"] == option.instance_type and row["region"] == region:
                return FoundPrice(row["source"], row["as_of"], float(row["usd_per_hour"]))
    return None


def as_ledger_fields(price: FoundPrice | None) -> dict[str, float | str | None]:
    """The price as the fields of a ledger record; all null where it is unknown."""
    return {
        "usd_per_instance_hour": price and price.usd_per_hour,
        "usd_per_1m_input_tokens": price and price.usd_per_1m_input_tokens,
        "usd_per_1m_output_tokens": price and price.usd_per_1m_output_tokens,
        "price_source": price and price.source,
        "price_as_of": price and price.as_of,
    }
