"""What an option costs: dollars per hour and instance, or per token.

From the config, else (SageMaker instances on AWS) from the AWS Price List, else from data/prices.csv. Prices per token
come from the config alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from helpers.config.benchmark import DATA_DIR
from helpers.config.options import OptionBase
from helpers.config.price import PricePerVcpu, TokenPrice
from helpers.endpoints.price_list import hosting_price

PRICE_LIST = DATA_DIR / "prices.csv"
SAGEMAKER_PREFIX = "ml."


@dataclass(frozen=True)
class FoundPrice:
    """A price, with where and when it was found; it is per hour and instance, or per million tokens."""

    source: str
    as_of: str | None
    usd_per_hour: float | None = None
    usd_per_1m_input_tokens: float | None = None
    usd_per_1m_output_tokens: float | None = None
    usd_per_1m_cached_input_tokens: float | None = None
    """Of prompt tokens from a cache; null: that of other prompt tokens."""

    @property
    def origin(self) -> str:
        """Source and day, for a table."""
        return f"{self.source}{f', {self.as_of}' if self.as_of else ''}"


def price_of(
    option: OptionBase,
    region: str,
    machine_vcpus: int,
    price_list: Path = PRICE_LIST,
    instance_type: str | None = None,
) -> FoundPrice | None:
    """The price of an option; None where no source knows it.

    `instance_type` is what was found to serve it, where that is not what the option says. Asking the Price List takes
    seconds at most, and is left out for local options, for what does not run on SageMaker, and for stated prices.
    """
    stated = stated_price(option, machine_vcpus)
    if stated is not None:
        return stated
    instance_type = instance_type or option.instance_type
    if option.target == "bedrock":
        return None
    if _runs_on_sagemaker(option) and instance_type.startswith(SAGEMAKER_PREFIX):
        listed = hosting_price(instance_type, region)
        if listed is not None:
            return FoundPrice(f"AWS Price List, {region}, on-demand hosting", listed.as_of, listed.usd_per_hour)
    with price_list.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["instance_type"] == instance_type and row["region"] == region:
                return FoundPrice(row["source"], row["as_of"], float(row["usd_per_hour"]))
    return None


def stated_price(option: OptionBase, machine_vcpus: int) -> FoundPrice | None:
    """The price that the config states for an option; None if it states none."""
    price = option.price
    if price is None:
        return None
    as_of = price.as_of.isoformat() if price.as_of else None
    if isinstance(price, TokenPrice):
        rates = (price.usd_per_1m_input_tokens, price.usd_per_1m_output_tokens, price.usd_per_1m_cached_input_tokens)
        return FoundPrice(price.source, as_of, None, *rates)
    if isinstance(price, PricePerVcpu):
        vcpus = machine_vcpus if price.vcpus == "all" else price.vcpus
        return FoundPrice(f"{vcpus} vCPU of {price.source}", as_of, price.usd_per_vcpu_hour * vcpus)
    return FoundPrice(price.source, as_of, price.usd_per_hour)


def _runs_on_sagemaker(option: OptionBase) -> bool:
    """True for endpoints on AWS, and for results of other tools that were measured on such instances."""
    return option.target in ("sagemaker", "imported") and not getattr(option, "local", False)


def as_ledger_fields(price: FoundPrice | None) -> dict[str, float | str | None]:
    """The price as the fields of a ledger record; all null where it is unknown."""
    return {
        "usd_per_instance_hour": price and price.usd_per_hour,
        "usd_per_1m_input_tokens": price and price.usd_per_1m_input_tokens,
        "usd_per_1m_output_tokens": price and price.usd_per_1m_output_tokens,
        "usd_per_1m_cached_input_tokens": price and price.usd_per_1m_cached_input_tokens,
        "price_source": price and price.source,
        "price_as_of": price and price.as_of,
    }
