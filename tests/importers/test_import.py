"""Result files of other tools become request records and groups; what they lack is null and reported."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import result_files as files
from examples import summarise_load_points

from helpers.config.file import load_config
from helpers.importers.importing import import_warnings, read_origins, read_results, write_results
from helpers.metrics.groups import read_groups, summarise_groups
from helpers.run.folder import RunFolder, open_run
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.records import AttemptFacts, read_facts, read_requests
from helpers.run.report_warning import ReportWarning

CONCURRENT = {"type_": "concurrent", "streams": 4}


@dataclass(frozen=True)
class Imported:
    """A run folder after the import, and what is computed from it."""

    run: RunFolder
    said: list[str]
    facts: list[AttemptFacts]
    endpoints: list[EndpointRecord]
    timed: pd.DataFrame
    grouped: pd.DataFrame
    warnings: list[ReportWarning]

    def requests(self, option: str) -> pd.DataFrame:
        records = read_requests(self.run.requests)
        return records[records["option"] == option]


@pytest.fixture
def imported(tmp_path):
    """Import options whose files lie in `tmp_path`."""

    def run_it(*options: dict, **sections: object) -> Imported:
        config = load_config(files.write_config(tmp_path, *options, **sections))
        results = read_results(config)
        _, run = open_run(str(config.path), new=True)
        said = write_results(results, config.benchmark, run)
        facts = read_facts(run.requests)
        endpoints = Ledger(run.ledger_file, run.run_id).records()
        return Imported(
            run,
            said,
            facts,
            endpoints,
            summarise_load_points(run.requests, facts, endpoints, config.benchmark),
            summarise_groups(run, endpoints, config.benchmark),
            import_warnings(run),
        )

    return run_it


def write_all(folder: Path, sent: list[files.Sent]) -> list[dict]:
    """The same requests in the formats of the three tools with times, and the options that read them."""
    files.write_json(folder / "vllm.json", files.vllm(sent))
    (folder / "records.jsonl").write_text(files.aiperf_records(sent))
    files.write_json(folder / "records_aiperf.json", files.aiperf_statistics(sent))
    files.write_json(folder / "guidellm.json", files.guidellm_report(files.guidellm_benchmark(sent, CONCURRENT)))
    return [
        files.option("vllm", "vllm", "vllm.json"),
        files.option("aiperf", "aiperf", "records.jsonl"),
        files.option("guidellm", "guidellm", "guidellm.json"),
    ]


# --- requests with times ------------------------------------------------------------------------------------------


def test_three_tools_that_saw_the_same_requests_give_the_same_numbers(tmp_path, imported):
    sent = files.closed_loop(4, 50)
    points = imported(*write_all(tmp_path, sent)).timed.set_index("option")
    opened = min(s.start for s in sent if s.start >= max(first.end for first in sent[:4]))
    closed = max(s.start for s in sent)
    inside = [s for s in sent if opened <= s.start < closed]
    for name in ("vllm", "aiperf", "guidellm"):
        row = points.loc[name]
        assert row["n"] == len(inside)
        assert row["window_s"] == pytest.approx(closed - opened, abs=1e-6)
        assert row["requests_per_s"] == pytest.approx(len(inside) / (closed - opened), rel=1e-6)
        assert row["output_tokens_per_s"] == pytest.approx(20 * len(inside) / (closed - opened), rel=1e-6)
        assert row["latency_s_p90"] == pytest.approx(np.quantile([s.latency for s in inside], 0.9), abs=1e-6)
        assert row["ttft_s_p90"] == pytest.approx(np.quantile([s.ttft for s in inside], 0.9), abs=1e-6)
        assert row["tpot_s_p50"] == pytest.approx(
            np.quantile([(s.latency - s.ttft) / 19 for s in inside], 0.5), abs=1e-6
        )
        assert row["achieved_concurrency"] == pytest.approx(4, abs=1e-6)
        assert row["usd_per_1k_requests"] == pytest.approx(7.2 / 3.6 / (len(inside) / (closed - opened)), rel=1e-6)
        assert row["steady"]
        assert row["slo"] == "met"


def test_an_older_vllm_whose_latencies_are_the_sums_of_their_parts_gives_the_same(tmp_path, imported):
    sent = files.closed_loop(4, 50)
    older = files.vllm(sent)
    for key in ("latencies", "queue_times", "failed"):
        del older[key]
    files.write_json(tmp_path / "older.json", older)
    files.write_json(tmp_path / "newer.json", files.vllm(sent))
    points = imported(files.option("a", "vllm", "older.json"), files.option("b", "vllm", "newer.json")).timed
    for column in ("n", "requests_per_s", "latency_s_p90", "ttft_s_p90", "tpot_s_p90"):
        assert points[column].iloc[0] == pytest.approx(points[column].iloc[1], rel=1e-6), column


def test_ramp_up_and_tail_are_not_measured(tmp_path, imported):
    sent = files.closed_loop(4, 50)
    found = imported(*write_all(tmp_path, sent))
    for name in ("vllm", "aiperf", "guidellm"):
        requests = found.requests(name).sort_values("sent_ns")
        assert requests["phase"].tolist()[:4] == ["warmup"] * 4
        assert requests["phase"].iloc[-1] == "drain"
        assert (requests["phase"].iloc[4:-1] == "steady").mean() > 0.95
    printed = files.vllm(sent)["request_throughput"]
    assert found.timed["requests_per_s"].iloc[0] > printed, "the tool's rate counts the tail, when streams stand still"


def test_what_a_file_lacks_is_null_and_reported(tmp_path, imported):
    found = imported(*write_all(tmp_path, files.closed_loop(4, 20)))
    requests = read_requests(found.run.requests)
    for column in (
        "prompt_id",
        "first_byte_ns",
        "connect_ns",
        "tls_ns",
        "load_process",
        "finish_reason",
        "echoed_prompt",
    ):
        assert requests[column].isna().all(), column
    assert requests["scheduled_ns"].isna().all(), "a closed loop has no schedule"
    assert set(requests.loc[requests["option"] == "vllm", "prompt_tokens_source"]) == {"tokenizer"}
    assert requests.loc[requests["option"] != "vllm", "prompt_tokens_source"].isna().all()
    for facts in found.facts:
        assert facts.processes == []
        assert facts.loop_lag_ms is None
        assert facts.asked_output_tokens is None
        assert facts.turnaround_ms is None
    (warning,) = found.warnings
    assert warning.kind == "imported"
    assert [row.split(" (")[0] for row in warning.rows] == [
        "vllm: vllm bench serve",
        "aiperf: AIPerf 0.8.0",
        "guidellm: GuideLLM 0.5.0",
    ]
    assert "not in the files: tokens per chunk" in warning.rows[0]
    assert "who counted the tokens" in warning.rows[1]


def test_the_time_of_measurement_is_kept_if_the_file_has_it(tmp_path, imported):
    found = imported(*write_all(tmp_path, files.closed_loop(4, 20)))
    vllm, aiperf, guidellm = read_origins(found.run)
    assert vllm.measured_from is None
    assert aiperf.measured_from == guidellm.measured_from == "2026-09-21T14:13:20+00:00"
    assert vllm.files[0]["path"] == "vllm.json"
    assert len(vllm.files[0]["sha256"]) == 64


def test_the_ledger_holds_what_was_served_and_costs_nothing(tmp_path, imported):
    found = imported(*write_all(tmp_path, files.closed_loop(4, 20)))
    assert {record.state for record in found.endpoints} == {"external"}
    assert {record.model for record in found.endpoints} == {"meta-llama/Llama-3.1-8B-Instruct"}
    assert {record.price.usd_per_instance_hour for record in found.endpoints} == {7.2}
    ledger = Ledger(found.run.ledger_file, found.run.run_id)
    assert (ledger.remaining(), ledger.cost_usd()) == ([], 0.0)


def test_a_warm_up_of_the_tool_is_no_part_of_the_window(tmp_path, imported):
    sent = [replace(s, latency=5 * s.latency) if i < 12 else s for i, s in enumerate(files.closed_loop(4, 40))]
    (tmp_path / "records.jsonl").write_text(files.aiperf_records(sent, warmup=12))
    files.write_json(
        tmp_path / "guidellm.json", files.guidellm_report(files.guidellm_benchmark(sent, CONCURRENT, warmup=12))
    )
    found = imported(
        files.option("aiperf", "aiperf", [{"path": "records.jsonl", "level": 4}]),
        files.option("guidellm", "guidellm", "guidellm.json"),
    )
    for name in ("aiperf", "guidellm"):
        requests = found.requests(name).sort_values("sent_ns")
        assert set(requests["phase"].iloc[:12]) == {"warmup"}
        assert requests["phase"].iloc[20] == "steady"


def test_a_cool_down_of_the_tool_is_no_part_of_the_window(tmp_path, imported):
    sent = files.closed_loop(4, 40)
    benchmark = files.guidellm_benchmark(sent, CONCURRENT, cooldown=20)
    files.write_json(tmp_path / "guidellm.json", files.guidellm_report(benchmark))
    found = imported(files.option("guidellm", "guidellm", "guidellm.json"))
    (facts,) = found.facts
    assert facts.window_close_ns == pytest.approx((files.EPOCH_S + sent[-20].start) * 1e9, abs=2000)
    assert set(found.requests("guidellm").sort_values("sent_ns")["phase"].iloc[-20:]) == {"drain"}


def test_requests_that_the_tool_cut_off_end_the_window_and_are_no_failures(tmp_path, imported):
    sent = files.closed_loop(4, 40)
    sent = [*sent[:-4], *(replace(s, cut_off=True) for s in sent[-4:])]
    (tmp_path / "records.jsonl").write_text(files.aiperf_records(sent))
    files.write_json(tmp_path / "guidellm.json", files.guidellm_report(files.guidellm_benchmark(sent, CONCURRENT)))
    found = imported(
        files.option("aiperf", "aiperf", [{"path": "records.jsonl", "level": 4}]),
        files.option("guidellm", "guidellm", "guidellm.json"),
    )
    for facts in found.facts:
        until = facts.window_open_ns + round(facts.window_s * 1e9)
        assert until == pytest.approx((files.EPOCH_S + min(s.start for s in sent[-4:])) * 1e9, abs=2000)
    assert found.timed["failures"].tolist() == [0, 0]
    assert (found.requests("aiperf").tail(4)["phase"] == "drain").all()


def test_failed_requests_are_rows_with_a_status(tmp_path, imported):
    sent = [replace(s, failed=i % 10 == 9) for i, s in enumerate(files.closed_loop(4, 50))]
    found = imported(*write_all(tmp_path, sent))
    statuses = {
        name: found.requests(name)["status"].value_counts().to_dict() for name in ("vllm", "aiperf", "guidellm")
    }
    assert statuses == {
        "vllm": {"ok": 180, "connection": 20},
        "aiperf": {"ok": 180, "throttled": 20},
        "guidellm": {"ok": 180, "bad_response": 20},
    }
    opened, closed = max(s.end for s in sent[:4]), max(s.start for s in sent)
    assert found.timed["failures"].tolist() == [sum(s.failed and opened <= s.start < closed for s in sent)] * 3
    failed = read_requests(found.run.requests).query("status != 'ok'")
    assert failed["last_token_ns"].isna().all()
    assert failed["output_tokens"].isna().all()
    assert (failed["prompt_tokens"] == 300).all()


def test_in_an_open_loop_latency_counts_from_the_schedule(tmp_path, imported):
    sent = files.open_loop(10, 300, late=0.05)
    files.write_json(tmp_path / "vllm.json", files.vllm(sent, request_rate=10.0, max_concurrency=None))
    (tmp_path / "records.jsonl").write_text(files.aiperf_records(sent))
    files.write_json(
        tmp_path / "records_aiperf.json", files.aiperf_statistics(sent, load={"rate": 10.0, "concurrency": 64})
    )
    poisson = {"type_": "constant", "rate": 10.0}
    files.write_json(tmp_path / "guidellm.json", files.guidellm_report(files.guidellm_benchmark(sent, poisson)))
    found = imported(
        files.option("vllm", "vllm", "vllm.json"),
        files.option("aiperf", "aiperf", "records.jsonl"),
        files.option("guidellm", "guidellm", "guidellm.json"),
        load={"kind": "open_loop", "rate": [10], "arrivals": "constant"},
    )
    assert found.timed["latency_s_p50"].tolist() == pytest.approx([0.34 + 0.05] * 3, abs=1e-5)
    assert found.timed["schedule_lag_p99_ms"].tolist() == pytest.approx([50] * 3, abs=1e-3)
    for facts in found.facts:
        scheduled = found.requests(facts.option)["scheduled_ns"]
        assert facts.window_open_ns in scheduled.tolist(), "a request belongs to the window in which it was to be sent"
    assert found.timed["asked_rate_per_s"].tolist() == pytest.approx([10] * 3, rel=1e-6)
    assert found.timed["achieved_rate_per_s"].tolist() == pytest.approx([10] * 3, rel=1e-6)


def test_an_open_loop_without_a_schedule_counts_from_the_send_and_says_so(tmp_path, imported):
    sent = files.open_loop(10, 300, late=0.05)
    result = files.vllm(sent, request_rate=10.0, max_concurrency=None)
    del result["queue_times"]
    files.write_json(tmp_path / "vllm.json", result)
    found = imported(
        files.option("vllm", "vllm", "vllm.json"), load={"kind": "open_loop", "rate": [10], "arrivals": "constant"}
    )
    assert found.timed["latency_s_p50"].tolist() == pytest.approx([0.34], abs=1e-5)
    assert found.timed["asked_rate_per_s"].isna().all()
    assert "latency counts from the send" in found.warnings[0].rows[0]


def test_latency_that_grows_throughout_is_not_steady_and_shows_no_slo_to_be_met(tmp_path, imported):
    sent = files.closed_loop(4, 50, latency=lambda i: 0.2 + 0.004 * i)
    found = imported(*write_all(tmp_path, sent))
    assert not found.timed["steady"].any()
    assert found.timed["slo"].tolist() == ["undecided"] * 3


def test_one_wave_has_no_window_and_becomes_a_group_which_is_reported(tmp_path, imported):
    sent = files.closed_loop(4, 1)
    found = imported(*write_all(tmp_path, sent))
    assert found.facts == []
    for row in found.grouped.to_dict("records"):
        assert (row["n"], row["failures"], row["steady"]) == (4, 0, None)
        assert row["requests_per_s"] == pytest.approx(4 / max(s.end for s in sent), rel=1e-6)
        assert row["latency_s_mean_ok"] == pytest.approx(np.mean([s.latency for s in sent]), rel=1e-6)
        assert row["output_tokens_mean"] == 20
    assert "not every stream answered twice), so all requests are taken as one group" in found.warnings[0].rows[0]


# --- which load point is it? --------------------------------------------------------------------------------------


def test_files_of_a_pattern_are_levels_and_repetitions(tmp_path, imported):
    for name, level in (("a-1", 2), ("a-2", 2), ("a-3", 4)):
        files.write_json(tmp_path / f"{name}.json", files.vllm(files.closed_loop(level, 40), max_concurrency=level))
    found = imported(files.option("a", "vllm", "a-*.json"), load={"kind": "closed_loop", "concurrency": [2, 4]})
    assert sorted(facts.load_point for facts in found.facts) == [
        "a__short__c2__r1",
        "a__short__c2__r2",
        "a__short__c4__r1",
    ]
    assert found.timed[["level", "repetitions"]].values.tolist() == [[2, 2], [4, 1]]
    assert found.said == ["a: 3 load points of 320 requests from vllm bench serve"]


def test_several_results_in_one_file_are_told_apart_by_select(tmp_path, imported):
    results = [files.vllm(files.closed_loop(4, 30), label=label) for label in ("one", "two", "two")]
    files.write_json(tmp_path / "all.json", *results)
    found = imported(
        files.option("first", "vllm", "all.json", select={"label": "one"}),
        files.option("second", "vllm", "all.json", select={"label": "two"}),
    )
    assert found.timed.set_index("option")["repetitions"].to_dict() == {"first": 1, "second": 2}


def test_what_the_config_does_not_ask_for_is_left_out_and_named(tmp_path, imported):
    sweep = [
        files.guidellm_benchmark(files.closed_loop(1, 60), {"type_": "synchronous"}),
        files.guidellm_benchmark(files.closed_loop(4, 60), {"type_": "throughput"}),
        files.guidellm_benchmark(files.closed_loop(4, 60), CONCURRENT),
        files.guidellm_benchmark(files.open_loop(10, 100), {"type_": "constant", "rate": 10.0}),
    ]
    files.write_json(tmp_path / "sweep.json", files.guidellm_report(*sweep))
    found = imported(files.option("a", "guidellm", "sweep.json"))
    assert found.timed["level"].tolist() == [4]
    assert found.warnings[1].rows == [
        "a: sweep.json: benchmarks[1]: its load is throughput, which has no fixed level",
        "a: sweep.json: benchmarks[0]: concurrency 1, which is not among the levels of `load`",
        "a: sweep.json: benchmarks[3]: 10 requests/s, which does not fit load.kind: closed_loop",
    ]


def test_an_option_of_which_the_files_hold_nothing_is_kept_with_the_reason(tmp_path, imported):
    for name, level in (("a", 4), ("b", 8)):
        files.write_json(tmp_path / f"{name}.json", files.vllm(files.closed_loop(level, 30), max_concurrency=level))
    found = imported(files.option("a", "vllm", "a.json"), files.option("b", "vllm", "b.json"))
    assert [record.failure for record in found.endpoints] == [
        None,
        "its result files have nothing that the config asks for",
    ]
    assert found.warnings[1].rows == ["b: b.json:1: concurrency 8, which is not among the levels of `load`"]


def test_a_search_takes_every_level_that_there_is(tmp_path, imported):
    rates = [2.5, 7.25]
    sweep = [
        files.guidellm_benchmark(files.open_loop(rate, 100), {"type_": "constant", "rate": rate}) for rate in rates
    ]
    files.write_json(tmp_path / "sweep.json", files.guidellm_report(*sweep))
    found = imported(
        files.option("a", "guidellm", "sweep.json"), load={"kind": "search", "over": "rate", "highest": 10}
    )
    assert found.timed["level"].tolist() == rates


def test_a_file_without_a_dataset_is_of_the_only_one_or_of_the_one_that_the_config_names(tmp_path, imported):
    for name in ("s", "l"):
        files.write_json(tmp_path / f"{name}.json", files.vllm(files.closed_loop(4, 30)))
    found = imported(
        files.option("a", "vllm", [{"path": "s.json", "dataset": "short"}, {"path": "l.json", "dataset": "long"}]),
        files.option("b", "vllm", "s.json", datasets=["short"]),
        datasets=[{"name": "short", "prompt_tokens": [1, 500]}, {"name": "long", "prompt_tokens": [500, 900]}],
    )
    assert sorted(facts.load_point for facts in found.facts) == [
        "a__long__c4__r1",
        "a__short__c4__r1",
        "b__short__c4__r1",
    ]


@pytest.mark.parametrize(
    ("load", "label"),
    [
        ({"phases": [{"name": "profiling", "concurrency": 8}]}, "concurrency 8"),
        ({"phases": {"warmup": {"concurrency": 1}, "main": {"concurrency": 8}}}, "concurrency 8"),
        ({"loadgen": {"concurrency": 8, "request_rate": None}}, "concurrency 8"),
        ({"loadgen": {"concurrency": 8, "request_rate": 2.5}}, "2.5 requests/s"),
        ({"phases": [{"name": "profiling", "rate": 2.5}]}, "2.5 requests/s"),
    ],
)
def test_the_load_of_aiperf_is_read_from_old_and_new_settings(tmp_path, imported, load, label):
    statistics = files.aiperf_statistics(files.closed_loop(4, 30)) | {"input_config": load}
    files.write_json(tmp_path / "a.json", statistics)
    loads = (
        {"kind": "closed_loop", "concurrency": [8]} if "concurrency" in label else {"kind": "open_loop", "rate": [2.5]}
    )
    assert imported(files.option("a", "aiperf", "a.json"), load=loads).grouped["load"].tolist() == [label]


def test_a_ramp_of_vllm_is_a_ramp(tmp_path, imported):
    ramp = {"ramp_up_strategy": "linear", "ramp_up_start_rps": 1, "ramp_up_end_rps": 8}
    files.write_json(tmp_path / "ramp.json", files.vllm(files.open_loop(5, 100), **ramp))
    found = imported(
        files.option("a", "vllm", "ramp.json"), load={"kind": "ramp", "from_rate": 1, "to_rate": 8, "duration_s": 20}
    )
    (facts,) = found.facts
    assert (facts.load_kind, facts.level, facts.steady) == ("ramp", 8.0, None)
    assert found.timed["slo"].tolist() == ["undecided"]


# --- results without times ----------------------------------------------------------------------------------------


def test_statistics_become_one_group_with_the_rate_over_the_whole_time(tmp_path, imported):
    sent = files.closed_loop(4, 50)
    files.write_json(tmp_path / "vllm.json", files.vllm(sent, detailed=False))
    files.write_json(tmp_path / "aiperf.json", files.aiperf_statistics(sent))
    sampled = files.guidellm_benchmark(sent, CONCURRENT, listed=10)
    files.write_json(tmp_path / "guidellm.json", files.guidellm_report(sampled))
    found = imported(
        files.option("vllm", "vllm", "vllm.json"),
        files.option("aiperf", "aiperf", "aiperf.json"),
        files.option("guidellm", "guidellm", "guidellm.json"),
    )
    assert found.timed.empty
    duration = max(s.end for s in sent)
    for row in found.grouped.to_dict("records"):
        assert row["n"] == 200
        assert row["requests_per_s"] == pytest.approx(200 / duration)
        assert row["output_tokens_per_s"] == pytest.approx(200 * 20 / duration)
        assert row["achieved_concurrency"] == pytest.approx(sum(s.latency for s in sent) / duration)
        assert row["latency_s_p95"] == pytest.approx(np.quantile([s.latency for s in sent], 0.95), abs=0.021)
        assert pd.isna(row["requests_per_s_low"]), "one group has no spread"
        assert pd.isna(row["latency_s_p90_low"])
        assert row["steady"] is None or pd.isna(row["steady"])
    assert any("of 200 the file lists 10" in row for row in found.warnings[0].rows)


def test_latencies_without_times_give_exact_percentiles(tmp_path, imported):
    sent = files.closed_loop(4, 50)
    latencies = [s.latency for s in sent]
    files.write_json(tmp_path / "vllm.json", files.vllm(sent, detailed=False, latencies=latencies))
    (row,) = imported(files.option("a", "vllm", "vllm.json")).grouped.to_dict("records")
    assert row["latency_s_p99"] == pytest.approx(np.quantile(latencies, 0.99))
    assert row["latency_s_p90_low"] < row["latency_s_p90_high"]
    assert row["latency_s_p90_low"] <= row["latency_s_p90"] <= row["latency_s_p90_high"]


def test_latencies_are_not_used_where_some_of_them_failed(tmp_path, imported):
    sent = [replace(s, failed=i == 3) for i, s in enumerate(files.closed_loop(4, 50))]
    files.write_json(tmp_path / "vllm.json", files.vllm(sent, detailed=False, latencies=[s.latency for s in sent]))
    found = imported(files.option("a", "vllm", "vllm.json"))
    assert read_groups(found.run)["latency_s"].tolist() == [None], "the list does not say which of them failed"
    (row,) = found.grouped.to_dict("records")
    assert row["failures"] == 1
    assert pd.isna(row["latency_s_p99"]), "the printed one leaves failures out"


def test_volleys_give_totals_by_totals(tmp_path, imported):
    rows = [files.volley([0.4, 0.6], 0.61), files.volley([1.0, 1.4], 1.42), files.volley([0.5, 0.5], 0.52, output=50)]
    files.write_csv(tmp_path / "all_metrics.csv", rows)
    found = imported(
        files.option("a", "fmbench_volleys", "all_metrics.csv"), load={"kind": "closed_loop", "concurrency": [2]}
    )
    (row,) = found.grouped.to_dict("records")
    wall = 0.61 + 1.42 + 0.52
    assert row["requests_per_s"] == pytest.approx(6 / wall)
    assert row["requests_per_s_low"] < 6 / wall < row["requests_per_s_high"]
    assert row["output_tokens_mean"] == pytest.approx((2 * 20 + 2 * 20 + 2 * 50) / 6)
    assert row["achieved_concurrency"] == pytest.approx((0.4 + 0.6 + 1.0 + 1.4 + 0.5 + 0.5) / wall)
    assert row["latency_s_mean_ok"] == pytest.approx(4.4 / 6)
    assert row["usd_per_1k_requests"] == pytest.approx(7.2 / 3600 * wall / 6 * 1000)
    assert pd.isna(row["latency_s_p90"])
    (endpoint,) = found.endpoints
    assert endpoint.model is None, "the name of a deployment is no model"
    (origin,) = read_origins(found.run)
    assert origin.deployment == "meta-textgeneration-llama-2-13b", "without the time of its creation"
    assert endpoint.image == "registry/text-generation-inference:2.0.1-tgi1.1.0"


def test_an_echoed_prompt_is_subtracted_where_the_cap_shows_it(tmp_path, imported):
    rows = [
        files.volley([0.5], 0.5, output=330),
        files.volley([0.5], 0.5, output=101),
        files.volley([0.5], 0.5, output=40),
    ]
    files.write_csv(tmp_path / "m.csv", rows)
    one = files.option("a", "fmbench_volleys", "m.csv")
    loads = {"kind": "closed_loop", "concurrency": [1]}
    groups = read_groups(imported(one, load=loads, generation={"max_output_tokens": 100}).run)
    assert groups["output_tokens"].tolist() == [30, 101, 40]
    assert groups["echoed"].tolist() == [True, False, False]
    groups = read_groups(imported(one, load=loads).run)
    assert groups["output_tokens"].tolist() == [330, 101, 40]
    assert groups["echoed"].isna().all(), "without a cap it is unknown"


def test_percentiles_within_a_volley_of_later_versions_are_kept(tmp_path, imported):
    files.write_csv(tmp_path / "m.csv", [files.volley([0.4, 0.6], 0.61, latency_p95=0.59, TTFT_p50=0.1, TPOT_p99=0.02)])
    found = imported(files.option("a", "fmbench_volleys", "m.csv"), load={"kind": "closed_loop", "concurrency": [2]})
    assert read_groups(found.run)["reported"].iloc[0] == {"latency_s_p95": 0.59, "ttft_s_p50": 0.1, "tpot_s_p99": 0.02}


def test_single_requests_without_times_have_latencies_and_no_rates(tmp_path, imported):
    rows = [files.fmbench_request(0.4 + 0.01 * i, prompt=200 if i < 30 else 700) for i in range(60)]
    rows[5]["latency"] = rows[5]["completion_tokens"] = None
    files.write_csv(tmp_path / "r.csv", [*rows, files.fmbench_request(0.4, prompt=5000)])
    found = imported(
        files.option("a", "fmbench_requests", "r.csv"),
        datasets=[{"name": "short", "prompt_tokens": [1, 500]}, {"name": "long", "prompt_tokens": [500, 900]}],
    )
    short, long = found.grouped.to_dict("records")
    assert (short["n"], short["failures"], long["n"]) == (30, 1, 30)
    assert long["latency_s_p50"] == pytest.approx(np.quantile([0.4 + 0.01 * i for i in range(30, 60)], 0.5))
    for row in (short, long):
        for name in (
            "requests_per_s",
            "window_s",
            "usd_per_1k_requests",
            "usd_per_1m_output_tokens",
            "achieved_concurrency",
        ):
            assert pd.isna(row[name]), name
    assert "throughput, price" in found.warnings[0].rows[0]
    assert found.warnings[1].rows == ["a: r.csv: 1 requests whose prompts lie in no dataset's bin, or have no length"]


def test_ttft_and_tpot_of_single_requests_are_read_where_there_are_some(tmp_path, imported):
    rows = [
        files.fmbench_request(1.0, payload_file="payload_short.jsonl", time_to_first_token=0.1, time_to_last_token=1.05)
        for _ in range(30)
    ]
    files.write_csv(tmp_path / "r.csv", rows)
    (row,) = imported(files.option("a", "fmbench_requests", "r.csv")).grouped.to_dict("records")
    assert row["ttft_s_p50"] == pytest.approx(0.1)
    assert row["tpot_s_p50"] == pytest.approx((1.05 - 0.1) / 19)


def test_names_of_datasets_are_mapped(tmp_path, imported):
    rows = [
        files.volley([0.4], 0.41, payload_file=name) for name in ("payload_short.jsonl", "other.jsonl", "third.jsonl")
    ]
    files.write_csv(tmp_path / "m.csv", rows)
    found = imported(
        files.option("a", "fmbench_volleys", "m.csv", dataset_names={"other": "long"}),
        datasets=[{"name": "short", "prompt_tokens": [1, 500]}, {"name": "long", "prompt_tokens": [500, 900]}],
        load={"kind": "closed_loop", "concurrency": [1]},
    )
    assert found.grouped["dataset"].tolist() == ["short", "long"]
    assert "third" in found.warnings[1].rows[0]


def test_groups_have_the_columns_of_load_points(tmp_path, imported):
    sent = files.closed_loop(4, 30)
    files.write_json(tmp_path / "v.json", files.vllm(sent))
    files.write_json(tmp_path / "s.json", files.vllm(sent, detailed=False))
    found = imported(files.option("a", "vllm", "v.json"), files.option("b", "vllm", "s.json"))
    assert set(found.timed.columns) == set(found.grouped.columns)


def test_the_origin_is_written_for_machines(tmp_path, imported):
    found = imported(*write_all(tmp_path, files.closed_loop(4, 20)))
    content = json.loads((found.run.path / "import.json").read_text())
    assert [origin["format"] for origin in content["options"]] == ["vllm", "aiperf", "guidellm"]
