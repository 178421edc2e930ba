"""The series from config to report: real papermill, real SageMaker calls, real inference."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import papermill
import pyarrow.parquet as pq
import pytest
from conftest import SECRET, small_config, thorough

from helpers.__main__ import main
from helpers.config.file import load_config
from helpers.errors import ConfigError, NotebookFailed, ParameterError, RunFolderError
from helpers.run.folder import RunFolder, open_run
from helpers.run.ledger import Ledger
from helpers.run.local_server import running_url
from helpers.run.records import SCHEMA, read_requests
from helpers.series.series import NOTEBOOK_DIR, NOTEBOOKS, run_series
from helpers.verdict.verdict import Verdict

pytestmark = pytest.mark.slow

FILES = [
    "run.json",
    "config.yml",
    "endpoints.json",
    "verdict.json",
    "report.html",
    "report.md",
    "payloads/short.parquet",
    "payloads/long.parquet",
    "metrics/load_points.csv",
    "metrics/warnings.json",
    "figures/price_performance.svg",
    *(f"notebooks/{name}.ipynb" for name in NOTEBOOKS),
]


def execute(notebook: str, case, output: Path, **parameters) -> dict:
    parameters = {"config_path": str(case.config_path), "run_dir": str(case.run.path), **parameters}
    papermill.execute_notebook(
        NOTEBOOK_DIR / f"{notebook}.ipynb", output, parameters=parameters, cwd=NOTEBOOK_DIR, progress_bar=False
    )
    return json.loads(output.read_text())


def test_the_run_folder_holds_everything(finished_run):
    assert [name for name in FILES if not (finished_run.run.path / name).is_file()] == []
    assert re.fullmatch(r"small-\d{8}-\d{6}", finished_run.run.run_id)


def test_the_runner_says_a_line_per_notebook_and_where_the_report_is(finished_run):
    for name in NOTEBOOKS:
        assert re.search(rf"{name} +[\d.]+ s +\$0.00 so far", finished_run.said)
    assert str(finished_run.run.path / "report.html") in finished_run.said


def test_every_load_point_has_its_records(finished_run):
    requests = read_requests(finished_run.run.requests)
    counts = requests[requests["phase"] == "steady"].groupby(["option", "dataset", "level"]).size()
    assert len(counts) == 2 * 2 * 2
    assert (counts >= 24).all()
    assert (requests["status"] == "ok").all()
    assert (requests["output_tokens"] == 6).all(), "output length is controlled"
    assert (requests["output_tokens_source"] == "server").all()


def test_the_servers_count_of_prompt_tokens_equals_ours(finished_run):
    requests = read_requests(finished_run.run.requests)
    assert (requests["prompt_tokens_source"] == "server").all()
    for dataset, mine in requests.groupby("dataset"):
        ours = pd.read_parquet(finished_run.run.payloads / f"{dataset}.parquet").set_index("prompt_id")["prompt_tokens"]
        assert (mine["prompt_id"].map(ours) == mine["prompt_tokens"]).all()


def test_records_have_the_published_columns_and_order_of_times(finished_run):
    for path in finished_run.run.requests.glob("*.parquet"):
        assert pq.read_schema(path).names == SCHEMA.names
    requests = read_requests(finished_run.run.requests)
    for earlier, later in (
        ("sent_ns", "first_byte_ns"),
        ("first_byte_ns", "first_token_ns"),
        ("first_token_ns", "last_token_ns"),
        ("last_token_ns", "done_ns"),
    ):
        assert (requests[earlier] <= requests[later]).all()
    assert not requests["request_id"].duplicated().any()


def test_every_endpoint_is_deleted_and_the_local_sagemaker_has_ended(finished_run):
    records = Ledger(finished_run.run.ledger_file, finished_run.run.run_id).records()
    assert [record.state for record in records] == ["deleted", "deleted"]
    for record in records:
        assert record.create_called_at < record.in_service_at < record.deleted_at
    deadline = time.monotonic() + 120
    while running_url(finished_run.run.path / "local_sagemaker" / "address.json") is not None:
        assert time.monotonic() < deadline, "the local SageMaker outlives its last endpoint"
        time.sleep(0.2)


def test_no_secret_is_written_anywhere(finished_run):
    holders = [
        path for path in finished_run.run.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert holders == []
    assert "${TEST_SECRET}" in (finished_run.run.path / "config.yml").read_text()
    assert SECRET not in finished_run.said


def test_the_verdict_follows_from_the_request_records(finished_run):
    """Recompute the winner's price from the raw records, with nothing of our own analysis."""
    verdict = Verdict.model_validate_json((finished_run.run.path / "verdict.json").read_text())
    winner = verdict.option(verdict.recommended)
    cost = 0.0
    for point in winner.points:
        name = f"{winner.option.replace(' ', '-')}__{point.dataset}__c{point.level:g}__r1.parquet"
        table = pq.read_table(finished_run.run.requests / name)
        facts = json.loads(table.schema.metadata[b"serving_verdict"])
        window_s = (facts["window_close_ns"] - facts["window_open_ns"]) / 1e9
        steady = sum(phase == "steady" for phase in table["phase"].to_pylist())
        cost += 0.5 * 0.102 / (steady / window_s * 3600) * 1000
    assert winner.cost.value == pytest.approx(cost, rel=1e-12)
    assert winner.status == "recommended"


def test_the_report_has_the_verdict(finished_run):
    verdict = Verdict.model_validate_json((finished_run.run.path / "verdict.json").read_text())
    report = (finished_run.run.path / "report.md").read_text()
    assert f"Serve tiny-llama-2m with “{verdict.recommended}”" in report
    assert "they are of this machine" in report
    for option in verdict.options:
        assert option.reason in report
    assert len(verdict.warnings) == len(re.findall(r"^\d+\. ", report, flags=re.MULTILINE))


@pytest.fixture
def alone(run_copy, tmp_path):
    """Runs one notebook on a finished run, of which no request and no endpoint is made again; its cells."""

    def run(notebook: str, case=run_copy, **parameters) -> dict:
        before = {path.name: path.read_bytes() for path in run_copy.run.requests.iterdir()}
        executed = execute(notebook, case, tmp_path / "out.ipynb", **parameters)
        assert not any(out["output_type"] == "error" for cell in executed["cells"] for out in cell.get("outputs", []))
        assert {path.name: path.read_bytes() for path in run_copy.run.requests.iterdir()} == before
        states = [record.state for record in Ledger(run_copy.run.ledger_file, run_copy.run.run_id).records()]
        assert states == ["deleted", "deleted"], "nothing is deployed again"
        return executed

    return run


@pytest.mark.parametrize("notebook", NOTEBOOKS[1:3])
def test_each_notebook_runs_alone_on_a_finished_run(notebook, alone):
    alone(notebook)


def test_the_first_notebook_runs_alone_and_parameters_may_arrive_as_strings(alone):
    executed = alone("01_generate_data", sample_rows="2")
    html = "".join(
        str(out.get("data", {}).get("text/html", "")) for cell in executed["cells"] for out in cell.get("outputs", [])
    )
    sample = html[html.index("A random sample of prompts") :]
    assert sample.count("<tr>") == 1 + 2


def test_slo_and_traffic_may_change_after_measuring_but_options_may_not(run_copy, tmp_path):
    changed = small_config(tmp_path, slo={"percentile": 50, "latency_s": 0.0001, "error_rate": 0.2})
    config, _ = open_run(str(changed), str(run_copy.run.path))
    assert config.benchmark.slo.latency_s == 0.0001
    other = small_config(tmp_path, generation={"max_output_tokens": 7})
    with pytest.raises(RunFolderError, match="other values of generation"):
        open_run(str(other), str(run_copy.run.path))


def test_the_last_notebooks_run_alone_and_report_that_another_slo_is_unmet(run_copy, alone, tmp_path):
    strict = small_config(tmp_path, slo={"percentile": 50, "latency_s": 0.0001, "error_rate": 0.2})
    case = type(run_copy)(run_copy.run, strict, "")
    for notebook in ("04_analyse_metrics", "05_report"):
        alone(notebook, case)
    verdict = Verdict.model_validate_json((run_copy.run.path / "verdict.json").read_text())
    assert verdict.recommended is None
    assert verdict.nearest is not None
    assert "No option is shown to meet the SLO" in (run_copy.run.path / "report.md").read_text()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"run_inferense": {"progress": "text"}}, "no such notebook"),
        ({"run_inference": {"progres": "text"}}, "no parameter 'progres'. Did you mean `progress`"),
        ({"generate_data": {"sample_rows": "many"}}, "bad value 'many'. Expected int"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_starts(tmp_path, monkeypatch, parameters, words):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    config = small_config(tmp_path, parameters=parameters)
    with pytest.raises(ParameterError, match=re.escape(words)):
        run_series(str(config), say=lambda line: None)
    assert not (tmp_path / "runs").exists()


def test_a_wrong_config_is_reported_on_the_command_line_with_exit_status_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    config = small_config(tmp_path, load={"kind": "closed_loop", "concurency": [1]})
    assert main(["report", "--config", str(config)]) == 2
    assert "load.concurency: unknown key. Did you mean `concurrency`?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "nothing.yml")


def test_plan_makes_nothing_and_says_what_it_would(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    assert main(["plan", "--config", str(small_config(tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert "a local endpoint" in printed
    assert "Estimated: $0.00" in printed
    assert not (tmp_path / "runs").exists()


def test_a_failing_notebook_stops_the_series_and_leaves_evidence(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    config = small_config(
        tmp_path, prompts={"source": {"kind": "jsonl", "path": "absent.jsonl"}, "template": "user_turn"}
    )
    with pytest.raises(NotebookFailed, match=r"01_generate_data stopped: PromptError.*absent\.jsonl"):
        run_series(str(config), say=lambda line: None)
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "notebooks" / "01_generate_data.ipynb").is_file()
    assert not (run / "notebooks" / "02_deploy_endpoints.ipynb").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, *thorough(signal.SIGINT)])
def test_an_interrupted_run_deletes_its_endpoints(tmp_path, monkeypatch, how):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    config = small_config(
        tmp_path,
        load={
            "kind": "closed_loop",
            "concurrency": [1, 2],
            "min_requests": 100_000,
            "max_duration_s": 60,
            "repeat_prompts": True,
        },
    )
    runner = subprocess.Popen(
        [sys.executable, "-m", "helpers", "report", "--config", str(config)],
        start_new_session=True,
        cwd=tmp_path,
        stdout=(said := tmp_path / "said.txt").open("w"),
    )
    try:
        run = wait_for_load(tmp_path / "runs")
        os.kill(runner.pid, how)
        assert runner.wait(60) in (130, 128 + signal.SIGTERM)
    finally:
        runner.kill()
    states = [record.state for record in Ledger(run.ledger_file, run.run_id).records()]
    assert states == ["deleted", "deleted"]
    assert not list(run.requests.glob("*.tmp"))
    assert f"Next: make report RUN={run.path} continues with what is missing" in said.read_text()


def wait_for_load(root: Path) -> RunFolder:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in root.glob("*/logs/load-*.log"):
            time.sleep(1)
            return RunFolder(path.parents[1])
        time.sleep(0.2)
    raise AssertionError("no load within 120 s")


def test_kept_endpoints_are_there_until_cleanup(run_copy, tmp_path, capsys):
    next(iter(run_copy.run.requests.glob("batch-of-4__*.parquet"))).unlink()
    case = type(run_copy)(run_copy.run, small_config(tmp_path, endpoints={"keep": True}), "")
    for notebook in ("02_deploy_endpoints", "03_run_inference"):
        executed = execute(notebook, case, tmp_path / "out.ipynb")
    ledger = Ledger(run_copy.run.ledger_file, run_copy.run.run_id)
    assert [record.state for record in ledger.records()] == ["deleted", "in_service"]
    assert "Kept, and costing money" in json.dumps(executed, ensure_ascii=False)
    assert main(["cleanup", str(run_copy.run.path)]) == 0
    assert capsys.readouterr().out.startswith("deleted small-")
    assert [record.state for record in ledger.records()] == ["deleted", "deleted"]
    assert main(["cleanup", str(run_copy.run.path)]) == 0
    assert "Nothing was left" in capsys.readouterr().out
