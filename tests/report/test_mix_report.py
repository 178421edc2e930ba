"""The report of a mix, from planted records: each part alone and beside the others, and what is said of it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from examples import endpoint, facts, make_config, request, summarise_load_points, write_run
from sentence_numbers import Known, unaccounted

from helpers.metrics.parts import read_parts
from helpers.report.bottom_line_text import bottom_line
from helpers.report.cost_report import cost_table
from helpers.report.figures import draw_figures
from helpers.report.load_report import recommendations
from helpers.report.mix_report import mix_table
from helpers.report.report import load_point_table
from helpers.run.folder import RunFolder
from helpers.verdict.analysis import POINTS_FILE, SAMPLE_KEYS, SAMPLED, Measurements, read_points
from helpers.verdict.judging import judge

DATASETS = [{"name": "short", "prompt_tokens": [1, 300]}, {"name": "long", "prompt_tokens": [600, 900]}]
ALONE = {"short": 0.1, "long": 0.5}
SHARES = {"short": 0.8, "long": 0.2}


def mix_config(mix):
    return make_config(
        datasets=DATASETS,
        load={"mix": mix, "concurrency": [2, 4]},
        slo={"latency_s": 1, "percentile": 90},
        traffic={"mix": SHARES},
    )


def written(folder, beside: dict[str, float], alone: bool = True):
    """A run whose parts take `beside` in the mix and ALONE by themselves, twice as long at concurrency 4, and up to 20% more."""
    rows, windows = [], []
    for level in (2.0, 4.0):
        for dataset in ["mixed", *(ALONE if alone else ())]:
            for i in range(300):
                part = dataset if dataset != "mixed" else "long" if i % 5 == 4 else "short"
                took = (beside if dataset == "mixed" else ALONE)[part] * level / 2 * (1 + (i * 37 % 100) / 500)
                row = request(i * 0.05, took, took / 2, dataset=dataset, level=level)
                rows.append(row | {"part": part if dataset == "mixed" else None})
            windows.append(facts(dataset=dataset, level=level, close_s=15.0))
    write_run(folder / "requests", rows, windows)
    return RunFolder(folder), windows


def reported(folder, beside, mix):
    config = mix_config(mix)
    run, windows = written(folder, beside, alone=mix is not True)
    points = summarise_load_points(run.requests, windows, [endpoint()], config)
    verdict = judge(points, [endpoint()], [], config, "run")
    known = Known(
        json.loads(verdict.model_dump_json()),
        points[points["dataset"] == "mixed"],
        {},
        {
            "slo": config.slo.model_dump(),
            "traffic": config.traffic.model_dump(),
            "datasets": ["mixed", *ALONE],
        },
        facts=windows,
        of_parts=read_parts(run.requests, windows, config),
    )
    return run, config, points, verdict, known


def test_each_part_stands_alone_and_beside_the_others_and_the_sentence_holds(tmp_path):
    run, config, points, verdict, known = reported(tmp_path, {"short": 0.3, "long": 0.45}, {"alone": True})
    table = mix_table(run, verdict, config)
    assert table.rows["part"].tolist() == ["short", "short", "long", "long"] * 2
    assert table.rows["how"].tolist() == ["alone", "in the mix"] * 4
    assert table.rows["n"].tolist() == [300, 240, 300, 60] * 2
    mixed = table.rows[table.rows["how"] == "in the mix"]
    assert mixed["share"].tolist() == [80, 20] * 2
    assert table.rows["latency_s_p90"].tolist()[4:6] == pytest.approx([0.2 * 1.18, 0.6 * 1.18], rel=0.02)
    assert table.rows["ttft_s_p90"].tolist()[4:6] == pytest.approx([0.1 * 1.18, 0.3 * 1.18], rel=0.02)
    assert "80.0% short and 20.0% long" in table.caption
    assert "Of “a” at concurrency 4, the p90 latency of short is 236 ms alone" in table.reading
    assert "beside long: 3.0 times as long (95% interval" in table.reading
    for said in (table.reading, bottom_line(verdict, config).markdown, *_recommended(points, verdict, config)):
        for line in str(said).replace("\\", "").splitlines():
            assert not unaccounted(line, known), line
    samples = pd.DataFrame({name: [] for name in (*SAMPLED, *SAMPLE_KEYS)})
    measured = Measurements(points, samples, known.facts, [endpoint()], [], pd.DataFrame())
    figures = draw_figures(measured, verdict, config, run)
    assert "1 of 2 load points" in figures["price_performance"].caption, "not those of what was sent alone"
    assert set(cost_table(points, verdict, config).rows["dataset"]) == {"mixed"}
    wrong = table.reading.replace("3.0 times", "3.1 times")
    with pytest.raises(AssertionError):
        unaccounted(wrong, known)
    assert "in each part of the mix" in str(bottom_line(verdict, config).markdown)
    assert "(80% short and 20% long together)" in str(bottom_line(verdict, config).markdown)


def _recommended(points, verdict, config):
    table = recommendations(points, verdict, config)
    assert table.rows["dataset"].tolist() == ["mixed"]
    assert "p90 latency of its part long" in table.rows["recommendation"].iloc[0]
    rows = table.rows[["dataset", "option", "instance_type", "recommendation"]].to_numpy()
    return [f"| {' | '.join(row)} |" for row in rows]


def test_what_is_not_shown_is_not_said(tmp_path):
    run, config, _, verdict, known = reported(tmp_path, ALONE, {"alone": True})
    table = mix_table(run, verdict, config)
    assert "which may be chance (95% interval" in table.reading and "is not shown" in table.reading
    assert not unaccounted(table.reading, known)


def test_without_each_alone_there_is_nothing_to_compare(tmp_path):
    run, config, points, verdict, _ = reported(tmp_path, ALONE, True)
    table = mix_table(run, verdict, config)
    assert table.reading == "" and set(table.rows["how"]) == {"in the mix"}
    assert "Alone" not in table.caption
    assert mix_table(run, verdict, mix_config(None)) is None
    every = load_point_table(points, config)
    assert every.rows["part_latency_s"].tolist() == ["long", "long"]
    assert "those of the part of the mix that comes off worst" in every.caption
    assert "percentiles of" in [column.header for column in every.columns]
    points.to_csv(run.folder("metrics") / POINTS_FILE, index=False)
    pd.testing.assert_frame_equal(load_point_table(read_points(run), config).rows[["n"]], every.rows[["n"]])
    unmixed = load_point_table(points.drop(columns="part_latency_s"), mix_config(None))
    assert "worst" not in unmixed.caption and "percentiles of" not in [column.header for column in unmixed.columns]
