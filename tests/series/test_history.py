"""`helpers history`: all runs of a config on one page, through the command line, on copies of a real run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import boto3
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from command_line import run_main
from conftest import SECRET, small_config

pytest_plugins = ["moto_server"]
pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>"


def copy_of(finished_run, runs: Path, number: int, **changes: object) -> Path:
    """A copy of the finished run, as if it had started on that day of a month."""
    copy = runs / f"small-202611{number:02}-120000"
    shutil.copytree(finished_run.run.path, copy)
    about = json.loads((copy / "run.json").read_text())
    about |= {"run_id": copy.name, "started_at": f"2026-11-{number:02}T12:00:00+00:00", **changes}
    (copy / "run.json").write_text(json.dumps(about))
    return copy


def slow_down(run: Path, option: str, factor: float) -> None:
    """Let every latency of an option be longer."""
    table = run / "metrics" / "load_points.csv"
    points = pd.read_csv(table)
    columns = [column for column in points if re.match(r"latency_s_p\d", column)]
    points.loc[points["option"] == option, columns] *= factor
    points.to_csv(table, index=False)


def change(run: Path, **changes: object) -> dict:
    verdict = json.loads((run / "verdict.json").read_text())
    (run / "verdict.json").write_text(json.dumps(verdict | changes))
    return verdict


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TEST_SECRET", SECRET)
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path) -> str:
    return str(small_config(tmp_path))


def page_of(runs: Path) -> BeautifulSoup:
    text = (runs / "history_small.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text), "one file, without external addresses"
    return BeautifulSoup(text, "html.parser")


def column(page: BeautifulSoup, table: int, header: str) -> list[str]:
    found = page.select(".table table")[table]
    place = [cell.get_text() for cell in found.select("thead th")].index(header)
    return [row.select("th, td")[place].get_text() for row in found.select("tbody tr")]


def test_a_real_change_is_marked_and_what_cannot_be_read_is_named(finished_run, runs, config):
    first, second, last = (copy_of(finished_run, runs, day) for day in (1, 2, 3))
    slow_down(last, "no batching", 100)  # more than any noise of the run
    kept = change(last, run_id=last.name)
    other = next(o["option"] for o in kept["options"] if o["option"] != kept["recommended"])
    change(last, recommended=other, tied=[])
    (copy_of(finished_run, runs, 4) / "run.json").write_text("{" + HOSTILE)
    (copy_of(finished_run, runs, 5) / "verdict.json").unlink()
    change(copy_of(finished_run, runs, 6), schema_version=3)
    change(copy_of(finished_run, runs, 7), percentile=HOSTILE)
    copy_of(finished_run, runs, 8, config_name="small-202611")
    status, said = run_main("history", "--config", config)
    assert status == 0
    assert "In 3 runs from 2026-11-01 to 2026-11-03 the recommendation changed once, with small-20261103-120000" in said
    points = pd.read_csv(first / "metrics" / "load_points.csv")
    slower, in_all = points[points["option"] == "no batching"], 3 * len(points)
    bounds = slower[["latency_s_p75_low", "latency_s_p75_high"]]  # a busy machine may leave one open
    real = int(bounds.notna().all(axis=1).sum())
    assert f"Between successive runs {real} of {2 * in_all} differences are real." in said and real > 1
    assert "Worse in the last run than in the one before: p75 latency of “no batching” on" in said
    assert "4 other runs could not be read; the page says why." in said
    assert f"History   {runs / 'history_small.html'}" in said
    assert (runs / "history_small.html").stat().st_mode & 0o077 == 0
    page = page_of(runs)
    assert " ".join(page.select_one("main p").get_text().split()) in " ".join(said.split())
    assert column(page, 0, "run") == [last.name, second.name, first.name]
    assert column(page, 0, "real differences") == [f"{real} of {in_all}", f"0 of {in_all}", "–"]
    assert set(column(page, 1, "run")) == {last.name} and set(column(page, 1, "is")) == {"worse"}
    assert set(column(page, 1, "option")) == {"no batching"} and set(column(page, 1, "now ÷ before")) == {"100.000"}
    assert {figure["id"] for figure in page.find_all("figure")} == {"price", "latency"}
    named = {item.find("code").get_text(): item.get_text() for item in page.select("main li")}
    reasons = {4: "run.json: damaged", 5: "verdict.json: does not exist", 6: "version 3", 7: "percentile"}
    for day, words in reasons.items():
        assert words in named[str(runs / f"small-202611{day:02}-120000")]
    assert len(named) == 4 and page.find("script") is None


def test_names_from_a_run_are_shown_as_text(finished_run, runs, config):
    copy_of(finished_run, runs, 1)
    last = copy_of(finished_run, runs, 2)
    text = (last / "verdict.json").read_text().replace("no batching", HOSTILE)
    (last / "verdict.json").write_text(text)
    table = last / "metrics" / "load_points.csv"
    table.write_text(table.read_text().replace("no batching", HOSTILE))
    status, _ = run_main("history", "--config", config)
    assert status == 0
    page = page_of(runs)
    assert page.find("script") is None and HOSTILE not in str(page)


def test_one_run_says_so_and_none_is_an_error_with_the_reason(finished_run, runs, config):
    lost = copy_of(finished_run, runs, 1)
    (lost / "verdict.json").unlink()
    status, said = run_main("history", "--config", config)
    assert status == 1
    assert "holds no finished run of 'small'. Next: make report" in said and f"{lost}: " in said
    only = copy_of(finished_run, runs, 2)
    status, said = run_main("history", "--config", config)
    assert status == 0
    assert f"There is one run, {only.name}: “" in said and "Nothing can be compared with it yet" in said
    assert "1 other run could not be read" in said
    assert len(page_of(runs).select(".table table")) == 1


def test_an_slo_that_has_changed_since_is_said(finished_run, runs, tmp_path):
    for day in (1, 2):
        copy_of(finished_run, runs, day)
    config = small_config(tmp_path, slo={"percentile": 99, "latency_s": 5, "error_rate": 0.2, "confidence": 0.9})
    status, said = run_main("history", "--config", str(config))
    assert status == 0
    assert "cannot be compared with the one before: the baseline run has no latency_s_p99" in said


def test_runs_in_s3_are_read_from_there(finished_run, moto_server, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.folder.LOCAL_ROOT", tmp_path / "local")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="benchmarks")
    for day in (1, 2, 3):
        copy = copy_of(finished_run, runs, day)
        for name in ("run.json", "endpoints.json", "verdict.json", "metrics/load_points.csv"):
            s3.upload_file(str(copy / name), "benchmarks", f"team/{copy.name}/{name}")
    s3.put_object(Bucket="benchmarks", Key=f"team/{copy.name}/run.json", Body=b"{")
    config = str(small_config(tmp_path, run_root="s3://benchmarks/team"))
    status, said = run_main("history", "--config", config)
    assert status == 0
    assert "In 2 runs from 2026-11-01 to 2026-11-02 the recommendation stayed the same" in said
    page = page_of(tmp_path / "local")
    assert "s3://benchmarks/team/small-20261103-120000" in page.select("main li")[-1].get_text()
