"""What a reader must know before trusting a number."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

MAY_CHANGE_THE_OPTION = "May change which option is named"
WIDENS = "Leaves open what more or better measurements would decide"
TO_KNOW = "To know when reading the figures"
WEIGHTS = {
    MAY_CHANGE_THE_OPTION: (
        "different_models",
        "unknown_model",
        "token_counts",
        "prompt_length",
        "histories",
        "output_length",
        "token_sources",
        "never_answered",
        "missing",
        "no_price",
        "moved",
        "busy_machine",
        "warm_up",
        "volleys",
        "client_gap",
        "other_traffic",
        "server_counts",
        "one_prompt",
        "repeated_prompts",
        "hit_rate",
        "concurrency",
        "arrivals",
    ),
    WIDENS: (
        "client_limited",
        "trend",
        "not_steady",
        "few_samples",
        "few_repetitions",
        "ended_early",
        "not_streamed",
        "prompts",
        "imported",
        "server_latency",
    ),
    TO_KNOW: (
        "errors",
        "errors_hide_tail",
        "mean_hides_tail",
        "mean_of_rates",
        "clock_sources",
        "resent",
        "echoed_prompt",
        "stale_name",
        "old_price",
        "measured_again",
        "doubtful_alone",
    ),
}
"""What warnings of each kind mean for the verdict, the gravest first."""


class ReportWarning(BaseModel):
    """One finding of a check. The report numbers them."""

    model_config = ConfigDict(frozen=True)
    kind: str
    message: str
    rows: list[str] = []
    """The load points, options or datasets concerned."""

    @property
    def weight(self) -> str:
        """What it means for the verdict: a key of `WEIGHTS`."""
        return next((weight for weight, kinds in WEIGHTS.items() if self.kind in kinds), TO_KNOW)


def gravest_first(warnings: Iterable[ReportWarning]) -> list[ReportWarning]:
    """Warnings in the order of what they mean for the verdict."""
    order = {kind: i for i, kind in enumerate(kind for kinds in WEIGHTS.values() for kind in kinds)}
    return sorted(warnings, key=lambda warning: order.get(warning.kind, len(order)))
