"""What the answers of an option mean for where it stands: whether it passes the gate of `quality`, and what a right one costs."""

from __future__ import annotations

import math

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.quality import AnswerQuality
from helpers.verdict.open_points import may_be_less
from helpers.verdict.verdict import CostBasis, Estimate, OptionVerdict


def gated(option: OptionVerdict, quality: AnswerQuality | None, basis: CostBasis) -> OptionVerdict:
    """An option, judged by the SLO so far, with its answers: refused where they are shown not to pass the gate, undecided where
    that is not shown either way.
    """
    if quality is None:
        return option
    changes: dict[str, object] = {
        "quality": quality,
        "usd_per_1k_correct": _price_of_right(option.cost, quality, basis),
    }
    if quality.gate == "failed" and option.status in ("feasible", "undecided", "not_judged", "unpriced"):
        changes |= {"status": "below_quality", "reason": quality.because, "capacity": None}
        if option.is_estimate:  # nobody needs an estimate of what cannot be recommended
            unknown = dict.fromkeys(("cost", "cost_unseen", "to_settle", "usd_per_1k_correct"))
            changes |= {"is_estimate": False, "points": [], "open_limits": [], **unknown}
    elif quality.gate == "open" and option.status == "feasible":
        changes |= {"status": "undecided", "reason": f"meets the SLO, but {quality.because}"}
    elif quality.gate == "open" and option.status in ("undecided", "not_judged", "unpriced"):
        changes |= {"reason": f"{option.reason}; {quality.because}"}
    return option.model_copy(update=changes)


def open_because(option: OptionVerdict, winner: OptionVerdict | None, config: BenchmarkConfig) -> str | None:
    """Why an option whose answers are not decided might be the cheapest; None if it cannot be, or if they are decided."""
    if option.quality is None or option.quality.gate != "open" or option.cost is None or option.status != "undecided":
        return None
    return option.quality.because if winner is None or may_be_less(option.cost, winner.cost, config) else None


def _price_of_right(cost: Estimate | None, quality: AnswerQuality, basis: CostBasis) -> Estimate | None:
    """Price per 1,000 requests ÷ share of right answers. The two were measured apart, so relative half-widths add as squares."""
    if cost is None or basis != "usd_per_1k_requests" or quality.correct is None or not quality.score:
        return None
    value, share = cost.value / quality.score, quality.score
    if None in (cost.low, cost.high) or not (cost.value and quality.low):
        return Estimate(value=value, low=None, high=None)
    below = math.hypot(1 - cost.low / cost.value, 1 - share / quality.high)
    above = math.hypot(cost.high / cost.value - 1, share / quality.low - 1)
    return Estimate(value=value, low=max(0.0, value * (1 - below)), high=value * (1 + above))
