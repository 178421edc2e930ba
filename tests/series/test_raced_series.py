"""A race in which one option cannot win, from config to report: real papermill, the embedded local SageMaker."""

from pathlib import Path

import pytest
from conftest import small_config
from fault_lab import SHORT_RACE, SMALL_SERVER, fault_option

from helpers.__main__ import main
from helpers.run.ledger import Ledger
from helpers.series.series import run_series
from helpers.verdict.verdict import Verdict

pytestmark = pytest.mark.slow


def raced_config(folder: Path) -> Path:
    prices = [{"usd_per_hour": usd, "as_of": "2026-11-01"} for usd in (40, 1)]
    return small_config(
        folder,
        options=[
            fault_option("slow at best", local=True, price=prices[0], best_output_tokens_per_s=2000),
            fault_option("unbounded", local=True, price=prices[1]),
        ],
        datasets=[{"name": "short", "prompt_tokens": [60, 120], "count": 40}],
        load=SHORT_RACE,
        endpoints={"max_parallel_endpoints": 1},
        local_sagemaker={"engines": {"small-server": SMALL_SERVER}},
    )


def test_every_notebook_and_page_tells_of_an_option_that_was_never_loaded(tmp_path, capsys):
    run = run_series(str(raced_config(tmp_path)))
    record = Ledger(run.ledger_file, run.run_id).record("slow at best")
    assert (record.race_outcome, record.state) == ("never loaded", "planned")
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    assert (verdict.recommended, verdict.tied, verdict.not_measured) == ("unbounded", [], [])
    assert verdict.option("slow at best").status == "eliminated"
    assert "slow at best" not in verdict.may_be_cheaper
    report = (run.path / "report.md").read_text()
    assert "never loaded" in report and record.race_because.partition(" ($")[0] in report
    assert "We measured “unbounded” (`ml.g5.xlarge`) serving" in report
    assert "| slow at best | sagemaker |" not in report, "nothing served it"
    loaded = (run.path / "notebooks" / "03_run_inference.ipynb").read_text()
    assert "slow at best: never loaded" in loaded
    capsys.readouterr()
    main(["status", str(run.path)])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "slow at best" in line]
    assert "never loaded" in row
