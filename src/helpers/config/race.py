"""The `load.race` section of a config: whether options are raced, and when a race looks and stops."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from helpers.config.strict import PositiveInt, Strict
from helpers.config.unquoted import Unquoted, read_unquoted


class Race(Strict):
    """Measure only what may still change the verdict, and stop when it is certain.

    The error that `slo.confidence` leaves is spent over all looks at a load point, and shared among all that could be wrong.
    """

    enabled: bool = True
    indifference: float = Field(
        default=0.05, gt=0, lt=1, description="Options whose prices differ by no more than this share are tied."
    )
    first_look: PositiveInt = Field(
        default=30, description="Requests of a load point's first look; each look doubles them."
    )
    max_requests: PositiveInt | None = Field(
        default=None,
        description="Most requests of a load point; default: the first doubling of first_look that is three times what the SLO "
        "asks for.",
    )

    @model_validator(mode="after")
    def _looks_in_order(self) -> Race:
        if self.max_requests is not None and self.max_requests < self.first_look:
            raise ValueError(f"max_requests {self.max_requests} is below first_look {self.first_look}")
        return self


def _switched(value: object) -> object:
    """`race: true` and `race: false` are short for `race: {enabled: ...}`."""
    value = read_unquoted(value) if isinstance(value, Unquoted) else value
    return {"enabled": value} if isinstance(value, bool) else value


RaceSettings = Annotated[Race, BeforeValidator(_switched, json_schema_input_type=bool | Race)]
