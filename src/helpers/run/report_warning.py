"""What a reader must know before trusting a number."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ReportWarning(BaseModel):
    """One finding of a check. The report numbers them."""

    model_config = ConfigDict(frozen=True)
    kind: str
    message: str
    rows: list[str] = []
    """The load points, options or datasets concerned."""
