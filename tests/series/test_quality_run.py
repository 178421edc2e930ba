"""Answers are scored beside the price, by the command line: two options of a server that is right with a known probability."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import threading
import time
from collections import Counter
from typing import ClassVar

import pandas as pd
import planted_quality
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lossy_servers import serving
from planted_quality import SAMPLES

from helpers.config.file import load_config
from helpers.endpoints.loading import load_all
from helpers.endpoints.quality_pass import answers_so_far, collect_answers
from helpers.endpoints.targets.base import target_of
from helpers.errors import LoadError
from helpers.metrics.answers import answers_file
from helpers.metrics.quality import read_quality
from helpers.report.quality_report import quality_section
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.records import read_requests
from helpers.verdict.analysis import read_endpoints, read_verdict

pytest_plugins = ["quality_fixtures"]


def test_the_cheaper_option_that_answers_worse_loses_and_the_report_says_why(quality_run):
    verdict = json.loads((quality_run.path / "verdict.json").read_text())
    cheap, good = verdict["options"]
    assert verdict["recommended"] == "good" and cheap["cost"]["value"] < good["cost"]["value"]
    assert cheap["status"] == "below_quality" and cheap["quality"]["gate"] == "failed"
    assert (quality_run.path.parents[1] / "said.txt").read_text().startswith("0\n")
    report = (quality_run.path / "report.md").read_text(encoding="utf-8")
    assert "**Fails the quality gate:** “cheap”" in report and "## How right are the answers?" in report
    assert "(“cheap” small model, “good” tiny-llama-2m)" in report
    assert "different_models" not in {warning["kind"] for warning in verdict["warnings"]}


def test_scores_are_those_of_the_prompts_that_the_server_answers_right(quality_run):
    verdict = json.loads((quality_run.path / "verdict.json").read_text())
    prompts = pd.read_parquet(quality_run.payloads / "sums.parquet").set_index("prompt_id")
    asked = {}
    for option, model in zip(verdict["options"], ("right-60", "right-90"), strict=True):
        answers = pd.read_parquet(answers_file(option["option"], quality_run))
        asked[option["option"]] = answers["prompt_id"].tolist()
        texts = prompts.loc[answers["prompt_id"], "text"]
        right = sum(planted_quality.is_right(text, model) for text in texts)
        assert option["quality"]["correct"] == right and option["quality"]["score"] == right / SAMPLES
        assert option["usd_per_1k_correct"]["value"] == pytest.approx(option["cost"]["value"] * SAMPLES / right)
    assert asked["cheap"] == asked["good"] and len(set(asked["good"])) == SAMPLES
    assert (prompts.loc[asked["good"], "references"].map(len) == 1).all()


def test_answers_of_the_pass_are_in_no_request_record_and_end_by_themselves(quality_run):
    """Under load each answer has the 6 tokens that are asked for; by itself it has 4."""
    assert (read_requests(quality_run.requests)["output_tokens"] == 6).all()
    assert (pd.read_parquet(answers_file("good", quality_run))["output_tokens"] == 4).all()


def test_what_servers_answer_is_escaped_and_cut_on_the_page(quality_run, tmp_path):
    run = RunFolder(shutil.copytree(quality_run.path, tmp_path / quality_run.run_id))
    file, config = answers_file("cheap", run), load_config(run.path / "config.yml").benchmark
    hostile = "<script>alert(1)</script> | `x` [a](http://b) $y$\n" + "9" * 1000
    pq.write_table(pa.Table.from_pandas(pd.read_parquet(file).assign(answer=hostile)), file)
    verdict = read_verdict(run)
    _, _, table = quality_section(verdict, read_endpoints(config, run), run, config)
    page, text = table._repr_html_(), table._repr_markdown_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "9" * 400 not in page
    assert "<script>" not in text and "](http" not in text.replace("\\]", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 12 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


# --- the pass by itself -------------------------------------------------------------------------------------------


class Watched(planted_quality.Handler):
    """Remembers what it was asked; some questions fail, are throttled at first, or are thought about."""

    bodies: ClassVar[list[dict]] = []
    answers_left = 10**9
    lock = threading.Lock()

    def answer(self, body: dict, question: str) -> None:
        with self.lock:
            type(self).bodies.append(body)
            times = [one["messages"] for one in self.bodies].count(body["messages"])
            type(self).answers_left -= 1
            is_dead = self.answers_left < 0
        if is_dead:
            threading.Thread(target=self.server.die).start()
            self.close_connection = True
            self.connection.close()
        elif question.endswith(("1?", "2?")) or (question.endswith("3?") and times == 1):
            status = 429 if question.endswith("3?") else 500
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().answer(body, question)

    def words(self, question: str, model: str) -> list[str]:
        return ["<think>", "1", "</think>", *super().words(question, model)]


@pytest.fixture
def copied(quality_run, tmp_path, monkeypatch):
    """A copy of the run without its answers, and its config at the port of another server."""
    monkeypatch.setenv("TEST_SECRET", "x")
    Watched.bodies.clear()
    Watched.answers_left = 10**9
    run = RunFolder(shutil.copytree(quality_run.path, tmp_path / quality_run.run_id))
    for file in (run.path / "quality").iterdir():
        file.unlink()
    config = load_config(run.path / "config.yml").benchmark

    def at(port: int):
        url = {"base_url": f"http://127.0.0.1:{port}/v1"}
        return config.model_copy(update={"options": [option.model_copy(update=url) for option in config.options]})

    return run, at


def collect(option: str, config, run: RunFolder, is_stopped=lambda: False) -> bool:
    (option,) = (one for one in config.options if one.name == option)
    address = target_of(option, config, run).address(Ledger(run.ledger_file, run.run_id).record(option.name))
    return collect_answers(option, address, config, run, is_stopped)


def test_failures_are_wrong_throttled_requests_are_repeated_and_thinking_is_not_scored(copied):
    run, at = copied
    with serving(Watched) as port:
        config = at(port)
        assert collect("good", config, run)
    answers = pd.read_parquet(answers_file("good", run))
    prompts = pd.read_parquet(run.payloads / "sums.parquet").set_index("prompt_id").loc[answers["prompt_id"]]
    fails = prompts["text"].str.endswith(("1?", "2?")).to_numpy()
    assert (answers["status"] == "http_error").tolist() == fails.tolist() and fails.any()
    assert answers["answer"].isna().tolist() == fails.tolist()
    assert not answers["answer"].dropna().str.contains("think").any()
    found = read_quality(config, run)["good"]
    right = sum(planted_quality.is_right(text, "right-90") for text in prompts["text"][~fails])
    assert (found.correct, found.failures, found.prompts) == (right, int(fails.sum()), SAMPLES)
    asked = Counter(body["messages"][0]["content"] for body in Watched.bodies)
    assert {question for question, times in asked.items() if times > 1} == {q for q in asked if q.endswith("3?")}
    assert set(asked) == set(prompts["text"]), "no salt"
    for body in Watched.bodies:
        assert "min_tokens" not in body and body["temperature"] == 0.0, "extra_body says 0.7 for the load"


class Sound(Watched):
    """Answers all questions."""

    def answer(self, body: dict, question: str) -> None:
        with self.lock:
            self.bodies.append(body)
        planted_quality.Handler.answer(self, body, question)


def asked(run: RunFolder) -> list[str]:
    """Ids of the prompts that were sent, in their order."""
    prompts = pd.read_parquet(run.payloads / "sums.parquet").set_index("text")["prompt_id"]
    return [prompts[body["messages"][0]["content"]] for body in Watched.bodies]


def kept(option: str, run: RunFolder) -> set[str]:
    """Ids of the prompts whose answers an interrupted pass has left."""
    return {prompt_id for _, prompt_id in answers_so_far(option, run).rows}


def test_a_pass_that_is_stopped_is_not_whole_and_one_whose_time_is_over_has_what_there_is(copied):
    run, at = copied
    with serving(Watched) as port:
        config = at(port)
        assert not collect("good", config, run, lambda: len(Watched.bodies) > 20)
        assert len(Watched.bodies) < 40 and not answers_file("good", run).exists()
        assert 0 < len(kept("good", run)) < 40
        short = config.model_copy(update={"quality": config.quality.model_copy(update={"max_duration_s": 0.05})})
        assert collect("good", short, run)
    found = read_quality(config, run)
    assert 0 < found["good"].prompts < SAMPLES == found["good"].chosen
    assert found["cheap"].gate == "open" and "were not scored" in found["cheap"].because


def test_a_pass_whose_process_was_killed_asks_only_what_it_has_no_answer_to(copied):
    """Four were under way at once, so no more than four are sent again."""
    run, at = copied
    with serving(Sound) as port:
        config = at(port)
        process = multiprocessing.get_context("fork").Process(target=collect, args=("good", config, run))
        process.start()
        while len(Watched.bodies) < 20:
            time.sleep(0.002)
        process.kill()
        process.join()
        before, had = asked(run), kept("good", run)
        assert len(before) - 4 <= len(had) < SAMPLES
        with (run.path / "quality" / "good.part.jsonl").open("a") as file:
            file.write('{"dataset": "sums", "prom')  # the end of a process may fall into a line
        Watched.bodies.clear()
        assert collect("good", config, run)
    after = asked(run)
    assert len(after) == len(set(after)) and not had & set(after) and len(had) + len(after) == SAMPLES
    answers = pd.read_parquet(answers_file("good", run))
    assert answers["prompt_id"].is_unique and len(answers) == SAMPLES and (answers["status"] == "ok").all()


def test_a_pass_that_lost_its_server_is_continued_alone_when_the_run_goes_on(copied):
    run, at = copied
    before, first_answers = sorted(run.requests.iterdir()), (run.path / "preflight.json").read_text()
    Watched.answers_left = 50
    with serving(Watched) as port:
        config = at(port)
        load_all(config, run, lambda event: None)
    left = {option.name: answers_file(option.name, run).exists() for option in config.options}
    assert not any(left.values()) and list((run.path / "quality" / "set_aside").iterdir())
    failures = [record.failure for record in Ledger(run.ledger_file, run.run_id).records()]
    assert any("stopped answering in its quality pass, which was not scored" in failure for failure in failures)
    had = {model: kept(name, run) for name, model in (("cheap", "right-60"), ("good", "right-90"))}
    assert any(had.values())
    Watched.bodies.clear()
    Watched.answers_left = 10**9
    with serving(Watched) as port:
        config = at(port)
        load_all(config, run, lambda event: None)
        again = {(body["model"], prompt_id) for body, prompt_id in zip(Watched.bodies, asked(run), strict=True)}
        assert {model for model, _ in again} == {"right-60", "right-90"}
        # the longest prompt is sent once more, to see whether the server is there
        assert all(len(had[model] & {one for name, one in again if name == model}) <= 1 for model in had)
        sent = len(Watched.bodies)
        load_all(config, run, lambda event: None)
        assert len(Watched.bodies) == sent, "a finished pass is not repeated"
    answers = [pd.read_parquet(answers_file(option.name, run)) for option in config.options]
    assert [each["prompt_id"].nunique() for each in answers] == [SAMPLES, SAMPLES]
    assert all(set(each["status"]) == {"ok", "http_error"} for each in answers), (
        "what the lost server left is asked again"
    )
    assert not list((run.path / "quality").glob("*.part.jsonl"))
    assert sorted(run.requests.iterdir()) == before, "no load was sent again"
    assert (run.path / "preflight.json").read_text() == first_answers, "those before the load"


def test_what_stops_a_run_stops_its_passes_and_what_they_have_is_kept(copied):
    run, at = copied

    def fail_in_a_pass(event) -> None:
        if event.option == "cheap" and event.detail == "quality":
            while len(Watched.bodies) < 10:
                time.sleep(0.01)
            raise LoadError("stopped here")

    with serving(Watched) as port:
        config = at(port)
        both = config.endpoints.model_copy(update={"max_parallel_loads": 2})
        config = config.model_copy(update={"endpoints": both})
        with pytest.raises(LoadError, match="stopped here"):
            load_all(config, run, fail_in_a_pass)
    assert not any(answers_file(option.name, run).exists() for option in config.options)
    assert len(kept("cheap", run)) + len(kept("good", run)) < 2 * SAMPLES
