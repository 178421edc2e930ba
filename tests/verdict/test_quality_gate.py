"""How right the answers are decides what may be recommended: verdict, words, exit statuses and the price of right answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, option

from helpers.errors import ParameterError
from helpers.metrics.quality import quality_of
from helpers.report.bottom_line_text import bottom_line
from helpers.report.display import Table
from helpers.report.quality_report import quality_section
from helpers.report.readings import options_reading, price_reading
from helpers.report.report import options_table
from helpers.run.folder import RunFolder
from helpers.verdict.checks import check_run
from helpers.verdict.exit_status import status_of_verdict
from helpers.verdict.gates import judge_gates, read_gates
from helpers.verdict.judging import judge

NOT_WORSE = {"not_worse_than": {"option": "good", "by": 0.05}}
PRICES = {"cheap": 3.6, "good": 7.2}
PROMPTS = {"source": {"kind": "jsonl", "path": "x.jsonl"}}


def answers(right: int, of: int = 200, **changes) -> pd.DataFrame:
    """Scored answers, the first of which are right: options differ on as few prompts as can be."""
    rows = {"dataset": "short", "prompt_id": [f"p{i}" for i in range(of)], "status": "ok", "finish_reason": "stop"}
    return pd.DataFrame({**rows, "output_tokens": 10.0, "score": (np.arange(of) < right).astype(float), **changes})


def judged(scores: dict[str, pd.DataFrame], gate: dict | None = NOT_WORSE, models=(None, None), slo=("met", "met")):
    options = [option(name, model=model) for name, model in zip(PRICES, models, strict=True)]
    quality = {"scorer": "exact_match", "gate": gate}
    config = make_config(options, prompts=PROMPTS, quality=quality, load={"concurrency": [1]})
    found = zip(PRICES.items(), slo, strict=True)
    points = pd.DataFrame([load_point(n, usd_per_hour=usd, rate=10, slo=state) for (n, usd), state in found])
    endpoints = [endpoint(name, usd_per_instance_hour=usd) for name, usd in PRICES.items()]
    quality = {name: quality_of(name, scores, 200, config) for name in PRICES}
    return judge(points, endpoints, [], config, "run", quality), config, points, endpoints


def test_a_cheaper_option_that_answers_worse_does_not_win_and_the_reason_is_said():
    verdict, config, points, _ = judged({"cheap": answers(100), "good": answers(160)})
    assert (verdict.recommended, verdict.tied, verdict.may_be_cheaper) == ("good", [], [])
    cheap = verdict.option("cheap")
    assert cheap.status == "below_quality" and "score −0.300 against “good”" in cheap.reason and cheap.capacity is None
    said = bottom_line(verdict, config).markdown
    assert "passes the quality gate at the lowest price" in said and "score 0.800" in said
    assert "**Fails the quality gate:** “cheap” ($0.100 per 1,000 requests): over 200 prompts its answers score" in said
    assert "“cheap” costs less within the SLO, but its answers fail" in price_reading(points, verdict, config).markdown
    assert "1 fails the quality gate" in options_reading(verdict).markdown
    assert options_table(verdict, config).rows["option"].tolist() == ["good", "cheap"]
    (result,) = judge_gates(read_gates(["below_quality"], config), verdict, None)
    assert result.holds is True and "“cheap”" in result.because and status_of_verdict(verdict) == 0


def test_an_option_that_is_as_right_wins_by_its_price():
    verdict, config, _, _ = judged({"cheap": answers(159), "good": answers(160)})
    assert verdict.recommended == "cheap" and verdict.option("good").reason.endswith(
        "than the recommended, both at concurrency 1"
    )
    assert "fails the quality gate" not in bottom_line(verdict, config).markdown.lower()
    (result,) = judge_gates(read_gates(["below_quality"], config), verdict, None)
    assert result.holds is False


@pytest.mark.parametrize("scores", [{"cheap": answers(152), "good": answers(160)}, {"good": answers(160)}])
def test_an_option_that_is_not_decided_is_not_recommended_but_may_be_cheaper(scores):
    verdict, config, _, _ = judged(scores)
    assert (verdict.recommended, verdict.may_be_cheaper) == ("good", ["cheap"])
    because = verdict.option("cheap").quality.because
    assert verdict.option("cheap").reason.startswith("meets the SLO, but ")
    assert ("neither shown to be" in because) or ("not scored" in because)
    assert (
        f"**May be cheaper than the recommended option:** “cheap”: {because}" in bottom_line(verdict, config).markdown
    )
    (result,) = judge_gates(read_gates(["below_quality"], config), verdict, None)
    assert result.holds is None


def test_where_all_fail_the_status_is_that_of_an_slo_that_none_meets():
    verdict, config, _, _ = judged({"cheap": answers(100), "good": answers(100)}, {"min_score": 0.9})
    assert verdict.recommended is verdict.best_estimate is verdict.nearest is None
    assert status_of_verdict(verdict) == 3
    said = bottom_line(verdict, config).markdown
    assert "No option is shown to meet the SLO and pass the quality gate" in said and said.count("**Fails") == 2


def test_where_all_are_open_the_best_estimate_is_named_with_what_would_settle_it():
    verdict, config, _, _ = judged({"cheap": answers(162), "good": answers(161)}, {"min_score": 0.8})
    assert (verdict.recommended, verdict.best_estimate) == (None, "cheap") and status_of_verdict(verdict) == 4
    said = bottom_line(verdict, config).markdown
    assert "If you must choose now: “cheap”" in said and "more quality.samples" in said


def test_an_estimate_whose_answers_fail_is_not_named():
    scores = {"cheap": answers(100), "good": answers(160)}
    verdict, _, _, _ = judged(scores, slo=("undecided", "undecided"))
    assert verdict.option("cheap").status == "below_quality" and verdict.best_estimate != "cheap"
    assert verdict.option("cheap").is_estimate is False


def test_an_option_that_misses_the_slo_is_infeasible_however_right_it_is():
    verdict, _, _, _ = judged({"cheap": answers(200), "good": answers(160)}, slo=("missed", "met"))
    assert verdict.option("cheap").status == "infeasible" and verdict.recommended == "good"


def test_without_a_gate_scores_exclude_nothing_and_that_is_said(tmp_path):
    verdict, config, _, endpoints = judged({"cheap": answers(100), "good": answers(160)}, gate=None)
    assert verdict.recommended == "cheap" and "Its answers score 0.500" in bottom_line(verdict, config).markdown
    assert verdict.aim == "meet the SLO"
    with pytest.raises(ParameterError, match=r"no gate for answers.*Next: add it"):
        read_gates(["below_quality"], config)
    _, table, _ = quality_section(verdict, endpoints, RunFolder(tmp_path), config)
    assert isinstance(table, Table) and "No gate is set" in table.reading and "“good” scores highest" in table.reading


def test_the_price_of_right_answers_follows_from_both_intervals():
    """100 $ per 1M requests: at 160 of 200 right, 125 $ per 1M right answers."""
    verdict, *_ = judged({"cheap": answers(160), "good": answers(160)})
    cheap = verdict.option("cheap")
    cost, score, right = cheap.cost, cheap.quality, cheap.usd_per_1k_correct
    assert right.value == pytest.approx(0.125)
    upper = math.hypot(cost.high / cost.value - 1, 0.8 / score.low - 1)
    lower = math.hypot(1 - cost.low / cost.value, 1 - 0.8 / score.high)
    assert (right.low, right.high) == (pytest.approx(0.125 * (1 - lower)), pytest.approx(0.125 * (1 + upper)))
    none_right, *_ = judged({"cheap": answers(0), "good": answers(160)})
    assert none_right.option("cheap").usd_per_1k_correct is None


@pytest.mark.parametrize("is_scored", [True, False])
def test_different_models_are_compared_per_request_where_answers_are_scored(is_scored):
    verdict, config, points, endpoints = judged({"cheap": answers(160), "good": answers(160)}, models=("small", None))
    points.loc[0, "output_tokens_mean"] *= 2  # its tokenizer makes more of the same text
    config = config if is_scored else config.model_copy(update={"quality": None})
    quality = {o.option: o.quality for o in verdict.options} if is_scored else None
    verdict = judge(points, endpoints, [], config, "run", quality)
    kinds = {w.kind for w in check_run(points, [], [], endpoints, [], config, pd.Timestamp("2026-11-01").date())}
    assert (verdict.cost_basis == "usd_per_1k_requests") is is_scored
    assert ({"different_models", "output_length"} & kinds == set()) is is_scored


def test_failures_and_cut_answers_are_counted_and_failures_are_wrong():
    scores = answers(160)
    scores.loc[:9, ["status", "score"]] = ["timeout", 0.0]
    scores.loc[20:24, "finish_reason"] = "length"
    config = make_config(["a"], prompts=PROMPTS, quality={"scorer": "exact_match", "gate": {"min_score": 0.5}})
    found = quality_of("a", {"a": scores}, 300, config)
    assert (found.failures, found.cut_off, found.correct, found.prompts, found.chosen) == (10, 5, 150, 200, 300)
    assert found.score == 0.75 and found.gate == "passed"


def test_the_error_is_shared_among_the_options_that_are_gated():
    """At 90% confidence, three options: the bounds are those of 1 - 0.1 / 3."""
    options = ["a", "b", "c"]
    config = make_config(
        options,
        prompts=PROMPTS,
        quality={"scorer": "exact_match", "gate": {"min_score": 0.75}},
        slo={"confidence": 0.9},
    )
    alone = make_config(
        ["a"], prompts=PROMPTS, quality={"scorer": "exact_match", "gate": {"min_score": 0.75}}, slo={"confidence": 0.9}
    )
    scores = {"a": answers(160)}  # Wilson's lower bound is 0.761 at 90%, and 0.742 at 1 - 0.1 / 3
    assert quality_of("a", scores, 200, alone).gate == "passed"
    assert quality_of("a", scores, 200, config).gate == "open"
