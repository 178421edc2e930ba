"""Two runs side by side: ratios and their intervals by hand, what is called real, and the section of the notebooks."""

import json
import math
import shutil

import pandas as pd
import papermill
import pytest
from examples import load_point, make_config

from helpers.errors import AnalysisError
from helpers.report.comparison_report import comparison_summary, comparison_table
from helpers.series.series import NOTEBOOK_DIR
from helpers.verdict.compare import Comparison, compare_points

pytestmark = pytest.mark.slow

CONFIG = make_config()


def compared(before, now, metric="requests/s"):
    """The row of one metric of one load point in both runs."""
    table = compare_points(pd.DataFrame([load_point(**now)]), pd.DataFrame([load_point(**before)]), CONFIG)
    return table.set_index("metric").loc[metric]


def test_a_ratio_and_its_interval_by_hand():
    """10 (9 to 11) before, 12 (10.8 to 13.2) now: each bound is as far away as both distances together, squared."""
    row = compared({"rate": 10}, {"rate": 12})
    below = math.hypot(math.log(12 / 10.8), math.log(11 / 10))
    above = math.hypot(math.log(13.2 / 12), math.log(10 / 9))
    assert (row["baseline"], row["now"], row["ratio"]) == (10, 12, pytest.approx(1.2))
    assert row["ratio_low"] == pytest.approx(1.2 * math.exp(-below))
    assert row["ratio_high"] == pytest.approx(1.2 * math.exp(above))


@pytest.mark.parametrize(
    ("rate", "change"), [(10, "may be chance"), (11.5, "may be chance"), (15, "real"), (6, "real")]
)
def test_a_difference_is_real_where_the_interval_leaves_one(rate, change):
    assert compared({"rate": 10}, {"rate": rate})["change"] == change


def test_among_many_comparisons_a_difference_must_be_clearer():
    """12.3 against 10 is outside a single 95% interval; among 60 comparisons it is not."""
    assert compared({"rate": 10}, {"rate": 12.3})["change"] == "real"
    points = [load_point(level=level, rate=10) for level in range(1, 21)]
    now = [load_point(level=level, rate=12.3 if level == 1 else 10) for level in range(1, 21)]
    table = compare_points(pd.DataFrame(now), pd.DataFrame(points), CONFIG)
    assert len(table) == 60
    assert table.iloc[1]["ratio_low"] > 1
    assert set(table["change"]) == {"may be chance"}


def test_what_has_no_interval_is_undecided():
    row = compared({"latency_s_p95_high": None}, {}, "p95 latency")
    assert row["ratio"] == 1.0
    assert row[["ratio_low", "ratio_high", "change"]].isna().all()


def test_runs_that_share_nothing_are_refused():
    with pytest.raises(AnalysisError, match="shares no load point"):
        compare_points(pd.DataFrame([load_point("a")]), pd.DataFrame([load_point("b")]), CONFIG)
    other = pd.DataFrame([load_point()]).drop(columns="latency_s_p95_low")
    with pytest.raises(AnalysisError, match=r"has no latency_s_p95.*Next: run"):
        compare_points(pd.DataFrame([load_point()]), other, CONFIG)


def comparison(before, now, rows=()):
    return Comparison(baseline_run="old", recommended_before=before, recommended_now=now, rows=list(rows))


def test_a_changed_recommendation_is_reported():
    assert "changed from “a” to “b”" in comparison_summary(comparison("a", "b")).markdown
    assert "changed from “a” to no option" in comparison_summary(comparison("a", None)).markdown
    assert "is the same: “a”" in comparison_summary(comparison("a", "a")).markdown
    assert comparison_summary(None) is comparison_table(None, CONFIG) is None


def run_notebook(name, finished, folder, **parameters):
    papermill.execute_notebook(
        str(NOTEBOOK_DIR / f"{name}.ipynb"),
        str(folder / f"{name}.ipynb"),
        parameters={"config_path": str(finished.config_path), "run_dir": str(finished.run.path), **parameters},
        cwd=str(NOTEBOOK_DIR),
        progress_bar=False,
    )


def test_the_notebooks_compare_a_run_with_a_slower_baseline(run_copy, tmp_path):
    """The baseline is the same run with every latency doubled: each latency is half of what it was, for real."""
    baseline = tmp_path / "baseline"
    shutil.copytree(run_copy.run.path, baseline)
    table = baseline / "metrics" / "load_points.csv"
    points = pd.read_csv(table)
    columns = [column for column in points if column.startswith("latency_s_p")]
    points[columns] *= 2
    points.to_csv(table, index=False)
    run_notebook("04_analyse_metrics", run_copy, tmp_path, baseline_run_dir=str(baseline), explore=False)
    run_notebook("05_report", run_copy, tmp_path)
    kept = Comparison.model_validate(json.loads((run_copy.run.metrics / "comparison.json").read_text()))
    latencies = [row for row in kept.rows if row.metric == "p75 latency"]
    assert len(latencies) == 8
    assert all(row.ratio == pytest.approx(0.5) for row in latencies)
    others = [row for row in kept.rows if row.metric != "p75 latency"]
    assert all(row.ratio == 1 and row.change == "may be chance" for row in others)
    report = (run_copy.run.path / "report.md").read_text(encoding="utf-8")
    assert "Against the baseline run `baseline`" in report
    assert "The recommendation is the same" in report
