"""What a prefix cache is worth, from the configs that come with the project to the verdict, on the embedded engine."""

import pytest
import yaml
from conftest import thorough

from helpers.config.benchmark import PROJECT_ROOT
from helpers.series.series import run_series
from helpers.verdict.verdict import Verdict

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("hit_rate", "wins"), thorough((0.8, True), (0.03, False)))
def test_a_cache_wins_where_prompts_begin_alike_and_only_there(tmp_path, hit_rate, wins):
    config = {
        "extends": str(PROJECT_ROOT / "configs" / "shared-prefix.yml"),
        "prompts": {"prefix": {"hit_rate": hit_rate, "groups": 2}},
        "load": {"concurrency": [1]},
        "run_root": str(tmp_path / "runs"),
    }
    path = tmp_path / "prefixes.yml"
    path.write_text(yaml.safe_dump(config))
    run = run_series(str(path), say=lambda line: None)
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    assert (verdict.recommended == "prefix cache" and not verdict.tied) is wins
    report = (run.path / "report.md").read_text()
    assert ("The price of “prefix cache” holds where its prefix cache finds" in report) is wins
