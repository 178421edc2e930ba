"""The rules of the verdict.

An option must meet the SLO, with the config's confidence, on every dataset of the traffic, and pass the gate of `quality`, if
there is one. On each dataset it is judged at the cheapest of its load points that do. The cheapest option wins; options that are
not shown to cost more are tied with it. An option that might be as cheap at a load that is not decided is listed as
well: with the confidence of the intervals, the truly cheapest option is the recommended one, one that is tied with it, or one
that may be cheaper. An option that answered no request has failed, and its latency is not judged.

Prices are per 1,000 requests, or per 1M output tokens where requests are unequal work. Where only the counting may differ,
prices stay per request: tokens that were counted in different ways do not change the ranking, but an option that would be
cheaper by them is listed. A load point that the client limited is not judged: it counts neither for an option nor against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.quality import AnswerQuality
from helpers.metrics.room import highest_asked
from helpers.run.ledger import EndpointRecord
from helpers.run.report_warning import ReportWarning
from helpers.verdict.assessing import assess_all
from helpers.verdict.checks import same_model, same_output_length, same_prompts
from helpers.verdict.chosen_points import judged_points
from helpers.verdict.counted import cheaper_if_counted_alike, counted_apart
from helpers.verdict.open_points import cheaper_because, cheaper_loads, may_be_less
from helpers.verdict.open_words import nearest_to_slo
from helpers.verdict.quality_gate import open_because as open_answers
from helpers.verdict.verdict import CostBasis, OptionVerdict, Verdict

PER_TOKEN: CostBasis = "usd_per_1m_output_tokens"


def judge(
    points: pd.DataFrame,
    endpoints: list[EndpointRecord],
    warnings: list[ReportWarning],
    config: BenchmarkConfig,
    run_id: str,
    quality: Mapping[str, AnswerQuality] | None = None,
) -> Verdict:
    """Judge the load points of a run (`summary.summarise`); `endpoints` hold prices, models and failures, `quality` how right
    the answers of each option are (`metrics.quality.read_quality`).
    """
    points = _asked(points, config)
    basis, is_comparable, apart = work_of(points, endpoints, config)
    options = assess_all(points, endpoints, basis, config, quality)
    ranked = _ranked(options)
    winner = ranked[0] if ranked else None
    if winner:
        winner = _with_cheaper_loads(winner, points, basis, config)
        options = [winner if option.option == winner.option else option for option in options]
    tied = [o.option for o in ranked[1:] if may_be_less(o.cost, winner.cost, config)]
    cheaper = {
        o.option: cheaper_because(o, points, winner, basis, config) or open_answers(o, winner, config) for o in options
    }
    if apart and winner:
        by_token = {o.option: o for o in assess_all(points, endpoints, PER_TOKEN, config, quality)}
        for name in set(by_token) - {winner.option, *tied}:
            counted = cheaper_if_counted_alike(by_token[name], by_token[winner.option], points, config)
            cheaper[name] = cheaper[name] or counted
    is_refused = any(option.status == "below_quality" for option in options)
    nearest, reason = (None, None) if winner or is_refused else nearest_to_slo(points, config)
    return Verdict(
        run_id=run_id,
        config_name=config.name,
        model=config.model.name,
        measured_locally=any(getattr(option, "local", False) for option in config.options),
        comparable=is_comparable,
        counted_apart=apart,
        cost_basis=basis,
        percentile=config.slo.percentile,
        recommended=winner.option if winner else None,
        tied=tied,
        may_be_cheaper=[name for name, because in cheaper.items() if because],
        not_measured=[o.option for o in options if o.status in ("failed", "incomplete")],
        best_estimate=None if winner else _best_estimate(options),
        nearest=nearest,
        nearest_reason=reason,
        options=[_placed(option, winner, tied, cheaper[option.option]) for option in options],
        warnings=warnings,
    )


def recommended(
    points: pd.DataFrame,
    endpoints: list[EndpointRecord],
    basis: CostBasis,
    config: BenchmarkConfig,
    quality: Mapping[str, AnswerQuality] | None = None,
) -> str | None:
    """The option that `judge` recommends where prices are compared in `basis`: its answer without the reasons."""
    ranked = _ranked(assess_all(_asked(points, config), endpoints, basis, config, quality))
    return ranked[0].option if ranked else None


def _asked(points: pd.DataFrame, config: BenchmarkConfig) -> pd.DataFrame:
    """The load points that the config asks for: not those that a race added, nor those of parts of a mix by themselves."""
    return judged_points(points[~(points["level"] > highest_asked(config))], config)


def _ranked(options: list[OptionVerdict]) -> list[OptionVerdict]:
    """The options that are shown to meet the SLO, the cheapest first; of equally cheap ones the fastest."""
    return sorted((o for o in options if o.status == "feasible"), key=lambda o: (o.cost.value, _slowest(o)))


class Work(NamedTuple):
    """Whether the options did the same, and in which price they are compared because of that."""

    basis: CostBasis
    is_comparable: bool
    counted_apart: list[str]
    """Who counted the tokens of each option, where only the counting may differ."""


def work_of(points: pd.DataFrame, endpoints: list[EndpointRecord], config: BenchmarkConfig) -> Work:
    """Compare the models, prompts and answers of the options.

    Where answers are scored, options may serve different models: a request is then the unit of work, and tokens are not, which
    each model has of its own.
    """
    if config.quality is not None and not same_model(config, endpoints):
        return Work("usd_per_1k_requests", True, [])
    same, is_equal = same_model(config, endpoints), same_output_length(points) and same_prompts(points)
    apart = counted_apart(points, config, same, is_equal)
    are_sent_alike = not config.imported or same_prompts(points)
    is_per_request = same and (is_equal or (bool(apart) and are_sent_alike))
    basis: CostBasis = "usd_per_1k_requests" if is_per_request else PER_TOKEN
    return Work(basis, same and is_equal and not apart, apart)


def _best_estimate(options: list[OptionVerdict]) -> str | None:
    """Of the options that may meet the SLO, the one with the lowest estimated cost."""
    priced = [o for o in options if o.may_be_named]
    return min(priced, key=lambda o: o.cost.value).option if priced else None


# --- options among each other -------------------------------------------------------------------------------------


def _slowest(option: OptionVerdict) -> float:
    return max(point.latency_s.value if point.latency_s else math.inf for point in option.points)


def _placed(
    option: OptionVerdict, winner: OptionVerdict | None, tied: list[str], cheaper_because: str | None
) -> OptionVerdict:
    """The option with its final status and reason."""
    changes: dict[str, object] = {"may_be_cheaper": bool(cheaper_because), "may_be_cheaper_because": cheaper_because}
    if winner is not None and option.status == "feasible":
        if option.option == winner.option:
            gate = " and passes the quality gate" if _has_gate(option) else ""
            reason = f"the cheapest option that meets the SLO{gate}, {loads_of(option)}"
            changes |= {"status": "recommended", "reason": reason}
        elif option.option in tied:
            words = f"meets the SLO {loads_of(option)}; its price is not shown to differ from {_named(winner)}"
            changes |= {"status": "tied", "reason": words}
        elif winner.cost.value == 0:
            changes |= {"reason": f"meets the SLO, but {_named(winner)} costs nothing"}
        else:
            more = option.cost.value / winner.cost.value - 1
            changes |= {"reason": f"meets the SLO, {more:.0%} more expensive {_against(option, winner)}"}
        if cheaper_because:
            changes["reason"] += f"; it may be cheaper: {cheaper_because}"
    return option.model_copy(update=changes)


def _with_cheaper_loads(
    winner: OptionVerdict, points: pd.DataFrame, basis: CostBasis, config: BenchmarkConfig
) -> OptionVerdict:
    others = cheaper_loads(winner, points, basis, config)
    placed = [point.model_copy(update={"or_at": others[point.dataset]}) for point in winner.points]
    return winner.model_copy(update={"points": placed})


def loads_of(option: OptionVerdict) -> str:
    """The loads at which an option is judged, as a phrase: `at concurrency 8`, with datasets where the loads differ, and
    with those that may be cheaper.
    """
    datasets: dict[str, list[str]] = {}
    for point in option.points:
        perhaps = f" (or {' or '.join(point.or_at)}, not shown to meet the SLO)" if point.or_at else ""
        datasets.setdefault(f"{point.load}{perhaps}", []).append(point.dataset)
    if len(datasets) == 1:
        return f"at {next(iter(datasets))}"
    return "at " + " and ".join(f"{load} ({', '.join(names)})" for load, names in datasets.items())


def _against(option: OptionVerdict, winner: OptionVerdict) -> str:
    """What it is compared with, and at which loads where they differ."""
    if [point.load for point in option.points] == [point.load for point in winner.points]:
        return f"than {_named(winner)}, both {loads_of(option)}"
    return f"{loads_of(option)} than {_named(winner)} {loads_of(winner)}"


def _has_gate(option: OptionVerdict) -> bool:
    return option.quality is not None and option.quality.gate is not None


def _named(winner: OptionVerdict) -> str:
    """With a gate on answers, a cheaper one may have been refused."""
    return "the recommended" if _has_gate(winner) else "the cheapest"
