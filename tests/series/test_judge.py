"""A judge that compares answers with references: an honest one, one that prefers a place, and one that gives no verdict."""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from typing import ClassVar

import pandas as pd
import planted_quality
import pytest
from command_line import openai
from lossy_servers import serving
from planted_quality import SAMPLES
from sentence_numbers import Known, unaccounted

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import load_config
from helpers.endpoints import quality_pass
from helpers.endpoints.judging import judge_answers
from helpers.errors import BudgetExceeded
from helpers.metrics.answers import answers_file
from helpers.metrics.judgements import judgements_file
from helpers.metrics.quality import read_quality
from helpers.report.cost_report import run_cost_table
from helpers.report.quality_report import quality_section
from helpers.run.folder import RunFolder
from helpers.run.ledger import JudgeBill, Ledger
from helpers.verdict.analysis import read_endpoints, read_measurements
from helpers.verdict.judging import judge

pytest_plugins = ["quality_fixtures"]
pytestmark = pytest.mark.slow
PRICE = {"usd_per_1m_input_tokens": 1000.0, "usd_per_1m_output_tokens": 2000.0, "as_of": "2026-11-01"}


class Counting(planted_quality.Handler):
    """Remembers what it was asked."""

    sent: ClassVar[list[str]] = []
    billed: ClassVar[list[JudgeBill | None]] = []
    pause_s = 0.0

    def answer(self, body: dict, question: str) -> None:
        self.sent.append(question)
        time.sleep(self.pause_s)
        super().answer(body, question)


class Uncounted(Counting):
    """Counts no tokens."""

    def usage(self, output_tokens: int) -> None:
        return None


@pytest.fixture
def judged(quality_run, tmp_path, monkeypatch):
    """`judged(model, **answers)`: the config with that judge, and a copy of the run after it was asked; `answers` change those
    of "cheap".
    """
    monkeypatch.setenv("TEST_SECRET", "x")

    def run_with(
        model: str, price: dict | None = PRICE, budgets: tuple = (None,), handler: type = Counting, **answers: object
    ) -> tuple[BenchmarkConfig, RunFolder]:
        handler.sent.clear()
        handler.billed.clear()
        run = RunFolder(shutil.copytree(quality_run.path, tmp_path / model / quality_run.run_id))
        file = answers_file("cheap", run)
        pd.read_parquet(file).assign(**answers).to_parquet(file)
        data = load_config(run.path / "config.yml").benchmark.model_dump(mode="json")
        with serving(handler) as port:
            judge_model = openai("the judge", f"http://127.0.0.1:{port}/v1", served_model=model, price=price)
            data["quality"] |= {"scorer": "judge", "judge": {"model": judge_model, "rubric": "The right sum wins."}}
            for budget in budgets:
                config = BenchmarkConfig.model_validate(data | {"budget_usd": budget})
                with pytest.raises(BudgetExceeded, match="judgements are kept") if budget == 1 else nullcontext():
                    judge_answers(config, run)
                handler.billed.append(Ledger(run.ledger_file, run.run_id).judge())
        return config, run

    return run_with


def test_an_honest_judge_prefers_right_answers_in_both_orders_and_the_worse_option_is_refused(judged, quality_run):
    config, run = judged("judge-honest")
    answers = pd.read_parquet(answers_file("cheap", run)).set_index("prompt_id")
    prompts = pd.read_parquet(run.payloads / "sums.parquet").set_index("prompt_id").loc[answers.index]
    right = [planted_quality.is_right(text, "right-60") for text in prompts["text"]]
    found = read_quality(config, run)
    assert found["cheap"].score == pytest.approx(0.5 * sum(right) / SAMPLES), "equal to the reference, or worse"
    assert found["cheap"].judge.model_dump() == {
        "judged": SAMPLES,
        "contradicted": 0,
        "unknown": 0,
        "prompt_tokens": 2 * SAMPLES * 20,
        "output_tokens": 2 * SAMPLES * 6,
        "usd": pytest.approx(5.12),
    }
    assert found["cheap"].gate == "failed" and found["good"].gate == "passed"
    endpoints = read_endpoints(config, run)
    _, table, _ = quality_section(verdict_of(config, run), endpoints, run, config)
    assert "| the judge's cost, \\$ |" in table._repr_markdown_() and "| 5.12 |" in table._repr_markdown_()
    spent = run_cost_table(endpoints, run)
    assert "The judge “the judge” gave 320 judgements for $10, beside what was spent on endpoints." in spent.reading
    assert unaccounted(spent.reading, judgements(config, run, PRICE)) == []
    assert "| the judge |" in spent._repr_markdown_() and "| 10.24 |" in spent._repr_markdown_()
    assert Ledger(run.ledger_file, run.run_id).cost_usd() == pytest.approx(10.24)


def test_a_judge_that_always_prefers_the_first_is_found_out_and_its_scores_are_not_used(judged):
    config, run = judged("judge-first")
    found = read_quality(config, run)
    for quality in found.values():
        assert (quality.score, quality.low, quality.judge.contradicted) == (None, None, SAMPLES)
    assert found["cheap"].gate == "open" and "not usable" in found["cheap"].because
    verdict = verdict_of(config, run)
    assert verdict.recommended != "cheap"
    _, table, *_ = quality_section(verdict, read_endpoints(config, run), run, config)
    assert "The judge's scores of “cheap” and “good” are not used" in table.reading


def test_a_judge_without_a_verdict_is_said_and_asked_again(judged, capsys):
    config, run = judged("judge-mute")
    said = capsys.readouterr().err
    assert (
        said.count("Warning: the judge 'the judge' gave no verdict on any answer: no answer of it has a line like") == 1
    )
    assert "Next: correct quality.judge" in said
    assert not judgements_file("cheap", run).is_file()
    assert read_quality(config, run)["cheap"].gate == "open"


def test_failed_answers_are_wrong_and_nobody_is_asked_about_them(judged):
    config, run = judged("judge-honest", status="http_error", answer=None)
    assert len(pd.read_parquet(judgements_file("cheap", run))) == 0
    assert read_quality(config, run)["cheap"].score == 0


def test_a_judge_that_reaches_the_budget_stops_and_a_larger_budget_continues_without_asking_twice(judged, monkeypatch):
    monkeypatch.setattr(quality_pass, "LOOK_S", 0.01)
    monkeypatch.setattr(Counting, "pause_s", 0.02)
    config, run = judged("judge-honest", budgets=(1, 1, 100))
    assert len(Counting.sent) == 4 * SAMPLES
    first, second, bill = Counting.billed
    assert first == second and first.cost_usd() >= 1 and first.judgements < 2 * SAMPLES
    assert (bill.judgements, bill.uncounted, bill.cost_usd()) == (4 * SAMPLES, 0, pytest.approx(10.24))
    found = read_quality(config, run)
    assert sum(found[name].judge.usd for name in ("cheap", "good")) == pytest.approx(10.24)
    assert not list((run.path / "quality").glob("*.part.jsonl"))


@pytest.mark.parametrize(
    ("price", "handler", "usd", "caption", "reading"),
    [
        (None, Counting, None, "not known: quality.judge.model has no price", "is not known, as quality.judge.model has no"),
        (PRICE, Uncounted, None, "tokens that its server counted", "is not known, as its server counted no tokens of 320"),
        ({"usd_per_hour": 9.0}, Counting, 0.0, "add nothing to the bill", "which added nothing to the bill: its server is"),
    ],
    ids=["no price", "no tokens", "by the hour"],
)  # fmt: skip
def test_a_cost_of_the_judge_that_is_not_known_is_said_and_is_not_zero(judged, price, handler, usd, caption, reading):
    config, run = judged("judge-honest", price=price, handler=handler)
    assert [one.judge.usd for one in read_quality(config, run).values()] == [usd, usd]
    endpoints = read_endpoints(config, run)
    _, table, _ = quality_section(verdict_of(config, run), endpoints, run, config)
    place = [column.header for column in table.columns].index("the judge's cost, $")
    assert {row[place] for row in table.cells()} == {"–" if usd is None else "0.00"} and caption in table.caption
    spent = run_cost_table(endpoints, run)
    assert unaccounted(spent.reading, judgements(config, run, price)) == []
    assert reading in spent.reading and ("0.00" in spent.cells()[-1]) is (usd == 0)


def judgements(config: BenchmarkConfig, run: RunFolder, price: dict | None) -> Known:
    """What the files of judgements hold, with the cost of each."""
    rows = pd.concat(pd.read_parquet(judgements_file(option.name, run)) for option in config.options)
    per_input, per_output = (
        (price or {}).get(f"usd_per_1m_{kind}_tokens", float("nan")) for kind in ("input", "output")
    )
    usd = (rows["prompt_tokens"] * per_input + rows["output_tokens"] * per_output) / 1e6
    verdict = {"model": "m", "nearest_reason": None, "warnings": [], "options": []}
    return Known(verdict, pd.DataFrame(), {}, {"datasets": ["sums"]}, judgements=rows.assign(usd=usd))


def verdict_of(config: BenchmarkConfig, run: RunFolder):
    measured = read_measurements(config, run)
    return judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id, read_quality(config, run))
