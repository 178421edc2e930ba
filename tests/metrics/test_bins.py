"""Bins of context length: each is a part of its dataset, and has to meet the SLO by itself."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import endpoint, facts, make_config, request, summarise_load_points, write_run

from helpers.load.plan import asked_of, attempts_of
from helpers.metrics.parts import read_parts
from helpers.report.bottom_line_text import bottom_line
from helpers.report.feasible_report import feasible_set
from helpers.report.report import load_point_table
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import METADATA_KEY
from helpers.verdict.judging import judge
from helpers.verdict.open_points import open_because
from helpers.verdict.what_if import Outcome

BINS = [{"name": "early", "prompt_tokens": [1, 200]}, {"name": "late", "prompt_tokens": [200, 500]}]
PROMPTS = {"source": {"kind": "jsonl", "path": "c.jsonl"}, "conversations": {"think_time_s": 1}}


def bins_config(bins=BINS, **slo):
    return make_config(datasets=[{"bins": bins}], load={"concurrency": [4]}, prompts=PROMPTS, slo=slo)


def measured(folder, latencies: dict[str, float], counts: dict[str, int], config):
    """Turns one after the other, those of the bins spread evenly; each takes the latency of its bin and up to 20% more."""
    rng, rows = np.random.default_rng(1), []
    bins = sorted((i / n, name) for name, n in counts.items() for i in range(n))
    for i, (_, name) in enumerate(bins):
        took = latencies[name] * (1 + 0.2 * rng.random())
        row = request(i * 0.025, took, took / 2, level=4.0, part=name, turn=1 + (name == "late"), session_id=f"s{i}")
        rows.append(row | {"prompt_id": f"p{i}-turn1"})
    windows = [facts(level=4.0, load_kind="users", close_s=len(rows) * 0.025)]
    write_run(folder, rows, windows)
    return summarise_load_points(folder, windows, [endpoint()], config), windows


def judged(points, config):
    return judge(points, [endpoint()], [], config, "run")


def test_a_bin_that_misses_its_limit_makes_the_option_infeasible_though_all_turns_together_meet_it(tmp_path):
    config = bins_config(latency_s=1, percentile=75)
    latencies, counts = {"early": 0.1, "late": 1.2}, {"early": 320, "late": 80}
    points, _ = measured(tmp_path, latencies, counts, config)
    assert points.iloc[0]["slo"] == "missed" and points.iloc[0]["part_latency_s"] == "late"
    (option,) = judged(points, config).options
    assert option.status == "infeasible" and "p75 latency of its part late 1." in option.reason
    together, _ = measured(tmp_path, latencies, counts, bins_config(None, latency_s=1, percentile=75))
    assert together.iloc[0]["slo"] == "met" and "part_latency_s" not in together


def test_bins_that_all_meet_it_make_it_met_and_the_slo_says_so(tmp_path):
    config = bins_config(latency_s=1)
    points, _ = measured(tmp_path, {"early": 0.1, "late": 0.5}, {"early": 150, "late": 100}, config)
    verdict = judged(points, config)
    assert verdict.options[0].status == "recommended"
    assert "in each bin of context length" in str(bottom_line(verdict, config).markdown)
    two = make_config(
        datasets=[{"bins": BINS}, "plain"], load={"concurrency": [4]}, prompts=PROMPTS, slo={"latency_s": 1}
    )
    feasible = {
        name: feasible_set(Outcome(one, points, [endpoint()], verdict), "latency_s", verdict.cost_basis).caption
        for name, one in (("one", config), ("two", two))
    }
    for caption in (load_point_table(points, config).caption, feasible["one"]):
        assert "of the bin of context length that comes off worst" in caption
    assert "percentiles of a dataset with bins are" in load_point_table(points, config).caption
    assert "slowest dataset, where it has bins in the bin of context length that comes off worst" in feasible["two"]


@pytest.mark.parametrize(("late", "lacking"), [(12, True), (0, False)])
def test_a_bin_with_too_few_turns_or_none_is_unknown_and_not_met(tmp_path, late, lacking):
    config = bins_config(latency_s=1)
    points, windows = measured(tmp_path, {"early": 0.1, "late": 0.8}, {"early": 300, "late": late}, config)
    row = points.iloc[0]
    assert row["slo"] == "undecided" and row["part_latency_s"] == "late" and pd.isna(row["latency_s_p95"])
    said = open_because(row, config)
    assert "p95 latency of its part late unknown" in said
    assert ("more requests like these would show it" in said) == lacking
    assert ("no number of such requests would show it" in said) != lacking
    verdict = judged(points, config)
    assert verdict.options[0].status == "undecided" and verdict.recommended is None
    assert bool(row["estimates_within_slo"]) == lacking, "of a bin without turns there is no estimate"
    assert "unknown on late at 4 users" in str(bottom_line(verdict, config).markdown) or not lacking
    parts = read_parts(tmp_path, windows, config)
    assert parts[["part", "n"]].to_numpy().tolist() == [["early", 300], ["late", late]]
    assert parts["share"].sum() == 1 and pd.isna(parts["latency_s_p95"].iloc[1])


def test_a_window_waits_for_what_its_rarest_bin_is_planned_to_need(tmp_path):
    config, run = bins_config(percentile=95), RunFolder(tmp_path)
    (option,) = config.options
    (attempt,) = attempts_of(option, config, run)
    assert asked_of(attempt, option, config, run).fewest_independent == 59
    run.folder("payloads")
    about = {METADATA_KEY: json.dumps({"turns_of_bins": {"early": 300, "late": 100}})}
    pq.write_table(pa.table({"prompt_id": ["p"]}).replace_schema_metadata(about), run.payloads / "short.parquet")
    assert asked_of(attempt, option, config, run).fewest_independent == 236
