"""From result files to the report through the front door: `make import`, and `make report` on imported options."""

from __future__ import annotations

import io
import json
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import result_files as files

from helpers.__main__ import main
from helpers.config.benchmark import PROJECT_ROOT

pytestmark = pytest.mark.slow


def import_and_report(folder: Path) -> None:
    """Two options that vLLM's client measured, the second twice as fast at the same price."""
    for name, faster in (("slow", 1), ("fast", 2)):
        for streams in (2, 4):
            sent = files.closed_loop(streams, 60, latency=lambda i, f=faster: (0.4 + 0.02 * (i * 7 % 11)) / f)
            files.write_json(folder / f"{name}-{streams}.json", files.vllm(sent, max_concurrency=streams))
    path = files.write_config(
        folder,
        files.option("slow", "vllm", "slow-*.json"),
        files.option("fast", "vllm", "fast-*.json"),
        load={"kind": "closed_loop", "concurrency": [2, 4]},
    )
    with redirect_stdout(io.StringIO()) as said:
        assert main(["report", "--config", str(path)]) == 0
    (folder / "said.txt").write_text(said.getvalue())


@pytest.fixture(scope="module")
def said_and_run(made_once) -> tuple[str, Path]:
    """What was said of the imported and reported results, and their run folder."""
    folder = made_once("imported-run", import_and_report)
    (run,) = (folder / "runs").iterdir()
    return (folder / "said.txt").read_text(), run


def test_report_on_imported_options_imports_them(said_and_run):
    said, run = said_and_run
    assert "fast: 2 load points of 360 requests from vllm bench serve" in said
    assert "04_analyse_metrics" in said
    assert "01_generate_data" not in said
    for name in ("report.html", "report.md", "verdict.json"):
        assert f"{run / name}" in said
        assert (run / name).is_file()
    assert sorted(path.stem for path in (run / "notebooks").glob("*.ipynb")) == ["04_analyse_metrics", "05_report"]


def test_the_verdict_is_as_for_a_run_of_our_own(said_and_run):
    _, run = said_and_run
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["recommended"] == "fast"
    assert verdict["comparable"]
    fast, slow = (next(o for o in verdict["options"] if o["option"] == name) for name in ("fast", "slow"))
    assert slow["cost"]["value"] == pytest.approx(2 * fast["cost"]["value"], rel=0.01)
    assert fast["points"][0]["level"] == 4


def test_the_report_says_that_nothing_was_measured_here(said_and_run):
    _, run = said_and_run
    assert "Nothing was measured here" in (run / "report.md").read_text()


def test_make_import_is_the_front_door():
    done = subprocess.run(
        ["make", "-n", "import", "CONFIG=my.yml"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert "-m helpers import --config my.yml" in done.stdout
