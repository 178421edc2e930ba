"""Prices in a config: per instance-hour, per vCPU-hour, or per token. All in US dollars."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from helpers.config.strict import PositiveInt, Strict


class HourlyPrice(Strict):
    """A price per instance-hour."""

    usd_per_hour: float = Field(ge=0, description="On-demand price of one instance, $/h.")
    source: str = Field(default="config", description="Where the price comes from.")
    as_of: date | None = Field(default=None, description="Day on which the price was looked up.")


class PricePerVcpu(Strict):
    """A price per vCPU-hour, for options that use part of a machine or all of an unknown one."""

    usd_per_vcpu_hour: float = Field(ge=0, description="Price of one vCPU, $/h.")
    vcpus: PositiveInt | Literal["all"] = Field(description="vCPUs that the option uses; `all` counts this machine's.")
    source: str = Field(default="config", description="Where the price comes from.")
    as_of: date | None = Field(default=None, description="Day on which the price was looked up.")


class TokenPrice(Strict):
    """Prices per token, for options that are not billed by the hour."""

    usd_per_1m_input_tokens: float = Field(ge=0, description="Price of a million prompt tokens, $.")
    usd_per_1m_cached_input_tokens: float | None = Field(
        default=None,
        ge=0,
        description="Price of a million prompt tokens read from a prompt cache, $; default: the price of other prompt tokens.",
    )
    usd_per_1m_output_tokens: float = Field(ge=0, description="Price of a million output tokens, $.")
    source: str = Field(default="config", description="Where the price comes from.")
    as_of: date | None = Field(default=None, description="Day on which the price was looked up.")


class NamedPrice(HourlyPrice):
    """An alternative price of an instance, for example with a savings plan."""

    name: str = Field(
        min_length=1, max_length=60, description="As the report names it, for example 1-year savings plan."
    )


def _price_kind(price: object) -> str:
    """Which kind of price is meant, so that a fault is reported once and with the right keys."""
    if isinstance(price, dict):
        if any(key.startswith("usd_per_1m_") for key in price):
            return "per token"
        return "per vCPU" if price.keys() & {"usd_per_vcpu_hour", "vcpus"} else "hourly"
    return {PricePerVcpu: "per vCPU", TokenPrice: "per token"}.get(type(price), "hourly")


Price = Annotated[
    Annotated[HourlyPrice, Tag("hourly")]
    | Annotated[PricePerVcpu, Tag("per vCPU")]
    | Annotated[TokenPrice, Tag("per token")],
    Discriminator(_price_kind),
]
