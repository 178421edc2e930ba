"""Load points of a mix: planted latencies come out per part, and each part has to meet the SLO."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from examples import endpoint, facts, make_config, request, summarise_load_points, write_run

from helpers.load.plan import asked_of, attempts_of
from helpers.metrics.formulas import with_latencies
from helpers.metrics.intervals import share_bounds
from helpers.metrics.looks import AS_ASKED
from helpers.metrics.mix import latencies_of
from helpers.metrics.parts import read_parts
from helpers.metrics.single_requests import single_requests_file, with_limits
from helpers.report.bottom_line_text import bottom_line
from helpers.run.folder import RunFolder
from helpers.run.records import SCHEMA
from helpers.verdict.judging import judge
from helpers.verdict.load_point_checks import check_load_points
from helpers.verdict.open_words import not_met_because, open_because

DATASETS = [{"name": "short", "prompt_tokens": [1, 300]}, {"name": "long", "prompt_tokens": [600, 900]}]


def mix_config(mix=True, **slo):
    return make_config(
        datasets=DATASETS,
        load={"mix": mix, "concurrency": [4]},
        slo=slo,
        traffic={"mix": {"short": 0.8, "long": 0.2}},
    )


def planted(latencies: dict[str, float], n=400, fails=lambda part, i: False, dataset="mixed", seed=1, **changes):
    """Requests one after the other, every fifth long; each takes the latency of its part and up to 20% more."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        part = dataset if dataset != "mixed" else "long" if i % 5 == 4 else "short"
        took = None if fails(part, i) else latencies[part] * (1 + 0.2 * rng.random())
        row = request(i * 0.025, took, took and took / 2, dataset=dataset, **{"level": 4.0} | changes)
        rows.append(row | {"part": part if dataset == "mixed" else None})
    return rows


def points_of(folder, config, *loads):
    rows = [row for load in loads for row in load]
    windows = [facts(dataset=load[0]["dataset"], level=load[0]["level"], close_s=len(load) * 0.025) for load in loads]
    write_run(folder, rows, windows)
    return summarise_load_points(folder, windows, [endpoint()], config), windows


def judged(points, config):
    return judge(points, [endpoint()], [], config, "run")


def verdict_of(points, config):
    return judged(points, config).options[0]


def test_the_percentiles_are_those_of_the_worst_part_and_the_rates_those_of_the_whole(tmp_path):
    config = mix_config(latency_s=1)
    points, _ = points_of(tmp_path, config, planted({"short": 0.1, "long": 0.5}))
    row = points.iloc[0]
    assert row["slo"] == "met" and row["part_latency_s"] == row["part_ttft_s"] == "long"
    assert 0.5 <= row["latency_s_p50"] <= row["latency_s_p95"] <= 0.6 and row["latency_s_n"] == 80
    assert row["n"] == 400 and row["requests_per_s"] == pytest.approx(40)
    assert row["latency_s_mean_ok"] == pytest.approx(0.8 * 0.11 + 0.2 * 0.55, rel=0.02), "the mean is that of all"
    assert row["usd_per_1k_requests"] == pytest.approx(3.6 / 3600 / 40 * 1000)
    assert verdict_of(points, config).status == "recommended"


@pytest.mark.parametrize("slow", ["short", "long"])
def test_a_part_that_misses_its_limit_makes_the_option_infeasible_and_is_named(tmp_path, slow):
    """Of all requests together fewer than 5% would be beyond the limit if the long ones missed it by chance alone."""
    config = mix_config(latency_s=1, percentile=75)
    latencies = {"short": 0.1, "long": 0.1} | {slow: 1.2}
    points, _ = points_of(tmp_path, config, planted(latencies))
    assert points.iloc[0]["slo"] == "missed" and not points.iloc[0]["estimates_within_slo"]
    option = verdict_of(points, config)
    assert option.status == "infeasible"
    assert f"p75 latency of its part {slow} 1." in option.reason and "on mixed" in option.reason
    if slow == "long":
        together = np.sort([row["done_ns"] - row["sent_ns"] for row in planted(latencies)])
        assert np.quantile(together, 0.75) < 1e9, "pooled, the percentile is within the limit"


def test_a_part_with_too_few_requests_is_undecided_whatever_the_others_show(tmp_path):
    config = mix_config(latency_s=1)
    points, _ = points_of(tmp_path, config, planted({"short": 0.1, "long": 0.8}, n=60))
    row = points.iloc[0]
    assert row["slo"] == "undecided" and row["part_latency_s"] == "long"
    assert row["latency_s_p95"] is None, "12 requests show no p95"
    said = open_because(row, config)
    assert "of its part long unknown" in said
    lacking, effect = row["lacking_latency_s"], row["limit_effect_latency_s"]
    assert lacking == pytest.approx(5 * (59 * effect - 12), abs=5), "59 long ones show p95, and every fifth is long"
    option = verdict_of(points, config)
    assert option.status == "undecided"


def test_the_part_that_is_not_shown_speaks_even_where_another_is_slower(tmp_path):
    """120 short ones show p95 just below the limit; 30 long ones are faster, and too few and too unlike to show it."""
    config, rng = mix_config(latency_s=1), np.random.default_rng(5)
    rows = []
    for i in range(150):
        part = "long" if i % 5 == 4 else "short"
        took = rng.uniform(0.2, 0.85) if part == "long" else rng.uniform(0.9, 0.99)
        rows.append(request(i * 0.025, took, dataset="mixed", level=4.0) | {"part": part})
    points, _ = points_of(tmp_path, config, rows)
    row = points.iloc[0]
    assert row["slo"] == "undecided" and row["estimates_within_slo"]
    assert (
        row["part_latency_s"] == "long" and row["latency_s_p95"] < 0.86 < row["ttft_s_p95"] and row["latency_s_n"] == 30
    )
    option = verdict_of(points, config)
    assert option.is_estimate and [limit.part for limit in option.open_limits] == ["long"]
    assert "on long at concurrency 4" in str(bottom_line(judged(points, config), config).markdown)


def test_failures_are_pooled_unless_one_part_fails_more_than_the_others(tmp_path):
    config = mix_config(latency_s=1, error_rate=0.05, percentile=75)
    fast = {"short": 0.1, "long": 0.1}
    alike, _ = points_of(tmp_path / "alike", config, planted(fast, fails=lambda _, i: i % 50 in (4, 7)))
    row = alike.iloc[0]
    assert row["part_error_rate"] is None and row["failures"] == 16 and row["slo_error_rate"] != "missed"
    of_long, _ = points_of(tmp_path / "long", config, planted(fast, fails=lambda _, i: i % 25 == 4))
    row = of_long.iloc[0]
    assert row["failures"] == 16 and row["error_rate"] == 0.04, "within the limit, all together"
    assert row["part_error_rate"] == "long" and row["slo_error_rate"] == row["slo"] == "missed"
    assert "16 of 80 requests of its part long failed" in not_met_because(row, config)
    assert not row["estimates_within_slo"]
    others = planted(fast, n=600, seed=2, level=2.0, fails=lambda _, i: i % 40 == 3 or i % 200 == 9)
    both, _ = points_of(tmp_path / "both", config, planted(fast, fails=lambda _, i: i % 25 == 4), others)
    assert both.set_index("level")["slo_error_rate"].to_dict() == {2.0: "met", 4.0: "missed"}


def test_what_is_sent_alone_takes_no_part_in_the_verdict(tmp_path):
    config = mix_config({"alone": True}, latency_s=1, error_rate=0.05)
    mix = planted({"short": 0.1, "long": 0.5})
    alone = planted({"long": 3.0}, dataset="long", fails=lambda _, i: i % 10 == 0)
    both, windows = points_of(tmp_path / "both", config, mix, alone)
    only, _ = points_of(tmp_path / "only", config, mix)
    assert both["dataset"].tolist() == ["mixed", "long"] and both["slo"].tolist() == ["met", "missed"]
    assert verdict_of(both, config) == verdict_of(only, config)
    assert verdict_of(both, config).status == "recommended"
    few = planted({"short": 0.1, "long": 0.1}, n=60, fails=lambda _, i: i in (20, 41))
    sure = planted({"long": 0.1}, n=1000, dataset="long", fails=lambda _, i: i % 50 == 7)
    few_alone, _ = points_of(tmp_path / "few", config, few, sure)
    assert few_alone["slo_error_rate"].tolist() == ["undecided", "met"], (
        "failures alone are not pooled with those of the mix"
    )
    parts = read_parts(tmp_path / "both", windows, config)
    found = {(row["part"], row["is_alone"]): row for row in parts.to_dict("records")}
    assert list(found) == [("short", False), ("long", True), ("long", False)]
    assert found["long", False]["n"] == 80 and found["long", False]["share"] == 0.2
    assert 0.5 <= found["long", False]["latency_s_p95"] <= 0.6 and 0.1 <= found["short", False]["latency_s_p95"] <= 0.12
    assert math.isinf(found["long", True]["latency_s_p95"]), "10% of them failed"
    assert 0.05 <= found["short", False]["ttft_s_p50"] <= 0.06


def test_records_without_parts_are_summarised_as_before(tmp_path):
    config = make_config(slo={"latency_s": 1}, load={"concurrency": [4]})
    points, _ = points_of(tmp_path, config, planted({"short": 0.1}, dataset="short"))
    assert not [column for column in points if column.startswith("part_")]


def test_a_limit_that_follows_the_machine_follows_the_slowest_part(tmp_path):
    config = mix_config(latency_s={"times_single_request": 4})
    for name, took in (("short", 0.1), ("long", 0.5)):
        rows = [request(i, took, dataset=name) for i in range(5)]
        windows = [facts(dataset=name, close_s=5)]
        (written,) = write_run(tmp_path / "written" / name, rows, windows).glob("*.parquet")
        path = single_requests_file("a", name, RunFolder(tmp_path))
        path.parent.mkdir(exist_ok=True)
        written.rename(path)
    assert with_limits(config, RunFolder(tmp_path)).slo.latency_s == 2.0


def test_a_window_waits_for_what_its_rarest_part_needs(tmp_path):
    config, run = mix_config({"alone": True}, percentile=95), RunFolder(tmp_path)
    (option,) = config.options
    needed = {a.dataset: asked_of(a, option, config, run).fewest_independent for a in attempts_of(option, config, run)}
    assert needed == {"mixed": 295, "short": 59, "long": 59}


def test_doubts_about_what_is_sent_alone_are_none_about_the_verdict(tmp_path):
    config = mix_config({"alone": True}, latency_s=1)
    points, windows = points_of(tmp_path, config, planted({"short": 0.1, "long": 0.2}))
    unsure = {"steady": False, "steady_because": "latency has a trend: drift +30%", "level": 4.0}

    def kinds(*more):
        found = check_load_points(points, [*windows, *more], config)
        return {warning.kind for warning in found} - {"concurrency"}  # planted one after the other

    assert kinds() == set()
    few, _ = points_of(tmp_path / "few", config, planted({"short": 0.1, "long": 0.83}, n=100))
    (warning,) = (w for w in check_load_points(few, [], config) if w.kind == "few_samples")
    assert "Fewer than the 295 requests" in warning.message, "59 of them are to be long ones"
    assert kinds(facts(dataset="short", **unsure)) == {"doubtful_alone"}
    assert kinds(facts(dataset="long", client_limited=["its processes were busy"])) == {"doubtful_alone"}
    assert kinds(facts(dataset="mixed", **unsure)) == {"trend"}


def test_that_any_part_misses_errs_no_more_often_than_one_would(tmp_path):
    """Of 40 requests of a part 15 are beyond the limit: enough to show it of one part at 95%, and not of one of two."""
    assert share_bounds(16, 40, 0.95).low > 0.25 >= share_bounds(16, 40, 0.975).low
    rng = np.random.default_rng(2)
    here = pd.DataFrame([request(i * 0.1, 0.1, part="long" if i % 5 == 4 else "short") for i in range(200)])
    of_long = here.index[here["part"] == "long"]
    slow = rng.permutation(of_long)[:16]
    here.loc[slow, "last_token_ns"] += 2_000_000_000
    columns = {"scheduled_ns": pd.NA, "repetition": 1}
    here = with_latencies(here.assign(**{**dict.fromkeys(SCHEMA.names), **here, **columns}).convert_dtypes())
    slo = mix_config(latency_s=1, percentile=75).slo
    alone = latencies_of(here[here["part"] == "long"].assign(part=None), is_open=False, sure=AS_ASKED)
    mixed = latencies_of(here, is_open=False, sure=AS_ASKED)
    states = [one.slo_columns(slo, True, False)["slo_latency_s"] for one in (alone, mixed)]
    assert states == ["missed", "undecided"]
