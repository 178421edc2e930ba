"""Formats of other tools: what each file holds is judged and shown, failures count, and what it lacks is said."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rendered
import result_files as files
import result_formats as formats

from helpers.config.file import load_config
from helpers.errors import ConfigError, ResultFileError
from helpers.importers import vllm
from helpers.importers.importing import read_origins, read_results
from helpers.importers.printed import in_blocks, in_keys
from helpers.importers.rows import Row
from helpers.metrics.formulas import UNDECIDED

SHARED = Path(__file__).resolve().parents[3] / "shared/cases/results/sglang_10_of_150_failed.jsonl"
FAILING = [replace(s, failed=i % 60 == 7) for i, s in enumerate(files.closed_loop(4, 60))]
"""240 requests of four streams, 4 of them failed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same requests as each tool writes them."""
    path = tmp_path_factory.mktemp("formats")
    formats.write_all(path, FAILING)
    return path


def config_of(folder: Path, names: list[str], tmp_path: Path, **changes: object):
    """A config with one option per sample of a format; none states its format."""
    options = [files.option(name, None, formats.WRITTEN[name].entries(folder), **changes) for name in names]
    slo = {"percentile": 90, "latency_s": 2, "error_rate": 0.2}
    return load_config(files.write_config(tmp_path, *options, slo=slo))


@pytest.fixture(scope="module")
def shown(folder, tmp_path_factory):
    """All samples in one report."""
    config = config_of(folder, list(formats.WRITTEN), tmp_path_factory.mktemp("report"))
    return rendered.import_and_render(config)


@pytest.fixture(scope="module")
def points(shown):
    """The load points of that report, one per sample."""
    return pd.read_csv(shown.run.metrics / "load_points.csv").set_index("option")


@pytest.mark.parametrize("name", formats.WRITTEN)
def test_every_format_is_known_by_its_content_and_judged(shown, points, name):
    entry = formats.WRITTEN[name]
    assert {origin.option: origin.format for origin in read_origins(shown.run)}[name] == entry.format
    verdict = next(option for option in shown.verdict.options if option.option == name)
    if entry.counts_failures:
        assert verdict.status in ("recommended", "tied", "feasible", "more_expensive"), verdict
        assert points.loc[name, "failures"] > 0
    else:
        assert points.loc[name, "slo"] == UNDECIDED
        assert math.isnan(points.loc[name, "error_rate"])
        assert "how many requests failed" in verdict.reason
    said = next(row for row in shown.warnings("imported").splitlines() if row.startswith(f"{name}: "))
    for words in entry.lacks:
        assert words in said
    assert name in shown.text


@pytest.mark.parametrize("name", [name for name, entry in formats.WRITTEN.items() if not entry.timed])
def test_sums_are_those_of_the_answers(points, name):
    row, ok = points.loc[name], formats.answered(FAILING)
    duration = max(s.end for s in (FAILING if formats.WRITTEN[name].counts_failures else ok))
    assert row["n"] - row["failures"] == 236 or formats.WRITTEN[name].format == "inferencex"
    assert row["output_tokens_per_s"] == pytest.approx(sum(s.output for s in ok) / duration, rel=0.01)
    assert row["prompt_tokens_per_s"] == pytest.approx(sum(s.prompt for s in ok) / duration, rel=0.01)
    assert row["latency_s_mean_ok"] == pytest.approx(np.mean([s.latency for s in ok]), rel=1e-6)


@pytest.mark.parametrize("name", [name for name, entry in formats.WRITTEN.items() if entry.timed])
def test_requests_with_times_give_the_window_of_the_requests(points, name):
    row = points.loc[name]
    opened = max(s.end for s in FAILING[:4])
    inside = [s for s in FAILING if s.start >= opened][:-1]
    assert 0.9 * len(inside) <= row["n"] <= len(inside), "steadiness is found a little later in some"
    assert row["ttft_s_p50"] == pytest.approx(np.quantile([s.ttft for s in inside], 0.5), abs=0.01)
    assert row["output_tokens_mean"] == pytest.approx(20)


def test_runs_of_llmeter_into_one_folder_are_told_apart(folder, shown, points, tmp_path):
    assert points.loc["llmeter", "n"] == len(FAILING)
    assert "30 responses of earlier runs in the same folder" in shown.warnings("imported")
    lines = (folder / "llmeter/responses.jsonl").read_text().splitlines()
    (tmp_path / "responses.jsonl").write_text("\n".join(lines[:100]))
    (tmp_path / "summary.json").write_text((folder / "llmeter/summary.json").read_text())
    config = load_config(files.write_config(tmp_path, files.option("a", None, "responses.jsonl")))
    with pytest.raises(ResultFileError, match=r"holds 100 responses, summary.json counts 240\. Expected .* Next: "):
        read_results(config)


def test_the_model_is_the_one_that_the_files_name(shown):
    named = {origin.option: origin.model for origin in read_origins(shown.run)}
    assert {name for name, model in named.items() if model != formats.MODEL} == {"inference_perf"}


def test_failures_that_no_file_holds_are_not_called_none(folder, tmp_path):
    option = files.option("a", "sglang", formats.WRITTEN["sglang without details"].entries(folder))
    seen = rendered.import_and_render(load_config(files.write_config(tmp_path, option)))
    assert seen.option.reason.endswith("failed: `--output-details` of `sglang.bench_serving` adds it")
    assert "requests failed" not in seen.text.replace("how many requests failed", "")


# --- a real file of sglang ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is not here")
def test_a_real_file_of_sglang_has_its_failures_and_latencies(tmp_path):
    option = files.option("a", "sglang", str(SHARED))
    config = load_config(files.write_config(tmp_path, option, load={"kind": "closed_loop", "concurrency": [3]}))
    (point,) = [found for read in read_results(config) for _, found in read.points]
    (group,) = point.groups
    printed = json.loads(SHARED.read_text())
    assert (group.requests, group.failures) == (150, 10)
    assert group.prompt_tokens == printed["total_input_tokens"]
    assert group.latency_mean_s == pytest.approx(printed["mean_e2e_latency_ms"] / 1e3, rel=1e-3)


@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is not here")
def test_a_wrong_format_is_refused_with_the_right_one(tmp_path):
    config = load_config(files.write_config(tmp_path, files.option("a", "vllm", str(SHARED))))
    with pytest.raises(ConfigError, match=r"bad value 'vllm'.* looks like sglang\. .*Next: write `format: sglang`"):
        read_results(config)


# --- recognition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", formats.WRITTEN)
def test_every_format_refuses_the_files_of_another(folder, name, tmp_path):
    entry = formats.WRITTEN[name]
    stated = "vllm" if entry.format != "vllm" else "aiperf"
    config = load_config(files.write_config(tmp_path, files.option("a", stated, entry.entries(folder))))
    with pytest.raises(ConfigError, match=f"looks like {entry.format}"):
        read_results(config)


def test_the_formats_of_before_are_known_too(tmp_path):
    sent = files.closed_loop(4, 30)
    files.write_json(tmp_path / "vllm.json", files.vllm(sent))
    (tmp_path / "aiperf.jsonl").write_text(files.aiperf_records(sent))
    files.write_json(tmp_path / "aiperf.json", files.aiperf_statistics(sent))
    benchmark = files.guidellm_benchmark(sent, {"type_": "concurrent", "streams": 4})
    files.write_json(tmp_path / "guidellm.json", files.guidellm_report(benchmark))
    files.write_csv(tmp_path / "fmbench_volleys.csv", [files.volley([0.4] * 4, 0.41)])
    files.write_csv(tmp_path / "fmbench_requests.csv", [files.fmbench_request(0.4)])
    paths = sorted(path.name for path in tmp_path.iterdir())
    options = [files.option(name, None, [{"path": name, "level": 4}]) for name in paths]
    results = read_results(load_config(files.write_config(tmp_path, *options)))
    assert {read.origin.option: read.origin.format for read in results} == {name: name.split(".")[0] for name in paths}


def test_what_is_in_no_known_format_is_refused(tmp_path):
    files.write_json(tmp_path / "other.json", {"some": "thing"})
    config = load_config(files.write_config(tmp_path, files.option("a", None, "other.json")))
    with pytest.raises(ConfigError, match=r"other.json is not in a known format\. Expected one of: .*Next: "):
        read_results(config)


def test_a_folder_is_refused_with_how_to_name_its_file(folder, tmp_path):
    config = load_config(files.write_config(tmp_path, files.option("a", None, str(folder / "llmeter"))))
    with pytest.raises(ConfigError, match=r"is a folder\. Expected .*Next: name the file in it, as .*/responses.jsonl"):
        read_results(config)


def test_requests_that_were_all_sent_at_once_are_no_load(tmp_path):
    files.write_json(tmp_path / "s.jsonl", formats.sglang(FAILING, max_concurrency=None))
    config = load_config(files.write_config(tmp_path, files.option("a", None, "s.jsonl")))
    with pytest.raises(
        ResultFileError, match=r"neither is limited.*Expected a fixed load.*Next: measure with --max-concurrency"
    ):
        read_results(config)


def test_a_sweep_is_told_apart_by_its_parameters(tmp_path):
    runs = [files.vllm(FAILING, False, run_number=run, max_num_seqs=seqs) for seqs in (8, 64) for run in (0, 1)]
    formats.write_list(tmp_path / "summary.json", runs)
    options = [files.option(f"{n} at once", None, "summary.json", select={"max_num_seqs": n}) for n in (8, 64)]
    results = read_results(load_config(files.write_config(tmp_path, *options)))
    assert [[point.repetition for point, _ in read.points] for read in results] == [[1, 2], [1, 2]]


def test_inferencex_needs_the_number_of_requests(folder, tmp_path):
    option = files.option("a", None, str(folder / "agg.json"))
    with pytest.raises(
        ConfigError, match=r"does not state how many requests.*Expected .*Next: write the entry as .*requests"
    ):
        read_results(load_config(files.write_config(tmp_path, option)))


@pytest.mark.parametrize(
    ("changes", "output", "prompt"),
    [
        ({"tp": 8}, 8 * 100, 8 * 300),
        ({"num_prefill_gpu": 2, "num_decode_gpu": 6, "disagg": True}, 6 * 100, 8 * 400 - 600),
        (
            {"num_prefill_gpu": 2, "num_decode_gpu": 6, "disagg": True, "output_tput_per_decode_gpu": 133.0},
            8 * 100,
            8 * 300,
        ),
        ({"num_prefill_gpu": 2, "num_decode_gpu": 2, "disagg": False}, 2 * 100, 2 * 300),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_rates_of_inferencex_are_those_of_all_gpus(tmp_path, changes, output, prompt, nested):
    rates = {"tput_per_gpu": 400.0, "output_tput_per_gpu": 100.0, "mean_e2el": 1.0}
    result = {"hw": "h200", "conc": 4, "model": formats.MODEL} | changes
    formats.write_list(tmp_path / "agg.json", [result | ({"metrics": rates} if nested else rates)])
    option = files.option("a", None, [{"path": "agg.json", "requests": 40}])
    (read,) = read_results(load_config(files.write_config(tmp_path, option)))
    printed = read.points[0][1].groups[0].reported
    assert (printed["output_tokens_per_s"], printed["prompt_tokens_per_s"]) == (output, prompt)


def test_genai_perf_reads_what_triton_answers(tmp_path):
    profile = formats.genai_perf_profile(FAILING)
    for request in profile["experiments"][0]["requests"]:
        request["response_outputs"] = [
            {"text_output": f"part {i}"} for i, _ in enumerate(request["response_timestamps"])
        ]
    files.write_json(tmp_path / "p.json", profile | {"service_kind": "triton"})
    (read,) = read_results(load_config(files.write_config(tmp_path, files.option("a", None, "p.json"))))
    requests = read.points[0][1].requests
    assert all(one.error_type is None and one.first_token_ns < one.last_token_ns for one in requests)


def test_two_counts_of_inference_perf_are_compared(tmp_path):
    report = formats.inference_perf_stage(FAILING)
    report["successes"]["output_len"] = {"mean": 40.0}
    files.write_json(tmp_path / "s.json", report)
    config = load_config(files.write_config(tmp_path, files.option("a", None, "s.json")))
    (read,) = read_results(config)
    assert (read.origin.counts.tool, read.origin.counts.server) == (40 * 236, 20 * 236)


def test_a_packed_file_is_refused_with_how_to_unpack_it(tmp_path):
    (tmp_path / "output.tar.gz").write_bytes(gzip.compress(b"{}"))
    config = load_config(files.write_config(tmp_path, files.option("a", None, "output.tar.gz")))
    with pytest.raises(ResultFileError, match=r"output.tar.gz: is compressed.* Expected .* Next: unpack it"):
        read_results(config)


# --- damaged files ------------------------------------------------------------------------------------------------

BROKEN = {
    "a text": "many",
    "negative": -1.0,
    "not a number": math.nan,
    "huge": 1e300,
    "a list": [1],
    "an object": {"a": 1},
    "true": True,
}
PLACES = {
    "sglang": [("duration",), ("completed",), ("ttfts", 3), ("itls", 3, 0), ("input_lens", 3), ("output_lens",)],
    "vllm_sweep": [(0, "duration"), (0, "completed"), (0, "total_output_tokens")],
    "inferencex": [(0, "conc"), (0, "tp"), (0, "output_tput_per_gpu"), (0, "mean_e2el"), (0, "p99_e2el")],
    "genai_perf": [
        ("request_latency", "avg"),
        ("request_count", "avg"),
        ("request_throughput",),
        ("request_latency", "p99"),
    ],
    "genai_perf requests": [
        ("experiments", 0, "requests", 3, "timestamp"),
        ("experiments", 0, "requests", 3, "response_timestamps", 1),
        ("experiments", 0, "requests", 3, "response_outputs", 1),
    ],
    "llmeter": [("time_to_last_token",), ("num_tokens_output",)],
    "guidellm 0.3": [
        ("benchmarks", 0, "requests", "successful", 3, "start_time"),
        ("benchmarks", 0, "args", "strategy"),
    ],
    "inference_perf": [
        ("successes", "count"),
        ("failures", "count"),
        ("successes", "latency", "request_latency", "p99"),
    ],
    "inference_perf requests": [(3, "start_time"), (3, "info", "response_metrics", "output_token_times", 2)],
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(("name", "place"), [(name, place) for name, places in PLACES.items() for place in places])
def test_a_value_that_cannot_be_is_refused_in_one_line_or_is_unknown(folder, name, place, broken, tmp_path):
    value = BROKEN[broken]
    said = _refusal(folder, name, tmp_path, lambda content: _put(content, place, value))
    if said is None:  # a NaN is an unknown value, and some values are right: a whole list, a large count
        assert broken in ("not a number", "a list", "an object", "huge")
        return
    assert "\n" not in said
    assert len(said) < 700
    assert " Next: " in said
    assert Path(formats.WRITTEN[name].file).name in said
    assert any(str(key) in said for key in (*place[-2:], "request_start", "config")), said


@pytest.mark.parametrize("name", formats.WRITTEN)
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_cut_file_is_refused_in_one_line(folder, name, share, tmp_path):
    entry = formats.WRITTEN[name]
    content = (folder / entry.file).read_bytes()
    path = tmp_path / Path(entry.file).name
    path.write_bytes(content[: int(len(content) * share)])
    config = load_config(files.write_config(tmp_path, files.option("a", entry.format, _entry(entry, path))))
    with pytest.raises((ConfigError, ResultFileError)) as refused:
        read_results(config)
    assert "\n" not in str(refused.value)
    assert path.name in str(refused.value)
    assert " Next: " in str(refused.value)


def _entry(entry: formats.Written, path: Path) -> list[dict]:
    return [{"path": str(path), "level": 4, **dict(entry.entry)}]


def _refusal(folder: Path, name: str, tmp_path: Path, change) -> str | None:
    """What is said of a sample after a change of its content; None where it is read."""
    entry = formats.WRITTEN[name]
    text = (folder / entry.file).read_text()
    contents = [json.loads(line) for line in text.splitlines()]
    change(contents[0])
    path = tmp_path / Path(entry.file).name
    path.write_text("\n".join(json.dumps(content) for content in contents))
    config = load_config(files.write_config(tmp_path, files.option("a", entry.format, _entry(entry, path))))
    try:
        read_results(config)
    except (ConfigError, ResultFileError) as error:
        return str(error)
    return None


def _put(content, place, value) -> None:
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


def test_a_printed_median_is_the_50th_percentile():
    row = Row("a.json", {"median_ttft_ms": 120.0, "p99_ttft_ms": 300.0, "std_ttft_ms": 1.0})
    assert in_keys(row, vllm.PRINTED, vllm.COLUMN, 1e3) == {"ttft_s_p50": 0.12, "ttft_s_p99": 0.3}
    blocks = Row("a.json", {"request_latency": {"median": 2.0, "max": 3.0, "mean": 1.0, "p99.9": 2.5}})
    printed = {"latency_s_p50": 2.0, "latency_s_max": 3.0, "latency_s_p99.9": 2.5}
    assert in_blocks(blocks, {"request_latency": "latency_s"}) == printed
