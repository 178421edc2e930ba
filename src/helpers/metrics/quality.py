"""Scores of the options' answers, with intervals, and what the gate of `quality` finds.

A failed request is a wrong answer. A gate is one-sided, each way, at `slo.confidence`; the error that this leaves is shared among
the options that it could be wrong about (Bonferroni), so that with that confidence no option at all passes that should not, and
none is refused that should not be.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.config.quality import RIGHT_OR_WRONG
from helpers.metrics.answers import CUT, KEY, prompts_to_score, read_answers
from helpers.metrics.intervals import CONFIDENCE, Interval
from helpers.metrics.judgements import UNUSABLE, JudgeCounts, counts_of, with_judgements
from helpers.metrics.score_intervals import difference_bounds, score_bounds
from helpers.metrics.scorers import score
from helpers.number_text import number, plural
from helpers.run.folder import RunFolder

GateState = Literal["passed", "failed", "open"]
_BOTH_SIDES = (1 + CONFIDENCE) / 2


class AnswerQuality(BaseModel):
    """How right the answers of an option are. Scores go from 0 to 1; every unknown number is null."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    scorer: str
    prompts: int
    """That were asked and scored."""
    chosen: int
    """That were to be asked: more than `prompts` where the time was over."""
    failures: int
    """Requests that failed: they count as wrong."""
    cut_off: int
    """Answers that did not end by themselves, but at the largest number of output tokens."""
    correct: int | None
    """Right answers; null where the scorer gives shares of what is right."""
    score: float | None
    """The mean over the prompts."""
    low: float | None
    """Of the 95% interval of the score."""
    high: float | None
    output_tokens_mean: float | None
    """Of the answers, as the server counts."""
    gate: GateState | None = None
    """Null without a gate."""
    because: str | None = None
    """What the gate found, in words."""
    against: str | None = None
    """The option that the answers are compared with, prompt by prompt."""
    difference: float | None = None
    """Mean of the score less that of the option `against`, over the prompts that both were asked."""
    difference_low: float | None = None
    """Of its 95% interval."""
    difference_high: float | None = None
    judge: JudgeCounts | None = None
    """How the judge did; null with other scorers."""


class _Found(NamedTuple):
    """What a gate found."""

    state: GateState
    because: str


def read_scores(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> pd.DataFrame | None:
    """The answers of an option with `references` and `score`, one row for each prompt that was asked; None before its pass,
    or before a judge was asked.
    """
    rows = read_answers(option, config, run)
    if rows is None or config.quality.judge is not None:
        return None if rows is None else with_judgements(rows, option.name, run)
    scores = [
        score(answer, references, config.quality.scorer) if status == "ok" else 0.0
        for status, answer, references in zip(rows["status"], rows["answer"], rows["references"], strict=True)
    ]
    return rows.assign(score=np.array(scores, dtype=float))


def read_all_scores(config: BenchmarkConfig, run: RunFolder) -> dict[str, pd.DataFrame]:
    """Option -> its scored answers, of those whose pass has ended."""
    if config.quality is None:
        return {}
    found = {option.name: read_scores(option, config, run) for option in config.options}
    return {name: scores for name, scores in found.items() if scores is not None}


def read_quality(config: BenchmarkConfig, run: RunFolder) -> dict[str, AnswerQuality]:
    """Option -> how right its answers are; empty where the config has no `quality`."""
    if config.quality is None:
        return {}
    scores = read_all_scores(config, run)
    chosen = {o.name: sum(map(len, prompts_to_score(o, config, run).values())) for o in config.options}
    return {o.name: quality_of(o.name, scores, chosen[o.name], config) for o in config.options}


def quality_of(option: str, scores: dict[str, pd.DataFrame], chosen: int, config: BenchmarkConfig) -> AnswerQuality:
    """How right the answers of one option are, given the scored answers of all."""
    settings, mine = config.quality, scores.get(option)
    gate = _gate_of(option, scores, config)
    found = {"gate": gate and gate.state, "because": gate and gate.because}
    if mine is None or mine.empty:
        unknown = dict.fromkeys(("correct", "score", "low", "high", "output_tokens_mean"))
        return AnswerQuality(
            scorer=settings.scorer, prompts=0, chosen=chosen, failures=0, cut_off=0, **unknown, **found
        )
    judge, mine = counts_of(mine, settings.judge and settings.judge.as_price()), mine.dropna(subset=["score"])
    values, ok = mine["score"].to_numpy(float), mine["status"] == "ok"
    is_known = len(mine) > 0 and (judge is None or judge.is_usable)
    low, high = score_bounds(values, _BOTH_SIDES, config.seed) if is_known else (None, None)
    tokens = mine.loc[ok, "output_tokens"].dropna()
    other = settings.gate and settings.gate.not_worse_than and settings.gate.not_worse_than.option
    if other in scores and other != option and is_known and _is_usable(scores[other]):
        difference, bounds, _ = _difference(mine, scores[other], _BOTH_SIDES, config.seed)
        found |= {"against": other, "difference": difference}
        found |= {"difference_low": bounds.low, "difference_high": bounds.high}
    return AnswerQuality(
        scorer=settings.scorer,
        prompts=len(mine),
        chosen=chosen,
        failures=int((~ok).sum()),
        cut_off=int(mine["finish_reason"].str.lower().isin(CUT).sum()),
        correct=int(values.sum()) if settings.scorer in RIGHT_OR_WRONG else None,
        score=float(values.mean()) if is_known else None,
        low=low,
        high=high,
        output_tokens_mean=float(tokens.mean()) if len(tokens) else None,
        judge=judge,
        **found,
    )


def gate_confidence(config: BenchmarkConfig) -> float:
    """Confidence of each one-sided bound of a gate: the error is shared among the options that have one."""
    is_compared = config.quality.gate.not_worse_than is not None
    return 1 - (1 - config.slo.confidence) / (len(config.options) - is_compared)


def _gate_of(option: str, scores: dict[str, pd.DataFrame], config: BenchmarkConfig) -> _Found | None:
    gate, mine, sure = config.quality.gate, scores.get(option), f"{config.slo.confidence:.0%} confidence"
    if gate is None:
        return None
    for name in (option, gate.not_worse_than and gate.not_worse_than.option):
        if name in scores and not _is_usable(scores[name]):
            return _Found("open", f"the judge's scores of “{name}” are not usable: {UNUSABLE}")
    if gate.not_worse_than is None:
        if mine is None or mine.empty:
            return _Found("open", "its answers were not scored")
        values, least = mine["score"].to_numpy(float), gate.min_score
        low, high = score_bounds(values, gate_confidence(config), config.seed)
        said = f"its answers score {_shown(values.mean(), least)} over {plural(len(values), 'prompt')}"
        asked = f"{_shown(least)} (quality.gate.min_score, with {sure})"
        return _decided(Interval(low, high), least, said, f"at least {asked}", f"below {asked}")
    other, by = gate.not_worse_than.option, gate.not_worse_than.by
    if option == other:
        return _Found("passed", "the others are compared with it")
    for name in (option, other):
        if name not in scores or scores[name].empty:
            whose = "its answers" if name == option else f"the answers of “{name}”, with which it is compared,"
            return _Found("open", f"{whose} were not scored")
    difference, bounds, n = _difference(mine, scores[other], gate_confidence(config), config.seed)
    if n == 0:
        return _Found("open", f"it was asked no prompt that “{other}” was asked")
    said = f"over {plural(n, 'prompt')} its answers score {_signed(difference)} against “{other}”"
    asked = f"{_shown(by)} lower (quality.gate.not_worse_than, with {sure})"
    return _decided(bounds, -by, said, f"at most {asked}", f"more than {asked}")


def _is_usable(scores: pd.DataFrame) -> bool:
    judge = counts_of(scores)
    return judge is None or judge.is_usable


def _decided(bounds: Interval, limit: float, said: str, within: str, beyond: str) -> _Found:
    if bounds.low >= limit:
        return _Found("passed", f"{said}, which is shown to be {within}")
    if bounds.high < limit:
        return _Found("failed", f"{said}, which is shown to be {beyond}")
    low, high = map(_signed if limit < 0 else _shown, bounds)
    more = "more quality.samples may decide it"
    return _Found("open", f"{said} (bounds {low} to {high}), neither shown to be {within} nor shown not to be; {more}")


def _difference(
    mine: pd.DataFrame, theirs: pd.DataFrame, confidence: float, seed: int
) -> tuple[float | None, Interval, int]:
    """The mean difference over the prompts that both were asked, its bounds, and how many these are."""
    both = mine[[*KEY, "score"]].merge(theirs[[*KEY, "score"]], on=KEY)
    one, other = (both[f"score_{end}"].to_numpy(float) for end in "xy")
    bounds = difference_bounds(one, other, confidence, seed)
    return (float((one - other).mean()) if len(both) else None), bounds, len(both)


def _shown(value: float, beside: float | None = None) -> str:
    """A score with three decimals, or with as many more as tell it from another."""
    decimals = next((d for d in range(3, 7) if beside in (None, value) or round(value, d) != round(beside, d)), 6)
    return number(value, decimals)


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value), 3)}"
