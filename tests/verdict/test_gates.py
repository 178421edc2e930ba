"""Gates of `--fail-if`: what is refused before a run, what each condition finds, and how a gated run ends on the command line."""

from __future__ import annotations

import re
import subprocess

import pandas as pd
import pytest
import result_files as files
import yaml
from command_line import run_main
from conftest import small_config
from examples import endpoint, load_point, make_config

from helpers.config.benchmark import PROJECT_ROOT
from helpers.errors import ParameterError
from helpers.verdict.compare import PRICE, Comparison, Difference
from helpers.verdict.exit_status import MEANINGS
from helpers.verdict.gates import ALLOWED, judge_gates, read_gates
from helpers.verdict.judging import judge

CONFIG = make_config(["a", "b"])
RUNNING = (PROJECT_ROOT / "docs" / "running.md").read_text(encoding="utf-8")


def verdict_on(a: dict | None = None, b: dict | None = None):
    """The verdict on two options at one load: `a` at 0.1 $ per 1,000 requests and `b` at twice that, unless changed."""
    points = [load_point("a", **{"rate": 10, **(a or {})}), load_point("b", **{"rate": 5, **(b or {})})]
    hourly = {point["option"]: point["usd_per_hour"] for point in points}
    records = [endpoint(name, usd_per_instance_hour=usd) for name, usd in hourly.items()]
    return judge(pd.DataFrame(points), records, [], CONFIG, "run-1")


def found(condition: str, verdict, comparison: Comparison | None = None):
    (result,) = judge_gates(read_gates([condition], CONFIG), verdict, comparison)
    return result


CLEAR, TIED = verdict_on(), verdict_on(b={"rate": 9.9})
MISSED = verdict_on({"slo": "missed"}, {"slo": "missed"})
OPEN = verdict_on({"slo": "undecided"}, {"slo": "missed"})
UNPRICED = verdict_on({"usd_per_hour": None}, {"usd_per_hour": None})


@pytest.mark.parametrize(
    ("condition", "verdict", "holds", "words"),
    [
        ("undecided", CLEAR, False, "“a” is recommended"),
        ("undecided", OPEN, True, "no option is shown to meet the SLO"),
        ("undecided", MISSED, False, "no option meets the SLO"),
        ("tied", CLEAR, False, "“a” is tied with no other"),
        ("tied", TIED, True, "“a” is tied with “b”"),
        ("tied", MISSED, None, "no option is recommended"),
        ("not_measured", CLEAR, False, "every option was measured"),
        ("recommended != a", CLEAR, False, "“a” is recommended"),
        ("recommended != b", CLEAR, True, "“a” is recommended"),
        ("recommended != b", TIED, True, "“a” is recommended, tied with it"),
        ("recommended != a", OPEN, None, "no option is recommended"),
        ("recommended != a", UNPRICED, None, "no option is recommended"),
        (
            "usd_per_1k_requests > 0.0999",
            CLEAR,
            True,
            "“a” costs $0.100 per 1,000 requests (interval $0.0909 to $0.111)",
        ),
        ("usd_per_1k_requests > 0.1", CLEAR, False, "“a” costs $0.100 per 1,000 requests"),
        ("usd_per_1k_requests>1e-3", MISSED, None, "no option is recommended"),
        ("usd_per_1m_output_tokens > 1", CLEAR, None, "this run compares prices per 1,000 requests"),
        ("usd_per_month > 2000", CLEAR, True, "“a” takes $5,256 a month"),
        ("usd_per_month > 1e6", CLEAR, False, "“a” takes $5,256 a month"),
        ("usd_per_month > 1e6", UNPRICED, None, "no option is recommended"),
    ],
)
def test_what_a_condition_finds(condition, verdict, holds, words):
    result = found(condition, verdict)
    assert result.holds is holds
    assert words in result.because
    assert result.failed is (holds is not False), "what is unknown fails"


def difference(metric="p95 latency", baseline=1.0, now=2.0, change="real"):
    ratio = None if baseline is None or now is None else now / baseline
    row = {"option": "a", "dataset": "short", "load": "concurrency 1", "metric": metric, "ratio": ratio}
    wide = {"real": 1.1, "may be chance": 3.0}.get(change)
    low, high = (None, None) if wide is None else (ratio / wide, ratio * wide)
    return Difference(**row, baseline=baseline, now=now, ratio_low=low, ratio_high=high, change=change)


@pytest.mark.parametrize(
    ("rows", "holds", "words"),
    [
        ([difference()], True, "p95 latency of “a” on short at concurrency 1: 2.00 s against 1.00 s"),
        ([difference(now=0.5)], False, "none of 1 compared number"),
        ([difference(change="may be chance")], False, "none of 1 compared number"),
        ([difference("requests/s", now=0.5)], True, "requests/s of “a” on short at concurrency 1: 0.500 against 1.00"),
        ([difference(PRICE)], True, "$ per 1,000 requests of “a” on short at concurrency 1: $2.00 against $1.00"),
        ([difference("requests/s")], False, "none of 1"),
        ([difference(now=0.5), difference(change=None)], None, "“a” on short at concurrency 1: p95 latency"),
        ([difference(), difference(change=None)], True, "2.00 s against 1.00 s"),
        ([difference(now=0.5), difference(PRICE, None, None, None)], False, "none of 1 compared number"),
        ([difference(now=0.5), difference(PRICE, 1.0, None, None)], None, PRICE),
        ([difference("p95 latency", None, None, None)], None, "p95 latency"),
    ],
)
def test_a_regression_is_what_is_really_worse_and_what_is_unknown_fails(rows, holds, words, monkeypatch):
    monkeypatch.setattr("helpers.verdict.compare.require_baseline", lambda config: None)
    config = make_config(["a", "b"], parameters={"analyse_metrics": {"baseline_run_dir": "old"}})
    (gate,) = read_gates(["regression"], config)
    comparison = Comparison(baseline_run="old", recommended_before="a", recommended_now="a", rows=rows)
    (result,) = judge_gates([gate], CLEAR, comparison)
    assert (result.holds, words in result.because) == (holds, True), result
    lost = comparison.model_copy(update={"not_compared": ["“b” on short has no load in common"]})
    (result,) = judge_gates([gate], CLEAR, lost)
    assert (result.holds, "“b” on short" in result.because) == ((True, False) if holds else (None, True))
    (result,) = judge_gates([gate], CLEAR, None)
    assert result.holds is None


@pytest.mark.parametrize(
    ("condition", "rows", "holds", "words"),
    [
        ("regression > 80", [difference()], True, "more than 80% worse than in the baseline old: p95 latency"),
        ("regression > 90", [difference()], False, "is shown to be more than 90% worse"),
        ("regression > 80", [difference(), difference(now=1.0)], False, "none of 2 compared numbers"),
        ("regression > 60", [difference("requests/s", now=0.6)], False, "is shown to be"),
        ("regression > 50", [difference("requests/s", now=0.6)], True, "0.600 against 1.00"),
        ("possible_regression > 0", [difference(now=0.8)], False, "none of 1 compared number can be worse"),
        ("possible_regression > 0", [difference(now=1.0, change="may be chance")], True, "not excluded"),
        (
            "possible_regression > 201",
            [difference(now=1.0, change="may be chance")],
            False,
            "can be more than 201% worse",
        ),
        ("possible_regression > 11", [difference("requests/s", now=1.0)], False, "can be more than 11% worse"),
        ("possible_regression > 9", [difference("requests/s", now=1.0)], True, "more than 9% worse"),
        ("possible_regression > 5", [difference(now=0.5), difference(change=None)], None, "not all could be compared"),
    ],
)
def test_how_much_worse_is_judged_by_the_ends_of_an_interval(condition, rows, holds, words, monkeypatch):
    """Of several at once, which is why two of the same are farther from shown."""
    monkeypatch.setattr("helpers.verdict.compare.require_baseline", lambda config: None)
    config = make_config(["a", "b"], parameters={"analyse_metrics": {"baseline_run_dir": "old"}})
    comparison = Comparison(baseline_run="old", recommended_before="a", recommended_now="a", rows=rows)
    (result,) = judge_gates(read_gates([condition], config), CLEAR, comparison)
    assert (result.holds, words in result.because) == (holds, True), result


@pytest.mark.parametrize(
    "condition",
    [
        *("", "price > 3", "tied > 1", "undecided;", "recommended == a", "recommended != c", "__import__('os')"),
        *("usd_per_month >= 3", "usd_per_month > $(id)", "usd_per_month > nan", "usd_per_month > inf", "regression"),
        *("regression > 5", "possible_regression", "possible_regression > 5"),
    ],
)
def test_anything_else_is_refused(condition):
    with pytest.raises(ParameterError, match=r"--fail-if.*Expected .*Next: "):
        read_gates([condition], CONFIG)


def test_a_refusal_comes_before_the_run_and_lists_what_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", "s3cr3t")
    config = str(small_config(tmp_path))
    status, said = run_main("report", "--config", config, "--fail-if", "price > 1")
    assert status == 2
    assert ALLOWED in said and "A price needs its unit" in said
    gone = small_config(tmp_path, parameters={"analyse_metrics": {"baseline_run_dir": "no-such-run"}})
    status, said = run_main("report", "--config", str(gone), "--fail-if", "regression")
    assert status == 2 and "no-such-run" in said
    assert not (tmp_path / "runs").exists()


def test_the_guide_lists_every_exit_status_and_every_condition():
    listed = re.findall(r"^\| (\d+(?:, \d+)*) \|", RUNNING, re.MULTILINE)
    assert [int(one) for row in listed for one in row.split(", ")] == list(MEANINGS)
    for condition in ALLOWED.split(", "):
        assert f"`{condition}`" in RUNNING


def test_the_workflow_of_the_guide_is_valid_and_its_commands_exist():
    (text,) = re.findall(r"```yaml\n(name: .*?)```", RUNNING, re.DOTALL)
    workflow = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    targets = re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = [
        command for step in job["steps"] for command in re.findall(r"make [^;]*(?:\"[^\"]*\")?", step.get("run", ""))
    ]
    assert len(commands) == 4
    assert {command.split()[1] for command in commands} <= set(targets)
    (conditions,) = re.findall(r'FAIL_IF="([^"]*)"', text)
    config = make_config(["a"], parameters={"analyse_metrics": {"baseline_run_dir": "${BASELINE}"}})
    assert len(read_gates([conditions], config)) == 3
    assert all("uses" in step or "run" in step for step in job["steps"])


def test_make_hands_conditions_on_as_they_are():
    printed = subprocess.run(
        ["make", "-n", "report", "import", "FAIL_IF=tied; recommended != a"],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        check=True,
    )
    assert printed.stdout.count('--fail-if "$FAIL_IF"') == 2


# --- on the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("baseline")
    status, _ = run_main("import", "--config", files.write_two_options(folder, 0.4))
    assert status == 0
    return str(next((folder / "runs").iterdir()))


@pytest.mark.slow
def test_a_run_that_is_slower_than_its_baseline_ends_with_a_status_of_its_own(baseline, tmp_path):
    config = files.write_two_options(tmp_path, 0.5, parameters={"analyse_metrics": {"baseline_run_dir": baseline}})
    gates = (
        "--fail-if",
        "undecided; regression",
        "--fail-if",
        "recommended != slow",
        "--fail-if",
        "usd_per_month > 1e9",
    )
    status, said = run_main("import", "--config", config, *gates)
    last = said.splitlines()[-1]
    assert status == 7
    assert last.startswith("exit status 7: a gate failed: regression: holds: worse than in the baseline imported-")
    assert re.search(r"p90 latency of “fast” on short at concurrency 4: 7\d\d ms against 5\d\d ms; ", last)
    assert "recommended != slow: holds: “fast” is recommended" in last
    assert last.endswith("(the run itself: a verdict: “fast” is recommended)")
    assert "undecided" not in last and "Gate  undecided: does not hold: “fast” is recommended" in said
    assert "Gate  usd_per_month > 1e9: does not hold: “fast” takes $" in said


@pytest.mark.slow
def test_a_run_as_its_baseline_passes_and_one_that_lacks_an_option_of_it_does_not(baseline, tmp_path):
    parameters = {"analyse_metrics": {"baseline_run_dir": baseline}}
    config = files.write_two_options(tmp_path, 0.4, parameters=parameters)
    status, said = run_main("report", "--config", config, "--fail-if", "regression")
    assert status == 0
    assert "Gate  regression: does not hold: none of 6 compared numbers is shown to be worse" in said
    other = yaml.safe_load((tmp_path / "imported.yml").read_text())
    other["options"] = other["options"][:1]
    (tmp_path / "imported.yml").write_text(yaml.safe_dump(other))
    status, said = run_main("import", "--config", config, "--fail-if", "regression")
    assert status == 7
    assert "regression: is unknown, which fails: nothing is shown to be worse" in said.splitlines()[-1]
    assert "“slow” on short has no load in common" in said.splitlines()[-1]
