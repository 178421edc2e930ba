"""A price in US dollars: of one instance for an hour, or of tokens. It is made once, from the config or by a look-up."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict


class Price(BaseModel):
    """Per instance-hour or per token; the amounts of the other kind are null."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "on demand"
    usd_per_instance_hour: float | None = None
    usd_per_1m_input_tokens: float | None = None
    usd_per_1m_cached_input_tokens: float | None = None
    """Of prompt tokens from a prompt cache; null: that of other prompt tokens."""
    usd_per_1m_output_tokens: float | None = None
    source: str | None = None
    as_of: date | None = None
    """Day on which it was looked up."""

    @property
    def is_per_token(self) -> bool:
        """True for what is billed by the token, and not by the hour."""
        return self.usd_per_1m_output_tokens is not None

    @property
    def origin(self) -> str:
        """Source and day, for a table."""
        return f"{self.source or 'unknown'}{f', {self.as_of}' if self.as_of else ''}"

    def usd_per_option_hour(self, instances: int) -> float | None:
        """Price of all instances of an option, $/h; None for a price per token."""
        return None if self.usd_per_instance_hour is None else self.usd_per_instance_hour * instances

    def usd_of_tokens(
        self, prompt_tokens: float | None, output_tokens: float | None, cached_tokens: float = 0.0
    ) -> float | None:
        """Σ tokens x price / 10^6, of a price per token; None where tokens are unknown.

        `cached_tokens`: of the prompt tokens, those from a prompt cache.
        """
        if prompt_tokens is None or output_tokens is None:
            return None
        per_input, per_cached = self.usd_per_1m_input_tokens, self.usd_per_1m_cached_input_tokens
        usd = prompt_tokens * per_input + output_tokens * self.usd_per_1m_output_tokens
        return (usd + (0.0 if per_cached is None else cached_tokens * (per_cached - per_input))) / 1e6
