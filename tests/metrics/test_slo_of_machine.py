"""An SLO that follows the machine: a multiple of single requests that are measured before the load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import SECRET, small_config, thorough

from helpers.config.file import LoadedConfig, load_config
from helpers.errors import AnalysisError, ConfigError
from helpers.metrics.formulas import with_latencies
from helpers.metrics.single_requests import FOLDER, slo_sentence
from helpers.report.bottom_line_text import slo_words
from helpers.report.report import summary
from helpers.run.folder import RunFolder
from helpers.run.folder import open_run as begin_run
from helpers.run.ledger import Ledger
from helpers.run.records import read_requests
from helpers.series.notebook import open_run
from helpers.series.series import run_series
from helpers.verdict.analysis import read_measurements
from helpers.verdict.judging import judge
from helpers.verdict.verdict import Verdict

pytestmark = pytest.mark.slow

TIMES = 40
SLO = {"percentile": 75, "latency_s": {"times_single_request": TIMES}, "error_rate": 0.2, "confidence": 0.9}

LOAD = {"kind": "closed_loop", "concurrency": [1], "min_requests": 12, "warmup_requests": 1}


RACE = {**LOAD, "concurrency": [1, 2], "race": {"first_look": 12}}


@pytest.fixture(scope="module")
def followed(finished_run, tmp_path_factory) -> tuple[Path, RunFolder]:
    """Config and finished run of the small config with such an SLO, at one level; the prompts and the calibration are made.

    A third option has a container that does not start.
    """
    yield from run_of(tmp_path_factory.mktemp("follows"), finished_run, LOAD, synthetic_99m=True)


@pytest.fixture(scope="module")
def raced(finished_run, tmp_path_factory) -> tuple[Path, RunFolder]:
    """The same raced, at two levels."""
    yield from run_of(tmp_path_factory.mktemp("raced"), finished_run, RACE)


def run_of(folder: Path, finished_run, load: dict, synthetic_99m: bool = False) -> Iterator[tuple[Path, RunFolder]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", SECRET)
        path = small_config(folder, slo=SLO, load=load)
        if synthetic_99m:
            config = yaml.safe_load(path.read_text())
            container = {"image": "openvino-genai", "environment": {"ENGINE_MODEL": "synthetic:99m"}}
            config["options"].append({**config["options"][1], "name": "broken", "container": container})
            path.write_text(yaml.safe_dump(config, sort_keys=False))
        _, run = begin_run(str(path), new=True)
        shutil.copytree(finished_run.run.payloads, run.payloads, dirs_exist_ok=True)
        shutil.copy(finished_run.run.instrument_file, run.instrument_file)
        yield path, run_series(str(path), str(run.path), say=lambda line: None)


def opened(config: Path, run: Path | str = "", new: bool = False) -> LoadedConfig:
    """The config of a run as a notebook gets it."""
    return open_run({"config_path": str(config), "run_dir": str(run)}, new).loaded


def test_the_limit_is_the_multiple_of_the_median_of_single_requests(followed):
    path, run = followed
    config = opened(path, run.path)
    rows = with_latencies(read_requests(run.path / FOLDER))
    rows = rows[(rows["option"] == "no batching") & (rows["phase"] != "warmup") & rows["ok"]]
    slowest = rows.groupby("dataset")["latency_s"].median().max()
    limit_s = config.benchmark.slo.limits_s()["latency_s"]
    assert limit_s == float(f"{TIMES * slowest:.3g}")
    (kept,) = json.loads((run.path / "slo.json").read_text())
    assert (kept["limit_s"], kept["times"], kept["option"]) == (limit_s, TIMES, "no batching")
    assert rows["load_point"].nunique() == 2
    assert not set(rows["request_id"]) & set(read_requests(run.requests)["request_id"]), "they are no part of the load"


def test_the_progress_of_its_load_points_is_shown_before_the_limit_is_a_number(followed):
    _, run = followed
    (notebook,) = (run.path / "notebooks").glob("03_*.ipynb")
    text = notebook.read_text(encoding="utf-8")
    assert "The progress display stopped" not in text
    assert "p75" in text


def test_a_failed_option_is_reported_with_its_reason_and_the_others_go_on(followed):
    _, run = followed
    ledger = Ledger(run.ledger_file, run.run_id)
    assert {record.state for record in ledger.records()} == {"deleted"}
    assert "99m" in ledger.record("broken").failure, "the container's own words"
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    assert verdict.option("broken").status == "failed"
    assert "failed" not in {verdict.option(name).status for name in ("no batching", "batch of 4")}
    assert {path.name.partition("__")[0] for path in run.requests.glob("*.parquet")} == {"no-batching", "batch-of-4"}
    assert any(w.kind == "missing" and "99m" in w.message for w in verdict.warnings)


@pytest.mark.parametrize("kind", ["followed", *thorough("raced")])
def test_report_and_verdict_show_the_number_and_where_it_comes_from(kind, request):
    path, run = request.getfixturevalue(kind)
    config = opened(path, run.path)
    limit_s = config.benchmark.slo.limits_s()["latency_s"]
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    report = (run.path / "report.md").read_text()
    assert slo_words(config.benchmark) in report
    assert f"{limit_s:g} s = {TIMES} ×" in report
    assert "the median latency of" in slo_sentence(run)
    assert "The limit follows the machine: " in summary(verdict, run, config.benchmark).markdown


@pytest.mark.thorough
def test_a_race_measures_single_requests_of_one_option_and_decides_by_them(raced):
    path, run = raced
    assert {file.name.partition("__")[0] for file in (run.path / FOLDER).glob("*.parquet")} == {"no-batching"}
    (kept,) = json.loads((run.path / "slo.json").read_text())
    assert kept["option"] == "no batching"
    left = [record.race_outcome for record in Ledger(run.ledger_file, run.run_id).records()]
    assert len(left) == 2 and all(left)
    notebooks = "".join(file.read_text(encoding="utf-8") for file in (run.path / "notebooks").glob("*.ipynb"))
    assert "The progress display stopped" not in notebooks
    config = opened(path, run.path).benchmark
    measured = read_measurements(config, run)
    judged = judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id)
    kept = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    assert (judged.recommended, judged.tied) == (kept.recommended, kept.tied), "the same limit, the same verdict"


def test_a_number_in_its_place_counts_from_then_on(followed, tmp_path, monkeypatch):
    path, run = followed
    monkeypatch.setenv("TEST_SECRET", SECRET)
    kept = (run.path / "slo.json").read_text()
    other = path.with_name("other.yml")
    other.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "slo": {**SLO, "latency_s": 2}}))
    config = opened(other, run.path)
    assert config.benchmark.slo.limits_s() == {"latency_s": 2}
    assert slo_sentence(run) == ""
    opened(path, run.path)
    assert (run.path / "slo.json").read_text() == kept, "the same rule, the same records, the same limit"


def test_before_the_measurement_the_next_step_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    config = opened(small_config(tmp_path, slo=SLO), new=True)
    with pytest.raises(AnalysisError, match=r"slo\.latency_s: 40 times .* Next: run notebooks/03_run_inference"):
        config.benchmark.slo.limits_s()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slo": {**SLO, "latency_s": {"times_single_request": 1}}}, "slo.latency_s.times_single_request: bad value 1"),
        ({"slo": {**SLO, "latency_s": {"times": 3}}}, "slo.latency_s.times: unknown key"),
        ({"slo": {**SLO, "latency_s": "fast"}}, "slo.latency_s: bad value 'fast'. Expected a number"),
        (
            {"slo": SLO, "load": {"kind": "search", "over": "concurrency", "highest": 8}},
            "slo.latency_s: times_single_request cannot be used here: a search needs its limit before it sends",
        ),
    ],
)
def test_what_cannot_be_such_a_limit_is_refused(tmp_path, monkeypatch, changes, message):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    with pytest.raises(ConfigError) as refused:
        load_config(small_config(tmp_path, **changes))
    assert message in str(refused.value)
