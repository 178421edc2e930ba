"""Two runs side by side: which differences are real.

The interval of a ratio of two independent measurements follows from their two intervals on the logarithmic scale: the
distances from estimate to bound add as squares (Zou and Donner 2008, "MOVER"). Because many ratios are compared, one is called
real only if it is so after Bonferroni's correction: at most one comparison in twenty shows a false difference.
"""

from __future__ import annotations

import json
import math

import pandas as pd
from pydantic import BaseModel, ConfigDict

from helpers.config.benchmark import PROJECT_ROOT, BenchmarkConfig
from helpers.config.yaml import expanded
from helpers.errors import AnalysisError
from helpers.metrics.intervals import CONFIDENCE, least_difference
from helpers.number_text import dollars, duration, significant
from helpers.run.folder import LOCAL_ROOT, RunFolder, find_run, write_atomically
from helpers.run.remote import is_remote
from helpers.verdict.analysis import POINTS_FILE, read_points
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.verdict import Estimate, Verdict

KEYS = ["option", "dataset", "load"]
COMPARISON_FILE = "comparison.json"
REAL, CHANCE = "real", "may be chance"
THROUGHPUT, PRICE = "requests/s", "$ per 1,000 requests"
"""Compared metrics: of the first more is better, of all others less."""


class Difference(BaseModel):
    """One metric of one load point in both runs. The ratio is now / baseline; unknown is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    option: str
    dataset: str
    load: str
    metric: str
    baseline: float | None
    now: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    change: str | None
    """`real` or `may be chance`; None where an interval is unknown."""

    @property
    def is_worse(self) -> bool:
        """True where the difference is real, and in the wrong direction."""
        return self.change == REAL and (self.ratio < 1 if self.metric == THROUGHPUT else self.ratio > 1)

    def worse_by(self, tests: int) -> tuple[float, float] | None:
        """By which share it became worse, at least and at most: 0.1 is 10%, less than 0 better; None where that is unknown.

        The bounds hold for `tests` metrics at once, as `change` does.
        """
        if self.change is None:
            return None
        ratios = [self.ratio * (bound / self.ratio) ** _widening(tests) for bound in (self.ratio_low, self.ratio_high)]
        least, most = sorted(1 / one if self.metric == THROUGHPUT else one for one in ratios)
        return least - 1, most - 1

    @property
    def is_without_price(self) -> bool:
        """True for the price where neither run knows one, so that there is nothing to compare."""
        return self.metric == PRICE and self.baseline is None and self.now is None

    def in_words(self) -> str:
        """The metric, its place and both values."""
        write = {THROUGHPUT: significant, PRICE: dollars}.get(self.metric, duration)
        return f"{self.metric} of {self.where()}: {write(self.now)} against {write(self.baseline)}"

    def where(self) -> str:
        """The load point."""
        return f"“{self.option}” on {self.dataset} at {self.load}"


class Comparison(BaseModel):
    """This run next to a baseline run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    baseline_run: str
    recommended_before: str | None
    recommended_now: str | None
    rows: list[Difference]
    not_compared: list[str] = []
    """What the baseline measured and this run did not at any load in common: an option on a dataset, in words."""


def compared_columns(config: BenchmarkConfig) -> dict[str, str]:
    """Compared column -> its name in words: latency at the SLO's percentile, throughput and price."""
    latency = f"{main_latency(config)}_p{config.slo.percentile:g}"
    return {
        latency: f"p{config.slo.percentile:g} {main_latency(config).removesuffix('_s')}",
        "served_requests_per_s": THROUGHPUT,
        "usd_per_1k_requests": PRICE,
    }


def compare_points(now: pd.DataFrame, baseline: pd.DataFrame, config: BenchmarkConfig) -> pd.DataFrame:
    """One row per load point that both runs measured and per compared column.

    Columns: option, dataset, load, metric, baseline, now, ratio (now / baseline) with its 95% interval, `change`
    (REAL or CHANCE; None where an interval is unknown). Raises AnalysisError where nothing matches.
    """
    columns = compared_columns(config)
    for which, points in (("the baseline run", baseline), ("this run", now)):
        lacking = [c for c in columns if c not in points or f"{c}_low" not in points]
        if lacking:
            raise AnalysisError(
                f"{which} has no {', '.join(lacking)}: it was judged with another SLO percentile or release. Next: run "
                "04_analyse_metrics on it with this config's slo"
            )
    both = now.merge(baseline, on=KEYS, suffixes=("", "_before"))
    if both.empty:
        raise AnalysisError(
            "the baseline run shares no load point (option, dataset and load) with this run. Next: give a "
            "baseline_run_dir of a run with the same names"
        )
    tests = len(both) * len(columns)
    rows = [_compared(row, column, name, tests) for row in both.to_dict("records") for column, name in columns.items()]
    return pd.DataFrame(rows)


def _compared(row: dict, column: str, name: str, tests: int) -> dict:
    before, after = row[f"{column}_before"], row[column]
    known = all(_is_positive(value) for value in (before, after))
    ratio = after / before if known else None
    low, high = ratio_interval(row, column) if known else (None, None)
    wide_low, wide_high = ratio_interval(row, column, _widening(tests)) if known else (None, None)
    change = None if wide_low is None else REAL if wide_low > 1 or wide_high < 1 else CHANCE
    found = {"metric": name, "baseline": before, "now": after, "ratio": ratio, "ratio_low": low, "ratio_high": high}
    return {key: row[key] for key in KEYS} | found | {"change": change}


def ratio_interval(row: dict, column: str, widening: float = 1.0) -> tuple[float | None, float | None]:
    """Interval of `<column>` / `<column>_before`, both with `_low` and `_high` (of the earlier: `<column>_low_before`); the
    distances to the bounds are multiplied by `widening`.
    """
    values = [row[f"{column}{bound}{run}"] for run in ("", "_before") for bound in ("", "_low", "_high")]
    if not all(_is_positive(value) for value in values):
        return None, None
    logs = [math.log(value) for value in values]
    now, before = (Estimate(value=value, low=low, high=high) for value, low, high in (logs[:3], logs[3:]))
    least, most = least_difference(now, before, widening), -least_difference(before, now, widening)
    return math.exp(least), math.exp(most)


def _widening(tests: int) -> float:
    """By how much an interval widens so that `tests` of them hold together, for normally distributed logarithms."""
    from scipy import special

    tail = (1 - CONFIDENCE) / 2
    return float(special.ndtri(1 - tail / tests) / special.ndtri(1 - tail))


def _is_positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


# --- in a run folder ----------------------------------------------------------------------------------------------


def compare_with(
    baseline_run_dir: str, points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig, run: RunFolder
) -> Comparison | None:
    """Compare this run with a baseline run and save the comparison for the report; None where no baseline is given.

    Raises RunFolderError if the baseline is not a run, or was not analysed.
    """
    if not baseline_run_dir:
        return None
    baseline = find_run(baseline_run_dir)
    points_before = read_points(baseline)
    table = compare_points(points, points_before, config)
    judged = baseline.path / "verdict.json"
    before = json.loads(judged.read_text(encoding="utf-8"))["recommended"] if judged.is_file() else None
    comparison = compared(table, points_before, baseline.run_id, before, verdict.recommended)
    write_atomically(run.metrics / COMPARISON_FILE, comparison.model_dump_json(indent=1) + "\n")
    return comparison


def compared(
    table: pd.DataFrame, points_before: pd.DataFrame, baseline_run: str, before: str | None, now: str | None
) -> Comparison:
    """What `compare_points` found, with the recommendations of both runs."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return Comparison(
        baseline_run=baseline_run,
        recommended_before=before,
        recommended_now=now,
        rows=[Difference.model_validate(row) for row in rows],
        not_compared=_not_compared(points_before, table),
    )


def _not_compared(points_before: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    both = [frozenset(map(tuple, each[["option", "dataset"]].to_numpy())) for each in (points_before, table)]
    return [f"“{option}” on {dataset} has no load in common" for option, dataset in sorted(both[0] - both[1])]


def baseline_of(config: BenchmarkConfig) -> str:
    """The baseline run that a config gives to notebook 04; empty where it gives none."""
    return str(config.parameters.get("analyse_metrics", {}).get("baseline_run_dir") or "")


def require_baseline(config: BenchmarkConfig) -> None:
    """Find the config's baseline run and its results, from where notebook 04 will look for it. Raises RunFolderError."""
    where = baseline_of(config)
    if "${" in where:  # the notebook's own to expand
        return
    if not is_remote(where):
        beside_notebooks = PROJECT_ROOT / "notebooks" / expanded(where)
        where = str(beside_notebooks if (beside_notebooks / "run.json").is_file() else LOCAL_ROOT / where)
    find_run(where).require(f"metrics/{POINTS_FILE}", "04_analyse_metrics")


def read_comparison(run: RunFolder) -> Comparison | None:
    """The comparison that notebook 04 saved; None if it had no baseline."""
    path = run.metrics / COMPARISON_FILE
    return Comparison.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None
