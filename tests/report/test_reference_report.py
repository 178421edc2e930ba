"""The published report of January 2024: its numbers by its own rules, and what our rules make of the same measurements."""

from __future__ import annotations

import json
import re

import pytest
import reference_rules as rules
from imported_runs import BINS, REFERENCE, import_reference, run_in

from helpers.run.folder import RunFolder
from helpers.verdict.analysis import read_points

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the reference measurements are not in {REFERENCE}")
G5, INF2_48, P4D = "g5.12xlarge", "inf2.48xlarge", "p4d.24xlarge"
POOLED = {
    (G5, 4): (22.5, 85, 5.26, 62, 3.37),
    (INF2_48, 2): (56.7, 30, 4.58, 153, 1.79),
    (INF2_48, 4): (23.7, 60, 10.98, 184, 3.68),
    (P4D, 2): (52.8, 32, 11.89, 366, 1.67),
    (P4D, 4): (31.5, 32, 19.91, 617, 1.86),
}
"""(instance, concurrency) -> requests/min, output tokens/request, $/1k requests, $/1M output tokens, mean in flight."""


# --- by its own rules ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> str:
    return (REFERENCE / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def summary() -> list[dict]:
    return rules.summarise(rules.read_csv(REFERENCE / "all_metrics.csv"))


@pytest.fixture(scope="module")
def scored(summary) -> list[dict]:
    prices = rules.read_csv(REFERENCE / "instance_pricing_per_hour.csv")
    return rules.with_prices_and_scores(summary, {row["instance_type"]: float(row["price_per_hour"]) for row in prices})


def test_every_recommendation_is_reproduced_to_the_letter(published, summary):
    table = [line.strip() for line in published.splitlines() if line.startswith("|`payload")]
    assert len(table) == 29
    assert rules.recommendations(summary) == table


def test_the_winner_and_its_table_are_reproduced_to_the_letter(published, summary, scored):
    assert rules.winner_table(scored[0]) in published
    assert rules.winner_sentence(scored[0], summary) in published


@pytest.mark.parametrize(
    ("name", "fixture"),
    [("all_metrics_summary.csv", "summary"), ("summary_metrics_for_dataset_w_scores.csv", "scored")],
)
def test_the_tables_behind_the_report_are_reproduced(name, fixture, request):
    ours, theirs = request.getfixturevalue(fixture), rules.read_csv(REFERENCE / name)
    assert len(ours) == len(theirs)
    for mine, row in zip(ours, theirs, strict=True):
        assert {key: mine[key] for key in row if isinstance(mine[key], str)} == {
            key: value for key, value in row.items() if isinstance(mine[key], str)
        }
        for key, value in row.items():
            if not isinstance(mine[key], str):
                assert mine[key] == pytest.approx(float(value), rel=1e-12), key


# --- by ours ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_bins(made_once) -> RunFolder:
    """All five bins, as the published report compared them."""
    slo = {"error_rate": 0.03}
    return run_in(made_once("reference-all-bins", lambda folder: import_reference(folder, list(BINS), slo, status=4)))


@pytest.fixture(scope="module")
def long_prompts(made_once) -> RunFolder:
    """The dataset that the published winner was chosen on, with an error limit that its few requests can decide."""
    slo = {"error_rate": 0.06}
    return run_in(made_once("reference-long", lambda folder: import_reference(folder, ["en_3000-4000"], slo)))


def verdict_of(run: RunFolder) -> dict:
    return json.loads((run.path / "verdict.json").read_text())


def warnings_of(run: RunFolder, kind: str) -> list[dict]:
    return [warning for warning in verdict_of(run)["warnings"] if warning["kind"] == kind]


def said(run: RunFolder, kind: str) -> str:
    """Messages and rows of all warnings of a kind."""
    found = warnings_of(run, kind)
    assert found, f"no warning {kind!r} among {sorted({w['kind'] for w in verdict_of(run)['warnings']})}"
    return "\n".join([line for warning in found for line in (warning["message"], *warning["rows"])])


def test_totals_by_totals_are_those_that_were_worked_out_by_hand(all_bins):
    points = read_points(all_bins)
    points = points[points["dataset"] == "en_3000-4000"]
    for (instance, level), (per_minute, output, per_1k, per_1m, in_flight) in POOLED.items():
        (row,) = points[points["option"].str.contains(instance) & (points["level"] == level)].to_dict("records")
        assert row["requests_per_s"] * 60 == pytest.approx(per_minute, abs=0.06)
        assert row["output_tokens_mean"] == pytest.approx(output, abs=0.5)
        assert row["usd_per_1k_requests"] == pytest.approx(per_1k, abs=0.005)
        assert row["usd_per_1m_output_tokens"] == pytest.approx(per_1m, abs=0.5)
        assert row["achieved_concurrency"] == pytest.approx(in_flight, abs=0.005)


def test_the_measurements_do_not_show_any_option_to_meet_the_slo(all_bins):
    """One to four requests on two of five datasets cannot show a 95th percentile, nor an error rate of 3%."""
    verdict = verdict_of(all_bins)
    assert verdict["recommended"] is None
    assert not verdict["comparable"]
    statuses = {option["option"]: option["status"] for option in verdict["options"]}
    assert statuses.pop("llama2-13b-inf2.24xlarge-djl-0.24.0-neuronx-sdk-2.14.1-bs=4-tpd=12") in (
        "incomplete",
        "undecided",
    )
    assert set(statuses.values()) == {"undecided"}


def test_who_must_choose_now_gets_the_ranking_by_estimates(all_bins):
    verdict = verdict_of(all_bins)
    assert "g5.12xlarge" in verdict["best_estimate"]
    text = (all_bins.path / "report.md").read_text(encoding="utf-8")
    line = text[text.index("If you must choose now:") :].split("\n")[0]
    assert "g5.12xlarge" in line.split(", before ")[0] and " more)" in line
    assert "is not shown to stay within" in line
    assert "To settle it:" in line


def test_on_long_prompts_another_option_wins_and_not_the_published_one(long_prompts):
    verdict = verdict_of(long_prompts)
    assert verdict["recommended"] == "llama2-13b-g5.12xlarge-huggingface-pytorch-tgi-inference-2.0.1-tgi1.1.0"
    assert verdict["cost_basis"] == "usd_per_1m_output_tokens", "the options did unequal work"
    (winner,) = [option for option in verdict["options"] if option["option"] == verdict["recommended"]]
    assert winner["cost"]["value"] == pytest.approx(62, abs=0.5)
    assert [point["level"] for point in winner["points"]] == [4]
    published = next(option for option in verdict["options"] if INF2_48 in option["option"])
    assert published["status"] == "feasible"
    assert published["cost"]["value"] == pytest.approx(153, abs=0.5)
    assert [point["level"] for point in published["points"]] == [2], "its dominated concurrency 4 is not recommended"
    missing = next(option for option in verdict["options"] if "inf2.24xlarge" in option["option"])
    assert missing["status"] == "incomplete"


def test_each_fault_that_the_data_show_has_its_warning(all_bins):
    assert not warnings_of(all_bins, "different_models"), "the names of deployments do not show it"
    rows = said(all_bins, "unknown_model")  # 1
    assert "meta-textgeneration-llama-2-13b" in rows
    assert "meta-textgenerationneuron-llama-2-13b-f" in rows
    assert "huggingface-pytorch-tgi-inference" in rows
    rows = said(all_bins, "output_length")  # 2
    assert "g5.24xlarge" in rows
    assert "up to 103.0 tokens" in rows
    assert re.search(
        r"p4d.*en_3000-4000: 31\.5 output tokens per request, and 3,474 of the prompt", said(all_bins, "echoed_prompt")
    )  # 3
    assert "by up to 1.76 times" in said(all_bins, "mean_of_rates")  # 4
    assert "84 volleys at concurrency 2, concurrency 4" in said(all_bins, "volleys")  # 5
    assert "1.86 of 4" in said(all_bins, "concurrency")
    rows = said(all_bins, "one_prompt")  # 6
    assert "en_1-500: 304 tokens" in rows
    assert "en_500-1000: 980 tokens" in rows
    assert re.search(
        r"inf2\.48.*concurrency 1: en_1-500 took 7\.77 s .* en_3000-4000 2\.30 s", said(all_bins, "warm_up")
    )
    assert said(all_bins, "few_samples")
    rows = said(all_bins, "mean_hides_tail")  # 7
    assert re.search(r"p4d.*en_3000-4000, concurrency 4: mean latency 3\.53 s, but 1 of 15 volleys .* 56\.4 s", rows)
    assert "en_3000-4000, concurrency 2" in said(all_bins, "missing")  # 9
    rows = said(all_bins, "stale_name")  # 11
    assert "inf2.48xlarge" in rows
    assert "0.26.0" in rows


def test_what_the_file_lacks_is_reported(all_bins):
    rows = said(all_bins, "imported")
    assert "All options: FMBench (all_metrics.csv); not in the files: times of single requests" in rows
    assert "whether a steady state was reached" in rows


def test_the_report_is_written_and_repeats_none_of_the_faults(all_bins, long_prompts):
    for run in (all_bins, long_prompts):
        page, markdown = (run.path / "report.html").read_text(), (run.path / "report.md").read_text()
        assert "<html" in page
        assert not re.search(r"3,?5\d\d(\.\d+)? tokens", markdown), "no echoed prompt is counted as output"
        assert "per 10,000" not in markdown
        assert re.search(r"Nothing was measured here", markdown)
    assert "No option is shown to meet the SLO" in (all_bins.path / "report.md").read_text()
    assert "g5.12xlarge" in (long_prompts.path / "report.md").read_text().split("##")[1]
