"""Prices in a config: per instance-hour, per vCPU-hour, or per token. All in US dollars."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from helpers.config.strict import PositiveInt, Strict
from helpers.price import Price


class _Dated(Strict):
    source: str = Field(default="config", description="Where the price comes from.")
    as_of: date | None = Field(default=None, description="Day on which the price was looked up.")


class HourlyPrice(_Dated):
    """A price per instance and hour."""

    usd_per_hour: float = Field(ge=0, description="On-demand price of one instance, $/h.")

    def as_price(self, machine_vcpus: int) -> Price:
        """The price of one instance."""
        return Price(usd_per_instance_hour=self.usd_per_hour, source=self.source, as_of=self.as_of)


class PricePerVcpu(_Dated):
    """A price per vCPU and hour, for options that use a part of a machine or all of an unknown one."""

    usd_per_vcpu_hour: float = Field(ge=0, description="Price of one vCPU, $/h.")
    vcpus: PositiveInt | Literal["all"] = Field(description="vCPUs that the option uses; `all` counts this machine's.")

    def as_price(self, machine_vcpus: int) -> Price:
        """The price of all vCPUs of the option."""
        vcpus = machine_vcpus if self.vcpus == "all" else self.vcpus
        usd, source = self.usd_per_vcpu_hour * vcpus, f"{vcpus} vCPU of {self.source}"
        return Price(usd_per_instance_hour=usd, source=source, as_of=self.as_of)


class TokenPrice(_Dated):
    """Prices per token, for what is not billed by the hour."""

    usd_per_1m_input_tokens: float = Field(ge=0, description="Price of a million prompt tokens, $.")
    usd_per_1m_cached_input_tokens: float | None = Field(
        default=None,
        ge=0,
        description="Price of a million prompt tokens read from a prompt cache, $; default: the price of other prompt tokens.",
    )
    usd_per_1m_output_tokens: float = Field(ge=0, description="Price of a million output tokens, $.")

    def as_price(self, machine_vcpus: int) -> Price:
        """The price of tokens."""
        return Price(name="per token", **self.model_dump())


class NamedPrice(HourlyPrice):
    """An alternative price of an instance, for example with a savings plan."""

    name: str = Field(
        min_length=1, max_length=60, description="As the report names it, for example 1-year savings plan."
    )

    def as_price(self, machine_vcpus: int = 0) -> Price:
        """The price of one instance, under its name."""
        return super().as_price(machine_vcpus).model_copy(update={"name": self.name})


def _price_kind(price: object) -> str:
    """Which kind of price is meant, so that a fault is reported once and with the right keys."""
    if isinstance(price, dict):
        if any(key.startswith("usd_per_1m_") for key in price):
            return "per token"
        return "per vCPU" if price.keys() & {"usd_per_vcpu_hour", "vcpus"} else "hourly"
    return {PricePerVcpu: "per vCPU", TokenPrice: "per token"}.get(type(price), "hourly")


StatedPrice = Annotated[
    Annotated[HourlyPrice, Tag("hourly")]
    | Annotated[PricePerVcpu, Tag("per vCPU")]
    | Annotated[TokenPrice, Tag("per token")],
    Discriminator(_price_kind),
]
