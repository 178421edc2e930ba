"""What only an engineer reads: the warnings in the order of what they mean, what ran, and how to compute it all again."""

import pytest
from examples import endpoint, facts, load_point, make_config, write_run

from helpers.report.deployment_report import deployments_table
from helpers.report.how_measured import how_to_recompute, table_files
from helpers.report.warning_report import warning_list
from helpers.run import folder
from helpers.run.folder import RunFolder
from helpers.run.report_warning import MAY_CHANGE_THE_OPTION, TO_KNOW, WIDENS, ReportWarning
from helpers.verdict.judging import judge

DIGEST = f"sha256:{'ab' * 32}"


def listed(*warnings):
    import pandas as pd

    points = pd.DataFrame([load_point("a"), load_point("a b")])
    return warning_list(
        judge(points, [endpoint("a"), endpoint("a b")], warnings, make_config(["a", "a b"]), "r")
    ).markdown


def test_warnings_are_numbered_through_under_what_they_mean_for_the_verdict():
    lines = listed(
        ReportWarning(kind="old_price", message="Old."),
        ReportWarning(kind="trend", message="Drifts.", rows=["a"]),
        ReportWarning(kind="unheard_of", message="New."),
        ReportWarning(kind="moved", message="Moved."),
    ).split("\n\n")
    assert lines == [
        f"{MAY_CHANGE_THE_OPTION}:",
        "1. **Moved.**",
        f"{WIDENS}:",
        "2. **Drifts.**\n    * a",
        f"{TO_KNOW}:",
        "3. **Old.**\n4. **New.**",
    ]
    assert listed() == "Every check passed: there is no warning."


def test_of_many_rows_the_first_are_shown_and_the_others_counted_by_option():
    rows = [f"a, short, concurrency {c}" for c in range(5)] + [f"a b, short, concurrency {c}" for c in range(4)]
    shown = listed(ReportWarning(kind="trend", message="Drifts.", rows=rows))
    assert shown.endswith("    * and 6 more: 2 of a, 4 of a b (all: verdict.json, warnings)")
    assert shown.count("    * ") == 4


def test_the_digest_of_an_image_is_shown_where_any_is_known():
    assert "image digest" not in [column.header for column in deployments_table([endpoint("a")]).columns]
    table = deployments_table([endpoint("a", image="vllm:1", image_digest=DIGEST), endpoint("b")])
    digests = [row[[column.header for column in table.columns].index("image digest")] for row in table.cells()]
    assert digests == [DIGEST, "–"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.report.how_measured.LOCAL_ROOT", tmp_path)
    return RunFolder(tmp_path / "mine-20260101-000000")


def test_a_finished_run_is_computed_again_without_a_server(run):
    write_run(run.requests, [], [facts(repetition=1)])
    assert how_to_recompute(run, make_config()).markdown == (
        "To compute this verdict again from the request records: `make report RUN=mine-20260101-000000`. It needs no server, and "
        "sends no request."
    )


def test_an_unfinished_run_says_that_it_measures_first(run):
    write_run(run.requests, [], [facts(repetition=1)])
    assert how_to_recompute(run, make_config(["a", "b"])).markdown == (
        "`make report RUN=mine-20260101-000000` first measures what is missing of “b”, and then computes this verdict again from "
        "all request records."
    )


def test_a_run_elsewhere_is_named_by_its_folder(run, monkeypatch):
    monkeypatch.setattr("helpers.report.how_measured.LOCAL_ROOT", folder.LOCAL_ROOT)
    assert f"`make report RUN={run.path}`" in how_to_recompute(run, make_config()).markdown


def test_the_tables_as_files_are_linked():
    assert "[tables/tables.xlsx](tables/tables.xlsx)" in table_files().markdown
