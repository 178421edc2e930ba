"""A judge that compares answers with references: an honest one, one that prefers a place, and one that gives no verdict."""

from __future__ import annotations

import shutil

import pandas as pd
import planted_quality
import pytest
from command_line import openai
from lossy_servers import serving
from planted_quality import SAMPLES

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import load_config
from helpers.endpoints.judging import judge_answers
from helpers.metrics.answers import answers_file
from helpers.metrics.judgements import judgements_file
from helpers.metrics.quality import read_quality
from helpers.report.quality_report import quality_section
from helpers.run.folder import RunFolder
from helpers.verdict.analysis import read_endpoints, read_measurements
from helpers.verdict.judging import judge

pytest_plugins = ["quality_fixtures"]
pytestmark = pytest.mark.slow
PRICE = {"usd_per_1m_input_tokens": 1000.0, "usd_per_1m_output_tokens": 2000.0, "as_of": "2026-11-01"}


@pytest.fixture
def judged(quality_run, tmp_path, monkeypatch):
    """`judged(model, **answers)`: the config with that judge, and a copy of the run after it was asked; `answers` change those
    of "cheap".
    """
    monkeypatch.setenv("TEST_SECRET", "x")

    def run_with(model: str, **answers: object) -> tuple[BenchmarkConfig, RunFolder]:
        run = RunFolder(shutil.copytree(quality_run.path, tmp_path / model / quality_run.run_id))
        file = answers_file("cheap", run)
        pd.read_parquet(file).assign(**answers).to_parquet(file)
        data = load_config(run.path / "config.yml").benchmark.model_dump(mode="json")
        with serving(planted_quality.Handler) as port:
            judge_model = openai("the judge", f"http://127.0.0.1:{port}/v1", served_model=model, price=PRICE)
            data["quality"] |= {"scorer": "judge", "judge": {"model": judge_model, "rubric": "The right sum wins."}}
            config = BenchmarkConfig.model_validate(data)
            judge_answers(config, run)
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
    }
    assert found["cheap"].gate == "failed" and found["good"].gate == "passed"
    _, table, _ = quality_section(verdict_of(config, run), read_endpoints(config, run), run, config)
    assert "| the judge's cost, \\$ |" in table._repr_markdown_() and "| 5.12 |" in table._repr_markdown_()


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


def verdict_of(config: BenchmarkConfig, run: RunFolder):
    measured = read_measurements(config, run)
    return judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id, read_quality(config, run))
